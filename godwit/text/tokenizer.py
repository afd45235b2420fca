"""A byte-level BPE tokenizer with GLM's special tokens, over the `tokenizers` library.

Ordinary text can never turn into a special token: `encode("<|user|>")` gives the pieces of that spelling, and only
`allow_special=True` (for text we wrote ourselves) gives the id. So documents and messages cannot forge a role.

Does not: render chats (`template`, `mask`), train (`bpe`), import transformers. Folders written by `save` load with
`transformers.AutoTokenizer`, and published GLM folders load here.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from godwit.base.errors import GodwitError, did_you_mean
from godwit.base.files import read_json, write_atomic, write_json
from godwit.text.specials import ENDOFTEXT, FRAME_TOKENS, OBSERVATION, USER
from godwit.text.template import template_source


class Tokenizer:
    """Text to token ids and back; `decode(encode(text)) == text` for every text.

    Args:
        backend_json: the content of a Hugging Face `tokenizer.json` of a byte-level tokenizer.

    Raises:
        GodwitError: not such a file, or GLM's stop tokens are not in it.
    """

    def __init__(self, backend_json: str):
        self._full = _backend(backend_json)
        # The same tokenizer without any added token: what "special tokens are not recognised" means.
        self._plain = _backend(json.dumps({**json.loads(backend_json), "added_tokens": []}))
        self.eos_token_ids = (self.id(ENDOFTEXT), self.id(USER), self.id(OBSERVATION))

    def __getstate__(self) -> dict[str, Any]:
        return {"backend_json": self._full.to_str()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["backend_json"])

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Read `folder`/tokenizer.json."""
        path = Path(folder) / "tokenizer.json"
        if not path.exists():
            raise GodwitError(f"no tokenizer in {folder}: tokenizer.json is missing; name a folder that has one")
        content = read_json(path)
        try:
            return cls(json.dumps(content, ensure_ascii=False))
        except GodwitError as error:
            raise GodwitError(f"{path}: {error}") from error

    def save(self, folder: str | Path, *, chat_template: str = "glm47") -> None:
        """Write what `AutoTokenizer.from_pretrained(folder)` reads; other files of the folder are left alone.

        Args:
            folder: made if it is not there.
            chat_template: which style `apply_chat_template` shall have: one of `template.STYLES`.
        """
        source = template_source(chat_template)
        folder = Path(folder)
        additional = [token for token in FRAME_TOKENS if token != ENDOFTEXT and token in self._special_ids]
        special = {"eos_token": ENDOFTEXT, "pad_token": ENDOFTEXT, "additional_special_tokens": additional}
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "padding_side": "left",
            **special,
        }
        write_atomic(folder / "tokenizer.json", self._full.to_str(pretty=True))
        write_json(folder / "special_tokens_map.json", special)
        write_atomic(folder / "chat_template.jinja", source)
        write_json(folder / "tokenizer_config.json", settings)

    @cached_property
    def vocab_size(self) -> int:
        """The highest id plus one: how many rows an embedding needs."""
        return max(self._full.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def endoftext_id(self) -> int:
        """The id that ends a document."""
        return self.eos_token_ids[0]

    def id(self, token: str) -> int:
        """The id of one token by its spelling, e.g. `<|user|>`."""
        found = self._full.token_to_id(token)
        if found is None:
            raise GodwitError(f"the tokenizer has no token {token!r}: {did_you_mean(token, self._special_ids)}")
        return found

    def special_token(self, token_id: int) -> str | None:
        """The spelling of a special token's id; None for an id of ordinary text."""
        return self._special_names.get(token_id)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens: frames and marks."""
        return frozenset(self._special_names)

    @cached_property
    def skipped_ids(self) -> frozenset[int]:
        """Ids that `decode` leaves out with `skip_special`."""
        added = self._full.get_added_tokens_decoder().items()
        return frozenset(token_id for token_id, token in added if token.special)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one id stands for, maybe a part of a character; nothing for an id the tokenizer has not."""
        return self._bytes_of.get(token_id, b"")

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Token ids of `text`. Spellings of special tokens stay text unless `allow_special`."""
        check_text(text)
        return (self._full if allow_special else self._plain).encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of many texts at once, on all threads the `tokenizers` library may use."""
        for text in texts:
            check_text(text)
        return [coded.ids for coded in self._plain.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of ordinary text and, per id, the characters [start, end) it covers.

        Tokens that share the bytes of one character all cover that character.
        """
        check_text(text)
        coded = self._plain.encode(text, add_special_tokens=False)
        return coded.ids, coded.offsets

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, valid UTF-8 or not; `decode_bytes` gives them back exactly."""
        ids = []
        for valid, stray in _runs(data):
            ids += self._plain.encode(valid, add_special_tokens=False).ids if valid else []
            ids += [self.id(_BYTE_TO_CHAR[byte]) for byte in stray]
        return ids

    def decode(self, ids: list[int], *, skip_special: bool = False) -> str:
        """Text of `ids`; bytes that are no UTF-8 (a cut character) become U+FFFD.

        `skip_special` leaves out roles, prefix and end of text, not the marks of thoughts and tool calls.
        """
        self._check_ids(ids)
        return self._full.decode(ids, skip_special_tokens=skip_special)

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The exact bytes of `ids`, special tokens spelled out."""
        self._check_ids(ids)
        return b"".join(self._bytes_of[token_id] for token_id in ids)

    def fingerprint(self) -> str:
        """16 hex digits that change when any text could get other ids; not with the chat template."""
        content = json.loads(self._full.to_str())
        parts = {key: content[key] for key in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
        canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()

    @cached_property
    def _special_names(self) -> dict[int, str]:
        return {token_id: token.content for token_id, token in self._full.get_added_tokens_decoder().items()}

    @property
    def _special_ids(self) -> dict[str, int]:
        return {name: token_id for token_id, name in self._special_names.items()}

    @cached_property
    def _bytes_of(self) -> dict[int, bytes]:
        table = {
            token_id: bytes(_CHAR_TO_BYTE[char] for char in token)
            for token, token_id in self._plain.get_vocab().items()
        }
        return table | {token_id: name.encode() for token_id, name in self._special_names.items()}

    def _check_ids(self, ids: list[int]) -> None:
        if ids and (min(ids) < 0 or max(ids) >= self.vocab_size):
            wrong = next(token_id for token_id in ids if not 0 <= token_id < self.vocab_size)
            raise GodwitError(f"token id {wrong} is outside the vocabulary; ids go from 0 to {self.vocab_size - 1}")


def check_text(text: str) -> None:
    """Refuse what has no UTF-8 form (half of a surrogate pair, as broken JSON escapes give)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GodwitError(
            f"the text has half a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start} and so no "
            "UTF-8 form; repair its source, or read it with errors='replace'"
        ) from error


def _backend(backend_json: str) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(backend_json)
    except Exception as error:
        # The library raises this very class and none more special; anything else is not about the file.
        if type(error) is not Exception:
            raise
        raise GodwitError(f"not a tokenizer the `tokenizers` library can read ({error}); make it anew") from error
    byte_level = isinstance(backend.decoder, tokenizers.decoders.ByteLevel)
    if not byte_level or any(backend.token_to_id(char) is None for char in _CHAR_TO_BYTE):
        raise GodwitError("not a byte-level tokenizer with all 256 bytes; use one made by train_bpe or a GLM one")
    return backend


def _runs(data: bytes) -> list[tuple[str, bytes]]:
    """Cut bytes into (valid UTF-8 as text, the stray bytes behind it)."""
    runs = []
    while data:
        try:
            runs.append((data.decode(), b""))
            break
        except UnicodeDecodeError as error:
            runs.append((data[: error.start].decode(), data[error.start : error.end]))
            data = data[error.end :]
    return runs


def _byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's convention).

    Printable Latin-1 stands for itself; the 68 others follow from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + place) for place, byte in enumerate(others)}


_BYTE_TO_CHAR = _byte_alphabet()
_CHAR_TO_BYTE = {char: byte for byte, char in _BYTE_TO_CHAR.items()}
