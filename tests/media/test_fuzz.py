"""Damaged files of each kind: an error or a result, never a lost run, a hang or a bloated worker.

`BTOKS_FUZZ=2000 pytest tests/media/test_fuzz.py` tries 2,000 of each kind instead of 200.
"""

from __future__ import annotations

import os
import random
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest

from btoks.media import Decoder, Limits, MediaError, Source, load
from media.equal import assert_same
from media.samples import samples

COUNT = int(os.environ.get("BTOKS_FUZZ", "200"))
SECONDS, MEMORY = 5.0, 1 << 30
EXTREMES = [
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00" * 4,
    b"\x00\x01\x00\x00",
    b"\xff\xff",
    b"\x80",
]
SUFFIXES = [".png", ".jpg", ".gif", ".mp4", ".webm", ".pdf", ".txt", ".exe", ""]


def truncated(raw: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randrange(len(raw))]


def flipped(raw: bytes, rng: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.choice([1, 2, 4, 16, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def huge_field(raw: bytes, rng: random.Random) -> bytes:
    """Extreme numbers in the header, where sizes and counts stand; a PNG's checksum is made to fit."""
    data = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(min(len(data), rng.choice([32, 128, 1024])))
        data[place : place + 4] = rng.choice(EXTREMES)
    if data[12:16] == b"IHDR":
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def huge_number(raw: bytes, rng: random.Random) -> bytes:
    """An extreme decimal number in place of one, as PDF and text headers write them."""
    places = [place for place in range(len(raw)) if raw[place : place + 1].isdigit()]
    if not places:
        return huge_field(raw, rng)
    place = rng.choice(places)
    return raw[:place] + rng.choice([b"99999999", b"-1", b"2147483648", b"1e30"]) + raw[place + 1 :]


def spliced(raw: bytes, rng: random.Random) -> bytes:
    """The head of one kind on the body of another."""
    other = samples()[rng.choice(sorted(samples()))]
    return other[: rng.choice([4, 16, 64, 256])] + raw[rng.randrange(len(raw)) :]


def repeated(raw: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(raw))
    piece = raw[start : start + rng.choice([8, 64, 512])]
    return raw[:start] + piece * rng.choice([2, 50]) + raw[start:]


def noisy(raw: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(raw))
    noise = rng.randbytes(rng.choice([4, 32, 256]))
    return raw[:start] + noise + raw[start + len(noise) :]


MUTATIONS = [truncated, flipped, flipped, huge_field, huge_field, huge_number, spliced, repeated, noisy]


def mutated(raw: bytes, number: int, rng: random.Random) -> bytes:
    if number == 0:
        return b""
    if number == 1:
        return rng.randbytes(len(raw))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        raw = rng.choice(MUTATIONS)(raw, rng) or b"\0"
    return raw


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 if "VmHWM:" in status else 0


def try_one(decoder: Decoder, source: Source) -> str:
    """What a file gave: the item's kind or the kind of error; any other exception fails the test."""
    try:
        return next(iter(decoder.load(source)))
    except MediaError as error:
        return next((word for word in ("within", "crashed", "confused", "memory") if word in error.reason), "error")


@pytest.mark.timeout(60 + COUNT)
@pytest.mark.parametrize("kind", sorted(samples()))
def test_damaged_files(kind: str, tmp_path: Path) -> None:
    rng = random.Random(f"btoks {kind}")
    raw, outcomes, slowest, peak = samples()[kind], Counter[str](), 0.0, 0
    page = 1 if kind.startswith("pdf") else None
    limits = Limits(page_size=256)
    with Decoder(limits, timeout=SECONDS - 1) as decoder:
        for number in range(COUNT):
            path = tmp_path / f"file{rng.choice(SUFFIXES)}"
            path.write_bytes(mutated(raw, number, rng))
            began = time.monotonic()
            outcome = try_one(decoder, Source(path, page=page))
            seconds = time.monotonic() - began
            assert seconds < SECONDS, f"{kind} number {number} took {seconds:.1f} s"
            slowest = max(slowest, seconds)
            if decoder.pid is not None:
                peak = max(peak, peak_memory(decoder.pid))
            outcomes[outcome] += 1
        print(f"{kind}: {dict(outcomes)}, slowest {slowest:.2f} s, peak {peak >> 20} MiB")  # noqa: T201
        assert peak <= MEMORY
        assert outcomes["error"] > 0
        if kind != "pdf_encrypted":
            assert_same(decoder.load(Source(raw, page=page)), load(Source(raw, page=page), limits))
