"""What a run writes down while it trains: one JSON line and TensorBoard scalars per logged step, expert loads as JSON.

Speed is tokens over the time of optimiser steps alone; validation and checkpoints are not in it. MFU here is "model
FLOPs per second over what a plain matrix product reaches on the same device", measured once at the start: it needs no
table of devices, and says the same thing on two CPU cores as on a GPU. Recomputed activations do not count as useful.
"""

import time
from types import TracebackType
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from godwit.base.files import write_json
from godwit.base.runs import RunFolder
from godwit.dist.world import World
from godwit.models.flops import flops_per_token
from godwit.train.config import Stage, TrainConfig
from godwit.train.evaluate import Evaluation
from godwit.train.schedule import Position, StepPlan
from godwit.train.step import StepReport

MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
MATMUL_REPEATS = 4


class Metrics:
    """A context manager; only the first rank writes, the others keep silent.

    Args:
        run: folder to write to.
        config: of the run.
        world: this process among its peers.
        step: steps done before (a resumed run); later TensorBoard points are superseded.
    """

    def __init__(self, run: RunFolder, *, config: TrainConfig, world: World, step: int):
        self.run = run
        self.world = world
        self.log_every = config.log_every
        self.first_step = step
        self.matmul_rate = matmul_rate(world.device, config.precision)
        self.flops_per_token = [_flops(config, stage) for stage in config.stages]
        self.train_seconds = max((row.get("seconds", 0.0) for row in run.read_metrics()), default=0.0)
        self._tokens = 0
        self._seconds = 0.0
        self._load_LE: Tensor | None = None
        self._board: SummaryWriter | None = None

    def __enter__(self) -> "Metrics":
        if self.world.is_first:
            self._board = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=self.first_step + 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()

    def step(self, plan: StepPlan, report: StepReport, *, seconds: float, last: bool) -> None:
        """Note a step; writes a row when one is due, and for the last step."""
        self._tokens += plan.num_tokens
        self._seconds += seconds
        self.train_seconds += seconds
        self._load_LE = report.load_LE if self._load_LE is None else self._load_LE + report.load_LE
        if last or plan.after.step % self.log_every == 0:
            if self.world.is_first:
                self._write(self._row(plan, report))
            self._tokens, self._seconds = 0, 0.0
            self._load_LE = torch.zeros_like(report.load_LE)

    def evaluation(self, at: Position, found: Evaluation) -> None:
        """Note a validation after step `at.step`."""
        if self.world.is_first:
            row = {"step": at.step, "tokens": at.tokens, "seconds": self.train_seconds}
            row |= {"valid_loss": found.loss, "bits_per_byte": found.bits_per_byte}
            if found.indexers is not None:
                row |= {"dense_loss": found.indexers.dense_loss, "sparse_gap": found.loss - found.indexers.dense_loss}
                row |= {"valid_index_kl": list(found.indexers.kl_L), "index_recall": list(found.indexers.recall_L)}
                row |= {"index_recall_worst": list(found.indexers.worst_F)}
            self._write(row)

    def _row(self, plan: StepPlan, report: StepReport) -> dict[str, Any]:
        assert self._load_LE is not None
        tokens_per_second = self._tokens / max(self._seconds, 1e-9)
        flops_per_second = self.flops_per_token[plan.stage] * tokens_per_second
        share_LE = self._load_LE / self._load_LE.mean(1, keepdim=True).clamp(min=1e-9)
        if share_LE.numel():
            loads = [[round(value, 3) for value in row] for row in share_LE.tolist()]
            write_json(self.run.path / "expert_load.json", {"step": plan.after.step, "load": loads})
        return {
            "step": plan.after.step,
            "tokens": plan.after.tokens,
            "stage": plan.stage,
            "loss": report.loss,
            "mtp_losses": list(report.mtp_losses),
            "balance_loss": report.balance_loss,
            **({"index_kl": list(report.index_kl)} if report.index_kl else {}),
            "grad_norm": report.norms.total,
            "grad_norms": report.norms.groups,
            "lr": plan.lr,
            "mtp_weight": plan.mtp_weight,
            "bias_rate": plan.bias_rate,
            "batch_tokens": plan.num_tokens,
            "seconds": self.train_seconds,
            "tokens_per_second": tokens_per_second,
            "mfu": flops_per_second / (self.matmul_rate * self.world.size),
            "load_max_violation": [round(max(row) - 1, 4) for row in share_LE.tolist()],
            "load_min_violation": [round(1 - min(row), 4) for row in share_LE.tolist()],
            "memory_bytes": memory_bytes(self.world.device),
        }

    def _write(self, row: dict[str, Any]) -> None:
        self.run.append_metrics(row)
        assert self._board is not None, "rows are written inside the with block"
        for name, value in row.items():
            if name == "grad_norms":
                for group, norm in value.items():
                    self._board.add_scalar(f"grad_norm/{group}", norm, row["step"])
            elif isinstance(value, list):
                for index, each in enumerate(value):
                    self._board.add_scalar(f"{name}/{index}", each, row["step"])
            elif name not in ("step", "stage"):
                self._board.add_scalar(name, value, row["step"])


def _flops(config: TrainConfig, stage: Stage) -> float:
    """Training FLOPs of a token of the stage, as if every document were as long as a row."""
    dense = stage.attention == "dense"
    return flops_per_token(config.model, stage.seq_len, num_mtp_depths=config.mtp_depths, dense=dense).training


def memory_bytes(device: torch.device) -> int:
    """Peak memory of the GPU so far; on a CPU what this process holds now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss


def matmul_rate(device: torch.device, precision: str) -> float:
    """FLOPs per second of a square matrix product on `device`, the best of a few (some milliseconds to run)."""
    size = MATMUL_SIZE[device.type]
    x = torch.ones(size, size, device=device, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
    best = float("inf")
    for _ in range(MATMUL_REPEATS):
        start = clock(device)
        x @ x
        best = min(best, clock(device) - start)
    return 2 * size**3 / max(best, 1e-9)


def clock(device: torch.device) -> float:
    """Seconds, after the device has finished what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
