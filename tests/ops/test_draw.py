"""The draw: compiled passes against the sorting definition, and the definition against plain Python."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops.backends import use
from godwit.ops.draw import Cuts, draw
from godwit.ops.draw.compiled import MANY

KINDS = ["normal", "flat", "peaked", "ties", "mostly zero"]
CUTS = [
    (1.0, 0, 0.0), (0.95, 0, 0.0), (0.3, 0, 0.0), (1e-12, 0, 0.0), (0.999999, 0, 0.0), (1.0, 1, 0.0), (1.0, 7, 0.0),
    (1.0, 10**6, 0.0), (1.0, 0, 0.05), (1.0, 0, 1.0), (0.8, 20, 0.0), (0.8, 20, 0.02), (0.5, 3, 1e-9),
]  # fmt: skip


def relative(kind: str, rows: int, vocab: int, seed: int = 0) -> torch.Tensor:
    """Probabilities relative to the likeliest."""
    generator = torch.Generator().manual_seed(seed)
    z_BV = torch.randn(rows, vocab, generator=generator, dtype=torch.float64)
    z_BV *= {"normal": 3, "flat": 0.01, "peaked": 60, "ties": 1.5, "mostly zero": 1}[kind]
    if kind == "ties":
        z_BV = z_BV.round()
    if kind == "mostly zero":
        z_BV[torch.rand(z_BV.shape, generator=generator) < 0.9] = -torch.inf
        z_BV[:, vocab // 2] = 0
    return (z_BV - z_BV.amax(dim=-1, keepdim=True)).exp()


def uniform(rows: int) -> torch.Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def alike(rows: int, top_p: float, top_k: int, min_p: float) -> Cuts:
    floats = [torch.full((rows,), value, dtype=torch.float64) for value in (top_p, min_p)]
    return Cuts(floats[0], torch.full((rows,), top_k), floats[1])


def drawn(backend: str, p_BV: torch.Tensor, u_B: torch.Tensor, cuts: Cuts) -> list[int]:
    with use(draw=backend):
        return draw(p_BV, u_B, cuts).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", CUTS)
def test_compiled_draws_what_the_reference_draws(kind: str, cut: tuple[float, int, float]) -> None:
    rows, vocab = 40, 333
    p_BV, u_B, cuts = relative(kind, rows, vocab), uniform(rows), alike(rows, *cut)
    # Both ends: the first kept token and the last.
    u_B[0], u_B[1] = 0.0, 1 - 2**-53
    assert drawn("compiled", p_BV, u_B, cuts) == drawn("reference", p_BV, u_B, cuts)


def test_threads_and_neighbours_change_nothing() -> None:
    rows, vocab = len(CUTS), MANY // 10
    p_BV, u_B = relative("normal", rows, vocab), uniform(rows)
    top_p, top_k, min_p = zip(*CUTS, strict=True)
    real = torch.float64
    cuts = Cuts(torch.tensor(top_p, dtype=real), torch.tensor(top_k), torch.tensor(min_p, dtype=real))
    together = drawn("compiled", p_BV, u_B, cuts)
    assert p_BV.numel() > MANY > vocab, "together by threads, alone without"
    for row, token in enumerate(together):
        one = slice(row, row + 1)
        alone = [
            drawn(name, p_BV[one], u_B[one], Cuts(*(x_B[one] for x_B in cuts))) for name in ("compiled", "reference")
        ]
        assert alone == [[token], [token]]


def by_hand(p: list[float], u: float, top_p: float, top_k: int, min_p: float) -> int:
    order = sorted((i for i in range(len(p)) if p[i] >= min_p and p[i] > 0), key=lambda i: (-p[i], i))
    order = order[: top_k or None]
    kept, held, whole = set(), 0.0, sum(p[i] for i in order)
    for i in order:
        if held < top_p * whole:
            kept.add(i)
        held += p[i]
    target, held = u * sum(p[i] for i in kept), 0.0
    for i in sorted(kept):
        held += p[i]
        if held > target:
            return i
    return max(kept)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_draws_follow_their_definition(backend: str) -> None:
    for kind in KINDS:
        p_BV, u_B = relative(kind, 30, 50, seed=5), uniform(30)
        for cut in CUTS:
            expected = [by_hand(p_V, u, *cut) for p_V, u in zip(p_BV.tolist(), u_B.tolist(), strict=True)]
            assert drawn(backend, p_BV, u_B, alike(30, *cut)) == expected, (kind, cut)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_of_equals_the_lower_ids_are_kept(backend: str) -> None:
    p_BV = torch.ones(64, 9, dtype=torch.float64)
    p_BV[:, 0] = 0.5
    u_B = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    assert set(drawn(backend, p_BV, u_B, alike(64, 1.0, 3, 0.0))) == {1, 2, 3}
    # 8.5 in all: 0.45 of it is held by four.
    assert set(drawn(backend, p_BV, u_B, alike(64, 0.45, 0, 0.0))) == {1, 2, 3, 4}


def test_narrow_probabilities_are_refused() -> None:
    with pytest.raises(GodwitError, match="float32"):
        draw(torch.ones(1, 4), uniform(1), alike(1, 1.0, 0, 0.0))
