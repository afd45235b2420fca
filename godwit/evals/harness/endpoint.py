"""What is asked of an OpenAI-compatible endpoint before money is spent on a benchmark."""

from godwit.base.endpoint import Address
from godwit.base.errors import GodwitError
from godwit.base.probe import Asker, probe

NO_KEY = "none"
"""What is sent where no key is set: local servers take any."""


def checked(endpoint: Address, *, option: str) -> Address:
    """Ask for the models and for one token; the endpoint with its model and context filled in.

    Args:
        option: the option that named it (`--model`, `--judge`), for messages.

    Raises:
        GodwitError: not reachable, not OpenAI-compatible, an unknown model, a wrong key.
    """
    asker = Asker(endpoint=option, model=f"{option}-name", key=f"{option}-key-env")
    # inspect_ai chooses by the model's name how it spells `max_tokens`; nothing here could change that.
    endpoint, reply = probe(endpoint, asker, more={}, spellings=("max_tokens",))
    usage = (reply.answer or {}).get("usage")
    if usage and "total_tokens" not in usage:
        raise GodwitError(f"{option} {endpoint.url} counts usage without total_tokens, which inspect_ai cannot read")
    return endpoint
