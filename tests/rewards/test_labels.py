"""First and last label, ratings in range, and what an unknown label is worth in paper and code."""

import pytest

from godwit.rewards.citation_scores import needs_citation, relevance_of, support_of
from godwit.rewards.labels import label, rating
from godwit.rewards.longreward import dimension_rating, fact_support


def test_longcite_reads_the_first_label_and_longreward_the_last() -> None:
    reply = "Rating: [[Fully supported]] Analysis: not [[No support]]"
    assert support_of(reply) == 1.0
    assert fact_support(reply) == 0.0
    assert label(reply, "first") == "fully supported"
    assert dimension_rating("[[3]] at first sight, in the end [[8.5]]") == 8.5
    assert rating("[[3]] ... [[8.5]]", "first", lowest=0, highest=10) == 3


@pytest.mark.parametrize(
    ("read", "reply", "paper", "code"),
    [
        (support_of, "[[Partially supported]]", 0.5, 0.5),
        (support_of, "[[No support]]", 0.0, 0.0),
        (support_of, "[[Unclear]]", None, 0.0),  # unknown: 0 for support ...
        (relevance_of, "[[Unclear]]", None, 1.0),  # ... and 1 for relevance
        (relevance_of, "[[Relevant]]", 1.0, 1.0),
        (relevance_of, "[[Unrelevant]]", 0.0, 0.0),
        (relevance_of, "[[Irrelevant]]", 0.0, 1.0),  # has no "unrelevant" in it
        (needs_citation, "[[Yes]]", 1.0, 1.0),
        (needs_citation, "[[No]]", 0.0, 0.0),
        (needs_citation, "[[Maybe]]", None, 0.0),
        (fact_support, "[[Unclear]]", None, 0.0),
        (support_of, "fully supported", None, None),  # no brackets, no label
        (support_of, "", None, None),
    ],
)
def test_unknown_labels_are_no_verdict_and_lopsided_in_the_code(read, reply, paper, code) -> None:
    assert read(reply) == paper
    assert read(reply, compat="code") == code


@pytest.mark.parametrize("reply", ["", "[[ 7 ]]", "[[-1]]", "[[11]]", "[[7 points]]", "7", "[[" + "9" * 100_000 + "]]"])
def test_what_is_no_rating(reply: str) -> None:
    assert dimension_rating(reply) is None


def test_megabytes_of_brackets_take_linear_time() -> None:
    for reply in ("[" * 5_000_000, "[[a" * 1_000_000, "[[1." * 1_000_000, "[[" + "a" * 5_000_000):
        assert label(reply, "last") is None
        assert dimension_rating(reply) is None
