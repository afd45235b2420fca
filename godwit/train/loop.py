"""The training loop, for every stage of every recipe. Read this first.

    train(config, folder)
        -> data prepared, model built and sharded, the last checkpoint taken up if there is one
        -> step, log, validate, save, until all stages are done
        -> model/, samples.md, report.html

A run folder holds: config.json, provenance.json, metrics.jsonl, expert_load.json, tensorboard/, data/, checkpoints/,
model/, samples.md, report.html. What one step does is in `step`; what a checkpoint holds is in `state`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from godwit.base.config import to_json
from godwit.base.errors import GodwitError
from godwit.base.progress import Progress
from godwit.base.runs import RunFolder
from godwit.data.describe import describe
from godwit.dist.world import World, join_world
from godwit.train import checkpoint
from godwit.train.config import TrainConfig
from godwit.train.evaluate import Evaluation, evaluate
from godwit.train.finish import TrainResult, finish
from godwit.train.interrupt import Interrupts, RunInterruptedError
from godwit.train.metrics import Metrics, clock
from godwit.train.schedule import check_fits, next_step
from godwit.train.state import Best, TrainState, extra, restore, set_up, tensors, with_rng
from godwit.train.step import StepReport, take_step

Hook = Callable[[TrainState, StepReport], None]
"""Called after every step with the state and the step's report, e.g. to watch, or to stop by raising."""


def train(
    config: TrainConfig,
    folder: str | Path,
    *,
    resume: bool = True,
    device: str | None = None,
    on_step: Hook | None = None,
) -> TrainResult:
    """Train `config` in run folder `folder`, or continue what was begun there.

    Args:
        config: the run; must equal the folder's if that holds an unfinished one.
        folder: the run folder, made if missing.
        resume: whether an unfinished run may be continued.
        device: "cpu" or "cuda"; None takes the GPU if there is one.
        on_step: see `Hook`.

    Raises:
        GodwitError: the folder holds a finished run or one with another config; something in config or data is wrong.
        RunStoppedError: NaN or Inf, or no room on the disk; checkpoints before are intact.
        RunInterruptedError: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    run = RunFolder(folder)
    with join_world(device=device, group=config.precision == "bfloat16") as world, claimed(run, config, world, resume):
        check_fits(config, world_size=world.size)
        state = begin(config, run, world)
        run_steps(state, run, on_step)
        return finish(state, run)


def run_steps(state: TrainState, run: RunFolder, on_step: Hook | None = None) -> None:
    """Step until all stages are done; log, validate and save on the way."""
    config, world = state.config, state.world
    progress = Progress(config.total_tokens, start=state.position.tokens, silent=not world.is_first)
    metrics = Metrics(run, config=config, world=world, step=state.position.step)
    with Interrupts() as interrupts, metrics, progress:
        while (plan := next_step(config, state.position, world_size=world.size)) is not None:
            start = clock(world.device)
            report = take_step(state, plan)
            state.position = plan.after
            last = next_step(config, plan.after, world_size=world.size) is None
            metrics.step(plan, report, seconds=clock(world.device) - start, last=last)
            progress.advance(plan.num_tokens, **report.shown())
            interrupted = interrupts.seen(world)
            found = None
            if last or (due(config.eval_every, plan.after.step) and not interrupted):
                found = validate(state, metrics, progress)
            if last or interrupted or due(config.checkpoint_every, plan.after.step):
                save(state, run, found)
            if on_step is not None:
                on_step(state, report)
            # After the last step, too: whoever called goes on with something else that the user does not want either.
            if interrupted or (last and interrupts.seen(world)):
                raise RunInterruptedError(
                    f"interrupted after step {plan.after.step}; a checkpoint is in {run.path / 'checkpoints'}, "
                    "the same command continues from there"
                )


def begin(config: TrainConfig, run: RunFolder, world: World) -> TrainState:
    """Set up the run and continue from its newest whole checkpoint."""
    checkpoints = run.path / "checkpoints"
    state = set_up(config, run.path, world)
    if world.is_first:
        checkpoint.clear_temporary(checkpoints)
    newest = world.share(next(checkpoint.complete_ones(checkpoints), None))
    if newest is not None:
        restore(state, newest)
    if world.is_first:
        run.truncate_metrics(state.position.step)
        print(describe(state.prepared[0]))
        if newest is not None:
            print(f"resuming {run.path} after step {newest.step}")
    world.barrier()
    return state


def save(state: TrainState, run: RunFolder, found: Evaluation | None) -> None:
    """Write a checkpoint, delete those that need not be kept. `found` is this step's validation, if there was one."""
    config, step = state.config, state.position.step
    checkpoints = run.path / "checkpoints"
    if found is not None and found.loss < state.best.loss:
        state.best = Best(step=step, loss=found.loss)
    held = with_rng(tensors(state), state.world)
    checkpoint.save(checkpoints, step=step, tensors=held, extra=extra(state), world=state.world)
    if state.world.is_first:
        best = state.best.step if config.keep_best else None
        checkpoint.prune(checkpoints, keep_last=config.keep_last, best_step=best)


def validate(state: TrainState, metrics: Metrics, progress: Progress) -> Evaluation | None:
    """Validation loss, noted and shown; None if no data was held out."""
    found = evaluate(state)
    if found is not None:
        metrics.evaluation(state.position, found)
        progress.advance(0, valid=found.loss)
    return found


def due(every: int, step: int) -> bool:
    """Whether something done `every` steps (0: never) is due after `step`."""
    return every > 0 and step % every == 0


@contextmanager
def claimed(run: RunFolder, config: TrainConfig, world: World, resume: bool) -> Iterator[None]:
    """Hold the run folder for this run, or say why it cannot be had. The first rank does it for all."""
    with run.lock() if world.is_first else nullcontext():
        if world.is_first:
            wanted = to_json(config)
            if not resume and run.state(wanted) == "unfinished":
                raise GodwitError(f"{run.path} holds an unfinished run; allow resuming it, or choose another --out")
            run.create(wanted)
        world.barrier()
        yield
