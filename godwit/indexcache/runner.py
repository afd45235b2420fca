"""Losses of plans on the calibration rows: with real reuse, each layer once for each beginning, over all processes.

Rows are shared out among the processes of `torchrun`; with more processes than rows, the plans of a row are too. A
row's loss is a float64 sum over its tokens and the total is a correctly rounded sum over rows, so the answer does not
depend on how the work was shared out, nor on which states were kept (`--memory`) and which were computed again.

Letters: T tokens, D hidden, K selected positions.
"""

import math
from collections.abc import Iterator, MutableMapping, Sequence

import torch

from godwit.base.errors import GodwitError
from godwit.base.progress import Progress
from godwit.dist.world import World
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import Engine, State
from godwit.indexcache.journal import Journal, Record
from godwit.indexcache.walk import prune, spacing_for, walk

# Positions of rows up to this length fit 16 bits, which halves what is kept of them.
SHORT_ROW = 32_767
# Another number of threads or another machine moves a loss by a millionth; other weights by far more than this.
SAME_LOSS = 1e-4


class Shelf(MutableMapping[str, State]):
    """One row's states by the beginning of a plan; "" is what the row begins with and is made anew each time."""

    def __init__(self) -> None:
        self.first: State | None = None
        self._packed: dict[str, State] = {}

    def __getitem__(self, prefix: str) -> State:
        if not prefix:
            assert self.first is not None, "a row is entered before it is walked"
            return self.first
        state = self._packed[prefix]
        narrow = state.index_TK is not None and state.index_TK.dtype == torch.int16
        return state._replace(index_TK=state.index_TK.int()) if narrow and state.index_TK is not None else state

    def __setitem__(self, prefix: str, state: State) -> None:
        index_TK = state.index_TK
        if index_TK is not None and index_TK.dtype == torch.int32 and index_TK.shape[-2] <= SHORT_ROW:
            state = state._replace(index_TK=index_TK.to(torch.int16))
        self._packed[prefix] = state

    def __delitem__(self, prefix: str) -> None:
        if prefix:
            del self._packed[prefix]

    def __contains__(self, prefix: object) -> bool:
        return prefix == "" or prefix in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


class Runner:
    """Takes losses of plans.

    Args:
        engine: the model, entered.
        rows: calibration rows.
        journal: where finished rows are recorded and, after a resume, found.
        world: the processes.
        candidates: layers that may flip, for sizing what is kept.
        memory: bytes of states to keep between plans and steps, all processes together; 0 keeps none.
        progress: advanced by one for each plan and row.

    Attributes:
        layer_evaluations: layers run so far, as the schedule has it: the same whether or not it was interrupted.
        plan_evaluations: plans whose loss was taken.
    """

    def __init__(
        self,
        engine: Engine,
        rows: Sequence[Row],
        *,
        journal: Journal,
        world: World,
        candidates: Sequence[int],
        memory: int,
        progress: Progress,
    ):
        self.engine = engine
        self.rows = tuple(rows)
        self.num_counted = sum(row.num_counted for row in rows)
        self.journal = journal
        self.world = world
        self.progress = progress
        self.layer_evaluations = 0
        self.plan_evaluations = 0
        self.spacing = spacing_for(
            str(engine.plan), candidates, state_bytes=self._state_bytes(), budget=memory // len(rows)
        )
        self._shelves = [Shelf() for _ in rows]
        self._ledger: dict[str, None] = {"": None}
        self._num_rounds = 0

    @torch.inference_mode()
    def _state_bytes(self) -> int:
        longest = max(self.rows, key=lambda row: len(row.tokens_T))
        num_tokens = len(longest.tokens_T)
        width = min(self.engine.topk, longest.context.max_seqlen)
        return self.engine.enter(longest).first.x_TD.nbytes + num_tokens * width * (2 if num_tokens <= SHORT_ROW else 4)

    def losses(self, plans: Sequence[str], *, counted: bool = True) -> list[float]:
        """Nats per counted token under each plan; all ranks get all of them.

        Args:
            counted: part of the search's work; what is not neither counts nor leaves states behind.
        """
        # Two ways to choose a plan may choose the same one.
        asked, plans = plans, list(dict.fromkeys(plans))
        number = self._num_rounds
        self._num_rounds += 1
        if counted:
            ran = walk(
                plans,
                self._ledger,
                step=lambda _layer, _state, _own: None,
                done=lambda _plan, _state: None,
                spacing=self.spacing,
            )
            self.layer_evaluations += ran * len(self.rows)
            self.plan_evaluations += len(plans)
        sums: list[list[float]] = []
        group = min(self.world.size, len(self.rows))
        for begin in range(0, len(self.rows), group):
            sums += self._group(number, range(begin, min(begin + group, len(self.rows))), plans, counted=counted)
        means = [math.fsum(column) / self.num_counted for column in zip(*sums, strict=True)]
        found = dict(zip(plans, means, strict=True))
        return [found[plan] for plan in asked]

    def _group(self, number: int, rows: range, plans: Sequence[str], *, counted: bool) -> list[list[float]]:
        """Sums of some rows: out of the journal, or computed side by side and then recorded."""
        heads: dict[int, Record] = {row: {"kind": "sums", "round": number, "row": row} for row in rows}
        found = {row: record for row in rows if (record := self.journal.replay(heads[row])) is not None}
        missing = [row for row in rows if row not in found]
        if missing:
            own = {row: self._row_sums(row, self._own_plans(row, plans), counted=counted) for row in missing}
            parts = self.world.gather(own)
            fresh = [
                heads[row] | {"sums": [sum_ for plan in plans for part in parts if (sum_ := part[row].get(plan))]}
                for row in missing
            ]
            self.journal.write(fresh)
            found |= dict(zip(missing, fresh, strict=True))
        self.progress.advance(len(rows) * len(plans))
        sums: list[list[float]] = []
        for row in rows:
            values = found[row].get("sums")
            whole = isinstance(values, list) and len(values) == len(plans)
            if not whole or not all(isinstance(value, float) for value in values):
                raise GodwitError(
                    f"the journal's sums of round {number}, row {row} are not {len(plans)} numbers: it is damaged; "
                    "delete that line and all behind it, and start again"
                )
            if not all(math.isfinite(value) for value in values):
                raise GodwitError("a loss is not finite (NaN or Inf); the model's weights are damaged or it diverged")
            sums.append(values)
        return sums

    def _own_plans(self, row: int, plans: Sequence[str]) -> list[str]:
        """This process's share of a row's plans: all or none of them while there are no more processes than rows."""
        shares = max(1, self.world.size // len(self.rows))
        ranks = [(row + len(self.rows) * (place % shares)) % self.world.size for place in range(len(plans))]
        return [plan for plan, rank in zip(plans, ranks, strict=True) if rank == self.world.rank]

    @torch.inference_mode()
    def _row_sums(self, row: int, plans: Sequence[str], *, counted: bool = True) -> dict[str, float]:
        """Summed loss of one row under each plan."""
        if not plans:
            return {}
        run, shelf = self.engine.enter(self.rows[row]), self._shelves[row]
        shelf.first = run.first
        sums: dict[str, float] = {}

        def done(plan: str, state: State) -> None:
            sums[plan] = float(run.losses(state).double().sum())

        walk(plans, shelf, step=run.step, done=done, spacing=self.spacing if counted else self.engine.num_layers)
        shelf.first = None
        return sums

    def settle(self, plan: str) -> None:
        """Say that all further plans are this one with more flips: states that lead nowhere are dropped."""
        prune(self._ledger, plan)
        for shelf in self._shelves:
            prune(shelf, plan)

    def check_same_model(self, plan: str, recorded: float) -> None:
        """Compare the loss of the first row with the journal's.

        Raises:
            GodwitError: they differ by more than arithmetic explains: the journal is of other weights.
        """
        found = self._row_sums(0, [plan], counted=False)[plan]
        if not abs(found - recorded) <= SAME_LOSS * abs(recorded):
            raise GodwitError(
                f"{self.journal.path} was begun with other weights (row 0 has a summed loss of {recorded:.6g} there "
                f"and {found:.6g} with this model); choose another --out or delete it"
            )
