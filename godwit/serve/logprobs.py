"""Log-probabilities in OpenAI's two forms: a list of objects (chat) and parallel lists (plain completions)."""

import math
from collections.abc import Sequence
from typing import Any

from godwit.engine.outputs import TokenLogprob
from godwit.text.tokenizer import Tokenizer


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """`choices[].logprobs` of a chat; every sampled token is there, marks and the end token too."""
    content = [
        {
            **_token(tokenizer, entry.token_id, entry.logprob),
            "top_logprobs": [_token(tokenizer, token_id, logprob) for token_id, logprob in entry.top],
        }
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def text_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprob], *, start: int) -> dict[str, Any]:
    """`choices[].logprobs` of a plain completion; `start` is where the first token's text begins."""
    tokens, offsets = [], []
    for entry in entries:
        offsets.append(start)
        tokens.append(token_text(tokenizer, entry.token_id))
        start += len(tokenizer.decode([entry.token_id]))
    return {
        "tokens": tokens,
        "token_logprobs": [_finite(entry.logprob) for entry in entries],
        "top_logprobs": [
            {token_text(tokenizer, token_id): _finite(logprob) for token_id, logprob in entry.top} or None
            for entry in entries
        ],
        "text_offset": offsets,
    }


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as text; bytes that are no character by themselves are spelled, as OpenAI does."""
    data = tokenizer.token_bytes(token_id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _token(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    text, data = token_text(tokenizer, token_id), list(tokenizer.token_bytes(token_id))
    return {"token": text, "token_id": token_id, "logprob": _finite(logprob), "bytes": data}


def _finite(logprob: float) -> float | None:
    """JSON has neither NaN (a first token) nor infinity (a token that a mask forbids)."""
    if math.isnan(logprob):
        return None
    return max(logprob, -9999.0)
