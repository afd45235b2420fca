"""What a person can set about the optimizer and its learning-rate schedule. No torch here.

Defaults are the values of the GLM-4.5 report (arXiv 2508.06471, section 2.4 "hyper-parameters") where it gives one;
the GLM-5 report (arXiv 2602.15763, appendix A) changes the learning rates only. `[P45]`, `[P5]` mark them below;
`(M)` marks what is common practice and stated in neither.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from godwit.base.errors import GodwitError

# Modules whose matrices are left to AdamW, each a dotted tail of the module's path. Vectors and scalars (norm weights,
# biases, learned sinks) always are, whatever their name.
#   embed_tokens  [P45]: all but embeddings, biases and RMSNorm weights goes to Muon
#   lm_head       not stated in [P45]; AdamW in Moonlight (arXiv 2502.16982), whose Muon form the reports use
#   mlp.gate      the router. By the letter of [P45] it would be Muon's; we keep it with AdamW, since its rows are
#                 separate scores and an orthogonal update would move the scores of idle experts as far as those of busy
#                 ones. Leave it out of the tuple to follow the letter.
#   conv1d        (hidden, 1, kernel): a depthwise filter per channel, three-dimensional but no batch of matrices
# Muon keeps, because [P45] names no more exceptions: every attention and feed-forward projection, all experts,
# the indexer's wq_b, wk and weights_proj, and the eh_proj of multi-token prediction.
ADAMW_MODULES = ("embed_tokens", "lm_head", "mlp.gate", "conv1d")


@dataclass(frozen=True, kw_only=True)
class MuonConfig:
    """Muon (arXiv 2502.16982), for matrices."""

    momentum: float = 0.95
    """Share of the old momentum kept each step. [P45]"""
    nesterov: bool = True
    """Look one momentum step ahead. (M)"""
    ns_steps: int = 5
    """Newton-Schulz iterations. [P45]"""
    ns_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of Newton-Schulz; auto is bfloat16 on a GPU and float32 on a CPU. bfloat16 is about twice as fast on a
    CPU with AVX-512 BF16 as well, but depends on the order of sums, so 1 rank and 2 ranks then agree less closely."""
    update_rms: float = 0.2
    """Root mean square an update is scaled to before the learning rate; 0.2 is about AdamW's, which lets both share one
    learning rate. [P45]"""
    weight_decay: float = 0.1
    """Decoupled: weights shrink by lr * weight_decay a step. [P45]"""
    split: bool = True
    """Muon Split: orthogonalise each head's slice of an up-projection on its own. [P5] Fused experts are taken apart
    in any case: they are several matrices in one tensor."""

    def __post_init__(self) -> None:
        _check_range("muon.momentum", self.momentum, 0.0, 1.0, below=True)
        _check_range("muon.ns_steps", self.ns_steps, 1, 20)
        _check_range("muon.update_rms", self.update_rms, 0.0, None)
        _check_range("muon.weight_decay", self.weight_decay, 0.0, None)


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW (arXiv 1711.05101), for everything that is not Muon's."""

    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the two moments. (M)"""
    eps: float = 1e-8
    """Added to the root of the second moment. (M)"""
    weight_decay: float = 0.1
    """Decoupled, for matrices and embeddings only; norms and biases are never decayed. (M)"""
    lr_scale: float = 1.0
    """These parameters learn at lr * lr_scale."""
    modules: tuple[str, ...] = ADAMW_MODULES
    """Modules whose matrices are AdamW's: dotted tails of their paths, such as lm_head or mlp.gate."""

    def __post_init__(self) -> None:
        for beta in self.betas:
            _check_range("adamw.betas", beta, 0.0, 1.0, below=True)
        _check_range("adamw.eps", self.eps, 0.0, None)
        _check_range("adamw.weight_decay", self.weight_decay, 0.0, None)
        _check_range("adamw.lr_scale", self.lr_scale, 0.0, None)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """One optimizer and its learning rate over a run.

    The rate rises linearly over `warmup_tokens`, follows `schedule` to `min_lr`, and may end in a linear tail: GLM-5
    runs a cosine 2e-4 -> 4e-5 through pre-training and a line 4e-5 -> 1e-5 through mid-training [P5].
    """

    lr: float = 2e-4
    """Peak learning rate. [P5]; GLM-4.5 2.5e-4 [P45]"""
    min_lr: float = 4e-5
    """Where the schedule ends; constant takes no notice of it. [P5]; GLM-4.5 2.5e-5 [P45]"""
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """Shape between warm-up and tail. Cosine rather than warm-up-stable-decay (wsd): better on SimpleQA, MMLU. [P45]"""
    warmup_tokens: int = 0
    """Tokens over which the rate rises from 0 to lr. The reports say from 0, not how long."""
    wsd_decay_fraction: float = 0.2
    """wsd: the last part of the run (warm-up and tail not counted) over which lr falls linearly to min_lr. (M)"""
    tail_tokens: int = 0
    """Length of the linear tail at the end of the run; 0 for none."""
    tail_lr: float = 0.0
    """Rate at the end of the tail. [P5]: 1e-5"""
    matrices: Literal["muon", "adamw"] = "muon"
    """Who updates the matrices; adamw is the baseline to compare with."""
    muon: MuonConfig = field(default_factory=MuonConfig)
    adamw: AdamWConfig = field(default_factory=AdamWConfig)

    def __post_init__(self) -> None:
        _check_range("lr", self.lr, 0.0, None)
        _check_range("min_lr", self.min_lr, 0.0, None)
        if self.schedule != "constant" and self.min_lr > self.lr:
            raise GodwitError(f"optim.min_lr {self.min_lr} is above optim.lr {self.lr}: set optim.min_lr lower")
        _check_range("warmup_tokens", self.warmup_tokens, 0, None)
        _check_range("wsd_decay_fraction", self.wsd_decay_fraction, 0.0, 1.0)
        _check_range("tail_tokens", self.tail_tokens, 0, None)
        _check_range("tail_lr", self.tail_lr, 0.0, None)

    def stretched(self, share: float) -> "OptimConfig":
        """The same for a run of `share` times as many tokens."""
        warmup_tokens, tail_tokens = int(self.warmup_tokens * share), int(self.tail_tokens * share)
        return replace(self, warmup_tokens=warmup_tokens, tail_tokens=tail_tokens)


def _check_range(name: str, value: float, low: float, high: float | None, *, below: bool = False) -> None:
    """GodwitError unless low <= value <= high (value < high with `below`; no upper bound when high is None)."""
    if value >= low and (high is None or value < high or (value == high and not below)):
        return
    allowed = f"at least {low}" if high is None else f"from {low} to {'below ' if below else ''}{high}"
    raise GodwitError(f"optim.{name} is {value}: set it to {allowed}")
