"""On Ray: the same bytes as without it."""

from pathlib import Path

import pytest

from godwit.base.errors import RunStoppedError
from godwit.synth import run
from godwit.synth.line import Limits
from godwit.synth.on_ray import divided
from tests.synth import endpoint as scripted
from tests.synth.harness import QUICK, RESULTS, plan_for, write_rows
from tests.synth.pipelines.test_agentwrite import answer


@pytest.mark.slow
def test_two_workers_end_in_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"id": f"t{number}", "instruction": f"Write {number}.", "length": 200} for number in range(10)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    with scripted.serving(answer, faults=0.3, kinds=("busy", "error", "cut", "no_json")) as served:
        alone = run.run(plan_for("agentwrite", source, tmp_path / "alone", served.url))
    settings = {"faults": 0.3, "kinds": ("busy", "error", "cut", "no_json"), "delay": 0.1}
    with scripted.serving(answer, **settings) as served:
        plan = plan_for("agentwrite", source, tmp_path / "ray", served.url, ray=2)
        done = run.run(plan)
        assert done.num_sent == alone.num_sent == served.num_served == 50 and served.paid_twice == 0
        assert served.most_at_once > QUICK.concurrency // 2  # more than one worker's share
        assert run.run(plan).num_sent == 0  # all is in the one journal
    for name in RESULTS:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes(), name


@pytest.mark.slow
def test_a_stop_on_a_worker_is_said_as_it_is_without_ray(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"id": "a", "instruction": "x"}])
    with scripted.serving(lambda _: {"content": "gone", "status": 404}) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url, ray=2)
        with pytest.raises(RunStoppedError, match=r"^http://127.*status 404: gone; there is no such address or model"):
            run.run(plan)


def test_limits_are_divided() -> None:
    shares = divided(Limits(concurrency=9, rpm=100, tpm=None), 2)
    assert (shares.concurrency, shares.rpm, shares.tpm) == (4, 50, None)
    assert divided(Limits(concurrency=1), 4).concurrency == 1 and divided(QUICK, 1) == QUICK
