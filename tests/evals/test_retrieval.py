"""Samples have the length asked for and hide their facts far back; accuracy counts what greedy decoding would write."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.data.recall import TASKS
from godwit.evals import retrieval as room
from godwit.evals.retrieval import NEAR, retrieval, samples
from godwit.models.init import build
from godwit.recipes import nano
from godwit.text.bpe import train_bpe
from godwit.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(["def read(path):\n    return open(path)\n# remember falcon copper\n" * 50], 400)


@pytest.mark.parametrize("task", TASKS)
def test_samples_have_their_length_and_their_facts_far_back(tokenizer: Tokenizer, task: str) -> None:
    found = samples(tokenizer, task=task, num_tokens=1500, num_samples=3, seed=1)
    assert found == samples(tokenizer, task=task, num_tokens=1500, num_samples=3, seed=1)
    assert len(set(found)) == 3
    for sample in found:
        assert len(sample.tokens) == 1500
        text = tokenizer.decode(list(sample.tokens))
        known = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# remember "))
        assert len(known) == room.NUM_FACTS[task]
        for start, end in sample.answers:
            answer = tokenizer.decode(list(sample.tokens[start:end])).split()
            word = tokenizer.decode(list(sample.tokens[:start])).split()[-1]
            for value in answer:
                assert known[word] == value
                word = value
        assert "# remember" not in tokenizer.decode(list(sample.tokens[-NEAR:]))


class Oracle:
    """Stands for a model whose states say which token comes next: the true one, or a wrong one where told."""

    def __init__(self, wrong: set[int]):
        self.lm_head_weight = torch.eye(400)
        self.wrong, self.seen = wrong, []

    def logits(self, hidden_TD):
        return hidden_TD @ self.lm_head_weight.T

    def features(self, tokens_T, context, **_):
        self.seen.append(tokens_T.shape[0])
        following_T = tokens_T.roll(-1)
        for place in self.wrong:
            following_T[place] = (following_T[place] + 1) % 400
        return type("Features", (), {"hidden_TD": torch.nn.functional.one_hot(following_T, 400).float()})


def test_accuracy_counts_whole_answers(tokenizer: Tokenizer) -> None:
    arguments = {"task": "multi_key", "num_tokens": 1200, "num_samples": 1}
    sample = samples(tokenizer, **arguments)[0]
    right = retrieval(Oracle(set()), tokenizer, **arguments)
    assert (right.accuracy, right.num_answers, right.standard_error) == (1.0, 4, 0.0)
    # The last token of the first answer is wrong, so is the answer.
    missed = retrieval(Oracle({sample.answers[0][1] - 2}), tokenizer, **arguments)
    assert missed.accuracy == 0.75


def test_the_control_sees_the_window_only(tokenizer: Tokenizer) -> None:
    oracle = Oracle(set())
    found = retrieval(oracle, tokenizer, task="needle", num_tokens=1200, num_samples=2, window=512)
    assert oracle.seen == [512, 512]
    assert found.accuracy == 1.0


def test_an_untrained_model_guesses(tokenizer: Tokenizer) -> None:
    model = build(nano.model(num_hidden_layers=1, hidden_size=32, vocab_size=400), seed=0).eval()
    assert retrieval(model, tokenizer, task="needle", num_tokens=700, num_samples=2).accuracy == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "neddle", "num_tokens": 900, "num_samples": 1}, "choose from needle"),
        ({"task": "needle", "num_tokens": 400, "num_samples": 1}, "give at least"),
        ({"task": "needle", "num_tokens": 900, "num_samples": 0}, "at least 1"),
    ],
)
def test_bad_questions_are_answered(tokenizer: Tokenizer, arguments: dict, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        samples(tokenizer, **arguments)
