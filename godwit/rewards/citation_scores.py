"""Citation recall, precision, F1 and length of one answer, from a judge's verdicts (LongBench-Cite).

    recall     mean over statements of: cited   -> full 1, partial 0.5, no support 0 (by all that it cites together)
                                        uncited -> 1 if it needs no citation, else 0
    precision  mean over citations of:  1 if it is relevant to its statement, else 0
    F1         2 R P / (R + P), of this answer; 0 if both are 0

No statements: R = 0. No citations: P = 0, so an answer that rightly cites nothing has R = 1, P = 0, F1 = 0. Only the
first 40 statements are judged (`citations.MAX_STATEMENTS`). A data set's score is the mean of its answers' scores, and
its F1 the mean of their F1s, not the F1 of the means.

Source: LongCite (arXiv 2409.02897, section 2.2) and its code. They differ in unknown labels: the code takes any
unknown one for "no support" (0) but for "relevant" (1), here it is no verdict (None).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from godwit.rewards import Compat
from godwit.rewards.labels import label_form, value_of

SUPPORT = {"fully supported": 1.0, "partially supported": 0.5, "no support": 0.0}
RELEVANCE = {"relevant": 1.0, "unrelevant": 0.0, "irrelevant": 0.0, "not relevant": 0.0}
NEED = {"yes": 1.0, "no": 0.0}


@dataclass(frozen=True)
class Verdict:
    """What the judge said of one statement.

    Attributes:
        support: 1, 0.5 or 0, of a cited statement by its support, of an uncited one 1 if it needs no citation.
        relevant: 1 or 0 for each of its citations; empty for an uncited one.
    """

    support: float
    relevant: tuple[float, ...] = ()


@dataclass(frozen=True)
class CitationScores:
    """Scores of one answer, each from 0 to 1."""

    recall: float
    precision: float
    f1: float
    num_statements: int
    num_citations: int


def citation_scores(verdicts: Sequence[Verdict]) -> CitationScores:
    """Recall, precision and F1 of an answer whose statements were all judged, in any order."""
    recall = fmean(verdict.support for verdict in verdicts) if verdicts else 0.0
    relevant = [value for verdict in verdicts for value in verdict.relevant]
    precision = fmean(relevant) if relevant else 0.0
    both = recall + precision
    return CitationScores(
        recall=recall,
        precision=precision,
        f1=2 * recall * precision / both if both else 0.0,
        num_statements=len(verdicts),
        num_citations=len(relevant),
    )


def support_of(reply: str, *, compat: Compat = "paper") -> float | None:
    """1, 0.5 or 0 from the first label of the support judge's reply; None if it is no verdict."""
    return value_of(reply, SUPPORT, "first", parts=(("fully", 1.0), ("partially", 0.5), ("", 0.0)), compat=compat)


def relevance_of(reply: str, *, compat: Compat = "paper") -> float | None:
    """1 or 0 from the first label of the relevance judge's reply; None if it is no verdict.

    In "code" whatever does not contain "unrelevant" is relevant, "irrelevant" too.
    """
    return value_of(reply, RELEVANCE, "first", parts=(("unrelevant", 0.0), ("", 1.0)), compat=compat)


def needs_citation(reply: str, *, compat: Compat = "paper") -> float | None:
    """1 if the first label says that an uncited statement needs a citation, 0 if not; None if it is no verdict."""
    return value_of(reply, NEED, "first", parts=(("yes", 1.0), ("", 0.0)), compat=compat)


support_form, relevance_form, need_form = (
    label_form(map(str.capitalize, values)) for values in (SUPPORT, RELEVANCE, NEED)
)
"""Of replies that `support_of`, `relevance_of` and `needs_citation` read."""


def citation_length(num_tokens: Sequence[int]) -> float | None:
    """Mean number of tokens of citations, all answers' pooled; None if there are none.

    The paper counts with GLM-4-9B's tokenizer, without special tokens.
    """
    return fmean(num_tokens) if num_tokens else None
