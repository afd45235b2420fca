"""The command line: `godwit VERB ...`, one file a verb in `godwit/cli/verbs/`.

This file finds the verb, runs it, and turns what goes wrong into one line and an exit code:

    0    done
    2    a mistake that the user can put right (GodwitError; wrong options)
    3    an optional part is missing
    4    a run stopped itself; what was written before is intact
    130  interrupted

It imports no library, so that `godwit --help` answers at once; a verb imports what it needs when it runs. A verb's
file has a docstring whose first line is its summary, and `run(arguments: list[str]) -> int`.
"""

import io
import os
import sys
import traceback

from godwit import __version__
from godwit.base.errors import GodwitError
from godwit.base.plugins import Room

VERBS = Room("godwit.cli.verbs", noun="command")
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code, which the console script hands to `sys.exit`."""
    words = sys.argv[1:] if arguments is None else arguments
    # Threads that wait by spinning starve each other when other programs run beside this one: with two cores and a
    # load of 6, a training step took more than ten times as long. Read by OpenMP when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a sign (Chinese in an ASCII locale) shows its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader went away (`godwit list | head -1`). Point stdout at nothing, or Python complains again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except GodwitError as error:
        if os.environ.get("GODWIT_DEBUG"):
            traceback.print_exc()
        print(f"godwit: {error}", file=sys.stderr)
        return error.exit_code


def overview() -> str:
    """What `godwit --help` prints: every verb with the first line of its docstring."""
    names = VERBS.names()
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {VERBS.summary(name)}" for name in names]
    return "\n".join(
        [
            f"godwit {__version__}: long-horizon language models of the GLM-5 kind",
            "",
            "usage: godwit COMMAND ...",
            "",
            *lines,
            "",
            "Try:",
            "  godwit train nano            train a small model on Python's own sources",
            "  godwit train nano --help     every setting of that recipe",
            "  godwit chat nano             talk with the bundled model",
            "  godwit show GLM-5            parameters, FLOPs and memory of a published model",
            "",
            "`godwit COMMAND --help` has examples. GODWIT_DEBUG=1 shows the traceback behind an error.",
        ]
    )


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"godwit {__version__}")
        return 0
    if words[0].startswith("-"):
        raise GodwitError(f"unknown option {words[0]!r}; the command comes first, see godwit --help")
    try:
        return VERBS.load(words[0]).run(words[1:])
    except SystemExit as leaving:  # tyro leaves this way after it has printed a verb's --help
        assert leaving.code in (0, None), leaving.code
        return 0
