"""Messages to token ids, as the model's chat template writes them, and what of a conversation makes no sense.

A folder whose `chat_template.jinja` is one of our styles, or that has none, is written by `render_tokens`: no message
can forge a role there. Another template (a published checkpoint's) is rendered as it is and encoded as a whole, as
other servers do it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from godwit.base.errors import GodwitError
from godwit.serve.bodies import ChatBody, TokenizeBody, ToolBody
from godwit.serve.errors import ApiError
from godwit.text.mask import render_tokens
from godwit.text.messages import Message, Tool, messages_from_dicts
from godwit.text.specials import NOTHINK
from godwit.text.template import STYLES, check_style, render_source, template_source
from godwit.text.tokenizer import Tokenizer

NO_THOUGHT = ("none", "minimal")
"""Values of `reasoning_effort` that switch thinking off; the others leave it on, GLM has no degrees of it."""


@dataclass(frozen=True)
class ChatOptions:
    """How a conversation is written."""

    enable_thinking: bool = True
    clear_thinking: bool = True


class ChatFormat:
    """A model's chat template.

    Args:
        folder: the model's.
        tokenizer: its tokenizer.
        style: one of `STYLES` instead of the folder's template.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, *, style: str | None = None):
        self.tokenizer = tokenizer
        self.source: str | None = None
        path = folder / "chat_template.jinja"
        if style is not None:
            check_style(style)
            self.style = style
        elif not path.exists():
            self.style = "glm47"
        else:
            source = path.read_text(encoding="utf-8")
            same = [name for name in STYLES if template_source(name) == source]
            # How a turn is parsed: GLM-4.5's template alone knows /nothink.
            self.style = same[0] if same else "glm45" if NOTHINK in source else "glm47"
            self.source = None if same else source

    def encode(self, messages: Sequence[Message], tools: Sequence[Tool], options: ChatOptions) -> list[int]:
        """Token ids of a conversation and its generation prompt."""
        check_style(self.style, clear_thinking=options.clear_thinking)
        how = {"enable_thinking": options.enable_thinking, "clear_thinking": options.clear_thinking}
        if self.source is not None:
            text = render_source(self.source, messages, tools=tools, add_generation_prompt=True, **how)
            return self.tokenizer.encode(text, allow_special=True)
        return render_tokens(
            messages, tokenizer=self.tokenizer, tools=tools, style=self.style, add_generation_prompt=True, **how
        ).token_ids


def chat_options(body: ChatBody | TokenizeBody) -> ChatOptions:
    """From the three ways clients say it; `chat_template_kwargs` outdoes `thinking` outdoes `reasoning_effort`."""
    enable, clear = True, True
    if isinstance(body, ChatBody) and body.reasoning_effort is not None:
        enable = body.reasoning_effort not in NO_THOUGHT
    if body.thinking is not None:
        enable = body.thinking.type == "enabled"
        clear = clear if body.thinking.clear_thinking is None else body.thinking.clear_thinking
    given = body.chat_template_kwargs
    if given is not None:
        enable = enable if given.enable_thinking is None else given.enable_thinking
        clear = clear if given.clear_thinking is None else given.clear_thinking
    return ChatOptions(enable, clear)


def tools_of(tools: list[ToolBody] | None) -> tuple[Tool, ...]:
    """Tools in our form.

    Raises:
        ApiError: a name twice, or a declaration that is no tool.
    """
    found = []
    for place, tool in enumerate(tools or ()):
        function = tool.function.model_dump(exclude={"strict"}, exclude_none=True)
        try:
            found.append(Tool.from_dict(function, f"tools[{place}].function"))
        except GodwitError as error:
            raise ApiError(str(error), param=f"tools[{place}]") from error
    names = [tool.name for tool in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ApiError(f"two tools are called {twice[0]!r}; give each its own name", param="tools")
    return tuple(found)


def conversation(rows: list[dict[str, Any]]) -> tuple[Message, ...]:
    """Messages in the order the model expects.

    Raises:
        ApiError: a message that is none, or one at a place where it makes no sense.
    """
    known = [{**row, "role": "system"} if row.get("role") == "developer" else row for row in rows]
    try:
        messages = messages_from_dicts(known)
    except GodwitError as error:
        raise ApiError(str(error), param="messages") from error
    _check_order(messages)
    return _results_in_order(messages)


def _check_order(messages: Sequence[Message]) -> None:
    for place, message in enumerate(messages):
        before = messages[place - 1] if place else None
        if message.role == "tool":
            open_call = before is not None and (before.role == "tool" or before.tool_calls)
            if not open_call:
                raise _wrong_order(place, "a tool's result must follow the assistant message with its tool_calls")
        elif message.role == "system" and before is not None and before.role != "system":
            raise _wrong_order(place, "system messages come first")
        elif message.role == "assistant" and (before is None or before.role == "assistant"):
            raise _wrong_order(place, "an assistant message answers a user or a tool")
    if messages[-1].role not in ("user", "tool"):
        raise _wrong_order(len(messages) - 1, f"the last message is the {messages[-1].role}'s; end with a user or tool")


def _wrong_order(place: int, what: str) -> ApiError:
    return ApiError(f"messages[{place}]: {what}", param=f"messages[{place}].role", code="wrong_role_order")


def _results_in_order(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Results of one turn's calls in the order of the calls: the format has no place for ids.

    Raises:
        ApiError: a result of no call, or a call without a result.
    """
    ordered: list[Message] = []
    place = 0
    while place < len(messages):
        message = messages[place]
        ordered.append(message)
        place += 1
        if not message.tool_calls:
            continue
        end = place
        while end < len(messages) and messages[end].role == "tool":
            end += 1
        ordered += _sorted_results(message, messages[place:end], place)
        place = end
    return tuple(ordered)


def _sorted_results(turn: Message, results: Sequence[Message], place: int) -> list[Message]:
    calls = [call.id for call in turn.tool_calls]
    if len(results) != len(calls):
        raise ApiError(
            f"messages[{place - 1}] has {len(calls)} tool_calls and {len(results)} results follow; give one tool "
            "message for each call",
            param=f"messages[{place}]",
        )
    ids = [result.tool_call_id for result in results]
    if None in calls or all(given is None for given in ids):
        return list(results)
    if sorted(map(str, ids)) != sorted(map(str, calls)):
        raise ApiError(
            f"messages[{place}]: tool_call_id {json.dumps(ids)} do not answer the calls {json.dumps(calls)}",
            param=f"messages[{place}].tool_call_id",
        )
    by_id = {result.tool_call_id: result for result in results}
    return [replace(by_id[call]) for call in calls]
