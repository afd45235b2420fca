"""How fast calls may go (requests and tokens a minute), and when to stop asking an endpoint that is down.

The breaker tells a request's own fault from the endpoint's: while it is open nobody's attempts are used up; one call at
a time tries whether the endpoint is back, and when that has been in vain for `patience` seconds the run stops, with
everything answered so far in the journal.
"""

import asyncio
import random
import time

from godwit.base.errors import RunStoppedError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class Pace:
    """At most `per_minute` units a minute, evenly spaced, with one second's worth at once; None is no limit."""

    def __init__(self, per_minute: float | None):
        self.rate = None if per_minute is None else per_minute / 60.0
        self._free_at = 0.0

    async def take(self, amount: float) -> None:
        """Wait until `amount` units may be used."""
        if self.rate is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1.0)
        wait = self._free_at - now
        self._free_at += amount / self.rate
        if wait > 0:
            await asyncio.sleep(wait)

    def correct(self, difference: float) -> None:
        """What was taken turned out to be `difference` units more (or less) than said."""
        if self.rate is not None:
            self._free_at += difference / self.rate


class Breaker:
    """Opens after `threshold` failures in a row, closes with the first answer.

    Args:
        name: of the endpoint, for messages.
        threshold: failures in a row that open it.
        patience: seconds without one answer after which the run stops.
    """

    def __init__(self, name: str, *, threshold: int, patience: float):
        self.name = name
        self.threshold = threshold
        self.patience = patience
        self.num_in_a_row = 0
        self._failing_since = 0.0
        self._not_before = 0.0
        self._trying = asyncio.Lock()
        self._stopped: RunStoppedError | None = None

    @property
    def open(self) -> bool:
        """True while the endpoint counts as down."""
        return self.num_in_a_row >= self.threshold

    async def enter(self) -> bool:
        """Wait until a call may be made; True if it is the one that tries an endpoint that is down.

        The one who tries must end with `succeeded`, `failed` or `left`.
        """
        while True:
            if self._stopped is not None:
                raise self._stopped
            pause = self._not_before - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            elif not self.open:
                return False
            else:
                await self._trying.acquire()
                if self.open and self._stopped is None and self._not_before <= time.monotonic():
                    return True
                self._trying.release()

    def left(self, trying: bool) -> None:
        """The call is over, one way or another."""
        if trying:
            self._trying.release()

    def hold(self, seconds: float) -> None:
        """Nobody calls for so long: the endpoint said so (Retry-After)."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def succeeded(self) -> None:
        """An answer came."""
        self.num_in_a_row = 0

    def failed(self, reason: str) -> None:
        """Count a failure; raises `RunStoppedError` when patience is at an end."""
        now = time.monotonic()
        if self.num_in_a_row == 0:
            self._failing_since = now
        self.num_in_a_row += 1
        if not self.open:
            return
        if now - self._failing_since >= self.patience:
            self._stopped = RunStoppedError(
                f"{self.name} has not answered for {now - self._failing_since:.0f} s, {self.num_in_a_row} failures in "
                f"a row, the last: {reason}; all answers so far are kept, the same command goes on from there"
            )
            raise self._stopped
        exponent = self.num_in_a_row - self.threshold
        self.hold(min(backoff(exponent, longest=LONGEST_PAUSE), max(self.patience / 4, 0.01)))


def backoff(attempt: int, *, first: float = FIRST_PAUSE, longest: float = 30.0) -> float:
    """Seconds to wait after attempt number `attempt`: doubling, with jitter so that callers do not march in step."""
    return min(longest, first * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)
