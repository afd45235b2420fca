"""The training-free search (IndexCache, arXiv 2603.12201, algorithm 1): which layers give up their indexer, in order.

    c = F...F;  repeat: for every candidate l  loss_l = LM loss of the model under c with c_l := S;
                        c_l* := S for the l* with the least loss (the lower layer of equals)

Every loss is of the true model under the tentative plan, on the same rows. Three ways to spend less than N^2 / 2
forward passes: layers that plans have in common run once (`godwit.indexcache.walk`; the answer is the same to the
bit); `blocks=P` commits the best flip of each of P blocks of layers at once, as the paper describes for pipelines;
`lazy` takes a candidate's last known cost as what it costs at least, and asks again only those that could still win
(costs tend to grow as layers flip; where one fell, the choice can differ from the full search: `check_lazy` counts).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from godwit.base.errors import GodwitError
from godwit.base.progress import Progress
from godwit.dist.world import World
from godwit.indexcache.baselines import baseline_plans, compared_ratios, similarity
from godwit.indexcache.calibration import Calibration
from godwit.indexcache.engine import Engine
from godwit.indexcache.journal import FILE_NAME, Journal, Record
from godwit.indexcache.objective import counted_rows
from godwit.indexcache.options import SearchOptions
from godwit.indexcache.refine import Refined, refine
from godwit.indexcache.result import Baseline, Counters, SearchResult, num_kept
from godwit.indexcache.runner import Runner


@dataclass
class Tally:
    """What Algorithm 1 would have cost, what candidates cost when last asked, how often the lazy choice was right."""

    naive_plans: int = 0
    checked: int = 0
    agreed: int = 0
    last_cost: dict[int, float] = field(default_factory=dict)
    largest_fall: float = 0.0


class Search:
    """One search at work.

    Args:
        engine: the model, entered.
        calibration: rows, not yet fitted to the engine.
        options: how.
        folder: where the journal is; None keeps it in memory.
        world: the processes.
    """

    def __init__(
        self, engine: Engine, calibration: Calibration, options: SearchOptions, *, folder: Path | None, world: World
    ):
        self.engine, self.options, self.world = engine, options, world
        self.start = str(engine.plan)
        self.blocks = _blocks(self.start, options)
        self.pinned = tuple(sorted({*options.stage_starts, *(block[0] for block in self.blocks)}))
        self.candidates = [n for n, letter in enumerate(self.start) if letter == "F" and n not in self.pinned]
        self.num_flips = self._num_flips()
        rows = engine.rows(calibration.rows, least=engine.topk)
        Calibration(rows=rows).check(topk=engine.topk, vocab_size=engine.vocab_size)
        rows = counted_rows(engine, rows, objective=options.objective, world=world)
        self.calibration = Calibration(rows=rows, source=calibration.source)
        self.journal = Journal(None if folder is None else folder / FILE_NAME, world=world)
        self.tally = Tally()

    def _num_flips(self) -> int:
        kept, num_full = num_kept(self.options.keep, self.engine.num_layers), self.start.count("F")
        if kept >= num_full:
            raise GodwitError(
                f"keep {self.options.keep} is {kept} indexers and the model has {num_full}, so there is nothing to "
                f"search; give less than {num_full}"
            )
        if num_full - kept > len(self.candidates):
            raise GodwitError(
                f"keep {self.options.keep} is {kept} indexers, and layers {list(self.pinned)} are never flipped (the "
                f"first of the model and of each stage or block); give at least {num_full - len(self.candidates)}"
            )
        return num_full - kept

    def run(self) -> SearchResult:
        """All flips, then the baselines, then the moves."""
        options, calibration = self.options, self.calibration
        self.journal.begin(self._settings())
        expected = self._expected()
        total = None if expected is None else expected * len(calibration.rows)
        with Progress(total, what="searching", unit="row losses", silent=not self.world.is_first) as progress:
            runner = Runner(
                self.engine,
                calibration.rows,
                journal=self.journal,
                world=self.world,
                candidates=self.candidates,
                memory=options.memory,
                progress=progress,
            )
            (full_loss,) = runner.losses([self.start])
            if self.journal.num_replayed > 1:
                runner.check_same_model(self.start, self.journal.record(1)["sums"][0])
            order, losses = self._flips(runner, full_loss, progress)
            counters = self._counters(runner)
            baselines = self._baselines(runner)
            refined = self._refined(runner, flip(self.start, *order), losses[-1], baselines, progress)
            if refined is not None:
                counters = replace(counters, refine_plan_evaluations=refined.num_plans)
        return SearchResult(
            model=self.engine.name,
            num_layers=self.engine.num_layers,
            topk=self.engine.topk,
            objective=options.objective,
            num_tokens=calibration.num_tokens,
            num_counted=calibration.num_counted,
            seq_len=calibration.seq_len,
            start=self.start,
            full_loss=full_loss,
            order=tuple(order),
            losses=tuple(losses),
            pinned=self.pinned,
            method=options.method,
            counters=counters,
            baselines=baselines,
            refined=None if refined is None else refined.plan,
        )

    def _settings(self) -> dict[str, Any]:
        """What the journal's numbers depend on; `memory` changes none."""
        options, calibration = self.options, self.calibration
        return {
            "version": 1,
            "start": self.start,
            "topk": self.engine.topk,
            "flips": self.num_flips,
            "pinned": list(self.pinned),
            "method": options.method,
            "check_lazy": options.check_lazy,
            "objective": options.objective,
            "baselines": options.baselines,
            "seed": options.seed,
            "rows": len(calibration.rows),
            "tokens": calibration.num_tokens,
            "calibration": calibration.fingerprint,
        }

    def _expected(self) -> int | None:
        """Plans whose loss will be taken; the lazy search cannot know."""
        if self.options.lazy:
            return None
        total, left, flips = 1, len(self.candidates), self.num_flips
        while flips:
            together = min(len(self.blocks), flips)
            total += left + together - 1
            left, flips = left - together, flips - together
        kept = self.start.count("F") - self.num_flips
        return total + (3 * len(compared_ratios(len(self.start), kept)) if self._compares else 0)

    def _flips(self, runner: Runner, loss: float, progress: Progress) -> tuple[list[int], list[float]]:
        ask = self._ask_lazily if self.options.lazy else self._ask_all
        plan, order, losses = self.start, list[int](), list[float]()
        while len(order) < self.num_flips:
            left = [layer for layer in self.candidates if plan[layer] == "F"]
            found = ask(runner, plan, left, loss)
            flips = sorted(_best_of_each(self.blocks, found), key=lambda layer: (found[layer], layer))
            flips = flips[: self.num_flips - len(order)]
            together = [flip(plan, *flips[: n + 1]) for n in range(1, len(flips))]
            behind = [found[flips[0]], *(runner.losses(together) if together else [])]
            for layer, loss in zip(flips, behind, strict=True):
                self.tally.naive_plans += sum(plan[candidate] == "F" for candidate in self.candidates)
                plan = flip(plan, layer)
                order.append(layer)
                losses.append(loss)
                self.journal.settle({"kind": "flip", "layer": layer, "loss": loss})
                progress.note(f"flip {len(order)} of {self.num_flips}: layer {layer}, loss {loss:.5f}, {plan}")
            runner.settle(plan)
        return order, losses

    def _ask_all(self, runner: Runner, plan: str, left: list[int], loss: float) -> dict[int, float]:
        """Loss after each candidate's flip."""
        return dict(zip(left, runner.losses([flip(plan, layer) for layer in left]), strict=True))

    def _ask_lazily(self, runner: Runner, plan: str, left: list[int], loss: float) -> dict[int, float]:
        """The same for those that can still win, the cheapest at last sight first.

        A candidate is taken to cost now what it cost when it was last asked, less the largest fall of a cost from one
        asking to the next that this search has seen.
        """
        tally, found = self.tally, dict[int, float]()
        if not tally.last_cost:
            found = self._ask_all(runner, plan, left, loss)
            tally.last_cost = {layer: after - loss for layer, after in found.items()}
            return found
        for layer in sorted(left, key=lambda layer: (tally.last_cost[layer], layer)):
            least = tally.last_cost[layer] - tally.largest_fall
            if found and loss + least > min(found.values()):
                break
            (found[layer],) = runner.losses([flip(plan, layer)])
            cost = found[layer] - loss
            tally.largest_fall = max(tally.largest_fall, tally.last_cost[layer] - cost)
            tally.last_cost[layer] = cost
        if self.options.check_lazy:
            rest = [layer for layer in left if layer not in found]
            others = runner.losses([flip(plan, layer) for layer in rest], counted=False) if rest else []
            everything = found | dict(zip(rest, others, strict=True))
            tally.checked += 1
            tally.agreed += _best_of_each([left], everything) == _best_of_each([left], found)
        return found

    def _counters(self, runner: Runner) -> Counters:
        num_rows, num_layers = len(self.calibration.rows), self.engine.num_layers
        return Counters(
            layer_evaluations=runner.layer_evaluations,
            naive_layer_evaluations=self.tally.naive_plans * num_layers * num_rows,
            plan_evaluations=runner.plan_evaluations,
            naive_plan_evaluations=self.tally.naive_plans,
            lazy_steps_checked=self.tally.checked,
            lazy_steps_agreed=self.tally.agreed,
        )

    @property
    def _compares(self) -> bool:
        """Baselines need every indexer, and know no stages."""
        return self.options.baselines and "S" not in self.start and self.pinned == (0,)

    def _baselines(self, runner: Runner) -> tuple[Baseline, ...]:
        if not self._compares:
            return ()
        head: Record = {"kind": "similarity"}
        record = self.journal.replay(head)
        if record is None:
            own = similarity(self.engine, self.calibration.rows).tolist() if self.world.is_first else None
            record = {**head, "matrix": self.world.share(own)}
            self.journal.write([record])
        least = self.start.count("F") - self.num_flips
        plans = baseline_plans(record["matrix"], least=least, seed=self.options.seed)
        losses = runner.losses([pattern for _, _, pattern in plans], counted=False) if plans else []
        return tuple(
            Baseline(name=name, num_full=count, pattern=pattern, loss=loss)
            for (name, count, pattern), loss in zip(plans, losses, strict=True)
        )

    def _refined(
        self, runner: Runner, plan: str, loss: float, baselines: Sequence[Baseline], progress: Progress
    ) -> Refined | None:
        """Moves from the last plan of the search, or from a better one of its size."""
        if not self.options.refine:
            return None
        own = Baseline(name="searched", num_full=plan.count("F"), pattern=plan, loss=loss)
        known = [own, *(each for each in baselines if each.num_full == own.num_full)]

        def ask(plans: Sequence[str]) -> list[float]:
            if progress.total is not None:
                progress.total += len(plans) * len(self.calibration.rows)
            return runner.losses(plans, counted=False)

        def moved(plan: str, loss: float) -> None:
            self.journal.settle({"kind": "move", "plan": plan, "loss": loss})
            progress.note(f"move: loss {loss:.5f}, {plan}")

        return refine(min(known, key=lambda each: each.loss), self.candidates, ask=ask, moved=moved)


def flip(plan: str, *layers: int) -> str:
    """The plan with these layers S."""
    return "".join("S" if layer in layers else letter for layer, letter in enumerate(plan))


def _best_of_each(blocks: Sequence[Sequence[int]], losses: dict[int, float]) -> list[int]:
    """In each block the layer with the least loss, the lower of equals; blocks without any are passed over."""
    asked = [[layer for layer in block if layer in losses] for block in blocks]
    return [min(layers, key=lambda layer: (losses[layer], layer)) for layers in asked if layers]


def _blocks(start: str, options: SearchOptions) -> list[range]:
    """Layers in `options.blocks` parts: stages where they are given in that number, else parts of equal size.

    One block holds all layers, whatever stages there are.
    """
    num_layers = len(start)
    for layer in options.stage_starts:
        if not 0 <= layer < num_layers or start[layer] != "F":
            raise GodwitError(
                f"stage start {layer} must be a layer with an indexer, 0 to {num_layers - 1}, in a model of {start}; "
                "a stage that began with S would have nothing handed to it"
            )
    if options.blocks > num_layers:
        raise GodwitError(f"blocks is {options.blocks}; the model has {num_layers} layers")
    begins = sorted({0, *options.stage_starts})
    if options.blocks == 1:
        begins = [0]
    elif len(begins) != options.blocks:
        if options.stage_starts:
            raise GodwitError(
                f"{options.blocks} blocks and stages that start at {begins}; give --blocks {len(begins)} or "
                "leave one out"
            )
        begins = [num_layers * block // options.blocks for block in range(options.blocks)]
    wrong = [layer for layer in begins if start[layer] != "F"]
    if wrong:
        raise GodwitError(
            f"a block would begin at layer {wrong[0]}, which has no indexer in {start}; use --stage-starts"
        )
    return [range(begin, end) for begin, end in zip(begins, [*begins[1:], num_layers])]
