"""Benchmarks as inspect_ai tasks: its concurrency, retries, logs and resuming around a benchmark's own two functions.

Only this file and `calls.py` import inspect_ai. A sample is one call of `benchmark.answer` (the solver) and one of
`benchmark.score` (the scorer). Logs lie in the folder `logs/` (`inspect view --log-dir` shows them, whole prompts
included). A sample that is in a log is not asked again when the same run starts again; of one that was under way, the
answers that had come are taken from the journal.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval_set
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, EvalSample, read_eval_log, read_eval_log_sample_summaries
from inspect_ai.model import GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from godwit.base.endpoint import Address
from godwit.base.journal import Journal
from godwit.evals.harness import calls as harness_calls
from godwit.evals.harness.calls import GRADER, JUDGE, MODEL, REUSED, SHOWN, Calls
from godwit.evals.harness.endpoint import NO_KEY
from godwit.evals.harness.judge import JudgePin
from godwit.evals.harness.kit import Kit, Reply
from godwit.evals.harness.outcomes import Outcome
from godwit.text.forms import Form, Room


@dataclass(frozen=True, kw_only=True)
class Calling:
    """How the model under test is called."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    concurrency: int
    retries: int
    timeout: int


@dataclass
class SampleRecord:
    """One sample as it goes into `samples.jsonl`."""

    id: str
    outcome: Outcome
    calls: list[dict[str, Any]] = field(default_factory=list)
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"id": self.id, "outcome": self.outcome.to_json(), "calls": self.calls, "seconds": self.seconds}


@dataclass(frozen=True)
class Usage:
    """Tokens by role: the model under test and the judge apart."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Ran:
    """What a run left: a record for each sample, in the rows' order, and the tokens of this and earlier starts."""

    records: list[SampleRecord]
    model: Usage
    judge: Usage


def run_task(
    benchmark: Any,
    rows: Sequence[tuple[str, Any]],
    *,
    name: str,
    version: str,
    options: Any,
    kit: Kit,
    model: Address,
    judge: Address | None,
    pin: JudgePin | None,
    calling: Calling,
    room: Room | None,
    logs: Path,
    journal: Journal,
    on_sample: Callable[[], None],
) -> Ran:
    """Run a benchmark's samples, or what is left of them in `logs`.

    Args:
        benchmark: a module of `godwit.evals.benchmarks`.
        version: changes with whatever makes earlier samples another run's.
        room: what forms of replies leave to the model in a rehearsal; None: no forms are sent.
        journal: where answers are kept until the run is finished.
        on_sample: called after each sample, for progress.
    """
    config = GenerateConfig(
        max_tokens=calling.max_tokens,
        temperature=calling.temperature,
        top_p=calling.top_p,
        seed=calling.seed,
        max_connections=calling.concurrency,
        max_retries=calling.retries,
        timeout=calling.timeout,
    )
    tested = _model(model, config)
    roles = {GRADER: _model(judge, GenerateConfig(max_connections=calling.concurrency))} if judge else {}
    by_id = dict(rows)
    task = Task(
        dataset=MemoryDataset([Sample(input=f"{name} {row_id}", id=row_id) for row_id in by_id], name=name),
        solver=_solver(benchmark, by_id, options, kit, journal, room),
        scorer=_scorer(benchmark, by_id, options, kit, pin, journal, room, on_sample),
        name=name,
        version=version,
    )
    _done, found = eval_set(
        [task],
        log_dir=str(logs),
        model=tested,
        model_roles=roles,
        display="none",
        log_level="error",
        log_format="eval",
        log_buffer=1,  # each finished sample is on disk, so a killed run loses only those under way
        retry_attempts=0,
        retry_immediate=False,
        ctl_server=False,
        fail_on_error=True,  # the log of a run with failed samples stays open for the next start
        continue_on_fail=True,
        max_samples=calling.concurrency,
    )
    return _ran(found, list(by_id), tested, roles.get(GRADER))


def num_finished(logs: Path) -> int:
    """Samples that earlier starts have finished."""
    files = sorted(logs.glob("*.eval"))
    return sum(1 for found in read_eval_log_sample_summaries(str(files[-1])) if not found.error) if files else 0


def _model(endpoint: Address, config: GenerateConfig) -> Model:
    return get_model(
        f"openai-api/endpoint/{endpoint.model}",
        base_url=endpoint.url,
        api_key=endpoint.secret() or NO_KEY,
        config=config,
        memoize=False,
    )


def _solver(
    benchmark: Any, rows: dict[str, Any], options: Any, kit: Kit, journal: Journal, room: Room | None
) -> Solver:
    @solver(name="answer")
    def answer() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            calls = Calls(journal, str(state.sample_id), MODEL, room)

            async def ask(
                prompt: str,
                *,
                form: Form | None = None,
                max_tokens: int | None = None,
                images: tuple[str, ...] = (),
            ) -> Reply:
                settings = GenerateConfig() if max_tokens is None else GenerateConfig(max_tokens=max_tokens)
                return await calls.reply(prompt, images, settings, form)

            final = await benchmark.answer(rows[str(state.sample_id)], ask, options, kit)
            state.output = ModelOutput.from_content(str(state.model), final.text)
            state.metadata = {"final": asdict(final), "calls": calls.made}
            return state

        return solve

    return answer()


def _scorer(
    benchmark: Any,
    rows: dict[str, Any],
    options: Any,
    kit: Kit,
    pin: JudgePin | None,
    journal: Journal,
    room: Room | None,
    on_sample: Callable[[], None],
) -> Scorer:
    @scorer(metrics=[mean(), stderr()], name="outcome")
    def outcome() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            final = Reply(**state.metadata["final"])
            asked = harness_calls.judge(Calls(journal, str(state.sample_id), JUDGE, room), pin)
            found = await benchmark.score(rows[str(state.sample_id)], final, asked, options, kit)
            on_sample()
            metadata = {"outcome": found.to_json()}
            headline = benchmark.METRICS[0]
            if headline in found.values:
                return Score(value=found.values[headline], answer=final.text[:SHOWN], metadata=metadata)
            reason = found.unscored.get(headline, "unscored")
            return Score(value=float("nan"), explanation=reason, answer=final.text[:SHOWN], metadata=metadata)

        return score

    return outcome()


def _ran(logs: list[EvalLog], ids: list[str], model: Model, judge: Model | None) -> Ran:
    (header,) = logs
    if header.location and not header.samples:
        header = read_eval_log(header.location)
    by_id = {str(sample.id): sample for sample in header.samples or []}
    records = [_record(row_id, by_id.get(row_id)) for row_id in ids]
    totals = {MODEL: Usage(), JUDGE: Usage()}
    for sample in by_id.values():
        for role, usage in _usage_by_role(sample).items():
            totals[role] = Usage(totals[role].input_tokens + usage[0], totals[role].output_tokens + usage[1])
    return Ran(records, totals[MODEL], totals[JUDGE])


def _usage_by_role(sample: EvalSample) -> dict[str, tuple[int, int]]:
    """From the sample's own calls, those of earlier starts too: the same model may be tested and judge."""
    found = {MODEL: (0, 0), JUDGE: (0, 0)}

    def count(role: str, tokens_in: int, tokens_out: int) -> None:
        found[role] = (found[role][0] + tokens_in, found[role][1] + tokens_out)

    for event in sample.events:
        if event.event == "model" and event.output.usage:
            usage = event.output.usage
            count(JUDGE if event.role == GRADER else MODEL, usage.input_tokens, usage.output_tokens)
        elif event.event == "info" and event.source == REUSED and isinstance(event.data, dict):
            kept: dict[str, Any] = event.data
            count(kept["role"], kept["input_tokens"], kept["output_tokens"])
    return found


def _record(row_id: str, sample: EvalSample | None) -> SampleRecord:
    score = (sample.scores or {}).get("outcome") if sample else None
    if sample is None or score is None or score.metadata is None:
        reason = sample.error.message.splitlines()[0][:200] if sample and sample.error else "not run"
        return SampleRecord(row_id, Outcome(failed=reason))
    outcome = Outcome.of_json(score.metadata["outcome"])
    return SampleRecord(row_id, outcome, sample.metadata.get("calls", []), sample.total_time)
