"""The draw: compiled passes against the sorting definition, and the definition against plain Python."""

import math

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops.backends import use
from godwit.ops.draw import Rows, draw
from godwit.ops.draw.compiled import MANY

KINDS = ["normal", "flat", "peaked", "ties", "mostly masked"]
BACKENDS = ["reference", "compiled"]
CUTS = [
    (1.0, 0, 0.0), (0.95, 0, 0.0), (0.3, 0, 0.0), (1e-12, 0, 0.0), (0.999999, 0, 0.0), (1.0, 1, 0.0), (1.0, 7, 0.0),
    (1.0, 10**6, 0.0), (1.0, 0, 0.05), (1.0, 0, 1.0), (0.8, 20, 0.0), (0.8, 20, 0.02), (0.5, 3, 1e-9),
]  # fmt: skip


def logits(kind: str, rows: int, vocab: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    z_BV = torch.randn(rows, vocab, generator=generator)
    z_BV *= {"normal": 3, "flat": 0.01, "peaked": 900, "ties": 1.5, "mostly masked": 1}[kind]
    if kind == "ties":
        z_BV = z_BV.round()
    if kind == "mostly masked":
        z_BV[torch.rand(z_BV.shape, generator=generator) < 0.9] = -torch.inf
        z_BV[:, vocab // 2] = 0
    return z_BV


def uniform(rows: int) -> torch.Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def alike(u_B: torch.Tensor, top_p: float = 1.0, top_k: int = 0, min_p: float = 0.0, temperature: float = 1.0) -> Rows:
    one_B = torch.ones_like(u_B)
    return Rows(one_B * temperature, u_B, one_B * top_p, torch.full(u_B.shape, top_k), one_B * min_p)


def drawn(backend: str, z_BV: torch.Tensor, rows: Rows) -> list[int]:
    with use(draw=backend):
        return draw(z_BV, rows).tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 7.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", CUTS)
def test_compiled_draws_what_the_reference_draws(kind: str, cut: tuple, temperature: float) -> None:
    z_BV, u_B = logits(kind, 40, 333), uniform(40)
    # Both ends: the first kept token and the last.
    u_B[0], u_B[1] = 0.0, 1 - 2**-53
    rows = alike(u_B, *cut, temperature)
    assert drawn("compiled", z_BV, rows) == drawn("reference", z_BV, rows)


def test_threads_and_neighbours_change_nothing() -> None:
    number, vocab = len(CUTS), MANY - 1
    z_BV, u_B = logits("normal", number, vocab), uniform(number)
    top_p, top_k, min_p = (torch.tensor(column) for column in zip(*CUTS, strict=True))
    rows = Rows(torch.linspace(0, 2, number).double(), u_B, top_p.double(), top_k, min_p.double())
    together = drawn("compiled", z_BV, rows)
    for at, token in enumerate(together):
        one = slice(at, at + 1)
        alone = [drawn(name, z_BV[one], Rows(*(x_B[one] for x_B in rows))) for name in ("compiled", "reference")]
        assert alone == [[token], [token]]


def by_hand(z: list[float], u: float, top_p: float, top_k: int, min_p: float) -> int:
    p = [math.exp(x - max(z)) for x in z]
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_follow_their_definition(backend: str) -> None:
    for kind in KINDS:
        z_BV, u_B = logits(kind, 30, 50, seed=5), uniform(30)
        for cut in CUTS:
            expected = [by_hand(z_V, u, *cut) for z_V, u in zip(z_BV.tolist(), u_B.tolist(), strict=True)]
            assert drawn(backend, z_BV, alike(u_B, *cut)) == expected, (kind, cut)


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equals_the_lower_ids_are_kept(backend: str) -> None:
    z_BV = torch.zeros(64, 9)
    z_BV[:, 0] = math.log(0.5)
    u_B = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    assert set(drawn(backend, z_BV, alike(u_B, top_k=3))) == {1, 2, 3}
    # 8.5 in all: 0.45 of it is held by four.
    assert set(drawn(backend, z_BV, alike(u_B, top_p=0.45))) == {1, 2, 3, 4}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_damaged_rows_are_told_and_the_others_drawn(backend: str, temperature: float) -> None:
    z_BV = torch.zeros(5, 7)
    z_BV[0, 3], z_BV[1, 4], z_BV[2], z_BV[3, :6] = torch.nan, torch.inf, -torch.inf, -torch.inf
    assert drawn(backend, z_BV, alike(torch.zeros(5, dtype=torch.float64), temperature=temperature)) == [
        -1,
        -1,
        -1,
        6,
        0,
    ]


def test_half_precision_is_drawn_by_the_reference() -> None:
    z_BV = logits("peaked", 3, 20).bfloat16()
    assert draw(z_BV, alike(uniform(3))).tolist() == z_BV.argmax(dim=1).tolist()
    with pytest.raises(GodwitError, match="bfloat16 is not float32"):
        drawn("compiled", z_BV, alike(uniform(3)))
