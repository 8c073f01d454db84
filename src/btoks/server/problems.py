"""What a client is told when something is wrong: one shape for every error, with no path and no traceback in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from btoks.errors import BtoksError
from btoks.server.batching import FullError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

_LOG = logging.getLogger("btoks.server")
_UNREADABLE = "its table cannot be read"


class Told(BaseModel):
    """What is wrong."""

    message: str
    type: str
    code: int


class Problem(BaseModel):
    """The body of every answer that is an error."""

    error: Told


class ProblemError(Exception):
    """An answer with an error, raised where it is noticed."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How errors are described in the OpenAPI page."""
    return {status: {"model": Problem} for status in statuses}


def answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as it is sent."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    text = message.encode("utf-8", "replace").decode()
    body = {"error": {"message": text, "type": kind, "code": status}}
    return JSONResponse(body, status, headers=dict(headers or {}))


def busy() -> JSONResponse:
    """What is sent when the queue is full."""
    return answer(429, "too many requests wait; try again in a second", {"Retry-After": "1"})


def _invalid(errors: Sequence[Any]) -> str:
    """The error that lies deepest: of several forms that an input may have, the one that was meant."""
    deepest = max(errors, key=lambda error: len(error["loc"]), default={"loc": (), "msg": "invalid"})
    # Between the names of fields stand those of the forms, such as `Given` and `constrained-str`.
    place = [str(each) for each in deepest["loc"] if isinstance(each, int) or (each.isidentifier() and each.islower())]
    return f"{'.'.join(place)}: {deepest['msg']}"


def install(app: FastAPI, hidden: Mapping[str, str]) -> None:
    """Answer every exception in the one shape; `hidden` are paths, and the words that stand in for them."""

    def told(error: BtoksError) -> str:
        text = str(error)
        for path in sorted(hidden, key=len, reverse=True):
            text = text.replace(path, hidden[path])
        return text

    async def wrong_input(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, BtoksError) and error.reason == _UNREADABLE:
            _LOG.error("%s", error)
            return answer(503, "the library cannot be read at the moment", {"Retry-After": "5"})
        return answer(400, told(error) if isinstance(error, BtoksError) else "wrong input")

    async def problem(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, ProblemError):
            return answer(error.status, error.message, error.headers)
        if isinstance(error, HTTPException):
            return answer(error.status_code, str(error.detail), error.headers)
        return busy()

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        return answer(422, _invalid(error.errors() if isinstance(error, RequestValidationError) else []))

    async def unexpected(_: Request, __: Exception) -> JSONResponse:
        return answer(500, "something went wrong here; the server's log tells more")

    app.add_exception_handler(BtoksError, wrong_input)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
    for kind in (ProblemError, HTTPException, FullError):
        app.add_exception_handler(kind, problem)
