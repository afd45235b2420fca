"""Letters and cells of LongBench v2, by hand and against the published row."""

import pytest

from godwit.evals.metrics.longbench_v2 import Answered, accuracy_cells, extract_answer


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("The correct answer is (B).", "B"),
        ("**The correct answer is (C)**", "C"),
        ("The correct answer is **D**", "D"),
        ("The correct answer is A, no: The correct answer is (B)", "B"),  # brackets are looked for first, everywhere
        ("The correct answer is (B). The correct answer is (C).", "B"),
        ("The correct answer is Apple", "A"),
        ("The correct answer is (E)", None),
        ("the correct answer is (A)", None),
        ("The correct answer is: (A)", None),
        ("The correct answer is  A", None),
        ("The correct answer is\nA", None),
        ("The correct answer is a", None),
        ("", None),
        ("The correct answer is (" * 400_000, None),
        ("*" * 5_000_000, None),
    ],
)
def test_extraction(reply: str, expected: str | None) -> None:
    assert extract_answer(reply) == expected


def row(
    letter: str | None, *, failed: bool = False, difficulty: str = "easy", length: str = "short", domain: str = "Code"
):
    return Answered(answer="A", letter=letter, difficulty=difficulty, length=length, domain=domain, failed=failed)


def shown(cells) -> dict[str, float]:
    return {cell.name: round(cell.accuracy, 1) for cell in cells}


def test_the_published_row_of_gpt_4o_left_four_failed_calls_out() -> None:
    rows = [row("A")] * 250 + [row("B")] * 249 + [row(None, failed=True)] * 4
    assert shown(accuracy_cells(rows))["overall"] == 49.7  # 250 / 503
    assert shown(accuracy_cells(rows, compat="code"))["overall"] == 50.1  # 250 / 499
    overall = accuracy_cells(rows)[0]
    assert (overall.num_asked, overall.num_failed) == (503, 4)


def test_compensation_credits_a_quarter_for_no_answer() -> None:
    rows = [row("A"), row("B"), row(None), row(None, failed=True)]
    assert shown(accuracy_cells(rows, compensated=True))["overall"] == 37.5  # (1 + 0.25 + 0.25) / 4
    assert shown(accuracy_cells(rows, compensated=True, compat="code"))["overall"] == 41.7  # (1 + 0.25) / 3
    assert accuracy_cells(rows, compensated=True)[0].interval is None


def test_cells_by_difficulty_length_and_domain() -> None:
    rows = [row("A"), row("B", difficulty="hard"), row("A", difficulty="hard", length="long", domain="Table")]
    cells = shown(accuracy_cells(rows))
    assert cells == {"overall": 66.7, "easy": 100, "hard": 50, "short": 50, "long": 100, "Code": 50, "Table": 100}
    assert accuracy_cells([]) == []


def test_the_interval_is_the_binomial_one() -> None:
    interval = accuracy_cells([row("A")] * 201 + [row("B")] * 302)[0].interval
    assert interval is not None
    assert (interval.high - interval.low) / 2 == pytest.approx(
        1.96 * 2.2, abs=0.1
    )  # standard error 2.2 points at p = 0.4
