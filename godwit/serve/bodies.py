"""What clients may send: OpenAI's fields, and beside them those of vLLM and of z.ai that mean something here.

A field that is not listed is an error, so that a misspelt one cannot be ignored. The few that are taken and change
nothing (`user`, `metadata`, ...) ask nothing of the model. Ranges are checked by `SamplingParams`.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Prompt = str | list[int] | list[str] | list[list[int]]


class Body(BaseModel):
    """Strict: no "1" for 1, no NaN, no unknown field."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    """`include_usage`: one more chunk at the end, with the token counts."""

    include_usage: bool | None = None


class JsonSchema(Body):
    """A named schema; `strict` changes nothing, output always keeps to it."""

    name: str = "schema"
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """`text`, `json_object` (any JSON object) or `json_schema`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Body):
    """vLLM's: exactly one of these."""

    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    json_object: bool | None = None


class SamplingBody(Body):
    """Fields that chat and plain completions share."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    return_token_ids: bool | None = None
    priority: int | None = None
    # Taken, and without effect: they ask nothing of the model.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None


class FunctionBody(Body):
    """A tool's declaration. With `strict`, its calls keep to `parameters` whatever `tool_choice` says."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(Body):
    """A tool; functions are the only kind."""

    type: Literal["function"] = "function"
    function: FunctionBody


class NamedFunction(Body):
    """A tool's name."""

    name: str


class NamedTool(Body):
    """`tool_choice` that names the one tool to call."""

    type: Literal["function"] = "function"
    function: NamedFunction


class Thinking(Body):
    """z.ai's switch; `clear_thinking` false keeps the thoughts of earlier turns."""

    type: Literal["enabled", "disabled"] = "enabled"
    clear_thinking: bool | None = None


class TemplateOptions(Body):
    """`chat_template_kwargs`."""

    enable_thinking: bool | None = None
    clear_thinking: bool | None = None


class ChatBody(SamplingBody):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[ToolBody] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking: Thinking | None = None
    chat_template_kwargs: TemplateOptions | None = None


class CompletionBody(SamplingBody):
    """`POST /v1/completions`; `prompt` is text or token ids, one or many."""

    prompt: Prompt
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    best_of: int | None = None


class TokenizeBody(Body):
    """`POST /tokenize`: a text, or messages with their generation prompt."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[ToolBody] | None = None
    thinking: Thinking | None = None
    chat_template_kwargs: TemplateOptions | None = None


class DetokenizeBody(Body):
    """`POST /detokenize`."""

    model: str | None = None
    tokens: list[int]


class InspectBody(Body):
    """`POST /inspect` and `/inspect/token`."""

    model: str | None = None
    prompt: str | list[int]
    plan: str | None = None
    topk: int | None = None
    position: int | None = None


_NESTED: dict[str, type[Body]] = {
    "stream_options": StreamOptions, "json_schema": JsonSchema, "response_format": ResponseFormat,
    "structured_outputs": StructuredOutputs, "function": FunctionBody, "tools": ToolBody, "tool_choice": NamedTool,
    "thinking": Thinking, "chat_template_kwargs": TemplateOptions,
}  # fmt: skip


def field_names(place: Sequence[Any]) -> list[str]:
    """Names that are allowed at a place in a body, for an error about another one."""
    inside = next((_NESTED[part] for part in reversed(place) if part in _NESTED), None)
    kinds: tuple[type[Body], ...] = (ChatBody, CompletionBody, InspectBody) if inside is None else (inside,)
    return sorted({field.alias or name for kind in kinds for name, field in kind.model_fields.items()})
