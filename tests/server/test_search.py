"""Search over HTTP gives what `Library.search` gives, whatever is asked and however."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import btoks
from btoks.library import Library
from btoks.server import create
from server.conftest import Live, serving

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ["id", "path", "kind", "page", "start", "end", "score", "text"]


def data_url(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def agree(found: list[dict[str, Any]], hits: list[Any]) -> None:
    """The same hits; scores may differ in the last bit with the batch a query was in."""
    assert [each["id"] for each in found] == [hit.id for hit in hits]
    for each, hit in zip(found, hits, strict=True):
        want = hit.json()
        assert list(each) == KEYS
        assert each.pop("score") == pytest.approx(want.pop("score"), abs=1e-5)
        assert each == want


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_score": 0},
        {"min_score": 0.3, "k": 3},
        {"min_score": 0, "where": "kind = 'image' and path like '%n.png'"},
        {"min_score": 0, "hybrid": True},
        {"min_score": 0, "group": "file", "k": 4},
        {"min_score": 0, "without": "a flag"},
    ],
)
def test_a_text_finds_what_the_library_finds(live: Live, library: Library, options: dict[str, Any]) -> None:
    agree(live.hits(query={"text": "a red fox"}, **options), library.search("a red fox", **options))
    assert live.hits(query="a red fox", **options) == live.hits(query={"text": "a red fox"}, **options)


def test_media_find_what_the_library_finds(live: Live, library: Library, files: Path) -> None:
    picture, clip, paper = files / "japan.png", files / "deep" / "clip.mp4", files / "apollo.pdf"
    sent = data_url(picture, "image/png")
    agree(live.hits(query={"image": sent}, min_score=0), library.search(picture, min_score=0))
    both = {"text": "a flag", "image": str(picture)}
    agree(live.hits(query={"text": "a flag", "image": sent}, min_score=0), library.search(both, min_score=0))
    video = live.hits(query={"video": data_url(clip, "video/mp4")}, min_score=0)
    agree(video, library.search(clip, min_score=0))
    upload = live.http.post("/v1/uploads", content=paper.read_bytes()).json()["id"]
    page = library.search(btoks.Source(paper, page=2), min_score=0)
    agree(live.hits(query={"upload": upload, "page": 2}, min_score=0), page)
    form = live.http.post("/v1/uploads", files={"file": ("flag.png", picture.read_bytes())}).json()["id"]
    agree(live.hits(query={"image": {"upload": form}}, min_score=0), library.search(picture, min_score=0))


def test_items_that_were_found_can_be_asked_for(live: Live, library: Library) -> None:
    flag, page = live.hit("japan.png")["id"], live.hit("apollo.pdf")["id"]
    agree(live.hits(like=flag, min_score=0), library.search(like=flag, min_score=0))
    agree(live.hits(like=[flag, page], min_score=0), library.search(like=[flag, page], min_score=0))
    mixed = library.search("snow", like=flag, min_score=0)
    agree(live.hits(query="snow", like=flag, min_score=0), mixed)


def test_many_at_once_get_what_each_would_get_alone(live: Live, library: Library) -> None:
    words = ("fox", "wolf", "bear", "owl", "hare", "deer", "lynx", "mouse", "stoat", "crow")
    queries = [f"{word} in the snow" for word in words]
    before = batches(live)
    with ThreadPoolExecutor(len(queries)) as pool:
        found = list(pool.map(lambda query: live.hits(query=query, min_score=0), queries))
    for query, hits in zip(queries, found, strict=True):
        agree(hits, library.search(query, min_score=0))
    assert batches(live) - before < len(queries)


def batches(live: Live) -> int:
    (line,) = (line for line in live.http.get("/metrics").text.splitlines() if "batch_inputs_count" in line)
    return int(float(line.split()[1]))


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"query": {"text": " "}}, 400, "nothing to look for"),
        ({}, 400, "there is no query"),
        ({"query": "fox", "where": "kin = 1"}, 400, "did you mean 'kind'?"),
        ({"query": "fox", "where": "score > 1"}, 400, "a score belongs to a query"),
        ({"query": "fox", "k": 0}, 422, "body.k"),
        ({"query": "fox", "limit": 3}, 422, "body.limit"),
        ({"query": "fox", "library": "other"}, 404, "no such library"),
        ({"like": "nothing"}, 400, "the library has none of this id"),
        ({"query": {"image": "/etc/passwd"}}, 422, "image"),
        ({"query": {"image": "http://127.0.0.1:1/a.png"}}, 422, "image"),
        ({"query": {"image": "data:image/png;base64,aGVsbG8="}}, 400, "it is a text"),
        ({"query": {"image": "data:image/png;base64,%%"}}, 400, "base64"),
        ({"query": {"upload": "0" * 32}}, 404, "no such upload"),
        ({"query": {"image": {"upload": "../../../../etc/passwd"}}}, 422, "upload"),
        ({"query": {"text": "fox", "page": 2}}, 400, "a text has no page"),
        ({"query": {"image": ""}, "hybrid": True}, 422, "image"),
    ],
)
def test_what_is_wrong_is_told_in_one_shape(live: Live, body: dict[str, Any], status: int, told: str) -> None:
    answer = live.http.post("/v1/search", json=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert told in answer.json()["error"]["message"]
    assert str(live.state.shelves["mine"].library.path) not in answer.text


def test_hybrid_without_words_and_bad_json_are_told(live: Live, files: Path) -> None:
    body = {"query": {"image": data_url(files / "japan.png", "image/png")}, "hybrid": True}
    assert "the query has no text" in live.http.post("/v1/search", json=body).json()["error"]["message"]
    for content in (b"{", b"[]", b'{"query": "\xff"}', json.dumps({"query": "\ud800"}).encode()):
        headers = {"Content-Type": "application/json"}
        answer = live.http.post("/v1/search", content=content, headers=headers)
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["error"]["message"]


def test_libraries_are_chosen_by_name_and_share_their_model(folder: Path, tmp_path: Path, model: Path) -> None:
    other = Library.create(tmp_path / "other", model=model)
    (tmp_path / "note.txt").write_text("a note about a wolf")
    other.add(tmp_path / "note.txt")
    first = Library.open(folder)
    vectors = Library.create(tmp_path / "vectors", model=None)
    libraries = {"mine": first, "other": Library.open(other.path, model=first.model), "vectors": vectors}
    with serving(create(libraries)) as live:
        assert len(live.state.engines) == 1
        (hit,) = live.hits(query="a wolf", library="other", min_score=0)
        assert hit["path"] == str(tmp_path / "note.txt")
        asked = {"query": "a wolf", "min_score": 0, "k": 100}
        by_query = live.http.post("/v1/search?library=other", json=asked).json()["hits"]
        assert by_query == [hit]
        assert len(live.hits(**asked)) > 1
        assert live.http.get(f"/v1/items/{hit['id']}").status_code == 404
        assert live.http.get(f"/v1/items/{hit['id']}?library=other").json()["text"] == "a note about a wolf"
        told = live.http.get("/v1/libraries").json()["libraries"]
        assert [(each["name"], each["model"], each["items"]) for each in told] == [
            ("mine", model.name, len(live.hits(**{**asked, "k": 1000}))),
            ("other", model.name, 1),
            ("vectors", None, 0),
        ]
        assert live.http.post("/v1/search", json={**asked, "library": "vectors"}).status_code == 400
        answered = live.http.get("/v1/libraries/vectors/map")
        assert answered.json() == {"items": [], "version": 0}


def test_a_question_is_answered_from_the_best_hits(live: Live, library: Library) -> None:
    body = {"question": "what runs in the snow?", "min_score": 0, "k": 2, "max_new_tokens": 4}
    answer = live.http.post("/v1/ask", json=body).json()
    want = library.ask("what runs in the snow?", 2, min_score=0, max_new_tokens=4)
    assert answer["answer"] == want.text
    assert [each["id"] for each in answer["sources"]] == [each.id for each in want.sources]
    assert live.http.post("/v1/ask", json={**body, "from_memory": True}).status_code == 400
