"""Originals: byte for byte, in ranges; and nothing that is not named by a row and under its root."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from PIL import Image

from btoks.bundled import sample
from btoks.library import Library
from btoks.media import Source, load
from btoks.server import create
from library.stored import write
from media import samples
from server.conftest import PAGE, Live, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTSIDE = "the secret of another folder"


def item(hit: dict[str, Any], what: str = "") -> str:
    return f"/v1/items/{quote(hit['id'], safe='')}{what}"


def test_ranges_are_exact(live: Live, files: Path) -> None:
    whole = (files / "deep" / "clip.mp4").read_bytes()
    size, url = len(whole), item(live.hit("clip.mp4"), "/file")
    plain = live.http.get(url)
    assert (plain.status_code, plain.content) == (200, whole)
    assert plain.headers["accept-ranges"] == "bytes"
    assert plain.headers["content-type"] == "video/mp4"
    assert plain.headers["content-length"] == str(size)
    for asked, start, end in (
        ("bytes=0-", 0, size),
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        (f"bytes={size - 1}-", size - 1, size),
        ("bytes=-50", size - 50, size),
        (f"bytes=5-{size * 2}", 5, size),
        (f"bytes=-{size * 2}", 0, size),
    ):
        part = live.http.get(url, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, whole[start:end]), asked
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)
    for asked in (f"bytes={size}-", "bytes=-0", "bytes=9-3"):
        refused = live.http.get(url, headers={"Range": asked})
        assert (refused.status_code, refused.headers["content-range"]) == (416, f"bytes */{size}"), asked
    for asked in ("bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "bytes=-"):
        assert live.http.get(url, headers={"Range": asked}).content == whole, asked


def test_what_has_not_changed_is_not_sent_again(live: Live) -> None:
    url = item(live.hit("clip.mp4"), "/file")
    tag = live.http.get(url).headers["etag"]
    assert live.http.get(url, headers={"If-None-Match": tag}).status_code == 304
    assert live.http.get(url, headers={"Range": "bytes=0-9", "If-Range": tag}).status_code == 206
    assert live.http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200


def test_nothing_is_served_as_a_page_of_our_own(live: Live) -> None:
    html = live.http.get(item(live.hit("page.html"), "/file"))
    assert html.text == PAGE
    assert html.headers["content-type"] == "text/plain; charset=utf-8"
    for name, kind in (("japan.png", "image/png"), ("apollo.pdf", "application/pdf"), ("fox.txt", "text/plain")):
        answer = live.http.get(item(live.hit(name), "/file"))
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_member_of_an_archive_is_sent(live: Live) -> None:
    hit = live.hit("nepal.png")
    want = (sample() / "flags" / "nepal.png").read_bytes()
    answer = live.http.get(item(hit, "/file"))
    assert (answer.status_code, answer.content) == (200, want)
    assert live.http.get(item(hit, "/file"), headers={"Range": "bytes=8-15"}).content == want[8:16]


def test_pages_and_thumbnails_are_pictures(live: Live, files: Path, library: Library) -> None:
    hit = live.hit("apollo.pdf")
    facts = live.http.get(item(hit)).json()
    assert facts["pages"] > 1
    assert facts["paths"] == [str(files / "apollo.pdf")]
    for page in (hit["page"], facts["pages"]):
        want = load(Source(files / "apollo.pdf", page=page))["image"]
        found = Image.open(io.BytesIO(live.http.get(item(hit, f"/page?page={page}")).content))
        assert found.size == want.size
        difference = [abs(a - b) for a, b in zip(found.resize((8, 8)).tobytes(), want.resize((8, 8)).tobytes())]  # noqa: B905
        assert max(difference) < 12
    own = live.http.get(item(hit, "/page")).content
    assert own == live.http.get(item(hit, f"/page?page={hit['page']}")).content
    assert live.http.get(item(hit, f"/page?page={facts['pages'] + 1}")).status_code == 404
    assert live.http.get(item(hit, "/page?page=0")).status_code == 422
    assert live.http.get(item(live.hit("fox.txt"), "/page")).status_code == 404
    flag = live.hit("japan.png")
    answer = live.http.get(item(flag, "/thumbnail"))
    assert (answer.headers["content-type"], answer.content) == ("image/jpeg", library.thumbnail(flag["id"]))
    assert live.http.get(item(live.hit("fox.txt"), "/thumbnail")).status_code == 404


def test_an_item_is_told_whole(live: Live, files: Path) -> None:
    hit = live.hit("fox.txt")
    facts = live.http.get(item(hit)).json()
    assert facts == {
        **{key: hit[key] for key in ("id", "path", "kind", "page", "start", "end", "text")},
        "folder": "",
        "year": facts["year"],
        "paths": [str(files / "fox.txt")],
        "pages": None,
        "metadata": {},
    }
    deep = live.http.get(item(live.hit("long.md"))).json()
    assert deep["folder"] == "deep"


ESCAPES = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "%c0%ae%c0%ae/etc/passwd",
    "file:///etc/passwd",
    "%00",
    "fox.txt",
    "' OR '1'='1",
    "x') OR ('1'='1",
)


@pytest.mark.parametrize("name", ESCAPES)
def test_no_other_path_is_readable(live: Live, files: Path, name: str) -> None:
    secret = write(files.parent, "secret.txt", OUTSIDE)
    names = (name, name.replace("etc/passwd", str(secret)), quote(name, safe=""))
    for each in names:
        for what in ("", "/file", "/page", "/thumbnail"):
            for prefix in ("/v1/items/", "/page/", "/"):
                # As it is, so that no client tidies it up.
                request = live.http.build_request(
                    "GET", httpx.URL(f"{live.url}", raw_path=f"{prefix}{each}{what}".encode())
                )
                answer = live.http.send(request)
                assert answer.status_code in (400, 404, 422), (prefix, each, what, answer.status_code)
                assert "root:" not in answer.text
                assert OUTSIDE not in answer.text


@pytest.fixture
def swapped(tmp_path: Path, model: Path) -> Iterator[tuple[Live, Path, Path]]:
    """A library of its own, the folder of its files, and a file beside that folder."""
    home = tmp_path / "home"
    write(home, "sub/deep/picture.png", samples.samples()["png"])
    write(home, "clip.mp4", samples.video(frames=24))
    with zipfile.ZipFile(home / "more.zip", "w") as archive:
        archive.write(sample() / "flags" / "nepal.png", "nepal.png")
    made = Library.create(tmp_path / "library", model=model)
    assert not made.add(home).errors
    secret = write(tmp_path, "outside/picture.png", OUTSIDE)
    with serving(create({"mine": made})) as live:
        yield live, home, secret


def test_a_link_swapped_in_is_refused(swapped: tuple[Live, Path, Path]) -> None:
    live, home, secret = swapped
    picture, clip = live.hit("picture.png"), live.hit("clip.mp4")

    def refused(hit: dict[str, Any]) -> None:
        answer = live.http.get(item(hit, "/file"))
        assert answer.status_code in (403, 404)
        assert OUTSIDE not in answer.text
        assert str(home) not in answer.text

    assert live.http.get(item(picture, "/file")).content == samples.samples()["png"]
    (home / "clip.mp4").unlink()
    refused(clip)
    (home / "clip.mp4").symlink_to(secret)
    refused(clip)
    (home / "clip.mp4").unlink()
    (home / "clip.mp4").symlink_to(os.path.relpath(secret, home))
    refused(clip)
    (home / "clip.mp4").unlink()
    (home / "clip.mp4").mkdir()
    refused(clip)
    (home / "clip.mp4").rmdir()
    os.mkfifo(home / "clip.mp4")
    refused(clip)
    shutil.rmtree(home / "sub" / "deep")
    (home / "sub" / "deep").symlink_to(secret.parent)
    refused(picture)
    (home / "sub" / "deep").unlink()
    shutil.rmtree(home / "sub")
    (home / "sub").symlink_to(secret.parents[1])
    refused(picture)
    # A link that stays inside is no danger.
    (home / "sub").unlink()
    write(home, "elsewhere/picture.png", samples.samples()["png"])
    (home / "sub").mkdir()
    (home / "sub" / "deep").symlink_to(home / "elsewhere")
    assert live.http.get(item(picture, "/file")).content == samples.samples()["png"]


def test_an_archive_that_was_swapped_gives_nothing_else(swapped: tuple[Live, Path, Path]) -> None:
    live, home, secret = swapped
    member = live.hit("nepal.png")
    with zipfile.ZipFile(home / "more.zip", "w") as archive:
        archive.write(secret, "nepal.png")
    assert live.http.get(item(member, "/file")).status_code == 404
    (home / "more.zip").unlink()
    shutil.copy(secret, home.parent / "other.zip")
    (home / "more.zip").symlink_to(home.parent / "other.zip")
    assert live.http.get(item(member, "/file")).status_code == 403


def test_a_table_names_no_file_outside(tmp_path: Path, model: Path) -> None:
    write(tmp_path, "pictures/inside.png", samples.samples()["png"])
    flag = sample() / "flags" / "japan.png"
    shutil.copy(flag, tmp_path / "outside.png")
    rows = '{"image": "inside.png", "text": "a"}\n{"image": "../outside.png", "text": "b"}\n'
    write(tmp_path, "pictures/rows.jsonl", rows)
    made = Library.create(tmp_path / "library", model=model)
    made.add(tmp_path / "pictures")
    with serving(create({"mine": made})) as live:
        inside, outside = live.hit("rows.jsonl#1"), live.hit("rows.jsonl#2")
        assert live.http.get(item(inside, "/file")).content == samples.samples()["png"]
        answer = live.http.get(item(outside, "/file"))
        assert answer.status_code == 403
        assert flag.read_bytes() not in answer.content


def test_the_folder_itself_may_be_reached_by_a_link(tmp_path: Path, model: Path) -> None:
    write(tmp_path, "real/note.txt", "a note")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    made = Library.create(tmp_path / "library", model=model)
    made.add(tmp_path / "link")
    with serving(create({"mine": made})) as live:
        assert live.http.get(item(live.hit("note.txt"), "/file")).text == "a note"
