"""The address of an OpenAI-compatible model and what its tokens cost: what every caller of one needs, and no client.

The key is named by the environment variable that holds it and is read when a request is made, so it is in no config, no
command line, no pickle and no repr; `redact` takes it out of whatever an endpoint writes back.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlsplit

from godwit.base.errors import GodwitError

KEY_ENV = "OPENAI_API_KEY"
NO_THOUGHTS: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
"""Fields of a request after which a model of GLM's kind answers at once."""
# What keys look like, for texts that quote another one than ours.
_KEYS = re.compile(r"(?i)\b(bearer\s+)\S+|\b(?:sk|pk|key)-[A-Za-z0-9_\-]{8,}")


@dataclass(frozen=True, kw_only=True)
class Address:
    """One model behind one address.

    Attributes:
        url: up to and including the version, e.g. https://api.openai.com/v1.
        model: its name there; "" where it is still to be found out.
        key_env: environment variable with the key; "" for none.
        key: a key that is no secret (of a model served for this run alone); else "".
        context: tokens the model takes, prompt and answer together; None if unknown.
    """

    url: str
    model: str = ""
    key_env: str = KEY_ENV
    key: str = field(default="", repr=False)
    context: int | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.username or parts.password or parts.query:
            raise GodwitError(
                "an endpoint's address must not hold a key (user:password@ or ?...); put it into an environment "
                "variable and name that instead, with the option that ends with key-env"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GodwitError(f"endpoint {self.url!r} is no address; give e.g. http://localhost:8000/v1")

    def secret(self) -> str:
        """The key, "" if there is none."""
        return self.key or (os.environ.get(self.key_env, "").strip() if self.key_env else "")

    def redact(self, text: object) -> str:
        """`text` on one line, without anything that is or looks like a key."""
        shown, secret = str(text), self.secret()
        if secret:
            shown = shown.replace(secret, "***")
        return " ".join(_KEYS.sub(lambda found: (found[1] or "") + "***", shown).split())

    def with_context(self, listed: Mapping[str, Any]) -> Self:
        """With the context that the endpoint's list of models tells of this one, where it was unknown."""
        told = listed.get("max_model_len") or listed.get("context_length")
        return replace(self, context=told) if self.context is None and isinstance(told, int) else self


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens in and out."""

    prompt: float
    completion: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "2.5/10"."""
        try:
            prompt, completion = (float(part) for part in text.split("/"))
        except ValueError as error:
            raise GodwitError(
                f"a price is {text!r}; give dollars per million tokens in and out, e.g. 2.5/10"
            ) from error
        if not (prompt >= 0 and completion >= 0):
            raise GodwitError(f"a price is {text!r}; prices are not negative")
        return cls(prompt, completion)

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars for so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6
