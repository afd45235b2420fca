"""`godwit.AsyncLLM`: `LLM` for asyncio. Its engine runs in a thread of its own; many tasks may ask at once.

llm = godwit.AsyncLLM("nano")
async for delta in llm.stream("def main(", godwit.SamplingParams(max_tokens=64)):
    print(delta.text, end="")
await llm.close()
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from godwit.engine.async_engine import AsyncEngine
from godwit.engine.llm import LLM, Collector, Messages, Prompt, chat_prompt
from godwit.engine.outputs import Delta, RequestOutput
from godwit.engine.params import SamplingParams
from godwit.models.decoder import Decoder
from godwit.text.messages import Tool
from godwit.text.tokenizer import Tokenizer


class AsyncLLM:
    """A model to generate with; arguments are those of `LLM`."""

    def __init__(self, model: str | Path | Decoder, *, tokenizer: Tokenizer | None = None, **settings: Any):
        self._llm = LLM(model, tokenizer=tokenizer, **settings)
        self.tokenizer = self._llm.tokenizer
        self.engine = AsyncEngine(self._llm.engine)

    async def stream(self, prompt: Prompt, sampling_params: SamplingParams | None = None) -> AsyncIterator[Delta]:
        """Continue one prompt; what comes, as it comes. Closing or cancelling aborts it."""
        stream = self.engine.stream(self._llm.ids(prompt), sampling_params or SamplingParams())
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                yield delta

    async def generate(self, prompt: Prompt, sampling_params: SamplingParams | None = None) -> RequestOutput:
        """Continue one prompt to its end."""
        params, prompt_ids = sampling_params or SamplingParams(), self._llm.ids(prompt)
        collector = Collector(prompt if isinstance(prompt, str) else None, prompt_ids, params.n)
        async with aclosing(self.engine.stream(prompt_ids, params)) as deltas:
            async for delta in deltas:
                collector.add(delta)
        return collector.output()

    async def chat(
        self,
        messages: Messages,
        sampling_params: SamplingParams | None = None,
        *,
        tools: Sequence[Tool] = (),
        enable_thinking: bool = True,
    ) -> RequestOutput:
        """Answer a conversation."""
        prompt_ids = chat_prompt(self.tokenizer, messages, tools=tools, enable_thinking=enable_thinking)
        return await self.generate(prompt_ids, sampling_params)

    async def close(self) -> None:
        """Stop the engine."""
        await self.engine.close()
