"""The frames kept are the right ones, with true times, whatever the container tells."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from PIL import Image

from btoks.media import Item, Limits, MediaError, Source, load
from btoks.media import video as video_module
from btoks.media.frames import uniform
from media.equal import assert_same, times_of
from media.samples import audio, image_bytes, number_of, numbered, photo, samples, video

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTAINERS = [
    ("mp4", "libx264"),
    ("mov", "libx265"),
    ("matroska", "libx264"),
    ("webm", "libvpx"),
    ("webm", "libvpx-vp9"),
    ("mpegts", "libx264"),
    ("avi", "mpeg4"),
    ("flv", "libx264"),
    ("ogg", "libvpx"),
    ("mpeg", "mpeg2video"),
    ("asf", "mpeg4"),
    ("mp4", "mpeg4"),
    ("h264", "libx264"),
]
OPTIONS = {"libvpx": {"auto-alt-ref": "1", "lag-in-frames": "10"}, "libx265": {"x265-params": "log-level=none:pools=1"}}


def numbers(item: Item) -> list[int]:
    return [number_of(frame) for frame in item["video"]["array"]]


def make(container: str, codec: str, frames: int = 40, rate: int = 20) -> bytes:
    return video(container, codec, frames=frames, rate=rate, options=OPTIONS.get(codec))


@pytest.mark.parametrize(
    ("total", "frames", "kept"), [(10, 8, [0, 1, 2, 3, 5, 6, 7, 9]), (3, 8, [0, 1, 2]), (9, 1, [0])]
)
def test_uniform_rule(total: int, frames: int, kept: list[int]) -> None:
    assert uniform(total, frames) == kept


def test_uniform_is_the_truncated_linear_rule() -> None:
    for frames in range(2, 12):
        for total in range(frames, 200):
            assert uniform(total, frames) == [int(i * (total - 1) / (frames - 1)) for i in range(frames)]


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_uniform_frames_of_every_container(container: str, codec: str) -> None:
    item = load(Source(make(container, codec)))
    kept = [i * 39 // 7 for i in range(8)]
    assert numbers(item) == kept
    metadata = item["video"]["video_metadata"]
    assert metadata["frames_indices"] == kept
    assert (metadata["total_num_frames"], metadata["width"], metadata["height"]) == (40, 64, 48)
    if container != "h264":
        assert times_of(item) == pytest.approx([k / 20 for k in kept], abs=0.002)
        assert metadata["duration"] == pytest.approx(2, abs=0.002)


@pytest.mark.parametrize(("container", "codec"), CONTAINERS[:5])
@pytest.mark.parametrize("clip", [(None, None), (0.6, 1.5), (1.3, None), (None, 0.2)])
def test_seeking_equals_decoding_all(
    monkeypatch: pytest.MonkeyPatch, container: str, codec: str, clip: tuple[float | None, float | None]
) -> None:
    raw = make(container, codec)
    source = Source(raw, start=clip[0], end=clip[1])
    sought = load(source)
    monkeypatch.setattr(video_module, "_INDEXED", ())
    assert_same(sought, load(source))


@pytest.mark.parametrize(("container", "codec"), CONTAINERS[:5])
def test_seeking_decodes_less(monkeypatch: pytest.MonkeyPatch, container: str, codec: str) -> None:
    decoded = []
    original = video_module._decoded

    def counting(*args: object) -> Iterator[object]:
        for frame in original(*args):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_module, "_decoded", counting)
    options = {"g": "10", "keyint_min": "10", **OPTIONS.get(codec, {})}
    load(Source(video(container, codec, frames=120, options=options), start=8.0), Limits(frames=1))
    assert 1 <= len(decoded) <= 20


def with_hidden_frames(raw: bytes) -> bytes:
    """A VP8 file with a never-shown copy before each keyframe, in a packet of its own, as alt-ref encoders write."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(raw)) as source, av.open(buffer, "w", format="webm") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size == 0:
                continue
            if packet.is_keyframe and packet.pts > 0:
                hidden = av.Packet(bytes([bytes(packet)[0] & ~16]) + bytes(packet)[1:])
                hidden.pts = hidden.dts = packet.pts - 20
                hidden.time_base, hidden.stream = packet.time_base, stream
                target.mux(hidden)
            packet.stream = stream
            target.mux(packet)
    return buffer.getvalue()


def test_hidden_frames_of_vp8_are_not_counted() -> None:
    plain = make("webm", "libvpx")
    hidden = with_hidden_frames(plain)
    with av.open(io.BytesIO(hidden)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) > 40
    assert_same(load(Source(hidden)), load(Source(plain)))


def test_few_frames_are_not_padded() -> None:
    assert numbers(load(Source(video(frames=3)))) == [0, 1, 2]
    one = load(Source(video(frames=1)))
    assert numbers(one) == [0]
    assert times_of(one) == [0]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_a_clip_holds_start_and_not_end(container: str) -> None:
    raw = video(container, frames=60, rate=10)
    item = load(Source(raw, start=2.0, end=2.5))
    assert numbers(item) == [20, 21, 22, 23, 24]
    assert times_of(item) == pytest.approx([2.0, 2.1, 2.2, 2.3, 2.4], abs=0.002)


def test_a_clip_between_two_frames_keeps_the_nearest() -> None:
    raw = video(frames=10, rate=10)
    assert numbers(load(Source(raw, start=0.31, end=0.32))) == [3]
    assert numbers(load(Source(raw, start=0.38, end=0.39))) == [4]
    assert numbers(load(Source(raw, start=0.95))) == [9]


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("webm", "libvpx")])
def test_variable_rate_keeps_true_times(container: str, codec: str) -> None:
    times = [0, 40, 80, 500, 540, 1500, 1540, 1580, 3000, 3040]
    item = load(Source(video(container, codec, times=times)))
    kept = [0, 1, 2, 3, 5, 6, 7, 9]
    assert numbers(item) == kept
    assert times_of(item) == pytest.approx([times[k] / 1000 for k in kept], abs=0.0015)
    assert numbers(load(Source(video(container, codec, times=times), start=1.0, end=2.0))) == [5, 6, 7]


def test_sampling_at_a_rate() -> None:
    raw = video(frames=40, rate=20)
    limits = Limits(fps=4)
    assert numbers(load(Source(raw), limits)) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert numbers(load(Source(raw, start=0.5, end=1.0), limits)) == [10, 15]
    assert numbers(load(Source(raw), Limits(fps=1000))) == list(range(40))
    assert numbers(load(Source(raw), Limits(fps=0.01))) == [0]
    assert numbers(load(Source(raw), Limits(fps=4, max_frames=3))) == [0, 15, 35]


def test_a_still_stretch_is_sampled_by_what_is_on_screen() -> None:
    times = [0, 40, 80, 120, 3000, 3040]
    assert numbers(load(Source(video("matroska", times=times)), Limits(fps=1))) == [0, 3, 4]


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_of_a_phone_is_applied(turn: int) -> None:
    item = load(Source(video(turn=turn, frames=2)))
    metadata = item["video"]["video_metadata"]
    upright = (64, 48) if turn == 180 else (48, 64)
    assert (metadata["width"], metadata["height"]) == upright
    array = item["video"]["array"]
    assert array.shape[1:3] == upright[::-1]
    assert number_of(np.rot90(array[1], -turn // 90)) == 1


def test_large_frames_are_scaled_down() -> None:
    for raw in (video(frames=2, size=(320, 160)), np.stack([numbered(i, 320, 160) for i in range(2)])):
        item = load(Source(raw), Limits(max_side=80))
        assert item["video"]["array"].shape == (2, 40, 80, 3)
        assert (item["video"]["video_metadata"]["width"], item["video"]["video_metadata"]["height"]) == (320, 160)
        assert numbers(item) == [0, 1]


def test_frames_given_as_a_list_or_an_array(tmp_path: Path) -> None:
    arrays = [numbered(i) for i in range(20)]
    (tmp_path / "0.png").write_bytes(image_bytes(Image.fromarray(arrays[0]), "PNG"))
    mixed = [str(tmp_path / "0.png"), image_bytes(Image.fromarray(arrays[1]), "PNG"), Image.fromarray(arrays[2])]
    kept = [i * 19 // 7 for i in range(8)]
    for frames in (np.stack(arrays), arrays, mixed + arrays[3:]):
        item = load(Source(frames))  # type: ignore[arg-type]
        assert numbers(item) == item["video"]["video_metadata"]["frames_indices"] == kept
    assert numbers(load(Source(mixed))) == [0, 1, 2]
    assert numbers(load(Source(arrays, start=2.0, end=3.0))) == [4, 5]


def test_only_the_frames_kept_are_opened() -> None:
    frames = [numbered(i) if i in (0, 9) else "/nowhere.png" for i in range(10)]
    assert numbers(load(Source(frames), Limits(frames=2))) == [0, 9]
    with pytest.raises(MediaError, match="frame 1 of <frames: 10>"):
        load(Source(frames))


def test_frames_of_another_size_are_brought_to_the_first() -> None:
    item = load(Source([numbered(3), numbered(5, 128, 96), photo()]))
    assert item["video"]["array"].shape == (3, 48, 64, 3)
    assert numbers(item)[:2] == [3, 5]


@pytest.mark.parametrize(
    "frames", [[], [[numbered(0)]], [b"text"], [np.zeros((2, 4, 4, 3), np.uint8)], [samples()["mp4"]], [None]]
)
def test_lists_that_are_no_frames(frames: list[object]) -> None:
    with pytest.raises(MediaError):
        load(Source(frames))


def test_sound_alone_is_no_video() -> None:
    with pytest.raises(MediaError, match=r"no video stream \(found audio aac\)"):
        load(Source(audio()))


def test_truncated_videos_give_what_they_hold_or_an_error() -> None:
    for container in ("matroska", "mpegts"):
        raw = video(container, frames=60)
        item = load(Source(raw[: len(raw) * 2 // 3]), Limits(frames=100))
        got = numbers(item)[:-1]
        assert 10 < len(got) < 60
        assert got == list(range(len(got)))
    raw = video("mp4")
    with pytest.raises(MediaError):
        load(Source(raw[: len(raw) // 2]))


def test_playlists_cannot_name_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(samples()["mp4"])
    playlist = f"#EXTM3U\n#EXTINF:2,\n{tmp_path / 'secret.mp4'}\n#EXT-X-ENDLIST\n"
    assert load(Source(playlist.encode())) == {"text": playlist}
    concat = f"ffconcat version 1.0\nfile '{tmp_path / 'secret.mp4'}'\n"
    assert load(Source(concat.encode())) == {"text": concat}
