"""Training stages inside a study: a recipe's stage from a given model, at the study's length, on data prepared once.

A stage that was stopped goes on from its own checkpoint, one that is finished is taken as it is (`trained`).
"""

import dataclasses
from pathlib import Path
from typing import Protocol

from godwit.base.config import differences, fingerprint, to_json
from godwit.base.errors import GodwitError
from godwit.base.runs import RunFolder
from godwit.data.prepare import prepare
from godwit.recipes import find
from godwit.recipes.studies._journal import Journal
from godwit.train.config import TrainConfig
from godwit.train.distil import starting_from
from godwit.train.loop import train


class StageOptions(Protocol):
    """What the options of every study say about training."""

    @property
    def model(self) -> str: ...
    @property
    def recipe(self) -> str: ...
    @property
    def sources(self) -> tuple[str, ...]: ...
    @property
    def tokens(self) -> int | None: ...


def stage_config(options: StageOptions, stage: str, source: Path, journal: Journal, *, seed: int) -> TrainConfig:
    """The variant `<recipe>_<stage>` from the model in `source`, with the options' data and length."""
    config = starting_from(find(f"{options.recipe}_{stage}"), source)
    # The model's tokenizer under one name, so that all seeds share what is prepared.
    data = dataclasses.replace(config.data, sources=options.sources or config.data.sources, tokenizer=options.model)
    if all(each.sources is None for each in config.stages):
        # Every stage of every seed reads the same texts, in an order of its own.
        folder = journal.folder / f"data-{fingerprint(data)[:8]}"
        prepare(data, folder, seed=0)
        data = dataclasses.replace(data, folder=str(folder))
    config = dataclasses.replace(config, seed=seed, data=data, sample_prompts=())
    return config if options.tokens is None else _shortened(config, options.tokens)


def trained(config: TrainConfig, folder: Path) -> Path:
    """The model of the run of `config` in `folder`, trained now, further, or before.

    Raises:
        GodwitError: the folder holds a run with another config.
    """
    run = RunFolder(folder)
    if not run.finished:
        train(config, folder)
    elif changed := differences(run.config(), to_json(config)):
        raise GodwitError(
            f"{folder} holds a run with another config ({changed[0]}); remove it, or give the study another --out"
        )
    return folder / "model"


def _shortened(config: TrainConfig, tokens: int) -> TrainConfig:
    """The run with all its lengths scaled so that it takes `tokens`."""
    share = tokens / config.total_tokens
    stages = tuple(dataclasses.replace(each, tokens=max(1, round(each.tokens * share))) for each in config.stages)
    return dataclasses.replace(config, stages=stages, optim=config.optim.stretched(share))
