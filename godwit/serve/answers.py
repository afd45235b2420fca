"""What the engine's deltas look like to a client: OpenAI's objects, whole or as the chunks of a stream.

An answer is fed every delta of its request and says what is new (`chunks`) and at the end what there is (`whole`); a
whole answer is what its chunks add up to. Beside OpenAI's fields there are `reasoning_content`, and with
`return_token_ids` the ids of prompt and output and, for each output token, the version of the weights it is from.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from godwit.engine.outputs import Delta, TokenLogprob
from godwit.engine.params import SamplingParams
from godwit.serve.logprobs import chat_logprobs, text_logprobs
from godwit.text.messages import Tool
from godwit.text.stream import Part, TurnStream
from godwit.text.tokenizer import Tokenizer

Json = dict[str, Any]


@dataclass
class ChoiceState:
    """What is known of one choice."""

    token_ids: list[int] = field(default_factory=list)
    weight_versions: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    num_cached_tokens: int = 0
    num_reasoning_tokens: int = 0
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def take(self, delta: Delta) -> None:
        """Add a delta."""
        self.token_ids += delta.token_ids
        self.weight_versions += delta.weight_versions
        self.logprobs += delta.logprobs
        self.num_cached_tokens = delta.num_cached_tokens
        self.finish_reason, self.stop_reason = delta.finish_reason, delta.stop_reason
        if delta.prompt_logprobs is not None:
            self.prompt_logprobs = delta.prompt_logprobs


@dataclass(kw_only=True)
class Answer(ABC):
    """The answer to one request.

    Attributes:
        id, created, model, fingerprint: as in OpenAI's objects.
        prompts, params: what the engine was asked.
        return_token_ids: tell ids and weight versions.
    """

    id: str
    created: int
    model: str
    fingerprint: str
    tokenizer: Tokenizer
    prompts: tuple[tuple[int, ...], ...]
    params: SamplingParams
    return_token_ids: bool
    states: dict[int, ChoiceState] = field(default_factory=dict)

    @abstractmethod
    def chunks(self, prompt: int, delta: Delta) -> list[Json]:
        """The chunks that a delta of prompt number `prompt` brings."""

    @abstractmethod
    def whole(self) -> Json:
        """The answer, when every choice is finished."""

    def usage(self) -> Json:
        """Token counts."""
        prompt_tokens = sum(map(len, self.prompts))
        completion_tokens = sum(self._num_told(state) for state in self.states.values())
        firsts = [state for index, state in self.states.items() if index % self.params.n == 0]
        reasoning = sum(state.num_reasoning_tokens for state in self.states.values())
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(state.num_cached_tokens for state in firsts)},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    def usage_chunk(self) -> Json:
        """The chunk at the end of a stream that has the token counts and no choice."""
        return {**self.frame(chunk=True), "choices": [], "usage": self.usage()}

    @abstractmethod
    def frame(self, *, chunk: bool) -> Json:
        """The fields around the choices."""

    def index_of(self, prompt: int, delta: Delta) -> int:
        """Number of a choice among those of all prompts."""
        return prompt * self.params.n + delta.index

    def _num_told(self, state: ChoiceState) -> int:
        return len(state.token_ids)

    def _ids(self, token_ids: Sequence[int], weight_versions: Sequence[int]) -> Json:
        if not self.return_token_ids:
            return {}
        return {"token_ids": list(token_ids), "weight_versions": list(weight_versions)}


@dataclass(kw_only=True)
class _Turn:
    """One choice of a chat: its parser and what it said so far."""

    stream: TurnStream
    reasoning: str = ""
    content: str = ""
    calls: list[Json] = field(default_factory=list)

    def take(self, parts: Sequence[Part]) -> Json:
        """Add parts; returns them as a stream's `delta`."""
        delta: Json = {}
        for part in parts:
            if part.kind == "reasoning":
                self.reasoning += part.text
                delta["reasoning_content"] = delta.get("reasoning_content", "") + part.text
            elif part.kind == "content":
                self.content += part.text
                delta["content"] = delta.get("content", "") + part.text
            elif part.kind == "call":
                function = {"name": part.text, "arguments": ""}
                self.calls.append({"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function})
                told = {**self.calls[-1], "function": dict(function)}
                delta.setdefault("tool_calls", []).append({"index": part.call, **told})
            else:
                self.calls[part.call]["function"]["arguments"] += part.text
                self._more_arguments(delta.setdefault("tool_calls", []), part)
        return delta

    @staticmethod
    def _more_arguments(told: list[Json], part: Part) -> None:
        if told and told[-1]["index"] == part.call:
            told[-1]["function"]["arguments"] = told[-1]["function"].get("arguments", "") + part.text
        else:
            told.append({"index": part.call, "function": {"arguments": part.text}})


@dataclass(kw_only=True)
class ChatAnswer(Answer):
    """`chat.completion`."""

    tools: tuple[Tool, ...] = ()
    style: str = "glm47"
    enable_thinking: bool = True
    _turns: dict[int, _Turn] = field(default_factory=dict)

    def chunks(self, prompt: int, delta: Delta) -> list[Json]:
        index = self.index_of(prompt, delta)
        state = self.states.setdefault(index, ChoiceState())
        found = []
        if index not in self._turns:
            options = {"tools": self.tools, "style": self.style, "enable_thinking": self.enable_thinking}
            self._turns[index] = _Turn(stream=TurnStream(self.tokenizer, **options))
            found.append(self._chunk(index, {"role": "assistant", "content": ""}))
            if self.return_token_ids:
                found[-1]["prompt_token_ids"] = list(self.prompts[0])
        turn = self._turns[index]
        state.take(delta)
        parts = self._parts(turn, state, delta)
        finish = delta.finish_reason
        if finish is not None:
            parts += turn.stream.end()
            finish = state.finish_reason = "tool_calls" if turn.stream.num_calls and finish == "stop" else finish
        if not parts and finish is None and not delta.logprobs and not self.return_token_ids:
            return found
        logprobs = chat_logprobs(self.tokenizer, delta.logprobs) if self.params.logprobs is not None else None
        ids = self._ids(delta.token_ids, delta.weight_versions)
        found.append(self._chunk(index, turn.take(parts), logprobs, finish, ids))
        return found

    def whole(self) -> Json:
        choices = []
        for index, state in sorted(self.states.items()):
            turn = self._turns[index]
            message: Json = {"role": "assistant", "content": turn.content or (None if turn.calls else "")}
            message["refusal"] = None
            message["reasoning_content"] = turn.reasoning or None
            if turn.calls:
                message["tool_calls"] = turn.calls
            logprobs = chat_logprobs(self.tokenizer, state.logprobs) if self.params.logprobs is not None else None
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "logprobs": logprobs,
                    "finish_reason": state.finish_reason,
                    "stop_reason": state.stop_reason,
                    **self._ids(state.token_ids, state.weight_versions),
                }
            )
        ids = {"prompt_token_ids": list(self.prompts[0])} if self.return_token_ids else {}
        return {**self.frame(chunk=False), "choices": choices, "usage": self.usage(), **ids}

    def frame(self, *, chunk: bool) -> Json:
        kind = "chat.completion.chunk" if chunk else "chat.completion"
        common = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**common, "system_fingerprint": self.fingerprint}

    def _parts(self, turn: _Turn, state: ChoiceState, delta: Delta) -> list[Part]:
        if self.params.stop:
            if turn.stream.is_thinking:
                state.num_reasoning_tokens += len(delta.token_ids)
            return turn.stream.feed(delta.token_ids, num_told=len(delta.text))
        parts: list[Part] = []
        for token_id in delta.token_ids:
            state.num_reasoning_tokens += turn.stream.is_thinking
            parts += turn.stream.feed([token_id])
        return parts

    def _chunk(
        self, index: int, delta: Json, logprobs: Json | None = None, finish: str | None = None, ids: Json | None = None
    ) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish, **(ids or {})}
        return {**self.frame(chunk=True), "choices": [choice]}


@dataclass(kw_only=True)
class TextAnswer(Answer):
    """`text_completion`.

    Attributes:
        echo: the prompt comes first.
        only_prompt: nothing but the prompt: what the engine sampled is not told.
        tell_prompt_logprobs: they were asked for by themselves, not with an echo.
    """

    echo: bool = False
    only_prompt: bool = False
    tell_prompt_logprobs: bool = False
    _texts: dict[int, str] = field(default_factory=dict)

    def chunks(self, prompt: int, delta: Delta) -> list[Json]:
        index = self.index_of(prompt, delta)
        state = self.states.setdefault(index, ChoiceState())
        first = index not in self._texts
        text = self._prompt_text(prompt) if first and self.echo else ""
        told = "" if self.only_prompt else delta.text
        start = len(self._texts.get(index, ""))
        self._texts[index] = self._texts.get(index, "") + text + told
        state.take(delta)
        if self.only_prompt and delta.finish_reason is not None:
            state.finish_reason = "length"
        if not (text or told or delta.logprobs or state.finish_reason or self.return_token_ids):
            return []
        entries = self._entries(prompt, delta, with_prompt=first)
        return [self._wrap(self._choice(index, text + told, entries, start, delta.token_ids, delta.weight_versions))]

    def whole(self) -> Json:
        choices = []
        for index, state in sorted(self.states.items()):
            prompt = index // self.params.n
            entries = (*self._echoed(prompt, state.prompt_logprobs), *([] if self.only_prompt else state.logprobs))
            choice = self._choice(index, self._texts[index], entries, 0, state.token_ids, state.weight_versions)
            if self.return_token_ids:
                choice["prompt_token_ids"] = list(self.prompts[prompt])
            if self.tell_prompt_logprobs and state.prompt_logprobs is not None:
                told = text_logprobs(self.tokenizer, self._with_first(prompt, state.prompt_logprobs), start=0)
                choice["prompt_logprobs"] = told
            choices.append(choice)
        return {**self.frame(chunk=False), "choices": choices, "usage": self.usage()}

    def frame(self, *, chunk: bool) -> Json:
        common = {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}
        return {**common, "system_fingerprint": self.fingerprint}

    def _wrap(self, choice: Json) -> Json:
        return {**self.frame(chunk=True), "choices": [choice]}

    def _num_told(self, state: ChoiceState) -> int:
        return 0 if self.only_prompt else len(state.token_ids)

    def _choice(
        self,
        index: int,
        text: str,
        entries: Sequence[TokenLogprob],
        start: int,
        token_ids: Sequence[int],
        weight_versions: Sequence[int],
    ) -> Json:
        state = self.states[index]
        asked = self.params.logprobs is not None
        ids = self._ids(() if self.only_prompt else token_ids, () if self.only_prompt else weight_versions)
        return {
            "index": index,
            "text": text,
            "logprobs": text_logprobs(self.tokenizer, entries, start=start) if asked else None,
            "finish_reason": state.finish_reason,
            "stop_reason": state.stop_reason,
            **ids,
        }

    def _entries(self, prompt: int, delta: Delta, *, with_prompt: bool) -> list[TokenLogprob]:
        echoed = self._echoed(prompt, delta.prompt_logprobs) if with_prompt else ()
        return [*echoed, *(() if self.only_prompt else delta.logprobs)]

    def _echoed(self, prompt: int, entries: Sequence[TokenLogprob | None] | None) -> Sequence[TokenLogprob]:
        return self._with_first(prompt, entries) if self.echo and entries is not None else ()

    def _with_first(self, prompt: int, entries: Sequence[TokenLogprob | None]) -> list[TokenLogprob]:
        """Nothing comes before the first token, so it has no log-probability: NaN until it is written, as null."""
        ids = self.prompts[prompt]
        return [TokenLogprob(token, float("nan")) if entry is None else entry for token, entry in zip(ids, entries)]

    def _prompt_text(self, prompt: int) -> str:
        return self.tokenizer.decode(list(self.prompts[prompt]), skip_special=self.params.skip_special_tokens)
