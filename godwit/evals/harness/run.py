"""A benchmark from its settings to its result folder: check, ask, score, write.

    out/config.json, provenance.json    what was asked for, where it ran
    out/logs/                           inspect_ai's logs, every prompt and reply: `inspect view --log-dir out/logs`
    out/samples.jsonl                   one line a sample: scores, details, replies, the judge's words
    out/result.json, report.html        the figures

The same command again goes on where a stopped run was; samples whose calls failed are asked again. Until a run is
finished, its folder also has a journal with each answer that came.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from godwit.base.config import fingerprint, to_json
from godwit.base.endpoint import KEY_ENV, Address, Price
from godwit.base.errors import GodwitError, MissingPartError
from godwit.base.files import spelled
from godwit.base.journal import FILE_NAME, Journal
from godwit.base.progress import Progress
from godwit.base.runs import RunFolder
from godwit.evals.harness.data import Rows, first_rows, read_rows
from godwit.evals.harness.endpoint import checked
from godwit.evals.harness.judge import JudgePin
from godwit.evals.harness.kit import Kit, prompt_hash
from godwit.evals.harness.outcomes import Outcome
from godwit.evals.harness.page import write_report
from godwit.evals.harness.result import Result, write_result
from godwit.text.forms import REHEARSAL

BUNDLED_MODEL = "nano"
BUNDLED = "bundled"
# More than any form of replies takes in the room of a rehearsal.
REHEARSAL_TOKENS = 256
SAMPLES_FOLDER = Path(__file__).parents[1] / "samples"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every benchmark can be told; None is the benchmark's published value."""

    model: str = ""
    """address of an OpenAI-compatible endpoint, a model folder, or a bundled model; left out: a rehearsal with nano"""
    model_name: str = ""
    """the model's name at its endpoint; needed where it lists several"""
    model_key_env: str = KEY_ENV
    """environment variable with the model's key"""
    judge: str = ""
    """address (or folder) of the judge; needed by benchmarks that judge"""
    judge_name: str = ""
    """the judge's name at its endpoint; give one with a version"""
    judge_key_env: str = KEY_ENV
    """environment variable with the judge's key"""
    data: str = BUNDLED
    """FILE.jsonl, FILE.json, hf:OWNER/NAME@COMMIT[:FILE], or the few samples that come with Godwit"""
    limit: int | None = None
    """the first so many rows only"""
    max_tokens: int | None = None
    """of a reply"""
    temperature: float | None = None
    """of the model"""
    top_p: float = 1.0
    """of the model"""
    max_input: int | None = None
    """tokens of a prompt; longer ones lose their middle (needs a tokenizer)"""
    tokenizer: Path | None = None
    """folder with the model's tokenizer.json; that of a model folder is found by itself"""
    seed: int = 0
    """of sampling, of the judge and of whatever the benchmark draws"""
    concurrency: int = 8
    """calls at once"""
    retries: int = 5
    """of a call that fails"""
    timeout: int = 3600
    """seconds for a call with its retries"""
    price: str = ""
    """dollars per million tokens in and out, e.g. 2.5/10"""
    judge_price: str = ""
    """the judge's"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that was checked and can start."""

    name: str
    benchmark: ModuleType
    options: Any
    settings: Settings
    rows: Rows[Any]
    kept: list[tuple[str, Any]]
    rehearsal: bool
    prompts: Mapping[str, str] = field(default_factory=dict)


def plan(name: str, benchmark: ModuleType, settings: Settings, options: Any) -> Plan:
    """Read and check everything that needs no endpoint."""
    for part in ("openai", "inspect_ai"):
        if find_spec(part) is None:
            raise MissingPartError(f"benchmarks need {part}; type: pip install 'godwit[eval]'")
    for price in filter(None, (settings.price, settings.judge_price)):
        Price.parse(price)
    rehearsal = not settings.model
    if rehearsal and settings.judge:
        raise GodwitError("a judge without a model: give --model too, or neither for a rehearsal with bundled nano")
    if rehearsal:
        tokens = min(benchmark.MAX_TOKENS, REHEARSAL_TOKENS) if settings.max_tokens is None else settings.max_tokens
        settings = replace(settings, model=BUNDLED_MODEL, judge=BUNDLED_MODEL, max_tokens=tokens, timeout=600)
        options = replace(options, **benchmark.REHEARSAL)
    if benchmark.JUDGE is not None and not settings.judge and needs_judge(benchmark, options):
        raise GodwitError(f"{name} needs a judge; give --judge URL (published with {benchmark.JUDGE.published})")
    source = str(SAMPLES_FOLDER / f"{name}.jsonl") if settings.data == BUNDLED else settings.data
    rows = read_rows(source, benchmark.Row, id_field=benchmark.ID, file=benchmark.FILE)
    return Plan(
        name=name,
        benchmark=benchmark,
        options=options,
        settings=settings,
        rows=rows,
        kept=first_rows(rows, settings.limit),
        rehearsal=rehearsal,
        prompts={key: prompt_hash(text) for key, text in benchmark.PROMPTS.items()},
    )


def needs_judge(benchmark: ModuleType, options: Any) -> bool:
    """Whether these options make the benchmark judge; a file says so by `judged(options)`, else it always does."""
    return benchmark.judged(options) if hasattr(benchmark, "judged") else True


def run(planned: Plan, out: Path) -> Result:
    """Check the endpoints, run, write the folder; returns what was written."""
    settings, benchmark = planned.settings, planned.benchmark
    folder = RunFolder(out)
    config = {
        "benchmark": planned.name,
        "settings": to_json(settings) | {"data": spelled(settings.data)},
        "options": to_json(planned.options),
        "data_hash": planned.rows.digest,
        "prompts": dict(planned.prompts),
    }
    folder.refuse(config)
    with ExitStack() as stack:
        model, served = _endpoint(stack, settings.model, settings.model_name, settings.model_key_env, "--model")
        judge = None
        if benchmark.JUDGE is not None and settings.judge:
            same = settings.judge == settings.model and not settings.judge_name
            judge = (
                model
                if same
                else _endpoint(stack, settings.judge, settings.judge_name, settings.judge_key_env, "--judge")[0]
            )
        kit = Kit(
            seed=settings.seed,
            tokenizer=settings.tokenizer or served,
            folder=planned.rows.folder,
            max_input=settings.max_input,
        )
        _check_lengths(planned, model, kit)
        folder.create(config)
        stack.enter_context(folder.lock())
        return _run(planned, folder, model, judge, kit)


def _endpoint(stack: ExitStack, given: str, name: str, key_env: str, option: str) -> tuple[Address, Path | None]:
    """The endpoint that is meant, asked and found fit; a model folder is served for this run, with its tokenizer."""
    if given.startswith(("http://", "https://")):
        return checked(Address(url=given, model=name, key_env=key_env), option=option), None
    from godwit.models.bundled import resolve
    from godwit.serve.local import FIRST_START, serving

    path = resolve(given)
    if not (path / "config.json").exists():
        raise GodwitError(f"{option} {given} is neither an address (http://...) nor a model folder or bundled model")
    print(f"{path.name}: {FIRST_START}", flush=True)
    served = stack.enter_context(serving(str(path)))
    endpoint = Address(url=served.base_url, model=served.model, key=served.api_key)
    return checked(endpoint, option=option), path


def _check_lengths(planned: Plan, model: Address, kit: Kit) -> None:
    """Refuse rows that the model cannot take, before the first of them is paid for."""
    if model.context is None or not hasattr(planned.benchmark, "longest_prompt"):
        return
    reply = _max_tokens(planned)
    room = model.context - reply
    if room < 1:
        raise GodwitError(
            f"replies of {reply} tokens do not fit the {model.context} the model takes; give --max-tokens"
        )
    for name, row in planned.kept:
        prompt = kit.fit(planned.benchmark.longest_prompt(row, planned.options, kit))
        exact = kit.num_tokens(prompt)
        tokens = (
            exact if exact is not None else len(prompt) // 5
        )  # few tokens are longer on average: sure to be too long
        if tokens > room:
            raise GodwitError(
                f"row {name} has {'' if exact is not None else 'at least '}{tokens} tokens and the model takes "
                f"{model.context} with {reply} of them for the reply; give --max-input {room} --tokenizer FOLDER"
            )


def _max_tokens(planned: Plan) -> int:
    given = planned.settings.max_tokens
    return planned.benchmark.MAX_TOKENS if given is None else given


def _run(planned: Plan, folder: RunFolder, model: Address, judge: Address | None, kit: Kit) -> Result:
    from godwit.evals.harness.tasks import Calling, num_finished, run_task

    settings, benchmark = planned.settings, planned.benchmark
    temperature = benchmark.TEMPERATURE if settings.temperature is None else settings.temperature
    pin = _pin(planned, judge)
    calling = Calling(
        max_tokens=_max_tokens(planned),
        temperature=temperature,
        top_p=settings.top_p,
        seed=settings.seed,
        concurrency=settings.concurrency,
        retries=settings.retries,
        timeout=settings.timeout,
    )
    logs = folder.path / "logs"
    started = time.monotonic()
    before = num_finished(logs)
    with (
        Progress(len(planned.kept), what=planned.name, unit="samples", start=before) as progress,
        Journal(folder.path / FILE_NAME) as journal,
    ):
        ran = run_task(
            benchmark,
            planned.kept,
            name=planned.name,
            version=fingerprint({"options": to_json(planned.options), "data": planned.rows.digest, **planned.prompts}),
            options=planned.options,
            kit=kit,
            model=model,
            judge=judge,
            pin=pin,
            calling=calling,
            room=REHEARSAL if planned.rehearsal else None,
            logs=logs,
            journal=journal,
            on_sample=_counter(progress),
        )
    outcomes = {record.id: record.outcome for record in ran.records}
    result = Result(
        benchmark=planned.name,
        title=benchmark.TITLE,
        model=model.model,
        data=spelled(planned.rows.source) if settings.data != BUNDLED else f"{BUNDLED} samples",
        data_hash=planned.rows.digest,
        num_rows=len(planned.kept),
        num_failed=sum(bool(outcome.failed) for outcome in outcomes.values()),
        rehearsal=planned.rehearsal,
        settings={"options": to_json(planned.options), **asdict(calling), "max_input": settings.max_input},
        prompts=dict(planned.prompts),
        judge=pin.to_json() if pin else None,
        costs=_costs(settings, ran.model, ran.judge),
        seconds=round(time.monotonic() - started, 1),
        figures=benchmark.figures(outcomes, dict(planned.kept), planned.options),
    )
    write_result(folder.path, result, [record.to_json() for record in ran.records])
    write_report(folder.path, result, _samples(ran.records), benchmark.PUBLISHED)
    if not result.num_failed:
        folder.mark_finished()
        (folder.path / FILE_NAME).unlink()  # every answer is in the logs
    return result


def _pin(planned: Plan, judge: Address | None) -> JudgePin | None:
    asked = planned.benchmark.JUDGE
    if judge is None or asked is None:
        return None
    return JudgePin(
        model=judge.model,
        temperature=asked.temperature,
        retry_temperature=asked.retry_temperature,
        seed=planned.settings.seed,
        attempts=1 if planned.rehearsal else asked.attempts,
        max_tokens=min(asked.max_tokens, REHEARSAL_TOKENS) if planned.rehearsal else asked.max_tokens,
        prompts=planned.prompts,
    )


def _costs(settings: Settings, model: Any, judge: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for role, usage, price in (("model", model, settings.price), ("judge", judge, settings.judge_price)):
        found[role] = asdict(usage)
        if price:
            found[role]["dollars"] = round(Price.parse(price).of(usage.input_tokens, usage.output_tokens), 6)
    return found


def _samples(records: list[Any]) -> list[tuple[str, Outcome, str]]:
    return [(r.id, r.outcome, r.calls[-1]["reply"]["text"] if r.calls else "") for r in records]


def _counter(progress: Progress) -> Callable[[], None]:
    return lambda: progress.advance(1)
