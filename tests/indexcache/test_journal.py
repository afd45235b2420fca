"""Stopped and resumed, damaged, and spread over processes: the same bytes, or an error that says what to do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from godwit.base.errors import GodwitError
from godwit.indexcache import runner
from godwit.indexcache.searching import search
from tests.indexcache.tiny import model, tokens

NUM_LAYERS, ROWS = 6, 3


def go(folder: Path, **options):
    return search(model(num_hidden_layers=NUM_LAYERS), tokens(rows=ROWS), out=folder, **({"keep": 2} | options))


def start(folder: Path, *words: str, ranks: int = 1) -> subprocess.Popen[str]:
    begin = [sys.executable, "-m"]
    if ranks > 1:
        begin += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    return subprocess.Popen(
        [*begin, "tests.indexcache.run_tiny", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors


def same_bytes(a: Path, b: Path) -> None:
    for name in ("journal.jsonl", "search.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # In a process of its own like those it is compared with: another number of threads moves the last bits.
    folder = tmp_path_factory.mktemp("straight")
    finish(start(folder))
    return folder


@pytest.mark.parametrize("options", [{}, {"lazy": True, "check_lazy": True}, {"blocks": 2}])
def test_stopped_anywhere_it_ends_with_the_same_bytes(options: dict, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    found = go(whole, **options)
    lines = (whole / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for place in (1, 4, 7, len(lines) - 4, len(lines)):
        cut = tmp_path / f"cut{place}"
        cut.mkdir()
        (cut / "journal.jsonl").write_bytes(b"".join(lines[:place]) + (lines[place][:9] if place < len(lines) else b""))
        assert go(cut, **options) == found
        same_bytes(whole, cut)


def test_killed_and_started_again_it_ends_with_the_same_bytes(straight: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    process = start(tmp_path)
    try:
        while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 9):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=100)
    finally:
        process.kill()
    assert journal.read_bytes().count(b"\n") >= 9 and not (tmp_path / "search.json").exists()
    finish(start(tmp_path))
    same_bytes(straight, tmp_path)


@pytest.mark.parametrize(("ranks", "words"), [(2, [])])
def test_two_processes_write_the_same_bytes(straight: Path, ranks: int, words: list[str], tmp_path: Path) -> None:
    finish(start(tmp_path, *words, ranks=ranks))
    same_bytes(straight, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["rows=1"], ["rows=1", "lazy=True"], ["rows=3", "objective=all", "blocks=2"]])
def test_more_processes_than_rows_share_a_rows_plans(words: list[str], tmp_path: Path) -> None:
    for folder, ranks in ((tmp_path / "one", 1), (tmp_path / "three", 3)):
        finish(start(folder, *words, ranks=ranks))
    same_bytes(tmp_path / "one", tmp_path / "three")


def test_finished_it_is_read_and_not_run_again(straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    plain = runner.Runner._row_sums
    monkeypatch.setattr(runner.Runner, "_row_sums", lambda *given, **more: rows.append(1) or plain(*given, **more))
    before = (straight / "journal.jsonl").read_bytes()
    go(straight)
    assert len(rows) == 1, "one row, to see that the weights are the journal's"
    assert (straight / "journal.jsonl").read_bytes() == before


def test_another_search_in_the_folder_is_refused(straight: Path) -> None:
    with pytest.raises(GodwitError, match="is of another search \\(flips: 4 -> 3\\); choose another --out"):
        go(straight, keep=3)
    with pytest.raises(GodwitError, match="calibration: "):
        search(model(num_hidden_layers=NUM_LAYERS), tokens(rows=ROWS, seed=9), out=straight, keep=2)
    with pytest.raises(GodwitError, match="begun with other weights"):
        search(model(num_hidden_layers=NUM_LAYERS, seed=5), tokens(rows=ROWS), out=straight, keep=2)


def damaged(name: str, lines: list[bytes]) -> list[bytes]:
    record = json.loads(lines[5])
    if name == "not json":
        return [*lines[:5], b"{broken\n", *lines[6:]]
    if name == "not an object":
        return [*lines[:5], b"[1]\n", *lines[6:]]
    if name == "another row":
        return [*lines[:5], json.dumps(record | {"row": 7}).encode() + b"\n", *lines[6:]]
    if name == "line lost":
        return [*lines[:5], *lines[6:]]
    if name == "fewer sums":
        return [*lines[:5], json.dumps(record | {"sums": record["sums"][1:]}).encode() + b"\n", *lines[6:]]
    if name == "no number":
        return [*lines[:5], json.dumps(record | {"sums": ["x", *record["sums"][1:]]}).encode() + b"\n", *lines[6:]]
    assert name == "another flip", name
    place = next(place for place, line in enumerate(lines) if b'"flip"' in line)
    record = json.loads(lines[place])
    return [*lines[:place], json.dumps(record | {"layer": 5 - record["layer"]}).encode() + b"\n", *lines[place + 1 :]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not json", "journal.jsonl:6 is not JSON; delete that line and all behind it"),
        ("not an object", "journal.jsonl:6 is not a JSON object"),
        ("another row", "journal.jsonl:6 has .* where .*damaged"),
        ("line lost", "journal.jsonl:6 has .* where .*damaged"),
        ("fewer sums", "are not 5 numbers: it is damaged"),
        ("no number", "damaged"),
        ("another flip", 'has {"kind": "flip".* where {"kind": "flip".*damaged'),
    ],
)
def test_a_damaged_journal_is_refused(name: str, message: str, straight: Path, tmp_path: Path) -> None:
    lines = (straight / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_bytes(b"".join(damaged(name, lines)))
    with pytest.raises(GodwitError, match=message):
        go(tmp_path)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    from godwit.base.runs import RunFolder

    with RunFolder(tmp_path).lock(), pytest.raises(GodwitError, match="is in use by process"):
        go(tmp_path)
