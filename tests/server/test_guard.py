"""Who may ask: a token, the names the server answers to, other pages; and how much may be sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from btoks.library import Library
from btoks.server import Settings, create
from command import run
from server.conftest import Live, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "a long and secret tökén"
BEARER = "Bearer " + TOKEN


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[Live]:
    """A server that wants a token, takes small uploads, and lets one other origin ask."""
    settings = Settings(token=TOKEN, cors=("https://friend.example",), max_upload=100_000)
    with serving(create({"mine": Library.open(folder)}, settings=settings)) as live:
        yield live


def asked(live: Live, header: bytes | None, path: str = "/v1/libraries") -> int:
    headers = {} if header is None else {b"Authorization": header}
    return live.http.get(path, headers=headers).status_code


def test_without_the_token_nothing_is_told(locked: Live) -> None:
    good = BEARER.encode()
    assert asked(locked, good) == 200
    assert asked(locked, good.replace(b"Bearer", b"bearer")) == 200
    paths = list(json.loads(locked.http.get("/openapi.json", headers={b"Authorization": good}).text)["paths"])
    assert "/v1/search" in paths
    for path in (*paths, "/openapi.json", "/metrics", "/v1/nothing"):
        if path != "/healthz":
            assert asked(locked, None, path) == 401, path
    for bad in (b"", b"Bearer", good[:-1], good + b"x", b"Basic " + good[7:], b"Bearer \xff\xfe", good[7:]):
        assert asked(locked, bad) == 401, bad
    answer = locked.http.get("/v1/libraries")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert list(answer.json()) == ["error"]
    assert asked(locked, None, "/healthz") == 200
    assert asked(locked, None, "/") in (200, 404)
    assert asked(locked, None, "/page/../v1/libraries") in (401, 404)


def test_other_addresses_need_a_token(folder: Path) -> None:
    ran = run("serve", folder, "--host", "0.0.0.0")
    assert ran.status == 1
    assert "give a --token as well" in ran.line
    assert "there is no library" in run("serve", folder / "nothing").line


def test_a_page_elsewhere_cannot_use_our_address(live: Live) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"):
        answer = live.http.get("/v1/libraries", headers={"Host": host})
        assert answer.status_code in (400, 403), host
    for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"):
        assert live.http.get("/v1/libraries", headers={"Host": host}).status_code == 200, host


def test_pages_of_other_origins_may_not_ask(live: Live, locked: Live) -> None:
    post = {"content": b"x", "headers": {"Origin": "https://evil.example", "Content-Type": "text/plain"}}
    assert live.http.post("/v1/uploads", **post).status_code == 403
    answer = live.http.get("/v1/libraries", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    own = live.http.post("/v1/uploads", content=b"x", headers={"Origin": live.url.rstrip("/")})
    assert own.status_code == 201
    headers = {"Origin": "https://friend.example", "Access-Control-Request-Method": "POST"}
    assert locked.http.options("/v1/search", headers=headers).headers["access-control-allow-origin"]
    headers["Origin"] = "https://evil.example"
    assert "access-control-allow-origin" not in locked.http.options("/v1/search", headers=headers).headers
    # A form of another page cannot pass for JSON.
    plain = live.http.post("/v1/search", content=b'{"query": "fox"}', headers={"Content-Type": "text/plain"})
    assert plain.status_code == 422


def test_too_much_is_refused(locked: Live) -> None:
    headers = {b"Authorization": BEARER.encode()}
    within = locked.http.post("/v1/uploads", content=b"x" * 100_000, headers=headers)
    assert within.json()["bytes"] == 100_000
    assert locked.http.post("/v1/uploads", content=b"x" * 100_001, headers=headers).status_code == 413
    pieces = (b"x" * 10_000 for _ in range(11))
    assert locked.http.post("/v1/uploads", content=pieces, headers=headers).status_code == 413
    form = {"file": ("a.png", b"x" * 100_001)}
    assert locked.http.post("/v1/uploads", files=form, headers=headers).status_code == 413
    large = {"query": "x" * 3_000_000}
    assert locked.http.post("/v1/search", json=large, headers=headers).status_code == 413
    endless = (json.dumps(large).encode() for _ in range(1))
    typed = {**headers, b"Content-Type": b"application/json"}
    assert locked.http.post("/v1/search", content=endless, headers=typed).status_code == 413
    assert locked.http.post("/v1/uploads", content=b"", headers=headers).status_code == 400
    assert locked.http.post("/v1/uploads", files={"other": b"x"}, headers=headers).status_code == 400
    folder = locked.state.uploads.folder
    assert [each.stat().st_size for each in folder.iterdir()] == [100_000]
    for _ in range(14):
        assert locked.http.post("/v1/uploads", content=b"x" * 100_000, headers=headers).status_code == 201
    locked.http.post("/v1/uploads", content=b"x" * 100_000, headers=headers)
    full = locked.http.post("/v1/uploads", content=b"x", headers=headers)
    assert (full.status_code, full.headers["retry-after"]) == (429, "60")


def test_a_broken_request_tells_nothing_of_us(live: Live) -> None:
    for method, path, status in (("DELETE", "/v1/search", 405), ("GET", "/v1/nothing", 404), ("PUT", "/metrics", 405)):
        answer = live.http.request(method, path)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
        assert "traceback" not in answer.text.lower()
    with httpx.Client() as plain:
        assert plain.get(f"{live.url}openapi.json").json()["info"]["title"] == "btoks"
