"""One request's line in the log: JSON, without the texts unless asked for."""

import json
import logging
import secrets
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

LOGGER = logging.getLogger("godwit.serve")
_KEY = "godwit.record"


@dataclass
class Record:
    """What is known of a request when it ends. None: it does not apply, or did not come to it."""

    id: str = field(default_factory=lambda: f"req-{secrets.token_hex(8)}")
    method: str = ""
    path: str = ""
    route: str = ""
    client: str | None = None
    status: int | None = None
    stream: bool | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_seconds: float | None = None
    seconds: float = 0.0
    ended: str | None = None
    """How it ended, if not by its answer: client_gone, slow_reader, timeout, shut_down, error."""
    error: str | None = None
    prompt: Any = None
    answer: Any = None

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since it arrived."""
        return time.monotonic() - self.started

    def first_token(self) -> None:
        """The first token is there."""
        if self.first_token_seconds is None:
            self.first_token_seconds = self.elapsed()

    def log(self) -> None:
        """Write the line."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        LOGGER.info("request", extra={"values": values})

    def put(self, scope: dict[str, Any]) -> None:
        """Leave it where routes find it."""
        scope[_KEY] = self

    @staticmethod
    def of(scope: Any) -> "Record":
        """The record of the request at hand."""
        return scope[_KEY]


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "values", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(_rounded(line), default=str)


def set_up_logging(level: int = logging.INFO) -> None:
    """Everything of this server and of uvicorn goes to stderr as JSON lines."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("godwit.serve", "uvicorn", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if name == "godwit.serve" else logging.WARNING)


def _rounded(line: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in line.items()}
