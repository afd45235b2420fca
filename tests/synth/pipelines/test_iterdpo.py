import json
from pathlib import Path

import pytest

from godwit.base.errors import GodwitError
from godwit.synth.pipeline import SAMPLES
from tests.synth.endpoint import prompt_of
from tests.synth.harness import finishes


def answer(request: dict) -> str:
    """Mends pages that say "wrong"; what it is shown before must be mended already."""
    prompt = prompt_of(request)
    before, page = (prompt.split(f"<{name}>")[1].split(f"</{name}>")[0].strip() for name in ("before", "page"))
    assert "wrong" not in before
    number = int(prompt.split("pictures up to number ")[1].split(".")[0])
    assert len(request["messages"][0]["content"]) == number + 1
    if "wrong" in page:
        return json.dumps({"errors": ["factual", "repetition"], "text": page.replace("wrong", "right")})
    return '{"errors": [], "text": ""}'


def script(folder: Path, **more: object) -> dict:
    for name in ("red.png", "green.png", "blue.png"):
        (folder / name).write_bytes((SAMPLES / name).read_bytes())
    images = ["red.png", "green.png", "blue.png"]
    return {"instruction": "Write it.", "images": images, "pages": ["one", "two wrong", "three wrong"], **more}


def test_pairs_for_each_beginning_by_the_model(tmp_path: Path) -> None:
    rows = [script(tmp_path, id=f"s{number}", instruction=f"Write {number}.") for number in range(4)]
    data, rejected = finishes("iterdpo", rows, answer, tmp_path, num_calls=12)
    assert [row["id"] for row in data] == [f"s{number}#{page}" for number in range(4) for page in (1, 2)]
    assert [(row["id"], row["reason"]) for row in rejected] == [
        (f"s{number}#0", "nothing was changed up to page 1") for number in range(4)
    ]
    second, third = data[:2]
    assert second["images"] == ["red.png", "green.png"] and third["num_pages"] == third["page"] == 3
    assert second["prompt"] == [{"role": "user", "content": "<image><image>Write 0."}]
    assert third["chosen"][0]["content"] == "one\n\ntwo right\n\nthree right"
    assert third["rejected"][0]["content"] == "one\n\ntwo wrong\n\nthree wrong"
    assert third["errors"] == ["factual", "repetition"]


def test_pages_revised_by_people_need_no_call(tmp_path: Path) -> None:
    rows = [script(tmp_path, id="s", revised=["uno", "due", "tre"])]
    data, rejected = finishes("iterdpo", rows, answer, tmp_path, num_calls=0)
    assert [row["chosen"][0]["content"] for row in data] == ["uno", "uno\n\ndue", "uno\n\ndue\n\ntre"] and not rejected


def test_equal_pairs_can_be_kept(tmp_path: Path) -> None:
    data, _ = finishes("iterdpo", [script(tmp_path, id="s")], answer, tmp_path, options={"keep_equal": True})
    assert len(data) == 3 and data[0]["chosen"] == data[0]["rejected"]


def test_an_error_without_its_correction_is_no_correction(tmp_path: Path) -> None:
    rows = [script(tmp_path, id="s")]
    data, (rejected,) = finishes("iterdpo", rows, lambda _: '{"errors": ["factual"]}', tmp_path, num_calls=3)
    assert not data and "the corrected page is missing" in rejected["reason"]


def test_pages_and_pictures_must_match(tmp_path: Path) -> None:
    with pytest.raises(GodwitError, match="3 images and 2 pages"):
        finishes("iterdpo", [script(tmp_path, id="s", pages=["a", "b"])], answer, tmp_path)
