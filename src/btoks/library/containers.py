"""Files that hold others: archives, whose members are files, and tables, whose rows name a text or a medium."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tarfile
import zipfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library.columnar import is_arrow
from btoks.library.columnar import rows as columnar_rows
from btoks.library.names import shown
from btoks.library.schema import RESERVED
from btoks.media import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HEAD = 512
_TAR_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
_LARGEST, _MOST = 256 << 20, 1 << 34
"""Bytes of one member, and of all members of one archive, once unpacked."""
_MEDIA = ("image", "video")
_OWN = (*_MEDIA, "text", "page", "start", "end", "id")
_READERS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_OFFICE = ("[Content_Types].xml", "mimetype")


@dataclass(frozen=True)
class Entry:
    """Something a file holds, the file itself mostly: under which name, with what content, and how it is opened."""

    path: str
    content: str
    source: Source | None
    text: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def digest(*pieces: bytes) -> str:
    """The name of a content, of 32 digits."""
    state = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        state.update(piece)
    return state.hexdigest()


def file_digest(path: str | Path) -> str:
    """The name of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def entries(path: str, content: str) -> Iterator[Entry | BtoksError]:
    """What a file holds: its members, its rows, or itself."""
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from _checked(path, _zip(path))
    elif head.startswith(_TAR_MAGIC) or head[257:262] == b"ustar":
        yield from _checked(path, _tar(path))
    elif head.startswith(b"PAR1") or is_arrow(path, head):
        yield from _table(path, "columns")
    elif _names_a_column(path):
        yield from _table(path, _READERS[Path(path).suffix.lower()])
    else:
        yield Entry(path, content, Source(Path(path)))


def _checked(path: str, members: Iterator[tuple[str, bytes] | BtoksError]) -> Iterator[Entry | BtoksError]:
    """The members of an archive; however much it promises, it is read no further than the limit."""
    total = 0
    try:
        for member in members:
            if isinstance(member, BtoksError):
                yield member
                continue
            name, data = member
            total += len(data)
            if total > _MOST:
                yield BtoksError(
                    shown(path), f"it unpacks to more than {_MOST >> 30} GiB", "unpack it and index the folder"
                )
                return
            if data:
                yield Entry(f"{path}/{name}", digest(data), Source(data))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, ValueError, NotImplementedError) as error:
        yield BtoksError(shown(path), f"the archive cannot be read ({error})", "repair it, or unpack it")
    except OSError as error:
        if error.errno is not None:
            raise
        yield BtoksError(shown(path), f"the archive cannot be read ({error})", "repair it, or unpack it")


def _zip(path: str) -> Iterator[tuple[str, bytes] | BtoksError]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if infos and infos[0].filename in _OFFICE:
            yield BtoksError(shown(path), "office documents and e-books cannot be read", "save it as a PDF")
            return
        for info in infos:
            if not info.is_dir() and _visible(info.filename):
                with archive.open(info) as file:
                    yield _member(path, info.filename, file)


def _tar(path: str) -> Iterator[tuple[str, bytes] | BtoksError]:
    with tarfile.open(path) as archive:
        for info in archive:
            if info.isfile() and _visible(info.name):
                file = archive.extractfile(info)
                if file is not None:
                    with closing(file):
                        yield _member(path, info.name, file)


def _visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".")


def _member(path: str, name: str, file: IO[bytes]) -> tuple[str, bytes] | BtoksError:
    data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        where = f"{shown(path)}/{shown(name)}"
        return BtoksError(where, f"it is larger than {_LARGEST >> 20} MiB", "unpack it and index the folder")
    return name.replace("\0", ""), data


def _names_a_column(path: str) -> bool:
    """Whether a file called a table is one: its first row names a text, a picture or a video."""
    reader = _READERS.get(Path(path).suffix.lower())
    if reader is None:
        return False
    try:
        row = next(_rows(path, reader), None)
    except (ValueError, csv.Error):
        return False
    return isinstance(row, dict) and bool({"text", *_MEDIA} & set(row))


def _rows(path: str, reader: str) -> Iterator[Any]:
    if reader == "columns":
        yield from columnar_rows(path)
        return
    with Path(path).open(encoding="utf-8-sig", newline="" if reader != "jsonl" else None) as lines:
        if reader == "jsonl":
            yield from (json.loads(line) for line in lines if line.strip())
        else:
            yield from csv.DictReader(lines, dialect="excel" if reader == "csv" else "excel-tab")


def _table(path: str, reader: str) -> Iterator[Entry | BtoksError]:
    """A table's rows; what is wrong with one does not stop the others, what is wrong with the file does."""
    rows = enumerate(_rows(path, reader), 1)
    while True:
        try:
            number, row = next(rows)
        except StopIteration:
            return
        except (ValueError, csv.Error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            detail = str(error).partition("\n")[0][:160]
            yield BtoksError(shown(path), f"the table cannot be read further ({detail})", "mend it, or skip it")
            return
        try:
            yield _entry(path, number, row)
        except BtoksError as error:
            yield error
        except (OSError, TypeError, ValueError) as error:
            where = f"{shown(path)}#{number}"
            yield BtoksError(where, f"the row cannot be used ({error})", "give text, or a path in image or video")


def _entry(path: str, number: int, row: Any) -> Entry:
    where = f"{path}#{number}"
    given = {key: value for key, value in row.items() if value not in (None, "")} if isinstance(row, dict) else {}
    media = [key for key in _MEDIA if key in given]
    if not media and "text" not in given:
        raise BtoksError(shown(where), "the row has no text, image or video", "fill one of these columns")
    if len(media) > 1:
        raise BtoksError(shown(where), "the row has an image and a video", "write two rows")
    said = given.get("text")
    text = "\n".join(map(str, said)) if isinstance(said, list) else said if said is None else str(said)
    scalars = {key: value for key, value in given.items() if key not in _OWN and isinstance(value, str | int | float)}
    metadata = {column(key): value for key, value in scalars.items()}
    place = {key: given.get(key) for key in ("page", "start", "end")}
    source, content = _medium(path, given[media[0]], place) if media else (None, "")
    named = json.dumps([content, text, place, metadata], sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    return Entry(f"{path}#{given.get('id', number)}", digest(named), source, text, metadata)


def _medium(path: str, given: Any, place: Mapping[str, Any]) -> tuple[Source, str]:
    """The medium a row names, relative to its table, and the name of its content."""
    options: dict[str, Any] = {key: float(place[key]) for key in ("start", "end") if place[key] is not None}
    if place["page"] is not None:
        options["page"] = int(place["page"])
    if isinstance(given, dict) and isinstance(given.get("bytes"), bytes):  # how the `datasets` library writes media
        return Source(given["bytes"], **options), digest(given["bytes"])
    if isinstance(given, dict) and given.get("path"):
        given = given["path"]
    if isinstance(given, bytes):
        return Source(given, **options), digest(given)
    uri = str(given)
    if "://" in uri[:16] or uri[:5].lower() == "data:":
        return Source(uri, **options), uri
    file = Path(path).parent / uri
    return Source(file, **options), file_digest(file)


def column(name: str) -> str:
    """The column that a table's metadata goes to: its own name, as a condition can write it.

    >>> column("Taken by"), column("folder"), column("2024")
    ('taken_by', 'row_folder', 'row_2024')
    """
    name = re.sub("[^a-z0-9_]", "_", name.lower())
    return f"row_{name}" if name in RESERVED or not name.isidentifier() else name
