"""A sample's calls of the model under test and of the judge, through inspect_ai, each answer kept as it comes.

inspect_ai's log keeps a sample when it is finished. One may be hundreds of calls (citations, criteria), so answers are
also kept in the run's journal: after a kill, a sample that was under way asks only for what it had not got. A reply is
known by its sample, role, prompt and how often that prompt was asked before, so draws stay draws. inspect_ai's own
cache would also keep the errors that some endpoints send as answers.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import openai
from inspect_ai.log import transcript
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText, GenerateConfig, ModelOutput, get_model

from godwit.base.endpoint import NO_THOUGHTS
from godwit.base.errors import GodwitError
from godwit.base.journal import Answer, Entry, Journal, writable
from godwit.evals.harness.judge import JudgePin
from godwit.evals.harness.kit import Reply, Verdict
from godwit.text.forms import Form, Room

T = TypeVar("T")
MODEL, JUDGE = "model", "judge"
GRADER = "grader"
"""inspect_ai's name of the judge's role."""
REUSED = "godwit: reused"
"""Source of the log's entries for answers that an earlier start had got."""
SHOWN = 300
"""Characters kept of a prompt's two ends in the per-sample file; the whole is in the logs."""


class CallFailedError(GodwitError):
    """The endpoint gave no reply: an error instead of one, also where it was sent as if it were text."""


class Calls:
    """The calls of one sample in one role; `made` is what goes into `samples.jsonl` of them.

    Args:
        room: what forms of replies leave to the model in a rehearsal; None: no forms are sent.
    """

    def __init__(self, journal: Journal, row_id: str, role: str, room: Room | None):
        self.journal = journal
        self.row_id = row_id
        self.role = role
        self.room = room
        self.made: list[dict[str, Any]] = []
        self._asked: Counter[str] = Counter()

    async def reply(self, prompt: str, images: Sequence[str], config: GenerateConfig, form: Form | None) -> Reply:
        """The reply to one user message.

        Raises:
            CallFailedError: an error came in its place.
        """
        digest = hashlib.blake2b("\0".join((prompt, *images)).encode(errors="surrogatepass"), digest_size=16)
        number = self._asked[digest.hexdigest()]
        self._asked[digest.hexdigest()] += 1
        key = f"{self.role}/{self.row_id}/{digest.hexdigest()}/{number}"
        answer = await self.journal.get(key)
        if answer is None:
            model = get_model(role=GRADER) if self.role == JUDGE else get_model()
            config = config.merge(self._held(form))
            reply = _reply(await model.generate([_message(prompt, images)], config=config))
            asked = config.model_dump(exclude_none=True)  # the prompt itself is in the log
            answer = Answer(reply.text, "", reply.finish, reply.input_tokens, reply.output_tokens, 0.0, 1)
            await self.journal.put(Entry(key, self.role, self.row_id, model.name, asked, answer))
        else:
            reply = Reply(answer.text, answer.finish, answer.prompt_tokens, answer.completion_tokens)
            transcript().info({"role": self.role, **asdict(reply)}, source=REUSED)
        self.made.append(_call(prompt, reply))
        return reply

    def _held(self, form: Form | None) -> GenerateConfig:
        """What holds the bundled model to a form, and from thoughts that it would never end."""
        if self.room is None:
            return GenerateConfig()
        body = dict(NO_THOUGHTS)
        if form is not None:
            body["structured_outputs"] = {"regex": form(self.room)}
        return GenerateConfig(extra_body=body)


def judge(calls: Calls, pin: JudgePin | None) -> Callable[..., Any]:
    """The judge as benchmarks know it: `kit.Judge`."""

    async def ask(
        prompt: str, parse: Callable[[str], T | None], *, form: Form, images: tuple[str, ...] = ()
    ) -> Verdict[T]:
        assert pin is not None, "a benchmark that needs a judge was started without one"
        replies: list[str] = []
        reason = "no attempt was made"
        for attempt in range(pin.attempts):
            config = GenerateConfig(
                temperature=pin.temperature if attempt == 0 else pin.retry_temperature,
                seed=pin.seed + attempt,
                max_tokens=pin.max_tokens,
                max_retries=5,
            )
            try:
                reply = (await calls.reply(prompt, images, config, form)).text
            except (openai.APIError, CallFailedError) as error:
                return Verdict(None, tuple(replies), f"the judge's call failed: {type(error).__name__}")
            replies.append(reply)
            value = parse(reply)
            if value is not None:
                return Verdict(value, tuple(replies))
            reason = f"{attempt + 1} {'replies' if attempt else 'reply'} of the judge without a verdict"
        return Verdict(None, tuple(replies), reason)

    return ask


def _message(prompt: str, images: Sequence[str]) -> ChatMessageUser:
    if not images:
        return ChatMessageUser(content=prompt)
    return ChatMessageUser(content=[*(ContentImage(image=image) for image in images), ContentText(text=prompt)])


def _reply(output: ModelOutput) -> Reply:
    if output.error or not output.choices:
        raise CallFailedError("the endpoint sent an error in place of a reply")
    usage = output.usage
    return Reply(
        text=writable(output.completion),
        finish="length" if output.stop_reason in ("max_tokens", "model_length") else str(output.stop_reason),
        input_tokens=usage.input_tokens if usage else 0,
        output_tokens=usage.output_tokens if usage else 0,
    )


def _call(prompt: str, reply: Reply) -> dict[str, Any]:
    shown = prompt if len(prompt) <= 2 * SHOWN else f"{prompt[:SHOWN]} [...] {prompt[-SHOWN:]}"
    digest = hashlib.blake2b(prompt.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return {"prompt": shown, "prompt_characters": len(prompt), "prompt_hash": digest, "reply": asdict(reply)}
