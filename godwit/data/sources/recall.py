"""Long-range retrieval tasks (`godwit.data.recall`) over the standard library's sources, as many as asked for.

Each document is a stretch of real code in which facts are strewn and asked for later: some questions soon, most at the
end. Half of the documents are `multi_key`, the others `tracking` and `needle`. The same options give the same texts,
on the same Python.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from godwit.base.errors import GodwitError
from godwit.data.document import Document, Row
from godwit.data.recall import CHAIN, MOST_FACTS, Episode, Task, episode
from godwit.data.sources import stdlib
from godwit.data.spec import SourceSpec

OPTIONS = {
    "docs": "how many documents; default 1000",
    "chars": "characters of a document, e.g. 24000 (about 8,000 tokens), filled up with code; default 6000",
    "facts": "at most so many facts in a document; default 32, up to 180",
    "seed": "of everything random; default 0",
}
NEEDS_PATH = False
EXAMPLE = "recall?docs=2000&chars=24000"

TASK_MIX: tuple[Task, ...] = ("multi_key", "tracking", "multi_key", "needle")
QUESTIONS_PER_ANSWER = 2


class _Settings(NamedTuple):
    docs: int
    chars: int
    facts: int
    seed: int


def num_bytes(spec: SourceSpec, lists: Mapping[str, Sequence[str]]) -> int:
    """Characters asked for (nearly all are one byte)."""
    settings = _settings(spec)
    return settings.docs * settings.chars


def rows(spec: SourceSpec, lists: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """The documents, in order."""
    settings = _settings(spec)
    lines = stdlib.code_lines()
    for number in range(settings.docs):
        yield Document(_document(lines, settings, number), f"recall/{settings.seed}", number + 1)


def _document(lines: Sequence[str], settings: _Settings, number: int) -> str:
    rng = random.Random(f"recall document {settings.seed} {number}")
    task = TASK_MIX[number % len(TASK_MIX)]
    # From few to many on a logarithmic scale: few facts far apart, and many that must be told apart.
    least = CHAIN if task == "tracking" else 1
    num_facts = 1 if task == "needle" else round(least * (max(settings.facts, least) / least) ** rng.random())
    answers = max(1, num_facts // CHAIN) if task == "tracking" else num_facts
    made = episode(task, num_facts=num_facts, num_questions=QUESTIONS_PER_ANSWER * answers, seed=str(rng.random()))
    parts = _ordered(rng, made)
    room = settings.chars - sum(len(part) + 1 for part in parts)
    return "".join(_strewn(rng, parts, _haystack(rng, lines, room)))


def _ordered(rng: random.Random, made: Episode) -> list[str]:
    """Facts in their order, half of the questions at the end and each other one anywhere behind its facts."""
    placed = [(float(place), fact) for place, fact in enumerate(made.facts)]
    for number, question in enumerate(made.questions):
        late = number % 2 == 0
        where = len(made.facts) + rng.random() if late else rng.uniform(question.num_facts, len(made.facts) + 1)
        placed.append((where - 0.5, question.prompt + question.answer))
    return [text for _, text in sorted(placed)]


def _haystack(rng: random.Random, lines: Sequence[str], num_chars: int) -> list[str]:
    """Consecutive lines of code, about so many characters of them, from a random place, wrapping around."""
    start, taken, size = rng.randrange(len(lines)), [], 0
    while size < num_chars:
        line = lines[(start + len(taken)) % len(lines)]
        taken.append(line)
        size += len(line)
    return taken


def _strewn(rng: random.Random, parts: Sequence[str], hay: Sequence[str]) -> Iterator[str]:
    """The parts between lines of hay, at random places; the last part is the end."""
    cuts = sorted(rng.randint(0, len(hay)) for _ in parts[:-1])
    start = 0
    for part, cut in zip(parts, [*cuts, len(hay)], strict=True):
        yield from hay[start:cut]
        yield part + "\n"
        start = cut


def _settings(spec: SourceSpec) -> _Settings:
    settings = _Settings(
        docs=_number(spec, "docs", 1000, 1),
        chars=_number(spec, "chars", 6000, 1),
        facts=_number(spec, "facts", 32, 1),
        seed=_number(spec, "seed", 0, 0),
    )
    if settings.facts > MOST_FACTS:
        raise GodwitError(f"data source {spec.text!r}: facts={settings.facts}; give at most {MOST_FACTS}")
    return settings


def _number(spec: SourceSpec, key: str, default: int, least: int) -> int:
    given = spec.options.get(key)
    if given is None:
        return default
    if not given.isdecimal() or int(given) < least:
        raise GodwitError(f"data source {spec.text!r}: {key}={given!r}; give a whole number from {least}")
    return int(given)
