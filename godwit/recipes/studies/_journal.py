"""Parts of a study that are done, in its folder: what was found once is not sought again.

A study's folder is a run folder: `config.json` holds its options, `metrics.jsonl` a row for each finished part, written
in one go, so that a kill loses the part at work and nothing else. Training inside a part resumes from its own
checkpoints (`_stages.trained`).
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from godwit.base.config import differences, to_json
from godwit.base.progress import short_time
from godwit.base.runs import RunFolder

Part = dict[str, Any]
"""What a part found, as JSON values."""


class Journal:
    """The finished parts of one study, and a line on stderr for each part begun.

    Args:
        folder: the study's folder.
        total: parts of the whole study, for "[3/12]" and the time left.
    """

    def __init__(self, folder: Path, *, total: int):
        self.folder, self.total = folder, total
        self._run = RunFolder(folder)
        self._rows = {row["part"]: row for row in self._run.read_metrics()}

    def part(self, name: str, work: Callable[[], Part]) -> Part:
        """The result of part `name`: as it was found before, or by `work` now."""
        if name not in self._rows:
            seconds = [row["seconds"] for row in self._rows.values()]
            left = f", about {short_time(fmean(seconds) * (self.total - len(seconds)))} left" if seconds else ""
            print(f"[{len(seconds) + 1}/{self.total}] {name}{left}", file=sys.stderr, flush=True)
            start = time.monotonic()
            found = work()
            row = {"part": name, "seconds": round(time.monotonic() - start, 2), "found": found}
            self._run.append_metrics(row)
            self._rows[name] = row
        return self._rows[name]["found"]


@contextmanager
def opened(folder: Path, options: Any, *, total: int) -> Iterator[Journal]:
    """The journal of the study with these options in `folder`, new or begun, held for this process.

    Raises:
        GodwitError: the folder is in use, or holds something else.
    """
    run = RunFolder(folder)
    with run.lock():
        wanted = to_json(options)
        if not (run.finished and not differences(run.config(), wanted)):
            run.create(wanted)
        yield Journal(folder, total=total)
        run.mark_finished()
