"""A model and a judge of plain functions, for benchmarks without inspect_ai or a network."""

import asyncio
from collections.abc import Callable
from typing import Any

from godwit.evals.harness.kit import Kit, Reply, Verdict
from godwit.evals.harness.outcomes import Outcome


class FakeModel:
    """Answers by a function of the prompt and keeps the prompts."""

    def __init__(self, answer: Callable[[str], str] = lambda prompt: "text"):
        self.answer = answer
        self.prompts: list[str] = []
        self.max_tokens: list[int | None] = []
        self.images: list[tuple[str, ...]] = []

    async def __call__(
        self, prompt: str, *, form: Any = None, max_tokens: int | None = None, images: tuple[str, ...] = ()
    ) -> Reply:
        self.prompts.append(prompt)
        self.max_tokens.append(max_tokens)
        self.images.append(images)
        return Reply(self.answer(prompt), output_tokens=7)


class FakeJudge:
    """One reply a prompt, parsed once; what does not parse is no verdict."""

    def __init__(self, answer: Callable[[str], str]):
        self.answer = answer
        self.prompts: list[str] = []
        self.images: list[tuple[str, ...]] = []

    async def __call__(
        self, prompt: str, parse: Callable[[str], Any], *, form: Any, images: tuple[str, ...] = ()
    ) -> Verdict:
        self.prompts.append(prompt)
        self.images.append(images)
        reply = self.answer(prompt)
        value = parse(reply)
        return Verdict(value, (reply,), "" if value is not None else "no verdict")


def answered(benchmark: Any, row: Any, model: FakeModel, options: Any = None, kit: Kit | None = None) -> Reply:
    """The reply of a benchmark's calls."""
    return asyncio.run(benchmark.answer(row, model, options or benchmark.Options(), kit or Kit()))


def scored(
    benchmark: Any, row: Any, text: str, judge: Any = None, options: Any = None, kit: Kit | None = None
) -> Outcome:
    """The outcome of a reply."""
    reply = Reply(text, output_tokens=7)
    return asyncio.run(benchmark.score(row, reply, judge, options or benchmark.Options(), kit or Kit()))
