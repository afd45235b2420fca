"""Runs killed, interrupted or out of numbers: what was written stays whole, and they go on as if nothing had been."""

import random
import signal
import time
from pathlib import Path

import pytest
import torch

from godwit.base.errors import RunStoppedError
from godwit.base.runs import RunFolder
from godwit.train.checkpoint import complete_ones
from godwit.train.interrupt import RunInterruptedError
from godwit.train.loop import train
from godwit.train.state import TrainState
from godwit.train.step import StepReport
from tests.train.tiny import Straight, run_process, same_files, start_process, stop_at_step, tiny_config, wait_for_steps


def _assert_as_straight(straight: Straight, folder: Path) -> None:
    same_files(straight.folder / "checkpoints", folder / "checkpoints")
    same_files(straight.folder / "model", folder / "model")


def test_killed_and_resumed_equals_straight(straight: Straight, text_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, _ = stop_at_step(out, 8, signal.SIGKILL, text_folder, out)
    assert code == -signal.SIGKILL
    assert not (out / "finished.json").exists()
    again = run_process(text_folder, out)
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stdout
    _assert_as_straight(straight, out)


def test_interrupt_saves_says_how_to_go_on_and_resumes(straight: Straight, text_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, err = stop_at_step(out, 6, signal.SIGINT, text_folder, out)
    assert code == 130
    last = err.strip().splitlines()[-1]
    assert "interrupted after step" in last and "the same command continues" in last
    step = next(complete_ones(out / "checkpoints")).step
    assert f"after step {step};" in last and step >= 6
    again = run_process(text_folder, out)
    assert again.returncode == 0, again.stderr
    assert f"resuming {out} after step {step}" in again.stdout
    same_files(straight.folder / "model", out / "model")


def test_an_interrupt_in_the_last_step_is_not_lost(text_folder: Path, tmp_path: Path) -> None:
    """Else a study, or a script, would go on to its next run."""
    config, out = tiny_config(text_folder), tmp_path / "run"

    def press(state: TrainState, report: StepReport) -> None:
        if state.position.tokens >= config.total_tokens:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(RunInterruptedError, match="the same command continues"):
        train(config, out, on_step=press)
    assert not RunFolder(out).finished
    train(config, out)
    assert RunFolder(out).finished


@pytest.mark.slow
def test_killed_at_random_times_many_times(text_folder: Path, tmp_path: Path) -> None:
    """Also while checkpoints are being written: there is one at every step."""
    chance = random.Random(0)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert run_process(text_folder, straight, "checkpoint_every=1").returncode == 0
    num_kills = 0
    while num_kills < 8 and not (broken / "finished.json").exists():
        process = start_process(text_folder, broken, "checkpoint_every=1")
        try:
            if num_kills % 2:
                wait_for_steps(broken, 1, process)
            time.sleep(chance.uniform(0.0, 1.0))
        finally:
            process.kill()
            process.communicate()
        num_kills += 1
    assert num_kills >= 4
    end = run_process(text_folder, broken, "checkpoint_every=1")
    assert end.returncode == 0, end.stderr
    same_files(straight / "checkpoints", broken / "checkpoints")
    same_files(straight / "model", broken / "model")


@pytest.mark.parametrize("poisoned", ["model.layers.1.mlp.experts.down_proj", "lm_head.weight"])
def test_nan_stops_with_step_and_name(poisoned: str, text_folder: Path, tmp_path: Path) -> None:
    def poison(state: TrainState, report: StepReport) -> None:
        if state.position.step == 7:
            with torch.no_grad():
                state.model.get_parameter(poisoned).fill_(float("nan"))

    out = tmp_path / "run"
    with pytest.raises(RunStoppedError, match=r"^step 8: .* not finite .* checkpoints before") as stopped:
        train(tiny_config(text_folder), out, device="cpu", on_step=poison)
    assert "the gradient of model." in str(stopped.value)
    assert next(complete_ones(out / "checkpoints")).step == 5
    train(tiny_config(text_folder), out, device="cpu")
