"""Calibration text: fixed rows of tokens on which all plans are compared.

Rows are single documents, or documents packed behind each other that do not see each other. A document that is not
longer than `index_topk` is attended to whole: there sharing changes nothing, so a row without a longer one is refused.

Letters: T tokens of a row, S documents + 1.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.data.batch import IGNORED_LABEL
from godwit.ops.context import AttnContext

if TYPE_CHECKING:
    from godwit.data.prepared import Prepared

# Rows looked at before it is said that there are too few long documents.
MOST_DRAWS = 20_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One row: int64 tokens (T,), labels (T,) with -100 where no loss counts, and the documents' borders."""

    tokens_T: Tensor
    labels_T: Tensor
    context: AttnContext

    @classmethod
    def of(cls, tokens_T: Tensor, cu_seqlens_S: Tensor | None = None) -> "Row":
        """A row whose every next token of the same document counts."""
        if tokens_T.ndim != 1 or tokens_T.dtype not in (torch.int64, torch.int32):
            raise GodwitError(
                f"a calibration row is a flat integer tensor of token ids (T,), got {tokens_T.dtype} "
                f"{tuple(tokens_T.shape)}"
            )
        tokens_T = tokens_T.long().cpu()
        if cu_seqlens_S is None:
            context = AttnContext.single(len(tokens_T))
        else:
            context = AttnContext.from_cu_seqlens(cu_seqlens_S, "cpu")
        if context.num_tokens != len(tokens_T):
            raise GodwitError(f"cu_seqlens ends at {context.num_tokens} and the row has {len(tokens_T)} tokens")
        labels_T = torch.full_like(tokens_T, IGNORED_LABEL)
        for start, end in context.bounds:
            labels_T[start : end - 1] = tokens_T[start + 1 : end]
        return cls(tokens_T=tokens_T, labels_T=labels_T, context=context)

    def with_labels(self, labels_T: Tensor) -> "Row":
        """The same tokens with other labels."""
        return Row(tokens_T=self.tokens_T, labels_T=labels_T, context=self.context)

    @property
    def num_counted(self) -> int:
        """Tokens whose loss counts."""
        return int((self.labels_T != IGNORED_LABEL).sum())

    @property
    def documents(self) -> "list[Row]":
        """Each document as a row of its own."""
        return [
            Row(
                tokens_T=self.tokens_T[start:end],
                labels_T=self.labels_T[start:end],
                context=AttnContext.single(end - start),
            )
            for start, end in self.context.bounds
        ]


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """Rows, and where they are from (for the record)."""

    rows: tuple[Row, ...]
    source: str = "given"

    @classmethod
    def of(cls, given: "Calibration | Tensor | Sequence[Tensor] | Sequence[Row]") -> "Calibration":
        """From token tensors (T,), one a row; rows; or a calibration."""
        if isinstance(given, Calibration):
            return given
        items = [given] if isinstance(given, Tensor) else list(given)
        if not items:
            raise GodwitError("no calibration rows; give token tensors (T,), or a Calibration made from --data sources")
        return cls(rows=tuple(item if isinstance(item, Row) else Row.of(item) for item in items))

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(len(row.tokens_T) for row in self.rows)

    @property
    def num_counted(self) -> int:
        """Tokens whose loss counts."""
        return sum(row.num_counted for row in self.rows)

    @property
    def seq_len(self) -> int:
        """Tokens of the longest row."""
        return max(len(row.tokens_T) for row in self.rows)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stand for every token, label and border."""
        digest = hashlib.blake2b(digest_size=8)
        for row in self.rows:
            digest.update(repr(row.context.seqlens).encode())
            digest.update(row.tokens_T.numpy().tobytes())
            digest.update(row.labels_T.numpy().tobytes())
        return digest.hexdigest()

    def check(self, *, topk: int, vocab_size: int) -> None:
        """Refuse what would compare nothing.

        Raises:
            GodwitError: a row without a document longer than `topk`, a token outside the vocabulary, no token to
                take a loss of.
        """
        if not self.rows:
            raise GodwitError(
                f"no calibration document is longer than index_topk {topk}; give longer texts with --data"
            )
        for number, row in enumerate(self.rows):
            if row.context.max_seqlen <= topk:
                raise GodwitError(
                    f"calibration row {number} has no document longer than index_topk {topk} (its longest has "
                    f"{row.context.max_seqlen} tokens): everything is attended to there and sharing would be "
                    f"invisible; give longer texts, or --seq-len above {topk}"
                )
            low, high = int(row.tokens_T.min()), int(row.tokens_T.max())
            if low < 0 or high >= vocab_size:
                wrong = low if low < 0 else high
                raise GodwitError(
                    f"calibration row {number} has token {wrong}; this model's vocabulary is 0 to {vocab_size - 1}"
                )
        if not self.num_counted:
            raise GodwitError("no calibration token has a next one, so there is no loss to compare plans by")


def draw_rows(prepared: "Prepared", *, num_rows: int, seq_len: int, topk: int, single: bool, seed: int) -> Calibration:
    """Rows from prepared texts: held-out documents first, then others.

    Args:
        prepared: from `godwit.data.prepare`, tokenised for the model.
        num_rows, seq_len: how many rows, tokens in each.
        topk: rows without a document longer than this are passed over.
        single: only rows that are one document, or a part of one.
        seed: of the choice.
    """
    rows: list[Row] = []
    taken: dict[str, int] = {}
    for split in ("valid", "train"):
        if not prepared.num_tokens(split) or len(rows) == num_rows:
            continue
        before = len(rows)
        rows += _from_split(prepared, split, num_rows - before, seq_len=seq_len, topk=topk, single=single, seed=seed)
        taken[split] = len(rows) - before
    if len(rows) < num_rows:
        kind = "inside one document" if single else f"with a document longer than index_topk {topk}"
        raise GodwitError(
            f"the texts have {len(rows)} rows of {seq_len} tokens {kind}, {num_rows} are asked for; "
            "give a smaller --seq-len, fewer --rows, or longer texts with --data"
        )
    names = " ".join(source["spec"] for source in prepared.manifest["sources"])
    parts = ", ".join(f"{number} {split}" for split, number in taken.items())
    return Calibration(rows=tuple(rows), source=f"{names} (rows: {parts})")


def _from_split(
    prepared: "Prepared", split: str, num_rows: int, *, seq_len: int, topk: int, single: bool, seed: int
) -> list[Row]:
    from godwit.data.loader import Loader

    # Best fit keeps documents whole, and cuts long ones into full rows.
    loader = Loader(prepared, split=split, seq_len=seq_len, seed=seed, packing="best_fit")
    rows: list[Row] = []
    for _ in range(MOST_DRAWS):
        if len(rows) == num_rows or loader.epoch >= 1:
            break
        batch = loader.next(1)
        row = Row(
            tokens_T=batch.tokens_T,
            labels_T=batch.labels_T,
            context=AttnContext.from_cu_seqlens(batch.cu_seqlens_S),
        )
        if row.context.max_seqlen > topk and (not single or len(row.context.bounds) == 1):
            rows.append(row)
    return rows
