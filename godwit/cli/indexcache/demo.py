"""Everything at once: search a model's sharing plan, export it, measure what is gained and lost, write a page.

Examples:
  godwit indexcache demo                         the bundled model, a few minutes on two cores
  godwit indexcache demo MODEL --keep 1/8
  godwit indexcache demo MODEL --data my_texts/ --out mine

Each step leaves its result in OUT. Started again, the same command goes on where it was; a finished one only prints.
  search/       the removal order and the loss after each layer (godwit indexcache search)
  overlap.json  how much of their selections layers have in common
  shared/       the checkpoint at --keep (godwit indexcache export)
  quality.json  loss and retrieval under dense attention, DSA, the searched plan and the uniform one
  bench.json    prefill and decoding times of the same
  report.html   all of it
"""

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from godwit.base.config import differences, from_json
from godwit.base.errors import GodwitError
from godwit.base.files import read_json, write_json
from godwit.base.progress import Progress, short_time
from godwit.base.runs import RunFolder
from godwit.cli.indexcache._options import HOLDOUT, MOST_SEQ_LEN, model_name
from godwit.cli.options import Positional, parse
from godwit.cli.targets import RUNS, model_folder
from godwit.indexcache.result import SearchResult, parse_keep

if TYPE_CHECKING:
    from godwit.indexcache.bench import BenchOptions, BenchResult
    from godwit.indexcache.calibration import Calibration
    from godwit.indexcache.overlaps import Overlap
    from godwit.indexcache.quality import Quality
    from godwit.indexcache.report import Story
    from godwit.models.decoder import Decoder
    from godwit.models.indexed import IndexedConfig
    from godwit.nn.share_plan import SharePlan

SEARCHED, UNIFORM = "searched", "uniform"
HASHED_BYTES = 2**20  # of each file: two checkpoints that differ, differ in their headers or first numbers
EXPORTED = "export.json"


@dataclass(frozen=True)
class Options:
    """Options of `godwit indexcache demo`."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")] = "nano"
    """bundled model, Hugging Face folder or finished run"""
    keep: Annotated[str, tyro.conf.arg(metavar="1/4")] = "1/4"
    """layers that keep their indexer: a fraction or a number"""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SOURCE")] = ("stdlib",)
    """texts, as in --data.sources of godwit train"""
    seq_len: int | None = None
    """tokens of a row; default the model's context, at most 8192"""
    rows: int = 8
    """rows the search compares plans on"""
    test_rows: int = 4
    """other rows that losses are reported on"""
    samples: int = 8
    """retrieval samples of each task; 0 for models that were never taught to answer them"""
    bench_length: int | None = None
    """tokens of context for times; default twice a row, if the model takes that"""
    rounds: int = 3
    """times each side is timed"""
    clock: str = "wall"
    """wall or cpu, see godwit indexcache bench"""
    seed: int = 0
    """of the choice of rows"""
    out: str = ""
    """folder of the results; default runs/demo-MODEL"""


def run(arguments: list[str]) -> int:
    """All steps, each only if its result is not there."""
    options = parse(Options, arguments, verb="indexcache demo", about=__doc__)
    source, name = model_folder(options.model), model_name(options.model)
    out = Path(options.out) if options.out else RUNS / f"demo-{Path(name).name}"
    demo = Demo(options=options, source=source, name=name, out=out)
    demo.check()
    from godwit.indexcache.report import write_report

    with RunFolder(out).lock():
        demo.claim()
        story = demo.story()
        page = write_report(story, out)
    print("\n".join(_lines(story)))
    print(f"\n{page}   the page: open it in a browser")
    return 0


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The steps and their results; the model and its text are loaded when a step first needs them."""

    options: Options
    source: Path
    name: str
    out: Path

    @property
    def keep(self) -> float | int:
        """Layers that keep their indexer."""
        return parse_keep(self.options.keep)

    @cached_property
    def config(self) -> "IndexedConfig":
        """The model's config; a dense model is refused."""
        from godwit.indexcache.exporter import sparse
        from godwit.models.weights import inspect

        return sparse(inspect(self.source).config, self.name)

    @property
    def seq_len(self) -> int:
        """Tokens of a row."""
        return self.options.seq_len or min(self.config.max_position_embeddings, MOST_SEQ_LEN)

    @cached_property
    def model(self) -> "Decoder":
        """The model."""
        from godwit.models.weights import load

        return load(self.source).eval()

    @cached_property
    def rows(self) -> "Calibration":
        """Rows of calibration first, rows to report losses on behind them."""
        from godwit.data.config import DataConfig
        from godwit.data.prepare import prepare
        from godwit.indexcache.calibration import draw_rows

        data = DataConfig(sources=self.options.data, tokenizer=str(self.source), holdout=HOLDOUT)
        return draw_rows(
            prepare(data, self.out / "data", seed=self.options.seed),
            num_rows=self.options.rows + self.options.test_rows,
            seq_len=self.seq_len,
            topk=self.config.index_topk,
            single=False,
            seed=self.options.seed,
        )

    def check(self) -> None:
        """Refuse options that no step could follow, before anything is written."""
        from godwit.indexcache.result import num_kept

        options, longest = self.options, self.config.max_position_embeddings
        if options.rows < 1 or options.test_rows < 1 or options.samples < 0:
            raise GodwitError(
                f"rows {options.rows}, test_rows {options.test_rows}, samples {options.samples}: give at least 1, 1, 0"
            )
        if not self.config.index_topk < self.seq_len <= longest:
            raise GodwitError(
                f"seq_len is {self.seq_len}; give more than the model's index_topk {self.config.index_topk}, up to "
                f"which sharing is invisible, and at most its {longest} positions"
            )
        num_kept(self.keep, self.config.num_hidden_layers)
        self.bench_options.check(self.config)

    def claim(self) -> None:
        """Write down the settings; a folder with others' results is not written into."""
        settings = asdict(self.options) | {"data": list(self.options.data), "out": ""}
        settings["weights"] = _fingerprint(self.source)
        file = self.out / "settings.json"
        if file.exists():
            changed = differences(read_json(file), settings)
            if changed:
                raise GodwitError(
                    f"{self.out} holds results of other settings ({'; '.join(changed[:4])}); choose another --out, or "
                    "remove it"
                )
        else:
            write_json(file, settings)

    def search(self) -> SearchResult:
        """Search; goes on from its own journal."""
        from godwit.indexcache.calibration import Calibration
        from godwit.indexcache.engine import DecoderEngine
        from godwit.indexcache.result import FILE_NAME
        from godwit.indexcache.searching import search

        folder = self.out / "search"
        with _step("search", folder / FILE_NAME) as done:
            if done:
                return SearchResult.load(folder)
            rows = Calibration(rows=self.rows.rows[: self.options.rows], source=self.rows.source)
            return search(DecoderEngine(self.model, name=self.name), rows, out=folder, keep=self.keep)

    def overlap(self) -> "Overlap":
        """Compare selections on one row."""
        from godwit.indexcache.engine import DecoderEngine
        from godwit.indexcache.overlaps import Overlap, overlap

        with _step("overlap", self.out / "overlap.json") as done:
            if not done:
                overlap(DecoderEngine(self.model, name=self.name), self.rows.rows[:1]).save(self.out)
            return from_json(Overlap, read_json(self.out / "overlap.json"), "overlap.json")

    def export(self, plan: "SharePlan") -> dict[str, int]:
        """Write the checkpoint; bytes left out, and of how many."""
        from godwit.indexcache.exporter import export

        with _step("export", self.out / EXPORTED) as done:
            if not done:
                made = export(self.source, plan, self.out / "shared", show_progress=True)
                sizes = {"dropped_bytes": made.dropped_bytes, "total_bytes": made.total_bytes}
                write_json(self.out / EXPORTED, sizes)
            return read_json(self.out / EXPORTED)

    def quality(self, plans: "dict[str, SharePlan]", path: "Sequence[SharePlan]") -> "Quality":
        """Loss and retrieval, under some plans and along the search's path."""
        from godwit.indexcache.engine import DecoderEngine
        from godwit.indexcache.quality import FILE_NAME, Quality, num_steps, quality
        from godwit.text.tokenizer import Tokenizer

        with _step("quality", self.out / FILE_NAME) as done:
            if done:
                return Quality.load(self.out)
            patterns = [plan.pattern for plan in (*plans.values(), *path)]
            total = num_steps(self.options.test_rows, patterns, num_samples=self.options.samples)
            with Progress(total, what="measuring", unit="passes") as progress:
                found = quality(
                    DecoderEngine(self.model, name=self.name),
                    self.rows.rows[self.options.rows :],
                    plans=plans,
                    path=path,
                    tokenizer=Tokenizer.load(self.source),
                    num_samples=self.options.samples,
                    on_step=lambda: progress.advance(1),
                )
            found.save(self.out)
            return found

    @property
    def bench_options(self) -> "BenchOptions":
        """One context length: twice a row, if the model takes that."""
        from godwit.indexcache.bench import BenchOptions

        chosen = BenchOptions(lengths=(1,), rounds=self.options.rounds, clock=self.options.clock)
        longest = self.config.max_position_embeddings - chosen.steps
        return replace(chosen, lengths=(self.options.bench_length or min(longest, 2 * self.seq_len),))

    def bench(self, plans: "dict[str, SharePlan]") -> "BenchResult":
        """Times."""
        from godwit.indexcache.bench import FILE_NAME, BenchResult, bench, num_runs
        from godwit.indexcache.timing import counting

        with _step("times", self.out / FILE_NAME) as done:
            if done:
                return BenchResult.load(self.out)
            with counting(num_runs(self.bench_options, len(plans))) as on_run:
                found = bench(self.model, self.bench_options, name=self.name, plans=plans, on_run=on_run)
            found.save(self.out)
            return found

    def story(self) -> "Story":
        """Every step, in order."""
        from godwit.indexcache.quality import HARMLESS
        from godwit.indexcache.report import Story
        from godwit.nn.share_plan import SharePlan

        searched = self.search()
        plan = searched.plan_at(self.keep)
        overlap, sizes = self.overlap(), self.export(plan)
        plans = {SEARCHED: plan}
        for each in searched.baselines:
            if each.name == UNIFORM and each.num_full == plan.num_full:
                plans[UNIFORM] = SharePlan(each.pattern)
        quality = self.quality(plans, searched.path)
        harmless = quality.harmless_beside(plan)
        if harmless is not None:
            plans[HARMLESS] = harmless
        return Story(
            search=searched,
            keep=self.keep,
            side=SEARCHED,
            quality=quality,
            bench=self.bench(plans),
            overlap=overlap,
            folder=str(self.out / "shared"),
            **sizes,
            commands=(self.command,),
        )

    @property
    def command(self) -> str:
        """What was typed."""
        words, usual = ["godwit indexcache demo", self.name], Options()
        for key, value in asdict(self.options).items():
            if key != "model" and value != getattr(usual, key):
                given = map(str, value) if isinstance(value, tuple) else (str(value),)
                words.append(f"--{key.replace('_', '-')} {' '.join(given)}")
        return " ".join(words)


@contextmanager
def _step(what: str, result: Path) -> Iterator[bool]:
    """Whether a step's result is there already; says on stderr what it took."""
    start, done = time.monotonic(), result.exists()
    yield done
    took = "there already" if done else short_time(time.monotonic() - start)
    print(f"{what}: {took}", file=sys.stderr, flush=True)


def _fingerprint(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for file in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        with file.open("rb") as reading:
            digest.update(reading.read(HASHED_BYTES))
    return digest.hexdigest()


def _lines(story: "Story") -> list[str]:
    """The first screen of the page, and the flags of every engine."""
    from godwit.cli.indexcache.flags import lines
    from godwit.indexcache.report import gains, losses, typed

    shown = [f"{story.search.model}: {story.plan}"]
    for title, part in (
        ("What you gain", gains(story)),
        ("What you lose", losses(story)),
        ("What you type", typed(story)),
    ):
        shown += ["", title, *(f"  {line}" for line in part)]
    return [*shown, "", "Flags of every engine", *(f"  {line}".rstrip() for line in lines(story.plan, story.folder))]
