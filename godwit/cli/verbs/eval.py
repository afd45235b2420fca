"""Benchmark a model over long contexts and long outputs, with intervals.

Examples:
  godwit eval longbench_v2                              a rehearsal: bundled samples, bundled model, every file and page
  godwit eval longbench_v2 --model http://localhost:8000/v1 --data data.json
  godwit eval longbench_write --model URL --judge URL --judge-name gpt-4o-2024-05-13
  godwit eval longbench_v2 --model path/to/model --data hf:THUDM/LongBench-v2@COMMIT --max-input 120000
  godwit eval compare evals/a evals/b                   two runs of one benchmark, sample by sample

A result goes to evals/BENCHMARK, or to --out: report.html, result.json, samples.jsonl, and inspect_ai's logs. The same
command goes on where a stopped run was. Keys are read from environment variables (--model-key-env, --judge-key-env).
"""

from pathlib import Path
from typing import Annotated, Any

import tyro

from godwit.base.aligned import aligned
from godwit.base.errors import GodwitError, did_you_mean
from godwit.cli.options import Positional, parse

FOLDER = Path("evals")
COMPARE = "compare"


def run(arguments: list[str]) -> int:
    """Find the benchmark, read its options, run it, print its table."""
    from godwit.evals.benchmarks import ROOM

    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, ROOM.names()))
        known = "\n".join(f"  {name:<{width}}  {ROOM.summary(name)}" for name in ROOM.names())
        print(f"usage: godwit eval BENCHMARK [--model MODEL] [--judge URL] [--out DIR] ...\n\n{known}\n\n{__doc__}")
        return 0
    name = arguments[0]
    if name.startswith("-"):
        raise GodwitError(f"the benchmark comes first: godwit eval NAME {name} ...; {did_you_mean('', ROOM.names())}")
    if name == COMPARE:
        return _compare(arguments[1:])
    return _benchmark(name, arguments[1:])


def _benchmark(name: str, arguments: list[str]) -> int:
    import dataclasses

    from godwit.evals.benchmarks import ROOM
    from godwit.evals.harness.run import Settings, plan
    from godwit.evals.harness.run import run as run_plan

    benchmark = ROOM.load(name)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Words:
        out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = FOLDER / name
        """folder of the result"""
        settings: Annotated[Settings, tyro.conf.arg(name="")]
        options: Annotated[benchmark.Options, tyro.conf.arg(name="")]

    words: Any = parse(Words, arguments, verb=f"eval {name}", about=benchmark.__doc__)
    planned = plan(name, benchmark, words.settings, words.options)
    result = run_plan(planned, words.out)
    from godwit.evals.harness.page import cell_rows

    _print(*cell_rows(result.figures))
    if result.rehearsal:
        print("  a rehearsal with the bundled model, its replies held to their forms: the figures mean nothing;")
        print("  give --model and --data for real ones")
    print(f"  {words.out / 'report.html'}   open it in a browser")
    if result.num_failed:
        print(f"  {result.num_failed} of {result.num_rows} samples failed; the same command asks them again")
        return 1
    return 0


def _compare(arguments: list[str]) -> int:
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Words:
        first: Annotated[Positional[Path], tyro.conf.arg(metavar="FIRST")]
        """folder of a finished run"""
        second: Annotated[Positional[Path], tyro.conf.arg(metavar="SECOND")]
        """folder of another, on the same data with the same judge"""
        out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("compare.html")
        """the page"""

    words = parse(
        Words, arguments, verb=f"eval {COMPARE}", about="Compare two runs of one benchmark, sample by sample."
    )
    from godwit.evals.harness.compare import compare, compared_rows, write_comparison

    first, second, found = compare(words.first, words.second)
    write_comparison(words.out, first, second, found)
    _print(*compared_rows(found))
    print(f"  {second.model} minus {first.model}; {words.out}   open it in a browser")
    return 0


def _print(head: list[str], rows: list[list[str]]) -> None:
    print("\n".join(aligned([head, *rows], left=range(len(head)))))
