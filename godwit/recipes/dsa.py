"""DSA: teach a dense model's indexers, then adapt it to what they select (DeepSeek-V3.2, arXiv 2512.02556).

    godwit convert MODEL --out converted
    godwit train dsa:warmup --init_from converted          then --init_from the run it made:
    godwit train dsa:sparse --init_from runs/dsa-warmup

With `--init_from`, model and tokenizer are the folder's, and stages are cut to its longest context. [P5] marks what
GLM-5's report states (arXiv 2602.15763, section 2.2 and its appendix), [V32] DeepSeek-V3.2's, (ours) what neither says.
Their batches are millions of tokens: on one machine give smaller ones, as `nano_warmup` and `nano_sparse` do.

The nano warm-up's rate is from a small sweep, on a 4-layer model of width 64 that had seen 0.7M tokens of the same mix
(`index_topk` 32, rows of 512, 16 steps of 2,048 tokens, one seed; held-out means over layers after the last step):

    lr, Muon    KL      recall    loss over the selection (dense: 3.626)
    3e-3        0.661   0.397     3.842
    1e-2        0.600   0.504     3.708
    3e-2        0.260   0.560     3.677
    1e-1        0.114   0.578     3.675

At the other end nothing broke yet. `nano_warmup` takes four times as many steps, so half of the best rate moves its
weights further than the best run did. What the warm-up does not find, the sparse stage does not find again: with a
third of the long rows and fewer facts, one seed in three found 80 % of what was asked for at 4,096 tokens before that
stage and behind it. `nano_sparse` is there for the loss, at an eighth of the dense model's highest rate: at 5e-4
answers stayed as they were, at 1e-3 (524,000 tokens) 97 % became 87, at 2e-3 (164,000) 98 became 88.
"""

from dataclasses import replace

from godwit.data.config import DataConfig
from godwit.models.config import DecoderConfig
from godwit.models.convert import IndexerShape, sparse_config
from godwit.models.published import glm5
from godwit.optim.config import AdamWConfig, OptimConfig
from godwit.optim.schedules import GLM_BIAS_RATE, StepSchedule
from godwit.recipes import nano
from godwit.recipes._parts import B
from godwit.train.config import Stage, TrainConfig

SEQ_LEN = 202_752
NANO_DATA = DataConfig(sources=("stdlib@1", "recall@3?docs=200&chars=24000&facts=160"), vocab_size=4096, holdout=0.05)
"""Code, and code with facts to be looked up, about 8,192 tokens a document; many facts: only answers teach."""
WARMUP_BATCH = 14 * SEQ_LEN  # [P5] 14 sequences a step; [V32] 16 of 128K


def warmup() -> TrainConfig:
    """As published: 1,000 steps, everything frozen but the indexers, dense attention. Needs `--init_from`."""
    return TrainConfig(
        name="dsa-warmup",
        model=glm5(),
        init_from="converted/",
        data=DataConfig(sources=("data/mid-200k/",), tokenizer="tokenizer/"),
        # [P5] 5e-3 -> 2e-4; [V32] 1e-3. The shape between the ends is (ours).
        optim=OptimConfig(lr=5e-3, min_lr=2e-4, schedule="cosine"),
        stages=(
            Stage(
                name="warmup",
                tokens=1000 * WARMUP_BATCH,
                seq_len=SEQ_LEN,
                packing="best_fit",
                attention="dense",
                trains="indexers",
            ),
        ),
        batch_tokens=WARMUP_BATCH,
        precision="bfloat16",
        recompute=True,
        mtp_depths=1,  # (ours) the prediction layer's indexer learns with the others
        expert_parallel=32,  # (ours)
        eval_every=50,
        checkpoint_every=50,
    )


def sparse() -> TrainConfig:
    """As published: 20B tokens over the selection; indexers by their loss, all else by its own. Needs `--init_from`."""
    return TrainConfig(
        name="dsa-sparse",
        model=glm5(),
        init_from="runs/dsa-warmup/model",
        data=DataConfig(sources=("data/mid-200k/",), tokenizer="tokenizer/"),  # [P5] the data of mid-training
        optim=OptimConfig(lr=1e-5, min_lr=1e-5, schedule="constant"),  # [P5]; [V32] 7.3e-6
        stages=(
            Stage(
                name="sparse",
                tokens=20 * B,  # [P5]; [V32] 943.7B
                seq_len=SEQ_LEN,
                packing="best_fit",
                attention="sparse",
                trains="both",
            ),
        ),
        batch_tokens=WARMUP_BATCH,  # (ours) the report gives none; [V32] 480 sequences of 128K
        precision="bfloat16",
        recompute=True,
        mtp_depths=3,  # [P5] as in pre-training
        mtp_weight=StepSchedule(values=(0.1,)),  # [P5] its value at the end of pre-training
        bias_update_rate=StepSchedule(values=(GLM_BIAS_RATE.values[-1],)),
        expert_parallel=32,  # (ours)
        eval_every=100,
        checkpoint_every=100,
    )


def sparse_warmup() -> TrainConfig:
    """Instead of `warmup`, without dense attention: the KL runs over the indexer's own selection. Needs `--init_from`.

    A.X K2's (arXiv 2608.30181). Its numbers are not known here: those of `warmup` stand in (ours). It learns to order
    what it selects, and learns of other positions only as they enter the selection.
    """
    config = warmup()
    stages = (replace(config.stages[0], name="sparse-warmup", attention="sparse"),)
    return replace(config, name="dsa-sparse-warmup", stages=stages)


def nano_warmup() -> TrainConfig:
    """The warm-up for a model of the nano kind on two CPU cores, in minutes. All values (ours), see above."""
    return TrainConfig(
        name="dsa-nano-warmup",
        model=_nano_model(),
        init_from="converted/",
        data=NANO_DATA,
        optim=OptimConfig(lr=5e-2, min_lr=2.5e-3),
        # Many short rows to learn what is looked for, then some as long as the model takes.
        stages=(
            Stage(name="warmup", tokens=131_072, seq_len=2048, trains="indexers"),
            Stage(name="warmup-long", tokens=262_144, seq_len=8192, trains="indexers"),
        ),
        batch_tokens=4096,
        mtp_depths=1,
        eval_every=20,
        eval_rows=4,
        checkpoint_every=10,
    )


def nano_sparse_warmup() -> TrainConfig:
    """`nano_warmup` over the indexer's own selection, which costs no dense attention (see `sparse_warmup`)."""
    config = nano_warmup()
    stages = tuple(replace(stage, attention="sparse") for stage in config.stages)
    return replace(config, name="dsa-nano-sparse-warmup", stages=stages)


def nano_sparse() -> TrainConfig:
    """The adaptation to go with `nano_warmup`. All values (ours), see above."""
    return TrainConfig(
        name="dsa-nano-sparse",
        model=_nano_model(),
        init_from="runs/dsa-nano-warmup/model",
        data=NANO_DATA,
        optim=OptimConfig(lr=5e-4, min_lr=5e-5),
        stages=(
            Stage(name="sparse", tokens=98_304, seq_len=4096, attention="sparse", trains="both"),
            Stage(name="sparse-long", tokens=65_536, seq_len=8192, attention="sparse", trains="both"),
        ),
        batch_tokens=4096,
        mtp_depths=1,
        mtp_weight=StepSchedule(values=(0.1,)),
        eval_every=20,
        eval_rows=4,
        checkpoint_every=10,
        sample_prompts=("def read_lines(path):\n", "import os\n"),
        sample_tokens=96,
    )


def smoke() -> TrainConfig:
    """Seconds on a CPU, from random weights: a dense stage, then one in which indexers choose and learn."""
    return TrainConfig(
        name="dsa-smoke",
        model=_nano_model(hidden_size=64, num_hidden_layers=2, vocab_size=512, index_topk=32),
        data=DataConfig(sources=("stdlib?only=json,logging",), vocab_size=512),
        optim=OptimConfig(lr=2e-3, min_lr=4e-4, warmup_tokens=512, adamw=AdamWConfig(lr_scale=2.0)),
        stages=(
            Stage(name="dense", tokens=2048, seq_len=128),
            Stage(name="sparse", tokens=1024, seq_len=128, attention="sparse", trains="both"),
        ),
        batch_tokens=512,
        micro_batch_rows=2,
        mtp_depths=1,
        eval_every=0,
        eval_rows=2,
        checkpoint_every=4,
        sample_prompts=("import ",),
        sample_tokens=8,
    )


def _nano_model(*, index_topk: int = 256, **shape: int) -> DecoderConfig:
    """What `godwit convert` makes of the nano recipe's model, with 4 index heads of 32; `shape` as in `nano.model`."""
    indexers = IndexerShape(index_topk=index_topk, index_n_heads=4, index_head_dim=32)
    return sparse_config(replace(nano.model(**shape), max_position_embeddings=8192), indexers)
