"""Settings of a server."""

import ipaddress
import math
from dataclasses import dataclass

from godwit.base.errors import GodwitError


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where the server listens, who may use it and how much.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        api_key: what clients send as `Authorization: Bearer KEY`; None: no key.
        public: allow another host than this machine without a key.
        name: of the model in requests and answers.
        chat_style: how prompts are written, one of `godwit.text.template.STYLES`; None: as the model's folder says.
        max_body_bytes: of a request.
        max_queue: choices that may wait for the engine beside those that run.
        max_n: choices of one request.
        request_seconds: from a request's arrival to its last byte.
        write_seconds: how long a reader of a stream may take nothing.
        drain_seconds: how long running requests may go on after SIGTERM.
        log_prompts: put prompts and answers into the log.
        pages: serve the chat page and the inspector.
        inspect_tokens: longest text of the inspector.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    public: bool = False
    name: str = "model"
    chat_style: str | None = None
    max_body_bytes: int = 8 << 20
    max_queue: int = 256
    max_n: int = 16
    request_seconds: float = 600.0
    write_seconds: float = 60.0
    drain_seconds: float = 30.0
    log_prompts: bool = False
    pages: bool = True
    inspect_tokens: int = 4096

    def __post_init__(self) -> None:
        for name, least in (("max_body_bytes", 1024), ("max_queue", 0), ("max_n", 1), ("inspect_tokens", 2)):
            if getattr(self, name) < least:
                raise GodwitError(f"{name} is {getattr(self, name)}; give {least} or more")
        for name in ("request_seconds", "write_seconds", "drain_seconds"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise GodwitError(f"{name} is {value}; give a number of seconds above 0")
        if not 0 <= self.port <= 65535:
            raise GodwitError(f"port is {self.port}; give 1 to 65535, or 0 for a free one")
        if self.api_key is not None and (not self.api_key or not self.api_key.isascii() or " " in self.api_key):
            raise GodwitError("the API key must be ASCII without blanks, at least one character")
        if not self.local and self.api_key is None and not self.public:
            raise GodwitError(
                f"{self.host} can be reached from other machines and no API key is set; give --api-key KEY (or the "
                "variable GODWIT_API_KEY), or --public to serve everyone"
            )

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
