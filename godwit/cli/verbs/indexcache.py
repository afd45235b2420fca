"""Find which layers can share an indexer (IndexCache), and ship the result.

Examples:
  godwit indexcache search MODEL --keep 1/4       which layers give up their indexer, and what each costs
  godwit indexcache quality MODEL --search search/   what every plan found loses, in loss and in retrieval
  godwit indexcache overlap MODEL                 how much of their selections layers have in common
  godwit indexcache export MODEL --search search/ --keep 1/4 --out shared
  godwit indexcache flags shared                  what to type in vLLM, SGLang, Transformers, ...

Each word after `indexcache` is one file in `godwit/cli/indexcache/`; `godwit indexcache WORD --help` has its options.
"""

from godwit.base.errors import GodwitError
from godwit.base.plugins import Room

COMMANDS = Room("godwit.cli.indexcache", noun="indexcache command")


def run(arguments: list[str]) -> int:
    """Find the command and run it."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0].startswith("-"):
        raise GodwitError(f"unknown option {arguments[0]!r}; a command comes first, see godwit indexcache --help")
    return COMMANDS.load(arguments[0]).run(arguments[1:])


def overview() -> str:
    """What `godwit indexcache --help` prints: every command with the first line of its docstring."""
    names = COMMANDS.names()
    width = max(map(len, names), default=0)
    lines = [f"  {name:<{width}}  {COMMANDS.summary(name)}" for name in names]
    usage = "usage: godwit indexcache COMMAND MODEL ..."
    return "\n".join([__doc__.split("\n", 1)[0], "", usage, "", *lines, "", *__doc__.splitlines()[2:]])
