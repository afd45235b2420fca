"""Questions to an endpoint before anything is paid for: is it one, does it know the model, is the key right?

Two requests: the list of models (endpoints that have none are allowed), and a chat completion of one token.
"""

import json
from dataclasses import replace
from typing import Any

import aiohttp

from godwit.base.errors import GodwitError, did_you_mean
from godwit.synth.embedding import ROLE as EMBEDDER
from godwit.synth.endpoint import Endpoint
from godwit.synth.line import Limits, Line
from godwit.synth.wire import Request, body_of

# A busy server may keep even a request of one token waiting.
SECONDS = 180.0
SHOWN = 200


async def probe(endpoint: Endpoint, *, role: str, limits: Limits) -> Endpoint:
    """Check `endpoint`; returns it with what was learnt: the model's context, how parameters are spelled.

    Raises:
        GodwitError: what is wrong, and what to change.
    """
    async with Line(endpoint, limits=limits) as line:
        models = await _models(endpoint, line, role)
        if models is not None:
            endpoint = _with_context(endpoint, models, role)
        if role == EMBEDDER:
            await line.embed(["Hi"])
            return endpoint
        return await _one_token(endpoint, line, role)


def _with_context(endpoint: Endpoint, models: list[dict[str, Any]], role: str) -> Endpoint:
    names = [str(model.get("id")) for model in models]
    if endpoint.model not in names and names:
        option = {"judge": "--judge-model", EMBEDDER: "--embed-model"}.get(role, "--model")
        raise GodwitError(
            f"{endpoint.url} has no {role} model {endpoint.model!r} ({option}): {did_you_mean(endpoint.model, names)}"
        )
    found = next((model for model in models if model.get("id") == endpoint.model), {})
    return endpoint.with_context(found)


async def _models(endpoint: Endpoint, line: Line, role: str) -> list[dict[str, Any]] | None:
    status, body = await _get(endpoint, line, endpoint.url.rstrip("/") + "/models")
    if status in (401, 403):
        raise _wrong_key(endpoint, role, status)
    if status != 200:
        return None
    try:
        data = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise GodwitError(
            f"{endpoint.url} is not an OpenAI-compatible endpoint: {endpoint.url.rstrip('/')}/models answers "
            f"{endpoint.redact(body[:60])!r}; the address usually ends with /v1"
        ) from None
    return [model for model in data if isinstance(model, dict)] if isinstance(data, list) else None


async def _one_token(endpoint: Endpoint, line: Line, role: str) -> Endpoint:
    request = Request(
        model=endpoint.model,
        messages=[{"role": "user", "content": "Hi"}],
        parameters={"max_tokens": 1} | endpoint.extra,
        seed=0,
    )
    status, body = await _post(endpoint, line, request)
    if status == 400 and "max_completion_tokens" in body:
        endpoint = replace(endpoint, max_tokens_name="max_completion_tokens")
        status, body = await _post(endpoint, line, request)
    if status in (401, 403):
        raise _wrong_key(endpoint, role, status)
    said = endpoint.redact(body[:SHOWN])
    if status == 404:
        raise GodwitError(
            f"{endpoint.url} has no chat completions for {endpoint.model!r} ({said}); check the address, which usually "
            "ends with /v1, and the model's name"
        )
    if 400 <= status < 500 and status not in (408, 409, 425, 429):
        hint = "; try --no-send-seed" if "seed" in body else ""
        raise GodwitError(f"{endpoint.url} refuses a request of one token with status {status}: {said}{hint}")
    if status == 200 and "choices" not in body:
        raise GodwitError(
            f"{endpoint.url} is not an OpenAI-compatible endpoint: its answer has no choices ({said!r}); the address "
            "usually ends with /v1"
        )
    return endpoint


async def _get(endpoint: Endpoint, line: Line, url: str) -> tuple[int, str]:
    return await _send(endpoint, line.session.get(url, headers=endpoint.headers(), timeout=_TIMEOUT))


async def _post(endpoint: Endpoint, line: Line, request: Request) -> tuple[int, str]:
    body = body_of(request, endpoint, send_seed=line.limits.send_seed)
    headers = {"Content-Type": "application/json", **endpoint.headers()}
    return await _send(endpoint, line.session.post(endpoint.chat_url, data=body, headers=headers, timeout=_TIMEOUT))


async def _send(endpoint: Endpoint, sending: Any) -> tuple[int, str]:
    try:
        async with sending as response:
            return response.status, (await response.read()).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = endpoint.redact(str(error) or type(error).__name__)
        raise GodwitError(f"{endpoint.url} cannot be reached ({reason}); check --endpoint, and that it is up") from None


def _wrong_key(endpoint: Endpoint, role: str, status: int) -> GodwitError:
    option = {"judge": "--judge-key-env", EMBEDDER: "--embed-key-env"}.get(role, "--key-env")
    given = f"the key in {endpoint.key_env}" if endpoint.secret() else f"no key ({endpoint.key_env or 'none'} is empty)"
    return GodwitError(
        f"{endpoint.url} answers status {status} to {given}; put the right key into an environment variable "
        f"and name it with {option}"
    )


_TIMEOUT = aiohttp.ClientTimeout(total=SECONDS)
