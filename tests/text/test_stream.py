"""Streamed parts, joined, are the message that `parse_turn` reads from the whole; whatever the ids are cut into."""

import json
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from godwit.text import specials as S
from godwit.text.mask import render_tokens
from godwit.text.messages import Message, Tool, ToolCall
from godwit.text.parse import parse_turn
from godwit.text.stream import AtomStream, TurnStream
from godwit.text.template import STYLES
from tests.text.chats import FRAGMENTS, chats


def streamed(tokenizer, ids, *, sizes=(1,), **options):
    """(message, stop) joined from the parts of ids that come a few at a time."""
    stream = TurnStream(tokenizer, **options)
    parts, place, turn = [], 0, 0
    while place < len(ids):
        size = sizes[turn % len(sizes)]
        parts += stream.feed(ids[place : place + size])
        place, turn = place + size, turn + 1
    parts += stream.end()
    return joined(parts), stream.stop


def joined(parts):
    texts = {"reasoning": None, "content": ""}
    calls = []
    for part in parts:
        if part.kind == "call":
            assert part.call == len(calls)
            calls.append([part.text, ""])
        elif part.kind == "arguments":
            assert part.call == len(calls) - 1
            calls[-1][1] += part.text
        else:
            texts[part.kind] = (texts[part.kind] or "") + part.text
    calls = tuple(ToolCall(name, json.loads(arguments)) for name, arguments in calls)
    return Message("assistant", texts["content"], texts["reasoning"], calls)


def without_empty_thought(message):
    """A thought that was opened and is empty has no parts to send."""
    return Message("assistant", message.content, message.reasoning_content or None, message.tool_calls)


@given(chats(), st.sampled_from(STYLES), st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_rendered_turn_streams_to_the_message_it_was(tokenizer, chat, style, sizes):
    messages, tools = chat
    turns = [message for message in messages if message.role == "assistant"]
    assume(turns)
    turn = turns[-1]
    thinking = turn.reasoning_content is not None
    ids = render_tokens([turn], tokenizer=tokenizer, style=style, end="role").token_ids
    prompt = render_tokens(
        [], tokenizer=tokenizer, style=style, enable_thinking=thinking, add_generation_prompt=True
    ).token_ids
    assume(ids[: len(prompt)] == prompt)
    ids = ids[len(prompt) :]
    options = {"tools": tools, "style": style, "enable_thinking": thinking}
    whole = parse_turn(ids, tokenizer=tokenizer, **options)
    found, stop = streamed(tokenizer, ids, sizes=sizes, **options)
    assert found == without_empty_thought(whole.message)
    assert stop == whole.stop


TOOL = Tool(
    "f", parameters={"type": "object", "properties": {"s": {"type": "string"}, "n": {"type": "integer"}, "any": {}}}
)
MARKS = (*S.MARK_TOKENS, S.CALL, S.KEY, S.END_KEY, S.VALUE, S.END_VALUE, S.END_CALL, "f", "f", "s", "n", "7", " ", "\n")


@given(st.lists(st.sampled_from(MARKS + FRAGMENTS), max_size=14), st.sampled_from(STYLES), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_output_streams_without_an_error_and_like_the_whole_if_no_call_is_broken(tokenizer, pieces, style, think):
    ids = [
        token
        for piece in pieces
        for token in ([tokenizer.id(piece)] if piece in S.SPECIAL_TOKENS else tokenizer.encode(piece))
    ]
    options = {"tools": (TOOL,), "style": style, "enable_thinking": think}
    stream = TurnStream(tokenizer, **options)
    parts = [part for token in ids for part in stream.feed([token])] + stream.end()
    whole = parse_turn(ids, tokenizer=tokenizer, **options)
    if stream.num_calls == len(whole.message.tool_calls):
        assert joined(parts) == without_empty_thought(whole.message)
        assert stream.stop == whole.stop


def call_ids(tokenizer, *pieces):
    return [
        token
        for piece in pieces
        for token in ([tokenizer.id(piece)] if piece in S.SPECIAL_TOKENS else tokenizer.encode(piece))
    ]


def test_text_arguments_come_while_they_are_written(tokenizer):
    ids = call_ids(tokenizer, S.CALL, "f", S.KEY, "s", S.END_KEY, S.VALUE, 'say "hi"\n', "and more")
    stream = TurnStream(tokenizer, tools=[TOOL], enable_thinking=False)
    parts = [part for token in ids for part in stream.feed([token])]
    assert parts[0].kind == "call" and parts[0].text == "f"
    written = "".join(part.text for part in parts[1:])
    assert written == '{"s": "say \\"hi\\"\\nand more'
    assert len(parts) > 5
    rest = stream.feed(call_ids(tokenizer, S.END_VALUE, S.KEY, "n", S.END_KEY, S.VALUE, "12", S.END_VALUE, S.END_CALL))
    assert json.loads(written + "".join(part.text for part in rest)) == {"s": 'say "hi"\nand more', "n": 12}


@pytest.mark.parametrize(
    "pieces, content, arguments",
    [
        ([S.CALL, "two words", S.END_CALL, "x"], "<tool_call>two words</tool_call>x", []),
        ([S.CALL, "f", S.KEY, "n", S.END_KEY, "oops"], "oops", ["{}"]),
        ([S.CALL, "f", S.KEY, "s", S.END_KEY, S.VALUE, "cut"], "", ['{"s": "cut']),
        ([S.CALL, "f", S.END_CALL, "\n", S.CALL, "f", S.END_CALL, "\n"], "", ["{}", "{}"]),
        ([S.CALL, "f", S.END_CALL, "\n", "after"], "\nafter", ["{}"]),
        ([S.CALL, "f", S.END_CALL, "\n", S.CALL, "f", S.END_CALL, "after"], "\nafter", ["{}", "{}"]),
    ],
)
def test_calls_that_break_off(tokenizer, pieces, content, arguments):
    stream = TurnStream(tokenizer, tools=[TOOL], enable_thinking=False)
    parts = stream.feed(call_ids(tokenizer, *pieces)) + stream.end()
    assert "".join(part.text for part in parts if part.kind == "content") == content
    found = [""] * stream.num_calls
    for part in parts:
        if part.kind == "arguments":
            found[part.call] += part.text
    assert found == arguments


@given(st.binary(max_size=20), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_bytes_that_are_no_text_stream_as_they_decode(tokenizer, data, seed):
    ids = tokenizer.encode_bytes(data)
    cut = random.Random(seed).randint(0, len(ids))
    stream = AtomStream(tokenizer)
    atoms = stream.feed(ids[:cut]) + stream.feed(ids[cut:]) + stream.end()
    assert "".join(text for text, _ in atoms) == tokenizer.decode(ids)


@pytest.mark.parametrize("told, content", [(0, ""), (3, "abc"), (7, "abc def"), (100, "abc def ghi")])
def test_only_what_is_told_of_a_text_that_a_stop_string_may_end(tokenizer, told, content):
    stream = TurnStream(tokenizer, enable_thinking=False)
    ids = tokenizer.encode("abc def ghi")
    parts = [part for token in ids for part in stream.feed([token], num_told=0)]
    assert parts == []
    parts = stream.feed([], num_told=told) + stream.end()
    assert "".join(part.text for part in parts) == content


def test_a_mark_is_told_whole_or_not_at_all(tokenizer):
    stream = TurnStream(tokenizer)
    ids = [*tokenizer.encode("hm"), tokenizer.id(S.END_THINK), *tokenizer.encode("yes")]
    told = [stream.feed(ids, num_told=2 + 3), stream.feed([], num_told=5), stream.feed([], num_told=2)]
    assert [[(part.kind, part.text) for part in parts] for parts in told] == [
        [("reasoning", "hm")],
        [],
        [("content", "ye")],
    ]
