"""Before every request: who asks, under which name, from which page, and how much is sent. Behind it: safe headers."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from btoks.server import problems

if TYPE_CHECKING:
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from btoks.server.metrics import Metrics
    from btoks.server.state import Settings

_SLACK = 1 << 20
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_OF_PAGE = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._token = None if settings.token is None else _digest(settings.token.encode())
        # Base64 of a data URL takes a third more than its bytes.
        self._most = settings.max_upload * 4 // 3 + _SLACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, headers, status = time.perf_counter(), Headers(scope=scope), 500

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _secured(scope, message)
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                await refusal(scope, receive, answered)
            else:
                await self._app(scope, self._limited(receive), answered)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """What is wrong with who asks or how; None lets the request pass."""
        if self._token is None:
            if _host(headers.get("host", "")) not in self._settings.hosts:
                return problems.answer(403, "this server does not answer under that name")
        elif not _open(scope["path"]) and scope["method"] != "OPTIONS":
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(
                _digest(given.strip().encode("latin-1")), self._token
            ):
                return problems.answer(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin = headers.get("origin")
            own = origin is None or urlsplit(origin).netloc == headers.get("host")
            if not own and origin not in self._settings.cors:
                return problems.answer(403, "pages of other origins may not ask")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most:
            return problems.answer(413, f"a request may have {self._most} bytes")
        return None

    def _limited(self, receive: Receive) -> Receive:
        """The body as it arrives, but no more of it than may be."""
        total = 0

        async def limited() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._most:
                raise HTTPException(413, f"a request may have {self._most} bytes")
            return message

        return limited

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _open(path: str) -> bool:
    """Whether a path is for everyone: the page without its data, and the health."""
    return path in ("/", "/healthz") or path.startswith("/page/")


def _host(header: str) -> str:
    """The name in a Host header, without its port.

    >>> _host("localhost:8000"), _host("[::1]:8000")
    ('localhost', '::1')
    """
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _secured(scope: Scope, message: Message) -> None:
    headers = MutableHeaders(scope=message)
    page = scope["path"] == "/" or scope["path"].startswith("/page/")
    for name, value in (_HEADERS | _OF_PAGE if page else _HEADERS).items():
        headers.setdefault(name, value)
