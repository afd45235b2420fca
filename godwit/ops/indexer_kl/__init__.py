"""The lightning indexer's loss: how far its scores are from the attention they stand for.

    p_l[t, s] = 1/N sum_n softmax_s(scale q_l[t, n] . k_l[s, g(n)])      attention of layer l, heads summed, L1 norm 1
    I[t, s]   = sum_j w[t, j] ReLU(q[t, j] . k[s]),   q[t, .] = softmax_s(I[t, .])                          the student
    multi:  L = sum_t 1/M sum_l KL(p_l[t] || q[t])                       IndexCache (arXiv 2603.12201), equation 1
    mean:   L = sum_t KL(1/M sum_l p_l[t] || q[t])                       equation 2

Both have the same gradient, d L / d I = q - mean_l p_l; their values differ by the mean of KL(p_l || mean p), which no
parameter of the student changes. One teacher is plain DSA (DeepSeek-V3.2, arXiv 2512.02556). The softmaxes run over
s <= t in t's document (warm-up), or over the selected positions only (sparse stage). Teachers get no gradient.

Letters: T tokens, H index heads, A index width, N query heads, G key-value heads (G divides N), E head width,
K selected positions, M teachers.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.backends import Op
from godwit.ops.context import AttnContext

_OP = Op(__name__, order=("triton", "compiled", "chunked", "reference"))

Form = Literal["multi", "mean"]


class Teacher(NamedTuple):
    """Rotated queries `(T, N, E)` and keys `(T, G, E)` of a layer's attention, and the scale of their products."""

    q_TNE: Tensor
    k_TGE: Tensor
    scale: float


class IndexerKL(NamedTuple):
    """The loss and what is looked at beside it.

    Attributes:
        loss: sum over tokens; the only part with a gradient.
        kl_T: each token's share of it.
        mass_T: attention the teachers give to `measure_TK`, from 0 to 1; None if that was not given.
    """

    loss: Tensor
    kl_T: Tensor
    mass_T: Tensor | None


def indexer_kl(
    teachers: Sequence[Teacher],
    q_THA: Tensor,
    k_TA: Tensor,
    w_TH: Tensor,
    context: AttnContext,
    *,
    index_TK: Tensor | None = None,
    form: Form = "multi",
    measure_TK: Tensor | None = None,
) -> IndexerKL:
    """The loss of one indexer, differentiable in `q_THA`, `k_TA` and `w_TH`, in float32 or wider.

    Args:
        teachers: the layers whose attention the indexer serves.
        q_THA: index queries.
        k_TA: index keys.
        w_TH: head weights, both scales in them.
        context: document borders.
        index_TK: flat positions over which both distributions run, -1 for empty; None is all that are visible.
        form: see above.
        measure_TK: positions whose attention mass is wanted, as `index_topk` gives them. Not together with `index_TK`:
            mass on a part is told from the whole only.

    Raises:
        GodwitError: no teacher, or shapes that do not fit each other.
    """
    _check(teachers, q_THA, k_TA, w_TH, context)
    _check_positions(index_TK, context)
    assert index_TK is None or measure_TK is None, "mass is measured against all visible positions"
    return _OP(tuple(teachers), q_THA, k_TA, w_TH, context, index_TK=index_TK, form=form, measure_TK=measure_TK)


def _check_positions(index_TK: Tensor | None, context: AttnContext) -> None:
    if index_TK is not None and (index_TK.ndim != 2 or len(index_TK) != context.num_tokens or index_TK.shape[1] < 1):
        raise GodwitError(
            f"positions must be (T, K), of at least one column, for {context.num_tokens} tokens; "
            f"got {tuple(index_TK.shape)}"
        )


def _check(teachers: Sequence[Teacher], q_THA: Tensor, k_TA: Tensor, w_TH: Tensor, context: AttnContext) -> None:
    if not teachers:
        raise GodwitError("an indexer needs at least one teacher layer to learn from")
    num_tokens, num_heads, width = q_THA.shape
    found = (num_tokens, tuple(k_TA.shape), tuple(w_TH.shape))
    if found != (context.num_tokens, (context.num_tokens, width), (context.num_tokens, num_heads)):
        raise GodwitError(
            f"index queries {tuple(q_THA.shape)}, keys {found[1]} and weights {found[2]} do not fit each other and "
            f"{context.num_tokens} tokens"
        )
    for teacher in teachers:
        q, k = tuple(teacher.q_TNE.shape), tuple(teacher.k_TGE.shape)
        if q[0] != num_tokens or k[0] != num_tokens or q[2] != k[2] or q[1] % k[1]:
            raise GodwitError(f"a teacher's queries {q} and keys {k} do not fit each other and {num_tokens} tokens")
