"""Response formats, structured outputs and tools as grammars that the engine's output must match.

A chat turn is a thought (if thinking is on), then text or calls, so what a client asks of the text is wrapped:

    thought </think> FORM                   response_format, structured_outputs
    thought </think> CALL CALL ...          tool_choice "required" or a named tool
    thought </think> (text | CALL)...       tools with `strict`, called or not

    CALL = <tool_call> name (<arg_key> key </arg_key> <arg_value> VALUE </arg_value>)... </tool_call>

Marks are asked for by their ids, so a call that only spells them cannot be what comes out. Text arguments are free text
(or their enum or pattern), other values JSON of their schema, in the order of the schema's properties.
"""

import json
from collections.abc import Sequence
from typing import Any

from godwit.engine.grammar import Grammar
from godwit.serve.bodies import ChatBody, ResponseFormat, SamplingBody
from godwit.serve.errors import ApiError
from godwit.text import specials as S
from godwit.text.messages import Tool
from godwit.text.tokenizer import Tokenizer
from godwit.text.values import argument_types

Form = dict[str, Any]
_JSON_OBJECT: Form = {"type": "json_schema", "json_schema": {"type": "object"}}


def asked_form(body: SamplingBody) -> Form | None:
    """What the body asks of the text; None: nothing.

    Raises:
        ApiError: two ways of asking at once, or one that says nothing.
    """
    asked: dict[str, Form] = {}
    if body.response_format is not None and body.response_format.type != "text":
        asked["response_format"] = _response_format(body.response_format)
    if body.guided_json is not None:
        asked["guided_json"] = _schema(body.guided_json, "guided_json")
    if body.guided_regex is not None:
        asked["guided_regex"] = {"type": "regex", "pattern": body.guided_regex}
    if body.guided_choice is not None:
        asked["guided_choice"] = _choice(body.guided_choice, "guided_choice")
    outputs = body.structured_outputs
    if outputs is not None:
        if outputs.json_ is not None:
            asked["structured_outputs.json"] = _schema(outputs.json_, "structured_outputs.json")
        if outputs.regex is not None:
            asked["structured_outputs.regex"] = {"type": "regex", "pattern": outputs.regex}
        if outputs.choice is not None:
            asked["structured_outputs.choice"] = _choice(outputs.choice, "structured_outputs.choice")
        if outputs.json_object:
            asked["structured_outputs.json_object"] = _JSON_OBJECT
        if not any(name.startswith("structured_outputs") for name in asked):
            raise ApiError(
                "structured_outputs asks for nothing; give one of json, regex, choice, json_object",
                param="structured_outputs",
            )
    if len(asked) > 1:
        raise ApiError(f"{' and '.join(asked)} both say what the output is to be; give one of them", param=[*asked][1])
    return next(iter(asked.values()), None)


def plain_grammar(body: SamplingBody) -> Grammar | None:
    """The grammar of a plain completion."""
    form = asked_form(body)
    return None if form is None else Grammar.structure(form)


def chat_grammar(
    body: ChatBody, tools: Sequence[Tool], *, tokenizer: Tokenizer, thinking: bool, style: str
) -> Grammar | None:
    """The grammar of a chat turn behind its generation prompt.

    Raises:
        ApiError: see `asked_form`; or a form together with tools that must be called.
    """
    form = asked_form(body)
    marks = _Marks(tokenizer, style)
    forced = forced_tools(body, tools)
    if forced:
        if form is not None:
            raise ApiError("a tool must be called and the text must have a form; ask for one", param="tool_choice")
        call = marks.call(forced)
        several = body.parallel_tool_calls is not False and body.tool_choice == "required"
        form = {"type": "sequence", "elements": [call, {"type": "star", "content": call}]} if several else call
    elif form is None:
        strict = {tool.function.name for tool in body.tools or () if tool.function.strict}
        if not strict or body.tool_choice == "none":
            return None
        form = marks.maybe_calls(tools, several=body.parallel_tool_calls is not False)
    return Grammar.structure(marks.behind_thought(form) if thinking else form)


def forced_tools(body: ChatBody, tools: Sequence[Tool]) -> list[Tool]:
    """Tools of which one must be called.

    Raises:
        ApiError: there is no such tool.
    """
    choice = body.tool_choice
    if choice is None or choice in ("none", "auto"):
        return []
    if not tools:
        raise ApiError("tool_choice asks for a call and there are no tools; give tools", param="tool_choice")
    if choice == "required":
        return list(tools)
    assert not isinstance(choice, str), choice
    named = [tool for tool in tools if tool.name == choice.function.name]
    if not named:
        known = ", ".join(repr(tool.name) for tool in tools)
        raise ApiError(f"tool_choice names {choice.function.name!r} and the tools are {known}", param="tool_choice")
    return named


def _response_format(asked: ResponseFormat) -> Form:
    if asked.type == "json_object":
        return _JSON_OBJECT
    if asked.json_schema is None or asked.json_schema.schema_ is None:
        raise ApiError(
            "response_format json_schema has no schema; give {'type': 'json_schema', 'json_schema': {'name': ..., "
            "'schema': {...}}}",
            param="response_format",
        )
    return {"type": "json_schema", "json_schema": asked.json_schema.schema_}


def _schema(given: dict[str, Any] | str, param: str) -> Form:
    try:
        schema = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError) as error:
        raise ApiError(f"{param} is not JSON ({error}); give a JSON schema", param=param) from error
    if not isinstance(schema, dict):
        raise ApiError(f"{param} is no JSON object; give a JSON schema such as {{'type': 'object'}}", param=param)
    return {"type": "json_schema", "json_schema": schema}


def _choice(texts: list[str], param: str) -> Form:
    if not texts or not all(texts):
        raise ApiError(f"{param} is {texts!r}; give one or more texts that are not empty", param=param)
    return {"type": "or", "elements": [_text(text) for text in texts]}


def _text(text: str) -> Form:
    return {"type": "const_string", "value": text}


def _sequence(*elements: Form) -> Form:
    return {"type": "sequence", "elements": list(elements)}


class _Marks:
    """Forms that are written with a tokenizer's marks, in a style's way."""

    def __init__(self, tokenizer: Tokenizer, style: str):
        self._id, self._special = tokenizer.id, sorted(tokenizer.special_ids)
        self._glm45 = style == "glm45"
        self._line = [_text("\n")] if self._glm45 else []

    def behind_thought(self, form: Form) -> Form:
        """A thought, its end, and `form`."""
        if not self._glm45:
            return _sequence(self._free_text(), self._mark(S.END_THINK), form)
        # glm45's generation prompt leaves the thought's opening to the model, and its text begins a line.
        opening = _sequence(_text("\n"), self._mark(S.THINK))
        return _sequence(opening, self._free_text(), self._mark(S.END_THINK), _text("\n"), form)

    def maybe_calls(self, tools: Sequence[Tool], *, several: bool) -> Form:
        """Free text, in which every call is one of these."""
        call = self.call(tools)
        text = self._free_text()
        more = _sequence(call, text)
        return _sequence(text, {"type": "star" if several else "optional", "content": more})

    def call(self, tools: Sequence[Tool]) -> Form:
        """One call of one of the tools."""
        bodies = [self._body(tool) for tool in tools]
        body = bodies[0] if len(bodies) == 1 else {"type": "or", "elements": bodies}
        return _sequence(self._mark(S.CALL), body, *self._line, self._mark(S.END_CALL))

    def _body(self, tool: Tool) -> Form:
        properties = tool.parameters.get("properties")
        required = tool.parameters.get("required")
        parts = [_text(tool.name)]
        for key in properties if isinstance(properties, dict) else ():
            part = _sequence(
                *self._line, self._mark(S.KEY), _text(key), self._mark(S.END_KEY),
                *self._line, self._mark(S.VALUE), self._value(key, tool.parameters), self._mark(S.END_VALUE),
            )  # fmt: skip
            needed = isinstance(required, list) and key in required
            parts.append(part if needed else {"type": "optional", "content": part})
        return _sequence(*parts)

    def _value(self, key: str, parameters: dict[str, Any]) -> Form:
        schema = parameters["properties"][key]
        types = argument_types(key, parameters)
        if types is not None and "string" not in types:
            shared = {word: parameters[word] for word in ("$defs", "definitions") if word in parameters}
            return {"type": "json_schema", "json_schema": {**shared, **schema}}
        if types == frozenset(["string"]):
            values = [schema["const"]] if "const" in schema else schema.get("enum")
            if isinstance(values, list) and values:
                return {"type": "or", "elements": [_text(value) for value in values]}
            if isinstance(schema.get("pattern"), str):
                return {"type": "regex", "pattern": schema["pattern"]}
        return self._free_text()

    def _free_text(self) -> Form:
        return {"type": "any_tokens", "exclude_tokens": self._special}

    def _mark(self, token: str) -> Form:
        return {"type": "token", "token": self._id(token)}
