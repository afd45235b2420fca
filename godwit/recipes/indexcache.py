"""IndexCache: train the indexers that are left to serve all the layers that share them (arXiv 2603.12201, section 3).

    godwit train indexcache:nano_warmup --init_from MODEL                       uniform 1/4; or --plan FSSFSSSS...
    godwit train indexcache:nano_sparse --init_from runs/indexcache-nano-warmup
    godwit study indexcache --model MODEL                                       which of the paper's claims hold

MODEL has an indexer in every layer (`godwit convert`, `dsa`); those of S layers are dropped on loading. A checkpoint
that shares already (`godwit indexcache export`, or the first run above) is taken as it is. With `--init_from`, model
and tokenizer are the folder's, and stages are cut to its longest context.

[PC] marks what the paper states, (ours) what it leaves open: learning rates, batch, and the length of the pattern's
search data are not given. Losses: `--stages.0.index_loss multi`, `mean` (equal gradients) or `single` (the ablation).
"""

from dataclasses import replace

from godwit.models.convert import IndexerShape, sparse_config
from godwit.models.indexed import IndexedConfig, with_plan
from godwit.models.published import glm47_flash
from godwit.recipes import dsa
from godwit.train.config import TrainConfig

SEQ_LEN = 202_752  # [PC] "200K"; to the token as in GLM-5, whose tokenizer it is (ours)
BATCH = 16 * SEQ_LEN  # (ours) GLM-4.7-Flash's own DSA warm-up had 16 rows a step (arXiv 2602.15763, section 2.2)
UNIFORM = "1/4"  # [PC] after training uniform is as good as searched, and 1/4 is the practical limit


def paper_warmup() -> TrainConfig:
    """The first 1,000 of the published run's steps: dense attention, indexers alone. Needs `--init_from`."""
    config = dsa.warmup()
    stage = replace(config.stages[0], tokens=1000 * BATCH, index_loss="multi")  # [PC] 1,000 steps
    return replace(
        config,
        name="indexcache-paper-warmup",
        model=_model(),
        init_from="glm-4.7-flash-dsa/",
        plan=UNIFORM,
        # [PC] supervised fine-tuning data, in a pipeline shorter than a model's own; which data is not said.
        data=replace(config.data, sources=("data/sft-200k/",)),
        # (ours) The rates are not given: those of GLM-5's warm-up stand.
        stages=(stage,),
        batch_tokens=BATCH,
        mtp_depths=0,  # (ours) not mentioned
        expert_parallel=8,  # (ours)
    )


def paper() -> TrainConfig:
    """The other 4,000 steps: indexers by all their layers over the selection, all else by the loss. After warm-up."""
    config = dsa.sparse()
    stage = replace(config.stages[0], tokens=4000 * BATCH, index_loss="multi")  # [PC] 4,000 steps
    return replace(
        config,
        name="indexcache-paper",
        model=_model(),
        init_from="runs/indexcache-paper-warmup/model",
        plan=UNIFORM,
        data=replace(config.data, sources=("data/sft-200k/",)),
        stages=(stage,),
        batch_tokens=BATCH,
        mtp_depths=0,
        expert_parallel=8,
    )


def nano_warmup() -> TrainConfig:
    """Warm-up for a small model on two CPU cores, in minutes: `dsa:nano_warmup` for indexers that are trained already.

    A third of its rate (ours): the indexers know their own layer and have to learn the others'. Fewer long rows.
    """
    config = dsa.nano_warmup()
    short, long = config.stages
    return replace(
        config,
        name="indexcache-nano-warmup",
        model=_nano(config),
        init_from="dsa/",
        plan=UNIFORM,
        optim=replace(config.optim, lr=config.optim.lr / 3, min_lr=config.optim.min_lr),
        stages=(replace(short, tokens=196_608), replace(long, tokens=98_304)),
    )


def nano_sparse() -> TrainConfig:
    """The sparse stage to go with `nano_warmup`: `dsa:nano_sparse` at twice the rate, as more has to be got used to."""
    config = dsa.nano_sparse()
    short, long = config.stages
    return replace(
        config,
        name="indexcache-nano-sparse",
        model=_nano(config),
        init_from="runs/indexcache-nano-warmup/model",
        plan=UNIFORM,
        optim=replace(config.optim, lr=2 * config.optim.lr),
        stages=(replace(short, tokens=65_536), replace(long, tokens=131_072)),
    )


def smoke() -> TrainConfig:
    """Seconds on a CPU, from random weights: one indexer for two layers, a dense stage and a sparse one."""
    config = dsa.smoke()
    stages = tuple(replace(stage, trains="both") for stage in config.stages)
    return replace(config, name="indexcache-smoke", plan="FS", stages=stages)


def _model() -> IndexedConfig:
    """GLM-4.7-Flash with indexers. [PC] the base; the indexers' shape is (ours): that of GLM-5, with half its heads."""
    return with_plan(sparse_config(glm47_flash(), IndexerShape(index_topk=2048, index_n_heads=16)), UNIFORM)


def _nano(config: TrainConfig) -> IndexedConfig:
    return with_plan(config.model, UNIFORM)
