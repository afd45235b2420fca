"""Where calls go: one OpenAI-compatible endpoint with its limits and prices, and about how many tokens a text has."""

from dataclasses import dataclass, field
from typing import Any

from godwit.base.endpoint import Address, Price
from godwit.text.forms import Room

# Rough sizes of tokens, for limits and for what cannot be sent anyway; bills are made of what the endpoint reports.
LATIN_PER_TOKEN, OTHER_PER_TOKEN, TOKENS_PER_PICTURE = 4.0, 1.4, 800


@dataclass(frozen=True, kw_only=True)
class Endpoint(Address):
    """One model behind one address, as pipelines call it.

    Attributes:
        max_tokens_name: what the endpoint calls that parameter (`probe` finds out).
        sees: whether it takes pictures; else they are left out of what is sent.
        most_answer: tokens an answer may have at most, whatever a stage asks for; None for no such limit.
        extra: further fields of each request's body, e.g. a switch for thinking; part of the content key.
        room: what forms of answers leave to the model, where the endpoint takes them; None: none are sent.
    """

    model: str
    price: Price | None = None
    max_tokens_name: str = "max_tokens"
    sees: bool = True
    most_answer: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    room: Room | None = None

    @property
    def chat_url(self) -> str:
        """Where chat completions are asked for."""
        return self.url.rstrip("/") + "/chat/completions"

    @property
    def embed_url(self) -> str:
        """Where embeddings are asked for."""
        return self.url.rstrip("/") + "/embeddings"

    def headers(self) -> dict[str, str]:
        """The headers of a request; with the key, so never to be shown."""
        key = self.secret()
        return {"Authorization": f"Bearer {key}"} if key else {}


def is_address(path: str) -> bool:
    """True for what is sent as it is, False for a file's path."""
    return path.startswith(("http://", "https://", "data:"))


def estimate_tokens(content: Any) -> int:
    """About how many tokens a text, a message or a list of them has."""
    if isinstance(content, str):
        if content.startswith("data:"):
            return TOKENS_PER_PICTURE
        latin = len(content) if content.isascii() else sum(char < "\u2000" for char in content)
        return int(latin / LATIN_PER_TOKEN + (len(content) - latin) / OTHER_PER_TOKEN) + 1
    if isinstance(content, dict):
        return sum(estimate_tokens(value) for name, value in content.items() if name not in ("role", "type"))
    if isinstance(content, (list, tuple)):
        return sum(map(estimate_tokens, content))
    return 0
