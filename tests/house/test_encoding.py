"""Nothing hangs on the locale: with one that knows ASCII only, pipelines and benchmarks write the same bytes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from godwit.evals.harness.result import read_outcomes
from tests.synth import endpoint as scripted
from tests.synth.harness import RESULTS, write_rows

# Upstream opens its prompt files without an encoding, and fails or reads nonsense where the locale is not UTF-8.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF8 = {"LC_ALL": "C.UTF-8"}
ROWS = [{"id": f"第{number}行", "instruction": f"请写一篇关于茶的文章，{number}。"} for number in range(2)]


def reply(request: dict[str, Any]) -> str:
    if "Plan it" in scripted.prompt_of(request):
        return '{"sections": [{"main_point": "采茶", "words": 50}, {"main_point": "焙火", "words": 50}]}'
    return "武夷岩茶的故事。" * 5


def godwit(locale: dict[str, str], folder: Path, *words: str) -> str:
    environment = os.environ | locale | {"OPENAI_API_KEY": scripted.KEY, "XDG_DATA_HOME": str(folder / "inspect")}
    environment.pop("PYTHONIOENCODING", None)
    done = subprocess.run([sys.executable, "-m", "godwit", *words], env=environment, capture_output=True, timeout=180)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def test_a_pipeline_in_a_locale_of_ascii(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "行.jsonl", ROWS)
    with scripted.serving(reply) as served:
        words = ["synth", "agentwrite", "--input", str(source), "--endpoint", served.url, "--model", "writer-1"]
        for name, locale in (("ascii", ASCII), ("utf8", UTF8)):
            out = tmp_path / name
            said = godwit(locale, tmp_path, *words, "--out", str(out), "--dry-run", "1")
            assert "tried 1 of 2 rows" in said
            assert "2 rows of data" in godwit(locale, tmp_path, *words, "--out", str(out))
    for file in RESULTS:
        found = (tmp_path / "ascii" / file).read_bytes()
        assert found == (tmp_path / "utf8" / file).read_bytes(), file
    assert "武夷岩茶的故事。".encode() in (tmp_path / "ascii" / "data.jsonl").read_bytes()


@pytest.mark.slow
def test_a_benchmark_in_a_locale_of_ascii(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    data = write_rows(tmp_path / "行.jsonl", [{"prompt": "写一篇1000字的中国旅游指南", "length": 1000}])
    with scripted.serving(reply) as served:
        words = ["eval", "longwrite_ruler", "--model", served.url, "--model-name", "writer-1", "--data", str(data)]
        for name, locale in (("ascii", ASCII), ("utf8", UTF8)):
            godwit(locale, tmp_path, *words, "--out", str(tmp_path / name))
    assert read_outcomes(tmp_path / "ascii") == read_outcomes(tmp_path / "utf8")
    assert "武夷岩茶".encode() in (tmp_path / "ascii" / "report.html").read_bytes()
