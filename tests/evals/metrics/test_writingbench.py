"""WritingBench's four means, by hand."""

import pytest

from godwit.evals.metrics.writingbench import Query, criterion_mean, domains, overall, parse_score, query_mean

QUERIES = [
    Query(index="1", domain="law", scores={"a": 10, "b": 4}),  # mean 7
    Query(index="2", domain="law", scores={"a": 1, "b": None}),  # mean 1 of the one that was scored
    Query(index="3", domain="art", scores={"a": None}),
    Query(index="4", domain="art", scores={"a": 6, "b": 6, "c": 9}),  # mean 7
]


def test_means_by_hand() -> None:
    pooled = overall(QUERIES)
    assert pooled.mean == 36 / 6  # 10 + 4 + 1 + 6 + 6 + 9
    assert (pooled.num_scores, pooled.num_unscored) == (6, 2)
    assert domains(QUERIES)["law"].mean == (7 + 1) / 2
    assert domains(QUERIES)["art"].mean == 7  # query 3 has no score and is in no mean
    assert query_mean(QUERIES).mean == 5  # R of a subset: (7 + 1 + 7) / 3, where pooling gives 6
    assert criterion_mean(QUERIES, {"1": ["b"], "4": ["b", "c"]}).mean == pytest.approx(19 / 3)  # C: 4, 6, 9
    assert criterion_mean(QUERIES, {}).mean is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"score": 7, "reason": "x"}', 7),
        ('<think>{"score": 1}</think>```json\n{"score": 10}\n```', 10),
        ('{"score": 7.0}', 7),
        ('{"score": "7"}', None),
        ('{"score": 0}', None),
        ('{"score": 11}', None),
        ('{"score": true}', None),
        ("{'score': 7}", None),  # Python, not JSON: upstream evaluates it
        ('__import__("os").abort() or {"x": 7}', None),
        ("", None),
    ],
)
def test_scores_are_parsed_and_never_evaluated(reply: str, expected: int | None) -> None:
    assert parse_score(reply) == expected
