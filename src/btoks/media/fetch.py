"""Opening bytes: files, URLs and data URLs, each under its limits; an address is checked and then pinned.

A name is resolved once, every address it gives must be public, and the connection goes to the checked address itself: a
second answer of the name server (DNS rebinding) is never asked for. Proxies of the environment are not used.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import io
import ipaddress
import os
import socket
import ssl
import stat
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit
from urllib.request import url2pathname

from btoks.media.source import Limits, MediaError, Source, host_of, scheme_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16
_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@contextmanager
def opened(source: Source, limits: Limits) -> Iterator[IO[bytes]]:
    """The content of a path, URL or bytes as a seekable binary file of at most `max_bytes`."""
    with _open(source, limits) as file:
        size = file.seek(0, io.SEEK_END)
        if size == 0:
            raise MediaError(source.name, "is empty (0 bytes)", "pass a file with content, or skip it")
        if size > limits.max_bytes:
            raise _too_large(source, limits)
        file.seek(0)
        yield file


def _open(source: Source, limits: Limits) -> IO[bytes]:
    uri = source.uri
    if isinstance(uri, bytes):
        return io.BytesIO(uri)
    if isinstance(uri, Path):
        return _open_path(source, uri, limits)
    if not isinstance(uri, str):
        raise TypeError(f"a {type(uri).__name__} has no content to open")
    scheme = scheme_of(uri)
    if scheme is None:
        return _open_path(source, Path(uri), limits)
    _check_scheme(source, scheme, limits)
    if scheme == "file":
        return _open_path(source, _file_path(source, uri), limits)
    if scheme == "data":
        return io.BytesIO(_data(source, uri, limits))
    return _fetch(source, uri, limits)


def _check_scheme(source: Source, scheme: str, limits: Limits) -> None:
    if scheme not in limits.schemes or scheme not in ("http", "https", "file", "data"):
        allowed = ", ".join(limits.schemes) or "nothing but bytes"
        raise MediaError(source.name, f"the scheme {scheme!r} is not allowed", f"use one of: {allowed}")


def _too_large(source: Source, limits: Limits) -> MediaError:
    return MediaError(source.name, f"is larger than max_bytes={limits.max_bytes}", "shrink it or raise max_bytes")


def _file_path(source: Source, url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise MediaError(source.name, f"a file: URL cannot name the host {parts.netloc!r}", "use file:///path")
    return Path(url2pathname(parts.path))


def _open_path(source: Source, path: Path, limits: Limits) -> IO[bytes]:
    if "file" not in limits.schemes:
        raise MediaError(source.name, "paths are not allowed here", "send the content itself")
    try:
        # Without O_NONBLOCK the open itself would wait for ever on a named pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise MediaError(source.name, f"cannot be opened ({reason})", "check the path and its permissions") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise MediaError(source.name, "is a folder", "pass a file, or a list of its files as the frames of one video")
    raise MediaError(source.name, "is not a regular file", "pass a file")


def _data(source: Source, url: str, limits: Limits) -> bytes:
    head, comma, body = url[5:].partition(",")
    if not comma:
        raise MediaError(source.name, "has no comma before its data", "write data:[type][;base64],…")
    encoded = head.lower().replace(" ", "").endswith(";base64")
    if len(body) * (3 if encoded else 1) // (4 if encoded else 3) > limits.max_bytes:
        raise _too_large(source, limits)
    raw = unquote_to_bytes(body)
    if not encoded:
        return raw
    try:
        raw = b"".join(raw.split())
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except binascii.Error as error:
        raise MediaError(source.name, f"is not valid base64 ({error})", "encode the bytes again") from error


def _fetch(source: Source, url: str, limits: Limits) -> IO[bytes]:
    deadline = time.monotonic() + limits.timeout
    try:
        for _ in range(_REDIRECTS + 1):
            with _request(source, url, limits, deadline) as response:
                target = response.getheader("location")
                if response.status in (301, 302, 303, 307, 308) and target:
                    url = urljoin(url, target)
                    scheme = scheme_of(url)
                    if scheme not in ("http", "https"):
                        raise MediaError(source.name, f"redirects to {scheme or 'a path'}", "use a direct http(s) URL")
                    _check_scheme(source, scheme, limits)
                    continue
                if response.status != 200:
                    reason = f"the server answered {response.status} {response.reason}"
                    raise MediaError(source.name, reason, "check the URL and who may read it")
                return _body(source, response, limits, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= deadline:
            raise _too_slow(source, limits) from error
        reason = f"cannot be fetched ({type(error).__name__}: {error})"
        raise MediaError(source.name, reason, "check the URL and the network") from error
    raise MediaError(source.name, f"redirects more than {_REDIRECTS} times", "use a direct URL")


def _too_slow(source: Source, limits: Limits) -> MediaError:
    return MediaError(source.name, f"did not arrive within timeout={limits.timeout} s", "raise timeout or try later")


@contextmanager
def _request(source: Source, url: str, limits: Limits, deadline: float) -> Iterator[http.client.HTTPResponse]:
    host, port = host_of(url)
    secure = scheme_of(url) == "https"
    addresses = _addresses(source, host, port or (443 if secure else 80), limits)
    connection = _Pinned(host, addresses, secure=secure, deadline=deadline)
    # A socket's time-out counts from its last byte; only a clock of our own ends a reply that drips for ever.
    alarm = threading.Timer(max(deadline - time.monotonic(), 0), connection.cut)
    alarm.daemon = True
    alarm.start()
    try:
        parts = urlsplit(url)
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + ("?" if parts.query else "")
        path += quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
        connection.request("GET", path, headers={"User-Agent": "btoks", "Accept": "*/*", "Accept-Encoding": "identity"})
        with connection.getresponse() as response:
            yield response
    finally:
        alarm.cancel()
        connection.close()


def _addresses(source: Source, host: str, port: int, limits: Limits) -> list[tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MediaError(source.name, f"the host {host!r} is not known", "check the URL and the network") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not limits.allow_private and not is_public(address):
            reason = f"{host} is the private address {address}"
            raise MediaError(source.name, reason, "use a public address or set allow_private")
    return [(address, port) for address in addresses]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet, looking through the IPv6 forms that carry an IPv4 one.

    >>> is_public("8.8.8.8"), is_public("127.0.0.1"), is_public("::ffff:10.0.0.1"), is_public("64:ff9b::7f00:1")
    (True, False, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class _Pinned(http.client.HTTPConnection):
    """A connection to addresses already checked; the name serves only the Host header and the certificate."""

    # http.client forgets its socket once a reply is to end with the connection; `cut` still needs it.
    _used: socket.socket | None = None

    def __init__(self, host: str, addresses: list[tuple[str, int]], *, secure: bool, deadline: float) -> None:
        super().__init__(host, addresses[0][1])
        self._addresses, self._secure, self._deadline = addresses, secure, deadline
        self.default_port = 443 if secure else 80

    def connect(self) -> None:
        self.sock = self._used = self._connected()
        if self._secure:
            context = ssl.create_default_context()
            # The handshake comes after the socket is known to `cut`: it too may drip for ever.
            secured = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock = self._used = secured
            secured.do_handshake()

    def _connected(self) -> socket.socket:
        for address in self._addresses:
            try:
                return socket.create_connection(address, max(self._deadline - time.monotonic(), 1e-3))
            except OSError:
                if address == self._addresses[-1]:
                    raise
        raise OSError("the host has no address")

    def cut(self) -> None:
        """End whatever read is under way."""
        if self._used is not None:
            with contextlib.suppress(OSError):
                self._used.shutdown(socket.SHUT_RDWR)


def _body(source: Source, response: http.client.HTTPResponse, limits: Limits, deadline: float) -> IO[bytes]:
    if response.getheader("content-encoding", "identity") != "identity":
        raise MediaError(source.name, "the server compressed the reply", "use a URL that serves the file as it is")
    if (response.length or 0) > limits.max_bytes:
        raise _too_large(source, limits)
    promised, size = response.length, 0
    with contextlib.ExitStack() as on_error:
        file = on_error.enter_context(tempfile.TemporaryFile())
        while chunk := response.read1(_CHUNK):
            size += len(chunk)
            if size > limits.max_bytes:
                raise _too_large(source, limits)
            file.write(chunk)
        if time.monotonic() >= deadline:
            raise _too_slow(source, limits)
        if promised is not None and size < promised:
            reason = f"the reply ended after {size} of {promised} bytes"
            raise MediaError(source.name, reason, "try again or check the server")
        on_error.pop_all()
        return file
