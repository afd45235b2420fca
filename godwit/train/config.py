"""What one training run is: model, data, optimiser, stages, losses, and how often to look and to save.

`TrainConfig` is plain data and checks itself. It holds no paths of the run (the run folder is an argument of
`train`) and nothing about the machine: how many ranks there are is `torchrun`'s business.

Defaults are the values of the GLM-4.5 report, arXiv 2508.06471, where it gives one: loss weights, bias rate,
loss-free balancing. Sizes of batch and stage have no sensible default for every model and must be given.
"""

from dataclasses import dataclass
from typing import Literal

from godwit.base.errors import GodwitError
from godwit.data.config import DataConfig, Packing
from godwit.models.config import DecoderConfig
from godwit.optim.config import OptimConfig
from godwit.optim.schedules import GLM_BIAS_RATE, GLM_MTP_WEIGHT, BatchRamp, StepSchedule, lr_at

Trains = Literal["model", "indexers", "both"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training with one context length and one data mix.

    Args:
        name: a word for logs and reports.
        tokens: length of the stage in tokens; the last step rounds up to whole rows.
        seq_len: tokens per row, the context length.
        rope_theta: base of the rotary embedding from this stage on; None keeps the one before.
        sources: data mix of this stage; None keeps `data.sources`. The tokenizer stays that of `data`.
        packing: how documents fill rows; None keeps `data.packing`.
        attention: "dense" lets every token see its whole document; "sparse" uses the indexer's choice (DSA families).
        trains: "model" is the language-model loss and leaves indexers as they are; "indexers" freezes all else and
            lets them learn from the attention; "both" does both at once, each from its own loss.
    """

    name: str = "pretrain"
    tokens: int
    seq_len: int
    rope_theta: float | None = None
    sources: tuple[str, ...] | None = None
    packing: Packing | None = None
    attention: Literal["dense", "sparse"] = "dense"
    trains: Trains = "model"

    def __post_init__(self) -> None:
        _positive(self, "tokens", "seq_len", where=f"stage {self.name!r}: ")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Args:
        name: of the run, used in paths and reports.
        model: shape of the decoder.
        init_from: Hugging Face folder to start from; None starts from random weights.
        data: sources, tokenizer and packing.
        optim: optimiser and learning-rate schedule.
        stages: in order; a context or mix change is a new stage.
        batch_tokens: tokens per optimiser step over all ranks, rounded to whole rows.
        ramp: smaller batches at the beginning, ending at `batch_tokens`; None is `batch_tokens` throughout.
        micro_batch_rows: rows that one rank takes through the model at once; the rest of a batch is accumulated.
        grad_clip: largest global gradient norm, of indexers and of all the rest; larger ones are scaled down, each
            by its own. 0 turns clipping off.
        precision: of activations and matrix products; master weights and optimiser states are always float32.
        recompute: keep only each layer's input and compute the rest again in the backward pass (less memory, about
            a third more time).
        ce_chunk_tokens: tokens whose logits exist at one time; bounds memory at chunk x vocabulary.
        mtp_depths: how many tokens beyond the next one are predicted in training, with one parameter set; 0 is off.
        mtp_weight: weight of the mean MTP loss by tokens seen.
        balance_loss_weight: weight of the sequence-wise balance loss.
        bias_update_rate: step of the loss-free balancing bias by tokens seen.
        expert_parallel: ranks over which the experts of a layer are spread; divides the number of ranks.
        seed: everything random derives from it.
        log_every: steps between rows of metrics.
        eval_every: steps between validation losses; 0 is only at the end.
        eval_rows: rows of one validation.
        checkpoint_every: steps between checkpoints; 0 is only at the end and on an interrupt.
        keep_last: newest checkpoints that are kept.
        keep_best: keep also the checkpoint with the lowest validation loss (of those taken at a validated step).
        sample_prompts: texts the finished model continues in `samples.md`.
        sample_tokens: length of each sample.
    """

    name: str
    model: DecoderConfig
    init_from: str | None = None
    data: DataConfig
    optim: OptimConfig
    stages: tuple[Stage, ...]
    batch_tokens: int
    ramp: BatchRamp | None = None
    micro_batch_rows: int = 1
    grad_clip: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    recompute: bool = False
    ce_chunk_tokens: int = 2048
    mtp_depths: int = 0
    mtp_weight: StepSchedule = GLM_MTP_WEIGHT
    balance_loss_weight: float = 1e-4
    bias_update_rate: StepSchedule = GLM_BIAS_RATE
    expert_parallel: int = 1
    seed: int = 0
    log_every: int = 1
    eval_every: int = 100
    eval_rows: int = 32
    checkpoint_every: int = 100
    keep_last: int = 2
    keep_best: bool = True
    sample_prompts: tuple[str, ...] = ()
    sample_tokens: int = 128

    def __post_init__(self) -> None:
        _positive(self, "batch_tokens", "micro_batch_rows", "ce_chunk_tokens", "expert_parallel", "log_every")
        _positive(self, "eval_rows", "keep_last", "sample_tokens")
        _not_negative(self, "grad_clip", "mtp_depths", "balance_loss_weight", "eval_every", "checkpoint_every")
        if not self.stages:
            raise GodwitError("stages is empty; give at least one Stage(tokens=..., seq_len=...)")
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise GodwitError(f"stages are named {', '.join(names)}; give each its own name")
        for stage in self.stages:
            if stage.seq_len > self.model.max_position_embeddings:
                raise GodwitError(
                    f"stage {stage.name!r} has seq_len {stage.seq_len} and the model max_position_embeddings "
                    f"{self.model.max_position_embeddings}; shorten the stage or lengthen the model"
                )
        self._check_trains()
        if self.mtp_depths and not self.model.num_nextn_predict_layers:
            raise GodwitError(
                f"mtp_depths is {self.mtp_depths} and the model has no MTP layer; "
                "set model.num_nextn_predict_layers to 1 or mtp_depths to 0"
            )
        lr_at(self.optim, 0, self.total_tokens)  # raises where warm-up and tail do not fit the run
        if self.ramp is not None and self.ramp.end_tokens != self.batch_tokens:
            raise GodwitError(
                f"ramp ends at {self.ramp.end_tokens} tokens and batch_tokens is {self.batch_tokens}; make them equal"
            )

    def _check_trains(self) -> None:
        kinds = {stage.trains for stage in self.stages}
        if kinds != {"model"} and self.model.index_topk_or_none is None:
            raise GodwitError(
                f"a {self.model.model_type} model has no indexers to train; godwit convert gives it some, "
                "or set the stages' trains to model"
            )
        if "indexers" in kinds and len(kinds) > 1:
            raise GodwitError(
                "stages that train indexers alone freeze the rest, and a run is frozen from end to end; "
                "make the other stages a second run with --init_from"
            )

    @property
    def freezes(self) -> bool:
        """Whether all but the indexers is frozen."""
        return self.stages[0].trains == "indexers"

    @property
    def total_tokens(self) -> int:
        """Tokens of all stages; the horizon of the learning-rate schedule."""
        return sum(stage.tokens for stage in self.stages)


def _positive(config: TrainConfig | Stage, *names: str, where: str = "") -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise GodwitError(f"{where}{name} is {getattr(config, name)}; it must be above 0")


def _not_negative(config: TrainConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 0:
            raise GodwitError(f"{name} is {getattr(config, name)}; it must be 0 or more")
