"""What a stream is given: media wherever they are, strings that are text, bad items, errors of others."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import btoks
from btoks.errors import BtoksError
from btoks.media import Limits, MediaError, Source
from items import KINDS, WORDS, attached, near, picture, streamed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


BAD = {
    "field": {"txt": "fox"},
    "empty": {"text": None},
    "bytes": Source(b"\x89PNG\r\n\x1a\n and then nothing"),
    "image": {"image": b"\xff\xd8\xff\xe0 no picture"},
    "path": {"image": "nowhere/none.png"},
    "kind": {"video": io.BytesIO},
    "size": {"image": np.zeros((0, 4, 3), np.uint8)},
}


@pytest.mark.parametrize("place", [0, 7, 8, 11])
def test_a_bad_item_is_told_and_skipped(place: int, small_windows: int) -> None:
    """First, last of a window, first of the next, last of all."""
    model = attached("qwen3_vl")
    good = [{"text": word} for word in WORDS[:11]]
    items: list[Any] = [*good[:place], {"txt": "fox"}, *good[place:]]
    found = list(btoks.encode_stream(model, items, on_error="skip"))
    assert [out.index for out in found] == list(range(12))
    assert [out.index for out in found if out.error] == [place]
    assert found[place].embedding is None
    assert str(found[place].error) == "item field 'txt': there is none; did you mean 'text'?"
    near(np.stack([out.embedding for out in found if out.error is None]), model.encode(good))
    reached: list[int] = []
    with pytest.raises(BtoksError, match="did you mean 'text'"):
        reached.extend(out.index for out in btoks.encode_stream(model, items))
    assert reached == list(range(place // small_windows * small_windows))


def test_every_kind_of_bad_item_is_an_error_of_its_own(tmp_path: Path) -> None:
    model = attached("qwen3_vl")
    items = [each for bad in BAD.values() for each in (bad, {"text": "fox"})]
    found = list(btoks.encode_stream(model, items, on_error="skip"))
    assert [out.error is None for out in found] == [False, True] * len(BAD)
    for name, out in zip(BAD, found[::2], strict=True):
        assert isinstance(out.error, BtoksError), name
        assert "\n" not in str(out.error)
    assert len({str(out.error) for out in found[::2]}) == len(BAD)
    assert isinstance(found[4].error, MediaError)
    for bad in BAD.values():
        with pytest.raises(BtoksError):
            list(btoks.encode_stream(model, [bad]))
    assert len(list(btoks.encode_stream(attached("qwen3"), [KINDS["image"], KINDS["text"]], on_error="skip"))) == 2
    with pytest.raises(BtoksError, match="item with image: this model takes text; use a model that takes it"):
        list(btoks.encode_stream(attached("qwen3"), [KINDS["image"]]))


def test_media_are_opened_wherever_they_are(tmp_path: Path) -> None:
    model = attached("qwen3_vl")
    image = picture(3)
    file = tmp_path / "fox.png"
    image.save(file)
    expected = model.encode([{"image": image}, {"image": image, "text": "fox"}])
    ways = [str(file), file, file.read_bytes(), Source(file), image, np.asarray(image)]
    for options in ({}, {"on_error": "skip"}):
        near(streamed(model, [{"image": way} for way in ways], **options), expected[[0] * len(ways)])
        near(streamed(model, [Source(file), {"text": "fox", "image": file.read_bytes()}], **options), expected)
        two = streamed(model, [{"image": [file, image]}], **options)
        near(two, model.encode([{"image": [image, image]}]))
    frames = [picture(seed) for seed in range(4)]
    files = [tmp_path / f"{seed}.png" for seed in range(4)]
    for frame, path in zip(frames, files, strict=True):
        frame.save(path)
    near(streamed(model, [{"video": files}]), streamed(model, [Source(frames)]))


def test_limits_are_kept(tmp_path: Path) -> None:
    picture(3).save(tmp_path / "fox.png")
    limits = Limits(max_pixels=100)
    for item in (Source(tmp_path / "fox.png"), {"image": tmp_path / "fox.png"}):
        with pytest.raises(MediaError, match="max_pixels=100"):
            list(btoks.encode_stream(attached("qwen3_vl"), [item], limits=limits))
        (found,) = btoks.encode_stream(attached("qwen3_vl"), [item], limits=limits, on_error="skip")
        assert "max_pixels=100" in str(found.error)


def test_what_a_field_holds_must_be_what_it_says(tmp_path: Path) -> None:
    picture(3).save(tmp_path / "fox.png")
    with pytest.raises(BtoksError, match=r"it holds no video \(found image\); pass it as image"):
        list(btoks.encode_stream(attached("qwen3_vl"), [{"video": tmp_path / "fox.png"}]))


def test_a_string_is_text_even_if_it_is_a_file(tmp_path: Path) -> None:
    model, file = attached("qwen3_vl"), tmp_path / "fox.png"
    picture(3).save(file)
    texts = [str(file), file.as_uri(), "https://localhost/fox.png", "data:text/plain,fox", ""]
    near(streamed(model, texts), model.encode([{"text": text} for text in texts]))
    near(streamed(model, texts, on_error="skip"), streamed(model, texts))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_error_of_whoever_gives_the_items_comes_through(on_error: Any, small_windows: int) -> None:
    def items() -> Iterator[dict[str, Any]]:
        yield from ({"text": word} for word in WORDS[:10])
        raise ZeroDivisionError("theirs")

    reached: list[int] = []
    with pytest.raises(ZeroDivisionError, match="theirs"):
        reached.extend(out.index for out in btoks.encode_stream(attached("qwen3"), items(), on_error=on_error))
    assert reached == list(range(8))


def test_an_error_of_the_model_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    model = attached("qwen3")
    monkeypatch.setattr(model, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(btoks.encode_stream(model, ["fox"] * 3))
