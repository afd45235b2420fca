"""Repeat a paper's experiment at small scale over several seeds, and print which of its claims hold.

Examples:
  godwit study dsa --model runs/nano                     dense, converted, warmed up, adapted: loss and retrieval
  godwit study dsa --model MODEL --seeds 1 --tokens 50000 --rows 2    quickly
  godwit study indexcache --model runs/dsa-nano-sparse   searched and uniform sharing, before and after distillation
  godwit study dsa --help                                every option of a study

A study goes to studies/NAME, or to --out; a stopped one goes on where it was when the same command is given again.
It writes table.md, results.json and report.html. A claim that does not hold is printed so.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from godwit.base.errors import GodwitError, did_you_mean
from godwit.cli.options import parse
from godwit.cli.targets import model_folder
from godwit.recipes.studies import ROOM

FOLDER = Path("studies")


def run(arguments: list[str]) -> int:
    """Find the study, read its options, run it, print its table."""
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(f"  {name:<12}  {ROOM.summary(name)}" for name in ROOM.names())
        print(f"usage: godwit study NAME --model MODEL [--out DIR] [--SETTING VALUE ...]\n\n{known}\n\n{__doc__}")
        return 0
    name = arguments[0]
    if name.startswith("-"):
        raise GodwitError(f"the study comes first: godwit study NAME {name} ...; {did_you_mean('', ROOM.names())}")
    plugin = ROOM.load(name)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Words:
        out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = FOLDER / name
        """folder of the study"""
        options: Annotated[plugin.Options, tyro.conf.arg(name="")]

    words: Any = parse(Words, arguments[1:], verb=f"study {name}", about=plugin.__doc__, underscores=True)
    options = dataclasses.replace(words.options, model=str(model_folder(words.options.model)))
    if options.seeds < 1:
        raise GodwitError(f"seeds is {options.seeds}; give 1 or more, 3 for a spread")
    from godwit.recipes.studies._findings import table, write
    from godwit.recipes.studies._journal import opened

    with opened(words.out, options, total=plugin.num_parts(options)) as journal:
        found = plugin.study(options, journal)
        path = write(found, words.out)
    print(table(found))
    print(f"  {path}   the plots: open it in a browser")
    return 0
