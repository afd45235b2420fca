import json
from pathlib import Path

import pytest

from godwit.base.errors import GodwitError
from godwit.synth.pipeline import SAMPLES
from tests.synth.endpoint import prompt_of
from tests.synth.harness import finishes


def answer(request: dict) -> str:
    prompt = prompt_of(request)
    content = request["messages"][-1]["content"]
    num_pictures = 0 if isinstance(content, str) else len(content) - 1
    if "Plan it" in prompt:
        return json.dumps({"sections": [{"main_point": "a", "words": 300}, {"main_point": "b", "words": 300}]})
    if "How many words" in prompt:
        return json.dumps(
            {"words_needed": 1200 if "long" in prompt else 80, "about_the_pictures": "weather" not in prompt}
        )
    if "Invent an instruction" in prompt:
        return f"Write a guide to these {num_pictures} pictures."
    if "Say the same" in prompt:
        assert num_pictures == 0
        return "Anew: " + prompt.split("Write ")[-1].split(" words in total")[0] + " words, please."
    return f"Seen {num_pictures} pictures. " + "word " * 30


def rows_with_pictures(folder: Path) -> list[dict]:
    for name in ("red.png", "green.png", "blue.png"):
        (folder / name).write_bytes((SAMPLES / name).read_bytes())
    return [
        {"id": "deck", "images": ["red.png", "green.png", "blue.png"], "kind": "slides"},
        {"id": "group", "images": ["red.png", "green.png"]},
        {"id": "long", "images": ["blue.png"], "instruction": "Write a long essay on this."},
        {"id": "off", "images": ["blue.png"], "instruction": "Write a long essay on the weather."},
        {"id": "short", "images": ["blue.png"], "instruction": "Which colour is it?"},
    ]


def test_it_finishes_against_every_fault(tmp_path: Path) -> None:
    rows = rows_with_pictures(tmp_path)
    data, rejected = finishes("longwriter_v", rows, answer, tmp_path, options={"told_share": 0.0})
    assert [row["id"] for row in data] == ["deck", "group", "long"]
    for row, count in zip(data, (3, 2, 1), strict=True):
        prompt, text = (message["content"] for message in row["messages"])
        assert prompt.startswith("<image>" * count) and prompt.count("<image>") == count == len(row["images"])
        assert text.count(f"Seen {count} pictures.") == 2 and row["length"] is None and row["words"] == 64
    assert "guide to these 2 pictures" in data[1]["messages"][0]["content"]
    assert {row["id"]: row["reason"] for row in rejected} == {
        "off": "the instruction is not about the pictures",
        "short": "needs 80 words, fewer than 1000",
    }


def test_told_lengths_are_the_real_ones(tmp_path: Path) -> None:
    data, _ = finishes("longwriter_v", rows_with_pictures(tmp_path)[:3], answer, tmp_path, options={"told_share": 1.0})
    for row in data:
        assert row["length"] == row["words"] == 64
        assert row["messages"][0]["content"].endswith("Anew: 64 words, please.")


def test_a_rephrasing_that_loses_the_number_is_no_sample(tmp_path: Path) -> None:
    def forgets(request: dict) -> str:
        return "Write something." if "total" in json.dumps(request) else answer(request)

    rows = rows_with_pictures(tmp_path)[:1]
    data, (rejected,) = finishes("longwriter_v", rows, forgets, tmp_path, options={"told_share": 1.0})
    assert not data and rejected["stage"] == "tell_length" and "number 64" in rejected["reason"]


def test_a_missing_picture_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    rows = [{"id": "a", "images": ["none.png"]}]
    with pytest.raises(GodwitError, match=r"line 1: no such file: none\.png.*Nothing was sent"):
        finishes("longwriter_v", rows, answer, tmp_path)
