"""Settings of an engine."""

from dataclasses import dataclass

from godwit.base.errors import GodwitError


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How much runs at once, and how.

    Attributes:
        max_num_seqs: choices that run at once; others wait.
        max_num_batched_tokens: new tokens of one step; longer prompts come in chunks.
        max_model_len: prompt and output together; None: the model's `max_position_embeddings`, or what the pages hold.
        num_pages: pages (of 256 tokens) of the cache; None: as many as `memory` holds.
        memory: bytes of the cache where `num_pages` is None; it takes no more than `max_num_seqs` sequences of full
            length can use.
        plan: which layers run their own indexer ("FSSS...", or 1/4); None: the model's own.
        speculate: tokens that the prediction layer drafts for each step; 0: none. The text does not change.
        deterministic: a request's tokens do not depend, bit for bit, on what else runs, on preemption or on the
            prefix cache; costs speed.
        prefix_cache: keep pages of finished requests for prompts that begin alike.
    """

    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    max_model_len: int | None = None
    num_pages: int | None = None
    memory: int = 1 << 30
    plan: str | None = None
    speculate: int = 0
    deterministic: bool = False
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "num_pages", "memory"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise GodwitError(f"{name} is {value}; give 1 or more")
        if not 0 <= self.speculate <= 7:
            raise GodwitError(f"speculate is {self.speculate}; give 0 (off) to 7 drafted tokens a step")
