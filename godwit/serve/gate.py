"""In front of every route, in plain ASGI: who may come in, with how much, and what the log says of it.

A key is compared in constant time. A body is counted while it arrives, so that one that lies about its length is found
out as well, and is not read on. A server without a key answers only to names of this machine: else a web page could
reach it under a name of its own that points here (DNS rebinding).
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from godwit.serve.config import ServeConfig, is_loopback
from godwit.serve.errors import ApiError
from godwit.serve.metrics import Metrics
from godwit.serve.record import Record

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Pages hold no secrets: they ask for the key and send it with what they fetch.
OPEN = ("/health", "/", "/chat", "/inspector")
OPEN_UNDER = "/pages/"


class Gate:
    """ASGI middleware.

    Args:
        app: what comes behind.
        config: key, host and sizes.
        metrics: where requests are counted.
    """

    def __init__(self, app: App, *, config: ServeConfig, metrics: Metrics):
        self.app, self.config, self.metrics = app, config, metrics
        self._key = None if config.api_key is None else config.api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        record = Record(method=scope["method"], path=scope["path"], client=client[0] if client else None)
        record.put(scope)  # pyrefly: ignore[bad-argument-type]
        began = False

        async def told(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", record.id.encode())]
            await send(message)

        try:
            try:
                headers = Headers(scope=scope)
                self._check(scope["path"], headers)
                receive = self._counted(receive, headers)
                await self.app(scope, receive, told)
            except ApiError as error:
                if began:
                    raise
                await error.response()(scope, receive, told)
        finally:
            self._end(record, scope)

    def _check(self, path: str, headers: Headers) -> None:
        if self._key is None and self.config.local:
            host = urlsplit(f"//{headers.get('host', '')}").hostname
            if host is not None and not is_loopback(host):
                raise ApiError(
                    f"this server answers to localhost only, not to {host!r}; start it with --api-key to use a name",
                    status=403, kind="permission_error", code="wrong_host",
                )  # fmt: skip
        if self._key is None or path in OPEN or path.startswith(OPEN_UNDER):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._key):
            raise ApiError(
                "the API key is missing or wrong; send the header Authorization: Bearer KEY",
                status=401, kind="authentication_error", code="invalid_api_key",
            )  # fmt: skip

    def _counted(self, receive: Receive, headers: Headers) -> Receive:
        limit = self.config.max_body_bytes
        said = headers.get("content-length", "0")
        if said.isdecimal() and int(said) > limit:
            raise self._too_large(int(said))
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            if message["type"] == "http.request":
                count += len(message.get("body", b""))
                if count > limit:
                    raise self._too_large(count)
            return message

        return counted

    def _too_large(self, size: int) -> ApiError:
        return ApiError(
            f"the body has {size:,} bytes or more and this server takes {self.config.max_body_bytes:,}; "
            "send less, or start it with a larger --max-body-bytes",
            status=413, code="body_too_large",
        )  # fmt: skip

    def _end(self, record: Record, scope: Scope) -> None:
        route = scope.get("route")
        record.route = getattr(route, "path", "") or ("" if route is None else record.path)
        record.seconds = record.elapsed()
        self.metrics.requests.labels(record.route or "other", str(record.status or 0)).inc()
        if record.first_token_seconds is not None:
            self.metrics.first_token_seconds.observe(record.first_token_seconds)
            self.metrics.request_seconds.observe(record.seconds)
            tokens = record.completion_tokens or 0
            if tokens > 1:
                self.metrics.token_seconds.observe((record.seconds - record.first_token_seconds) / (tokens - 1))
        record.log()
