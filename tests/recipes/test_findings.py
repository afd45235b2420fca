"""Tables, claims and the journal of studies: computed from figures, and finished parts are not done again."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from godwit.base.errors import GodwitError
from godwit.base.runs import RunFolder
from godwit.recipes.studies import _findings as findings
from godwit.recipes.studies._journal import opened


def test_claims_are_decided_by_their_figures() -> None:
    assert findings.at_most("a", [0.5, 1.4], 1.0, unit="%").holds
    assert not findings.at_most("a", [0.5, 1.6], 1.0, unit="%").holds
    # Mean 0.2, standard error 0.1: two of them are noise.
    spread = [0.1, 0.1, 0.41]
    assert findings.standard_error(spread) == pytest.approx(0.31 / 3)
    for figures, clear in (([0.2, 0.21, 0.19], True), (spread, False), ([-0.2, -0.21], False), ([0.1], True)):
        assert findings.more_than_noise("b", figures, unit="points").holds == clear
        assert findings.no_more_than_noise("b", figures, unit="points").holds != clear
    assert math.isnan(findings.standard_error([0.3]))


def test_the_table_says_what_does_not_hold_and_the_files_hold_every_value(tmp_path: Path) -> None:
    lines = (
        findings.Line(name="dense", values={"loss": (2.0, 2.2)}),
        findings.Line(name="sparse", values={"loss": (2.1, 2.1), "recall": (0.5, 0.7)}),
    )
    claims = (
        findings.at_most("small <b>", (1.0, 2.0), 3.0, unit="%"),
        findings.at_most("smaller", (1.0, 2.0), 1.0, unit="%"),
    )
    found = findings.Findings(
        title="T & T",
        setting="S",
        columns=("loss", "recall"),
        lines=lines,
        claims=claims,
        plots=(("P", "n", "<svg/>"),),
    )
    text = findings.table(found)
    assert "| dense  | 2.1000 ± 0.1000 |               - |" in text
    assert "* **holds**: small <b> (+1.5000 ± 0.5000 %)" in text and "* **does not hold**: smaller" in text
    page = findings.write(found, tmp_path).read_text()
    assert "T &amp; T" in page and "small &lt;b&gt;" in page and "<svg/>" in page and "does not hold" in page
    assert (tmp_path / "table.md").read_text() == text
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["lines"][1]["values"]["recall"] == [0.5, 0.7] and "commit" in results["provenance"]
    assert [claim["verdict"] for claim in results["claims"]] == ["holds", "does not hold"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    model: str = "m"
    seeds: int = 2


def test_finished_parts_are_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    def work(name: str) -> dict[str, float]:
        done.append(name)
        if name == "c" and done.count("c") == 1:
            raise KeyboardInterrupt
        return {"loss": len(done)}

    def study() -> list[dict[str, float]]:
        with opened(tmp_path / "s", Settings(), total=3) as journal:
            return [journal.part(name, lambda name=name: work(name)) for name in ("a", "b", "c")]

    with pytest.raises(KeyboardInterrupt):
        study()
    assert not RunFolder(tmp_path / "s").finished
    # A kill may tear the line it was writing.
    with RunFolder(tmp_path / "s").metrics_path.open("ab") as file:
        file.write(b'{"part": "c", "fou')
    assert study() == [{"loss": 1}, {"loss": 2}, {"loss": 4}] and done == ["a", "b", "c", "c"]
    assert study()[2] == {"loss": 4} and len(done) == 4
    assert "[3/3] c" in capsys.readouterr().err
    with pytest.raises(GodwitError, match="finished run"), opened(tmp_path / "s", Settings(seeds=3), total=3):
        pass
