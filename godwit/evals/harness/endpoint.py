"""One OpenAI-compatible address, and what is asked of it before money is spent.

The key is named by an environment variable and read when it is used: it is in no config, log or message.
"""

import json
import os
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from godwit.base.errors import GodwitError, MissingPartError, did_you_mean

KEY_ENV = "OPENAI_API_KEY"
NO_KEY = "none"
"""What is sent where no key is set: local servers take any."""
_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A model behind an address.

    Attributes:
        url: up to and including the version, e.g. http://localhost:8000/v1.
        model: its name there; "" until `checked` has found it out.
        key_env: environment variable that holds the key.
        key: a key that is no secret (of a model served for this run alone).
        context: tokens it takes, prompt and reply together; None if it does not say.
    """

    url: str
    model: str = ""
    key_env: str = KEY_ENV
    key: str = field(default="", repr=False)
    context: int | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GodwitError(f"{self.url!r} is no address; give e.g. http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise GodwitError(
                f"the address of {parts.hostname} holds a key; put it into an environment variable instead"
            )

    def secret(self) -> str:
        """The key to send."""
        return self.key or os.environ.get(self.key_env, "").strip() or NO_KEY

    def redact(self, text: object) -> str:
        """One line of `text` without the key."""
        shown = " ".join(str(text).split())
        return (shown if self.secret() == NO_KEY else shown.replace(self.secret(), "***"))[:200]


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens in and out."""

    input: float
    output: float

    @classmethod
    def parse(cls, text: str) -> "Price":
        """From "2.5/10"."""
        try:
            price = cls(*(float(part) for part in text.split("/")))
        except (TypeError, ValueError) as error:
            raise GodwitError(f"price {text!r}: give dollars per million tokens in and out, e.g. 2.5/10") from error
        if not (price.input >= 0 and price.output >= 0):
            raise GodwitError(f"price {text!r}: prices are not negative")
        return price

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Dollars for so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


def checked(endpoint: Endpoint, *, option: str) -> Endpoint:
    """Ask for the models and for one token; the endpoint with its model and context filled in.

    Args:
        option: the option that named it (`--model`, `--judge`), for messages.

    Raises:
        GodwitError: not reachable, not OpenAI-compatible, an unknown model, a wrong key.
    """
    try:
        import openai
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise MissingPartError("benchmarks need openai and inspect_ai; type: pip install 'godwit[eval]'") from error
    client = openai.OpenAI(
        base_url=endpoint.url, api_key=endpoint.secret(), timeout=_SECONDS, max_retries=1, organization="", project=""
    )
    with client:
        try:
            endpoint = _with_model(endpoint, _models(client), option)
            raw = client.chat.completions.with_raw_response.create(
                model=endpoint.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1
            )
            reply = _json(raw.http_response.text)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise GodwitError(
                f"{option} {endpoint.url} refuses the key in {endpoint.key_env} (status {error.status_code}); "
                f"export the right one, or name its variable with {option}-key-env"
            ) from None
        except openai.APIConnectionError as error:
            raise GodwitError(
                f"{option} {endpoint.url} cannot be reached ({endpoint.redact(error.__cause__ or error)}); is it up?"
            ) from None
        except openai.APIStatusError as error:
            raise GodwitError(
                f"{option} {endpoint.url} answers status {error.status_code} to a chat of one token "
                f"({endpoint.redact(error.message)}); the address usually ends with /v1"
            ) from None
        except (openai.APIError, ValueError) as error:
            raise _no_endpoint(endpoint, option, error) from None
    if not reply.get("choices"):
        raise _no_endpoint(endpoint, option, reply)
    if reply.get("usage") and "total_tokens" not in reply["usage"]:
        raise GodwitError(f"{option} {endpoint.url} counts usage without total_tokens, which inspect_ai cannot read")
    return endpoint


def _models(client: Any) -> list[dict[str, Any]] | None:
    """The models it lists; None if it has no such list."""
    import openai

    try:
        raw = client.models.with_raw_response.list()  # the parsed form fails on a page of HTML in its own way
    except openai.NotFoundError:
        return None
    data = _json(raw.http_response.text).get("data")
    if not isinstance(data, list):
        raise ValueError("it lists no models")
    return [model for model in data if isinstance(model, dict)]


def _json(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("its answer is no JSON object")
    return found


def _with_model(endpoint: Endpoint, models: list[dict[str, Any]] | None, option: str) -> Endpoint:
    names = [str(model.get("id")) for model in models or []]
    if not endpoint.model:
        if len(names) != 1:
            known = f"it has {', '.join(names[:8])}" if names else "it lists none"
            raise GodwitError(f"{option} {endpoint.url}: which model? {known}; give {option}-name NAME")
        endpoint = replace(endpoint, model=names[0])
    if models is None:
        return endpoint
    if endpoint.model not in names:
        raise GodwitError(
            f"{option} {endpoint.url} has no model {endpoint.model!r}: {did_you_mean(endpoint.model, names)}"
        )
    listed = next(model for model in models if model.get("id") == endpoint.model)
    told = listed.get("max_model_len") or listed.get("context_length")
    return replace(endpoint, context=told) if endpoint.context is None and isinstance(told, int) else endpoint


def _no_endpoint(endpoint: Endpoint, option: str, found: object) -> GodwitError:
    return GodwitError(
        f"{option} {endpoint.url} is not an OpenAI-compatible endpoint ({endpoint.redact(found)}); "
        "the address usually ends with /v1"
    )
