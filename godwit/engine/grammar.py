"""Constrained output: a JSON schema, any JSON, a regular expression, or a structure of them, by the `xgrammar` library.

A `Grammar` is a value that requests carry. A `Matcher` follows one choice's output and says which tokens may come next,
as a bit mask over the vocabulary. `xgrammar` takes seconds to import and is imported when a grammar is first used.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from torch import Tensor

from godwit.base.errors import GodwitError, MissingPartError
from godwit.text.specials import MARK_TOKENS
from godwit.text.tokenizer import Tokenizer

# Longer sources make the compiler work for minutes.
MAX_SOURCE = 100_000


@dataclass(frozen=True)
class Grammar:
    """What an output must match; made by `json_schema`, `any_json`, `regex` or `structure`."""

    kind: Literal["json", "json_schema", "regex", "structure"]
    source: str = ""

    @classmethod
    def json_schema(cls, schema: dict[str, Any] | str) -> "Grammar":
        """JSON that a schema allows.

        Raises:
            GodwitError: the schema is no JSON object.
        """
        try:
            value = json.loads(schema) if isinstance(schema, str) else schema
            source = json.dumps(value, ensure_ascii=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise GodwitError(
                f"the JSON schema is not JSON ({error}); give an object such as {{'type': 'object'}}"
            ) from error
        if not isinstance(value, dict):
            raise GodwitError(
                f"the JSON schema is a {type(value).__name__}; give an object such as {{'type': 'object'}}"
            )
        return cls("json_schema", _bounded(source))

    @classmethod
    def any_json(cls) -> "Grammar":
        """Any JSON value."""
        return cls("json")

    @classmethod
    def regex(cls, pattern: str) -> "Grammar":
        """Text that matches a regular expression from beginning to end."""
        return cls("regex", _bounded(pattern))

    @classmethod
    def structure(cls, form: dict[str, Any]) -> "Grammar":
        """A format of xgrammar's structural tags: sequences and choices of texts, schemas and tokens by their id.

        Alone of all kinds it can ask for the marks of thoughts and tool calls, as `{"type": "token", "token": id}`.
        """
        return cls("structure", _bounded(json.dumps({"type": "structural_tag", "format": form}, ensure_ascii=False)))


def _bounded(source: str) -> str:
    if len(source) > MAX_SOURCE:
        raise GodwitError(f"the grammar has {len(source)} characters; give at most {MAX_SOURCE}")
    return source


class Matcher:
    """Follows one output."""

    def __init__(self, compiled: Any):
        import xgrammar

        self._matcher = xgrammar.GrammarMatcher(compiled)

    def fill(self, mask_BW: Tensor, row: int) -> None:
        """Write the allowed tokens into a row of a bit mask (int32, from `GrammarCompiler.new_mask`)."""
        self._matcher.fill_next_token_bitmask(mask_BW, row)

    @property
    def done(self) -> bool:
        """Whether the output is whole and was ended by an end token."""
        return self._matcher.is_terminated()

    def accept(self, token_id: int) -> None:
        """The output goes on with this token, which the mask allowed."""
        accepted = self._matcher.accept_token(token_id)
        assert accepted, token_id


class GrammarCompiler:
    """Compiles grammars for one tokenizer; the last few are kept.

    Args:
        tokenizer: of the model.
        vocab_size: rows of the model's output, which may be more than the tokenizer has.
    """

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int):
        self._tokenizer, self.vocab_size = tokenizer, vocab_size
        self._compiler: Any = None
        self._compiled = lru_cache(maxsize=64)(self._compile)

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning of an output.

        Raises:
            GodwitError: the library refuses the schema or the expression, and says why.
        """
        return Matcher(self._compiled(grammar))

    def new_mask(self, num_rows: int) -> Tensor:
        """A bit mask of all tokens for so many rows."""
        return _library().allocate_token_bitmask(num_rows, self.vocab_size)

    def _compile(self, grammar: Grammar) -> Any:
        library = _library()
        if self._compiler is None:
            vocabulary = [self._bytes_of(token_id) for token_id in range(self.vocab_size)]
            info = library.TokenizerInfo(
                vocabulary, vocab_size=self.vocab_size, stop_token_ids=list(self._tokenizer.eos_token_ids)
            )
            self._compiler = library.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        try:
            if grammar.kind == "json":
                return self._compiler.compile_builtin_json_grammar()
            if grammar.kind == "regex":
                return self._compiler.compile_regex(grammar.source)
            if grammar.kind == "structure":
                return self._compiler.compile_structural_tag(grammar.source)
            return self._compiler.compile_json_schema(grammar.source)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-300:]
            raise GodwitError(f"the {grammar.kind} grammar cannot be compiled: {reason}; simplify it") from error

    def _bytes_of(self, token_id: int) -> bytes:
        """A token as the library is to see it."""
        if token_id >= self._tokenizer.vocab_size:
            return b""
        if token_id not in self._tokenizer.special_ids:
            return self._tokenizer.token_bytes(token_id)
        # Tokens of no bytes are special to the library and never allowed. Marks begin with a byte that no text has: no
        # string of a grammar holds them, and a structure can still name them by their id.
        spelled = self._tokenizer.special_token(token_id)
        return b"\xff" + self._tokenizer.token_bytes(token_id) if spelled in MARK_TOKENS else b""


def apply_mask(logits_BV: Tensor, mask_BW: Tensor, rows: list[int]) -> None:
    """Forbid in place what the mask does not allow, in these rows of CPU logits."""
    _library().apply_token_bitmask_inplace(logits_BV, mask_BW.to(logits_BV.device), indices=rows)


def _library() -> Any:
    try:
        import xgrammar
    except ImportError as error:
        raise MissingPartError(f"grammars need xgrammar ({error}); type: pip install 'godwit[serve]'") from error
    return xgrammar
