"""Which layers run their own indexer (F, full) and which reuse the selection of the last one that did (S, shared).

IndexCache, arXiv 2603.12201: c in {F, S}^N, c_1 = F; layer l uses the positions of f(l) = max{j <= l : c_j = F}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from godwit.base.errors import GodwitError

FULL, SHARED = "full", "shared"
_LETTER = {"F": FULL, "S": SHARED, FULL: FULL, SHARED: SHARED}


@dataclass(frozen=True)
class SharePlan:
    """A sharing pattern, one letter per layer.

    Raises:
        GodwitError: for other letters than F and S, for an empty plan, or one that begins with S.
    """

    pattern: str

    def __post_init__(self) -> None:
        wrong = sorted(set(self.pattern) - set("FS"))
        if wrong or not self.pattern:
            raise GodwitError(
                f"a sharing plan is written with F and S, one per layer, e.g. FSSSF; got {self.pattern!r}"
            )
        if self.pattern[0] != "F":
            raise GodwitError(
                f"a sharing plan must begin with F (layer 0 has nobody to share with); got {self.pattern!r}"
            )

    @classmethod
    def parse(cls, value: "str | Sequence[str] | SharePlan", num_layers: int) -> "SharePlan":
        """From "FSSS...", ["full", "shared", ...] or a plan; its length must be `num_layers`."""
        if isinstance(value, SharePlan):
            plan = value
        else:
            unknown = [item for item in value if item not in _LETTER]
            if unknown:
                raise GodwitError(f"a sharing plan holds F/full and S/shared; got {unknown[0]!r}")
            plan = cls("".join(_LETTER[item][0].upper() for item in value))
        if len(plan.pattern) != num_layers:
            raise GodwitError(f"the sharing plan has {len(plan.pattern)} letters and the model {num_layers} layers")
        return plan

    @classmethod
    def named(cls, text: str, num_layers: int) -> "SharePlan":
        """From letters, or from 1/n: every n-th layer, the first one first, has its own indexer (FSSSFSSS... for 1/4).

        Raises:
            GodwitError: neither of the two, or another number of letters than layers.
        """
        one, slash, freq = text.partition("/")
        if not slash:
            return cls.parse(text, num_layers)
        if one != "1" or not freq.isdecimal() or freq == "0":
            raise GodwitError(f"a uniform sharing plan is written 1/n, e.g. 1/4; got {text!r}")
        return cls.from_freq(num_layers, int(freq), offset=1)

    @classmethod
    def all_full(cls, num_layers: int) -> "SharePlan":
        """Every layer its own indexer: plain DSA."""
        return cls("F" * num_layers)

    @classmethod
    def from_freq(cls, num_layers: int, freq: int = 1, offset: int = 2) -> "SharePlan":
        """The engines' uniform rule: layer i is F iff max(i - offset + 1, 0) % freq == 0.

        Offset 2 is the default of Transformers and vLLM and gives FFSSSF... for freq 4; offset 1 gives FSSSF...;
        GLM-5.2 ships offset 3: FFFSSSF...
        """
        if freq < 1:
            raise GodwitError(f"index_topk_freq must be at least 1, got {freq}")
        return cls("".join("S" if max(i - offset + 1, 0) % freq else "F" for i in range(num_layers)))

    @property
    def freq_and_offset(self) -> tuple[int, int] | None:
        """The frequency and offset that `from_freq` makes this plan of, or None where no uniform rule does.

        All F is (1, 1); a plan with one F is given the shortest period that does not come round again.
        """
        leading = len(self.pattern) - len(self.pattern.lstrip("F"))
        if leading == len(self.pattern):
            return 1, 1
        second = self.pattern.find("F", leading)
        freq = (len(self.pattern) if second < 0 else second) - leading + 1
        return (freq, leading) if SharePlan.from_freq(len(self.pattern), freq, leading) == self else None

    @property
    def config_keys(self) -> dict[str, Any]:
        """What a config.json should say so that every engine that reads it follows this plan; None: no such key.

        Transformers and ATOM read `indexer_types`; vLLM, SGLang and TensorRT-LLM the pattern; Megatron's bridge knows
        only a frequency, and a stale one would contradict the rest.
        """
        shares = self.num_full < len(self.pattern)
        freq, offset = self.freq_and_offset or (None, None)
        return {
            "indexer_types": list(self.types),
            "index_topk_pattern": self.pattern if shares else None,
            "use_index_cache": True if shares else None,
            "index_topk_freq": freq if shares else None,
            "index_skip_topk_offset": offset if shares else None,
        }

    @property
    def types(self) -> tuple[str, ...]:
        """As `indexer_types` in a Hugging Face config."""
        return tuple(_LETTER[letter] for letter in self.pattern)

    @property
    def num_full(self) -> int:
        """How many layers run their own indexer."""
        return self.pattern.count("F")

    @property
    def groups(self) -> tuple[range, ...]:
        """For each F layer in order, the layers that use its selection, itself first."""
        firsts = [layer for layer, letter in enumerate(self.pattern) if letter == "F"]
        return tuple(range(first, first + self.num_served(first)) for first in firsts)

    def is_full(self, layer: int) -> bool:
        """Whether `layer` runs its own indexer."""
        return self.pattern[layer] == "F"

    def num_served(self, layer: int) -> int:
        """How many layers use the selection that `layer` uses, the one that makes it included."""
        first = self.pattern.rindex("F", 0, layer + 1)
        behind = self.pattern.find("F", first + 1)
        return (len(self.pattern) if behind < 0 else behind) - first

    def __str__(self) -> str:
        return self.pattern
