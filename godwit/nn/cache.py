"""What earlier tokens leave behind for later ones, in pages: an explicit value, made by whoever extends sequences.

Each layer keeps rows of one pool, `PAGE` rows a page, the same pages in all layers:

* latent attention: one row (latent | rotated key) a token, key and value of all heads in one (`v_GNE` is None);
* grouped-query attention: rotated keys and values of its heads;
* layers that run their own indexer under the plan in force: index keys besides, float32, in tiles (B, W) as the
  index kernel reads them (`godwit.ops.index_topk_paged`). Layers that share store none.

Letters: S sequences, T new tokens, L tokens of all sequences laid flat, P pages, N = P x PAGE rows, G key-value heads
(1 for latents), A and E widths of rows, B index width in eights, W keys of a tile, M = N / W tiles, K positions.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.nn.pages import PAGE, Pages, Sequence
from godwit.nn.share_plan import SharePlan
from godwit.ops._finite import all_finite
from godwit.ops.context import AttnContext
from godwit.ops.index_topk_paged import tile_width

NOT_FINITE = "index keys hold NaN or Inf: damaged weights, or training diverged"


class LayerCache(NamedTuple):
    """One layer's pool: keys, values (None where they are part of the keys), tiles of index keys (None without)."""

    k_GNA: Tensor
    v_GNE: Tensor | None
    tiles_MBW: Tensor | None


class Cache:
    """Pages and what they hold. `Decoder.new_cache` makes one that fits its model.

    Args:
        layers: the layers' pools.
        num_pages: how many pages each has.
        plan: which layers keep index keys; None for models without indexers.
        mtp: the prediction layer's pool; None where nothing is drafted.
    """

    def __init__(
        self, layers: list[LayerCache], *, num_pages: int, plan: SharePlan | None, mtp: LayerCache | None = None
    ):
        self.layers = layers
        self.mtp = mtp
        self.plan = plan
        self.pages = Pages(num_pages)
        # What computes over it, where that is prepared once; `godwit.models.extend` keeps it here.
        self.step: object | None = None

    def open(self) -> Sequence:
        """A new, empty sequence."""
        return self.pages.open()

    def close(self, sequence: Sequence) -> None:
        """Forget a sequence; its pages are free for others."""
        self.pages.close(sequence)

    def truncate(self, sequence: Sequence, length: int) -> None:
        """Forget all but the first `length` tokens of a sequence."""
        self.pages.truncate(sequence, length)

    def fork(self, sequence: Sequence, length: int | None = None) -> Sequence:
        """A sequence that shares the full pages of another's beginning, see `Pages.fork`."""
        return self.pages.fork(sequence, length)

    def copy_rows(self, source: int, target: int, count: int) -> None:
        """Copy the first `count` rows of a page in every layer."""
        width = tile_width()
        for layer in self._all_layers:
            for pool_GNA in (layer.k_GNA, layer.v_GNE):
                if pool_GNA is not None:
                    pool_GNA[:, target * PAGE :][:, :count] = pool_GNA[:, source * PAGE :][:, :count]
            if layer.tiles_MBW is not None:
                first, tiles = PAGE // width, -(-count // width)
                layer.tiles_MBW[target * first :][:tiles] = layer.tiles_MBW[source * first :][:tiles]

    @property
    def _all_layers(self) -> list[LayerCache]:
        return self.layers if self.mtp is None else [*self.layers, self.mtp]

    @property
    def bytes_per_token(self) -> int:
        """Memory that one token takes over all layers."""
        kept = [tensor for layer in self._all_layers for tensor in layer if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept) // (self.pages.num_pages * PAGE)


@dataclass(frozen=True, eq=False)
class Extension:
    """New tokens of some sequences, and where they and what they see lie in the pool: the same for all layers.

    Attributes:
        context: the sequences with their new tokens.
        query_seqlens: how many of each are new.
        tables: the sequences' pages, int64, those in use.
    """

    context: AttnContext
    query_seqlens: tuple[int, ...]
    tables: tuple[Tensor, ...]

    @classmethod
    def of(cls, sequences: Many[Sequence], query_seqlens: tuple[int, ...], device: torch.device) -> "Extension":
        """For sequences that have room for their new tokens, and not yet the new length."""
        lengths = tuple(one.length + new for one, new in zip(sequences, query_seqlens, strict=True))
        used = [one.pages[: -(-length // PAGE)] for one, length in zip(sequences, lengths, strict=True)]
        tables = tuple(torch.tensor(pages, dtype=torch.int64, device=device) for pages in used)
        return cls(AttnContext(lengths, device), query_seqlens, tables)

    @cached_property
    def position_T(self) -> Tensor:
        """int64 (T,): position of each new token in its sequence."""
        ends = zip(self.context.seqlens, self.query_seqlens, strict=True)
        return torch.cat([torch.arange(end - new, end, device=self.context.device) for end, new in ends])

    @cached_property
    def row_L(self) -> Tensor:
        """int64 (L,): row of every token, in the order of `context`."""
        within_W = torch.arange(PAGE, device=self.context.device)
        parts = zip(self.tables, self.context.seqlens, strict=True)
        return torch.cat([(table.unsqueeze(1) * PAGE + within_W).flatten()[:end] for table, end in parts])

    @cached_property
    def row_T(self) -> Tensor:
        """int64 (T,): row of each new token."""
        rows = zip(self.row_L.split(self.context.seqlens), self.query_seqlens, strict=True)
        return torch.cat([row[row.shape[0] - new :] for row, new in rows])

    @cached_property
    def visible_TK(self) -> Tensor:
        """int32 (T, K): rows of all tokens each new one sees, itself last, -1 behind."""
        parts = []
        for row, end, new in zip(
            self.row_L.split(self.context.seqlens), self.context.seqlens, self.query_seqlens, strict=True
        ):
            place_K = torch.arange(self.context.max_seqlen, device=row.device)
            seen_QK = place_K <= torch.arange(end - new, end, device=row.device).unsqueeze(1)
            parts.append(torch.where(seen_QK, row[place_K.clamp(max=end - 1)], -1))
        return torch.cat(parts).to(torch.int32)

    def positions(self, rows_TK: Tensor) -> Tensor:
        """Positions in their sequence, int32 `(T, K)`, of the rows that new tokens attended to (-1 stays)."""
        found = [rows_TK[:0]]
        for table, rows_QK in zip(self.tables, rows_TK.split(self.query_seqlens), strict=True):
            number = torch.zeros(int(table.max()) + 1 if table.numel() else 1, dtype=torch.int32, device=table.device)
            number[table] = torch.arange(table.numel(), dtype=torch.int32, device=table.device)
            place_QK = number[rows_QK.clamp(min=0) // PAGE] * PAGE + rows_QK % PAGE
            found.append(torch.where(rows_QK < 0, -1, place_QK).to(torch.int32))
        return torch.cat(found)


class LayerExtension(NamedTuple):
    """An extension and one layer's pool."""

    extension: Extension
    layer: LayerCache

    def store(self, k_TGA: Tensor, v_TGE: Tensor | None) -> None:
        """Keep the new tokens' keys and values."""
        pools = self.layer
        pools.k_GNA.index_copy_(1, self.extension.row_T, k_TGA.transpose(0, 1).to(pools.k_GNA.dtype))
        if v_TGE is not None:
            assert pools.v_GNE is not None, "the pool was made for this kind of attention"
            pools.v_GNE.index_copy_(1, self.extension.row_T, v_TGE.transpose(0, 1).to(pools.v_GNE.dtype))

    def store_index_keys(self, k_TB: Tensor) -> None:
        """Keep the new tokens' index keys; a tile's rows behind their width are zeros already.

        Raises:
            GodwitError: NaN in the keys (on a CPU), which would take part in every later selection.
        """
        assert self.layer.tiles_MBW is not None, "the plan of the cache says that this layer shares"
        if k_TB.device.type == "cpu" and not all_finite(k_TB):
            raise GodwitError(NOT_FINITE)
        row_T = self.extension.row_T
        width = self.layer.tiles_MBW.shape[2]
        self.layer.tiles_MBW[row_T // width, : k_TB.shape[1], row_T % width] = k_TB.float()

    def gathered(self, pool_GNA: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows of all tokens, `(L, G, A)`, in the order of the extension's context."""
        return pool_GNA.index_select(1, self.extension.row_L).transpose(0, 1).to(dtype)


def empty_pool(like: Tensor, groups: int, num_rows: int, width: int) -> Tensor:
    """Room for rows `(G, N, A)`: in the dtype of `like`, on CPUs float32, which compiled loops read where it lies."""
    dtype = torch.float32 if like.device.type == "cpu" else like.dtype
    return torch.empty(groups, num_rows, width, dtype=dtype, device=like.device)


def empty_tiles(pool_GNA: Tensor, width: int) -> Tensor:
    """Room for index keys `(M, B, W)`, float32, of the rows of a pool; zeros, for keys narrower than B."""
    assert PAGE % tile_width() == 0, (PAGE, tile_width())
    shape = pool_GNA.shape[1] // tile_width(), width + -width % 8, tile_width()
    return torch.zeros(shape, device=pool_GNA.device)
