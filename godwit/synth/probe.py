"""What is asked of an endpoint before a pipeline pays for anything; the questions are those of `godwit.base.probe`."""

import asyncio
from dataclasses import replace
from typing import Any

from godwit.base.probe import Asker, one_token, with_listed_model
from godwit.synth.embedding import ROLE as EMBEDDER
from godwit.synth.endpoint import Endpoint
from godwit.synth.line import Limits, Line
from godwit.text.forms import some_text

_OPTIONS = {"writer": "", "judge": "judge-", EMBEDDER: "embed-"}


def probe(endpoint: Endpoint, *, role: str, limits: Limits) -> Endpoint:
    """Check `endpoint`; returns it with what was learnt: the model's context, how parameters are spelled.

    Raises:
        GodwitError: what is wrong, and what to change.
    """
    start = f"--{_OPTIONS[role]}"
    # `Line` takes no notice of proxies either.
    asker = Asker(endpoint=f"{start}endpoint", model=f"{start}model", key=f"{start}key-env", role=role, proxies=False)
    endpoint = with_listed_model(endpoint, asker)
    if role == EMBEDDER:
        asyncio.run(_one_vector(endpoint, limits))
        return endpoint
    more: dict[str, Any] = dict(endpoint.extra)
    if limits.send_seed:
        more["seed"] = 0
    if endpoint.room is not None:
        more["structured_outputs"] = {"regex": some_text(endpoint.room)}
    return replace(endpoint, max_tokens_name=one_token(endpoint, asker, more=more).max_tokens_name)


async def _one_vector(endpoint: Endpoint, limits: Limits) -> None:
    async with Line(endpoint, limits=limits) as line:
        await line.embed(["Hi"])
