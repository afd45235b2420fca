"""Training indexers from attention: what is frozen, and how a run starts from a converted model.

    warm-up           Stage(trains="indexers", attention="dense")    KL over all positions
    sparse warm-up    Stage(trains="indexers", attention="sparse")   KL over the indexer's own selection
    adaptation        Stage(trains="both", attention="sparse")       the same KL; the LM loss for all the rest

With `plan`, a run starts from a model whose layers all have an indexer and drops those of the layers that share
(IndexCache, arXiv 2603.12201, section 3); `Stage.index_loss` says which layers teach the ones that are left.
The sparse warm-up needs no dense attention (A.X K2, arXiv 2608.30181). The others are those of DeepSeek-V3.2
(arXiv 2512.02556) and GLM-5 (arXiv 2602.15763). The losses are in `godwit.models.teaching`.
"""

import dataclasses
from pathlib import Path

from godwit.base.errors import GodwitError
from godwit.base.files import read_json
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.train.config import TrainConfig


def freeze_all_but_indexers(model: Decoder) -> None:
    """Frozen parameters get no gradient, and no state in the optimiser."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".indexer." in name)


def starting_from(config: TrainConfig, folder: Path) -> TrainConfig:
    """`config` for the model in a Hugging Face folder: its shape, its tokenizer, and no more context than it has.

    Stages that are longer than that are cut to it, with as many rows and rows a step as before. A model whose layers
    share indexers already keeps its plan; to any other the config's is applied, if it has one.

    Raises:
        GodwitError: there is no model, or one that the stages do not fit.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise GodwitError(f"--init_from: no config.json in {folder}; give a Hugging Face folder or a finished run")
    model = config_from_hf(read_json(path))
    config = _cut(config, model.max_position_embeddings)
    data = config.data
    if (folder / "tokenizer.json").is_file():
        data = dataclasses.replace(data, tokenizer=str(folder))
    depths = config.mtp_depths if model.num_nextn_predict_layers else 0
    return dataclasses.replace(
        config,
        init_from=str(folder),
        model=model,
        plan=config.plan if model.plan is None or model.plan.num_full == model.num_hidden_layers else None,
        data=data,
        mtp_depths=depths,
    )


def _cut(config: TrainConfig, longest: int) -> TrainConfig:
    """The same run with rows of at most `longest` tokens; all other lengths in tokens shrink with the longest row."""
    share = longest / max(stage.seq_len for stage in config.stages)
    if share >= 1:
        return config
    stages = tuple(
        dataclasses.replace(
            stage, seq_len=min(stage.seq_len, longest), tokens=round(stage.tokens * min(1.0, longest / stage.seq_len))
        )
        for stage in config.stages
    )
    optim = config.optim.stretched(share)
    batch_tokens = max(round(config.batch_tokens * share), 1)
    return dataclasses.replace(config, stages=stages, optim=optim, batch_tokens=batch_tokens, ramp=None)
