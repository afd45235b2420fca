"""Make long-output, citation and preference data with any OpenAI-compatible endpoint.

Examples:
  godwit synth selfinstruct_longqa                          bundled rows and model: every file and page, quickly
  godwit synth agentwrite --input tasks.jsonl --endpoint http://localhost:8000/v1 --model GLM-5 --dry-run 3
  godwit synth agentwrite --input tasks.jsonl --endpoint ... --model ... --price 0.6/2.2 --out data/long
  godwit synth agentwrite --help                            what its rows need, and every option

The key is read from OPENAI_API_KEY, or from the variable that --key-env names. Every answer is kept as it comes: a
stopped run goes on where it was when the same command is given again, and pays nothing twice.
"""

import dataclasses
import importlib.util
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from godwit.base.errors import GodwitError, MissingPartError
from godwit.cli.options import parse
from godwit.cli.targets import pipelines

if TYPE_CHECKING:
    from godwit.synth.endpoint import Endpoint
    from godwit.synth.pipeline import Pipeline
    from godwit.synth.run import Plan, Summary, Trial

FOLDER = Path("data")
EXIT_INCOMPLETE = 4
# Tokens of an answer by the bundled model, which its form ends well before.
BUNDLED_ANSWER = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every pipeline."""

    input: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """rows: .jsonl, .json, .parquet, or a folder of texts; default the bundled samples"""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """folder of the results; default data/PIPELINE"""
    limit: int | None = None
    """only the first so many rows"""
    dry_run: Annotated[int, tyro.conf.arg(metavar="ROWS")] = 0
    """run so many rows for real, show them, and estimate the whole; their answers are kept for the run"""
    endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """address of an OpenAI-compatible API, up to /v1; default the bundled model, served for this run"""
    model: str = ""
    """the model's name there"""
    key_env: str = "OPENAI_API_KEY"
    """environment variable that holds the key; the key itself is never an option"""
    extra: Annotated[str, tyro.conf.arg(metavar="JSON")] = ""
    """further fields of the writer's requests, e.g. '{"chat_template_kwargs": {"enable_thinking": false}}'"""
    price: Annotated[str, tyro.conf.arg(metavar="IN/OUT")] = ""
    """dollars per million tokens, e.g. 2.5/10; else costs are given in tokens"""
    context: int | None = None
    """tokens the model takes; default what the endpoint says, if it does"""
    judge_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """address for the judge's calls; default as --endpoint"""
    judge_model: str = ""
    """model that judges, in pipelines that do"""
    judge_key_env: str = ""
    """variable of the judge's key; default as --key-env"""
    judge_price: Annotated[str, tyro.conf.arg(metavar="IN/OUT")] = ""
    """dollars per million tokens of the judge"""
    embed_model: str = ""
    """model that embeds, in pipelines that retrieve; default BM25, on this machine"""
    embed_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """address for embeddings; default as --endpoint"""
    embed_key_env: str = ""
    """variable of its key; default as --key-env"""
    max_cost: float | None = None
    """stop when this run has spent so many dollars"""
    concurrency: int = 16
    """calls under way at once"""
    rpm: float | None = None
    """requests a minute"""
    tpm: float | None = None
    """tokens a minute"""
    attempts: int = 6
    """requests for one answer before its row is given up"""
    timeout: float = 600.0
    """seconds to wait for an answer"""
    patience: float = 300.0
    """seconds without any answer before the run stops"""
    stream: bool = False
    """take answers piece by piece, for endpoints that cut long silence"""
    send_seed: bool = True
    """send a seed with each request"""
    structured: bool = False
    """hold the endpoint to the JSON schema where a stage wants JSON (response_format)"""
    forms: bool = False
    """hold the endpoint to the form of every answer (vLLM's field structured_outputs: vLLM and godwit serve take it)"""
    judge_forms: bool = False
    """the same for --judge-endpoint; without one, the judge is held as --forms says"""
    keep_cut: bool = False
    """keep answers that ended at their token limit; else their rows are dropped"""
    repairs: int | None = None
    """how often an unusable answer may be asked for again; default 2, with the bundled model 0"""
    format: Literal["jsonl", "parquet"] = "jsonl"
    """of the data"""
    seed: int = 0
    """of every draw"""
    ray: Annotated[int, tyro.conf.arg(metavar="WORKERS")] = 0
    """run on so many workers by Ray; limits are divided among them"""
    ray_address: str = ""
    """of the Ray cluster; default one started on this machine"""


def run(arguments: list[str]) -> int:
    """Find the pipeline, check everything, run it, say what came out."""
    room = pipelines()
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(f"  {name:<20}  {room.summary(name)}" for name in room.names())
        print(f"usage: godwit synth PIPELINE [--OPTION VALUE ...]\n\n{known}\n\n{__doc__}")
        return 0
    name = arguments[0]
    if name.startswith("-"):
        raise GodwitError(f"the pipeline comes first: godwit synth PIPELINE {name} ...; see godwit synth --help")
    if name not in room.names():
        room.load(name)
    for part in ("aiohttp", "pydantic"):
        if importlib.util.find_spec(part) is None:
            raise MissingPartError(f"pipelines need {part}; type pip install 'godwit[synth]'")
    from godwit.synth.pipeline import load

    pipeline = load(name)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Words:
        general: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)
        options: Annotated[pipeline.options, tyro.conf.arg(name="")] = dataclasses.field(
            default_factory=pipeline.options
        )

    typed = {word.partition("=")[0] for word in arguments}
    rehearsal = {} if typed & {"--endpoint", "--help", "-h"} else pipeline.rehearsal  # defaults: what is typed wins
    start = Words(options=pipeline.options(**rehearsal))
    words: Any = parse(Words, arguments[1:], verb=f"synth {name}", about=_about(pipeline), default=start)
    with ExitStack() as stack:
        plan = _plan(pipeline, words.general, words.options, stack)
        if words.general.dry_run:
            return _shown(words.general, plan)
        return _ran(plan)


def _about(pipeline: "Pipeline") -> str:
    import sys

    source = pipeline.source.model_fields.items()
    wanted = ", ".join(
        f"{name}{'' if field.is_required() else ' (may be absent)'}" for name, field in source if name != "id"
    )
    return f"{sys.modules[pipeline.stages[0].__module__].__doc__}\nAn input row has: id (may be absent), {wanted}."


def _plan(pipeline: "Pipeline", general: Options, options: Any, stack: ExitStack) -> "Plan":
    from godwit.synth.ask import REPAIRS
    from godwit.synth.line import Limits
    from godwit.synth.run import Plan

    positive = ("concurrency", "attempts", "timeout", "patience", "rpm", "tpm", "limit", "context")
    for name in positive:
        value = getattr(general, name)
        if value is not None and value <= 0:
            raise GodwitError(f"{name.replace('_', '-')} is {value}; give more than 0")
    if general.dry_run < 0:
        raise GodwitError(f"dry-run is {general.dry_run}; give how many rows to try, e.g. 3")
    if general.repairs is not None and general.repairs < 0:
        raise GodwitError(f"repairs is {general.repairs}; give 0 or more")
    bundled = not general.endpoint
    endpoints = _bundled(pipeline, general, options, stack) if bundled else _given(pipeline, general)
    if general.max_cost is not None and any(endpoint.price is None for endpoint in endpoints.values()):
        raise GodwitError("--max-cost needs prices; give --price IN/OUT (and --judge-price), e.g. --price 2.5/10")
    limits = Limits(
        concurrency=general.concurrency,
        rpm=general.rpm,
        tpm=general.tpm,
        attempts=general.attempts,
        timeout=general.timeout,
        patience=general.patience,
        stream=general.stream,
        send_seed=general.send_seed,
    )
    return Plan(
        pipeline=pipeline,
        options=options,
        source=Path(general.input) if general.input else pipeline.samples,
        out=Path(general.out) if general.out else FOLDER / pipeline.name,
        endpoints=endpoints,
        limits=limits,
        limit=general.limit,
        seed=general.seed,
        structured=general.structured or bundled,
        keep_cut=general.keep_cut or bundled,
        repairs=general.repairs if general.repairs is not None else 0 if bundled else REPAIRS,
        kind=general.format,
        max_cost=general.max_cost,
        ray=general.ray,
        ray_address=general.ray_address,
    )


def _given(pipeline: "Pipeline", general: Options) -> "dict[str, Endpoint]":
    from godwit.base.endpoint import Price
    from godwit.synth.endpoint import Endpoint
    from godwit.text.forms import Room

    if not general.model:
        raise GodwitError(f"which model at {general.endpoint}? give --model NAME")
    writer = Endpoint(
        url=general.endpoint,
        model=general.model,
        key_env=general.key_env,
        context=general.context,
        extra=_extra(general.extra),
        price=Price.parse(general.price) if general.price else None,
        room=Room() if general.forms else None,
    )
    endpoints = {"writer": writer}
    _refuse(pipeline, general, "judge", pipeline.judged)
    _refuse(pipeline, general, "embed", pipeline.retrieves)
    if pipeline.judged:
        if not general.judge_model:
            raise GodwitError(
                f"{pipeline.name} has a judge: give --judge-model NAME (and --judge-endpoint URL if it is elsewhere); "
                f"--judge-model {general.model} lets the writer judge itself"
            )
        endpoints["judge"] = Endpoint(
            url=general.judge_endpoint or general.endpoint,
            model=general.judge_model,
            key_env=general.judge_key_env or general.key_env,
            price=Price.parse(general.judge_price) if general.judge_price else None,
            room=Room() if general.judge_forms or (general.forms and not general.judge_endpoint) else None,
        )
    if general.embed_model:
        endpoints["embedder"] = Endpoint(
            url=general.embed_endpoint or general.endpoint,
            model=general.embed_model,
            key_env=general.embed_key_env or general.key_env,
        )
    return endpoints


def _extra(text: str) -> dict[str, Any]:
    import json

    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise GodwitError(f"--extra is not JSON ({error}); give e.g. '{{\"top_k\": 20}}'") from error
    if not isinstance(found, dict):
        raise GodwitError("--extra is no JSON object; give e.g. '{\"top_k\": 20}'")
    taken = {"messages", "model", "max_tokens", "seed", "stream"} & set(found)
    if taken:
        raise GodwitError(f"--extra may not set {', '.join(sorted(taken))}; the pipeline does")
    return found


def _refuse(pipeline: "Pipeline", general: Options, kind: str, used: bool) -> None:
    given = [field.name for field in dataclasses.fields(general) if field.name.startswith(f"{kind}_")]
    for name in given:
        if getattr(general, name) and not used:
            raise GodwitError(f"{pipeline.name} has no use for --{name.replace('_', '-')}; leave it out")


def _bundled(pipeline: "Pipeline", general: Options, options: Any, stack: ExitStack) -> "dict[str, Endpoint]":
    from godwit.base.endpoint import NO_THOUGHTS
    from godwit.serve.local import FIRST_START, serving
    from godwit.synth.endpoint import Endpoint
    from godwit.text.forms import REHEARSAL

    if general.model or general.judge_model:
        raise GodwitError("a model is named and no endpoint; give --endpoint URL")
    print("no --endpoint: the bundled model writes, to show the way; it is a nano and no author", flush=True)
    print("(a rehearsal: its answers are short and held to their forms, and mean nothing)", flush=True)
    changed = {name: value for name, value in pipeline.rehearsal.items() if getattr(options, name) == value}
    if changed:
        values = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in changed.items())
        print(f"with options that short answers can meet: {values}", flush=True)
    print(FIRST_START, flush=True)
    served = stack.enter_context(serving("nano"))
    endpoint = Endpoint(
        url=served.base_url,
        model=served.model,
        key_env="",
        key=served.api_key,
        sees=False,
        most_answer=BUNDLED_ANSWER,
        extra=dict(NO_THOUGHTS),
        room=REHEARSAL,
    )
    if pipeline.pictures:
        print("(it has no eyes: pictures are left out)", flush=True)
    return {"writer": endpoint, "judge": endpoint} if pipeline.judged else {"writer": endpoint}


def _shown(general: Options, plan: "Plan") -> int:
    from godwit.synth.run import try_out

    trial = try_out(plan, general.dry_run)
    print(_trial_text(trial, plan))
    return 0


def _trial_text(trial: "Trial", plan: "Plan") -> str:
    import json

    from godwit.synth import costs

    lines = []
    for outcome in trial.outcomes:
        lines += [json.dumps(outcome.record, indent=2, ensure_ascii=False), ""]
    lines += [
        f"tried {len({outcome.source_id for outcome in trial.outcomes})} of {trial.num_source} rows; all of them "
        "come to about",
        _columns([costs.HEAD, *costs.rows(trial.estimate)]),
        f"in all {costs.total(trial.estimate)}",
    ]
    if plan.pipeline.judged:
        lines.append(f"of which for the judge {costs.total(trial.estimate, 'judge')}")
    return "\n".join([*lines, "the answers above are kept; without --dry-run the run goes on from them"])


def _ran(plan: "Plan") -> int:
    from godwit.synth import costs
    from godwit.synth.run import run as run_plan

    done: Summary = run_plan(plan)
    print(f"{done.num_kept} rows of data from {done.num_source} input rows, {done.num_rejected} left out with reasons")
    print(_columns([costs.HEAD, *costs.rows(done.bills)]))
    print(f"paid in all: {costs.total(done.bills)}; {done.num_sent} calls were sent now")
    if not done.num_kept:
        print("no row became data: samples.html shows each one with the reason and what the model said")
    print(f"  {done.folder / 'samples.html'}   the rows, to read: open it in a browser")
    print(f"  {done.folder / 'README.md'}   the data card")
    if done.num_failed:
        print(f"{done.num_failed} rows failed at the endpoint; the same command tries them again")
    return EXIT_INCOMPLETE if done.num_failed else 0


def _columns(lines: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip() for line in lines
    )
