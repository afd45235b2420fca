"""What a search found: the order in which layers give up their indexer and the loss after each, hence every ratio.

Plans of one search are nested: the plan that keeps 3 indexers is the one that keeps 4 with one more layer flipped. So
the order and the losses are the whole result, and `plan_at` cuts it anywhere. Only at its end it may be refined.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from godwit.base.config import from_json, to_json
from godwit.base.errors import GodwitError
from godwit.base.files import read_json, write_json
from godwit.nn.share_plan import SharePlan

FILE_NAME = "search.json"


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What the search cost, in runs of one layer over one row: a count, so it is the same on every machine.

    Attributes:
        layer_evaluations: layers that ran.
        naive_layer_evaluations: what whole forward passes for every plan of Algorithm 1 would have run.
        plan_evaluations: plans whose loss was taken.
        naive_plan_evaluations: plans that Algorithm 1 takes the loss of for as many flips.
        lazy_steps_checked: steps in which the lazy choice was compared with the full one.
        lazy_steps_agreed: how many of them agreed.
        refine_plan_evaluations: plans tried by moves behind the search, beside those above.
    """

    layer_evaluations: int
    naive_layer_evaluations: int
    plan_evaluations: int
    naive_plan_evaluations: int
    lazy_steps_checked: int = 0
    lazy_steps_agreed: int = 0
    refine_plan_evaluations: int = 0


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Another way to choose a plan with as many F layers, and its loss on the same tokens.

    Attributes:
        name: "uniform", "similarity" or "random", or "refined"; "searched" stands beside them in tables only.
        num_full: F layers of the plan.
        pattern: the plan, e.g. "FSSSFSSS".
        loss: nats per counted token.
    """

    name: str
    num_full: int
    pattern: str
    loss: float


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The outcome of `godwit.indexcache.search`.

    Attributes:
        model: what was searched, as the user named it.
        num_layers: layers of the model.
        topk: positions each query keeps (`index_topk`).
        objective: which tokens count: "all", or "long" (those that need the long context).
        num_tokens: calibration tokens.
        num_counted: tokens whose loss counts.
        seq_len: tokens in the longest calibration row.
        start: the plan the search began with, all F unless the checkpoint has shared layers already.
        full_loss: nats per counted token under `start`.
        order: 0-based layers in the order they give up their indexer.
        losses: nats per counted token after each flip; as long as `order`.
        pinned: layers that are never flipped: 0 and the first of each pipeline stage.
        method: "greedy", "lazy" or "blocks".
        counters: the work.
        baselines: other plans beside the searched ones.
        refined: what moves made of the best plan with as few indexers as the search went to; None if not asked for.
    """

    model: str
    num_layers: int
    topk: int
    objective: str
    num_tokens: int
    num_counted: int
    seq_len: int
    start: str
    full_loss: float
    order: tuple[int, ...]
    losses: tuple[float, ...]
    pinned: tuple[int, ...]
    method: str
    counters: Counters
    baselines: tuple[Baseline, ...] = ()
    refined: Baseline | None = None

    def __post_init__(self) -> None:
        start = SharePlan.parse(self.start, self.num_layers)
        fine = len(set(self.order)) == len(self.order) == len(self.losses)
        fine = fine and all(0 < layer < self.num_layers and start.is_full(layer) for layer in self.order)
        if not fine or set(self.order) & set(self.pinned):
            raise GodwitError(
                f"a search result's order {list(self.order)} must name F layers of {self.start} that are not pinned, "
                f"once each, with one loss each ({len(self.losses)}); run godwit indexcache search again"
            )

    @property
    def plan(self) -> SharePlan:
        """The plan with the fewest indexers: the refined one, or that after all flips."""
        return self.plan_at(self.start.count("F") - len(self.order))

    @property
    def path(self) -> tuple[SharePlan, ...]:
        """The plans after no flip, one, and so on to the last, or to what moves made of the last."""
        plans = [self.plan_after(num_flips) for num_flips in range(len(self.order))]
        return (*plans, self.plan)

    def plan_after(self, num_flips: int) -> SharePlan:
        """The plan after the first `num_flips` flips."""
        shared = set(self.order[:num_flips])
        return SharePlan("".join("S" if layer in shared else letter for layer, letter in enumerate(self.start)))

    def loss_after(self, num_flips: int) -> float:
        """Nats per counted token under `plan_after(num_flips)`."""
        return self.losses[num_flips - 1] if num_flips else self.full_loss

    def num_flips_at(self, keep: float | int) -> int:
        """How many flips lead to `keep` (a fraction of the layers, or a count of F layers)."""
        wanted = num_kept(keep, self.num_layers)
        num_flips = self.start.count("F") - wanted
        if not 0 <= num_flips <= len(self.order):
            least, most = self.start.count("F") - len(self.order), self.start.count("F")
            raise GodwitError(
                f"keep {keep} is {wanted} of {self.num_layers} layers and this search reaches from {least} to {most}; "
                f"search again with --keep {wanted}"
            )
        return num_flips

    def plan_at(self, keep: float | int) -> SharePlan:
        """The plan that keeps this fraction of the layers (rounded up), or this many, with indexers of their own."""
        refined, num_flips = self._refined_at(keep), self.num_flips_at(keep)
        return self.plan_after(num_flips) if refined is None else SharePlan.parse(refined.pattern, self.num_layers)

    def loss_at(self, keep: float | int) -> float:
        """Nats per counted token under `plan_at(keep)`."""
        refined, num_flips = self._refined_at(keep), self.num_flips_at(keep)
        return self.loss_after(num_flips) if refined is None else refined.loss

    def _refined_at(self, keep: float | int) -> Baseline | None:
        return self.refined if self.num_flips_at(keep) == len(self.order) else None

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` reads them."""
        return to_json(self)

    @classmethod
    def from_json(cls, data: Any, where: str = FILE_NAME) -> "SearchResult":
        """The inverse of `to_json`; faults raise `GodwitError` with their place below `where`."""
        return from_json(cls, data, where)

    def save(self, folder: str | Path) -> Path:
        """Write `search.json` into a folder."""
        path = Path(folder) / FILE_NAME
        write_json(path, self.to_json())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "SearchResult":
        """Read `search.json`, or the one in a folder."""
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        if not path.exists():
            raise GodwitError(f"no search result {path}; make one with godwit indexcache search MODEL")
        return cls.from_json(read_json(path), str(path))


def num_kept(keep: float | int, num_layers: int) -> int:
    """F layers that `keep` asks for: a whole number as it is, a fraction of the layers rounded up (1/4 of 47: 12).

    Raises:
        GodwitError: nothing kept, or more than there is.
    """
    count = keep if isinstance(keep, int) else math.ceil(keep * num_layers - 1e-9)
    if not 1 <= count <= num_layers or (not isinstance(keep, int) and not 0 < keep <= 1):
        raise GodwitError(
            f"keep is {keep}; give a fraction of the layers such as 1/4, or a number of layers from 1 to {num_layers}"
        )
    return count


def parse_keep(text: str) -> float | int:
    """ "1/4" or "0.25" is a fraction, "12" a number of layers."""
    try:
        if "/" in text:
            over, _, under = text.partition("/")
            return int(over) / int(under)
        return float(text) if "." in text else int(text)
    except (ValueError, ZeroDivisionError) as error:
        raise GodwitError(f"keep is {text!r}; give a fraction such as 1/4 or 0.25, or a number of layers") from error
