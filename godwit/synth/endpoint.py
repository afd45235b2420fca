"""Where calls go: address, model, key, limits and prices of one OpenAI-compatible endpoint.

The key is named by the environment variable that holds it and is read when a request is made, so it is in no config, no
command line, no pickle and no repr; `redact` takes it out of whatever an endpoint writes back.
"""

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from godwit.base.errors import GodwitError

KEY_ENV = "OPENAI_API_KEY"
# What keys look like, for texts that quote another one than ours.
_KEYS = re.compile(r"(?i)\b(bearer\s+)\S+|\b(?:sk|pk|key)-[A-Za-z0-9_\-]{8,}")
# Rough sizes of tokens, for limits and for what cannot be sent anyway; bills are made of what the endpoint reports.
LATIN_PER_TOKEN, OTHER_PER_TOKEN, TOKENS_PER_PICTURE = 4.0, 1.4, 800


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens in and out."""

    prompt: float
    completion: float

    @classmethod
    def parse(cls, text: str) -> "Price":
        """From "2.5/10"."""
        parts = text.split("/")
        try:
            prompt, completion = (float(part) for part in parts)
        except ValueError as error:
            raise GodwitError(
                f"a price is {text!r}; give dollars per million tokens in and out, e.g. 2.5/10"
            ) from error
        if prompt < 0 or completion < 0:
            raise GodwitError(f"a price is {text!r}; prices are not negative")
        return cls(prompt, completion)

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars for so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One model behind one address.

    Attributes:
        url: up to and including the version, e.g. https://api.openai.com/v1.
        key_env: environment variable with the key; "" for none.
        key: a key that is no secret (of the model served for this run alone); else "".
        context: tokens the model takes, prompt and answer together; None if unknown.
        max_tokens_name: what the endpoint calls that parameter (`probe` finds out).
        sees: whether it takes pictures; else they are left out of what is sent.
        most_answer: tokens an answer may have at most, whatever a stage asks for; None for no such limit.
        extra: further fields of each request's body, e.g. a switch for thinking; part of the content key.
    """

    url: str
    model: str
    key_env: str = KEY_ENV
    key: str = field(default="", repr=False)
    context: int | None = None
    price: Price | None = None
    max_tokens_name: str = "max_tokens"
    sees: bool = True
    most_answer: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.username or parts.password or parts.query:
            raise GodwitError(
                "an endpoint's address must not hold a key (user:password@ or ?...); put it into an environment "
                "variable and name that with --key-env"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GodwitError(f"endpoint {self.url!r} is no address; give e.g. http://localhost:8000/v1")

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

    def secret(self) -> str:
        """The key, "" if there is none."""
        return self.key or (os.environ.get(self.key_env, "").strip() if self.key_env else "")

    def redact(self, text: str) -> str:
        """`text` on one line, without anything that is or looks like a key."""
        secret = self.secret()
        if secret:
            text = text.replace(secret, "***")
        return " ".join(_KEYS.sub(lambda found: (found[1] or "") + "***", text).split())


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
