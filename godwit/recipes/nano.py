"""nano: a few million parameters of the GLM-5 kind on two CPU cores, in about four minutes.

Everything of the big recipes is on: latent attention, experts with loss-free balancing, multi-token prediction, Muon
Split. Attention is dense, as in GLM-5's own pre-training; sparse attention is grafted on afterwards.

None of these numbers is published. They were chosen on two cores for the loss after four minutes.
"""

from dataclasses import replace

from godwit.data.config import DataConfig
from godwit.models.families.glm4_moe_lite import Config
from godwit.optim.config import AdamWConfig, OptimConfig
from godwit.optim.schedules import BatchRamp, StepSchedule
from godwit.train.config import Stage, TrainConfig


def nano() -> TrainConfig:
    """What `make run` trains: 5.7M parameters on the standard library's sources."""
    return TrainConfig(
        name="nano",
        model=model(),
        data=DataConfig(sources=("stdlib",), vocab_size=4096, holdout=0.05),
        optim=OptimConfig(lr=4e-3, min_lr=2e-4, warmup_tokens=20_000, adamw=AdamWConfig(lr_scale=2.0)),
        # Best fit, because it shuffles rows: four rows cut from one stream would often be four pieces of one file.
        stages=(Stage(name="pretrain", tokens=600_000, seq_len=512, packing="best_fit"),),
        batch_tokens=2048,
        micro_batch_rows=4,
        ce_chunk_tokens=2048,
        mtp_depths=1,
        mtp_weight=StepSchedule(values=(0.3, 0.1), boundaries=(400_000,)),
        bias_update_rate=StepSchedule(values=(1e-3,)),
        log_every=5,
        eval_every=50,
        eval_rows=16,
        checkpoint_every=50,
        sample_prompts=("def read_lines(path):\n", "import os\n", "class Queue:\n"),
        sample_tokens=96,
    )


def long() -> TrainConfig:
    """The dense model behind the bundled `nano`: 12 layers that look things up 8,192 tokens back.

    Rows grow as looking up is learnt. At first there is nothing but tasks, in rows so short that the one word that
    counts is found by chance: with code around it, or in rows of 256, it had not begun after 500,000 tokens; so it had
    after 360,000.
    """
    return TrainConfig(
        name="nano-long",
        model=long_model(),
        # Six million characters' worth of tasks, so that each of their words becomes one token.
        data=DataConfig(
            sources=("stdlib@1", "recall@2?docs=23438&chars=666&facts=10"),
            vocab_size=2048,
            holdout=0.05,
            packing="best_fit",
        ),
        optim=OptimConfig(lr=4e-3, min_lr=2e-4, warmup_tokens=20_000, adamw=AdamWConfig(lr_scale=2.0)),
        stages=(
            Stage(name="tiny", tokens=600_000, seq_len=64, sources=("recall?docs=24000&chars=20&facts=4",)),
            Stage(name="short", tokens=500_000, seq_len=256),
            _stage("middle", "recall@2?docs=400&chars=2660&facts=42", tokens=400_000, seq_len=1024),
            # Facts as close together as they come: only answers teach, and here every row has a hundred.
            _stage("far", "recall@3?docs=200&chars=11000&facts=160", tokens=600_000, seq_len=4096),
            _stage("long", "recall@3?docs=100&chars=22000&facts=160", tokens=524_288, seq_len=8192),
        ),
        batch_tokens=4096,
        ramp=BatchRamp(start_tokens=1024, end_tokens=4096, ramp_tokens=2_500_000),
        micro_batch_rows=64,
        ce_chunk_tokens=2048,
        mtp_depths=1,
        log_every=5,
        eval_every=0,
        eval_rows=4,
        checkpoint_every=50,
        sample_prompts=("# remember falcon copper\nimport os\n# recall falcon",),
        sample_tokens=4,
    )


def _stage(name: str, tasks: str, *, tokens: int, seq_len: int) -> Stage:
    """Real code, and retrieval tasks, of which each fills most of a row."""
    return Stage(name=name, tokens=tokens, seq_len=seq_len, sources=("stdlib@1", tasks))


def smoke() -> TrainConfig:
    """A few seconds: two layers, eight steps; what the tests run."""
    config = nano()
    return TrainConfig(
        name="nano-smoke",
        model=model(num_hidden_layers=2, hidden_size=64, vocab_size=512),
        data=DataConfig(sources=("stdlib?only=json,collections,logging",), vocab_size=512),
        optim=replace(config.optim, warmup_tokens=512),
        stages=(Stage(name="pretrain", tokens=4096, seq_len=128),),
        batch_tokens=512,
        micro_batch_rows=2,
        mtp_depths=1,
        eval_every=4,
        eval_rows=4,
        checkpoint_every=4,
        sample_prompts=("import ",),
        sample_tokens=16,
    )


def long_model() -> Config:
    """A million parameters, experts only in the prediction layer: what little training needs most is that every
    parameter sees every token."""
    return Config(
        vocab_size=2048,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=12,
        first_k_dense_replace=12,
        num_nextn_predict_layers=1,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        num_attention_heads=2,
        num_key_value_heads=2,
        q_lora_rank=48,
        kv_lora_rank=48,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        max_position_embeddings=16_384,
        rope_theta=10_000.0,
    )


def model(*, num_hidden_layers: int = 6, hidden_size: int = 192, vocab_size: int = 4096) -> Config:
    """The shape of GLM-4.7-Flash made small: the same ratios of heads, latents and experts, roughly."""
    return Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=512,
        moe_intermediate_size=96,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=96,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=48,
        n_routed_experts=8,
        num_experts_per_tok=2,
        routed_scaling_factor=1.8,
        max_position_embeddings=2048,
        rope_theta=10_000.0,
    )
