"""The JSON behind the inspector page: what index sharing does to one text.

    POST /inspect         the text under a plan, beside the model's own plan: tokens, loss of each, how often both
                          agree on the next token, attention kept by each layer, overlap of layers' own choices
    POST /inspect/token   one query: what each layer attends to, and what its own indexer would choose

The last few runs are kept, so that clicking through tokens runs nothing again. A run has the model to itself between
two steps of the engine.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from fastapi import FastAPI, Request

from godwit.models.selections import Selections, look
from godwit.nn.share_plan import SharePlan
from godwit.serve.answering import ClientGoneError, until_gone
from godwit.serve.bodies import InspectBody
from godwit.serve.errors import ApiError
from godwit.serve.job import check_model, encode_prompt
from godwit.serve.samples import sample_text
from godwit.serve.state import ServerState

# Runs kept: the text under the model's own plan, and under the last ones that were tried.
NUM_KEPT = 4
# Strongest positions of a layer that are told with their attention.
NUM_TOLD = 32


class _Key(NamedTuple):
    tokens: tuple[int, ...]
    plan: str
    topk: int


def add_routes(app: FastAPI, server: ServerState) -> None:
    """Put the inspector's routes into an application."""
    kept = _Kept(server)

    @app.post("/inspect", tags=["inspector"])
    async def inspect(body: InspectBody, request: Request) -> dict[str, Any]:
        """A text under a plan."""
        return await _alone(server, request, lambda: _summary(server, kept, body))

    @app.post("/inspect/token", tags=["inspector"])
    async def inspect_token(body: InspectBody, request: Request) -> dict[str, Any]:
        """What layers attend to at `position`."""
        return await _alone(server, request, lambda: _token(kept, body))

    @app.get("/inspect/sample", tags=["inspector"])
    def sample() -> dict[str, Any]:
        """A text to begin with: a question whose answer stands far back."""
        return {"prompt": sample_text(server.tokenizer, num_tokens=min(900, server.config.inspect_tokens))}


async def _alone(server: ServerState, request: Request, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    server.enter(0)
    try:
        return await until_gone(request.receive, server.engine.call(function))
    except ClientGoneError as error:
        raise ApiError("the client hung up", status=499) from error


class _Kept:
    """The last runs; used in the engine's thread only."""

    def __init__(self, server: ServerState):
        self.server = server
        self._runs: OrderedDict[tuple[int, _Key], Selections] = OrderedDict()

    def key(self, body: InspectBody) -> _Key:
        """What a body asks for, checked."""
        server, model = self.server, self.server.engine.engine.model
        check_model(body.model, server.config.name)
        own = model.config.plan
        if own is None or model.config.index_topk_or_none is None:
            raise ApiError(
                f"{server.config.name} has no indexers, so there is nothing to inspect; godwit convert gives it some"
            )
        tokens = encode_prompt(body.prompt, server.tokenizer) if isinstance(body.prompt, str) else body.prompt
        longest = min(server.config.inspect_tokens, model.config.max_position_embeddings)
        if not 2 <= len(tokens) <= longest:
            raise ApiError(f"the text has {len(tokens)} tokens; give 2 to {longest}", param="prompt")
        if not 0 <= min(tokens) <= max(tokens) < model.config.vocab_size:
            raise ApiError(f"token ids go from 0 to {model.config.vocab_size - 1}", param="prompt")
        plan = SharePlan.named(body.plan, len(own.pattern)) if body.plan else own
        topk = model.config.index_topk_or_none if body.topk is None else body.topk
        return _Key(tuple(tokens), plan.pattern, topk)

    def run(self, key: _Key) -> Selections:
        """The text under the plan."""
        engine = self.server.engine.engine
        name = (engine.weight_version, key)
        if name not in self._runs:
            self._runs[name] = look(engine.model, torch.tensor(key.tokens), plan=key.plan, topk=key.topk)
        self._runs.move_to_end(name)
        while len(self._runs) > NUM_KEPT:
            self._runs.popitem(last=False)
        return self._runs[name]


def _summary(server: ServerState, kept: _Kept, body: InspectBody) -> dict[str, Any]:
    key = kept.key(body)
    own = server.engine.engine.model.config.plan
    assert own is not None, "checked by key"
    seen, base = kept.run(key), kept.run(key._replace(plan=own.pattern))
    layers, common_NN = base.common_NN()
    choosing = seen.choosing
    # Loss and agreement over what the selection can change: next tokens of queries that choose.
    counted = choosing[choosing < len(seen.losses_T)]
    pieces = [server.tokenizer.decode([token]) for token in key.tokens]
    return {
        "tokens": pieces,
        "token_ids": list(key.tokens),
        "plan": key.plan,
        "own_plan": own.pattern,
        "topk": key.topk,
        "num_choosing": len(choosing),
        "sources": list(seen.sources),
        "loss": _mean(seen.losses_T[counted]),
        "own_loss": _mean(base.losses_T[counted]),
        "agreement": _mean((seen.best_T[counted] == base.best_T[counted]).float()),
        "losses": _rounded(seen.losses_T),
        "own_losses": _rounded(base.losses_T),
        "mass": [_mean(row_T[choosing]) for row_T in seen.mass_NT],
        "own_mass": [_mean(row_T[choosing]) for row_T in base.mass_NT],
        "overlap": {"layers": list(layers), "matrix": [_rounded(row_N) for row_N in common_NN]},
        "chance": _mean(key.topk / (choosing + 1.0)),
    }


def _token(kept: _Kept, body: InspectBody) -> dict[str, Any]:
    key = kept.key(body)
    last = len(key.tokens) - 1
    position = last if body.position is None else body.position
    if not 0 <= position <= last:
        raise ApiError(f"position is {position}; give 0 to {last}", param="position")
    seen = kept.run(key)
    layers = []
    for layer, source in enumerate(seen.sources):
        attention_L = seen.attention(layer, position)
        used = seen.chosen(source, position)
        own = seen.chosen(layer, position) if layer in seen.choices else None
        strongest = attention_L.topk(min(NUM_TOLD, len(attention_L)))
        layers.append(
            {
                "layer": layer,
                "source": source,
                "selected": used,
                "mass": round(float(attention_L[used].sum()), 4),
                "own_shared": None if own is None else round(len({*own} & {*used}) / max(len(own), 1), 4),
                "strongest": [
                    {"position": at, "attention": round(value, 5)}
                    for value, at in zip(strongest.values.tolist(), strongest.indices.tolist(), strict=True)
                ],
            }
        )
    return {"position": position, "topk": key.topk, "plan": key.plan, "layers": layers}


def _mean(values: torch.Tensor) -> float:
    return round(float(values.double().mean()), 5) if len(values) else 0.0


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
