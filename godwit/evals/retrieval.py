"""How well a model finds words again that stand far back: the tasks of `godwit.data.recall` at an exact length.

    sample  =  haystack of real code (the standard library's) with facts strewn over all but its last `near` tokens,
               then questions; as many tokens as asked for, the answers included
    right   =  every token of an answer is the likeliest, given all before it: what greedy decoding would write
    control =  the same samples cut to their last `window` tokens, where no fact is left: guessing

Letters: T tokens, D hidden, N tokens of answers.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.data.recall import TASKS, Task, episode
from godwit.data.sources import stdlib
from godwit.models.decoder import Decoder
from godwit.nn.share_plan import SharePlan
from godwit.ops.context import AttnContext
from godwit.text.tokenizer import Tokenizer

NEAR = 512
NUM_FACTS: dict[Task, int] = {"needle": 1, "multi_key": 16, "tracking": 9}
NUM_QUESTIONS: dict[Task, int] = {"needle": 1, "multi_key": 4, "tracking": 2}


@dataclass(frozen=True)
class Sample:
    """Tokens and the spans `(start, end)` of the answers among them."""

    tokens: tuple[int, ...]
    answers: tuple[tuple[int, int], ...]

    def right(self, hidden_TD: Tensor, head: Callable[[Tensor], Tensor], *, skipped: int = 0) -> list[bool]:
        """Which answers a model gets right.

        Args:
            hidden_TD: what its head reads, for all tokens but the first `skipped`.
            head: from those to logits.
        """
        found = []
        for start, end in self.answers:
            best_N = head(hidden_TD[start - skipped - 1 : end - skipped - 1]).argmax(dim=-1)
            found.append(best_N.tolist() == list(self.tokens[start:end]))
        return found


@dataclass(frozen=True)
class Retrieval:
    """Share of right answers, of how many, and its standard error over samples."""

    task: Task
    num_tokens: int
    accuracy: float
    num_answers: int
    standard_error: float

    @classmethod
    def of(cls, task: Task, num_tokens: int, right: Sequence[Sequence[bool]]) -> "Retrieval":
        """From which answers of each sample are right."""
        shares = [sum(each) / len(each) for each in right]
        mean = sum(shares) / len(shares)
        variance = sum((share - mean) ** 2 for share in shares) / max(len(shares) - 1, 1)
        return cls(task, num_tokens, mean, sum(map(len, right)), math.sqrt(variance / len(shares)))


def samples(tokenizer: Tokenizer, *, task: Task, num_tokens: int, num_samples: int, seed: int = 0) -> list[Sample]:
    """Samples of exactly `num_tokens` tokens, the same for the same arguments.

    Raises:
        GodwitError: an unknown task, or too few tokens for facts, distance and questions.
    """
    if task not in TASKS:
        raise GodwitError(f"no retrieval task {task!r}; choose from {', '.join(TASKS)}")
    if num_samples < 1:
        raise GodwitError(f"num_samples is {num_samples}; give at least 1")
    return [_sample(tokenizer, task, num_tokens, f"{seed} {number}") for number in range(num_samples)]


@torch.inference_mode()
def retrieval(
    model: Decoder,
    tokenizer: Tokenizer,
    *,
    task: Task,
    num_tokens: int,
    num_samples: int,
    seed: int = 0,
    window: int | None = None,
    plan: SharePlan | str | None = None,
    dense: bool = False,
    on_sample: Callable[[], None] = lambda: None,
) -> Retrieval:
    """Accuracy of a model on one task.

    Args:
        model: the decoder, in eval mode.
        tokenizer: its tokenizer.
        task: see `godwit.data.recall`.
        num_tokens: length of each sample.
        num_samples: how many; `multi_key` and `tracking` ask several questions in each.
        seed: of the samples.
        window: only the last so many tokens are shown (the control); None is all.
        plan: which layers share; None for the model's own.
        dense: attend to everything although the model has indexers.
        on_sample: called after each sample, for progress.
    """
    right = []
    for sample in samples(tokenizer, task=task, num_tokens=num_tokens, num_samples=num_samples, seed=seed):
        right.append(_right(model, sample, window, plan, dense))
        on_sample()
    return Retrieval.of(task, num_tokens, right)


def _right(model: Decoder, sample: Sample, window: int | None, plan: SharePlan | str | None, dense: bool) -> list[bool]:
    """Which answers of a sample the model gets right."""
    skipped = 0 if window is None else max(0, len(sample.tokens) - window)
    device = model.lm_head_weight.device
    tokens_T = torch.tensor(sample.tokens[skipped:], device=device)
    context = AttnContext.single(tokens_T.shape[0], device)
    hidden_TD = model.features(tokens_T, context, plan=plan, dense=dense).hidden_TD
    return sample.right(hidden_TD, model.logits, skipped=skipped)


def _sample(tokenizer: Tokenizer, task: Task, num_tokens: int, seed: str) -> Sample:
    made = episode(task, num_facts=NUM_FACTS[task], num_questions=NUM_QUESTIONS[task], seed=seed)
    facts = [tokenizer.encode(fact + "\n") for fact in made.facts]
    asked: list[int] = []
    spans = []
    for question in made.questions:
        asked += tokenizer.encode(question.prompt)
        answer = tokenizer.encode(question.answer)
        spans.append((len(asked), len(asked) + len(answer)))
        asked += answer + tokenizer.encode("\n")
    asked = asked[: spans[-1][1]]
    num_hay = num_tokens - len(asked) - sum(map(len, facts))
    if num_hay < NEAR:
        raise GodwitError(
            f"{num_tokens} tokens are too few for a {task} task that keeps its facts {NEAR} tokens away; "
            f"give at least {num_tokens - num_hay + NEAR}"
        )
    rng = random.Random(f"retrieval {task} {num_tokens} {seed}")
    hay = _haystack(tokenizer, rng, num_hay)
    # A fact begins where a line does.
    starts = [0] + [place for place in range(1, num_hay - NEAR) if "\n" in tokenizer.decode([hay[place - 1]])]
    places = sorted(rng.choice(starts) for _ in facts)
    tokens: list[int] = []
    for fact, place, last in zip(facts, places, [0, *places], strict=False):
        tokens += hay[last:place] + fact
    tokens += hay[places[-1] :]
    first = len(tokens)
    return Sample((*tokens, *asked), tuple((first + start, first + end) for start, end in spans))


def _haystack(tokenizer: Tokenizer, rng: random.Random, num_tokens: int) -> list[int]:
    """Consecutive lines of code from a random place, as many tokens as asked for, ending with a line's end."""
    lines = stdlib.code_lines()
    start, taken = rng.randrange(len(lines)), 0
    tokens: list[int] = []
    while len(tokens) <= num_tokens:
        block = [lines[(start + taken + place) % len(lines)] for place in range(200)]
        tokens += tokenizer.encode("".join(block))
        taken += len(block)
    return [*tokens[: num_tokens - 1], *tokenizer.encode("\n")[-1:]]
