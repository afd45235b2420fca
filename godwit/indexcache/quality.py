"""What sharing loses: language-model loss and retrieval over a long context, of one model under several plans.

loss       mean over the counted tokens of rows that the search has not seen, nats per token
retrieval  share of right answers of `godwit.evals.retrieval`, facts at least 512 tokens back
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from godwit.base.config import from_json, to_json
from godwit.base.errors import GodwitError
from godwit.base.files import read_json, write_json
from godwit.data.recall import Task
from godwit.evals.retrieval import retrieval
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import head_losses
from godwit.indexcache.sides import DENSE, DSA
from godwit.models.decoder import Decoder
from godwit.nn.share_plan import SharePlan
from godwit.text.tokenizer import Tokenizer

FILE_NAME = "quality.json"
SEED = 1_000_003  # of the retrieval samples: not one that training tasks are drawn with


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


@dataclass(frozen=True, kw_only=True)
class Quality:
    """All sides, on the same tokens.

    Attributes:
        num_tokens: tokens that the losses are taken of.
        seq_len: tokens of a row and of a retrieval sample.
    """

    model: str
    num_tokens: int
    seq_len: int
    sides: tuple[SideQuality, ...]

    def side(self, name: str) -> SideQuality:
        """The side called `name`."""
        return next(each for each in self.sides if each.side == name)

    def save(self, folder: str | Path) -> Path:
        """Write `quality.json` into `folder`."""
        write_json(Path(folder) / FILE_NAME, to_json(self))
        return Path(folder) / FILE_NAME

    @classmethod
    def load(cls, folder: str | Path) -> "Quality":
        """Read what `save` wrote."""
        path = Path(folder) / FILE_NAME
        return from_json(cls, read_json(path), str(path))


def quality(
    model: Decoder,
    rows: Sequence[Row],
    *,
    name: str,
    plans: Mapping[str, SharePlan],
    tokenizer: Tokenizer,
    tasks: Sequence[Task] = ("needle", "multi_key"),
    num_samples: int = 8,
    on_step: Callable[[], None] = lambda: None,
) -> Quality:
    """Measure dense attention, plain DSA and `plans`.

    Args:
        model: a decoder with indexers, in eval mode.
        rows: text that no plan was chosen by.
        name: of the model, for the record.
        plans: by the name they are shown under.
        tokenizer: the model's.
        tasks, num_samples: retrieval, in samples as long as the longest row; 0 samples measures none.
        on_step: called after each row and each sample; there are `num_steps` of them.

    Raises:
        GodwitError: no row, or none whose loss counts.
    """
    seq_len = max((len(row.tokens_T) for row in rows), default=0)
    counted = sum(row.num_counted for row in rows)
    if not counted:
        raise GodwitError("there are no rows to take a loss of; give more texts with --data, or fewer --rows")
    own = model.config.plan
    assert own is not None, "the model has indexers"
    found = []
    for side, plan in ({DENSE: None, DSA: own} | dict(plans)).items():
        dense = side == DENSE
        losses = [_losses(model, row, plan, dense=dense, on_step=on_step) for row in rows]
        scores = {}
        for task in tasks if num_samples else ():
            score = retrieval(
                model,
                tokenizer,
                task=task,
                num_tokens=seq_len,
                num_samples=num_samples,
                seed=SEED,
                plan=plan,
                dense=dense,
                on_sample=on_step,
            )
            scores[str(task)] = Score(
                accuracy=score.accuracy, standard_error=score.standard_error, num_answers=score.num_answers
            )
        loss = float(torch.cat(losses).double().mean())
        found.append(SideQuality(side=side, pattern=plan.pattern if plan else "", loss=loss, scores=scores))
    return Quality(model=name, num_tokens=counted, seq_len=seq_len, sides=tuple(found))


def num_steps(num_rows: int, num_plans: int, *, num_tasks: int = 2, num_samples: int = 8) -> int:
    """How often `quality` calls `on_step`."""
    return (num_plans + 2) * (num_rows + num_tasks * num_samples)


@torch.inference_mode()
def _losses(
    model: Decoder, row: Row, plan: SharePlan | None, *, dense: bool, on_step: Callable[[], None]
) -> torch.Tensor:
    tokens_T = row.tokens_T.to(model.lm_head_weight.device)
    hidden_TD = model.features(tokens_T, row.context, plan=plan, dense=dense).hidden_TD
    on_step()
    return head_losses(hidden_TD, model.logits, row.labels_T)
