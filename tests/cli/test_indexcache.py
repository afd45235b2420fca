"""`godwit indexcache`: its commands, and mistakes as one line."""

import pytest

from godwit.cli import main
from godwit.cli.verbs.indexcache import COMMANDS


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["indexcache", *words]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS.names():
        assert f"  {name}" in shown and COMMANDS.summary(name) in shown


def test_a_wrong_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["indexcache", "serch"]) == 2
    assert capsys.readouterr().err.startswith("godwit: unknown indexcache command 'serch'")
    assert main(["indexcache", "--keep", "3"]) == 2
    assert "a command comes first" in capsys.readouterr().err
