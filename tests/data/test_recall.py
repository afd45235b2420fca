"""Retrieval tasks are decided by their text, and the same each time; the source strews them over real code."""

import pytest

from godwit.base.errors import GodwitError
from godwit.data.document import Document
from godwit.data.recall import CHAIN, MOST_FACTS, TASKS, WORDS, episode
from godwit.data.sources import recall
from godwit.data.spec import parse_spec


def test_words_are_all_different() -> None:
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.parametrize(
    ("task", "num_facts"),
    [("needle", 1), *((task, num) for task in TASKS[1:] for num in (CHAIN, 17, MOST_FACTS))],
)
def test_the_text_decides_the_answer(task: str, num_facts: int) -> None:
    made = episode(task, num_facts=num_facts, num_questions=20, seed=3)
    assert len(made.facts) == num_facts
    known = dict(fact.removeprefix("# remember ").split() for fact in made.facts)
    assert len(known) == num_facts, "keys are unique"
    for question in made.questions:
        word, verb = question.prompt.split()[2], question.prompt.split()[1]
        for value in question.answer.split():
            assert known[word] == value
            word = value
        assert word not in known, "an answer ends where the text does"
        assert verb == ("trace" if task == "tracking" else "recall")
        first = [fact.split()[2] for fact in made.facts[: question.num_facts]]
        assert question.prompt.split()[2] in first


def test_everything_is_asked_before_anything_is_asked_again() -> None:
    made = episode("multi_key", num_facts=5, num_questions=5, seed=0)
    assert len({question.prompt for question in made.questions}) == 5


def test_the_same_seed_is_the_same_episode_and_another_is_not() -> None:
    one, same, other = (episode("tracking", num_facts=9, num_questions=2, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("task", "facts", "questions", "message"),
    [
        ("needle", 2, 1, "holds 1 to 1 facts"),
        ("multi_key", 181, 1, "1 to 180"),
        ("tracking", 2, 1, "3 to 180"),
        ("needle", 1, 0, "1 question"),
    ],
)
def test_impossible_episodes_are_refused(task: str, facts: int, questions: int, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        episode(task, num_facts=facts, num_questions=questions, seed=0)


def documents(text: str) -> list[Document]:
    found = list(recall.rows(parse_spec(text), {}))
    assert all(isinstance(row, Document) for row in found)
    return found


def test_source_gives_the_documents_asked_for_and_the_same_each_time() -> None:
    text = "recall?docs=6&chars=3000&facts=12"
    found = documents(text)
    assert found == documents(text) != documents(text + "&seed=1")
    assert len({document.text for document in found}) == 6
    for document in found:
        assert 3000 <= len(document.text) < 3400
        lines = document.text.splitlines()
        known: dict[str, str] = {}
        for line in lines:
            if line.startswith("# remember "):
                key, value = line.split()[2:]
                known[key] = value
            elif line.startswith("# recall "):
                key, value = line.split()[2:]
                assert known[key] == value, "a question stands behind its fact"
            elif line.startswith("# trace "):
                word, *rest = line.split()[2:]
                for value in rest:
                    assert known[word] == value
                    word = value
        assert known
        assert lines[-1].startswith(("# recall", "# trace", "# remember"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("recall?docs=0", "docs='0'"), ("recall?chars=x", "from 1"), ("recall?facts=500", "at most 180")],
)
def test_options_out_of_range_are_named(text: str, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        documents(text)
