"""An assistant turn while it is being sampled: token ids in, parts of a message out as soon as they are certain.

`TurnStream` says piece by piece what `parse.parse_turn` says of the whole turn, from ids, so a special token is one and
not a spelling. The parts of a turn, joined, are its message:
    reasoning   more of the thought
    content     more of the text (blanks behind a call wait until it is known whether they are text or layout)
    call        a call begins; its text is the tool's name. It is sent when the name is whole
    arguments   more of that call's JSON; the text of string arguments comes as it is written, other values when whole

One thing is not taken back: where `parse_turn` would leave a call that is not whole in the content, a name that was
sent stays sent. A call that breaks off inside the turn is closed where it was, and what broke it is content; one that
is cut off by the turn's end stays as far as it came, as OpenAI's API has it.
"""

import codecs
import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from godwit.text import specials as S
from godwit.text.messages import Tool, is_name
from godwit.text.template import check_style, to_json
from godwit.text.tokenizer import Tokenizer
from godwit.text.turn import Atom
from godwit.text.values import argument_types, decode_argument

_ONLY_TEXT = frozenset(["string"])


@dataclass(frozen=True)
class Part:
    """What a turn has more of; `call` counts the turn's calls from 0 (kinds `call` and `arguments`)."""

    kind: Literal["reasoning", "content", "call", "arguments"]
    text: str
    call: int = 0


class AtomStream:
    """Token ids to atoms, a few ids at a time; a character whose bytes are still incomplete waits."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_ids: Iterable[int]) -> list[Atom]:
        """The atoms of more ids; plain ones may be neighbours."""
        atoms: list[Atom] = []
        for token_id in token_ids:
            token = self._tokenizer.special_token(token_id)
            if token in S.SPECIAL_TOKENS:
                atoms += self.end()
                atoms.append((token, True))
                continue
            text = self._decoder.decode(self._tokenizer.decode_bytes([token_id]))
            if text:
                atoms.append((text, False))
        return atoms

    def end(self) -> list[Atom]:
        """What is left of an incomplete character: U+FFFD, as `Tokenizer.decode` has it."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return [(text, False)] if text else []


class TurnStream:
    """One sampled turn, behind its generation prompt.

    Args:
        tokenizer: the model's.
        tools: whose schemas tell strings from JSON.
        style, enable_thinking: of the prompt, see `template.render`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        tools: Sequence[Tool] = (),
        style: str = "glm47",
        enable_thinking: bool = True,
    ):
        check_style(style)
        self.stop: str | None = None
        """The role token or end of text that ended the turn; ids behind it are ignored."""
        self.num_calls = 0
        self._atoms = AtomStream(tokenizer)
        self._parameters = {tool.name: tool.parameters for tool in tools}
        self._glm45 = style == "glm45"
        self._read = self._body
        if enable_thinking:
            self._read = self._start if self._glm45 else self._thought
        self._parts: list[Part] = []
        self._waiting: deque[Atom] = deque()
        self._told: int | None = None
        self._held = ""  # blanks that may be layout
        self._at_start = self._glm45  # of the content: glm45 puts a line break there
        self._name = self._key = ""
        self._value = _Value("", None)
        self._num_arguments = 0

    def feed(self, token_ids: Iterable[int], *, num_told: int | None = None) -> list[Part]:
        """The parts that more ids bring.

        `num_told` is for outputs that a stop string may end: how many more characters (special tokens spelled out) are
        known to belong to the turn. What is beyond waits, and is dropped if it is never told.
        """
        self._waiting += self._atoms.feed(token_ids)
        self._told = None if num_told is None else (self._told or 0) + num_told
        self._take_told()
        return self._flush()

    @property
    def is_thinking(self) -> bool:
        """Whether the thought is still open, as far as the turn was read."""
        return self.stop is None and self._read == self._thought

    def end(self) -> list[Part]:
        """The rest, when no more ids come."""
        self._waiting += self._atoms.end()
        self._take_told()
        if self._read == self._call_name:
            self._not_a_call()
        if self._read == self._start or (self._read == self._body and not self.num_calls):
            self._content_now(self._held)
            self._held = ""
        return self._flush()

    def _take_told(self) -> None:
        """Read what waits, as far as it is told."""
        while self._waiting:
            (text, special), rest = self._waiting[0], ""
            if self._told is not None:
                if self._told < (len(text) if special else 1):
                    return
                text, rest = text[: self._told], text[self._told :]
                self._told -= len(text)
            self._waiting.popleft()
            if rest:
                self._waiting.appendleft((rest, special))
            self._take(text, special)

    def _take(self, text: str, special: bool) -> None:
        if self.stop is not None:
            return
        if special and (text in S.ROLES or text == S.ENDOFTEXT):
            self.stop = text
            return
        self._read(text, special)

    def _flush(self) -> list[Part]:
        """Parts so far; neighbours of a kind as one."""
        merged: list[Part] = []
        for part in self._parts:
            last = merged[-1] if merged else None
            if last is not None and part.kind != "call" and (last.kind, last.call) == (part.kind, part.call):
                merged[-1] = Part(last.kind, last.text + part.text, last.call)
            else:
                merged.append(part)
        self._parts = []
        return merged

    # One function for each place in a turn; each takes the next atom and may move on to another.

    def _start(self, text: str, special: bool) -> None:
        """glm45 writes `<think>` itself, behind a line break."""
        if (text, special) == (S.THINK, True):
            self._held, self._read = "", self._thought
        elif (text, special) == (S.END_THINK, True) and not self._held:
            self._read = self._body
        elif not special and text.isspace():
            self._held += text
        else:
            self._read, held, self._held = self._body, self._held, ""
            self._content(held)
            self._body(text, special)

    def _thought(self, text: str, special: bool) -> None:
        if special and text in (S.END_THINK, S.CALL):
            self._read = self._body
            if text == S.CALL:
                self._body(text, special)
        else:
            self._parts.append(Part("reasoning", text))

    def _body(self, text: str, special: bool) -> None:
        if (text, special) == (S.CALL, True):
            self._name, self._read = "", self._call_name
        else:
            self._content(text)

    def _call_name(self, text: str, special: bool) -> None:
        if not special:
            self._name += text
        elif text in (S.KEY, S.END_CALL) and is_name(self._name.strip()):
            if not self.num_calls:  # glm45 may hold the line break that it puts before the first call
                self._content_now(self._held.removesuffix("\n"))
                self._held = ""
            self._parts.append(Part("call", self._name.strip(), self.num_calls))
            self.num_calls += 1
            self._num_arguments = 0
            self._read = self._between
            self._between(text, special)
        else:
            self._not_a_call()
            self._body(text, special)

    def _between(self, text: str, special: bool) -> None:
        """Behind a name or a value: another key, or the call's end."""
        if (text, special) == (S.KEY, True):
            self._key, self._read = "", self._in_key
        elif (text, special) == (S.END_CALL, True):
            self._close_call()
        elif special or not text.isspace():
            self._break_off(text, special)

    def _in_key(self, text: str, special: bool) -> None:
        if (text, special) == (S.END_KEY, True):
            self._read = self._before_value
        else:
            self._key += text

    def _before_value(self, text: str, special: bool) -> None:
        if (text, special) == (S.VALUE, True):
            self._value = _Value(self._key, self._parameters.get(self._name.strip()))
            self._arguments(("{" if self._num_arguments == 0 else ", ") + to_json(self._key) + ": ")
            self._num_arguments += 1
            self._arguments(self._value.opening)
            self._read = self._in_value
        elif special or not text.isspace():
            self._break_off(text, special)

    def _in_value(self, text: str, special: bool) -> None:
        if (text, special) == (S.END_VALUE, True):
            self._arguments(self._value.closing())
            self._read = self._between
        else:
            self._arguments(self._value.more(text))

    def _close_call(self) -> None:
        self._arguments("{}" if self._num_arguments == 0 else "}")
        self._read = self._body

    def _break_off(self, text: str, special: bool) -> None:
        """The model wrote something else where an argument should go on: the call ends before it."""
        self._close_call()
        self._body(text, special)

    def _not_a_call(self) -> None:
        """`<tool_call>` and what followed were text."""
        self._read = self._body
        self._content(S.CALL + self._name)

    def _content(self, text: str) -> None:
        """Text outside of calls; what may turn out to be layout is held until it is followed by more."""
        text, self._held = self._held + text, ""
        if self.num_calls:
            if text.isspace():
                self._held = text
                return
        elif self._glm45 and text.endswith("\n"):
            text, self._held = text[:-1], "\n"
        self._content_now(text)

    def _content_now(self, text: str) -> None:
        if self._at_start and text:
            text, self._at_start = text.removeprefix("\n"), False
        if text:
            self._parts.append(Part("content", text))

    def _arguments(self, text: str) -> None:
        if text:
            self._parts.append(Part("arguments", text, self.num_calls - 1))


class _Value:
    """An argument's value on its way to JSON."""

    def __init__(self, key: str, parameters: dict | None):
        self._key, self._parameters = key, parameters
        self._is_text = parameters is not None and argument_types(key, parameters) == _ONLY_TEXT
        self._whole = ""
        self.opening = '"' if self._is_text else ""

    def more(self, text: str) -> str:
        """What can be said of the value already."""
        if self._is_text:
            return json.dumps(text, ensure_ascii=False)[1:-1]
        self._whole += text
        return ""

    def closing(self) -> str:
        """The rest of it."""
        return '"' if self._is_text else to_json(decode_argument(self._whole, self._key, self._parameters))
