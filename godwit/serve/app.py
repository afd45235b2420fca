"""The FastAPI application: routes, errors, the gate before them, and what ends with it."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from godwit import __version__
from godwit.serve import errors, inspector
from godwit.serve.answering import respond
from godwit.serve.bodies import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from godwit.serve.errors import ApiError
from godwit.serve.gate import Gate
from godwit.serve.job import chat_job, completion_job, encode_prompt
from godwit.serve.prompts import chat_options, conversation, tools_of
from godwit.serve.state import ServerState

PAGES = {"/": "chat.html", "/chat": "chat.html", "/inspector": "inspector.html"}
# Nothing from elsewhere, nothing inline but styles that scripts set.
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text}
    for status, text in (
        (400, "the request is to be mended; the message says how"), (401, "API key missing or wrong"),
        (404, "no such model"), (413, "body too large"), (422, "never sent; mistakes are 400"),
        (429, "queue full; see Retry-After"), (503, "shutting down"), (504, "took too long"),
    )
}  # fmt: skip


def create_app(server: ServerState) -> FastAPI:
    """The application of one server; the engine is closed when it shuts down."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        server.draining = True
        await server.engine.close()

    app = FastAPI(
        title="Godwit", version=__version__, lifespan=lifespan, description="OpenAI's API over one model.",
        responses=_ERRORS,
    )  # fmt: skip
    app.add_middleware(Gate, config=server.config, metrics=server.metrics)
    errors.install(app)
    _add_api(app, server)
    _add_state(app, server)
    if server.config.pages:
        inspector.add_routes(app, server)
        _add_pages(app)
    return app


def _add_api(app: FastAPI, server: ServerState) -> None:
    config, tokenizer = server.config, server.tokenizer

    @app.post("/v1/chat/completions", tags=["OpenAI"])
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """Answer a conversation."""
        # Long prompts take a while to encode: in a thread, so that other streams go on.
        job = await run_in_threadpool(
            chat_job, body, server.chat, config, max_model_len=server.max_model_len, fingerprint=server.fingerprint
        )
        return await respond(server, request, job)

    @app.post("/v1/completions", tags=["OpenAI"])
    async def completions(body: CompletionBody, request: Request) -> Response:
        """Continue texts or token ids."""
        job = await run_in_threadpool(
            completion_job, body, tokenizer, config, max_model_len=server.max_model_len, fingerprint=server.fingerprint
        )
        return await respond(server, request, job)

    @app.get("/v1/models", tags=["OpenAI"])
    async def models() -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [_model(server)]}

    @app.get("/v1/models/{model:path}", tags=["OpenAI"])
    async def model_of(model: str) -> dict[str, Any]:
        """The model, by its name."""
        if model != config.name:
            raise ApiError(
                f"the model {model!r} does not exist here; this server has {config.name!r}",
                status=404, param="model", code="model_not_found",
            )  # fmt: skip
        return _model(server)

    @app.post("/tokenize", tags=["tokens"])
    def tokenize(body: TokenizeBody) -> dict[str, Any]:
        """Token ids of a text, or of messages with their generation prompt."""
        if (body.prompt is None) == (body.messages is None):
            raise ApiError("give either prompt or messages", param="prompt")
        if body.messages:
            ids = server.chat.encode(conversation(body.messages), tools_of(body.tools), chat_options(body))
        elif body.messages is not None:
            raise ApiError("messages is empty; give at least one", param="messages")
        else:
            ids = encode_prompt(body.prompt or "", tokenizer)
        return {"tokens": ids, "count": len(ids), "max_model_len": server.max_model_len}

    @app.post("/detokenize", tags=["tokens"])
    def detokenize(body: DetokenizeBody) -> Response:
        """The text of token ids."""
        return JSONResponse({"prompt": tokenizer.decode(body.tokens)})


def _model(server: ServerState) -> dict[str, Any]:
    return {
        "id": server.config.name,
        "object": "model",
        "created": int(server.started),
        "owned_by": "godwit",
        "max_model_len": server.max_model_len,
        "weight_version": server.weight_version,
        "plan": str(server.engine.engine.config.plan or server.engine.engine.model.config.plan or ""),
    }


def _add_state(app: FastAPI, server: ServerState) -> None:
    @app.get("/health", tags=["state"])
    async def health() -> Response:
        """200 while requests are taken, 503 when shutting down or when the engine has stopped."""
        well = server.engine.alive and not server.draining
        status = "ok" if well else "shutting down" if server.engine.alive else "engine stopped"
        return JSONResponse({"status": status, "model": server.config.name}, 200 if well else 503)

    @app.get("/metrics", tags=["state"])
    async def metrics() -> Response:
        """For Prometheus."""
        if not server.engine.alive:
            raise ApiError("the engine has stopped", status=503, kind="server_error", code="engine_stopped")
        stats = await server.engine.stats()
        return Response(server.metrics.text(stats, now=time.monotonic()), media_type=CONTENT_TYPE_LATEST)


def _add_pages(app: FastAPI) -> None:
    folder = resources.files("godwit.serve").joinpath("pages")

    def page(name: str) -> Response:
        text = folder.joinpath(name).read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})

    for path, name in PAGES.items():
        app.add_api_route(path, lambda name=name: page(name), include_in_schema=False, response_class=HTMLResponse)
    app.mount("/pages", StaticFiles(directory=str(folder)), name="pages")
