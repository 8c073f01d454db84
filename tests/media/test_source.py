"""A source opens nothing, names itself shortly, and content alone decides what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from btoks.errors import BtoksError
from btoks.media import Limits, MediaError, Source, kind, load, page_count
from media.samples import samples

KINDS = {
    "image": ["png", "jpeg_exif", "jpeg_cmyk", "png_16bit", "gif_palette", "webp", "tiff"],
    "video": ["gif_animated", "webp_animated", "apng", "mp4", "webm", "mkv", "ts", "avi", "h264"],
    "pdf": ["pdf", "pdf_page", "pdf_encrypted"],
    "text": ["txt", "utf16", "html"],
}


@pytest.mark.parametrize(("expected", "sample"), [(k, s) for k, group in KINDS.items() for s in group])
def test_content_decides_and_load_agrees(tmp_path: Path, expected: str, sample: str) -> None:
    path = tmp_path / "misnamed.jpg.txt.mp4"
    path.write_bytes(samples()[sample])
    assert kind(Source(path)) == expected
    if expected != "pdf":
        assert load(Source(str(path))).keys() == {expected}


def test_every_sample_has_its_kind() -> None:
    assert sorted(samples()) == sorted(sample for group in KINDS.values() for sample in group)


def test_nothing_is_opened_before_load() -> None:
    missing = Source("/nowhere/at/all.png", page=0, start=-1.0)
    assert missing.name == "/nowhere/at/all.png"
    with pytest.raises(MediaError, match="no such file") as caught:
        load(Source("/nowhere/at/all.png"))
    assert isinstance(caught.value, BtoksError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        (b"x" * 5_000_000, "<bytes: 5000000>"),
        (Image.new("RGB", (4, 3)), "<image: 4x3>"),
        (np.zeros((2, 3, 4, 3)), "<array: 2x3x4x3>"),
        (["a", "b"], "<frames: 2>"),
        (Path("a/b.png"), "a/b.png"),
        ("https://me:secret@example.org/a.png?token=secret#secret", "https://example.org/a.png"),
        ("data:image/png;base64,AAAA", "<data URL: image/png, 26 characters>"),
        (None, "<NoneType>"),
    ],
)
def test_names_are_short_and_hold_no_secret(uri: object, name: str) -> None:
    source = Source(uri)  # type: ignore[arg-type]
    assert source.name == name
    assert repr(source) == f"Source({name})"


def test_a_long_name_keeps_its_end() -> None:
    name = Source("/deep" * 100 + "/file.png").name
    assert len(name) == 160
    assert name.endswith("/file.png")


@pytest.mark.parametrize("uri", [None, 5, object(), {"a": 1}, ("a", "b"), bytearray(b"x")])
def test_what_is_no_source_is_refused(uri: object) -> None:
    for function in (load, kind, page_count):
        with pytest.raises(MediaError):
            function(Source(uri))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sample", "options", "reason"),
    [
        ("png", {"page": 1}, "no pages"),
        ("mp4", {"page": 1}, "no pages"),
        ("txt", {"page": 1}, "no pages"),
        ("png", {"start": 0.0}, "no duration"),
        ("txt", {"end": 1.0}, "no duration"),
        ("pdf_page", {"end": 1.0}, "no duration"),
        ("mp4", {"start": -1.0}, "start at -1"),
        ("mp4", {"start": float("nan")}, "start at nan"),
        ("mp4", {"start": 1.0, "end": 1.0}, "is empty"),
        ("gif_animated", {"start": 9.0}, "no clip starts"),
        ("mp4", {"start": 9.0}, "no clip starts"),
        ("pdf", {"page": 0}, "no page 0"),
    ],
)
def test_options_that_do_not_fit(sample: str, options: dict[str, float], reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        load(Source(samples()[sample], **options))  # type: ignore[arg-type]


def test_bytes_limit_and_empty_and_special_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(MediaError, match="is empty"):
        load(Source(tmp_path / "empty.png"))
    with pytest.raises(MediaError, match="is empty"):
        load(Source(b""))
    with pytest.raises(MediaError, match="max_bytes=100"):
        load(Source(samples()["png"]), Limits(max_bytes=100))
    with pytest.raises(MediaError, match="is a folder"):
        load(Source(tmp_path))
    with pytest.raises(MediaError, match="not a regular file"):
        load(Source("/dev/zero"))
    with pytest.raises(MediaError, match="cannot be opened"):
        load(Source("zero\0byte.png"))


def test_a_pipe_without_a_writer_does_not_hang(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="not a regular file"):
        load(Source(tmp_path / "pipe"))


def test_paths_can_be_switched_off(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    for uri in (path, str(path), path.as_uri(), [str(path)]):
        with pytest.raises(MediaError, match="not allowed"):
            load(Source(uri), Limits(schemes=("https", "data")))
    assert load(Source("data:,hello"), Limits(schemes=("data",))) == {"text": "hello"}


def test_limits_that_let_nothing_through() -> None:
    for wrong in ({"fps": 0.0}, {"frames": 0}, {"max_pixels": -1}, {"timeout": float("nan")}):
        with pytest.raises(BtoksError, match=next(iter(wrong))):
            Limits(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xef\xbb\xbfhi", "hi"),
        ("Köln".encode("utf-16-le"), None),
        (b"\xff\xfe" + "Köln".encode("utf-16-le"), "Köln"),
        (b"\xfe\xff" + "Köln".encode("utf-16-be"), "Köln"),
        ("Köln".encode("latin-1"), None),
        (b"a\r\n\tb\n", "a\r\n\tb\n"),
        (b"\x00\x01\x02\x03", None),
        (b"fine at first" + b"x" * 5000 + b"\x00", None),
        (b"fine at first" + b"x" * 5000 + b"\xff", None),
        (("ü" * 5000).encode(), "ü" * 5000),
        (b"The free wide world", "The free wide world"),
        (b"abcdfree of charge", "abcdfree of charge"),
        (b"BMW builds cars in Munich", "BMW builds cars in Munich"),
        (b"P5 is a heading", "P5 is a heading"),
        (b"https://example.org/a.png", "https://example.org/a.png"),
        (b"\x7fELF\x02\x01\x01\0\0\0", None),
        (b"PK\x03\x04\x14\0\0\0", None),
    ],
)
def test_text_and_what_only_looks_like_it(raw: bytes, text: str | None) -> None:
    if text is None:
        with pytest.raises(MediaError, match="text"):
            load(Source(raw))
    else:
        assert load(Source(raw)) == {"text": text}
        assert kind(Source(raw)) == "text"


def test_a_long_text_is_refused_not_cut() -> None:
    limits = Limits(max_text=5)
    assert load(Source("üüüüü".encode()), limits) == {"text": "üüüüü"}
    for text in ("üüüüüü", "123456", "1" * 1000):
        with pytest.raises(MediaError, match="max_text=5"):
            load(Source(text.encode()), limits)
