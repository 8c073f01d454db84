"""Every kind of picture becomes the same upright RGB; animations keep their times."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from btoks.media import Limits, MediaError, Source, load
from media.equal import times_of
from media.samples import HEIGHT, WIDTH, animation, image_bytes, number_of, photo, samples, turned_jpeg

if TYPE_CHECKING:
    from pathlib import Path


def pixels(uri: object) -> np.ndarray:
    image = load(Source(uri))["image"]  # type: ignore[arg-type]
    assert image.mode == "RGB"
    return np.asarray(image)


def huge_png(width: int = 100_000, height: int = 100_000) -> bytes:
    """A PNG of a few bytes that claims to be enormous."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))

    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats_are_exact(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(pixels(image_bytes(photo(), kind, **options)), np.asarray(photo()))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_is_applied(orientation: int) -> None:
    raw = turned_jpeg(orientation)
    assert np.abs(pixels(raw).astype(int) - np.asarray(photo())).mean() < 4
    np.testing.assert_array_equal(pixels(raw), pixels(Image.open(io.BytesIO(raw))))


def test_all_eight_orientations_agree_with_pillow() -> None:
    from PIL import ImageOps

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        raw = image_bytes(photo(), "PNG", exif=exif)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
        np.testing.assert_array_equal(pixels(raw), np.asarray(expected))


def test_alpha_lies_on_white() -> None:
    image = photo().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert (pixels(image_bytes(image, "PNG")) == 255).all()
    image.putalpha(Image.new("L", image.size, 128))
    half = pixels(image_bytes(image, "PNG")).astype(int)
    expected = np.asarray(photo()) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(half - expected).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "PA"])
def test_modes(mode: str) -> None:
    grey = photo().convert("L")
    image = (grey if mode in ("1", "L", "LA") else photo()).convert("P" if mode == "PA" else mode)
    image = image.convert(mode)
    expected = np.asarray((image.convert("RGBA") if mode in ("LA", "PA") else image).convert("RGB"))
    np.testing.assert_array_equal(pixels(image), expected)


def test_transparent_palette_colour_is_white() -> None:
    image = Image.new("P", (300, 300), 0)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.paste(1, (0, 0, 300, 280))
    got = pixels(image_bytes(image, "PNG", transparency=0))
    assert (got[:280] == (200, 0, 0)).all()
    assert (got[280:] == 255).all()


def test_deep_pictures_keep_their_range() -> None:
    deep = (np.arange(65536).reshape(256, 256)).astype(np.uint16)
    for raw in (image_bytes(Image.fromarray(deep), "PNG"), image_bytes(Image.fromarray(deep), "TIFF"), deep):
        np.testing.assert_array_equal(pixels(raw)[..., 0], deep >> 8)
    whole = Image.fromarray(deep.astype(np.int32))
    np.testing.assert_array_equal(pixels(whole)[..., 1], deep >> 8)
    floats = Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16))
    np.testing.assert_array_equal(pixels(floats)[..., 2].ravel(), np.arange(256))
    assert (pixels(Image.fromarray(np.full((4, 4), 7, np.int32))) == 7).all()
    negative = pixels(Image.fromarray(np.array([[-5.0, 1e9]], np.float32)))
    assert negative[0, 0, 0] == 0
    assert negative[0, 1, 0] == 255


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (HEIGHT, WIDTH, 3), (HEIGHT, WIDTH, 4)])
def test_arrays(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if shape[-1] == 4:
        array[..., 3] = 255
    expected = np.broadcast_to(array.reshape(HEIGHT, WIDTH, -1)[..., :3], (HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(pixels(array), expected)
    np.testing.assert_array_equal(pixels(array / 255.0), expected)
    np.testing.assert_array_equal(pixels(np.asfortranarray(array)), expected)


def test_truth_values_are_black_and_white() -> None:
    np.testing.assert_array_equal(pixels(np.eye(4, dtype=bool))[..., 0], np.eye(4) * 255)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 8, 8)),
        np.zeros(5),
        np.zeros((0, 4, 3)),
        np.full((4, 4), 2.0),
        np.full((4, 4), np.nan),
        np.zeros((4, 4), np.int64),
        np.array([[object()]]),
    ],
)
def test_arrays_that_are_no_picture(array: np.ndarray) -> None:
    with pytest.raises(MediaError):
        load(Source(array))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pixels_are_limited_before_decoding() -> None:
    for raw in (huge_png(), huge_png(20_000, 20_000)):
        with pytest.raises(MediaError, match=r"exceed|more pixels"):
            load(Source(raw))
    limits = Limits(max_pixels=WIDTH * HEIGHT - 1)
    for uri in (samples()["jpeg_exif"], photo(), np.asarray(photo()), samples()["gif_animated"], samples()["mp4"]):
        with pytest.raises(MediaError, match="max_pixels"):
            load(Source(uri), limits)
    load(Source(photo()), Limits(max_pixels=WIDTH * HEIGHT))


def test_all_frames_of_an_animation_count() -> None:
    raw = animation("WEBP", [50] * 10)
    load(Source(raw), Limits(max_pixels=WIDTH * HEIGHT * 10 // 4 + 1))
    with pytest.raises(MediaError, match="more than 9 frames of 64x48"):
        load(Source(raw), Limits(max_pixels=WIDTH * HEIGHT * 10 // 4 - 1))


def test_pillow_is_left_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS
    load(Source(samples()["png"]), Limits(max_pixels=10**12))
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("sample", ["png", "jpeg_exif", "webp", "gif_palette", "tiff"])
def test_a_truncated_picture_is_an_error(sample: str) -> None:
    raw = samples()[sample]
    with pytest.raises(MediaError):
        load(Source(raw[: len(raw) // 2]))


def test_the_source_picture_is_not_touched() -> None:
    image = photo().convert("RGBA")
    before = image.tobytes()
    load(Source(image))
    assert image.mode == "RGBA"
    assert image.tobytes() == before


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_a_video_with_true_times(kind: str) -> None:
    delays = [50, 120, 50, 200, 70, 90, 50, 60, 110, 50]
    item = load(Source(animation(kind, delays)))
    kept = [0, 1, 2, 3, 5, 6, 7, 9]
    starts = np.cumsum([0, *delays])
    assert [number_of(frame) for frame in item["video"]["array"]] == kept
    assert times_of(item) == pytest.approx(starts[kept] / 1000, abs=1e-9)
    assert item["video"]["video_metadata"]["duration"] == pytest.approx(sum(delays) / 1000)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_even_delays_give_the_native_rate(kind: str) -> None:
    metadata = load(Source(animation(kind, [40] * 10)))["video"]["video_metadata"]
    assert (metadata["fps"], metadata["total_num_frames"]) == (25.0, 10)
    assert metadata["frames_indices"] == [0, 1, 2, 3, 5, 6, 7, 9]


def test_a_clip_of_an_animation() -> None:
    raw = animation("GIF", [100] * 20)
    item = load(Source(raw, start=0.5, end=0.8))
    assert [number_of(frame) for frame in item["video"]["array"]] == [5, 6, 7]
    assert times_of(item) == pytest.approx([0.5, 0.6, 0.7])


def test_one_frame_is_an_image_and_no_delay_a_tenth_of_a_second() -> None:
    assert load(Source(animation("GIF", [100]))).keys() == {"image"}
    assert times_of(load(Source(animation("GIF", [0, 0, 0])))) == pytest.approx([0, 0.1, 0.2])


def test_the_still_a_png_shows_instead_is_no_frame() -> None:
    still = Image.new("RGB", (WIDTH, HEIGHT), "green")
    frames = [Image.fromarray(np.full((HEIGHT, WIDTH, 3), value, np.uint8)) for value in (10, 20)]
    raw = image_bytes(still, "PNG", save_all=True, append_images=frames, duration=100, default_image=True)
    assert [frame[0, 0, 0] for frame in load(Source(raw))["video"]["array"]] == [10, 20]


def test_pages_of_a_tiff_are_no_animation() -> None:
    raw = image_bytes(photo(), "TIFF", save_all=True, append_images=[photo()])
    assert load(Source(raw)).keys() == {"image"}


def test_a_truncated_animation_gives_the_frames_it_has() -> None:
    raw = animation("GIF", [100] * 20)
    array = load(Source(raw[: len(raw) // 2]), Limits(frames=100))["video"]["array"]
    assert 2 < len(array) < 20


def test_load_works_in_threads(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    (tmp_path / "a.pdf").write_bytes(samples()["pdf"])
    jobs = [Source(samples()["png"]), Source(tmp_path / "a.pdf", page=2), Source(samples()["mp4"])] * 8
    with ThreadPoolExecutor(4) as pool:
        keys = [set(item) for item in pool.map(load, jobs)]
    assert keys == [{"image"}, {"image", "text"}, {"video"}] * 8
