"""Compressed vectors in a library: a column of codes in the place of the vectors, scored block by block.

    vector (D float32) ── method.encode ──▶ codes (B bytes a row)  and, for rescoring, fine (F bytes a row)

The codes are read into memory as they are; of the fine copy only the rows of the best candidates are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks import methods
from btoks.errors import BtoksError
from btoks.library.disk import local
from btoks.library.scan import Scan, best
from btoks.library.schema import pa
from btoks.methods import stored
from btoks.methods.quantize import Codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btoks.library.objects import Home
    from btoks.library.schema import Row
    from btoks.methods.quantize import Quantizer

    Vectors = NDArray[np.float32]
    Bytes = NDArray[np.uint8]

INDEXED = ("ivf_rq", "ivf_sq")
"""What the store's own index compresses; the vectors stay beside it."""
FIT, MOST = 20_000, 2_000_000
"""Vectors to fit on at most, and rows of codes that a search goes through at most."""
FEWEST = 4
"""So many vectors a dimension are waited for before a method is fitted by itself."""
_BLOCK = 1 << 18
_SOME = 64


def normal(spec: Any, what: str = "quantize") -> Any:
    """A method's spec as `library.json` holds it; None for plain float32 vectors.

    >>> normal("float32"), normal("pca:0.5+float8")
    (None, 'pca:0.5+float8')
    """
    if spec is None or (isinstance(spec, str) and spec in INDEXED and what == "quantize"):
        return spec
    method = methods.create("quantize", spec)
    if what == "quantize" and method == methods.create("quantize", "float32"):
        return None
    return spec if isinstance(spec, str) else methods.settings(method)


def scanned(spec: Any) -> bool:
    """Whether a spec means codes of ours, which a search goes through."""
    return spec is not None and spec not in INDEXED


def checked(quantize: Any, rescore: Any, dim: int | None, states: int = 1) -> dict[str, Any]:
    """Both specs as `library.json` holds them; refused are methods that vectors of this width cannot have."""
    specs = {"quantize": normal(quantize), "rescore": rescore and normal(rescore, "rescore")}
    if states > 1 and specs["quantize"] is not None:
        raise BtoksError("quantize", f"the model keeps {states} vectors an item", "leave them float32")
    if rescore is not None and not scanned(specs["quantize"]):
        raise BtoksError("rescore", "there are no codes to rescore", "give a method to quantize with as well")
    for spec in specs.values():
        if dim and scanned(spec):
            methods.create("quantize", spec).bytes_per_vector(dim)
    return specs


@dataclass(frozen=True)
class Codec:
    """Fitted methods for vectors of a width: that of the codes, and that of a finer copy, if one is kept."""

    dim: int
    codes: Quantizer
    fine: Quantizer | None = None

    @classmethod
    def fit(cls, vectors_ND: Vectors, quantize: Any, rescore: Any) -> Codec:
        """Fit on some vectors."""
        fitted = methods.create("quantize", quantize).fit(vectors_ND)
        return cls(vectors_ND.shape[1], fitted, rescore and methods.create("quantize", rescore).fit(vectors_ND))

    @classmethod
    def load(cls, path: Home) -> Codec:
        """Read a file that `save` wrote."""
        with local(path) as file:
            arrays, about = stored.read(file, "a library's codebooks", set(), {"dim", "codes", "fine"})
        fine = about["fine"] and _with_state(about["fine"], arrays, "fine.")
        return cls(about["dim"], _with_state(about["codes"], arrays, "codes."), fine)

    def save(self, path: Home) -> None:
        """Write one safetensors file, whole or not at all."""
        arrays = {f"{part}.{key}": each for part, method in self.parts.items() for key, each in method.state.items()}
        about = {"codes": methods.settings(self.codes), "fine": self.fine and methods.settings(self.fine)}
        with local(path, written=True) as file:
            stored.write(file, arrays, {"dim": self.dim, **about})

    @property
    def parts(self) -> dict[str, Quantizer]:
        """The method of each column."""
        return {"codes": self.codes} if self.fine is None else {"codes": self.codes, "fine": self.fine}

    @property
    def finest(self) -> str:
        """The column that holds most of a vector."""
        return "codes" if self.fine is None else "fine"

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of a row's codes, in closed form."""
        return sum(method.bytes_per_vector(self.dim) for method in self.parts.values())

    @property
    def nbytes(self) -> int:
        """Bytes of what was learnt, kept once."""
        return sum(method.state_nbytes for method in self.parts.values())

    def fields(self) -> list[Any]:
        """The columns of the table."""
        return [pa.field(name, pa.binary(method.bytes_per_vector(self.dim))) for name, method in self.parts.items()]

    def encoded(self, vectors_ND: Vectors) -> dict[str, Bytes]:
        """The bytes of each column for some vectors."""
        return {name: method.encode(vectors_ND).data_NB for name, method in self.parts.items()}

    def rows(self, rows: list[Row]) -> list[Row]:
        """Rows with codes in the place of vectors; some have codes already."""
        fresh = [row for row in rows if "vector" in row]
        if not fresh:
            return rows
        encoded = self.encoded(np.stack([row["vector"] for row in fresh])).items()
        codes = {row["id"]: {name: data[at].tobytes() for name, data in encoded} for at, row in enumerate(fresh)}
        return [{**row, **codes.get(row["id"], {})} for row in rows]

    def decoded(self, data: Sequence[bytes]) -> Vectors:
        """The vectors that values of the finest column stand for."""
        if not data:
            return np.empty((0, self.dim), np.float32)
        data_NB = np.frombuffer(b"".join(data), np.uint8).reshape(len(data), -1).copy()
        return self.parts[self.finest].decode(Codes(data_NB, self.dim))

    def rescored(self, vector_D: Vectors, fine: Mapping[str, bytes]) -> list[tuple[str, float]]:
        """Ids with their scores by the finer copy."""
        if not fine or self.fine is None:
            return []
        data_NB = np.frombuffer(b"".join(fine.values()), np.uint8).reshape(len(fine), -1).copy()
        scores_N = self.fine.score(vector_D[None], Codes(data_NB, self.dim))[0]
        return sorted(zip(fine, map(float, scores_N), strict=True), key=lambda each: (-each[1], each[0]))


def _with_state(about: Any, arrays: Mapping[str, Any], prefix: str) -> Any:
    state = {key.removeprefix(prefix): each for key, each in arrays.items() if key.startswith(prefix)}
    return dataclasses.replace(methods.create("quantize", about), state=state)


@dataclass(frozen=True)
class CodeScan:
    """Ids and codes by kind, as they were at a version of the table."""

    codec: Codec
    kinds: dict[str, tuple[Any, Bytes]]
    version: int = 0

    @classmethod
    def of(cls, table: Any, codec: Codec, version: int) -> CodeScan:
        """The columns `id`, `kind` and `codes` of a table."""
        kinds = sorted(set(table["kind"].to_pylist()))
        chosen = {kind: table.filter(pa.compute.equal(table["kind"], kind)) for kind in kinds}
        return cls(codec, {kind: _arrays(each) for kind, each in chosen.items()}, version)

    def nearest(self, vector_D: Vectors, k: int, kind: str | None = None, among: Any = None) -> list[tuple[str, float]]:
        """The k best as (id, score), by score, then id; of one kind, or among some ids only."""
        found: list[tuple[str, float]] = []
        for name, (ids, data_NB) in self.kinds.items():
            if kind is None or name == kind:
                if among is not None:
                    places = np.flatnonzero(pa.compute.is_in(ids, value_set=among).to_numpy(zero_copy_only=False))
                    ids, data_NB = ids.take(pa.array(places)), data_NB[places]
                for start in range(0, len(ids), _BLOCK):
                    block = Codes(data_NB[start : start + _BLOCK], self.codec.dim)
                    scores_N = self.codec.codes.score(vector_D[None], block)[0]
                    found += best(ids.slice(start, _BLOCK), scores_N, k)
        return sorted(found, key=lambda each: (-each[1], each[0]))[:k]

    def sample(self, count: int) -> Scan:
        """Decoded vectors spread evenly over the rows, some of every kind."""
        total, kinds = sum(len(ids) for ids, _ in self.kinds.values()), {}
        for kind, (ids, data_NB) in self.kinds.items():
            many = min(len(ids), max(count * len(ids) // total, _SOME))
            places = np.unique(np.linspace(0, len(ids) - 1, many).astype(int))
            decoded = self.codec.codes.decode(Codes(data_NB[places], self.codec.dim))
            kinds[kind] = ids.take(pa.array(places)), decoded
        return Scan(kinds, self.version)


def _arrays(table: Any) -> tuple[Any, Bytes]:
    ids, data = (_whole(table[name]) for name in ("id", "codes"))
    width = data.type.byte_width
    start = data.offset * width
    # A copy: the scoring kernels take memory that may be written to without copying it for each query.
    data_NB = np.frombuffer(data.buffers()[1], np.uint8)[start : start + len(data) * width].copy()
    return ids, data_NB.reshape(len(data), width)


def _whole(column: Any) -> Any:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
