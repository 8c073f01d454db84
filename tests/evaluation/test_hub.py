"""From the hub: only what is needed, at one commit, archives unpacked once; here from a cache that is already there."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from btoks.evaluation import DataError, Task
from btoks.evaluation.mmeb import registry
from btoks.evaluation.mmeb.registry import Row, select
from btoks.evaluation.mmeb.tables import Repository
from btoks.evaluation.mmeb.tasks import load
from evaluation import mmeb_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def row(name: str) -> Row:
    (found,) = select(dataset=name)
    return found


def cached(home: Path, repo: str) -> Path:
    """The folder of a repository's only snapshot in a hub cache."""
    root = home / f"datasets--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    return snapshot


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder's data laid out as a hub cache, media in archives, one of them cut in parts."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("BTOKS_CACHE", str(tmp_path / "cache"))
    names = ["VOC2007", "NExTQA", "ViDoRe_arxivqa"]
    local = mmeb_folder.write(tmp_path / "local", [row(name) for name in names])
    for name in names:
        shutil.copytree(local / row(name).repo, cached(tmp_path / "hub", row(name).repo), dirs_exist_ok=True)
    media = cached(tmp_path / "hub", "TIGER-Lab/MMEB-V2")
    pack(media, ["image-tasks/mmeb_v1.tar.gz"], local / "image-tasks", "MMEB")
    parts = registry.media()["archives"]["video_qa"]["parts"]
    pack(media, parts, local / "video-tasks" / "frames" / "video_qa", "")
    return tmp_path


def pack(media: Path, parts: list[str], folder: Path, top: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.add(folder, top or ".")
        link = tarfile.TarInfo("escape")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    size = -(-len(data.getvalue()) // len(parts))
    for place, part in enumerate(parts):
        (media / part).parent.mkdir(parents=True, exist_ok=True)
        (media / part).write_bytes(data.getvalue()[place * size : (place + 1) * size])


@pytest.mark.parametrize("name", ["VOC2007", "NExTQA", "ViDoRe_arxivqa"])
def test_the_hub_gives_what_the_folder_gives(name: str, hub: Path) -> None:
    have, want = load(row(name), any_counts=True), load(row(name), data=hub / "local", any_counts=True)
    media_commit = {} if name.startswith("ViDoRe") else {"media": COMMIT}
    assert have.about["data"] == {"repo": row(name).repo, "commit": COMMIT, **media_commit}
    assert (have.relevant, have.candidates) == (want.relevant, want.candidates)
    assert media(have) == media(want)


def media(task: Task) -> list[bytes]:
    found: list[bytes] = []
    for entry in [*task.queries, *task.corpus]:
        assert not entry.broken
        paths = entry.video or ([] if entry.image is None else [entry.image])
        found += [each if isinstance(each, bytes) else Path(each).read_bytes() for each in paths]
    return found


def test_archives_are_unpacked_once_and_nothing_leaves_their_folder(hub: Path) -> None:
    load(row("VOC2007"), any_counts=True)
    root = hub / "cache" / "mmeb-v2" / COMMIT / "image"
    assert [each.name for each in (root / "image-tasks").iterdir()] == ["VOC2007"]
    (root / "image-tasks" / "mark").touch()
    load(row("VOC2007"), any_counts=True)
    assert (root / "image-tasks" / "mark").exists()
    assert not list(root.parent.glob(".*"))


def test_an_archive_that_breaks_off_leaves_nothing(hub: Path) -> None:
    file = next(hub.glob("hub/*MMEB-V2/snapshots/*/image-tasks/*.tar.gz"))
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"mmeb_v1.tar.gz: a damaged archive"):
        load(row("VOC2007"), any_counts=True)
    assert not list((hub / "cache").rglob("image-tasks"))


def test_what_is_not_there(hub: Path) -> None:
    with pytest.raises(DataError, match=r"VLM2Vec/HMDB51: it cannot be fetched .*--data"):
        load(row("HMDB51"), any_counts=True)
    next(hub.glob("hub/*MMEB-V2/snapshots/*/video-tasks/frames/*-03")).unlink()
    with pytest.raises(DataError, match=r"TIGER-Lab/MMEB-V2: it has no video_qa.tar.gz-03"):
        load(row("NExTQA"), any_counts=True)


def test_a_readme_says_where_the_files_are(tmp_path: Path) -> None:
    mmeb_folder.write(tmp_path, [row("NExTQA")])
    home = tmp_path / row("NExTQA").repo
    (home / "MC").rename(home / "questions")
    repository = Repository(home, "NExTQA")
    with pytest.raises(DataError, match="no table of MC, split test"):
        repository.table("MC", "test")
    lines = ["---", "configs:", "- config_name: OE", "  data_files: open.parquet", "- config_name: MC", "  data_files:"]
    lines += [
        "  - split: train",
        "    path: nothing.parquet",
        "  - split: test",
        "    path: questions/*.parquet",
        "---",
    ]
    (home / "README.md").write_text("\n".join(lines))
    assert [record["video"] for record in repository.table("MC", "test").rows()] == [4001, 4002]
