"""`/v1/embeddings` through the official client, and `btoks doctor` on a server."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

import btoks
from btoks import doctor
from btoks.library import Library
from btoks.server import Settings, create
from command import run
from items import attached, near, streamed
from server.conftest import Live, serving
from server.test_search import data_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}v1", api_key="none", max_retries=0) as opened:
        yield opened


def vectors(answer: Any) -> NDArray[np.float32]:
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return np.array([each.embedding for each in answer.data], np.float32)


def test_texts_as_the_client_sends_them(client: openai.OpenAI, model: Path) -> None:
    texts = ["a red fox", "Füchse – 狐 🦊", "a red fox " * 300]
    want = streamed(attached("qwen3_vl"), texts)
    answer = client.embeddings.create(model="tiny", input=texts)
    near(vectors(answer), want)
    assert answer.model == model.name
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 1_000
    near(vectors(client.embeddings.create(model="tiny", input=texts[0], encoding_format="float")), want[:1])
    encoded = client.embeddings.with_raw_response.create(model="x", input="a red fox", encoding_format="base64")
    sent = json.loads(encoded.text)["data"][0]["embedding"]
    near(np.frombuffer(base64.b64decode(sent), "<f4"), want[0])


def test_pictures_and_clips_as_well(client: openai.OpenAI, files: Path) -> None:
    picture, clip = files / "japan.png", files / "deep" / "clip.mp4"
    image, video = data_url(picture, "image/png"), data_url(clip, "video/mp4")
    inputs: Any = [{"image": image}, "words", {"text": "what is it?", "image": image}, {"video": video}]
    given = [{"image": str(picture)}, "words", {"text": "what is it?", "image": str(picture)}, {"video": str(clip)}]
    near(vectors(client.embeddings.create(model="tiny", input=inputs)), streamed(attached("qwen3_vl"), given))


def test_the_task_and_the_length_can_be_chosen(client: openai.OpenAI) -> None:
    tiny = attached("qwen3_vl")
    for task in ("query", "document"):
        answer = client.embeddings.create(model="tiny", input="a fox", extra_body={"task": task})
        near(vectors(answer), streamed(tiny, ["a fox"], task=task))
    cut = vectors(client.embeddings.create(model="tiny", input="a fox", dimensions=16))[0]
    whole = streamed(tiny, ["a fox"])[0]
    near(cut, whole[:16] / np.linalg.norm(whole[:16]))
    with pytest.raises(openai.BadRequestError, match="64 dimensions"):
        client.embeddings.create(model="tiny", input="a fox", dimensions=65)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("", openai.BadRequestError),
        ([], openai.UnprocessableEntityError),
        ([[1, 2, 3]], openai.UnprocessableEntityError),
        ([{"image": "data:image/png;base64,AAAA"}], openai.BadRequestError),
        ([{"image": "photos/cat.jpg"}], openai.UnprocessableEntityError),
        ([{"text": "a"}] * 65, openai.BadRequestError),
    ],
)
def test_the_client_raises_what_is_wrong(client: openai.OpenAI, given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        client.embeddings.create(model="tiny", input=given)


def test_a_token_is_the_clients_key(folder: Path) -> None:
    with serving(create({"mine": Library.open(folder)}, settings=Settings(token="key"))) as live:
        base = f"{live.url}v1"
        with openai.OpenAI(base_url=base, api_key="key", max_retries=0) as good:
            assert len(good.embeddings.create(model="tiny", input="a").data) == 1
        with (
            openai.OpenAI(base_url=base, api_key="other", max_retries=0) as bad,
            pytest.raises(openai.AuthenticationError, match="a token is needed"),
        ):
            bad.embeddings.create(model="tiny", input="a")


def test_a_model_can_be_served_without_a_library(model: Path) -> None:
    with serving(create({}, models={"tiny": btoks.load(model)})) as live:
        near(
            np.array(live.http.post("/v1/embeddings", json={"input": "a fox"}).json()["data"][0]["embedding"]),
            streamed(attached("qwen3_vl"), ["a fox"])[0],
        )
        assert live.http.post("/v1/search", json={"query": "a fox"}).status_code == 404
        assert live.http.get("/v1/libraries").json() == {"libraries": []}


def test_the_doctor_agrees_with_a_server_of_the_model(live: Live, model: Path, tmp_path: Path) -> None:
    findings = doctor.check_server(live.url, model)
    assert [finding.agrees for finding in findings] == [True] * 5
    ran = run("doctor", live.url, "--model", model, "--json")
    assert ran.status == 0, ran.err
    assert [each["reason"] for each in ran.records] == [None] * 5
    other = tmp_path / "other"
    btoks.save(attached("qwen3"), other)
    ran = run("doctor", f"{live.url}v1", "--model", other)
    assert ran.status == 1
    assert "no" in ran.out


class _Other(BaseHTTPRequestHandler):
    """A server of another make: a vector a token, pictures only as messages, no video."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        given = body.get("input")
        if "messages" in body:
            content = body["messages"][0]["content"]
            given = {("image" if "image_url" in each else "text"): each.get("text") for each in content}
            given["image"] = content[0]["image_url"]["url"]
        elif isinstance(given, dict):
            self.answer(400, {"detail": "input must be a string"})
            return
        else:
            given = {"text": given}
        states_KD = self.server.states(given)  # type: ignore[attr-defined]
        noise_TD = np.ones((3, states_KD.shape[1]), np.float32)
        self.answer(200, {"data": [{"data": np.concatenate([noise_TD, states_KD]).tolist()}]})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        return


def test_the_doctor_pools_what_comes_a_token_and_names_what_is_refused(model: Path) -> None:
    from items import token_states

    tiny = attached("qwen3_vl")
    with HTTPServer(("127.0.0.1", 0), _Other) as server:
        server.states = lambda given: token_states(tiny, doctor._decoded(given)).float().numpy()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            findings = doctor.check_server(f"http://127.0.0.1:{server.server_port}/pooling", model)
        finally:
            server.shutdown()
            thread.join()
    assert [finding.agrees for finding in findings] == [True, True, True, True, False]
    assert findings[4].reason == "the server answers 400: input must be a string"


def test_the_doctor_says_why_there_is_no_answer(folder: Path, model: Path) -> None:
    assert "no answer that can be read" in run("doctor", "http://127.0.0.1:1/", "--model", model).line
    assert "it is no URL of a server" in run("doctor", "ftp://host", "--model", model).line
    assert "a folder has its own probes" in run("doctor", model, "--model", model).line
    with serving(create({"mine": Library.open(folder)}, settings=Settings(token="key"))) as live:
        assert "give its --token" in run("doctor", live.url, "--model", model).line
        assert run("doctor", live.url, "--model", model, "--token", "key").status == 0
