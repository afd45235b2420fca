"""Word counts of mixed text, by the definition's own edges."""

import pytest

from godwit.text.words import count_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("one two  three.", 3),
        ("don't", 2),
        ("你好，世界！", 4),
        ("今天 learn Python 很好", 4 + 2),
        ("用Python写", 2),  # a letter run that touches letters of another script does not stand alone
        ("GPT4 gpt-4 x_1 naïve 3.14", 1),  # only "gpt" of "gpt-4"
        ("ｆｕｌｌ ひらがな 한글", 0),
        ("\u4e00\u9fff\u3400\ua000", 2),  # both ends of the range; neither neighbour
    ],
)
def test_counts(text: str, expected: int) -> None:
    assert count_words(text) == expected


def test_ten_megabytes_of_letters_that_never_stand_alone_take_linear_time() -> None:
    assert count_words("a" * 5_000_000 + "1" + "a" * 5_000_000) == 0
