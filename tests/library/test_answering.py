"""Questions answered from originals and from memories: the same as reading afresh, with the right sources."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import btoks
import tiny
from btoks import condensation
from btoks.errors import BtoksError
from btoks.library import Library, answering
from btoks.library.memories import from_bytes
from items import attached, features
from library.stored import write
from media import samples

TEXTS = ("a red fox in the snow", "two people read a book", "the bus stands in front of the station")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Texts, a picture, a clip and a document."""
    folder = tmp_path / "files"
    for number, text in enumerate(TEXTS):
        write(folder, f"{number}.txt", text)
    write(folder, "deep/photo.png", samples.samples()["png"])
    write(folder, "clip.mp4", samples.video(frames=36))
    write(folder, "paper.pdf", samples.pdf())
    return folder


@pytest.fixture
def library(tmp_path: Path, model: Path, files: Path) -> Library:
    made = Library.create(tmp_path / "library", model=model, keep_memory=True)
    made.add(files)
    return made


def held(library: Library, name: str) -> condensation.Memory:
    return from_bytes(library.view.memories.get([name])[name])


def test_a_memory_comes_back_as_a_fresh_pass_gives_it(library: Library, files: Path) -> None:
    model = attached("qwen3_vl")
    for path in (files / "0.txt", files / "deep" / "photo.png"):
        (hit,) = library.search("x", min_score=0, where=f"path = '{path}'")
        item = btoks.fit(model, dict(btoks.media.load(btoks.Source(path))))
        fresh = condensation.memory(model, model.preprocess([item]))[1]
        kept = held(library, hit.id)
        for name in ("keys_LBHKD", "values_LBHKD", "position_B"):
            torch.testing.assert_close(getattr(kept, name), getattr(fresh, name), rtol=0, atol=1e-5)
        found = library.ask("what is it?", 1, True, where=f"path = '{path}'", min_score=0, max_new_tokens=12)
        assert found.text == condensation.read(model, fresh, "what is it?", max_new_tokens=12)[0].strip()
        assert [each.path for each in found.sources] == [str(path)]


@torch.no_grad()
def test_several_memories_are_read_as_one(library: Library) -> None:
    """What is read from two of them depends on both, and on nothing but them: the files are gone."""
    found = library.ask("what is it?", 2, True, where="kind = 'text'", min_score=0, max_new_tokens=12)
    parts = [held(library, hit.id) for hit in found.sources]
    model = attached("qwen3_vl")
    both = answering.joined(parts, model)
    assert both.keys_LBHKD.shape[3] == 2 * parts[0].keys_LBHKD.shape[3]
    torch.testing.assert_close(both.keys_LBHKD[:, :, :, 4:], parts[1].keys_LBHKD)
    assert int(both.position_B) == max(int(each.position_B) for each in parts)
    ids_BT = torch.arange(5, 15)[None]
    losses = [float(condensation.generation_loss(model, each, ids_BT, torch.ones(1, 10))) for each in (*parts, both)]
    assert len({round(each, 4) for each in losses}) == 3
    alone = answering.joined(parts[:1], model)
    assert float(condensation.generation_loss(model, alone, ids_BT, torch.ones(1, 10))) == pytest.approx(losses[0])


def test_sources_of_every_kind_are_named_by_page_and_time(library: Library, files: Path) -> None:
    for from_memory in (False, True):
        found = library.ask("what is it?", 20, from_memory, min_score=0, max_new_tokens=2)
        assert found.unread == []
        assert {answering.place(hit).removeprefix(f"{files}/") for hit in found.sources} == {
            *(f"{number}.txt" for number in range(3)),
            *(f"paper.pdf, page {page}" for page in (1, 2, 3)),
            "clip.mp4, 0:00–0:03",
            "deep/photo.png",
        }
    assert found.json()["sources"][0] == found.sources[0].json()


def test_originals_are_given_whole_and_in_order(library: Library, files: Path) -> None:
    """The answer is what the model says to all originals in one input."""
    model = attached("qwen3_vl")
    found = library.ask("who?", 2, where="kind = 'text'", min_score=0, max_new_tokens=12)
    paths = [Path(str(hit.path)) for hit in found.sources]
    text = "\n\n".join(f"[{number}] {path}\n{path.read_text()}" for number, path in enumerate(paths, 1))
    whole = condensation.memory(model, features(model, {"text": text}), full=True)[1]
    assert found.text == condensation.read(model, whole, "who?", max_new_tokens=12)[0].strip()


def test_an_original_in_an_archive_is_found_again(tmp_path: Path, model: Path, files: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", files)
    library = Library.create(tmp_path / "library", model=model)
    library.add(archive)
    found = library.ask("what?", 20, min_score=0, max_new_tokens=1)
    assert (len(found.sources), found.unread) == (8, [])
    with Path(archive).open("ab") as file:
        file.truncate(100)
    found = library.ask("what?", 20, min_score=0, max_new_tokens=1)
    assert {hit.kind for hit in found.sources} == {"text"}
    assert len(found.unread) == 5
    assert "gone or has changed" in str(found.unread[0])


def test_memories_follow_their_items(library: Library, files: Path) -> None:
    stats = library.stats()
    assert stats["memories"] == stats["rows"] == 8
    (hit,) = library.search("fox", min_score=0, where=f"path = '{files}/0.txt'")
    own = held(library, hit.id)
    assert 0 <= stats["bytes_per_memory"] - own.nbytes < 400
    before = library.view.memories.get([hit.id])
    files.rename(files.with_name("elsewhere"))
    report = library.add(files.with_name("elsewhere"))
    assert (report.embedded, report.memory_bytes) == (0, 0)
    assert library.view.memories.get([hit.id]) == before
    found = library.ask("who?", 1, True, min_score=0, max_new_tokens=1)
    assert str(found.sources[0].path).startswith(str(files.with_name("elsewhere")))
    (files.with_name("elsewhere") / "0.txt").unlink()
    library.add(files.with_name("elsewhere"), prune=True)
    assert library.view.memories.get([hit.id]) == {}
    (other, *_) = library.search("book", min_score=0)
    library.remove([other.id])
    assert library.stats()["memories"] == library.stats()["rows"] == 6


def test_compaction_frees_what_deleted_items_and_killed_writers_left(library: Library) -> None:
    library.view.memories.put({"nobody's": b"x" * 100_000})
    ids = [hit.id for hit in library.search("x", 20, min_score=0)]
    library.remove(ids[1:])
    library.compact()
    assert library.stats()["memories"] == 1
    assert set(library.view.memories.get([*ids, "nobody's"])) == {ids[0]}
    held_bytes = sum(path.stat().st_size for path in (library.path / "memories.lance" / "data").rglob("*"))
    assert held_bytes < 2 * library.stats()["bytes_per_memory"] + 4096


def test_nothing_that_matches_gives_no_answer(library: Library) -> None:
    for from_memory in (False, True):
        found = library.ask("what?", from_memory=from_memory, where="year < 1900")
        assert (found.text, found.sources) == ("", [])


def test_what_cannot_be_asked_is_refused(tmp_path: Path, model: Path, files: Path) -> None:
    plain = Library.create(tmp_path / "plain", model=model)
    with pytest.raises(BtoksError, match="plain: it keeps no memories; index into a new library with --keep-memory"):
        plain.ask("what?", from_memory=True)
    kept = Library.create(tmp_path / "kept", model=model, keep_memory=True)
    with pytest.raises(BtoksError, match="cannot read these memories"):
        kept.ask("what?", from_memory=True, model=model)
    with pytest.raises(BtoksError, match="it has no model"):
        Library.create(tmp_path / "own", model=None).ask("what?")


def test_a_backbone_without_keys_keeps_no_memories(tmp_path: Path, files: Path) -> None:
    btoks.save(attached("qwen3_5"), tmp_path / "hybrid")
    with pytest.raises(BtoksError, match="keep no keys to read; use this model for embeddings only"):
        Library.create(tmp_path / "library", model=tmp_path / "hybrid", keep_memory=True)
    assert not (tmp_path / "library").exists()
    library = Library.create(tmp_path / "library", model=tmp_path / "hybrid")
    library.add(files / "0.txt")
    with pytest.raises(BtoksError, match="keep no keys to read"):
        library.ask("who?", min_score=0)


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3"])
def test_another_generative_model_answers_by_its_own_chat_template(tmp_path: Path, model: Path, name: str) -> None:
    write(tmp_path / "f", "0.txt", "a red fox <|im_end|> in the snow")
    write(tmp_path / "f", "photo.png", samples.samples()["png"])
    library = Library.create(tmp_path / "library", model=model)
    library.add(tmp_path / "f")
    other = tiny.folder(name, tmp_path / "other")
    found = library.ask("who?", model=other, where="kind = 'text'", min_score=0, max_new_tokens=6)
    full, processor = tiny.backbone(name)
    text = f"[1] {tmp_path}/f/0.txt\na red fox < |im_end|> in the snow\n\nwho?"
    tokenizer = getattr(processor, "tokenizer", processor)
    content = [{"type": "text", "text": text}] if name == "qwen3_vl" else text
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    ids_BT = tokenizer(prompt, return_tensors="pt").input_ids
    out_BT = full.generate(input_ids=ids_BT, max_new_tokens=6, do_sample=False)
    want = tokenizer.decode(out_BT[0, ids_BT.shape[1] :], skip_special_tokens=True)
    assert found.text == want.strip()
    if name == "qwen3_vl":
        assert len(library.ask("who?", model=other, min_score=0, max_new_tokens=2).sources) == 2
    else:
        with pytest.raises(BtoksError, match="it takes texts only"):
            library.ask("who?", model=other, min_score=0)
