"""Questions to an endpoint before anything is paid for: is it one, does it know the model, is the key right?

Two requests: the list of models (endpoints that have none are allowed), and a chat completion of one token. By the
standard library alone, so that pipelines and benchmarks, which call by different clients, ask them in the same way. A
redirection is not followed: it could carry the key to another host.
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from godwit.base.endpoint import Address
from godwit.base.errors import GodwitError, did_you_mean

AddressT = TypeVar("AddressT", bound=Address)

# A busy server may keep even a request of one token waiting.
SECONDS = 180.0
SPELLINGS = ("max_tokens", "max_completion_tokens")
# Of what an endpoint says, in messages; and what is read of it at all.
SHOWN, MOST_BYTES = 200, 1 << 24
_PASSING = {408, 409, 425, 429}
_USUAL = "the address usually ends with /v1"


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Who asks, in the words of the command line, for messages.

    Attributes:
        endpoint, model, key: the options that name the address, the model there, and the key's variable.
        role: e.g. "judge"; "" for the only one.
        proxies: whether HTTP_PROXY and its like hold, as they do or do not for the client that makes the calls.
    """

    endpoint: str
    model: str
    key: str
    role: str = ""
    proxies: bool = True


class Reply(NamedTuple):
    """What came of the one token: the name of `max_tokens` there, and the answer; None from a server that was busy."""

    max_tokens_name: str
    answer: dict[str, Any] | None


def probe(
    address: AddressT, asker: Asker, *, more: Mapping[str, Any], spellings: Sequence[str] = SPELLINGS
) -> tuple[AddressT, Reply]:
    """Both questions.

    Args:
        more: further fields of the request, as they will be sent.
        spellings: names of `max_tokens` that the caller can use.

    Raises:
        GodwitError: what is wrong, and what to change.
    """
    address = with_listed_model(address, asker)
    return address, one_token(address, asker, more=more, spellings=spellings)


def with_listed_model(address: AddressT, asker: Asker) -> AddressT:
    """With the model if it is the only one, and with the model's context. Raises as `probe`."""
    status, body = _asked(address, asker, "/models", None)
    if status in (401, 403):
        raise _wrong_key(address, asker, status)
    listed = _models(address, asker, body) if status == 200 else None
    names = [str(model.get("id")) for model in listed or []]
    if not address.model:
        if len(names) != 1:
            known = f"it has {', '.join(names[:8])}" if names else "it lists none"
            raise GodwitError(f"{asker.endpoint} {address.url}: which model? {known}; give {asker.model} NAME")
        address = replace(address, model=names[0])
    if not names:
        return address
    if address.model not in names:
        raise GodwitError(
            f"{address.url} has no {asker.role + ' ' if asker.role else ''}model {address.model!r} ({asker.model}): "
            f"{did_you_mean(address.model, names)}"
        )
    return address.with_context(next(model for model in listed or [] if model.get("id") == address.model))


def one_token(
    address: Address, asker: Asker, *, more: Mapping[str, Any], spellings: Sequence[str] = SPELLINGS
) -> Reply:
    """A chat of one token. A busy server (429, 5xx) passes: calls have their own patience. Raises as `probe`."""
    request = {"model": address.model, "messages": [{"role": "user", "content": "Hi"}], **more}
    status, body, spelling = 0, "", spellings[0]
    for spelling in spellings:
        status, body = _asked(address, asker, "/chat/completions", request | {spelling: 1})
        if status != 400 or not any(other in body for other in spellings if other != spelling):
            break
    if status in (401, 403):
        raise _wrong_key(address, asker, status)
    said = address.redact(body[:SHOWN])
    if status == 404:
        raise GodwitError(
            f"{asker.endpoint} {address.url} has no chat completions for {address.model!r} ({said}); check the "
            f"model's name, and the address: {_USUAL}"
        )
    if 300 <= status < 500 and status not in _PASSING:
        hints = {"seed": "; try --no-send-seed", "structured_outputs": "; it takes no forms, leave --forms out"}
        hint = next((hint for name, hint in hints.items() if name in more and name in body), "")
        raise GodwitError(
            f"{asker.endpoint} {address.url} refuses a request of one token with status {status}: {said}{hint}"
        )
    if status != 200:
        return Reply(spelling, None)
    answer = _object(body)
    if answer is None or not answer.get("choices"):
        raise GodwitError(
            f"{asker.endpoint} {address.url} is not an OpenAI-compatible endpoint: its answer has no choices "
            f"({said!r}); {_USUAL}"
        )
    return Reply(spelling, answer)


def _models(address: Address, asker: Asker, body: str) -> list[dict[str, Any]] | None:
    data = (_object(body) or {}).get("data")
    if not isinstance(data, list):
        raise GodwitError(
            f"{asker.endpoint} {address.url} is not an OpenAI-compatible endpoint: {address.url.rstrip('/')}/models "
            f"answers {address.redact(body[:60])!r}; {_USUAL}"
        )
    return [model for model in data if isinstance(model, dict)]


def _object(body: str) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _asked(address: Address, asker: Asker, path: str, value: Any) -> tuple[int, str]:
    """Status and body of a GET, or of a POST of `value`."""
    key = address.secret()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    body = None if value is None else json.dumps(value).encode()
    ways = [_NoRedirection()] if asker.proxies else [_NoRedirection(), urllib.request.ProxyHandler({})]
    try:
        request = urllib.request.Request(address.url.rstrip("/") + path, data=body, headers=headers)
        with urllib.request.build_opener(*ways).open(request, timeout=SECONDS) as response:
            return response.status, response.read(MOST_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(MOST_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        reason = address.redact(getattr(error, "reason", "") or error) or type(error).__name__
        raise GodwitError(
            f"{asker.endpoint} {address.url} cannot be reached ({reason}); check the address, and that it is up"
        ) from None
    except ValueError:  # its message would show the key
        raise GodwitError(
            f"the key in {address.key_env} has characters that no key has (a line break, say); set it again"
        ) from None


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Leave it be: the answer's status says so."""


def _wrong_key(address: Address, asker: Asker, status: int) -> GodwitError:
    given = f"the key in {address.key_env}" if address.secret() else f"no key ({address.key_env or 'none'} is empty)"
    return GodwitError(
        f"{asker.endpoint} {address.url} refuses {given} (status {status}); put the right key into an environment "
        f"variable and name it with {asker.key}"
    )
