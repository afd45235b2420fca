"""Long-range retrieval tasks in plain text: facts strewn over a haystack, asked for later.

    # remember falcon copper        a fact: key and value, each one word
    # recall falcon copper          a question; what is asked for is the value behind the key
    # trace falcon copper amber     a question over links: copper is itself the key of a fact, and so on

    needle      one fact in the haystack, one question at its end          (RULER's NIAH single, arXiv 2404.06654)
    multi_key   many facts with different keys, one of them asked for      (RULER's NIAH multi-key)
    tracking    many facts, some of which chain; the chain is followed     (RULER's variable tracking)

Key and value stand side by side, and keys are unique within an episode, so the answer is decided by the text alone and
is a word seen once before, at a distance that the haystack sets. Guessing is right once in `len(WORDS)`. The haystack
is whatever text the caller has; nothing here knows of tokens.
"""

import itertools
import random
from dataclasses import dataclass
from typing import Literal

from godwit.base.errors import GodwitError

Task = Literal["needle", "multi_key", "tracking"]
TASKS: tuple[Task, ...] = ("needle", "multi_key", "tracking")

# Short, common, and different in their beginnings, so that a vocabulary trained on such text has each as one token.
_WORDS = """
acorn amber anchor apple apron arrow atlas autumn badge bagel bamboo banjo barley basil basket beacon beaver
bell berry birch bishop bison blanket blossom bonnet bottle bridge bronze brook bubble bucket butter button
cabin cactus camel candle canyon carbon carpet castle cedar cellar chalk cherry chimney cider cinder circus
citrus clover cobalt cobra coffee comet copper coral cotton cradle crayon cricket crystal curtain dagger daisy
dancer desert diamond dolphin donkey dragon drummer eagle ebony ember emerald engine falcon feather fennel ferry
fiddle flint flute forest fossil fountain fox galaxy garden garlic garnet gazelle ginger glacier goblet granite
grape guitar hammer harbor harvest hazel helmet heron honey hornet island ivory jacket jaguar jasmine jelly
jewel jungle kettle kitten ladder lagoon lantern lark laurel lemon leopard lily linen lizard lobster lotus
magnet magpie mango maple marble meadow melon mirror mitten monkey morning mosaic mountain muffin mustard nectar
needle nickel nutmeg oasis ocean olive onion onyx opal orange orchid otter oyster paddle palace panda panther
paprika parrot peach peacock pearl pebble pelican penguin pepper pigeon pillow pine piper planet plum pocket
poplar poppy prairie pumpkin puppet quartz rabbit radish raven reef ribbon river robin rocket rose ruby saddle
saffron salmon sandal sapphire sesame shadow shell sherry silver sparrow spider spruce squid stable sugar summer
sunset swallow tailor tango temple thistle thunder tiger timber toffee tomato topaz trumpet tulip tunnel turkey
turtle valley vanilla velvet violet walnut walrus wasp willow window winter wizard wolf zebra zinc
"""
WORDS = tuple(_WORDS.split())
CHAIN = 3
"""Facts that a tracking question links."""
MOST_FACTS = 180
"""The words are enough for so many facts of any task: chains take `CHAIN` + 1 words for `CHAIN` facts."""


@dataclass(frozen=True)
class Question:
    """A line to be completed: `prompt` ends at the key, `answer` is what follows, up to the line's end."""

    prompt: str
    answer: str
    num_facts: int
    """how many of the episode's facts, in their order, must come before it"""


@dataclass(frozen=True)
class Episode:
    """Facts, one line each without its line end, in the order of the text, and questions about them."""

    facts: tuple[str, ...]
    questions: tuple[Question, ...]


def episode(task: Task, *, num_facts: int, num_questions: int, seed: int | str) -> Episode:
    """A task's facts and questions, the same for the same arguments.

    Args:
        task: see above; `needle` is `multi_key` with one fact.
        num_facts: up to `MOST_FACTS`; of `tracking`, at least `CHAIN`.
        num_questions: questions, each about another fact or chain as long as there are enough.
        seed: of the words and their order.

    Raises:
        GodwitError: more facts than the words are enough for, or too few for the task.
    """
    least, most = {"needle": (1, 1), "multi_key": (1, MOST_FACTS), "tracking": (CHAIN, MOST_FACTS)}[task]
    if not least <= num_facts <= most:
        raise GodwitError(f"a {task} task holds {least} to {most} facts; got {num_facts}")
    if num_questions < 1:
        raise GodwitError(f"an episode asks at least 1 question; got {num_questions}")
    rng = random.Random(f"recall {task} {num_facts} {num_questions} {seed}")
    return _tracking(rng, num_facts, num_questions) if task == "tracking" else _pairs(rng, num_facts, num_questions)


def _fact(key: str, value: str) -> str:
    return f"# remember {key} {value}"


def _asked(rng: random.Random, num: int, num_questions: int) -> list[int]:
    """Which of `num` things are asked for: each once before any is asked again."""
    rounds = [rng.sample(range(num), num) for _ in range(-(-num_questions // num))]
    return [number for order in rounds for number in order][:num_questions]


def _pairs(rng: random.Random, num_facts: int, num_questions: int) -> Episode:
    words = rng.sample(WORDS, len(WORDS))
    # A value that is also a key would have two continuations.
    keys, others = words[:num_facts], words[num_facts:]
    values = [rng.choice(others) for _ in keys]
    facts = tuple(_fact(key, value) for key, value in zip(keys, values))
    asked = _asked(rng, num_facts, num_questions)
    return Episode(facts, tuple(Question(f"# recall {keys[n]}", f" {values[n]}", n + 1) for n in asked))


def _tracking(rng: random.Random, num_facts: int, num_questions: int) -> Episode:
    """Chains a -> b -> c -> d of `CHAIN` facts each, facts that are left over stand alone; all shuffled."""
    words = iter(rng.sample(WORDS, len(WORDS)))
    chains = [[next(words) for _ in range(CHAIN + 1)] for _ in range(num_facts // CHAIN)]
    pairs = [pair for chain in chains for pair in itertools.pairwise(chain)]
    pairs += [(next(words), next(words)) for _ in range(num_facts % CHAIN)]
    rng.shuffle(pairs)
    place = {key: number for number, (key, _) in enumerate(pairs)}
    questions = []
    for number in _asked(rng, len(chains), num_questions):
        first, *rest = chains[number]
        last = max(place[key] for key in (first, *rest[:-1]))
        questions.append(Question(f"# trace {first}", "".join(f" {word}" for word in rest), last + 1))
    return Episode(tuple(_fact(*pair) for pair in pairs), tuple(questions))
