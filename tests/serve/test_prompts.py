"""Conversations as clients send them: results in the order of their calls, styles as the model's folder says."""

import shutil

import pytest

from godwit.models.bundled import resolve
from godwit.serve.bodies import ChatBody
from godwit.serve.errors import ApiError
from godwit.serve.prompts import ChatFormat, ChatOptions, chat_options, conversation, tools_of
from godwit.text.messages import Message, Tool
from godwit.text.template import STYLES, render, template_source
from godwit.text.tokenizer import Tokenizer

USER = {"role": "user", "content": "u"}


def call(name: str) -> dict:
    return {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}


def result(name: str | None) -> dict:
    return {"role": "tool", "content": f"of {name}", **({} if name is None else {"tool_call_id": name})}


def test_results_are_put_in_the_order_of_their_calls() -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]}
    messages = conversation([USER, turn, result("b"), result("a"), {"role": "assistant", "content": "x"}, USER])
    assert [message.content for message in messages] == ["u", "", "of a", "of b", "x", "u"]
    with pytest.raises(ApiError, match=r"2 tool_calls and 1 results follow"):
        conversation([USER, turn, result("a")])
    assert [message.content for message in conversation([USER, turn, result(None), result(None)])][2:] == [
        "of None"
    ] * 2


def test_a_developer_is_a_system() -> None:
    assert conversation([{"role": "developer", "content": "d"}, USER])[0].role == "system"


def test_the_last_word_on_thinking() -> None:
    ask = {"messages": [USER], "reasoning_effort": "none"}
    assert chat_options(ChatBody.model_validate(ask)) == ChatOptions(False, True)
    ask["thinking"] = {"type": "enabled", "clear_thinking": False}
    assert chat_options(ChatBody.model_validate(ask)) == ChatOptions(True, False)
    ask["chat_template_kwargs"] = {"enable_thinking": False}
    assert chat_options(ChatBody.model_validate(ask)) == ChatOptions(False, False)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(resolve("nano"))


@pytest.mark.parametrize("style", STYLES)
def test_the_folder_says_the_style(tmp_path, tokenizer: Tokenizer, style: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(template_source(style), encoding="utf-8")
    chat = ChatFormat(tmp_path, tokenizer)
    assert chat.style == style and chat.source is None
    messages, tools = (Message("user", "hi"),), (Tool("f"),)
    text = render(messages, tools=tools, style=style, enable_thinking=False, add_generation_prompt=True)
    assert chat.encode(messages, tools, ChatOptions(False)) == tokenizer.encode(text, allow_special=True)


def test_another_template_is_rendered_as_it_is(tmp_path, tokenizer: Tokenizer) -> None:
    source = (
        "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}{{ '/nothink' if not enable_thinking }}<|assistant|>"
    )
    (tmp_path / "chat_template.jinja").write_text(source)
    chat = ChatFormat(tmp_path, tokenizer)
    ids = chat.encode((Message("user", "hi"),), (), ChatOptions(False))
    assert tokenizer.decode(ids) == "<|user|>hi/nothink<|assistant|>" and chat.style == "glm45"
    shutil.copy(resolve("nano") / "config.json", tmp_path)
    assert ChatFormat(tmp_path, tokenizer, style="glm51").source is None


def test_tools() -> None:
    body = ChatBody.model_validate({"messages": [USER], "tools": [{"type": "function", "function": {"name": "f"}}] * 2})
    with pytest.raises(ApiError, match="two tools are called 'f'"):
        tools_of(body.tools)
