"""URLs against a real server: private addresses are refused, and no reply costs more than its limits."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from btoks.media import Decoder, Limits, MediaError, Source, fetch, load
from media.equal import assert_same
from media.samples import samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPEN = Limits(allow_private=True, timeout=5.0)


class Handler(BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    def do_GET(self) -> None:
        word = self.path.strip("/").partition("/")[0].partition("?")[0]
        getattr(self, f"answer_{word}", self.answer_sample)()

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_sample(self) -> None:
        body = samples().get(self.path.strip("/"))
        self.reply(200 if body else 404, body or b"")

    def answer_redirect(self) -> None:
        self.reply(302, Location=self.path.partition("?")[2])

    def answer_loop(self) -> None:
        self.reply(302, Location="/loop")

    def answer_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        sent = 0
        try:
            while sent < 50_000_000:
                sent += self.wfile.write(bytes(65536))
        except OSError:
            self.server.sent = sent  # type: ignore[attr-defined]

    def answer_large(self) -> None:
        self.reply(200, b"x" * 1000, Content_Length="1000000000")

    def answer_short(self) -> None:
        self.reply(200, b"x" * 1000, Content_Length="2000")

    def answer_long(self) -> None:
        self.reply(200, b"x" * 2000, Content_Length="1000")

    def answer_nonsense(self) -> None:
        self.reply(200, b"hello", Content_Length="-5")

    def answer_gzip(self) -> None:
        self.reply(200, b"hello", Content_Encoding="gzip")

    def answer_drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.drip()

    def answer_header(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        self.drip()

    def drip(self) -> None:
        try:
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            pass

    def answer_echo(self) -> None:
        self.reply(200, f"{self.path} {self.headers['Host']}".encode())

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    sent = 0

    def handle_error(self, *args: object) -> None:
        """A client that hangs up is what these tests are about."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize("sample", ["png", "mp4", "txt", "gif_animated"])
def test_a_url_gives_what_its_bytes_give(url: str, sample: str) -> None:
    assert_same(load(Source(f"{url}/{sample}"), OPEN), load(Source(samples()[sample])))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]"],
)
def test_private_addresses_are_refused(server: Server, host: str) -> None:
    with pytest.raises(MediaError, match="private address"):
        load(Source(f"http://{host}:{server.server_port}/png"))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("192.168.1.1", False),
        ("172.16.0.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:192.168.0.1", False),
        ("64:ff9b::c0a8:1", False),
        ("2002:7f00:1::", False),
        ("2002:5db8:d822::", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert fetch.is_public(address) is public


def test_one_private_answer_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*args: object, **options: object) -> list[object]:
        return [(2, 1, 6, "", (address, 80)) for address in ("93.184.216.34", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(MediaError, match=r"private address 127\.0\.0\.1"):
        load(Source("http://example.org/a.png"))


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """A name server that answers a public address first and a private one later gains nothing: it is asked once."""
    asked = []
    original = socket.getaddrinfo

    def resolve(host: str, *args: object, **options: object) -> list[object]:
        asked.append(host)
        return original("127.0.0.1" if host == "rebinding.example" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    got = load(Source(f"http://rebinding.example:{server.server_port}/echo"), OPEN)
    assert got["text"] == f"/echo rebinding.example:{server.server_port}"
    assert asked.count("rebinding.example") == 1


def test_an_address_that_does_not_answer_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    original = socket.getaddrinfo

    def resolve(host: str, *args: object, **options: object) -> list[object]:
        if host != "two.example":
            return list(original(host, *args, **options))  # type: ignore[call-overload]
        return [(2, 1, 6, "", (address, server.server_port)) for address in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert load(Source(f"http://two.example:{server.server_port}/txt"), OPEN) == load(Source(samples()["txt"]))


def test_redirects_are_followed_and_checked_each_time(
    url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(Source(f"{url}/redirect?/txt"), OPEN) == load(Source(samples()["txt"]))
    assert load(Source(f"{url}/redirect?{url}/redirect?/txt"), OPEN) == load(Source(samples()["txt"]))
    with pytest.raises(MediaError, match="redirects more than"):
        load(Source(f"{url}/loop"), OPEN)
    for target in ("file:///etc/passwd", "ftp://example.org/a", "data:,hello"):
        with pytest.raises(MediaError, match="redirects to"):
            load(Source(f"{url}/redirect?{target}"), OPEN)
    original = fetch.is_public
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1" or original(address))
    for target in ("http://10.0.0.1/", "http://127.0.0.2/", "http://[::1]/", "http://169.254.169.254/latest"):
        with pytest.raises(MediaError, match="private address"):
            load(Source(f"{url}/redirect?{target}"), Limits(timeout=5))


def test_schemes(url: str) -> None:
    with pytest.raises(MediaError, match="'http' is not allowed; use one of: https"):
        load(Source(f"{url}/png"), Limits(allow_private=True, schemes=("https",)))
    for uri in ("ftp://example.org/a.png", "gopher://example.org/", "concat:a|b://"):
        with pytest.raises(MediaError):
            load(Source(uri), Limits(schemes=("ftp", "http", "https", "file", "data", "gopher")))


def test_too_large_replies_are_cut_off_while_they_come(url: str, server: Server) -> None:
    with pytest.raises(MediaError, match="max_bytes=100000"):
        load(Source(f"{url}/endless"), Limits(allow_private=True, max_bytes=100_000))
    with pytest.raises(MediaError, match="max_bytes=100000"):
        load(Source(f"{url}/large"), Limits(allow_private=True, max_bytes=100_000))
    until = time.monotonic() + 5
    while server.sent == 0 and time.monotonic() < until:
        time.sleep(0.01)
    assert 0 < server.sent < 50_000_000


def test_lying_lengths(url: str) -> None:
    with pytest.raises(MediaError, match="ended after 1000 of 2000 bytes"):
        load(Source(f"{url}/short"), OPEN)
    assert load(Source(f"{url}/long"), OPEN) == {"text": "x" * 1000}
    assert load(Source(f"{url}/nonsense"), OPEN) == {"text": "hello"}
    with pytest.raises(MediaError, match="compressed"):
        load(Source(f"{url}/gzip"), OPEN)


@pytest.mark.parametrize("kind", ["drip", "header"])
def test_a_reply_that_drips_ends_at_the_timeout(url: str, kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(MediaError, match=r"timeout=0\.5"):
        load(Source(f"{url}/{kind}"), Limits(allow_private=True, timeout=0.5))
    assert time.monotonic() - began < 3


def test_bad_answers_and_addresses(url: str) -> None:
    with pytest.raises(MediaError, match="404"):
        load(Source(f"{url}/nothing"), OPEN)
    with pytest.raises(MediaError, match="not known"):
        load(Source("http://nowhere.invalid/a.png"), OPEN)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for bad in (
        f"http://127.0.0.1:{port}/",
        f"https{url[4:]}/png",
        "http://",
        "http://[::1/",
        "http://a:99999/",
        f"{url}/a\nb",
    ):
        with pytest.raises(MediaError):
            load(Source(bad), OPEN)


def test_unusual_paths_arrive(url: str) -> None:
    assert load(Source(f"{url}/echo/ü b?q=%20ä"), OPEN)["text"].startswith("/echo/%C3%BC%20b?q=%20%C3%A4 ")


def test_file_and_data_urls(tmp_path: Path) -> None:
    path = tmp_path / "ä b.txt"
    path.write_text("hello")
    assert load(Source(path.as_uri())) == {"text": "hello"}
    assert load(Source(f"file://localhost{path.as_uri()[7:]}")) == {"text": "hello"}
    with pytest.raises(MediaError, match="host"):
        load(Source("file://example.org/etc/passwd"))
    assert load(Source("data:text/plain;charset=utf-8,a%20b%C3%A4")) == {"text": "a bä"}
    assert load(Source("data:;base64,aGVs bG8")) == {"text": "hello"}
    for bad in ("data:text/plain", "data:;base64,a$$$", "data:;base64,aGVsb"):
        with pytest.raises(MediaError):
            load(Source(bad))
    with pytest.raises(MediaError, match="max_bytes=3"):
        load(Source("data:,hello"), Limits(max_bytes=3))


def test_the_worker_fetches_under_the_same_limits(url: str) -> None:
    with Decoder(OPEN) as decoder:
        assert_same(decoder.load(Source(f"{url}/mp4")), load(Source(samples()["mp4"])))
    with Decoder() as decoder, pytest.raises(MediaError, match="private address"):
        decoder.load(Source(f"{url}/png"))
