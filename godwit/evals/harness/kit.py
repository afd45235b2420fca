"""What a benchmark's functions are given: a way to ask the model, a judge, and the tokenizer that prompts must fit.

These are the only calls a benchmark makes, so it can be tested without inspect_ai or a network.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from godwit.base.errors import GodwitError
from godwit.text.forms import Form

T = TypeVar("T")
_SLOT = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Reply:
    """A model's reply and what it cost.

    Attributes:
        finish: "stop", "length" (cut off) or what else the endpoint says.
    """

    text: str
    finish: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Verdict(Generic[T]):
    """What a judge's replies came to: a value, or None and why; the replies as they were."""

    value: T | None
    replies: tuple[str, ...] = ()
    reason: str = ""


class Ask(Protocol):
    """One call of the model under test."""

    async def __call__(
        self,
        prompt: str,
        *,
        form: Form | None = None,
        max_tokens: int | None = None,
        images: tuple[str, ...] = (),
    ) -> Reply:
        """Send one user message; images are addresses or data URIs.

        `form` is of replies as the prompt asks for them; only a rehearsal's model is held to it.
        """
        ...


class Judge(Protocol):
    """Calls of the judge, pinned; None from `parse` makes it ask again, up to the pin's attempts."""

    async def __call__(
        self, prompt: str, parse: Callable[[str], T | None], *, form: Form, images: tuple[str, ...] = ()
    ) -> Verdict[T]:
        """Ask until a reply parses; `form` is of replies that `parse` takes, only a rehearsal's judge is held to it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Kit:
    """Beside the calls.

    Attributes:
        seed: of whatever a benchmark draws.
        tokenizer: the model's `tokenizer.json`, if known.
        folder: where the data's file lies, and files it names.
        max_input: tokens a rendered prompt may have; longer ones lose their middle. None: no limit.
    """

    seed: int = 0
    tokenizer: Path | None = None
    folder: Path = Path()
    max_input: int | None = None

    def fit(self, prompt: str) -> str:
        """The whole rendered prompt, without its middle if it is longer than `max_input`."""
        if self.max_input is None or len(prompt.encode()) <= self.max_input:  # a token has at least one byte
            return prompt
        if self.tokenizer is None:
            raise GodwitError(
                "a prompt may be too long and no tokenizer tells; give --tokenizer FOLDER or no --max-input"
            )
        return truncate_middle(prompt, self.max_input, spans(self.tokenizer, prompt))

    def num_tokens(self, text: str) -> int | None:
        """Tokens of `text`; None without a tokenizer."""
        return None if self.tokenizer is None else len(spans(self.tokenizer, text))


def truncate_middle(text: str, max_tokens: int, token_spans: list[tuple[int, int]]) -> str:
    """The first floor(max/2) and the last ceil(max/2) tokens of `text`, put together (LongBench v2's rule).

    Cut by the tokens' places in the text, not by decoding them, so nothing else changes; a character whose
    bytes a cut parts is left out. No room is left for a chat template, as there.
    """
    if len(token_spans) <= max_tokens:
        return text
    head, back = max_tokens // 2, len(token_spans) - (max_tokens - max_tokens // 2)
    end = min(token_spans[head - 1][1], token_spans[head][0]) if head else 0
    start = max(token_spans[back][0], token_spans[back - 1][1])
    return text[:end] + text[start:]


def spans(tokenizer: Path, text: str) -> list[tuple[int, int]]:
    """The characters of each token."""
    return _backend(tokenizer).encode(text, add_special_tokens=False).offsets


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with each `{{name}}` replaced, all at once: a value that spells `{{name}}` stays as it is.

    Every name must be given and used.
    """
    used = set(_SLOT.findall(template))
    assert used == set(values), used ^ set(values)
    return _SLOT.sub(lambda slot: values[slot[1]], template)


def prompt_hash(*templates: str) -> str:
    """16 hex digits of prompt templates, recorded with what they were used for."""
    return hashlib.blake2b("\0".join(templates).encode(), digest_size=8).hexdigest()


_BACKENDS: dict[Path, Any] = {}


def _backend(path: Path) -> Any:
    if path not in _BACKENDS:
        import tokenizers

        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.exists():
            raise GodwitError(f"no tokenizer at {path}; name a folder with a tokenizer.json, or such a file")
        _BACKENDS[path] = tokenizers.Tokenizer.from_file(str(file))
    return _BACKENDS[path]
