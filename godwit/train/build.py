"""From a config to the sharded objective: weights made on the spot, or read from a folder.

Fresh weights are drawn after sharding, each rank only its own rows, so that no rank ever holds the whole model; the
numbers do not depend on the number of ranks. Given weights are read whole on every rank before sharding.
"""

import torch

from godwit.base.config import differences, to_json
from godwit.base.errors import GodwitError
from godwit.base.seeds import derive_seed
from godwit.data.prepare import Prepared
from godwit.dist.parallelize import Meshes, first_row, is_distributed, local, make_meshes, shard, whole
from godwit.dist.world import World
from godwit.models.config import DecoderConfig
from godwit.models.decoder import Decoder
from godwit.models.init import Place, build, empty, initialise
from godwit.models.weights import load as load_weights
from godwit.train.config import TrainConfig
from godwit.train.distil import freeze_all_but_indexers
from godwit.train.objective import Objective

NOT_SHAPE = ("eos_token_id", "pad_token_id", "rope_theta", "max_position_embeddings", "initializer_range")
"""Fields of a model config in which given weights may differ from the run's: the run's hold."""


def make_objective(config: TrainConfig, prepared: Prepared, world: World) -> tuple[Objective, Meshes | None]:
    """The model with its losses, in float32 (FSDP2 casts for the arithmetic only), sharded if there are ranks to."""
    _check_vocab(config.model, prepared)
    if not is_distributed():
        if config.expert_parallel > 1:
            raise GodwitError(
                f"expert_parallel is {config.expert_parallel} and there is one process; "
                f"start with torchrun --nproc-per-node {config.expert_parallel}, or set --expert-parallel 1"
            )
        return _objective(config, _fresh_or_given(config, world)), None
    meshes = make_meshes(world, expert_parallel=config.expert_parallel)
    if config.init_from is not None:
        objective = _objective(config, _given_weights(config, world))
        _shard(objective, config, meshes)
        return objective, meshes
    objective = _objective(config, empty(config.model, dtype=torch.float32, device="meta"))
    _shard(objective, config, meshes)
    objective.to_empty(device=world.device)
    initialise(objective.model, seed=_init_seed(config), place=lambda name, p: _place(name, p, meshes))
    return objective, meshes


def is_expert_weight(name: str) -> bool:
    """Whether a parameter is one of the fused expert tensors, which may be spread by expert."""
    return ".mlp.experts." in name


def _objective(config: TrainConfig, model: Decoder) -> Objective:
    if config.freezes:
        freeze_all_but_indexers(model)
    return Objective(model, ce_chunk_tokens=config.ce_chunk_tokens, recompute=config.recompute)


def _shard(objective: Objective, config: TrainConfig, meshes: Meshes) -> None:
    model = objective.model
    shard(objective, blocks=model.blocks(), experts=model.experts(), meshes=meshes, precision=config.precision)


def _place(name: str, parameter: torch.nn.Parameter, meshes: Meshes) -> Place:
    laid_out = whole(parameter.detach(), meshes, is_expert=is_expert_weight(name))
    return Place(local(laid_out), first_row(laid_out), laid_out.shape)


def _init_seed(config: TrainConfig) -> int:
    return derive_seed(config.seed, "init")


def _fresh_or_given(config: TrainConfig, world: World) -> Decoder:
    if config.init_from is not None:
        return _given_weights(config, world)
    return build(config.model, seed=_init_seed(config), device=world.device)


def _given_weights(config: TrainConfig, world: World) -> Decoder:
    """The weights of `config.init_from`, whole on every rank."""
    assert config.init_from is not None
    model = load_weights(config.init_from, dtype=torch.float32, device=world.device, plan=config.model.plan)
    given, wanted = (
        {name: value for name, value in to_json(each).items() if name not in NOT_SHAPE}
        for each in (model.config, config.model)
    )
    changed = differences(given, wanted)
    if changed:
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise GodwitError(
            f"the model in {config.init_from} has another shape than the config ({shown}); make them equal"
        )
    return model


def _check_vocab(model: DecoderConfig, prepared: Prepared) -> None:
    if prepared.tokenizer.vocab_size > model.vocab_size:
        raise GodwitError(
            f"the tokenizer has {prepared.tokenizer.vocab_size} tokens and model.vocab_size is {model.vocab_size}; "
            f"set --model.vocab-size {prepared.tokenizer.vocab_size} or --data.vocab-size {model.vocab_size}"
        )
