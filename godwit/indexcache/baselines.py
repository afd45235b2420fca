"""Other ways to choose a plan, to hold the searched one against: uniform, by similarity, at random.

Similarity (IndexCache appendix C, where it was no better than uniform): S[i, j] is the cosine between layer i's
attention output over its own positions and over layer j's, j < i, in the all-F model; the plan with k F layers of the
largest sum of S[i, f(i)] over its S layers is found exactly:

    best[i, k] = max_{j < i}  best[j, k - 1] + sum_{m = j + 1}^{i - 1} S[m, j],   i and j F

Letters: T tokens, N layers.
"""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from godwit.base.seeds import derive_seed
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import Engine
from godwit.indexcache.result import num_kept
from godwit.nn.share_plan import SharePlan

RATIOS = (2, 4, 8)
"""Baselines keep 1/2, 1/4 and 1/8 of the indexers, as the paper's tables do."""

# N^2 / 2 attention outputs a row are dear, and a mean over some thousand tokens is sharp.
SIMILARITY_ROWS = 2


def baseline_plans(similarity_NN: Sequence[Sequence[float]], *, least: int, seed: int) -> list[tuple[str, int, str]]:
    """(name, F layers, pattern) for each ratio that keeps at least `least` layers; equal patterns come once a name."""
    num_layers = len(similarity_NN)
    plans: list[tuple[str, int, str]] = []
    for ratio in compared_ratios(num_layers, least):
        count = num_kept(1 / ratio, num_layers)
        plans += [
            ("uniform", count, str(SharePlan.from_freq(num_layers, ratio, offset=1))),
            ("similarity", count, str(similar_plan(similarity_NN, count))),
            ("random", count, str(random_plan(num_layers, count, seed=seed))),
        ]
    return plans


def compared_ratios(num_layers: int, least: int) -> list[int]:
    """The ratios that keep at least `least` layers and less than all; of ratios that keep equally many the first."""
    counts: dict[int, int] = {}
    for ratio in RATIOS:
        counts.setdefault(num_kept(1 / ratio, num_layers), ratio)
    return [ratio for count, ratio in counts.items() if least <= count < num_layers]


def random_plan(num_layers: int, num_full: int, *, seed: int) -> SharePlan:
    """F at layer 0 and at places drawn from the others."""
    draw = random.Random(derive_seed(seed, "random plan", num_full))
    full = {0, *draw.sample(range(1, num_layers), num_full - 1)}
    return SharePlan("".join("F" if layer in full else "S" for layer in range(num_layers)))


def similar_plan(similarity_NN: Sequence[Sequence[float]], num_full: int) -> SharePlan:
    """The plan with the largest sum of similarities between S layers and the F layers they use; ties to the left."""
    num_layers = len(similarity_NN)
    # gain[j][i]: layers j + 1 ... i - 1 use layer j.
    gain = [
        [sum(similarity_NN[m][j] for m in range(j + 1, i)) for i in range(num_layers + 1)] for j in range(num_layers)
    ]
    best: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {(0, 1): (0.0, (0,))}
    for count in range(2, num_full + 1):
        for layer in range(count - 1, num_layers):
            options = [
                (best[before, count - 1][0] + gain[before][layer], best[before, count - 1][1])
                for before in range(count - 2, layer)
                if (before, count - 1) in best
            ]
            value, full = max(options, key=lambda option: option[0])
            best[layer, count] = (value, (*full, layer))
    ends = [
        (best[layer, num_full][0] + gain[layer][num_layers], best[layer, num_full][1])
        for layer in range(num_layers)
        if (layer, num_full) in best
    ]
    full = set(max(ends, key=lambda end: end[0])[1])
    return SharePlan("".join("F" if layer in full else "S" for layer in range(num_layers)))


@torch.inference_mode()
def similarity(engine: Engine, rows: Sequence[Row]) -> Tensor:
    """S (N, N) as above, 0 on and above the diagonal; the mean over tokens that choose among more than `topk`."""
    num_layers = engine.num_layers
    total_NN = torch.zeros(num_layers, num_layers, dtype=torch.float64)
    num_tokens = 0
    for row in rows[:SIMILARITY_ROWS]:
        run = engine.enter(row)
        state = run.first
        choosing_T = row.context.positions_T >= engine.topk
        handed: list[Tensor | None] = []
        for layer in range(num_layers):
            behind = run.step(layer, state, True)
            own_TE = run.core(layer, behind._replace(x_TD=state.x_TD))
            for earlier, index_TK in enumerate(handed):
                other_TE = run.core(layer, state._replace(index_TK=index_TK))
                cosine_T = F.cosine_similarity(own_TE.float(), other_TE.float(), dim=-1).flatten().cpu()
                total_NN[layer, earlier] += cosine_T[choosing_T].double().sum()
            handed.append(behind.index_TK)
            state = behind
        num_tokens += int(choosing_T.sum())
    return total_NN / num_tokens
