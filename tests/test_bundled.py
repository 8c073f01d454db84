"""The bundled sample: licensed file by file, small, readable, captioned; and the tool that makes it."""

from __future__ import annotations

import importlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import av
import pypdfium2
import pytest
from PIL import Image, ImageDraw

from btoks.bundled import captions, sample

TOOLS = Path(__file__).parents[1] / "tools"
FILES = sorted(path.relative_to(sample()).as_posix() for path in sample().rglob("*") if path.is_file())
MEDIA = [path for path in FILES if path.startswith(("photos/", "flags/", "icons/", "videos/", "documents/"))]
ALLOWED = {
    "MIT",
    "Apache-2.0",
    "CC BY 4.0",
    "CC BY 4.0; puzzles Apache-2.0",
    "CC0 / public domain",
    "public domain",
    "public domain; CC0 / public domain",
    "CC BY-SA 3.0 (share alike)",
    "CC BY-SA 4.0 (share alike)",
}


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of tools/, which is no package."""
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    return importlib.import_module(name)


def licence_rows() -> list[list[str]]:
    lines = (sample() / "LICENSES.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def page_texts(content: bytes) -> list[str]:
    document = pypdfium2.PdfDocument(content)
    texts = [page.get_textpage().get_text_bounded() for page in document]
    document.close()
    return texts


def test_every_file_has_one_licence_row():
    assert sorted(row[0] for row in licence_rows()) == [path for path in FILES if path != "LICENSES.md"]


def test_licences_allow_bundling_and_name_origin_commit_and_author():
    for path, origin, commit, licence, author in licence_rows():
        if path == "captions.jsonl":
            continue
        assert licence in ALLOWED, path
        assert all(re.fullmatch(r"https://github\.com/[^/ ]+/[^/ ]+", part) for part in origin.split("; ")), path
        assert all(re.fullmatch(r"[0-9a-f]{40}", part) for part in commit.split("; ")), path
        assert author, path
        assert not re.search(r"cran|IR_Project|DMGNN|cmu", f"{path} {origin}", re.IGNORECASE), path


def test_share_alike_files_are_the_ones_from_share_alike_origins():
    marked = {row[0] for row in licence_rows() if "share alike" in row[3]}
    origins = re.compile(r"kanjivg|WikiTableQuestions|google-deepmind/xquad")
    assert marked == {row[0] for row in licence_rows() if origins.search(row[1])}
    assert {path.split("/")[0] for path in marked} == {"documents", "notes", "videos"}


def test_sample_is_small_and_mixed():
    assert sum((sample() / path).stat().st_size for path in FILES) <= 5_000_000
    counts = {
        kind: sum(path.endswith(kind) for path in FILES) for kind in (".jpg", ".png", ".mp4", ".pdf", ".txt", ".md")
    }
    assert counts[".jpg"] + counts[".png"] >= 150
    assert counts[".mp4"] >= 20
    assert counts[".pdf"] >= 10
    assert counts[".txt"] + counts[".md"] >= 20


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_decode_and_carry_no_metadata(suffix: str):
    for path in (path for path in FILES if path.endswith(suffix)):
        with Image.open(sample() / path) as image:
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[suffix], path
            assert max(image.size) <= 256, path
            assert not image.getexif(), path
            low, high = image.convert("L").getextrema()
            assert high - low > 50, f"{path}: almost blank"


def test_clips_are_h264_with_even_sides_and_something_moves():
    for path in (path for path in FILES if path.endswith(".mp4")):
        with av.open(str(sample() / path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p"), path
            frames = [frame.to_image().tobytes() for frame in container.decode(video=0)]
            assert stream.width % 2 == stream.height % 2 == 0, path
        assert len(set(frames)) >= 4, path


def test_notes_are_readable_text():
    for path in (path for path in FILES if path.startswith("notes/")):
        assert len(words((sample() / path).read_text(encoding="utf-8"))) > 10, path


def test_page_text_holds_the_words_of_its_first_caption():
    documents = {caption.path for caption in captions() if caption.path.suffix == ".pdf"}
    layers = {path: page_texts(path.read_bytes()) for path in documents}
    for caption in captions():
        if caption.page is not None:
            on_page = set(words(layers[caption.path][caption.page - 1]))
            assert set(words(caption.texts[0])) <= on_page, (caption.path, caption.page)


def test_captions_cover_every_picture_clip_and_page_once():
    expected = []
    for path in MEDIA:
        full = sample() / path
        pages = range(1, len(page_texts(full.read_bytes())) + 1) if path.endswith(".pdf") else [None]
        expected += [(full, page) for page in pages]
    assert [(caption.path, caption.page) for caption in captions()] == expected
    for caption in captions():
        assert 1 <= len(caption.texts) <= 4, caption.path
        assert len(set(caption.texts)) == len(caption.texts), caption.path
        assert all(text == text.strip() and text for text in caption.texts), caption.path
    assert all(caption.path.is_absolute() for caption in captions())


def test_pdf_writer_gives_equal_bytes_and_its_text_back(monkeypatch: pytest.MonkeyPatch):
    pdf = tool("sample_pdf", monkeypatch)
    picture = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(picture, "JPEG")
    text = r"Ça coûte 5 € (à peu près) \ “vraiment” – groß, ¿no?"
    pages = [
        pdf.Page("Title (one)", (text, "word " * 150), picture=picture.getvalue()),
        pdf.Page(
            "Two", table=(("Name", "Height in metres"), ("First Canadian Place", "298.1 m")), width=300, height=200
        ),
    ]
    content = pdf.write_pdf(pages)
    assert content == pdf.write_pdf(pages)
    first, second = page_texts(content)
    assert words(first) == words(f"Title (one) {text} {'word ' * 150}")
    assert "(à peu près) \\ “vraiment” – groß, ¿no?" in " ".join(first.split())
    assert words(second) == words("Two Name Height in metres First Canadian Place 298.1 m")


def test_pdf_text_stays_inside_the_page(monkeypatch: pytest.MonkeyPatch):
    pdf = tool("sample_pdf", monkeypatch)
    for path in (path for path in FILES if path.endswith(".pdf")):
        document = pypdfium2.PdfDocument(sample() / path)
        for page in document:
            layer = page.get_textpage()
            boxes = [layer.get_rect(k) for k in range(layer.count_rects())]
            width, height = page.get_size()
            assert min(left for left, _, _, _ in boxes) >= pdf.MARGIN - 2, path
            assert min(bottom for _, bottom, _, _ in boxes) >= pdf.MARGIN - 8, path
            assert max(right for _, _, right, _ in boxes) <= width - pdf.MARGIN + 2, path
            assert max(top for _, _, _, top in boxes) <= height - pdf.MARGIN + 2, path
        document.close()


def test_pdf_writer_refuses_what_it_cannot_set(monkeypatch: pytest.MonkeyPatch):
    pdf = tool("sample_pdf", monkeypatch)
    with pytest.raises(ValueError, match="Long: does not fit"):
        pdf.write_pdf([pdf.Page("Long", ("word " * 5000,))])
    with pytest.raises(ValueError, match="Wide: does not fit"):
        pdf.write_pdf([pdf.Page("Wide", table=(("W" * 80, "b"),))])
    with pytest.raises(ValueError, match="can't encode"):
        pdf.write_pdf([pdf.Page("Ελληνικά")])


def test_clip_encoder_gives_equal_bytes_and_the_frames_back(monkeypatch: pytest.MonkeyPatch):
    media = tool("sample_media", monkeypatch)
    frames = []
    for k in range(5):
        frame = Image.new("RGB", (65, 49), "white")
        ImageDraw.Draw(frame).rectangle((8 * k, 8, 8 * k + 15, 40), fill="blue")
        frames.append(frame)
    content = media.write_mp4(frames, fps=4)
    assert content == media.write_mp4(frames, fps=4)
    with av.open(io.BytesIO(content)) as container:
        assert container.streams.video[0].average_rate == 4
        decoded = [frame.to_image() for frame in container.decode(video=0)]
    assert [image.size for image in decoded] == [(64, 48)] * 5
    for k, image in enumerate(decoded):
        red, _, blue = image.getpixel((8 * k + 8, 24))
        assert blue - red > 150
        assert min(image.getpixel((60, 4))) > 200


def test_tool_refuses_media_of_another_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    entries = tool("sample_entries", monkeypatch)
    records = [
        {"id": "a-cls", "query": {"image": "a.png"}, "positives": [{"text": "x"}], "split": "train"},
        {"id": "b-cls", "query": {"text": "?"}, "positives": [{"video": ["b.png"]}], "split": "test"},
    ]
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "records.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    folder = entries.open_folder(tmp_path, "some")
    assert folder.media("a.png") == tmp_path / "some" / "a.png"
    assert [record["id"] for record in folder.train] == ["a-cls"]
    with pytest.raises(ValueError, match=r"some/b\.png: used by a dev or test record"):
        folder.media("b.png")


def test_tool_takes_nothing_from_folders_that_may_not_be_bundled():
    chosen = json.loads((TOOLS / "sample.json").read_text(encoding="utf-8"))
    assert not {"cranfield", "motion"} & set(chosen["origins"])
