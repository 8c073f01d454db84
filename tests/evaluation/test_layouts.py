"""What reaches the model, string for string: the benchmark's own prompts, ours, and a chat's."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from btoks.evaluation import Entry, Task, evaluate
from btoks.evaluation.encoding import Encoder
from btoks.evaluation.layouts import Side, prompted, verbatim
from btoks.evaluation.mmeb.registry import select, table
from btoks.evaluation.mmeb.tasks import tasks
from evaluation import mmeb_folder
from items import attached, fresh, picture

TEMPLATES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "templates.json").read_text(encoding="utf-8")
)
CHOICES = [row.name for row in select(task="V-QA")]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    data = mmeb_folder.write(tmp_path_factory.mktemp("mmeb"), table())
    return {task.name: task for task in tasks(select(), data=data, any_counts=True) if isinstance(task, Task)}


def kind(entry: Entry) -> str:
    return "video" if entry.video is not None else "image" if entry.image is not None else "text"


def filled(template: Any, instruction: Any, entry: Entry) -> str:
    """The benchmark's template with an entry's values, from behind the visual on."""
    if isinstance(template, dict):
        template, instruction = template[kind(entry)], instruction[kind(entry)]
    if kind(entry) == "text":
        # Two sets have a visual's placeholder in queries without one; it is left out.
        template = template.removeprefix("{visual}\n")
    text = template.removeprefix("{visual}").replace("{instruction}", instruction or "")
    return re.sub(r"\{[^}]*\}", lambda _: entry.text, text)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_benchmarks_own_prompts(name: str, found: dict[str, Task]) -> None:
    known, task = TEMPLATES[name], found[name]
    for entry in task.queries:
        assert verbatim(entry) == filled(known["query"], known["instruction"], entry)
    for entry in task.corpus:
        assert verbatim(entry) == filled(known["candidate"], known["candidate_instruction"], entry)


@pytest.mark.parametrize("name", CHOICES)
def test_the_benchmarks_own_questions(name: str, found: dict[str, Task]) -> None:
    asks = (
        " Given a video and a question, select the most accurate answer from the provided candidates. "
        "Return only the exact text of your chosen answer. Question:  "
    )
    for entry in found[name].queries:
        assert verbatim(entry) == asks + entry.text
    for entry in found[name].corpus:
        assert verbatim(entry) == entry.text


def test_a_space_before_a_line_end_goes_where_the_benchmark_takes_it_away() -> None:
    lines = Entry("q", text="Q: a \nA: b ", instruction="Look:", image="x.png", spacing=("\n", "\n"))
    assert verbatim(lines) == "\nLook: Q: a\nA: b\n"
    line = Entry("q", text="a \nb", instruction="Look:", image="x.png", spacing=(" ", ""))
    assert verbatim(line) == " Look: a \nb"
    assert verbatim(Entry("c", text=" a label \n", spacing=("", ""))) == " a label \n"


def test_the_instruction_goes_where_the_layout_wants_it() -> None:
    query = Entry("q", text="a dog", instruction="Find it:", spacing=("\n", "\n"))
    page = Entry("d", image="p.png", instruction="Understand it.", spacing=(" ", ""))
    assert prompted(query, "btoks", "query") == ("Find it:", {"text": "a dog"})
    assert prompted(page, "btoks", "document") == ("Understand it.", {"image": "p.png"})
    assert prompted(query, "chat", "query") == ("Find it:", {"text": "a dog"})
    assert prompted(page, "chat", "document") == ("", {"image": "p.png"})
    assert prompted(query, "vlm2vec", "query") == ("", {"text": "Find it: a dog\n"})
    photo = Entry("q", text="a dog", instruction="Find it:", image="p.png", spacing=("\n", "\n"))
    assert prompted(photo, "vlm2vec", "query") == ("Find it:", {"text": "a dog", "image": "p.png"})
    assert prompted(page, "vlm2vec", "document") == ("", {"text": " Understand it.", "image": "p.png"})
    plain = Entry("q", text="a dog", instruction="Find it:")
    assert prompted(plain, "vlm2vec", "query") == ("Find it:", {"text": "a dog"})


SIDES: tuple[Side, Side] = ("query", "document")


def of(task: Task, side: Side) -> Sequence[Entry]:
    return task.queries if side == "query" else task.corpus


ALL = [
    "VOC2007",
    "OK-VQA",
    "VisDial",
    "CIRR",
    "WebQA",
    "RefCOCO-Matching",
    "K700",
    "NExTQA",
    "MSR-VTT",
    "MomentSeeker",
    "ViDoRe_arxivqa",
]


@pytest.mark.parametrize("name", ALL)
def test_a_model_trained_on_the_benchmarks_prompts_gets_exactly_these(name: str, found: dict[str, Task]) -> None:
    with Encoder(fresh("qwen2_vl", layout="vlm2vec", tokens=0)) as encoder:
        for side in SIDES:
            for entry in of(found[name], side):
                have = encoder.rendered(entry, side)
                visual = "" if kind(entry) == "text" else re.escape(f"<|{kind(entry)}_pad|>") + "×[0-9]+"
                assert re.fullmatch(visual + re.escape(verbatim(entry)), have)


@pytest.mark.parametrize("name", ALL)
def test_ours_puts_visuals_on_lines_and_ends_in_one_newline(name: str, found: dict[str, Task]) -> None:
    with Encoder(attached("qwen3_vl")) as encoder:
        for side in SIDES:
            for entry in of(found[name], side)[:3]:
                have = encoder.rendered(entry, side)
                text = " ".join(part for part in (entry.instruction.rstrip(), entry.text) if part)
                assert have.endswith(f"{text}\n<|btok_0|><|btok_1|><|btok_2|><|btok_3|>")
                assert ("<|vision_end|>\n" in have) is (kind(entry) != "text")


def test_a_chat_has_the_instruction_in_its_system_turn(found: dict[str, Task]) -> None:
    task = found["ViDoRe_arxivqa"]
    system = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    asks = "Find a document image that matches the given query:"
    visual = "<|vision_start|><|image_pad|>×4<|vision_end|>"
    with Encoder(fresh("qwen3_vl", layout="chat", tokens=0)) as encoder:
        query, page = (encoder.rendered(of(task, side)[0], side) for side in SIDES)
    assert query == system.format(asks, "What was the 2012 payout?")
    assert page == system.format("Represent the user's input.", visual)


def test_the_result_states_the_layout() -> None:
    entries = [Entry(f"e{place}", image=picture(place)) for place in range(2)]
    task = Task("Two", entries, entries, {entry.id: {entry.id: 1.0} for entry in entries}, metric="hit@1")
    for layout in ("vlm2vec", "chat"):
        report = evaluate(fresh("qwen2_vl", layout=layout, tokens=0), [task])
        assert (report.model["layout"], report.model["tokens"]) == (layout, 0)
