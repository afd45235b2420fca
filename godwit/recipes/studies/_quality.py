"""How good a model is at what sparse attention may break: text beyond `index_topk`, and facts far back in it.

    loss        nats per token on held-out rows, each one document or a part of one
    recall      share of dense attention on what the indexers select, mean over layers; and of the worst layer
    retrieval   share of questions answered, by task (`godwit.evals.retrieval`)

A model is looked at as it runs: dense families attend to everything, the others over their selection. Recall is taken
from a dense pass of the same weights, so it is of this model's attention, not of the one it came from.

Letters: T tokens, L layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from godwit.data.config import DataConfig
from godwit.data.prepare import prepare
from godwit.data.recall import Task
from godwit.evals.retrieval import retrieval
from godwit.indexcache.calibration import Row, draw_rows
from godwit.indexcache.engine import head_losses
from godwit.models.decoder import Decoder
from godwit.models.weights import load
from godwit.nn.share_plan import SharePlan
from godwit.text.tokenizer import Tokenizer

HOLDOUT = 0.05
"""As in the small recipes: the hash of a text says whether it is held out, so these rows were never trained on."""


@dataclass(frozen=True, kw_only=True)
class Test:
    """What a model is tried on: rows of text, and how many retrieval questions of which length."""

    rows: Sequence[Row]
    tasks: tuple[Task, ...]
    num_tokens: int
    num_samples: int
    seed: int


def rows_of(
    sources: tuple[str, ...],
    tokenizer_folder: Path,
    folder: Path,
    *,
    num_rows: int,
    seq_len: int,
    seed: int,
    split: str = "valid",
) -> list[Row]:
    """Rows inside single documents of `sources`, held-out ones or ("train") others; prepared once under `folder`.

    Raises:
        GodwitError: there are too few so long ones.
    """
    config = DataConfig(sources=sources, tokenizer=str(tokenizer_folder), holdout=HOLDOUT)
    prepared = prepare(config, folder, seed=0)
    drawn = draw_rows(prepared, num_rows=num_rows, seq_len=seq_len, topk=1, single=True, seed=seed, splits=(split,))
    return list(drawn.rows)


def quality(folder: Path, test: Test, *, plan: SharePlan | None = None) -> dict[str, Any]:
    """Figures of the model in `folder`, under `plan` if one is given, as JSON values."""
    model = load(folder, dtype=torch.float32, plan=plan).eval()
    found: dict[str, Any] = {"loss": loss(model, test.rows)}
    if model.config.plan is not None:
        found["recall"] = recall(model, test.rows)
    tokenizer = Tokenizer.load(folder)
    found["retrieval"] = {
        task: retrieval(
            model, tokenizer, task=task, num_tokens=test.num_tokens, num_samples=test.num_samples, seed=test.seed
        ).accuracy
        for task in test.tasks
    }
    return found


@torch.inference_mode()
def loss(model: Decoder, rows: Sequence[Row]) -> float:
    """Nats per token."""
    total = 0.0
    for row in rows:
        hidden_TD = model.features(row.tokens_T, row.context).hidden_TD
        total += float(head_losses(hidden_TD, model.logits, row.labels_T).double().sum())
    return total / sum(row.num_counted for row in rows)


@torch.inference_mode()
def recall(model: Decoder, rows: Sequence[Row]) -> list[float]:
    """For each layer, the share of its dense attention on the positions its indexer selects, mean over tokens."""
    total_L = torch.zeros(model.config.num_hidden_layers, dtype=torch.float64)
    for row in rows:
        found = model.features(row.tokens_T, row.context, dense=True, teach=True, measure=True).index_losses
        assert found is not None and found.mass_L is not None, "teaching measures"
        total_L += found.mass_L.double()
    return (total_L / sum(len(row.tokens_T) for row in rows)).tolist()


def columns(found: Sequence[dict[str, Any]]) -> dict[str, tuple[float, ...]]:
    """Columns of a table from one model's figures over seeds."""
    values = {"loss": tuple(each["loss"] for each in found)}
    if "recall" in found[0]:
        values["recall"] = tuple(fmean(each["recall"]) for each in found)
        values["recall, worst layer"] = tuple(min(each["recall"]) for each in found)
    if found[0]["retrieval"]:
        values["retrieval"] = tuple(fmean(each["retrieval"].values()) for each in found)
        values |= {task: tuple(each["retrieval"][task] for each in found) for task in found[0]["retrieval"]}
    return values
