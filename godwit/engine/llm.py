"""`godwit.LLM`: a model, its tokenizer and an engine, for people: texts in, texts out.

    llm = godwit.LLM("nano")
    for output in llm.generate(["def main("], godwit.SamplingParams(max_tokens=64)):
        print(output.outputs[0].text)

Names are vLLM's. The model's chat format is `godwit.text.template`'s.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from godwit.base.errors import GodwitError
from godwit.base.interrupt import whole_step
from godwit.base.progress import Progress
from godwit.engine.config import EngineConfig
from godwit.engine.engine import Engine
from godwit.engine.outputs import CompletionOutput, Delta, FinishReason, RequestOutput, TokenLogprob
from godwit.engine.params import SamplingParams
from godwit.models.bundled import resolve
from godwit.models.decoder import Decoder
from godwit.models.weights import load
from godwit.text.mask import render_tokens
from godwit.text.messages import Message, Tool
from godwit.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
Messages = Sequence[Message | dict[str, Any]]


class LLM:
    """A model to generate with.

    Args:
        model: a Hugging Face folder, the name of a bundled model, or a decoder (then with its `tokenizer`).
        tokenizer: None: the one in the model's folder.
        settings: fields of `EngineConfig`.
    """

    def __init__(self, model: str | Path | Decoder, *, tokenizer: Tokenizer | None = None, **settings: Any):
        unknown = sorted(set(settings) - set(EngineConfig.__dataclass_fields__))
        if unknown:
            raise GodwitError(f"no setting {unknown[0]!r}; choose from {', '.join(EngineConfig.__dataclass_fields__)}")
        if isinstance(model, Decoder):
            if tokenizer is None:
                raise GodwitError("a model without a folder needs its tokenizer: LLM(model, tokenizer=...)")
            decoder = model
        else:
            folder = resolve(model)
            decoder = load(folder)
            tokenizer = Tokenizer.load(folder) if tokenizer is None else tokenizer
        self.tokenizer = tokenizer
        self.engine = Engine(decoder, tokenizer=tokenizer, config=EngineConfig(**settings))
        self._inbox: dict[str, list[Delta]] = {}

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = False,
    ) -> list[RequestOutput]:
        """Continue texts or token ids; results in their order.

        Args:
            prompts: one or many; ids are given as they are.
            sampling_params: for all, or one each; None: the defaults.
            use_tqdm: show progress (by rich; the name is vLLM's).
        """
        many = _as_list(prompts)
        return self._run([self.ids(prompt) for prompt in many], many, sampling_params, use_tqdm)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        tools: Sequence[Tool] = (),
        enable_thinking: bool = True,
        use_tqdm: bool = False,
    ) -> list[RequestOutput]:
        """Answer one conversation, or many."""
        first = messages[0] if messages else None
        many: Any = [messages] if first is None or isinstance(first, Message | dict) else messages
        prompts = [chat_prompt(self.tokenizer, one, tools=tools, enable_thinking=enable_thinking) for one in many]
        return self._run(prompts, prompts, sampling_params, use_tqdm)

    def stream(self, prompt: Prompt, sampling_params: SamplingParams | None = None) -> Generator[Delta, None, None]:
        """Continue one prompt; what comes, as it comes. Who stops early aborts it."""
        params = sampling_params or SamplingParams()
        name, left = self._add(self.ids(prompt), params), params.n
        try:
            while left:
                for delta in self._next(name):
                    left -= delta.finish_reason is not None
                    yield delta
        finally:
            self._drop(name)

    def _run(
        self,
        prompts: list[list[int]],
        given: Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        show: bool,
    ) -> list[RequestOutput]:
        params = _one_each(sampling_params, len(prompts))
        collectors: dict[str, Collector] = {}
        names: list[str] = []
        try:
            for prompt_ids, text, one in zip(prompts, given, params, strict=True):
                name = self._add(prompt_ids, one)
                names.append(name)
                collectors[name] = Collector(text if isinstance(text, str) else None, prompt_ids, one.n)
            with Progress(sum(one.n for one in params), what="generating", unit="outputs", silent=not show) as progress:
                for name, collector in collectors.items():
                    while not collector.done:
                        for delta in self._next(name):
                            collector.add(delta)
                            progress.advance(delta.finish_reason is not None)
        finally:
            # A refused prompt or an interrupt leaves nothing behind.
            for name in names:
                self._drop(name)
        return [collectors[name].output() for name in names]

    def _add(self, prompt_ids: list[int], params: SamplingParams) -> str:
        name = self.engine.add(prompt_ids, params)
        self._inbox[name] = []
        return name

    def _next(self, name: str) -> list[Delta]:
        """The request's next deltas; steps of the engine serve everybody, so what is for others is kept for them."""
        while not self._inbox[name]:
            with whole_step():
                for delta in self.engine.step():
                    if delta.request_id in self._inbox:
                        self._inbox[delta.request_id].append(delta)
        deltas, self._inbox[name] = self._inbox[name], []
        return deltas

    def _drop(self, name: str) -> None:
        with whole_step():
            self.engine.abort(name)
            del self._inbox[name]

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""
        # A text without anything starts where a document starts: behind the end of the one before.
        return (
            self.tokenizer.encode(prompt) or [self.tokenizer.endoftext_id] if isinstance(prompt, str) else list(prompt)
        )


class Collector:
    """Puts a request's deltas together."""

    def __init__(self, prompt: str | None, prompt_ids: Sequence[int], n: int):
        self.prompt, self.prompt_ids = prompt, tuple(prompt_ids)
        self._deltas: list[list[Delta]] = [[] for _ in range(n)]

    def add(self, delta: Delta) -> None:
        """The next one."""
        self._deltas[delta.index].append(delta)

    @property
    def done(self) -> bool:
        """Whether every choice has ended."""
        return all(deltas and deltas[-1].finish_reason is not None for deltas in self._deltas)

    def output(self) -> RequestOutput:
        """The whole, when it is done."""
        assert self.done, self.prompt
        first = self._deltas[0][0]
        outputs = tuple(_joined(index, deltas) for index, deltas in enumerate(self._deltas))
        return RequestOutput(
            first.request_id, self.prompt, self.prompt_ids, outputs, first.num_cached_tokens, first.prompt_logprobs
        )


def _joined(index: int, deltas: list[Delta]) -> CompletionOutput:
    tokens: list[int] = []
    logprobs: list[TokenLogprob] = []
    versions: list[int] = []
    for delta in deltas:
        tokens += delta.token_ids
        logprobs += delta.logprobs
        versions += delta.weight_versions
    reason: FinishReason | None = deltas[-1].finish_reason
    assert reason is not None, "the last delta says why"
    text = "".join(delta.text for delta in deltas)
    return CompletionOutput(
        index, text, tuple(tokens), tuple(logprobs), tuple(versions), reason, deltas[-1].stop_reason
    )


def chat_prompt(
    tokenizer: Tokenizer, messages: Messages, *, tools: Sequence[Tool] = (), enable_thinking: bool = True
) -> list[int]:
    """Token ids of a conversation and of what the model goes on from; contents cannot forge a role."""
    parsed = [one if isinstance(one, Message) else Message.from_dict(one) for one in messages]
    rendered = render_tokens(
        parsed, tokenizer=tokenizer, tools=tools, enable_thinking=enable_thinking, add_generation_prompt=True
    )
    return list(rendered.token_ids)


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
        return [prompts]  # pyrefly: ignore[bad-return]
    return list(prompts)  # pyrefly: ignore[bad-return]


def _one_each(given: SamplingParams | Sequence[SamplingParams] | None, count: int) -> list[SamplingParams]:
    if given is None or isinstance(given, SamplingParams):
        return [given or SamplingParams()] * count
    if len(given) != count:
        raise GodwitError(f"{len(given)} sampling parameters for {count} prompts; give one, or one each")
    return list(given)
