"""Vectors of texts by an embedding endpoint, each text kept in the journal on its own and sent once.

A text that another row is just having embedded is waited for, not sent again.
"""

import asyncio
import base64
import struct
from collections.abc import Sequence
from typing import Any

from godwit.base.journal import Answer, Entry, Store
from godwit.synth.line import Line
from godwit.synth.rows import digest

ROLE = "embedder"
# Texts in a request; OpenAI takes 2048 texts or 300,000 tokens, others far fewer.
BATCH = 64

Vector = list[float]


class Embedder:
    """Embeds by the endpoint of `line`, through `store`; `account` counts."""

    def __init__(self, *, line: Line, store: Store):
        self.line = line
        self.store = store
        self._flying: dict[str, asyncio.Future[Vector]] = {}

    async def vectors(self, texts: Sequence[str], *, stage: str, account: Any) -> list[Vector]:
        """One for each text."""
        model = self.line.endpoint.model
        keys = {text: digest({"model": model, "input": text}) for text in dict.fromkeys(texts)}
        found: dict[str, Vector] = {}
        others: dict[str, asyncio.Future[Vector]] = {}
        missing: list[tuple[str, str]] = []
        for text, key in keys.items():
            if key in self._flying:
                others[text] = self._flying[key]
            elif (answer := await self.store.get(key)) is not None:
                account.count(answer, sent=False)
                found[text] = _vector(answer.text)
            elif key in self._flying:  # began while the store was asked
                others[text] = self._flying[key]
            else:
                self._flying[key] = asyncio.get_running_loop().create_future()
                missing.append((text, key))
        for start in range(0, len(missing), BATCH):
            found |= await self._send(missing[start : start + BATCH], missing[start:], stage, account)
        for text, future in others.items():
            found[text] = await asyncio.shield(future)
        return [found[text] for text in texts]

    async def _send(
        self, batch: list[tuple[str, str]], unsent: list[tuple[str, str]], stage: str, account: Any
    ) -> dict[str, Vector]:
        found = {}
        try:
            vectors, tokens = await self.line.embed([text for text, _ in batch])
            share, rest = divmod(tokens, len(batch))
            for place, ((text, key), vector) in enumerate(zip(batch, vectors, strict=True)):
                spelled = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
                answer = Answer(spelled, "", "embedding", share + (rest if place == 0 else 0), 0, 0.0, 1)
                await self.store.put(Entry(key, ROLE, stage, self.line.endpoint.model, {"input": text}, answer))
                account.count(answer, sent=True)
                found[text] = _vector(spelled)
                self._flying.pop(key).set_result(found[text])
        except BaseException as error:
            for _, key in unsent:
                future = self._flying.pop(key, None)
                if future is not None:
                    future.set_exception(error)
                    future.exception()  # seen: nobody may be waiting for it
            raise
        return found


def _vector(spelled: str) -> Vector:
    """From the journal: base64 of little-endian float32."""
    data = base64.b64decode(spelled)
    return list(struct.unpack(f"<{len(data) // 4}f", data))
