"""Bodies to jobs: prompts as token ids, sampling parameters, and the form of the answer.

Everything is checked here that can be checked without the engine.
"""

import secrets
import time
from dataclasses import dataclass

from godwit.base.errors import GodwitError
from godwit.engine.grammar import Grammar
from godwit.engine.params import SamplingParams
from godwit.serve.answers import Answer, ChatAnswer, TextAnswer
from godwit.serve.bodies import ChatBody, CompletionBody, SamplingBody
from godwit.serve.config import ServeConfig
from godwit.serve.errors import ApiError
from godwit.serve.forms import chat_grammar, forced_tools, plain_grammar
from godwit.serve.prompts import ChatFormat, chat_options, conversation, tools_of
from godwit.text import specials as S
from godwit.text.tokenizer import Tokenizer

# Fields that mean to the engine what they mean to clients.
_SAME = (
    "n", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "seed", "min_tokens", "include_stop_str_in_output", "ignore_eos",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A request on its way: what the engine is asked, and what its answer looks like."""

    prompts: tuple[tuple[int, ...], ...]
    params: SamplingParams
    priority: int
    answer: Answer
    stream: bool
    include_usage: bool

    @property
    def num_choices(self) -> int:
        """How many outputs the engine is to make."""
        return len(self.prompts) * self.params.n


def chat_job(body: ChatBody, chat: ChatFormat, config: ServeConfig, *, max_model_len: int, fingerprint: str) -> Job:
    """The job of a chat request.

    Raises:
        GodwitError: what the client is to mend.
    """
    check_model(body.model, config.name)
    options = chat_options(body)
    messages = conversation(body.messages)
    tools = tools_of(body.tools)
    offered = () if body.tool_choice == "none" else tools
    forced_tools(body, tools)
    prompt = tuple(chat.encode(messages, offered, options))
    _check_length(prompt, max_model_len)
    grammar = chat_grammar(body, offered, tokenizer=chat.tokenizer, thinking=options.enable_thinking, style=chat.style)
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError("top_logprobs needs logprobs; give logprobs: true", param="top_logprobs")
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise ApiError("max_tokens and max_completion_tokens differ; give one of them", param="max_tokens")
    max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    params = _params(
        body,
        config,
        max_tokens=max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        grammar=grammar,
        # The turn's parser needs the marks, and reads role tokens itself.
        skip_special_tokens=False,
    )
    answer = ChatAnswer(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=config.name,
        fingerprint=fingerprint,
        tokenizer=chat.tokenizer,
        prompts=(prompt,),
        params=params,
        return_token_ids=bool(body.return_token_ids),
        tools=tools,
        style=chat.style,
        enable_thinking=options.enable_thinking,
    )
    return _job(body, (prompt,), params, answer, config)


def completion_job(
    body: CompletionBody, tokenizer: Tokenizer, config: ServeConfig, *, max_model_len: int, fingerprint: str
) -> Job:
    """The job of a plain completion.

    Raises:
        GodwitError: what the client is to mend.
    """
    check_model(body.model, config.name)
    prompts = tuple(tuple(ids) for ids in _prompts(body, tokenizer))
    for prompt in prompts:
        _check_length(prompt, max_model_len)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise ApiError(f"best_of is {body.best_of}; only n choices are made, leave it out", param="best_of")
    # Log-likelihoods are asked for as an echo without new tokens; the engine always makes one, which is not told.
    only_prompt = body.max_tokens == 0 and bool(body.echo)
    prompt_logprobs = body.logprobs if body.echo and body.logprobs is not None else body.prompt_logprobs
    params = _params(
        body,
        config,
        max_tokens=1 if only_prompt else 16 if body.max_tokens is None else body.max_tokens,
        logprobs=body.logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=plain_grammar(body),
        skip_special_tokens=body.skip_special_tokens is not False,
    )
    answer = TextAnswer(
        id=f"cmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=config.name,
        fingerprint=fingerprint,
        tokenizer=tokenizer,
        prompts=prompts,
        params=params,
        return_token_ids=bool(body.return_token_ids),
        echo=bool(body.echo),
        only_prompt=only_prompt,
        tell_prompt_logprobs=body.prompt_logprobs is not None,
    )
    return _job(body, prompts, params, answer, config)


def _job(
    body: SamplingBody,
    prompts: tuple[tuple[int, ...], ...],
    params: SamplingParams,
    answer: Answer,
    config: ServeConfig,
) -> Job:
    if body.stream_options is not None and not body.stream:
        raise ApiError("stream_options needs stream: true", param="stream_options")
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    priority = body.priority or 0
    if abs(priority) > 1000:
        raise ApiError(f"priority is {priority}; give -1000 to 1000, lower goes first", param="priority")
    if len(prompts) * params.n > config.max_n:
        raise ApiError(
            f"{len(prompts)} prompts with n {params.n} are {len(prompts) * params.n} choices; this server makes at "
            f"most {config.max_n} a request",
            param="n" if params.n > 1 else "prompt",
        )
    return Job(prompts, params, priority, answer, bool(body.stream), usage)


def _params(body: SamplingBody, config: ServeConfig, *, grammar: Grammar | None, **more: object) -> SamplingParams:
    given = {name: getattr(body, name) for name in _SAME if getattr(body, name) is not None}
    if body.n is not None and body.n > config.max_n:
        raise ApiError(f"n is {body.n}; this server makes at most {config.max_n} choices a request", param="n")
    stop = [body.stop] if isinstance(body.stop, str) else list(body.stop or ())
    if len(stop) > 16 or any(len(text) > 1000 for text in stop):
        raise ApiError("stop has too much in it; give at most 16 texts of 1000 characters", param="stop")
    try:
        bias = {int(token): value for token, value in (body.logit_bias or {}).items()}
    except ValueError as error:
        raise ApiError(f"logit_bias has a key that is no token id ({error})", param="logit_bias") from error
    try:
        return SamplingParams(
            **given, **more, stop=tuple(stop), stop_token_ids=tuple(body.stop_token_ids or ()), logit_bias=bias,
            grammar=grammar,
        )  # fmt: skip
    except GodwitError as error:
        name = str(error).split(" ", 1)[0]
        raise ApiError(str(error), param=name if name in type(body).model_fields else None) from error


def _prompts(body: CompletionBody, tokenizer: Tokenizer) -> list[list[int]]:
    """One or many, as text or as ids."""
    given = body.prompt
    if isinstance(given, str):
        many: list[str] | list[list[int]] = [given]
    elif given and isinstance(given[0], int):
        many = [given]  # pyrefly: ignore[bad-assignment]
    else:
        many = given  # pyrefly: ignore[bad-assignment]
    if not many:
        raise ApiError("prompt is an empty list; give a text or token ids", param="prompt")
    ids = [encode_prompt(one, tokenizer) if isinstance(one, str) else one for one in many]
    if body.suffix is None:
        return ids
    # Fill in the middle, as `godwit.data.fim` writes it.
    suffix = encode_prompt(body.suffix, tokenizer)
    before, between, behind = (tokenizer.id(token) for token in (S.CODE_PREFIX, S.CODE_SUFFIX, S.CODE_MIDDLE))
    return [[before, *one, between, *suffix, behind] for one in ids]


def encode_prompt(text: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a plain prompt."""
    # A prompt without any text starts where a document starts: behind the end of the one before.
    return tokenizer.encode(text) or [tokenizer.endoftext_id]


def check_model(asked: str | None, name: str) -> None:
    """Refuse a model that is not the one there is; naming none means it."""
    if asked is not None and asked != name:
        raise ApiError(
            f"the model {asked!r} does not exist here; this server has {name!r}",
            status=404, param="model", code="model_not_found",
        )  # fmt: skip


def _check_length(prompt: tuple[int, ...], max_model_len: int) -> None:
    if len(prompt) >= max_model_len:
        raise ApiError(
            f"the prompt has {len(prompt)} tokens and prompt and answer together can have {max_model_len}; shorten it",
            code="context_length_exceeded", param="prompt",
        )  # fmt: skip
