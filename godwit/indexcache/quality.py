"""What sharing loses: language-model loss and retrieval over a long context, of one model under several plans.

loss       mean over the counted tokens of rows that the search has not seen, nats per token
retrieval  share of right answers of `godwit.evals.retrieval`, facts at least 512 tokens back

The loss hardly tells where retrieval breaks: of all 55 plans that keep 3 of the bundled nano's 12 indexers two lose
0.69 % of it; one of them finds 90 % of the answers, the other 3.5 % (benchmarks/bench_plans.py). So both are taken all
along a search's order, whose plans have most layers in common; those run once for all of them.

Letters: T tokens, D hidden.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from godwit.base.config import from_json, to_json
from godwit.base.errors import GodwitError
from godwit.base.files import read_json, write_json
from godwit.data.recall import Task
from godwit.evals.retrieval import Retrieval, Sample, samples
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import Engine, State, head_losses
from godwit.indexcache.sides import DENSE, DSA
from godwit.indexcache.walk import walk
from godwit.nn.share_plan import SharePlan
from godwit.text.tokenizer import Tokenizer

FILE_NAME = "quality.json"
SEED = 1_000_003  # of the retrieval samples: not one that training tasks are drawn with
HARMLESS = "harmless"  # what the plan is called that loses next to nothing
TASKS: tuple[Task, ...] = ("needle", "multi_key")
# What a plan may lose and count as harmless: this share of the loss, and of the answers, mean over tasks.
HARMLESS_LOSS, HARMLESS_RETRIEVAL = 0.005, 0.02


@dataclass(frozen=True, kw_only=True)
class Score:
    """One retrieval task: share of right answers, its standard error, and of how many."""

    accuracy: float
    standard_error: float
    num_answers: int


@dataclass(frozen=True, kw_only=True)
class SideQuality:
    """One side; `pattern` is empty for dense attention."""

    side: str
    pattern: str
    loss: float
    scores: dict[str, Score]

    @property
    def num_full(self) -> int:
        """Indexers of the plan."""
        return self.pattern.count("F")

    @property
    def retrieval(self) -> float:
        """Mean over tasks; 1 if none was measured."""
        return fmean(score.accuracy for score in self.scores.values()) if self.scores else 1.0


@dataclass(frozen=True, kw_only=True)
class Quality:
    """All sides, on the same tokens.

    Attributes:
        num_tokens: tokens that the losses are taken of.
        seq_len: tokens of a row and of a retrieval sample.
        sides: dense attention, plain DSA, and the plans asked for.
        path: the plans of a search's order, from the most indexers to the fewest.
    """

    model: str
    num_tokens: int
    seq_len: int
    sides: tuple[SideQuality, ...]
    path: tuple[SideQuality, ...] = ()

    def side(self, name: str) -> SideQuality:
        """The side called `name`."""
        return next(each for each in self.sides if each.side == name)

    @property
    def harmless(self) -> SideQuality | None:
        """The plan furthest along the path up to which none loses more than the limits above; None without a path."""
        base, found = self.side(DSA), None
        for each in self.path:
            if each.loss > base.loss * (1 + HARMLESS_LOSS) or each.retrieval < base.retrieval - HARMLESS_RETRIEVAL:
                break
            found = each
        return found

    def harmless_beside(self, plan: SharePlan) -> SharePlan | None:
        """The harmless plan, if it keeps more indexers than `plan` and fewer than all; else None."""
        found = self.harmless
        if found is None or not plan.num_full < found.num_full < self.path[0].num_full:
            return None
        return SharePlan(found.pattern)

    def save(self, folder: str | Path) -> Path:
        """Write `quality.json` into `folder`."""
        write_json(Path(folder) / FILE_NAME, to_json(self))
        return Path(folder) / FILE_NAME

    @classmethod
    def load(cls, folder: str | Path) -> "Quality":
        """Read what `save` wrote."""
        path = Path(folder) / FILE_NAME
        return from_json(cls, read_json(path), str(path))


@dataclass
class _Found:
    """What one plan did: losses of each row, right answers of each sample of each task."""

    losses: list[Tensor] = field(default_factory=list)
    right: dict[Task, list[list[bool]]] = field(default_factory=dict)

    def score(self, task: Task, num_tokens: int) -> Score:
        of = Retrieval.of(task, num_tokens, self.right[task])
        return Score(accuracy=of.accuracy, standard_error=of.standard_error, num_answers=of.num_answers)


@torch.inference_mode()
def quality(
    engine: Engine,
    rows: Sequence[Row],
    *,
    plans: Mapping[str, SharePlan],
    tokenizer: Tokenizer,
    path: Sequence[SharePlan] = (),
    tasks: Sequence[Task] = TASKS,
    num_samples: int = 8,
    on_step: Callable[[], None] = lambda: None,
) -> Quality:
    """Measure dense attention (if the engine can), plain DSA, `plans`, and the plans along a search's order.

    Args:
        engine: the model.
        rows: text that no plan was chosen by.
        plans: by the name they are shown under.
        tokenizer: the model's.
        path: the plans of a search, from the most indexers to the fewest (`SearchResult.path`).
        tasks, num_samples: retrieval, in samples as long as the longest row; 0 samples measures none.
        on_step: called after each row and each sample under each plan; there are `num_steps` of them.

    Raises:
        GodwitError: no row, or none whose loss counts; a plan of another length, or that asks for an indexer which the
            model does not have; rows too short for a task.
    """
    # Before an engine takes packed rows apart.
    seq_len = max((len(row.tokens_T) for row in rows), default=0)
    rows = engine.rows(tuple(rows))
    counted = sum(row.num_counted for row in rows)
    if not counted:
        raise GodwitError("there are no rows to take a loss of; give more texts with --data, or fewer --rows")
    for plan in (*plans.values(), *path):
        _check(plan, engine.plan)
    named = {DENSE: "", DSA: engine.plan.pattern} | {side: plan.pattern for side, plan in plans.items()}
    along = [plan.pattern for plan in path]
    found = {pattern: _Found() for pattern in (*named.values(), *along)}
    # All of them now, so that a length too short for a task is found before anything ran.
    asked = {
        task: samples(tokenizer, task=task, num_tokens=seq_len, num_samples=num_samples, seed=SEED)
        for task in (tasks if num_samples else ())
    }

    def take_loss(row: Row, pattern: str, hidden_TD: Tensor) -> None:
        found[pattern].losses.append(head_losses(hidden_TD, engine.logits, row.labels_T))
        on_step()

    def take_answers(task: Task, sample: Sample, pattern: str, hidden_TD: Tensor) -> None:
        found[pattern].right.setdefault(task, []).append(sample.right(hidden_TD, engine.logits))
        on_step()

    with engine:
        for row in rows:
            _under_each(engine, row, list(found), partial(take_loss, row))
        for task, drawn in asked.items():
            for sample in drawn:
                row = Row.of(torch.tensor(sample.tokens))
                _under_each(engine, row, list(found), partial(take_answers, task, sample))
    if not found[""].losses:
        del named[DENSE]

    def side(name: str, pattern: str) -> SideQuality:
        scores = {str(task): found[pattern].score(task, seq_len) for task in asked}
        loss = float(torch.cat(found[pattern].losses).double().mean())
        return SideQuality(side=name, pattern=pattern, loss=loss, scores=scores)

    return Quality(
        model=engine.name,
        num_tokens=counted,
        seq_len=seq_len,
        sides=tuple(side(name, pattern) for name, pattern in named.items()),
        path=tuple(side(f"{pattern.count('F')} kept", pattern) for pattern in along),
    )


def _check(plan: SharePlan, own: SharePlan) -> None:
    """Refuse a plan that the model cannot run under."""
    SharePlan.parse(plan, len(own.pattern))
    missing = [layer for layer in range(len(own.pattern)) if plan.is_full(layer) and not own.is_full(layer)]
    if missing:
        raise GodwitError(
            f"the plan {plan} wants an indexer in layers {missing}, and the model ({own}) has none there; measure the "
            "model that it was cut from"
        )


def num_steps(
    num_rows: int,
    patterns: Sequence[str],
    *,
    num_tasks: int = len(TASKS),
    num_samples: int = 8,
    dense: bool = True,
) -> int:
    """How often `quality` calls `on_step` for these plans, the model's own among them, with dense attention or not."""
    return (len(set(patterns)) + dense) * (num_rows + num_tasks * num_samples)


def _under_each(engine: Engine, row: Row, patterns: Sequence[str], use: Callable[[str, Tensor], None]) -> None:
    """Hand what the head reads (T, D) to `use`, under dense attention ("") if there is such, then under each plan."""
    run = engine.enter(row)
    dense_TD = run.dense()
    if dense_TD is not None:
        use("", dense_TD)

    def done(pattern: str, state: State) -> None:
        use(pattern, run.hidden(state))

    plans = [pattern for pattern in patterns if pattern]
    walk(plans, {"": run.first}, step=run.step, done=done, spacing=engine.num_layers)
