"""One optimiser step: draw, forward and backward per micro-batch, check, clip, update.

Losses are divided by counts of the whole step over all ranks, so cutting a step into more micro-batches or spreading
it over more ranks changes nothing but rounding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from godwit.nn.moe import update_expert_bias
from godwit.optim.build import set_lr
from godwit.train.config import Stage
from godwit.train.guard import GradNorms, clip_gradients, gradient_norms, stop_if_not_finite
from godwit.train.objective import MicroBatch, Scales
from godwit.train.schedule import StepPlan, micro_batches
from godwit.train.state import TrainState, enter_stage


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step tells: means over the global batch, gradient norms before clipping, tokens per expert (L, E).

    `index_kl` has the indexers' divergence a token for each layer, where a stage trains them.
    """

    loss: float
    mtp_losses: tuple[float, ...]
    balance_loss: float
    norms: GradNorms
    load_LE: Tensor
    index_kl: tuple[float, ...] = ()

    def shown(self) -> dict[str, float]:
        """Figures for the progress line: the loss, and the indexers' where they learn."""
        shown = {"loss": self.loss}
        return shown | {"kl": sum(self.index_kl) / len(self.index_kl)} if self.index_kl else shown


def take_step(state: TrainState, plan: StepPlan) -> StepReport:
    """Train on the next `plan.num_rows` rows. `state.position` is the caller's to move.

    Raises:
        RunStoppedError: loss or gradients are not finite; weights are then as before the step.
    """
    config, world = state.config, state.world
    micros = draw(state, plan)
    counts = world.sum(torch.stack([micro.counts() for micro in micros]).sum(0))
    scales = Scales.of(counts, mtp_weight=plan.mtp_weight, balance_weight=config.balance_loss_weight)
    stage = config.stages[plan.stage]
    sums, load_LE = forward_backward(state, micros, scales, stage=stage)
    # A number for each head, one for the balance, one for each indexed layer, divided by what was counted for each.
    num_means = len(counts)
    counts = torch.cat([counts, counts[-1:].expand(len(sums) - num_means)])
    all_means = (world.sum(sums) / counts.clamp(min=1)).tolist()
    means, index_kl = all_means[:num_means], tuple(all_means[num_means:])
    named = list(state.model.named_parameters())
    norms = gradient_norms(named, world)
    stop_if_not_finite(named, step=plan.after.step, loss=sum(all_means), norm=norms.total, world=world)
    clip_gradients(named, norms.groups, config.grad_clip)
    set_lr(state.optimizer, plan.lr)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    if stage.trains != "indexers":
        balance(state, load_LE, plan.bias_rate)
    return StepReport(
        loss=means[0],
        mtp_losses=tuple(means[1:-1]),
        balance_loss=means[-1],
        norms=norms,
        load_LE=load_LE,
        index_kl=index_kl,
    )


def draw(state: TrainState, plan: StepPlan) -> list[MicroBatch]:
    """This rank's rows of the step. All are drawn first, because the losses need the labels counted."""
    loader = enter_stage(state, plan.stage)
    sizes = micro_batches(plan.num_rows, world_size=state.world.size, micro_batch_rows=state.config.micro_batch_rows)
    depths, device = state.config.mtp_depths, state.world.device
    return [MicroBatch.of(loader.next(size), mtp_depths=depths, device=device) for size in sizes]


def forward_backward(
    state: TrainState, micros: list[MicroBatch], scales: Scales, *, stage: Stage
) -> tuple[Tensor, Tensor]:
    """Gradients of all micro-batches added up.

    Returns summed losses of this rank, (H + 1,) and one for each indexed layer, and global loads (L, E).
    """
    sums = load_LE = None
    for micro in micros:
        losses = state.objective(micro, scales, dense=stage.attention == "dense", trains=stage.trains)
        losses.total.backward()
        own = torch.cat([losses.sums_H, losses.balance_sum.float().view(1)])
        if losses.index_kl_L is not None:
            own = torch.cat([own, losses.index_kl_L.to(own.dtype)])
        sums = own if sums is None else sums + own
        load_LE = losses.load_LE if load_LE is None else load_LE + losses.load_LE
    assert sums is not None and load_LE is not None, "a step has at least one micro-batch"
    return sums, state.world.sum(load_LE)


def balance(state: TrainState, load_LE: Tensor, rate: float) -> None:
    """Loss-free balancing: move each router's bias once per step, by the global load."""
    if rate:
        for gate, load_E in zip(state.model.expert_gates(), load_LE, strict=True):
            update_expert_bias(gate, load_E, rate)
