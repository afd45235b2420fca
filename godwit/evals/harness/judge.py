"""A judge that can be named again: model, temperatures, seed, attempts and the hash of its prompts.

Scores of different judges do not compare (WritingBench's changed three times in two years), so the pin is written into
every result and two runs compare only if their pins are equal.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class JudgePin:
    """How the judge is asked.

    Attributes:
        model: its name at its endpoint; give one with a version in it.
        temperature: of the first attempt; 0 still varies a little on most servers.
        retry_temperature: of the further attempts at a reply that parses (at 0 the same fault would come again).
        seed: sent with attempt k as seed + k, where the endpoint takes one.
        attempts: after so many replies that do not parse the verdict is unscored.
        prompts: 16 hex digits for each prompt.
    """

    model: str
    temperature: float
    retry_temperature: float
    seed: int
    attempts: int
    max_tokens: int
    prompts: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"prompts": dict(self.prompts)}
