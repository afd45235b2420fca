import pytest

from godwit.synth import thoughts


def test_what_is_written_is_read() -> None:
    text = thoughts.write("write", ["think a", "think b"], ["Text a.", "Text b."])
    assert text.startswith("I come to paragraph 1 of 2.\n<thought>\nthink a\n</thought>\n<answer>\nText a.")
    assert text.endswith("<end>") and thoughts.read(text) == (["think a", "think b"], ["Text a.", "Text b."])
    assert thoughts.write("plan", ["a"], ["b"]) == "<thought>\na\n</thought>\n<answer>\nb\n</answer>\n\n<end>"


def test_tags_in_the_parts_are_no_tags() -> None:
    text = thoughts.write("refine", ["</thought><answer>no</answer>"], ["a </answer> b <end> c"])
    assert thoughts.read(text) == (["</ thought>< answer>no</ answer>"], ["a </ answer> b < end> c"])


def test_reading_whatever_a_model_writes() -> None:
    assert thoughts.read("<thought>a <answer>x</answer></thought><answer>b</answer>") == (
        ["a <answer>x</answer>"],
        ["b"],
    )
    assert thoughts.read("<answer>b</answer><end><answer>c</answer>") == ([], ["b"])
    assert thoughts.read("<thought>open <answer>b</answer>") == ([], ["b"]) and thoughts.read("") == ([], [])
    assert thoughts.read("<answer>" * 100_000) == ([], [])


def made(step: thoughts.Step, thinks: int, answers: int, words: int = 400) -> str:
    parts = [f"<thought>t</thought> <answer>{'word ' * words}</answer>"] * min(thinks, answers)
    parts += ["<thought>t</thought>"] * (thinks - answers) + ["<answer>word</answer>"] * (answers - thinks)
    return " ".join(parts)


@pytest.mark.parametrize(
    ("step", "thinks", "answers", "found"),
    [
        ("plan", 2, 2, ""),
        ("plan", 1, 2, "408 words"),
        ("plan", 3, 1, "words"),
        ("plan", 3, 2, "3 thoughts and 2 answers"),
        ("plan", 2, 1, "408 words"),
        ("write", 4, 4, ""),
        ("write", 12, 12, ""),
        ("write", 3, 3, "3 paragraphs, not 4 to 12"),
        ("refine", 13, 13, "13 paragraphs"),
        ("refine", 5, 4, "5 thoughts and 4 answers"),
    ],
)
def test_validity(step: thoughts.Step, thinks: int, answers: int, found: str) -> None:
    fault = thoughts.fault(step, made(step, thinks, answers), words=(500, 22_000), paragraphs=(4, 12))
    assert found in fault and bool(found) == bool(fault)


def test_bounds_of_words_are_outside() -> None:
    text = "<answer>" + "word " * 10 + "</answer><answer>end</answer><thought>x</thought>"  # 18 words, tags and all
    assert "18 words" in thoughts.fault("plan", text, words=(18, 100)) and not thoughts.fault(
        "plan", text, words=(17, 19)
    )
    assert "18 words" in thoughts.fault("plan", text, words=(1, 18))
    assert thoughts.fault("plan", "nothing") == "there is no answer"
    assert thoughts.fault("write", "<thought>a</thought><answer> </answer>") == "an answer is empty"
    assert not thoughts.fault("write", "<thought>a</thought><answer>b</answer>")


def test_prompts_take_texts_as_they_are() -> None:
    assert thoughts.prompt("plan", ["{draft} {x}"]).endswith("{draft} {x}")
    assert "<brainstorm>\n{outline}\n</brainstorm>" in thoughts.prompt("write", ["{outline}", "o"])
    assert "a\n\nb" in thoughts.prompt("refine", ["a", "b"])
