"""A library's place: a folder, or `s3://bucket/path` on object storage, where each of its files is an object.

The tables reach object storage by LanceDB's own way; here is the rest: settings, queries, history, codebooks. Both
take the address and keys from the same variables, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on. An object is put whole
and durably, so nothing has to be synced.
"""

from __future__ import annotations

import functools
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEME = "s3://"
_RETRY: Any = {"max_retries": 4}


@dataclass(frozen=True)
class Address:
    """An object, or all those below a name, by the words of a path.

    >>> str(Address("s3://bucket/mine") / "library.json"), (Address("s3://bucket/mine") / "a").name
    ('s3://bucket/mine/library.json', 'a')
    """

    root: str

    def __str__(self) -> str:
        return self.root

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.root}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.root.rpartition("/")[2]

    def read_bytes(self) -> bytes:
        """The object's bytes."""
        return self.read()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        """The object's bytes as text."""
        return self.read_bytes().decode(encoding)

    def read(self) -> tuple[bytes, str]:
        """The object's bytes and its tag, which is another one after each write."""
        with self._asked() as (bucket, key):
            import obstore

            found = obstore.get(bucket, key)
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def tag(self) -> str | None:
        """The object's tag; None where there is no object."""
        try:
            with self._asked() as (bucket, key):
                import obstore

                return str(obstore.head(bucket, key)["e_tag"])
        except FileNotFoundError:
            return None

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return self.tag() is not None

    def write(self, data: bytes) -> None:
        """Put the object, whatever is there."""
        with self._asked() as (bucket, key):
            import obstore

            obstore.put(bucket, key, data)

    def put_if(self, data: bytes, tag: str | None) -> str | None:
        """Put the object if it still has a tag, or if there is none; gives its new tag, or None where it has not."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._asked() as (bucket, key):
            try:
                mode: Any = "create" if tag is None else {"e_tag": tag}
                return str(obstore.put(bucket, key, data, mode=mode, use_multipart=False)["e_tag"])
            except (AlreadyExistsError, PreconditionError):
                return None

    def names(self) -> set[str]:
        """The names one step below."""
        with self._asked() as (bucket, key):
            import obstore

            found = obstore.list_with_delimiter(bucket, prefix=f"{key}/")
            paths = [*(each["path"] for each in found["objects"]), *found["common_prefixes"]]
            return {path.rstrip("/").rpartition("/")[2] for path in paths}

    def nbytes(self) -> int:
        """The bytes of all objects below."""
        with self._asked() as (bucket, key):
            import obstore

            return sum(each["size"] for page in obstore.list(bucket, prefix=f"{key}/") for each in page)

    def remove(self) -> None:
        """Remove the object, and all those below."""
        with self._asked() as (bucket, key):
            import obstore

            paths = [each["path"] for page in obstore.list(bucket, prefix=f"{key}/") for each in page]
            obstore.delete(bucket, [key, *paths])

    @contextmanager
    def _asked(self) -> Iterator[tuple[Any, str]]:
        """The bucket and the key; no message of the storage's gets out."""
        name, _, key = self.root.removeprefix(_SCHEME).partition("/")
        try:
            from obstore.exceptions import BaseError, NotFoundError
        except ImportError as error:
            raise BtoksError(self.root, "obstore is not installed", "pip install 'btoks[s3]'") from error
        try:
            yield _bucket(name, os.environ.get("AWS_ENDPOINT_URL")), key
        except NotFoundError as error:
            raise FileNotFoundError(self.root) from error
        except BaseError as error:
            way_out = "check AWS_ENDPOINT_URL, the keys, and whether the bucket is there"
            raise BtoksError(self.root, "the object storage refused, or did not answer", way_out) from error


Home = Path | Address


@functools.lru_cache(maxsize=16)
def _bucket(name: str, endpoint: str | None) -> Any:
    del endpoint  # read from the environment; another one is another bucket
    from obstore.store import from_url

    return from_url(_SCHEME + name, retry_config=_RETRY)


def home(path: str | Path | Address) -> Home:
    """A library's place from what a user gives.

    >>> home("s3://bucket/mine/"), home("mine").name
    (Address(root='s3://bucket/mine'), 'mine')
    """
    if not isinstance(path, str) or not path.startswith(_SCHEME):
        return path if isinstance(path, Address) else Path(path)
    root = path.rstrip("/")
    if "/" not in root.removeprefix(_SCHEME):
        raise BtoksError(path, "it names a bucket alone", "write s3://bucket/path")
    return Address(root)


def names(place: Home) -> set[str] | None:
    """The names one step below; None where there is nothing of this name."""
    if isinstance(place, Address):
        return place.names()
    return {each.name for each in place.iterdir()} if place.is_dir() else None


def nbytes(place: Home) -> int:
    """The bytes of all files below."""
    if isinstance(place, Address):
        return place.nbytes()
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
