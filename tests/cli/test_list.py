import json

import pytest

from godwit import recipes
from godwit.base.errors import GodwitError
from godwit.cli import main
from godwit.cli.targets import published_models


def test_everything_is_listed_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for word in ("recipes", "nano", "nano:smoke", "studies", "GLM-4.5-Air", "glm_moe_dsa", "stdlib", "parquet"):
        assert word in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_pipelines_and_benchmarks_are_listed_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "pipelines"]) == 0 and main(["list", "benchmarks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 8 + 8
    assert any(line.startswith("  agentwrite ") and "LongWriter" in line for line in lines)
    assert any(line.startswith("  longbench_v2 ") and "four-choice" in line for line in lines)


def test_one_kind_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "recipes", "--json"]) == 0
    (rows,) = json.loads(capsys.readouterr().out).values()
    nano = next(row for row in rows if row["name"] == "nano")
    assert nano["summary"] and "smoke" in nano["variants"]


def test_a_wrong_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "recipe"]) == 2
    assert capsys.readouterr().err == "godwit: there is no list of 'recipe': did you mean 'recipes'?\n"


def test_published_names_read_from_the_source_are_those_of_the_table() -> None:
    from godwit.models.published import PUBLISHED

    names = published_models()
    assert list(names) == list(PUBLISHED)
    assert all(summary and "[" not in summary for summary in names.values())


def test_variants_read_from_the_source_are_what_find_builds() -> None:
    from godwit.train.config import TrainConfig

    for name in recipes.ROOM.names():
        if {"default", name, "small"} & set(recipes.variants(name)):
            assert isinstance(recipes.find(name), TrainConfig)
        else:
            with pytest.raises(GodwitError, match=f"recipe '{name}' has no default; choose one of {name}:"):
                recipes.find(name)
        for variant in recipes.variants(name):
            assert isinstance(recipes.find(f"{name}:{variant}"), TrainConfig)
