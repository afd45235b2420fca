"""All calls of a run: what was answered before comes from the journal, what is under way is awaited, others are sent.

Also the ledger: what was sent now and what was there already, writers and judges apart.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType

from godwit.base.errors import RunStoppedError
from godwit.base.journal import Answer, Entry, Store
from godwit.synth.embedding import ROLE as EMBEDDER
from godwit.synth.embedding import Embedder
from godwit.synth.endpoint import Endpoint
from godwit.synth.line import Limits, Line
from godwit.synth.wire import Request

WRITER, JUDGE = "writer", "judge"
# Seconds that calls under way have left when a run stops.
GRACE = 20.0


@dataclass
class Account:
    """What calls of one kind came to. `reused` ones were paid for in an earlier run (or earlier in this one)."""

    role: str
    stage: str
    model: str
    sent: int = 0
    reused: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sent_prompt_tokens: int = 0
    sent_completion_tokens: int = 0
    seconds: float = 0.0

    def count(self, answer: Answer, *, sent: bool) -> None:
        """Add one answer."""
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        if sent:
            self.sent += 1
            self.attempts += answer.attempts
            self.sent_prompt_tokens += answer.prompt_tokens
            self.sent_completion_tokens += answer.completion_tokens
            self.seconds += answer.seconds
        else:
            self.reused += 1


def merged(accounts: Iterable[Account]) -> list[Account]:
    """One account a role and stage, sorted."""
    found: dict[tuple[str, str], Account] = {}
    for account in accounts:
        whole = found.setdefault((account.role, account.stage), Account(account.role, account.stage, account.model))
        for name, value in vars(account).items():
            if not isinstance(value, str):
                setattr(whole, name, getattr(whole, name) + value)
    return [found[key] for key in sorted(found)]


class Exchange:
    """An async context manager; `endpoints` by role.

    Args:
        endpoints: the writer's, and the judge's if there is one.
        store: where answers are kept.
        limits: for each endpoint; two roles at one address share them.
        max_cost: dollars that this run may spend; None for no limit.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        *,
        store: Store,
        limits: Limits,
        max_cost: float | None = None,
    ):
        self.endpoints = dict(endpoints)
        self.store = store
        self.max_cost = max_cost
        self.accounts: dict[tuple[str, str], Account] = {}
        self.spent = 0.0
        self._lines: dict[tuple[str, ...], Line] = {}
        for endpoint in self.endpoints.values():
            self._lines.setdefault(_place(endpoint), Line(endpoint, limits=limits))
        self._embedder = Embedder(line=self.line(EMBEDDER), store=store) if EMBEDDER in self.endpoints else None
        self._flying: dict[str, asyncio.Task[Answer]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Exchange":
        for line in self._lines.values():
            await self._stack.enter_async_context(line)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What is under way has been paid for: its answers are kept, if they come soon.
        flying = list(self._flying.values())
        if flying:
            await asyncio.wait(flying, timeout=GRACE)
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)
        await self._stack.aclose()

    def line(self, role: str) -> Line:
        """The connections of a role."""
        return self._lines[_place(self.endpoints[role])]

    @property
    def num_unreported(self) -> int:
        """Answers whose endpoint did not say how many tokens they were."""
        return sum(line.num_unreported for line in self._lines.values())

    async def answer(self, role: str, stage: str, request: Request, key: str) -> Answer:
        """The answer to `request`, whose content key is `key`."""
        flying = self._flying.get(key)
        if flying is not None:
            answer = await asyncio.shield(flying)
            self._account(role, stage).count(answer, sent=False)
            return answer
        task = asyncio.create_task(self._found_or_sent(role, stage, request, key))
        self._flying[key] = task
        task.add_done_callback(lambda _: self._flying.pop(key, None))
        return await asyncio.shield(task)

    async def _found_or_sent(self, role: str, stage: str, request: Request, key: str) -> Answer:
        found = await self.store.get(key)
        account = self._account(role, stage)
        if found is not None:
            account.count(found, sent=False)
            return found
        price = self.endpoints[role].price
        if self.max_cost is not None and self.spent >= self.max_cost:
            raise RunStoppedError(
                f"{self.spent:.2f} dollars are spent, which is --max-cost; all answers are kept, a higher one goes on"
            )
        answer = await self.line(role).ask(request)
        await self.store.put(Entry(key, role, stage, request.model, request.record(), answer))
        account.count(answer, sent=True)
        if price is not None:
            self.spent += price.of(answer.prompt_tokens, answer.completion_tokens)
        return answer

    async def embeddings(self, stage: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, by the embedder; each text is in the journal on its own and sent once."""
        assert self._embedder is not None, "no embedder"
        return await self._embedder.vectors(texts, stage=stage, account=self._account(EMBEDDER, stage))

    def _account(self, role: str, stage: str) -> Account:
        if (role, stage) not in self.accounts:
            self.accounts[(role, stage)] = Account(role, stage, self.endpoints[role].model)
        return self.accounts[(role, stage)]


def _place(endpoint: Endpoint) -> tuple[str, ...]:
    """Roles that agree in this share connections and limits."""
    return endpoint.url, endpoint.key_env, endpoint.max_tokens_name
