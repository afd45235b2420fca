"""What a stage asks a model with: text, parsed text, or JSON of a schema, each answer checked and if need be repaired.

Every call of a row goes through its `Ask`, which remembers the content keys for the row's provenance.
"""

import asyncio
import base64
import copy
import mimetypes
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from godwit.base.seeds import derive_seed
from godwit.synth.endpoint import estimate_tokens, is_address
from godwit.synth.exchange import JUDGE, WRITER, Exchange
from godwit.synth.parse import model_in
from godwit.synth.rows import Drop, GivenUp, Malformed, Unscored
from godwit.synth.tasks import together
from godwit.synth.wire import Request
from godwit.text.forms import Form, Room, some_text
from godwit.text.replies import after_thoughts

OptionsT = TypeVar("OptionsT", covariant=True)
ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")
ModelT = TypeVar("ModelT", bound=BaseModel)
Message = dict[str, Any]

REPAIRS = 2
# Of an unusable answer, what is shown to the model again.
SHOWN_BACK = 4000
# Below this many tokens for the answer a prompt counts as too long; estimates may be off by so much.
LEAST_ANSWER, SAFETY = 16, 1.25


class Ask(Generic[OptionsT]):
    """Calls in the name of one row.

    Attributes:
        options: the pipeline's options.
        row_id: of the input row.
        folder: where relative paths in the input start.
        keys: content keys of the answers this row is made of.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        options: OptionsT,
        row_id: str,
        folder: Path,
        seed: int,
        structured: bool = False,
        keep_cut: bool = False,
        repairs: int = REPAIRS,
    ):
        self.exchange = exchange
        self.options = options
        self.row_id = row_id
        self.folder = folder
        self.seed = seed
        self.structured = structured
        self.keep_cut = keep_cut
        self.repairs = repairs
        self.keys: list[str] = []

    def fork(self) -> "Ask[OptionsT]":
        """For one of several rows that a stage made of this one."""
        other = copy.copy(self)
        other.keys = list(self.keys)
        return other

    async def each(
        self, items: Iterable[ItemT], work: Callable[["Ask[OptionsT]", ItemT], Awaitable[ValueT]]
    ) -> list[ValueT]:
        """`work(ask, item)` of all items at once; what was asked is remembered in the items' order.

        Raises:
            GivenUp: the first, in that order, of the items that are given up; the others are finished before.
        """
        given = list(items)
        asks = [self.fork() for _ in given]
        ended: dict[int, GivenUp] = {}
        found: dict[int, ValueT] = {}

        async def one(place: int) -> None:
            asks[place].keys = []
            try:
                found[place] = await work(asks[place], given[place])
            except GivenUp as end:
                ended[place] = end

        await together(one(place) for place in range(len(given)))
        self.keys += [key for ask in asks for key in ask.keys]
        if ended:
            raise ended[min(ended)]
        return [found[place] for place in range(len(given))]

    def random(self, *names: str | int) -> random.Random:
        """Chance for the use called `names`: the same for this row in every run with this seed."""
        return random.Random(derive_seed(self.seed, self.row_id, *names))

    def picture(self, path: str) -> str:
        """A picture file of the input (or an address, as it is) in the form that messages carry."""
        if is_address(path):
            return path
        file = self.folder / path
        kind = mimetypes.guess_type(file.name)[0] or ""
        if not kind.startswith("image/"):
            raise Drop(f"{path} is not a picture file")
        try:
            return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
        except OSError as error:
            raise Drop(f"{path}: {error.strerror}") from None

    async def text(self, stage: str, messages: Sequence[Message], **settings: Any) -> str:
        """The answer without the thought before it; never empty.

        Args:
            stage: what the call is for; names it in the ledger and in reasons.
            messages: made by `system`, `user` and `assistant`.
            settings: of `said`.
        """
        return await self.parsed(stage, messages, _not_empty, form=some_text, **settings)

    async def json(self, stage: str, messages: Sequence[Message], schema: type[ModelT], **settings: Any) -> ModelT:
        """The answer as a `schema`; with --structured or --forms the endpoint is made to keep to it."""
        room = self.exchange.endpoints[settings.get("role", WRITER)].room
        if self.structured or room is not None:
            asked = (room or Room()).schema(schema.model_json_schema())
            form = {"name": schema.__name__, "schema": asked, "strict": False}
            settings["response_format"] = {"type": "json_schema", "json_schema": form}
        return await self.parsed(stage, messages, lambda text: model_in(text, schema), **settings)

    async def parsed(
        self,
        stage: str,
        messages: Sequence[Message],
        parse: Callable[[str], ValueT],
        *,
        form: Form | None = None,
        role: str = WRITER,
        draw: int = 0,
        **settings: Any,
    ) -> ValueT:
        """What `parse` makes of the answer; it raises `Malformed` to have it repaired, as often as the run allows.

        Args:
            form: of answers that `parse` takes; with --forms the endpoint is made to keep to it.

        Raises:
            Drop: it stayed unusable (`Unscored` if a judge's).
        """
        asked, reason = list(messages), ""
        for attempt in range(1 + self.repairs):
            text, cut = await self._answer(
                stage, asked, form=form, role=role, draw=draw + 1000 * attempt, settings=settings
            )
            try:
                return parse(text)
            except Malformed as fault:
                reason = f"{fault}; the answer was cut at its token limit" if cut else str(fault)
            if text:  # an empty answer is drawn anew, any other is shown back with what is wrong
                asked = [*messages, assistant(text[:SHOWN_BACK]), user(_REPAIR.format(fault=reason))]
        ended = Unscored if role == JUDGE else Drop
        raise ended(f"{stage}: {reason} (in {1 + self.repairs} answer{'s' if self.repairs else ''})")

    async def said(
        self,
        stage: str,
        messages: Sequence[Message],
        *,
        form: Form | None = None,
        role: str = WRITER,
        draw: int = 0,
        **settings: Any,
    ) -> str:
        """One answer as it is, without the thought before it; it may be empty.

        Args:
            form: see `parsed`.
            role: "writer" or "judge".
            draw: 0, 1, 2, ... for several answers to the same prompt.
            settings: `max_tokens` (always given), `temperature`, `top_p`, `stop`, `response_format`.
        """
        return (await self._answer(stage, messages, form=form, role=role, draw=draw, settings=settings))[0]

    async def _answer(
        self,
        stage: str,
        messages: Sequence[Message],
        *,
        form: Form | None,
        role: str,
        draw: int,
        settings: dict[str, Any],
    ) -> tuple[str, bool]:
        """The answer, and whether it was cut."""
        settings = dict(settings)
        endpoint = self.exchange.endpoints[role]
        assert "max_tokens" in settings, f"{stage}: say max_tokens"
        if endpoint.most_answer is not None:
            settings["max_tokens"] = min(settings["max_tokens"], endpoint.most_answer)
        if endpoint.context is not None:
            room = endpoint.context - int(SAFETY * estimate_tokens(list(messages)))
            if room < LEAST_ANSWER:
                raise Drop(f"{stage}: the prompt does not fit the model's {endpoint.context} tokens")
            settings["max_tokens"] = min(settings["max_tokens"], room)
        if form is not None and endpoint.room is not None and "response_format" not in settings:
            settings["structured_outputs"] = {"regex": form(endpoint.room)}
        request = Request(
            model=endpoint.model,
            messages=list(messages),
            parameters={name: value for name, value in settings.items() if value is not None} | endpoint.extra,
            seed=derive_seed(self.seed, draw) >> 32,
        )
        key = request.key()
        self.keys.append(key)
        answer = await self.exchange.answer(role, stage, request, key)
        if answer.finish == "content_filter":
            raise Drop(f"{stage}: withheld by the endpoint's content filter")
        if answer.finish == "length" and not self.keep_cut:
            raise Drop(f"{stage}: cut at {settings['max_tokens']} tokens")
        return after_thoughts(answer.text).strip(), answer.finish == "length"


async def every(coroutines: Iterable[Awaitable[ValueT]]) -> list[ValueT]:
    """Results of calls made at once. If some fail, all are awaited and the first in order is raised.

    Unlike `asyncio.gather`, so that which calls a row has made, and why it ended, do not hang on who was first.
    """
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    values: list[ValueT] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        values.append(result)
    return values


def system(text: str) -> Message:
    """A system message."""
    return {"role": "system", "content": text}


def user(text: str, pictures: Sequence[str] = ()) -> Message:
    """A user message, with pictures made by `Ask.picture` before the text."""
    if not pictures:
        return {"role": "user", "content": text}
    shown = [{"type": "image_url", "image_url": {"url": picture}} for picture in pictures]
    return {"role": "user", "content": [*shown, {"type": "text", "text": text}]}


def assistant(text: str) -> Message:
    """A message of the model's."""
    return {"role": "assistant", "content": text}


def fill(template: str, **values: str) -> str:
    """`template` with each `{name}` replaced once, by one pass: a value that spells a placeholder stays as it is.

    >>> fill("{a} {b}", a="{b}", b="c")
    '{b} c'
    """
    try:
        return template.format_map(values)
    except (KeyError, IndexError, ValueError) as error:
        raise AssertionError(f"a template asks for {error}") from error


_REPAIR = (
    "This answer cannot be used: {fault}. Give the whole answer again, in exactly the form that was asked for and with "
    "nothing before or after it."
)


def _not_empty(text: str) -> str:
    if not text:
        raise Malformed("the answer is empty")
    return text
