"""A text to try the inspector on: a task of `godwit.data.recall` in a piece of the standard library.

The answer to its last line stands far back, so a person can look whether layers select it.
"""

from functools import cache

from godwit.data.document import Document
from godwit.data.recall import episode
from godwit.data.sources import stdlib
from godwit.data.spec import SourceSpec
from godwit.text.tokenizer import Tokenizer

NUM_FACTS = 6
MODULE = "json"


def sample_text(tokenizer: Tokenizer, *, num_tokens: int) -> str:
    """About `num_tokens` tokens of code with facts in its first half, then a question and its answer."""
    made = episode("multi_key", num_facts=NUM_FACTS, num_questions=1, seed="inspector")
    question = made.questions[0]
    lines, total = [], 0
    for line in _code():
        total += len(tokenizer.encode(line))
        if total > num_tokens * 0.9:
            break
        lines.append(line)
    # Facts strewn over the first half, in their order.
    for number, fact in reversed(list(enumerate(made.facts))):
        lines.insert(len(lines) // 2 * number // len(made.facts) + 1, fact + "\n")
    return "".join(lines) + question.prompt + question.answer + "\n"


@cache
def _code() -> tuple[str, ...]:
    spec = SourceSpec(text=stdlib.EXAMPLE, kind=stdlib.EXAMPLE, path="", options={"only": MODULE})
    texts = [row.text for row in stdlib.rows(spec, {}) if isinstance(row, Document)]
    return tuple(line for text in texts for line in text.splitlines(keepends=True) if line.strip())
