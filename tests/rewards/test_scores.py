"""Citation, correctness, quality and LongReward scores, worked out by hand."""

from statistics import fmean

import pytest

from godwit.base.errors import GodwitError
from godwit.rewards.citation_scores import Verdict, citation_length, citation_scores
from godwit.rewards.correctness import best_of, correctness_of, correctness_ratios, mean_ratio
from godwit.rewards.longreward import facts_of, faithfulness, preference_pair, reward
from godwit.rewards.quality import DIMENSIONS, dimension_scores, overall_score, parse_quality, quality_score


def test_citation_scores_by_hand() -> None:
    # three statements: full, with 2 citations of which 1 is relevant; partial, 1 relevant; uncited that needs one
    verdicts = [Verdict(1.0, (1.0, 0.0)), Verdict(0.5, (1.0,)), Verdict(0.0)]
    scores = citation_scores(verdicts)
    assert scores.recall == pytest.approx(1.5 / 3)
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.f1 == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))  # = 4/7
    assert scores.f1 == pytest.approx(4 / 7)
    assert (scores.num_statements, scores.num_citations) == (3, 3)


def test_without_citations_precision_and_f1_are_0_and_without_statements_all_are() -> None:
    functional = citation_scores([Verdict(1.0), Verdict(1.0)])
    assert (functional.recall, functional.precision, functional.f1) == (1.0, 0.0, 0.0)
    empty = citation_scores([])
    assert (empty.recall, empty.precision, empty.f1) == (0.0, 0.0, 0.0)


def test_the_mean_of_f1_is_not_the_f1_of_the_means() -> None:
    answers = [citation_scores([Verdict(1.0, (1.0,))]), citation_scores([Verdict(1.0)])]
    assert fmean(answer.f1 for answer in answers) == 0.5  # (1 + 0) / 2
    recall, precision = 1.0, 0.5  # of the means: 2 * 1 * 0.5 / 1.5 = 2/3
    assert 2 * recall * precision / (recall + precision) == pytest.approx(2 / 3)


def test_citation_length_pools_citations() -> None:
    assert citation_length([10, 20, 90]) == 40
    assert citation_length([]) is None


@pytest.mark.parametrize(
    ("reply", "scale", "expected"),
    [
        ("[[1]]", "qa", 0.0),
        ("[[2]]", "qa", 0.5),
        ("[[3]]", "qa", 1.0),
        ("[[4]]", "qa", None),  # beyond the scale
        ("[[2.5]]", "qa", 0.5),
        ("[[4]]", "summary", 0.75),
        ("[[1]]", "chat", 0.1),
        ("[[10]]", "chat", 1.0),
        ("like the 2nd: [[2]], no, [[3]]", "qa", 1.0),
        ("no idea", "qa", None),  # the released code writes 0.5
    ],
)
def test_correctness(reply: str, scale: str, expected: float | None) -> None:
    assert correctness_of(reply, scale) == expected


def test_the_best_reference_counts_and_a_failed_one_could_have_been_it() -> None:
    assert best_of([0.5, 0.0]) == 0.5
    assert best_of([0.5, None]) is None
    assert best_of([1.0, None]) == 1.0
    assert best_of([]) is None


def test_the_average_ratio_is_the_mean_of_ratios() -> None:
    ratios = correctness_ratios({"a": 0.9, "b": 0.2}, {"a": 0.6, "b": 0.4})
    assert ratios == {"a": pytest.approx(1.5), "b": 0.5}
    assert mean_ratio(ratios) == pytest.approx(1.0)  # the ratio of the means is 1.1 / 1.0
    assert mean_ratio(correctness_ratios({"a": 1.0}, {"a": 0.0})) is None
    with pytest.raises(GodwitError, match="same data sets twice"):
        correctness_ratios({"a": 1.0}, {"b": 1.0})


def all_of(value: object) -> str:
    pairs = ", ".join(f'"{name}": {value}' for name in DIMENSIONS)
    return "{" + pairs + "}"


@pytest.mark.parametrize("value", ["0", "6", '"4"', "true", "4.5", "null", "NaN", "Infinity", "1e400", "9" * 5000])
def test_what_is_no_rating_of_quality(value: str) -> None:
    assert parse_quality(all_of(value)) is None


def test_all_six_dimensions_are_required() -> None:
    assert parse_quality(all_of(4)) == dict.fromkeys(DIMENSIONS, 4)
    assert parse_quality("```json\n" + all_of("4.0") + "\n```") == dict.fromkeys(DIMENSIONS, 4)
    assert parse_quality(all_of(4).replace('"Clarity": 4, ', "")) is None


def test_quality_by_hand() -> None:
    rows = [dict.fromkeys(DIMENSIONS, 5), dict.fromkeys(DIMENSIONS, 4) | {"Clarity": 1}]
    dimensions = dimension_scores(rows)
    assert dimensions["Relevance"] == 25 * (4.5 - 1) == 87.5
    assert dimensions["Clarity"] == 25 * (3 - 1) == 50
    assert quality_score(rows) == pytest.approx((5 * 87.5 + 50) / 6)  # 81.25
    assert overall_score(60.0, 81.25) == 70.625


def test_missing_dimensions_are_3_in_the_code_and_refused_here() -> None:
    row = dict.fromkeys(DIMENSIONS, 5)
    del row["Accuracy"]
    assert dimension_scores([row], compat="code")["Accuracy"] == 50
    with pytest.raises(GodwitError, match="without Accuracy"):
        dimension_scores([row])
    with pytest.raises(GodwitError, match="no judged sample"):
        quality_score([])


def test_longreward_by_hand() -> None:
    assert faithfulness([1.0, 0.5, 0.0, 1.0]) == 10 * 2.5 / 4 == 6.25
    assert faithfulness([]) is None  # no facts: a failure, not a score
    scores = {"helpfulness": 8.0, "logicality": 9.0, "faithfulness": 6.25, "completeness": 5.0}
    assert reward(scores) == 28.25 / 4
    assert reward(scores, compat="code") == 28.25  # the files' `total`
    assert reward(scores | {"faithfulness": None}) is None
    assert reward({"helpfulness": 8.0}) is None


def test_facts_are_what_stands_in_the_tags() -> None:
    assert facts_of("x<statement> A. </statement><statement></statement><statement>B.</statement>") == ["A.", "B."]


def test_pairs_need_five_scores_and_go_by_order_among_equals() -> None:
    assert preference_pair([1.0, 3.0, 2.0, 3.0, 1.0]) == (1, 4)
    assert preference_pair([1.0, 3.0, None, None, 2.0]) is None
    assert preference_pair([1.0, 3.0, None], min_scored=2) == (1, 0)
    assert preference_pair([2.0] * 6) is None
