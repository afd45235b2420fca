"""`report.html` of a search: what is gained, what is lost, what to type; then how it came about.

One self-contained page of whatever has been measured: a search is enough; quality, times, overlap and an exported
checkpoint each add their part. Made from results alone, at any time and again.
"""

import base64
import html
from dataclasses import dataclass
from pathlib import Path

from godwit.base.files import write_atomic
from godwit.base.machine import provenance
from godwit.base.page import FIGURES, STYLE, page, section, table
from godwit.indexcache import bench_text, quality_text
from godwit.indexcache.bench import RATIOS, BenchResult
from godwit.indexcache.engines import ENGINES
from godwit.indexcache.overlaps import Overlap, heat_map
from godwit.indexcache.quality import HARMLESS, Quality
from godwit.indexcache.quality_text import percent
from godwit.indexcache.result import SearchResult, num_kept
from godwit.indexcache.sides import DECODE, DENSE, DSA, PREFILL
from godwit.nn.share_plan import SharePlan
from godwit.train.plots import Curve, line_plot

STRIP_STYLE = (
    ".strip{font:11px/1 monospace;letter-spacing:0;white-space:nowrap}"
    ".strip b,.strip i{display:inline-block;width:1.15em;padding:.25em 0;margin:0 1px 1px 0;text-align:center;"
    "font-style:normal;font-weight:normal}.strip b{background:#d55e00;color:#fff}"
    ".strip i{background:#e6e6e6;color:#888}"
    ".cards{display:flex;flex-wrap:wrap;gap:.8rem}.card{flex:1 1 15rem;border:1px solid #ddd;padding:.5rem .8rem}"
    ".card h2{margin:.1rem 0}.card p{margin:.25rem 0}.card .big{margin:.1rem 0}"
)


@dataclass(frozen=True, kw_only=True)
class Story:
    """What the page is made of.

    Attributes:
        search: the search.
        keep: which ratio was chosen.
        side: what the chosen plan is called in `quality` and `bench`.
        folder: the exported checkpoint, or "".
        dropped_bytes, total_bytes: of the export.
        commands: what led here, line by line.
    """

    search: SearchResult
    keep: float | int
    side: str = "searched"
    quality: Quality | None = None
    bench: BenchResult | None = None
    overlap: Overlap | None = None
    folder: str = ""
    dropped_bytes: int = 0
    total_bytes: int = 0
    commands: tuple[str, ...] = ()

    @property
    def plan(self) -> SharePlan:
        """The chosen plan."""
        return self.search.plan_at(self.keep)


def write_report(story: Story, folder: str | Path) -> Path:
    """Write `report.html` into `folder` and return its path."""
    path = Path(folder) / "report.html"
    write_atomic(path, render(story))
    return path


def render(story: Story) -> str:
    """The page."""
    search, plan = story.search, story.plan
    head = f"{plan.num_full} of {search.num_layers} indexers kept: {search.model}"
    parts = [
        f"<h1>{html.escape(head)}</h1>",
        f'<p class="strip">{strip(plan.pattern)}</p>',
        f'<div class="cards">{_card("What you gain", gains(story))}{_card("What you lose", losses(story))}</div>',
        section("What you type", "", f"<pre>{html.escape(chr(10).join(typed(story)))}</pre>"),
        _curve(story),
        "" if story.quality is None else _quality(story.quality),
        _strips(story),
        _baselines(story),
    ]
    if story.bench is not None:
        note = (
            "in indexers: share of DSA's time; bound: speed-up if the indexers left out took no time and all else as "
            "long; reached: bound in time over time taken. Sides ran in turn, medians."
        )
        parts.append(
            section(
                "Times", note, table(bench_text.columns(story.bench), bench_text.rows(story.bench)), _plans(story.bench)
            )
        )
    if story.overlap is not None:
        picture = base64.b64encode(heat_map(story.overlap)).decode()
        note = (
            f"share of positions that two layers both select; neighbours {story.overlap.adjacent_mean:.3f}, by chance "
            f"{story.overlap.chance:.3f}; a picture of the model, and a poor guide to what can be shared"
        )
        parts.append(section("Overlap", note, f'<img alt="overlap of layers" src="data:image/png;base64,{picture}">'))
    parts.append(_engines(story))
    parts.append(_provenance(story))
    return page(f"IndexCache: {search.model}", parts, style=STYLE + FIGURES + STRIP_STYLE)


def gains(story: Story) -> list[str]:
    """Lines of the first card, the most important first."""
    search, plan, bench = story.search, story.plan, story.bench
    lines = [] if bench is None else [*_speeds(bench, story.side), *_harmless_speeds(bench)]
    share = 1 - plan.num_full / search.start.count("F")
    lines.append(
        f"{share:.0%} less memory for index keys: {plan.num_full} layers keep them, not {search.start.count('F')}"
    )
    if story.total_bytes:
        lines.append(
            f"{story.dropped_bytes / story.total_bytes:.2%} smaller checkpoint "
            f"({story.dropped_bytes / 1e6:,.2f} of {story.total_bytes / 1e6:,.1f} MB)"
        )
    if bench is None:
        lines.append("speed was not measured: godwit indexcache bench")
    return lines


def _speeds(bench: BenchResult, side: str) -> list[str]:
    """A line for each kind of work, at the longest context."""
    lines = []
    for work in dict.fromkeys(each.work for each in bench.timings):
        length = bench.lengths(work)[-1]
        timing, base = bench.find(work, length, side), bench.find(work, length, DSA)
        if timing is None or base is None or base.indexers is None or timing.bound is None:
            continue
        what = "prefill" if work == PREFILL else "decoding"
        lines.append(
            f"{bench.speedup(timing):.2f} x {what} at {length:,} tokens ({timing.bound / timing.seconds:.0%} of what "
            f"dropping indexers can give; they took {base.indexers / base.seconds:.0%} of the time)"
        )
    return lines


def _harmless_speeds(bench: BenchResult) -> list[str]:
    """What the plan gains that costs next to nothing, if it was timed."""
    pattern = bench.plans.get(HARMLESS, "")
    found = []
    for work, what in ((PREFILL, "prefill"), (DECODE, "decoding")):
        timing = bench.find(work, bench.lengths(work)[-1], HARMLESS) if pattern and bench.lengths(work) else None
        if timing is not None:
            found.append(f"{bench.speedup(timing):.2f} x {what}")
    return [f"{pattern.count('F')} indexers, which lose next to nothing, gain {' and '.join(found)}"] if found else []


def losses(story: Story) -> list[str]:
    """Lines of the second card."""
    search, lines = story.search, []
    found = story.quality
    if found is not None:
        dense, dsa, shared = found.side(DENSE), found.side(DSA), found.side(story.side)
        lines.append(
            f"{percent(shared.loss, dsa.loss)} loss on text not searched on (nats per token: {shared.loss:.4f}, DSA "
            f"{dsa.loss:.4f}, dense {dense.loss:.4f})"
        )
        for task, score in shared.scores.items():
            lines.append(
                f"{task.replace('_', ' ')} over {found.seq_len:,} tokens: {score.accuracy:.0%} (DSA "
                f"{dsa.scores[task].accuracy:.0%}, dense {dense.scores[task].accuracy:.0%}; "
                f"± {score.standard_error:.0%})"
            )
        if said := quality_text.harmless(found):
            lines.append(said)
    loss = search.loss_at(story.keep)
    lines.append(
        f"{percent(loss, search.full_loss)} loss on the calibration text: {loss:.4f} from {search.full_loss:.4f}"
    )
    uniform = [each for each in search.baselines if each.name == "uniform" and each.num_full == story.plan.num_full]
    if uniform:
        lines.append(f"the uniform plan with as many indexers: {percent(uniform[0].loss, search.full_loss)}")
    return lines


def typed(story: Story) -> list[str]:
    """Commands for the chosen plan: to make the checkpoint, if there is none yet, and to serve it."""
    model, pattern = story.folder or story.search.model, story.plan.pattern
    lines = [] if story.folder else [f"godwit indexcache export {model} --plan {pattern} --out shared"]
    served = story.folder or "shared"
    # What an export wrote says the plan itself, in config.json.
    lines += [f"godwit serve {served}", f"vllm serve {served}", f"python -m sglang.launch_server --model-path {served}"]
    lines.append(f"godwit indexcache flags {served}    # the plan in the words of every engine: see below")
    harmless = None if story.quality is None else story.quality.harmless_beside(story.plan)
    if harmless is not None:
        export = f"godwit indexcache export {story.search.model} --plan {harmless} --out harmless"
        lines.append(f"{export}    # or keep {harmless.num_full} indexers and lose next to nothing")
    return lines


def strip(pattern: str) -> str:
    """A plan as a row of boxes."""
    return "".join(f"<{'b' if c == 'F' else 'i'}>{c}</{'b' if c == 'F' else 'i'}>" for c in pattern)


def _card(title: str, lines: list[str]) -> str:
    headline, bracket, detail = lines[0].partition(" (")
    more = "".join(f"<p>{html.escape(line)}</p>" for line in (bracket.strip() + detail, *lines[1:]) if line)
    return f'<div class="card"><h2>{title}</h2><p class="big">{html.escape(headline)}</p>{more}</div>'


def _curve(story: Story) -> str:
    search, chosen = story.search, story.search.num_flips_at(story.keep)
    values = [search.full_loss, *search.losses]
    curves = [Curve(steps=range(len(values)), values=values, name="searched", dots=True)]
    curves.append(
        Curve(
            steps=[chosen], values=[search.loss_at(story.keep)], name=f"chosen: {story.plan.num_full} kept", dots=True
        )
    )
    for name in dict.fromkeys(each.name for each in search.baselines):
        points = sorted(
            (search.start.count("F") - each.num_full, each.loss) for each in search.baselines if each.name == name
        )
        curves.append(Curve(steps=[x for x, _ in points], values=[y for _, y in points], name=name, dots=True))
    note = f"nats per token over {search.num_counted:,} calibration tokens, after each layer that gave up its indexer"
    return section(
        "Loss as layers give up their indexers", note, line_plot(curves, ylabel="loss", xlabel="indexers given up")
    )


def _strips(story: Story) -> str:
    search, lines = story.search, []
    for ratio in RATIOS:
        keep = num_kept(1 / ratio, search.num_layers)
        if search.plan.num_full <= keep <= search.start.count("F"):
            lines.append((f"searched 1/{ratio}", search.plan_at(keep).pattern))
    chosen = [each for each in search.baselines if each.num_full == story.plan.num_full]
    lines += [(f"{each.name}, {each.num_full} kept", each.pattern) for each in chosen]
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="strip">{strip(pattern)}</td></tr>' for name, pattern in lines
    )
    order = ", ".join(map(str, search.order))
    note = f"F runs its own indexer, S reuses the choice of the F before it. Order of removal: {order}"
    return section("Plans", note, f"<table>{rows}</table>")


def _baselines(story: Story) -> str:
    search = story.search
    if not search.baselines:
        return ""
    names = list(dict.fromkeys(each.name for each in search.baselines))
    lines = []
    for kept in sorted({each.num_full for each in search.baselines}, reverse=True):
        losses = {each.name: each.loss for each in search.baselines if each.num_full == kept}
        reached = search.plan.num_full <= kept <= search.start.count("F")
        own = f"{search.loss_at(kept):.4f}" if reached else ""
        lines.append((str(kept), own, *(f"{losses[name]:.4f}" if name in losses else "" for name in names)))
    note = f"loss on the calibration text; all indexers: {search.full_loss:.4f}"
    return section("Other ways to choose as many", note, table(("kept", "searched", *names), lines))


def _quality(found: Quality) -> str:
    measured = section(
        "Quality", quality_text.about(found), table(quality_text.columns(found), quality_text.rows(found))
    )
    return _retrieval(found) + measured if found.path and found.path[0].scores else measured


def _retrieval(found: Quality) -> str:
    """Each task along the search's path, and the other plans as points."""
    most = found.path[0].num_full
    curves = []
    for task in found.path[0].scores:
        for name, sides in (("", found.path), (", uniform", [each for each in found.sides if each.side == "uniform"])):
            steps = [most - each.num_full for each in sides]
            values = [100 * each.scores[task].accuracy for each in sides]
            if sides:
                curves.append(Curve(steps=steps, values=values, name=task.replace("_", " ") + name, dots=True))
    note = f"% of right answers over {found.seq_len:,} tokens. {quality_text.harmless(found)}"
    plot = line_plot(curves, ylabel="right answers, %", xlabel="indexers given up")
    return section("What is still found as layers give up their indexers", note, plot)


def _plans(bench: BenchResult) -> str:
    return "".join(f'<p class="note">{html.escape(name)} <code>{plan}</code></p>' for name, plan in bench.plans.items())


def _engines(story: Story) -> str:
    model = story.folder or "shared"
    parts = []
    for known in ENGINES.values():
        flags = known.flags(story.plan, model)
        ways = [way for way in (flags.pattern, flags.uniform) if way] or ["not possible: it takes no pattern"]
        shown = html.escape("\n".join(ways))
        parts.append(f"<p><b>{flags.engine}</b></p><pre>{shown}</pre><p class='note'>{html.escape(flags.note)}</p>")
    return section("Flags of every engine", "", *parts)


def _provenance(story: Story) -> str:
    where, search = provenance(), story.search
    counters = search.counters
    facts = [
        ("search", f"{search.method}, {counters.plan_evaluations:,} plans on {search.num_tokens:,} tokens"),
        ("work", f"{counters.layer_evaluations:,} layer runs; naive {counters.naive_layer_evaluations:,}"),
        ("machine", f"{where['cpu']}, {where['cores']} cores" + "".join(f", {name}" for name in where["gpus"])),
        ("made by", f"godwit {where['godwit']}, commit {where['commit'] or 'unknown'}, {where['date']}"),
    ]
    commands = f"<pre>{html.escape(chr(10).join(story.commands))}</pre>" if story.commands else ""
    return section("How this was made", "", table((), facts).replace("<td>", '<td style="text-align:left">'), commands)
