"""What every attention block takes and gives, so that the decoder need not know which kind it drives.

Letters: T tokens, D hidden, K selected positions, H query heads, G key-value heads, E value width.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from godwit.nn.cache import LayerExtension
from godwit.nn.rope import RopeTables
from godwit.ops.attention import attention
from godwit.ops.context import AttnContext
from godwit.ops.indexer_kl import Teacher


class Attend(Protocol):
    """Causal attention within documents, `(T, H, E)`, as `godwit.ops.attention.attention` computes it exactly."""

    def __call__(
        self, q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, context: AttnContext, *, scale: float
    ) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class AttnInput:
    """Everything about the batch that is the same for all layers.

    Attributes:
        context: document borders.
        rope: angle tables of the tokens.
        sparse: attend over selected positions; False is dense attention (short documents, dense stages).
        attend: computes dense attention; another function replaces it in all layers, e.g. SampleAttention.
        teach: hand out what indexers learn from (`AttnOutput.lesson`).
        cache: earlier tokens to attend to and where these are to be kept; positions are then rows of its pool.
    """

    context: AttnContext
    rope: RopeTables
    sparse: bool = False
    attend: Attend = attention
    teach: bool = False
    cache: LayerExtension | None = None


class IndexStates(NamedTuple):
    """What index scores are made of: H index heads of width A; `w_TH` carries both scales."""

    q_THA: Tensor
    k_TA: Tensor
    w_TH: Tensor


class Lesson(NamedTuple):
    """One layer's part in teaching indexers: its attention, without gradient, and its own indexer's states, if any."""

    teacher: Teacher
    states: IndexStates | None


class AttnOutput(NamedTuple):
    """Block output `(T, D)`, under sparse attention the positions attended to, int32 `(T, K)`, and the lesson."""

    out_TD: Tensor
    index_TK: Tensor | None
    lesson: Lesson | None = None
