"""Where the benchmark's data come from: a local folder, or the hub with its archives unpacked once.

DIR/<owner>/<repo>/<config>/<split>-*.parquet     annotations (DIR/<repo>/… is found too)
DIR/image-tasks/…, DIR/video-tasks/frames/…       media (below DIR/TIGER-Lab/MMEB-V2/… too)
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from btoks.convert import cache_dir
from btoks.evaluation.mmeb import registry
from btoks.evaluation.mmeb.media import home
from btoks.evaluation.mmeb.tables import Repository, patterns
from btoks.evaluation.task import DataError
from btoks.folder import replacing


@dataclass(frozen=True)
class Data:
    """The source of annotations and media: `folder`, or the hub without one; `commits` notes what media came from."""

    folder: Path | None = None
    commits: dict[str, str] = field(default_factory=dict)

    def repository(self, repo: str, config: str | Sequence[str] | None, split: str) -> Repository:
        """The annotations of a data set, fetched if they are not local."""
        if self.folder is None:
            return _fetched(repo, [config] if config is None or isinstance(config, str) else config, split)
        for name in (repo, repo.partition("/")[2]):
            if (self.folder / name).is_dir():
                return Repository(self.folder / name, repo)
        raise DataError(repo, f"no folder {repo} below {self.folder}", "complete the folder, or leave --data out")

    def media(self, dataset: str, archive: str, folders: Sequence[str]) -> Path:
        """The folder of a data set's media."""
        if self.folder is None:
            root = _unpacked(archive)
            self.commits["media"] = root.parent.name
            return home(dataset, [root], folders)
        shared = registry.media()["repo"]
        roots = [self.folder, self.folder / shared, self.folder / shared.partition("/")[2]]
        return home(dataset, [root for root in roots if root.is_dir()] or [self.folder], folders)


def _fetched(repo: str, configs: Sequence[str | None], split: str) -> Repository:
    """The files of the wanted configurations only, at one commit."""
    wanted = ["README.md"]
    folder = _snapshot(repo, wanted)
    for config in configs:
        wanted += patterns(folder, config, split)
    folder = _snapshot(repo, wanted, folder.name)
    return Repository(folder, repo, folder.name)


def _unpacked(archive: str) -> Path:
    """The root below which an archive's media lie; unpacked whole or not at all, once a commit."""
    media = registry.media()
    spec = media["archives"][archive]
    folder = _snapshot(media["repo"], spec["parts"])
    root: Path = cache_dir() / "mmeb-v2" / folder.name / archive
    if not root.is_dir():
        parts = [folder / part for part in spec["parts"]]
        lost = [part.name for part in parts if not part.is_file()]
        if lost:
            raise DataError(media["repo"], f"it has no {lost[0]}", "download it again")
        root.parent.mkdir(parents=True, exist_ok=True)
        with replacing(root) as part:
            _unpack(parts, part / spec["into"], spec.get("drop"))
    return root


def _snapshot(repo: str, wanted: Sequence[str], commit: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=commit, allow_patterns=list(wanted)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = f"it cannot be fetched ({str(error).splitlines()[0]})"
        raise DataError(repo, reason, "check the connection, or pass a local folder with --data") from error


def _unpack(parts: Sequence[Path], into: Path, drop: str | None) -> None:
    """A compressed archive, cut in parts or not, without its top folder `drop`."""
    into.mkdir(parents=True)
    try:
        with _Joined(parts) as joined, tarfile.open(fileobj=joined, mode="r|gz") as archive:
            for member in _kept(archive, drop):
                archive.extract(member, into, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        reason = f"a damaged archive ({error or type(error).__name__})"
        raise DataError(parts[0].name, reason, "delete it from the hub's cache and run again") from error


def _kept(archive: tarfile.TarFile, drop: str | None) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        path = PurePosixPath(member.name)
        if drop and path.parts[:1] == (drop,):
            path = path.relative_to(drop)
        if path.parts and (member.isfile() or member.isdir()):
            yield member.replace(name=str(path), deep=False)


class _Joined(io.RawIOBase):
    """Files read as one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self.rest = list(parts)
        self.file: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self.file is None:
                if not self.rest:
                    return 0
                self.file = self.rest.pop(0).open("rb")
            count: int = self.file.readinto(buffer)  # type: ignore[attr-defined]
            if count:
                return count
            self.file.close()
            self.file = None

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        super().close()
