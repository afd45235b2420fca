"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}` with the status that fits.

A `GodwitError` is the client's mistake (400) unless it is an `ApiError` that says otherwise. What is neither is ours:
500, with its traceback in the log and none of it in the answer.
"""

import json
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from godwit.base.errors import GodwitError, MissingPartError, did_you_mean
from godwit.serve.bodies import field_names

INVALID = "invalid_request_error"


class ApiError(GodwitError):
    """An error with a status of its own."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message)
        self.status, self.kind, self.param, self.code, self.retry_after = status, kind, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """OpenAI's form."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The whole answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        # ASCII: a message may quote half of a surrogate pair, which has no UTF-8 form.
        return Response(json.dumps(self.body()), self.status, headers, media_type="application/json")


def as_api_error(error: GodwitError) -> ApiError:
    """The client's mistake, unless the error knows better."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MissingPartError):
        return ApiError(str(error), status=501, kind="server_error", code="missing_part")
    return ApiError(str(error))


def install(app: FastAPI) -> None:
    """Give an application these answers to everything that goes wrong."""
    app.add_exception_handler(GodwitError, _on_godwit)  # pyrefly: ignore[bad-argument-type]
    app.add_exception_handler(RequestValidationError, _on_validation)  # pyrefly: ignore[bad-argument-type]
    app.add_exception_handler(HTTPException, _on_http)  # pyrefly: ignore[bad-argument-type]
    app.add_exception_handler(Exception, _on_anything)


async def _on_godwit(_request: Request, error: GodwitError) -> Response:
    return as_api_error(error).response()


async def _on_http(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        message = f"there is no {request.url.path} here; /docs lists what there is"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("allow", "another method")
        message = f"{request.url.path} does not take {request.method}; use {allowed}"
    elif error.status_code == 400:
        message = "the body could not be read as JSON; send one JSON object in UTF-8"
    else:
        message = str(error.detail)
    response = ApiError(message, status=error.status_code).response()
    response.headers.update(error.headers or {})
    return response


async def _on_validation(_request: Request, error: RequestValidationError) -> Response:
    return _validation_error(error).response()


async def _on_anything(_request: Request, _error: Exception) -> Response:
    message = "the server made a mistake; its log has the traceback"
    return ApiError(message, status=500, kind="server_error", code="internal_error").response()


def _validation_error(error: RequestValidationError) -> ApiError:
    """The first complaint, in words: where, what was given, what is allowed."""
    first = error.errors()[0]
    kind, place = first["type"], [part for part in first["loc"] if part != "body"]
    where = _path(place)
    if kind == "json_invalid":
        reason = first.get("ctx", {}).get("error", "broken")
        return ApiError(f"the body is not valid JSON at byte {first['loc'][-1]} ({reason}); send one JSON object")
    if kind == "missing" and not place:
        return ApiError("the body is empty; send one JSON object with Content-Type: application/json")
    if kind == "extra_forbidden":
        name = str(place[-1])
        hint = did_you_mean(name, field_names(place[:-1])) if field_names(place[:-1]) else "leave it out"
        return ApiError(f"unknown field {where!r}: {hint}", param=where, code="unknown_parameter")
    if kind == "missing":
        return ApiError(f"{where} is missing; it is required", param=where, code="missing_required_parameter")
    given = _short(first.get("input"))
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(f"{where or 'the body'}: {message[:1].lower() + message[1:]}; got {given}", param=where or None)


def _path(place: list[Any]) -> str:
    """`messages[2].content`; names of union members, which pydantic puts between, are left out."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and part[0].islower() and "[" not in part and part not in ("str", "int", "float", "bool"):
            text += f".{part}" if text else part
    return text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
