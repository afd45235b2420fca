"""Arena-Write: pairwise comparison against fixed baselines' texts, both orders, win rate and Elo (arXiv 2506.18841).

Each row brings the texts of a fixed set of baselines. The judge sees each pair twice, in both orders; a judge that
follows the place makes a tie, and the raw votes of each order are in the figures. Elo is a Bradley-Terry fit with the
mean of the baselines at 1000 and a bootstrap interval over prompts; "at equal length" takes the share out that the log
of the length ratio explains. Baselines meet only the tested model here, so their own Elo is as sure as that.

The published arena's judge, baselines and data files were not to be found; the rows' fields are ours, and numbers
compare only among runs on the same rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import BaseModel, Field

from godwit.evals.harness.kit import Ask, Judge, Kit, Reply, fill
from godwit.evals.harness.outcomes import OVERALL, Figure, Outcome, mean_figures
from godwit.evals.harness.published import JudgeSettings, Table
from godwit.evals.metrics.pairwise import Match, Vote, strengths, win_rate
from godwit.rewards.labels import behind_analysis, label, label_form
from godwit.text.words import count_words

TITLE, DATA, FILE, ID = "Arena-Write", "rows with baselines' texts", "arena_write.jsonl", "id"
METRICS = ("win rate",)
MAX_TOKENS, TEMPERATURE = 14_000, 0.8
PROMPT = """Two writers answered one request. Say whose text serves it better: what it says, how it is built, how it
reads, and whether it keeps to the request. Length is no merit of its own, nor is the place a text stands at.

<request>
{{request}}
</request>

<text_A>
{{first}}
</text_A>

<text_B>
{{second}}
</text_B>

Compare them in a few sentences, then end with one of [[A]], [[B]] or [[tie]]."""
PROMPTS = {"pair": PROMPT}
JUDGE = JudgeSettings(
    temperature=0.0, retry_temperature=1.0, attempts=5, max_tokens=1024, published="an LLM judge, not named"
)
REHEARSAL: dict[str, object] = {}
TESTED = "tested model"
_VOTES: dict[str, Vote] = {"a": "first", "b": "second", "tie": "tie"}


class Row(BaseModel):
    """A request and the baselines' texts by name."""

    id: str
    prompt: str = Field(min_length=1)
    baselines: dict[str, str] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of the interval."""

    draws: int = 500
    """of the bootstrap"""


async def answer(row: Row, ask: Ask, options: Options, kit: Kit) -> Reply:
    """The request as it is."""
    return await ask(row.prompt)


def longest_prompt(row: Row, options: Options, kit: Kit) -> str:
    """What must fit into the model."""
    return row.prompt


def parse_vote(reply: str) -> Vote | None:
    """The last label: the analysis comes first."""
    return _VOTES.get(label(reply, "last") or "")


vote_form = behind_analysis(label_form(("A", "B", "tie")))
"""Of replies that `parse_vote` reads."""


async def score(row: Row, reply: Reply, judge: Judge, options: Options, kit: Kit) -> Outcome:
    """Percent of the baselines beaten, ties half; a pair with a vote missing is unscored."""
    matches: list[Match] = []
    reasons: list[str] = []
    words = count_words(reply.text)
    for name, text in row.baselines.items():
        forward = await judge(render(row.prompt, reply.text, text), parse_vote, form=vote_form)
        backward = await judge(render(row.prompt, text, reply.text), parse_vote, form=vote_form)
        reasons += [f"{name}: {vote.reason}" for vote in (forward, backward) if vote.value is None]
        ratio = math.log((words + 1) / (count_words(text) + 1))
        matches.append(_match(row.id, name, forward.value, backward.value, ratio))
    known = [match.outcome for match in matches if match.outcome is not None]
    pairs = [
        {"baseline": m.right, "forward": m.forward, "backward": m.backward, "log ratio": m.covariate} for m in matches
    ]
    return Outcome(
        values={"win rate": 100 * fmean(known)} if known else {},
        unscored={} if known else {"win rate": "; ".join(reasons)},
        details={"matches": pairs, "unscored pairs": reasons, "words": words},
    )


def render(request: str, first: str, second: str) -> str:
    """The judge's prompt for one order."""
    return fill(PROMPT, {"request": request, "first": first, "second": second})


def figures(outcomes: Mapping[str, Outcome], rows: Mapping[str, Row], options: Options) -> list[Figure]:
    """Win rate overall and against each baseline, with votes; Elo, plain and at equal length."""
    matches = [
        _match(name, pair["baseline"], pair["forward"], pair["backward"], pair["log ratio"])
        for name, outcome in outcomes.items()
        for pair in outcome.details.get("matches", [])
    ]
    found = mean_figures(list(outcomes.values()), METRICS)
    baselines = sorted({match.right for match in matches})
    for baseline in baselines:
        found.append(_against(baseline, [match for match in matches if match.right == baseline]))
    if any(match.outcome is not None for match in matches):
        found += _elo(matches, options, covariate=False) + _elo(matches, options, covariate=True)
    return found


def _match(prompt: str, baseline: str, forward: Vote | None, backward: Vote | None, ratio: float) -> Match:
    return Match(prompt=prompt, left=TESTED, right=baseline, forward=forward, backward=backward, covariate=ratio)


def _against(baseline: str, matches: Sequence[Match]) -> Figure:
    rate = win_rate(matches, TESTED)
    votes = f"votes with ours first {dict(rate.votes_forward)}, with ours second {dict(rate.votes_backward)}"
    note = f"{votes}; {rate.num_flipped} flipped"
    value = None if rate.rate is None else 100 * rate.rate
    return Figure.of(f"against {baseline}", "win rate", value, None, rate.num_scored, rate.num_unscored, note)


def _elo(matches: Sequence[Match], options: Options, *, covariate: bool) -> list[Figure]:
    scored = [match for match in matches if match.outcome is not None]
    anchors = sorted({match.right for match in scored})
    fitted = strengths(scored, anchors=anchors, num_draws=options.draws, covariate=covariate)
    metric = "Elo at equal length" if covariate else "Elo"
    names = (TESTED,) if covariate else (TESTED, *anchors)
    return [
        Figure.of(
            OVERALL if name == TESTED else f"against {name}",
            metric,
            fitted[name].elo,
            fitted[name].interval,
            len(scored),
            len(matches) - len(scored),
        )
        for name in names
    ]


PUBLISHED = Table(
    source="LongWriter-Zero, arXiv 2506.18841",
    columns=("Elo",),
    rows={
        "LongWriter-Zero": (1447.0,),
        "Qwen3-235B": (1343.0,),
        "DeepSeek-R1": (1343.0,),
        "Claude-Sonnet-4": (1185.0,),
        "GPT-4o": (947.0,),
        "LongWriter-8B": (457.0,),
    },
    caution="Another set of baselines and another zero point: only the order of models can be looked at.",
)
