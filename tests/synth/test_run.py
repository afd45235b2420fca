"""A run as a whole: settings that change, limits of money, what is written, what is refused."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

from godwit.base.endpoint import Price
from godwit.base.errors import GodwitError, RunStoppedError
from godwit.base.journal import FILE_NAME, Journal
from godwit.synth import run
from godwit.synth.ask import every
from godwit.synth.rows import Drop, Row
from godwit.synth.tasks import together
from tests.synth import endpoint as scripted
from tests.synth.harness import QUICK, plan_for, read_rows, write_rows
from tests.synth.pipelines.test_agentwrite import answer

ROWS = [{"id": f"t{number}", "instruction": f"Write {number}.", "length": 200} for number in range(8)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", ROWS)


def test_other_rules_cost_nothing_other_prompts_only_what_is_new(source: Path, tmp_path: Path) -> None:
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        assert run.run(plan).num_sent == 40
        stricter = replace(plan, options=replace(plan.options, min_length_score=99.0))
        done = run.run(stricter)
        assert (done.num_sent, done.num_kept, done.num_rejected) == (0, 0, 8)
        write_rows(source, [*ROWS, {"id": "new", "instruction": "Write more."}])
        assert run.run(plan).num_sent == 5
        assert run.run(replace(plan, seed=1)).num_sent == 45


def test_another_pipelines_folder_and_foreign_ones_are_refused(source: Path, tmp_path: Path) -> None:
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        run.run(plan)
        documents = write_rows(tmp_path / "d.jsonl", [{"context": "x"}])
        with pytest.raises(GodwitError, match="holds a run of agentwrite; choose another --out"):
            run.run(plan_for("selfinstruct_longqa", documents, tmp_path / "out", served.url))
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
        with pytest.raises(GodwitError, match="holds no run of a pipeline"):
            run.run(replace(plan, out=tmp_path / "photos"))
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_two_at_once_in_one_folder_are_refused(source: Path, tmp_path: Path) -> None:
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        with run.RunFolder(plan.out).lock(), pytest.raises(GodwitError, match="is in use by process"):
            run.run(plan)


def test_money_is_not_overspent_and_a_higher_limit_goes_on(source: Path, tmp_path: Path) -> None:
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        writer = replace(plan.endpoints["writer"], price=Price(1000.0, 1000.0))
        plan = replace(plan, endpoints={"writer": writer}, limits=replace(QUICK, concurrency=1))
        with pytest.raises(RunStoppedError, match="--max-cost; all answers are kept"):
            run.run(replace(plan, max_cost=2.0))
        some = served.num_served
        assert 0 < some < 40
        done = run.run(plan)
        assert done.num_sent == 40 - some and served.paid_twice == 0
        assert done.bills[0].dollars is not None and sum(bill.dollars or 0 for bill in done.bills) > 2.0


def test_a_trial_pays_for_the_run_it_estimates(source: Path, tmp_path: Path) -> None:
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        writer = replace(plan.endpoints["writer"], price=Price(1.0, 2.0))
        plan = replace(plan, endpoints={"writer": writer})
        trial = run.try_out(plan, 2)
        assert served.num_served == 10 and [each.source_id for each in trial.outcomes] in (["t2", "t6"], ["t6", "t2"])
        calls = {bill.stage: bill.calls for bill in trial.estimate}
        assert calls == {"plan": 8.0, "write": 32.0}
        done = run.run(plan)
        assert done.num_sent == 30 and served.paid_twice == 0
        spent, told = (sum(bill.dollars or 0.0 for bill in bills) for bills in (done.bills, trial.estimate))
        assert told == pytest.approx(spent, rel=0.05)


def test_rows_that_fail_at_the_endpoint_are_tried_again_by_the_same_call(source: Path, tmp_path: Path) -> None:
    ill = [True]

    def sometimes(request: dict) -> str | dict:
        if ill[0] and "Write 3." in scripted.prompt_of(request):
            return {"content": "content policy", "status": 400}
        return answer(request)

    with scripted.serving(sometimes) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        done = run.run(plan)
        assert (done.num_kept, done.num_failed) == (7, 1)
        (failed,) = read_rows(plan.out / "rejected.jsonl")
        assert failed["status"] == "failed" and "content policy" in failed["reason"]
        ill[0] = False
        done = run.run(plan)
        assert (done.num_kept, done.num_failed, done.num_sent) == (8, 0, 5)


@pytest.mark.parametrize(("finish", "reason"), [("length", "cut at 4096 tokens"), ("content_filter", "withheld")])
def test_answers_that_are_not_whole_do_not_become_content(
    source: Path, tmp_path: Path, finish: str, reason: str
) -> None:
    with scripted.serving(lambda request: {"content": answer(request), "finish_reason": finish}) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        assert run.run(plan).num_kept == 0
        assert all(reason in row["reason"] for row in read_rows(plan.out / "rejected.jsonl"))
        if finish == "length":
            assert run.run(replace(plan, keep_cut=True)).num_kept == 8


def test_thoughts_are_left_out(source: Path, tmp_path: Path) -> None:
    with scripted.serving(lambda request: f"<think>{{}} hm</think>{answer(request)}") as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        run.run(plan)
    assert b"hm" not in (plan.out / "data.jsonl").read_bytes() and len(read_rows(plan.out / "data.jsonl")) == 8


def test_parquet_has_the_same_rows(source: Path, tmp_path: Path) -> None:
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        run.run(plan)
        lines = read_rows(plan.out / "data.jsonl")
        run.run(replace(plan, kind="parquet"))
        first = (plan.out / "data.parquet").read_bytes()
        run.run(replace(plan, kind="parquet"))
    assert (plan.out / "data.parquet").read_bytes() == first and not (plan.out / "data.jsonl").exists()
    rows = pyarrow.parquet.read_table(plan.out / "data.parquet").to_pylist()
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    for row, line in zip(rows, lines, strict=True):
        assert row["plan"] == line["plan"] and row["words"] == line["words"]
        assert row["provenance"]["prompt_hashes"] == line["provenance"]["prompt_hashes"]
        assert [json.loads(message) for message in row["messages"]] == line["messages"]


def test_the_ledger_and_every_row_say_where_they_came_from(source: Path, tmp_path: Path) -> None:
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url, seed=7)
        run.run(plan)
    row = read_rows(plan.out / "data.jsonl")[0]
    origin = row["provenance"]
    assert origin["models"] == {"writer": "writer-1"} and origin["seed"] == 7 and origin["pipeline_version"] == 1
    with Journal(plan.out / FILE_NAME) as journal:
        requests = {entry.key: entry.request for entry in journal.entries()}
    assert len(origin["prompt_hashes"]) == 5 and origin["prompt_hashes"] == sorted(origin["prompt_hashes"])
    assert all("Write 0." in requests[key]["messages"][0]["content"] for key in origin["prompt_hashes"])
    ledger = json.loads((plan.out / "ledger.json").read_text())
    assert {each["stage"]: each["calls"] for each in ledger["paid"]} == {"plan": 8, "write": 32}
    card = (plan.out / "README.md").read_text()
    assert "# agentwrite: 8 rows" in card and "unknown (give --price" in card


def test_the_same_prompt_of_many_rows_is_sent_once(tmp_path: Path) -> None:
    rows = [{"id": f"r{number}", "instruction": "Write it."} for number in range(6)]
    with scripted.serving(answer, delay=0.05) as served:
        plan = plan_for("agentwrite", write_rows(tmp_path / "r.jsonl", rows), tmp_path / "out", served.url)
        done = run.run(plan)
    assert done.num_kept == 6 and served.num_served == 5 and served.paid_twice == 0


def test_calls_made_at_once_end_together_and_the_first_in_order_is_raised() -> None:
    done: list[int] = []

    async def call(number: int) -> int:
        await asyncio.sleep(0.02 * (3 - number))
        done.append(number)
        if number:
            raise Drop(f"number {number}")
        return number

    with pytest.raises(Drop, match="number 1"):
        asyncio.run(every(call(number) for number in range(3)))
    assert done == [2, 1, 0] and asyncio.run(every([call(0), call(0)])) == [0, 0]


def test_the_first_error_ends_the_others() -> None:
    ended: list[str] = []

    async def one(name: str) -> None:
        try:
            await asyncio.sleep(0.01 if name == "bad" else 60)
        finally:
            ended.append(name)
        raise RunStoppedError(name)

    with pytest.raises(RunStoppedError, match="bad"):
        asyncio.run(together(one(name) for name in ("good", "bad")))
    assert sorted(ended) == ["bad", "good"]


def test_fields_a_row_does_not_have_are_our_mistake() -> None:
    class Next(Row):
        text: str

    with pytest.raises(AssertionError, match="texx"):
        Row(id="a").to(Next, texx="")
    assert Row(id=7).to(Next, text="t").id == "7"  # type: ignore[arg-type]
