"""What the long-writing benchmarks share: the length score, the quality judge, their figures."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from godwit.evals.harness.kit import Judge, Reply, fill
from godwit.evals.harness.outcomes import OVERALL, Figure, Outcome, mean_figures
from godwit.evals.harness.published import JudgeSettings
from godwit.rewards import Compat
from godwit.rewards.length import length_score
from godwit.rewards.quality import DIMENSIONS, overall_score, parse_quality, quality_form, quality_score
from godwit.text.words import count_words

METRICS = ("S", "S_l", "S_q")
QUALITY_PROMPT = """You judge how good a piece of writing is. Its length is judged elsewhere: ignore how long it is.

Rate it from 1 (poor) to 5 (excellent), in whole numbers, on each of these:
Relevance: it does what the request asks, and nothing else.
Accuracy: what it states is right, and it does not contradict itself.
Coherence: its parts are in a good order and follow from each other.
Clarity: it is easy to understand, without needless words or repetition.
Breadth and Depth: it covers the subject widely, and goes into it.
Reading Experience: it is a pleasure to read.

<request>
{{request}}
</request>

<writing>
{{writing}}
</writing>

Answer with one JSON object with these six names as keys and your ratings as values, for example
{"Relevance": 3, "Accuracy": 4, "Coherence": 2, "Clarity": 3, "Breadth and Depth": 2, "Reading Experience": 3}"""


def judge_settings(published: str) -> JudgeSettings:
    """As LongWriter asks: temperature 0.5, five attempts."""
    return JudgeSettings(temperature=0.5, retry_temperature=0.5, attempts=5, max_tokens=1024, published=published)


async def long_text_outcome(
    request: str,
    required: int,
    reply: Reply,
    judge: Judge | None,
    *,
    groups: tuple[str, ...],
    compat: Compat,
    images: tuple[str, ...] = (),
) -> Outcome:
    """S_l, S_q and S of one text; S_q and S are unscored without a verdict (or a judge)."""
    words = count_words(reply.text)
    values = {"S_l": length_score(words, required, compat=compat)}
    details: dict[str, object] = {"words": words, "required": required, "finish": reply.finish}
    unscored: dict[str, str] = {}
    if not reply.text.strip():
        unscored = dict.fromkeys(("S", "S_q"), "an empty text has no quality to judge")
    elif judge is not None:
        prompt = fill(QUALITY_PROMPT, {"request": request, "writing": reply.text})
        verdict = await judge(prompt, parse_quality, form=quality_form, images=images)
        details["judge"] = list(verdict.replies)
        if verdict.value is None:
            unscored = dict.fromkeys(("S", "S_q"), verdict.reason)
        else:
            details["ratings"] = verdict.value
            values["S_q"] = quality_score([verdict.value])
            values["S"] = overall_score(values["S_l"], values["S_q"])
            values |= {name: 25.0 * (verdict.value[name] - 1) for name in DIMENSIONS}
    return Outcome(values=values, groups=groups, unscored=unscored, details=details)


def long_text_figures(outcomes: Sequence[Outcome]) -> list[Figure]:
    """S, S_l, S_q in every group, and each dimension."""
    groups = mean_figures(outcomes, METRICS)
    dimensions = [figure for figure in mean_figures(outcomes, DIMENSIONS) if figure.group == OVERALL]
    return groups + [replace(figure, group=f"quality: {figure.metric}", metric="S_q") for figure in dimensions]


def bucket(required: int, edges: Sequence[int]) -> str:
    """The length bucket "[500, 2000)" that a required length lies in; the last one is open above."""
    for low, high in pairwise(edges):
        if low <= required < high:
            return f"[{low}, {high})"
    return f"[{edges[-1]}, ...)"
