"""Votes in both orders, and Bradley-Terry where it can be worked out by hand."""

import math

import pytest

from godwit.base.errors import GodwitError
from godwit.evals.metrics.pairwise import Match, bradley_terry, strengths, win_rate


def match(prompt: int, forward, backward, *, left="a", right="b", covariate=0.0) -> Match:
    return Match(prompt=prompt, left=left, right=right, forward=forward, backward=backward, covariate=covariate)


@pytest.mark.parametrize(
    ("forward", "backward", "outcome"),
    [
        ("first", "second", 1.0),  # the left text both times
        ("second", "first", 0.0),
        ("first", "first", 0.5),  # follows the place: a tie
        ("second", "second", 0.5),
        ("tie", "tie", 0.5),
        ("first", "tie", 0.75),
        ("tie", "first", 0.25),
        (None, "first", None),
        ("tie", None, None),
    ],
)
def test_outcomes(forward, backward, outcome) -> None:
    assert match(1, forward, backward).outcome == outcome


def test_win_rate_reports_votes_and_leaning() -> None:
    matches = [match(1, "first", "second"), match(2, "first", "first"), match(3, None, "tie")]
    rate = win_rate(matches, "a")
    assert rate.rate == 0.75  # 1 and 0.5
    assert win_rate(matches, "b").rate == 0.25
    assert (rate.num_scored, rate.num_unscored, rate.num_flipped) == (2, 1, 1)
    assert rate.first_votes == 0.75  # first, second, first, first
    assert rate.votes_forward == {"first": 2, "second": 0, "tie": 0, "unscored": 1}
    assert win_rate(matches, "c").rate is None


WON_3_OF_4 = [match(n, "first", "second") for n in range(3)] + [match(3, "second", "first")]


def test_two_models_have_the_log_odds() -> None:
    fitted, weight = bradley_terry(WON_3_OF_4, prior=0)
    assert fitted["a"] - fitted["b"] == pytest.approx(math.log(3))
    assert weight == 0
    with_a_tie, _ = bradley_terry(WON_3_OF_4)  # 3.5 of 5
    assert with_a_tie["a"] - with_a_tie["b"] == pytest.approx(math.log(3.5 / 1.5))


def test_elo_is_anchored_and_its_interval_is_of_prompts() -> None:
    found = strengths(WON_3_OF_4, anchors=["b"], prior=0.5, seed=1, num_draws=200)
    assert found["b"].elo == 1000
    assert found["a"].elo == pytest.approx(1000 + 400 * math.log10(3.25 / 1.25))
    assert found["a"].interval is not None and found["a"].interval.low < found["a"].elo < found["a"].interval.high
    assert found == strengths(WON_3_OF_4, anchors=["b"], prior=0.5, seed=1, num_draws=200)
    assert strengths(WON_3_OF_4[:1], anchors=["b"])["a"].interval is None


def test_a_model_that_always_wins_is_finite_only_with_the_prior() -> None:
    matches = [match(n, "first", "second") for n in range(50)]
    assert bradley_terry(matches)[0]["a"] == pytest.approx(math.log(50.5 / 0.5) / 2)
    with pytest.raises(GodwitError, match="no finite"):
        bradley_terry(matches, prior=0)


def test_a_covariate_takes_the_credit_that_is_lengths() -> None:
    # a wins 3 of 4 when longer and 1 of 4 when shorter: at equal length they are equal, and the weight is log 3
    longer = [match(n, "first", "second", covariate=1.0) for n in range(3)] + [
        match(3, "second", "first", covariate=1.0)
    ]
    shorter = [match(4, "first", "second", covariate=-1.0)]
    shorter += [match(n, "second", "first", covariate=-1.0) for n in (5, 6, 7)]
    fitted, weight = bradley_terry([*longer, *shorter], prior=0, covariate=True)
    assert fitted["a"] == pytest.approx(0, abs=1e-9)
    assert weight == pytest.approx(math.log(3))


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(GodwitError, match="no scored comparison"):
        bradley_terry([match(1, None, None)])
    with pytest.raises(GodwitError, match="anchors"):
        strengths(WON_3_OF_4, anchors=["z"])
