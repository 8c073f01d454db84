"""What the quantise methods share: their interface, checked input, fitted state and calibration.

Shape suffixes: N stored vectors, M queries, D width, K reduced width, B bytes a vector, J codes a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from btoks.errors import BtoksError
from btoks.methods import card
from btoks.methods.quantize._codes import Codes

Floats: TypeAlias = NDArray[np.float32]
State: TypeAlias = dict[str, NDArray[Any]]
M = TypeVar("M")
LARGEST = 1e15
CALIBRATION_ROWS = 65_536


@runtime_checkable
class Quantizer(Protocol):
    """The interface of the family. Queries are never compressed: `score` is asymmetric."""

    @property
    def state(self) -> State:
        """What was learnt, by name; empty before `fit`."""
        ...

    def fit(self, X_ND: Any) -> Self:
        """A new method that holds what it learnt from these vectors in `state`."""
        ...

    def encode(self, X_ND: Any) -> Codes:
        """The codes of vectors."""
        ...

    def decode(self, codes: Codes) -> Floats:
        """The vectors that the codes stand for (N, D)."""
        ...

    def score(self, query_MD: Any, codes: Codes) -> Floats:
        """Inner products of exact queries with the decoded vectors (M, N)."""
        ...

    def bytes_per_vector(self, dim: int) -> int:
        """Bytes of one vector's code, in closed form."""
        ...

    @property
    def state_nbytes(self) -> int:
        """Bytes of what was learnt, stored once."""
        ...


@runtime_checkable
class Reducer(Protocol):
    """A quantise method that makes vectors shorter, and so can stand before a number format in a chain."""

    @property
    def state(self) -> State:
        """What was learnt, by name; empty before `fit`."""
        ...

    def fit(self, X_ND: Any) -> Self:
        """A new method that holds what it learnt."""
        ...

    def width(self, dim: int) -> int:
        """K, the reduced width of vectors of width D."""
        ...

    def reduce(self, X_ND: Any) -> Floats:
        """The short vectors (N, K)."""
        ...

    def lift(self, Z_NK: Floats, dim: int) -> Floats:
        """The vectors that the short ones stand for (N, D)."""
        ...

    def fold(self, query_MD: Floats) -> tuple[Floats, Floats] | None:
        """The queries on the short side (M, K) and a constant for each (M, 1), so that q·lift(z) = folded·z + constant.

        None when `lift` is not affine: such vectors are decoded before they are scored.
        """
        ...


def matrix(x: Any, what: str = "vectors") -> Floats:
    """Rows as contiguous float32 on the host; refuses other shapes, NaN, infinities and numbers whose squares overflow.

    >>> matrix([[1, 2]])
    array([[1., 2.]], dtype=float32)
    """
    raw = x.detach().float().cpu().numpy() if hasattr(x, "detach") else x  # a torch tensor, without importing torch
    try:
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(raw, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise BtoksError(what, "not a matrix of numbers", "pass an array of shape (rows, width)") from error
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise BtoksError(what, f"shape {rows.shape} is not (rows, width)", "pass a matrix, one vector a row")
    if not bounded(rows, LARGEST):
        bad = int(np.flatnonzero(~(np.abs(rows) <= LARGEST).all(axis=1))[0])
        way_out = "drop or mend it; normalised vectors always fit"
        raise BtoksError(what, f"row {bad} holds NaN, infinity or a number beyond {LARGEST:g}", way_out)
    return rows


def bounded(rows: Floats, most: float) -> bool:
    """Whether no number is NaN or larger than `most`.

    None is where all their squares together are not: one pass instead of two.

    >>> [bounded(np.array([[most, 3.0]], np.float32), 4.0) for most in (2.0, 4.0, 5.0, np.nan)]
    [True, True, False, False]
    """
    flat = rows.ravel()
    return float(np.dot(flat, flat)) <= most**2 or max(float(rows.max()), -float(rows.min())) <= most


def fitting(method: object, x: Any, least: int = 1) -> Floats:
    """The vectors to fit on; refuses fewer than `least`."""
    rows = matrix(x)
    if len(rows) < least:
        raise BtoksError(name(method), f"{len(rows)} vectors to fit on", f"give at least {least}")
    return rows


def unchanged(method: M, X_ND: Any) -> M:
    """The `fit` of a method that has nothing to learn."""
    matrix(X_ND)
    return method


def encoding(method: object, x: Any, dim: int | None = None) -> Floats:
    """The vectors to encode; with `dim`, the width the method was fitted for."""
    rows = matrix(x)
    if dim is not None and rows.shape[1] != dim:
        raise BtoksError(
            name(method), f"fitted for width {dim}, got {rows.shape[1]}", "fit it on vectors of this width"
        )
    return rows


def data(method: Quantizer, codes: Codes) -> NDArray[np.uint8]:
    """The bytes of codes of this method (N, B); refuses codes of another."""
    expected = method.bytes_per_vector(codes.dim)
    if codes.data_NB.shape[1] != expected:
        reason = f"takes {expected} bytes a vector, the codes have {codes.data_NB.shape[1]}"
        raise BtoksError(name(method), reason, "use the method that encoded them")
    return codes.data_NB


def queries(query_MD: Any, codes: Codes) -> Floats:
    """The queries, as wide as the vectors that were encoded."""
    rows = matrix(query_MD, "queries")
    if rows.shape[1] != codes.dim:
        raise BtoksError("queries", f"{rows.shape[1]} wide, the vectors {codes.dim}", "use the model of the vectors")
    return rows


def learnt(method: Quantizer | Reducer, key: str) -> NDArray[Any]:
    """One array of the fitted state; refuses a method that is not fitted."""
    if key not in method.state:
        raise BtoksError(name(method), "not fitted yet", "call fit with some vectors first")
    return method.state[key]


def state_nbytes(method: Quantizer) -> int:
    """Bytes of the fitted state."""
    return sum(array.nbytes for array in method.state.values())


def within(state: State, part: str) -> State:
    """The state of one part of a method that is made of others."""
    return {key.removeprefix(part): array for key, array in state.items() if key.startswith(part)}


def name(method: object) -> str:
    """The method's public name, for messages."""
    return f"quantize method {card(method).name!r}"


def refuse_unless(fine: bool, method: object, reason: str, way_out: str) -> None:
    """Refuse a setting."""
    if not fine:
        raise BtoksError(name(method), reason, way_out)


def blocks(rows: int, width: int, floats: int = 1 << 18) -> Iterator[slice]:
    """Runs of rows whose float32 form stays in the cache.

    >>> [s.stop - s.start for s in blocks(5, 2, floats=4)]
    [2, 2, 1]
    """
    step = max(1, floats // width)
    return (slice(at, min(at + step, rows)) for at in range(0, rows, step))


def sample(X_ND: Floats, rows: int, seed: int = 0) -> Floats:
    """At most `rows` of the vectors, drawn without repeats, in their order."""
    if len(X_ND) <= rows:
        return X_ND
    drawn = generator(seed).choice(len(X_ND), rows, replace=False)
    return X_ND[np.sort(drawn)]


def mean(X_ND: Floats) -> Floats:
    """The mean (D,) of each dimension, summed a block at a time: as exact as it must be, and fast."""
    sums_BD = np.stack([X_ND[block].sum(axis=0) for block in blocks(len(X_ND), X_ND.shape[1], 1 << 16)])
    mean_D: Floats = (sums_BD.sum(axis=0, dtype=np.float64) / len(X_ND)).astype(np.float32)
    return mean_D


def largest(X_ND: Floats) -> Floats:
    """The largest magnitude (D,) of each dimension; 1 where all are zero.

    >>> largest(np.array([[0.0, -2.0], [0.0, 1.0]], np.float32))
    array([1., 2.], dtype=float32)
    """
    top_D = np.abs(sample(X_ND, CALIBRATION_ROWS)).max(axis=0)
    return np.where(top_D > np.finfo(np.float32).tiny * 512, top_D, np.float32(1))


def beside(mean_D: Floats, rows: Floats) -> Floats:
    """Rows without what lies along the mean.

    Signs say little about it, and on vectors of one length it hardly varies: the mean's own is the better guess.
    """
    square = float(mean_D.astype(np.float64) @ mean_D)
    beside_rows: Floats = rows - np.outer(rows @ mean_D / (square or 1), mean_D).astype(np.float32)
    return beside_rows


def counted(method: object, amount: int | float, dim: int, unit: str) -> int:
    """How many of D a setting asks for: a float is a fraction of D, an int a number."""
    count = max(1, round(amount * dim)) if isinstance(amount, float) else amount
    refuse_unless(count <= dim, method, f"{count} {unit} asked of width {dim}", f"ask for at most {dim}")
    return count


def check_amount(method: object, amount: object, unit: str) -> None:
    """Refuse anything but a fraction in (0, 1] or a positive number."""
    fraction = isinstance(amount, float) and 0 < amount <= 1
    number = isinstance(amount, int) and not isinstance(amount, bool) and amount >= 1
    refuse_unless(fraction or number, method, f"{unit}={amount!r}", "give a fraction such as 0.5 or a whole number ≥ 1")


def generator(seed: int) -> np.random.Generator:
    """Random numbers that are not those of `default_rng(seed)`, from which the vectors themselves may come."""
    return np.random.default_rng((seed, 0x62746F6B))


def rotation(dim: int, seed: int) -> Floats:
    """A random orthogonal matrix, uniform among all."""
    square_DD = generator(seed).standard_normal((dim, dim))
    orthogonal_DD, upper_DD = np.linalg.qr(square_DD)
    signs_D = np.where(np.diag(upper_DD) < 0, -1.0, 1.0)
    return (orthogonal_DD * signs_D).astype(np.float32)


def check_count(method: object, count: object, setting: str) -> None:
    """Refuse anything but a whole number from 1 on."""
    fine = isinstance(count, int) and not isinstance(count, bool) and count >= 1
    refuse_unless(fine, method, f"{setting}={count!r}", "give a whole number ≥ 1")


def principal(X_ND: Floats, center_D: Floats | None = None) -> tuple[NDArray[np.float64], Floats]:
    """Variances (D,), largest first, and directions (D, D) in columns; the largest entry of each is positive."""
    mean_D = X_ND.mean(axis=0, dtype=np.float64) if center_D is None else center_D
    second_DD = np.zeros((X_ND.shape[1], X_ND.shape[1]))
    for block in blocks(len(X_ND), X_ND.shape[1], floats=1 << 22):
        rest_ND = X_ND[block] - mean_D
        second_DD += rest_ND.T @ rest_ND
    variance_D, directions_DD = np.linalg.eigh(second_DD / len(X_ND))
    directions_DD = directions_DD[:, ::-1]
    largest_D = np.abs(directions_DD).argmax(axis=0)
    directions_DD = directions_DD * np.sign(directions_DD[largest_D, np.arange(len(largest_D))])
    return variance_D[::-1].clip(min=0), directions_DD.astype(np.float32)
