"""The worker gives exactly what `load` gives, and nothing that happens to it reaches the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from btoks.media import Decoder, Item, Limits, MediaError, Source, kind, load, page_count, wire
from media.equal import assert_same
from media.samples import WIDTH, image_bytes, numbered, photo, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as running:
        yield running


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def outcome(function: Callable[[Source], Item], source: Source) -> Item | str:
    try:
        return function(source)
    except MediaError as error:
        return str(error)


@pytest.mark.parametrize("sample", sorted(samples()))
def test_the_worker_equals_load(decoder: Decoder, tmp_path: Path, sample: str) -> None:
    (tmp_path / "file").write_bytes(samples()[sample])
    page = 2 if sample == "pdf" else None
    for uri in (samples()[sample], tmp_path / "file", str(tmp_path / "file")):
        source = Source(uri, page=page)
        assert decoder.kind(source) == kind(source)
        expected = outcome(load, source)
        if isinstance(expected, str):
            assert outcome(decoder.load, source) == expected
        else:
            assert_same(decoder.load(source), expected)


def test_kinds_and_pages_are_told_by_the_worker_too(decoder: Decoder) -> None:
    assert decoder.page_count(Source(samples()["pdf"])) == 3
    assert decoder.kind(Source(photo())) == "image"
    assert decoder.kind(Source([photo()])) == "video"
    for function in (decoder.page_count, page_count):
        for uri in (samples()["pdf_encrypted"], samples()["png"], photo(), "/nowhere.pdf"):
            with pytest.raises(MediaError):
                function(Source(uri))


def test_what_is_in_memory_needs_no_worker() -> None:
    sources = [photo(), np.asarray(photo()), np.stack([numbered(0), numbered(1)]), [numbered(0), photo()]]
    with Decoder() as decoder:
        for uri in sources:
            assert_same(decoder.load(Source(uri)), load(Source(uri)))
        assert decoder.pid is None


def test_lists_of_files_and_clips(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(samples()["png"])
    for source in (
        Source([tmp_path / "a.png", samples()["jpeg_exif"], photo(), numbered(3)]),
        Source(samples()["mp4"], start=0.5, end=1.0),
        Source(samples()["gif_animated"], end=0.1),
    ):
        assert_same(decoder.load(source), load(source))
    with pytest.raises(MediaError, match="frame 1 of <frames: 2>"):
        decoder.load(Source([tmp_path / "a.png", tmp_path / "b.png"]))


def test_limits_and_working_folder_reach_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(frames=3, schemes=("file",))
    (tmp_path / "a.mp4").write_bytes(samples()["mp4"])
    with Decoder(limits) as decoder:
        decoder.load(Source(samples()["mp4"]))
        monkeypatch.chdir(tmp_path)
        assert_same(decoder.load(Source("a.mp4")), load(Source("a.mp4"), limits))
        with pytest.raises(MediaError, match=r"^b\.mp4: "):
            decoder.load(Source("b.mp4"))
        with pytest.raises(MediaError, match="'data' is not allowed"):
            decoder.load(Source("data:,hello"))


def test_one_worker_serves_many_items_and_goes_with_the_decoder() -> None:
    with Decoder() as own:
        pids = set()
        for _ in range(5):
            own.load(Source(samples()["png"]))
            pids.add(own.pid)
            with pytest.raises(MediaError):
                own.load(Source(b"\0\0"))
        (pid,) = pids
        assert pid is not None
        assert alive(pid)
    assert not alive(pid)
    assert own.load(Source(b"again")) == {"text": "again"}
    own.close()


def test_threads_take_turns(decoder: Decoder) -> None:
    names = [name for name in samples() if not name.startswith("pdf")] * 3
    with ThreadPoolExecutor(4) as pool:
        for name, item in zip(names, pool.map(lambda name: decoder.load(Source(samples()[name])), names), strict=True):
            assert_same(item, load(Source(samples()[name])))


def test_a_killed_worker_is_replaced() -> None:
    with Decoder() as decoder:
        decoder.load(Source(b"hello"))
        first = decoder.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        time.sleep(0.05)
        assert decoder.load(Source(b"hello")) == {"text": "hello"}
        assert decoder.pid != first


def test_a_worker_that_dies_on_an_item_costs_that_item(tmp_path: Path) -> None:
    with Decoder(timeout=20) as decoder:
        decoder.load(Source(b"hello"))
        pid = decoder.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(decoder.load, Source(samples()["png"]))
            time.sleep(0.1)
            os.kill(pid, signal.SIGSEGV)
            os.kill(pid, signal.SIGCONT)
            with pytest.raises(MediaError, match=r"crashed the decoding process \(SIGSEGV\)"):
                waiting.result()
        assert_same(decoder.load(Source(samples()["png"])), load(Source(samples()["png"])))


def test_a_hanging_worker_is_killed_at_the_timeout() -> None:
    with Decoder(timeout=0.5) as decoder:
        decoder.load(Source(b"hello"))
        pid = decoder.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        for uri in (b"hello", b"x" * 10_000_000):
            if decoder.pid is None:
                decoder.load(Source(b"hello"))
                os.kill(decoder.pid or 0, signal.SIGSTOP)
            with pytest.raises(MediaError, match=r"not decoded within 0\.5 s; raise timeout"):
                decoder.load(Source(uri))
        assert time.monotonic() - began < 10
        assert not alive(pid)
        assert decoder.load(Source(b"hello")) == {"text": "hello"}


def test_memory_is_limited() -> None:
    large = image_bytes(Image.new("RGB", (8000, 8000)), "PNG", compress_level=1)
    with Decoder(memory=400 << 20) as decoder:
        with pytest.raises(MediaError, match="memory"):
            decoder.load(Source(large))
        assert decoder.load(Source(b"hello")) == {"text": "hello"}


def test_a_worker_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Decoder() as decoder, pytest.raises(MediaError, match="did not start"):
        decoder.load(Source(b"hello"))


def test_the_largest_picture_allowed_fits_the_default_memory(decoder: Decoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    large = Image.new("RGBA", (8192, 8192), (255, 0, 0, 128))
    raw = image_bytes(large, "PNG", compress_level=1, exif=exif)
    del large
    item = decoder.load(Source(raw))
    assert item["image"].size == (8192, 8192)
    assert item["image"].getpixel((8191, 8191)) == (255, 127, 127)
    status = Path(f"/proc/{decoder.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 1 << 20


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_no_torch_in_the_worker(decoder: Decoder) -> None:
    for sample in ("mp4", "pdf_page", "png", "txt"):
        decoder.load(Source(samples()[sample]))
    maps = Path(f"/proc/{decoder.pid}/maps").read_text()
    assert "pdfium" in maps
    assert "torch" not in maps


def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    script = """
        import os, sys
        from btoks.media import Decoder, Source
        decoder = Decoder()
        decoder.load(Source(b"hello"))
        print(decoder.pid, flush=True)
        if sys.argv[1] == "kill":
            os.kill(os.getpid(), 9)
    """
    for way in ("exit", "kill"):
        command = [sys.executable, "-c", textwrap.dedent(script), way]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        pid = int(done.stdout)
        until = time.monotonic() + 5
        while alive(pid) and time.monotonic() < until:
            time.sleep(0.02)
        assert not alive(pid), way


def test_a_fork_leaves_the_worker_to_its_parent(decoder: Decoder) -> None:
    decoder.load(Source(b"hello"))
    pid = decoder.pid
    child = os.fork()
    if child == 0:
        try:
            fine = decoder.load(Source(b"child")) == {"text": "child"} and decoder.pid != pid
            decoder.close()
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert decoder.load(Source(b"parent")) == {"text": "parent"}
    assert decoder.pid == pid


@pytest.mark.parametrize(
    ("header", "buffers"),
    [
        ({}, []),
        ({"text": True}, []),
        ({"text": True}, [b"\xff\xfe"]),
        ({"text": True}, [b"a", b"b"]),
        ({"image": [4, 4]}, [b"x" * 47]),
        ({"image": [4, -4]}, [b"x" * 48]),
        ({"image": [4.0, 4]}, [b"x" * 48]),
        ({"image": "44"}, [b"x" * 48]),
        ({"video": {"fps": 0}, "shape": [1, 4, 4, 3]}, [b"x" * 48]),
        ({"video": {}, "shape": [2, 4, 4, 3]}, [b"x" * 48]),
    ],
)
def test_what_a_lying_worker_sends_is_refused(header: wire.Header, buffers: list[bytes]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, IndexError)):
        wire.unpack_item(header, [bytearray(buffer) for buffer in buffers])


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02{}",
        b"\0\0\0\x01x",
        b"\0\0\0\x12" + b'{"buffers": [1e9]}',
        b"\0\0\0\x13" + b'{"buffers": [99999]}'[:19],
        b"\0\0\0\x10" + b'{"buffers": [5]}' + b"ab",
    ],
)
def test_messages_that_are_none(raw: bytes) -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises((ValueError, EOFError, KeyError)):
            wire.receive(ours, 1000, time.monotonic() + 5)


def test_items_travel_exactly() -> None:
    video = load(Source(samples()["mp4"]))
    for item in (video, load(Source(samples()["pdf_page"])), load(Source(photo())), {"text": "ä\u2028"}):
        header, buffers = wire.pack_item(item)  # type: ignore[arg-type]
        assert_same(wire.unpack_item(_through_json(header), [bytearray(buffer) for buffer in buffers]), item)  # type: ignore[arg-type]
    assert video["video"]["array"].shape[2] == WIDTH


def _through_json(header: wire.Header) -> wire.Header:
    import json

    return json.loads(json.dumps(header))
