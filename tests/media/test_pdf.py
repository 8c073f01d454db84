"""Pages of a PDF: a picture of the chosen size and the text layer."""

from __future__ import annotations

import numpy as np
import pytest

from btoks.media import Limits, MediaError, Source, load, page_count
from media.samples import pdf, samples


@pytest.mark.parametrize("page", [1, 2, 3])
def test_each_page_has_its_picture_and_text(page: int) -> None:
    item = load(Source(samples()["pdf"], page=page), Limits(page_size=400))
    assert item["text"] == f"Page {page} of the sample"
    assert item["image"].size == (400, 200)
    pixels = np.asarray(item["image"])
    red = (pixels == (255, 0, 0)).all(-1)
    assert red.sum() == pytest.approx(page * 40 * 40, rel=0.02)
    assert (pixels[0] == 255).all()


def test_a_page_without_text_is_an_image_alone() -> None:
    assert load(Source(pdf(1, text=""))).keys() == {"image"}


@pytest.mark.parametrize("size", [1, 64, 333, 1280])
@pytest.mark.parametrize("box", ["0 0 200 100", "0 0 99.7 333.3", "0 0 14400 1", "-50 -50 51 50"])
def test_the_longest_side_is_exact(size: int, box: str) -> None:
    assert max(load(Source(pdf(1, box=box)), Limits(page_size=size))["image"].size) == size


def test_lines_and_words_broken_between_them() -> None:
    text = load(Source(pdf(1, text="A long exam-\nple of\nthree lines")))["text"]
    assert text == "A long example of\nthree lines"


def test_which_page() -> None:
    assert load(Source(samples()["pdf_page"]))["text"] == "Page 1 of the sample"
    with pytest.raises(MediaError, match=r"has 3 pages; choose one with page=1 to page=3"):
        load(Source(samples()["pdf"]))
    with pytest.raises(MediaError, match=r"has 3 pages, so there is no page 4"):
        load(Source(samples()["pdf"], page=4))
    with pytest.raises(MediaError, match=r"has 1 page, so there is no page 2"):
        load(Source(samples()["pdf_page"], page=2))


def test_counting_pages() -> None:
    assert page_count(Source(samples()["pdf"])) == 3
    with pytest.raises(MediaError, match="max_pages=2"):
        page_count(Source(samples()["pdf"]), Limits(max_pages=2))
    with pytest.raises(MediaError, match="max_pages=2"):
        load(Source(samples()["pdf"], page=1), Limits(max_pages=2))
    for sample in ("png", "mp4", "txt"):
        with pytest.raises(MediaError, match="no PDF"):
            page_count(Source(samples()[sample]))


def test_encrypted_and_empty_and_broken() -> None:
    for function in (load, page_count):
        with pytest.raises(MediaError, match="encrypted"):
            function(Source(samples()["pdf_encrypted"]))
        with pytest.raises(MediaError, match="no PDF with pages"):
            function(Source(pdf(0)))
        with pytest.raises(MediaError, match="no PDF with pages"):
            function(Source(b"%PDF-1.4\nrubbish"))
    assert "image" in load(Source(pdf(1, password=b"")))


def test_rubbish_before_the_header_is_allowed() -> None:
    assert load(Source(b"\n\n" + samples()["pdf_page"]))["text"] == "Page 1 of the sample"


def test_the_text_layer_is_cut_at_max_text() -> None:
    assert load(Source(samples()["pdf_page"]), Limits(max_text=6))["text"] == "Page 1"
