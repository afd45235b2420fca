"""Small random models with a tokenizer, and an engine run to its end."""

from functools import cache

import torch

from godwit.engine.config import EngineConfig
from godwit.engine.engine import Engine
from godwit.engine.llm import Collector
from godwit.engine.outputs import RequestOutput
from godwit.engine.params import SamplingParams
from godwit.models.decoder import Decoder
from godwit.text.bpe import train_bpe
from godwit.text.tokenizer import Tokenizer
from tests.models.parity import spread_model

CORPUS = [
    "The godwit flies eleven days without landing; no bird has a longer horizon.\n" * 3,
    "def f(x):\n    return {'a': [1, 22, 333], \"b\": None}  # don't\n" * 3,
    "<think> and <|user|> and </tool_call> are text here. 中文 é 👩‍👩‍👧\r\n\t" * 3,
]
VOCAB = 420


@cache
def tokenizer() -> Tokenizer:
    return train_bpe(CORPUS, VOCAB)


@cache
def model_of(case: str, mtp: bool = False) -> Decoder:
    """Contexts of up to 4,096 tokens."""
    changes = {"vocab_size": VOCAB, "max_position_embeddings": 4096, "num_nextn_predict_layers": int(mtp)}
    return spread_model(case, **changes)


def engine_of(model: Decoder, **settings: object) -> Engine:
    return Engine(model, tokenizer=tokenizer(), config=EngineConfig(**({"num_pages": 16} | settings)))


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def run(engine: Engine, prompts: list[list[int]], params: list[SamplingParams] | SamplingParams) -> list[RequestOutput]:
    """All at once, to the end; nothing may be left behind."""
    each = [params] * len(prompts) if isinstance(params, SamplingParams) else params
    names = [engine.add(prompt, one) for prompt, one in zip(prompts, each, strict=True)]
    collectors = {name: Collector(None, prompt, one.n) for name, prompt, one in zip(names, prompts, each, strict=True)}
    while engine.has_work:
        for delta in engine.step():
            collectors[delta.request_id].add(delta)
    assert_idle(engine)
    return [collectors[name].output() for name in names]


def assert_idle(engine: Engine) -> None:
    stats = engine.stats()
    assert (stats.num_running, stats.num_waiting) == (0, 0)
    assert stats.num_free_pages == stats.num_pages
