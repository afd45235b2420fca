"""What is asked of an OpenAI-compatible endpoint before money is spent on a benchmark."""

import json
from dataclasses import replace
from typing import Any

from godwit.base.endpoint import Address
from godwit.base.errors import GodwitError, MissingPartError, did_you_mean

NO_KEY = "none"
"""What is sent where no key is set: local servers take any."""
_SHOWN = 200
_SECONDS = 60.0


def checked(endpoint: Address, *, option: str) -> Address:
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
        base_url=endpoint.url,
        api_key=endpoint.secret() or NO_KEY,
        timeout=_SECONDS,
        max_retries=1,
        organization="",
        project="",
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
                f"{option} {endpoint.url} cannot be reached ({_shown(endpoint, error.__cause__ or error)}); is it up?"
            ) from None
        except openai.APIStatusError as error:
            raise GodwitError(
                f"{option} {endpoint.url} answers status {error.status_code} to a chat of one token "
                f"({_shown(endpoint, error.message)}); the address usually ends with /v1"
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


def _with_model(endpoint: Address, models: list[dict[str, Any]] | None, option: str) -> Address:
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
    return endpoint.with_context(listed)


def _no_endpoint(endpoint: Address, option: str, found: object) -> GodwitError:
    return GodwitError(
        f"{option} {endpoint.url} is not an OpenAI-compatible endpoint ({_shown(endpoint, found)}); "
        "the address usually ends with /v1"
    )


def _shown(endpoint: Address, found: object) -> str:
    return endpoint.redact(found)[:_SHOWN]
