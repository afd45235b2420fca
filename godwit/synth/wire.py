"""What goes over the wire and comes back: requests as bytes, answers checked for what they must have.

Whatever an endpoint sends is garbage until it is shown not to be: a `Trouble` says what was wrong with it.
"""

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from godwit.base.journal import writable
from godwit.synth.endpoint import Endpoint
from godwit.synth.rows import digest

SHOWN = 300


class Trouble(Exception):
    """An attempt failed in a way that another may not."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked. `seed` tells several answers to one prompt apart, also where it is not sent."""

    model: str
    messages: list[dict[str, Any]]
    parameters: dict[str, Any] = field(default_factory=dict)
    seed: int

    def record(self) -> dict[str, Any]:
        """JSON values of it."""
        return {"model": self.model, "messages": self.messages, "parameters": self.parameters, "seed": self.seed}

    def key(self) -> str:
        """The content key: the same for the same model, prompt and parameters, whoever asks and whatever parses it."""
        return digest(self.record())


class Said(NamedTuple):
    """Content, thought, finish reason, and tokens in and out where they were reported."""

    text: str
    reasoning: str
    finish: str
    tokens: tuple[int, int] | None


def body_of(request: Request, endpoint: Endpoint, *, send_seed: bool, stream: bool = False) -> bytes:
    """The request as it goes to `endpoint`."""
    parameters = dict(request.parameters)
    if "max_tokens" in parameters:
        parameters[endpoint.max_tokens_name] = parameters.pop("max_tokens")
    if send_seed:
        parameters["seed"] = request.seed
    if stream:
        parameters |= {"stream": True, "stream_options": {"include_usage": True}}
    messages = request.messages if endpoint.sees else [_without_pictures(message) for message in request.messages]
    return json.dumps({"model": request.model, "messages": messages, **parameters}).encode()


def said(data: dict[str, Any]) -> Said:
    """What a chat completion says; an error that came with status 200 is no content."""
    choice = _first(data.get("choices"), data, "choices")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Trouble(f"an answer without a message: {json.dumps(data)[:SHOWN]}")
    content, reasoning = (
        writable(part) if isinstance(part := message.get(name), str) else ""
        for name in ("content", "reasoning_content")
    )
    return Said(content, reasoning, str(choice.get("finish_reason") or "unknown"), _tokens(data))


def vectors(data: dict[str, Any], count: int) -> tuple[list[list[float]], int | None]:
    """`count` embeddings in the order they were asked for, and the tokens if they were reported."""
    _first(data.get("data"), data, "data")
    items = {item.get("index"): item.get("embedding") for item in data["data"] if isinstance(item, dict)}
    found = [items.get(place) for place in range(count)]
    if not all(isinstance(vector, list) and vector and len(vector) == len(found[0] or ()) for vector in found):
        raise Trouble(f"{len(items)} embeddings, or uneven ones, for {count} texts")
    tokens = _tokens(data)
    return [vector for vector in found if vector is not None], None if tokens is None else tokens[0]


async def joined(lines: aiohttp.StreamReader) -> dict[str, Any]:
    """A stream of pieces as the answer it spells; one that ends before it says why is cut."""
    content: list[str] = []
    reasoning: list[str] = []
    finish, usage = None, None
    async for line in lines:
        if not line.startswith(b"data:"):
            continue
        piece = line[5:].strip()
        if piece == b"[DONE]":
            break
        data = json_of(piece)
        usage = data.get("usage") or usage
        if not data.get("choices") and "error" not in data:
            continue  # the last piece of many endpoints has the usage alone
        choice = _first(data.get("choices"), data, "choices")
        delta = choice.get("delta")
        for name, parts in (("content", content), ("reasoning_content", reasoning)):
            if isinstance(delta, dict) and isinstance(delta.get(name), str):
                parts.append(delta[name])
        finish = choice.get("finish_reason") or finish
    if finish is None:
        raise Trouble("the stream was cut before its end")
    message = {"content": "".join(content), "reasoning_content": "".join(reasoning)}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def json_of(body: bytes) -> dict[str, Any]:
    """A JSON object."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Trouble(f"an answer that is not JSON, {len(body)} bytes") from None
    if not isinstance(data, dict):
        raise Trouble("an answer that is not a JSON object")
    return data


def error_text(body: str) -> str:
    """The message in an error's body, or the body."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return body
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _without_pictures(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return message
    return {**message, "content": "\n".join(part["text"] for part in content if part["type"] == "text")}


def _first(items: Any, data: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(items, list) or not items or not isinstance(items[0], dict):
        raise Trouble(f"an answer without {name}: {json.dumps(data)[:SHOWN]}")
    return items[0]


def _tokens(data: dict[str, Any]) -> tuple[int, int] | None:
    usage = data.get("usage")
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    completion = usage.get("completion_tokens")
    return usage["prompt_tokens"], completion if isinstance(completion, int) else 0
