"""Chat messages to text, by the Jinja files that ship with a checkpoint.

Styles (facts: `glm.md` C.3):
    glm45   GLM-4.5 and 4.6: a line break after each role token; thoughts only after the last user message.
    glm47   GLM-4.7 and GLM-5: no line breaks; thoughts of earlier turns kept with `clear_thinking=False`.
    glm51   GLM-5.1: as glm47, but a thought that is kept and empty is `<think></think>`, not a lone `</think>`.

The roles, marks and line breaks are the published ones. The sentences that explain tools to the model are our own: to
prompt a published checkpoint, use the `chat_template.jinja` in its folder. Contents are written as they are, never
trimmed, and thoughts are never fished out of `content`: they belong in `reasoning_content`.

Text forgets where a string ended: what that costs is said in `parse`. `mask.render_tokens` does not forget.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from godwit.base.errors import GodwitError, did_you_mean
from godwit.text.messages import Message, Tool

STYLES = ("glm45", "glm47", "glm51")


def render(
    messages: Sequence[Message],
    *,
    tools: Sequence[Tool] = (),
    style: str = "glm47",
    enable_thinking: bool = True,
    clear_thinking: bool = True,
    add_generation_prompt: bool = False,
) -> str:
    """The conversation as text.

    Args:
        messages: in order; tool results follow the calls they answer, in the calls' order.
        tools: declared in a system block of their own, before the first message.
        style: one of `STYLES`.
        enable_thinking: off, the generation prompt has an empty thought (and glm45 adds `/nothink` to user messages).
        clear_thinking: drop the thoughts of turns before the last user message; glm45 knows no other way.
        add_generation_prompt: end with what the model goes on from.
    """
    check_style(style, clear_thinking=clear_thinking)
    return render_source(
        template_source(style),
        messages,
        tools=tools,
        enable_thinking=enable_thinking,
        clear_thinking=clear_thinking,
        add_generation_prompt=add_generation_prompt,
    )


def render_source(
    source: str,
    messages: Sequence[Message],
    *,
    tools: Sequence[Tool] = (),
    enable_thinking: bool = True,
    clear_thinking: bool = True,
    add_generation_prompt: bool = False,
) -> str:
    """`render` by another template, such as a published checkpoint's `chat_template.jinja`; it runs in a sandbox.

    Raises:
        GodwitError: the template is broken, or refuses the conversation.
    """
    try:
        return _compiled(source).render(
            messages=[message.to_dict() for message in messages],
            tools=[tool.to_dict() for tool in tools],
            enable_thinking=enable_thinking,
            clear_thinking=clear_thinking,
            add_generation_prompt=add_generation_prompt,
        )
    except jinja2.TemplateError as error:
        raise GodwitError(f"the chat template cannot write this conversation: {error}") from error


def check_style(style: str, *, clear_thinking: bool = True) -> None:
    """Refuse a style that does not exist, or one that is asked for what it has not."""
    if style not in STYLES:
        raise GodwitError(f"unknown chat style {style!r}: {did_you_mean(style, STYLES)}")
    if style == "glm45" and not clear_thinking:
        raise GodwitError("style glm45 has no preserved thinking (clear_thinking=False); use glm47 or glm51")


def template_source(style: str) -> str:
    """The Jinja source of a style, as it is put into a checkpoint."""
    check_style(style)
    return resources.files("godwit.text").joinpath("templates", f"{style}.jinja").read_text(encoding="utf-8")


@cache
def tool_frame(style: str) -> tuple[str, str]:
    """What a style's template writes before and after the tools' lines of JSON, prefix tokens left out."""
    place = "TOOLS"
    text = _compiled(template_source(style)).render(messages=[], tools=[place], add_generation_prompt=False)
    before, _, after = text.removeprefix("[gMASK]<sop>").partition(json.dumps(place))
    return before, after


def to_json(value: Any) -> str:
    """JSON as templates write it: unicode as it is, a blank after comma and colon."""
    return json.dumps(value, ensure_ascii=False)


@cache
def _compiled(source: str) -> jinja2.Template:
    """The template in a sandbox that is set up as transformers sets up its own."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json_filter
    return environment.from_string(source, globals={"raise_exception": _refuse})


def _to_json_filter(value: Any, ensure_ascii: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii)


def _refuse(reason: str) -> NoReturn:
    raise GodwitError(reason)
