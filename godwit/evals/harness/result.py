"""A result on disk: `result.json` (figures, settings, judge's pin, counts), `samples.jsonl` (one line a sample)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from godwit.base.config import from_json
from godwit.base.errors import GodwitError
from godwit.base.files import read_json, write_atomic, write_json
from godwit.evals.harness.outcomes import Figure, Outcome

RESULT, SAMPLES, REPORT = "result.json", "samples.jsonl", "report.html"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to.

    Attributes:
        data: where the rows are from; `data_hash` of the file's bytes.
        settings: everything that was asked for.
        judge: the judge's pin; None without one.
        rehearsal: the bundled samples and model were used: the path is shown, the figures mean nothing.
        costs: tokens and, with prices, dollars, the model's and the judge's apart.
    """

    benchmark: str
    title: str
    model: str
    data: str
    data_hash: str
    num_rows: int
    num_failed: int
    rehearsal: bool
    settings: dict[str, Any]
    prompts: dict[str, str]
    judge: dict[str, Any] | None
    costs: dict[str, Any]
    seconds: float
    figures: list[Figure]


def write_result(folder: Path, result: Result, samples: Sequence[dict[str, Any]]) -> None:
    """Write both files, the result last: where it is, the samples are whole."""
    write_atomic(folder / SAMPLES, "".join(json.dumps(sample, ensure_ascii=True) + "\n" for sample in samples))
    write_json(folder / RESULT, asdict(result))


def read_result(folder: Path) -> Result:
    """The result of a finished run."""
    path = folder / RESULT
    if not path.exists():
        raise GodwitError(f"{folder} holds no result; give the folder of a finished `godwit eval`")
    return from_json(Result, read_json(path), str(path))


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """Outcomes by sample id."""
    path = folder / SAMPLES
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            sample = json.loads(line)
            found[str(sample["id"])] = Outcome.of_json(sample["outcome"])
        except (ValueError, KeyError, TypeError) as error:
            raise GodwitError(f"{path}:{number} is no sample of a result; run the benchmark again") from error
    return found
