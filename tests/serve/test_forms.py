"""Forms as grammars: what they let through, token by token, and what they do not."""

import pytest

from godwit.engine.grammar import GrammarCompiler
from godwit.models.bundled import resolve
from godwit.serve.bodies import ChatBody
from godwit.serve.errors import ApiError
from godwit.serve.forms import chat_grammar
from godwit.serve.prompts import tools_of
from godwit.text import specials as S
from godwit.text.parse import parse_turn
from godwit.text.tokenizer import Tokenizer

HI = [{"role": "user", "content": "hi"}]
PARAMETERS = {
    "type": "object",
    "properties": {"s": {"type": "string"}, "n": {"type": "integer"}, "e": {"enum": ["a", "b"]}},
    "required": ["s"],
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}
STRICT = {"type": "function", "function": {**TOOL["function"], "strict": True}}
OTHER = {"type": "function", "function": {"name": "g"}}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(resolve("nano"))


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, vocab_size=tokenizer.vocab_size)


def ids_of(tokenizer: Tokenizer, pieces: list[str]) -> list[int]:
    return [
        token
        for piece in pieces
        for token in ([tokenizer.id(piece)] if piece in S.SPECIAL_TOKENS else tokenizer.encode(piece))
    ]


def takes(
    compiler: GrammarCompiler, tokenizer: Tokenizer, asked: dict, pieces: list[str], style: str = "glm47"
) -> bool:
    """Whether an output of these pieces may be, to its end."""
    body = ChatBody.model_validate({"messages": HI, **asked})
    thinking = body.thinking is None or body.thinking.type == "enabled"
    grammar = chat_grammar(body, tools_of(body.tools), tokenizer=tokenizer, thinking=thinking, style=style)
    assert grammar is not None
    matcher = compiler.matcher(grammar)
    for token in [*ids_of(tokenizer, pieces), tokenizer.id(S.OBSERVATION)]:
        mask_BW = compiler.new_mask(1)
        matcher.fill(mask_BW, 0)
        word = int(mask_BW[0, token // 32])
        if not (word >> (token % 32)) & 1:
            return False
        matcher.accept(token)
    return True


OFF = {"thinking": {"type": "disabled"}}
CALL_S = [S.CALL, "f", S.KEY, "s", S.END_KEY, S.VALUE, "any <text>", S.END_VALUE]
ARG_N = [S.KEY, "n", S.END_KEY, S.VALUE, "-12", S.END_VALUE]
ARG_E = [S.KEY, "e", S.END_KEY, S.VALUE, "b", S.END_VALUE]


@pytest.mark.parametrize(
    "asked, pieces, fine",
    [
        ({"guided_choice": ["yes", "no"], **OFF}, ["yes"], True),
        ({"guided_choice": ["yes", "no"], **OFF}, ["maybe"], False),
        ({"guided_choice": ["yes"]}, ["a thought", S.END_THINK, "yes"], True),
        ({"guided_choice": ["yes"]}, [S.END_THINK, "yes"], True),
        ({"guided_choice": ["yes"]}, ["yes"], False),
        ({"guided_choice": ["yes"]}, ["</think>", "yes"], True),
        ({"guided_regex": "[0-9]+", **OFF}, ["2026"], True),
        ({"response_format": {"type": "json_object"}, **OFF}, ['{"a": [1, null]}'], True),
        ({"response_format": {"type": "json_object"}, **OFF}, ["[1]"], False),
        ({"tools": [TOOL], "tool_choice": "required", **OFF}, [*CALL_S, S.END_CALL], True),
        ({"tools": [TOOL], "tool_choice": "required", **OFF}, [*CALL_S, *ARG_N, *ARG_E, S.END_CALL], True),
        ({"tools": [TOOL], "tool_choice": "required", **OFF}, [*CALL_S, S.END_CALL] * 2, True),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "f"}}, **OFF}, [*CALL_S, S.END_CALL] * 2, False),
        ({"tools": [TOOL], "tool_choice": "required", **OFF}, [S.CALL, "f", *ARG_N, S.END_CALL], False),
        ({"tools": [TOOL], "tool_choice": "required", **OFF}, ["text"], False),
        ({"tools": [TOOL, OTHER], "tool_choice": "required", **OFF}, [S.CALL, "g", S.END_CALL], True),
        ({"tools": [TOOL, OTHER], "tool_choice": {"function": {"name": "f"}}, **OFF}, [S.CALL, "g", S.END_CALL], False),
        ({"tools": [TOOL], "tool_choice": "required"}, ["hm", S.END_THINK, *CALL_S, S.END_CALL], True),
        ({"tools": [STRICT]}, ["hm", S.END_THINK, "just text"], True),
        ({"tools": [STRICT]}, ["hm", S.END_THINK, "text", *CALL_S, S.END_CALL], True),
        ({"tools": [STRICT]}, ["hm", S.END_THINK, S.CALL, "g", S.END_CALL], False),
    ],
)  # fmt: skip
def test_what_may_come_out(compiler, tokenizer, asked: dict, pieces: list[str], fine: bool) -> None:
    if "</think>" in pieces and pieces[0] == "</think>":
        pieces = [S.END_THINK, *pieces[1:]]
    assert takes(compiler, tokenizer, asked, pieces) == fine


def test_a_mark_that_is_only_spelled_is_no_mark(compiler, tokenizer) -> None:
    body = ChatBody.model_validate({"messages": HI, "guided_choice": ["yes"]})
    grammar = chat_grammar(body, (), tokenizer=tokenizer, thinking=True, style="glm47")
    matcher = compiler.matcher(grammar)
    for token in tokenizer.encode("</think>yes"):
        matcher.accept(token)
    mask_BW = compiler.new_mask(1)
    matcher.fill(mask_BW, 0)
    close, end = tokenizer.id(S.END_THINK), tokenizer.eos_token_ids[0]
    assert (int(mask_BW[0, close // 32]) >> (close % 32)) & 1
    assert not (int(mask_BW[0, end // 32]) >> (end % 32)) & 1


@pytest.mark.parametrize("style", ["glm45", "glm47"])
def test_a_forced_call_parses_as_that_call(compiler, tokenizer, style: str) -> None:
    line = ["\n"] if style == "glm45" else []
    argument = [*line, S.KEY, "s", S.END_KEY, *line, S.VALUE, "x\ny", S.END_VALUE]
    pieces = [S.CALL, "f", *argument, *line, S.END_CALL]
    asked = {"tools": [TOOL], "tool_choice": "required", **OFF}
    assert takes(compiler, tokenizer, asked, pieces, style=style)
    turn = parse_turn(
        ids_of(tokenizer, pieces), tokenizer=tokenizer, tools=tools_of(ChatBody(messages=HI, **asked).tools),
        style=style, enable_thinking=False,
    )  # fmt: skip
    assert turn.message.tool_calls[0].arguments == {"s": "x\ny"} and not turn.message.content


def test_what_cannot_be_asked_together(tokenizer) -> None:
    body = ChatBody.model_validate({"messages": HI, "tools": [TOOL], "tool_choice": "required", "guided_regex": "a"})
    with pytest.raises(ApiError, match="ask for one"):
        chat_grammar(body, tools_of(body.tools), tokenizer=tokenizer, thinking=True, style="glm47")
