"""Search a Transformers model in place: one proxy around each `.indexer`, one port in front of each layer.

Every family with a lightning indexer calls `self.indexer(...)` in its attention and uses the positions it returns. So a
proxy that calls it and stores its answer (F), or returns what an earlier layer chose (S), flips layers without touching
the attention; `deepseek_v32` and `axk2`, which know no sharing, are searched like `glm_moe_dsa`. Ports let one layer
run alone: the model's own forward is run once with layers passed over, which yields what each layer is called with
(masks, angles), and once more to take the last layer's output to the head. Layers spread by `device_map` stay where
they are.

Transformers itself is not imported: whoever has such a model has it. Documents of a packed row run one by one.

Letters: T tokens, D hidden, K selected positions.
"""

import itertools
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from godwit.base.errors import GodwitError
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import State, head_losses
from godwit.nn.share_plan import SharePlan

# An argument of layers in families that hand positions on themselves.
HANDED = "prev_topk_indices"
# A dictionary that layers write keys and values into for others to read (mistral_large4): part of a state here.
SHARED = "shared_kv_states"


class IndexerProxy(nn.Module):
    """Stands in for a layer's indexer; `handed` positions are answered instead of its own choice.

    Args:
        indexer: the one it stands for.
    """

    def __init__(self, indexer: nn.Module):
        super().__init__()
        self.indexer = indexer
        self.handed: Tensor | None = None
        self.chosen: Tensor | None = None

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The positions to attend to, on the layer's device."""
        if self.handed is not None:
            return self.handed.to(hidden_states.device)
        self.chosen = self.indexer(hidden_states, *args, **kwargs)
        return self.chosen

    def __getattr__(self, name: str) -> Any:
        """Whatever else the attention asks its indexer."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("indexer"), name)


class Port(nn.Module):
    """Stands in for a layer while the model's own forward runs around it.

    Args:
        layer: the one it stands for.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.passes = True
        self.call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.entering: Tensor | None = None
        self.leaving: Tensor | None = None
        self.width: int | None = None

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the layer; or note what it is called with and hand on `leaving`, or else what came."""
        if self.passes:
            output = self.layer(hidden_states, *args, **kwargs)
            self.width = len(output) if isinstance(output, tuple) else None
            self.call = (args, kwargs)
            return output
        self.call, self.entering = (args, kwargs), hidden_states
        out = hidden_states if self.leaving is None else self.leaving
        return out if self.width is None else (out, *([None] * (self.width - 1)))

    def __getattr__(self, name: str) -> Any:
        """Whatever else the model asks its layers."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class ProxyEngine:
    """A Transformers causal language model with lightning indexers.

    A layer here is an attention layer with an indexer, of its own or shared; layers of another kind in between run
    with the one before them.

    Args:
        model: loaded with `attn_implementation="eager"` or "sdpa"; it is as it was after the search.
        name: how results call it.
    """

    def __init__(self, model: Any, *, name: str = ""):
        config = getattr(model, "config", None)
        text = config.get_text_config() if hasattr(config, "get_text_config") else None
        found = [module for module in model.modules() if _has_indexer(module)]
        if text is None or not hasattr(model, "get_decoder") or not hasattr(text, "index_topk") or not found:
            raise GodwitError(
                f"{type(model).__name__} is no Transformers model with lightning indexers (index_topk in its config, "
                "an .indexer in its attention); a dense checkpoint gets them from godwit convert"
            )
        self.model = model
        self.name = name or text.model_type
        self.topk = int(text.index_topk)
        self.vocab_size = int(text.vocab_size)
        self.cap = getattr(text, "final_logit_softcapping", None)
        self.max_seq_len = int(text.max_position_embeddings)
        self.stack, self.places = _find_stack(model)
        self.layers = [self.stack[place] for place in self.places]
        owners = [next((module for module in layer.modules() if _has_indexer(module)), None) for layer in self.layers]
        begins = [number for number, owner in enumerate(owners) if owner is not None]
        self.owners: list[Any] = [owner for owner in owners if owner is not None]
        # Layers before the first indexer run with it, others with the one before them.
        borders = [0, *begins[1:], len(self.layers)]
        self.units = [range(begin, end) for begin, end in itertools.pairwise(borders)]
        self.inner = begins
        self.num_layers = len(begins)
        self.plan = SharePlan("".join("S" if owner.indexer is None else "F" for owner in self.owners))
        self._embed, self._head = model.get_input_embeddings(), model.get_output_embeddings()
        self.ports: list[Port] = []
        self.proxies: dict[int, IndexerProxy] = {}
        self._was_training = model.training

    def rows(self, rows: tuple[Row, ...], *, least: int = 0) -> tuple[Row, ...]:
        """Each document as a row of its own; those of packed rows that are not longer than `least` are left out."""
        return tuple(
            document
            for row in rows
            for document in row.documents
            if len(row.context.bounds) == 1 or document.context.max_seqlen > least
        )

    def enter(self, row: Row) -> "ProxyRow":
        """Embed the row's tokens and learn what each layer is called with."""
        return ProxyRow(self, row)

    def __enter__(self) -> "ProxyEngine":
        self._was_training = self.model.training
        self.model.eval()
        for number, owner in enumerate(self.owners):
            if owner.indexer is not None:
                self.proxies[number] = owner.indexer = IndexerProxy(owner.indexer)
        self.ports = [Port(layer) for layer in self.layers]
        for place, port in zip(self.places, self.ports, strict=True):
            self.stack[place] = port
        # Two tokens through the real layers: what a layer returns is learned from what it returns.
        with torch.inference_mode():
            self.backbone(torch.zeros(2, dtype=torch.int64))
        for port in self.ports:
            port.passes = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for place, layer in zip(self.places, self.layers, strict=True):
            self.stack[place] = layer
        for number, proxy in self.proxies.items():
            self.owners[number].indexer = proxy.indexer
        self.proxies, self.ports = {}, []
        self.model.train(self._was_training)

    def backbone(self, tokens_T: Tensor) -> Tensor:
        """The model's own way from tokens to what its head reads, (1, T, D)."""
        return self.model.get_decoder()(input_ids=tokens_T[None].to(_device(self._embed)), use_cache=False)[0]

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """The head, wherever it is, and the family's soft cap."""
        logits_TV = self._head(hidden_TD.to(_device(self._head)))
        return logits_TV if self.cap is None else self.cap * torch.tanh(logits_TV / self.cap)


class ProxyRow:
    """One document in a Transformers model."""

    def __init__(self, engine: ProxyEngine, row: Row):
        assert engine.ports, "the engine is entered"
        self.engine, self.row = engine, row
        engine.backbone(row.tokens_T)
        calls = [port.call for port in engine.ports]
        self.calls = [call for call in calls if call is not None]
        assert len(self.calls) == len(engine.layers), "every layer is called"
        entering = engine.ports[0].entering
        assert entering is not None, "the first layer is called"
        self._first = State(entering, None)

    @property
    def first(self) -> State:
        """What the model calls its first layer with."""
        return self._first

    def step(self, layer: int, state: State, own: bool) -> State:
        """See `godwit.indexcache.engine.RowRun`."""
        x_TD, index_TK, handed = state
        proxy = self.engine.proxies.get(layer)
        if proxy is not None:
            proxy.handed, proxy.chosen = (None if own else index_TK), None
        for number in self.engine.units[layer]:
            args, kwargs = self.calls[number]
            if HANDED in kwargs:
                kwargs = kwargs | {HANDED: index_TK}
            if SHARED in kwargs:
                mine = type(kwargs[SHARED])()
                mine.update(handed or {})
                kwargs, handed = kwargs | {SHARED: mine}, mine
            output = self.engine.layers[number](x_TD, *args, **kwargs)
            x_TD = output[0] if isinstance(output, tuple) else output
            if number == self.engine.inner[layer] and own:
                assert proxy is not None and proxy.chosen is not None, "an F layer runs its indexer"
                index_TK = proxy.chosen
        return State(x_TD, index_TK, handed)

    def core(self, layer: int, state: State) -> Tensor:
        """See `godwit.indexcache.engine.RowRun`."""
        found: list[Tensor] = []
        project = getattr(self.engine.owners[layer], "o_proj", None)
        if project is None:
            raise GodwitError(
                f"{type(self.engine.owners[layer]).__name__} has no o_proj to take attention outputs from, which "
                "similarity needs; search with --no-baselines"
            )
        hook = project.register_forward_pre_hook(lambda _module, given: found.append(given[0]))
        try:
            self.step(layer, state, False)
        finally:
            hook.remove()
        return found[0].flatten(0, 1)

    def hidden(self, state: State) -> Tensor:
        """See `godwit.indexcache.engine.RowRun`."""
        last = self.engine.ports[-1]
        last.leaving = state.x_TD
        hidden_TD = self.engine.backbone(self.row.tokens_T)[0]
        last.leaving = None
        return hidden_TD

    def losses(self, state: State) -> Tensor:
        """See `godwit.indexcache.engine.RowRun`."""
        return head_losses(self.hidden(state), self.engine.logits, self.row.labels_T)

    def dense(self) -> Tensor | None:
        """Not in place: the attention asks its indexer whatever there is to choose from."""
        return None


def _device(module: nn.Module) -> torch.device:
    """Where a module takes its input; what `device_map` left on disk is on "meta" until it runs, and takes any."""
    device = next(module.parameters()).device
    return torch.device("cpu") if device.type == "meta" else device


def _has_indexer(module: nn.Module) -> bool:
    """An attention that selects, by an indexer of its own or (`skip_topk`) by an earlier layer's."""
    if isinstance(module, IndexerProxy) or not ("indexer" in module._modules or "indexer" in vars(module)):
        return False
    return module.indexer is not None or bool(getattr(module, "skip_topk", False))


def _find_stack(model: Any) -> tuple[nn.ModuleList, list[int]]:
    """The list of layers, and which of them the model's forward runs (a prediction layer is not one of them)."""
    stacks = [
        module
        for module in model.get_decoder().modules()
        if isinstance(module, nn.ModuleList) and any(_has_indexer(inner) for inner in module.modules())
    ]
    stack = stacks[0]
    text = model.config.get_text_config()
    return stack, list(range(min(len(stack), int(text.num_hidden_layers))))
