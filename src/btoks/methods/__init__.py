"""The registry of methods: the folder is the list, the card is the record, `apply` is the only installer.

`methods/<family>/<name>.py` holds one frozen dataclass under `@method(...)`; its fields are its settings. Listing,
JSON, documentation and the contract tests all read the card, so nothing is written down twice.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, runtime_checkable

from btoks.errors import BtoksError, did_you_mean
from btoks.methods import specs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Stage = Literal["pool", "reduce", "cache", "context", "quantize", "tokenize", "decode", "analyse", "table"]
T = TypeVar("T")
_ATTRIBUTE = "__btoks_card__"


@dataclass(frozen=True)
class Card:
    """What is known of a method without running it.

    `identity` are the settings that leave the plain model as it is, `takes` the kinds of input it is for, and `cost`
    says in a few words what it adds to the plain model's work and bytes.
    """

    name: str
    family: str
    title: str
    paper: str
    system: str | None
    stage: Stage
    trained: bool
    query_aware: bool
    identity: Mapping[str, Any] | None
    no_identity: str
    takes: tuple[str, ...]
    cost: str
    cls: type[Any]

    def as_dict(self) -> dict[str, Any]:
        """The card as the command line prints it with `--json`."""
        shown = ("name", "family", "system", "title", "paper", "stage", "trained", "query_aware", "takes", "cost")
        return {key: getattr(self, key) for key in shown}


@runtime_checkable
class Applicable(Protocol):
    """A method that can be installed on a model for the length of a `with` block."""

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """A context manager that installs the method and takes every trace of it away again."""
        ...


def method(
    *,
    title: str,
    paper: str,
    stage: Stage,
    system: str | None = None,
    trained: bool = False,
    query_aware: bool = False,
    identity: Mapping[str, Any] | None = None,
    no_identity: str = "",
    takes: tuple[str, ...] = ("text", "image", "video"),
    cost: str = "",
) -> Callable[[type[T]], type[T]]:
    """Attach the card to a method's dataclass. Without `identity`, `no_identity` says in one line why there is none."""
    if (identity is None) == (not no_identity):
        raise TypeError(f"{title}: give either identity= or the reason no_identity=")

    def attach_card(cls: type[T]) -> type[T]:
        family, name = cls.__module__.split(".")[-2:]
        told = (title, paper, system, stage, trained, query_aware, identity, no_identity, takes, cost)
        card = Card(name, family, *told, cls)
        setattr(cls, _ATTRIBUTE, card)
        return cls

    return attach_card


def families() -> list[str]:
    """The families there are: one folder each."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def names(family: str) -> list[str]:
    """The methods of a family, by file name.

    >>> "mean" in names("pooling")
    True
    """
    if family not in families():
        raise BtoksError(f"method family {family!r}", "there is none", did_you_mean(family, families()))
    package = importlib.import_module(f"{__name__}.{family}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def get(family: str, name: str) -> Card:
    """The card of one method; imports only its file."""
    if name not in names(family):
        raise BtoksError(f"{family} method {name!r}", "there is none", did_you_mean(name, names(family)))
    module = importlib.import_module(f"{__name__}.{family}.{name}")
    found = [value for value in vars(module).values() if _ATTRIBUTE in getattr(value, "__dict__", {})]
    return cast("Card", getattr(next(cls for cls in found if cls.__module__ == module.__name__), _ATTRIBUTE))


def cards(family: str | None = None) -> list[Card]:
    """The cards of a family, or of all of them."""
    return [get(each, name) for each in ([family] if family else families()) for name in names(each)]


def card(instance: object) -> Card:
    """The card of a method that is at hand."""
    return cast("Card", getattr(type(instance), _ATTRIBUTE))


def create(family: str, spec: object) -> Any:
    """A method from a string (see `specs`), from a mapping with `name` and settings, or from a method (returned as is).

    >>> create("pooling", {"name": "weighted", "slope": 0.5})
    Weighted(slope=0.5)
    >>> create("quantize", "pca:0.5+float8")
    Chain(parts=('pca:0.5', 'float8'))
    """
    if hasattr(type(spec), _ATTRIBUTE):
        if card(spec).family != family:
            raise BtoksError(f"{spec!r}", f"is of family {card(spec).family!r}", f"pass one of family {family!r}")
        return spec
    if isinstance(spec, str):
        spec = specs.parse(spec, lambda name: _fields(get(family, name).cls))
    settings = dict(spec) if isinstance(spec, Mapping) else {}
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise BtoksError(
            f"{family} method {spec!r}", "no name given", "pass a name, {'name': …, setting: …} or a method"
        )
    cls = get(family, name).cls
    known = _fields(cls)
    for key in settings:
        if key not in known:
            way_out = did_you_mean(key, known) if known else "it has no settings"
            raise BtoksError(f"{family} method {name!r}", f"no setting {key!r}", way_out)
    return cls(**settings)


def _fields(cls: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init and field.name != "state"]


def settings(instance: object) -> dict[str, Any]:
    """A method as the mapping `create` takes: its name and settings, ready for JSON; what it learnt is left out.

    >>> settings(create("pooling", "weighted"))
    {'name': 'weighted', 'slope': 1.0}
    """
    fields = dataclasses.fields(cast("Any", instance))
    return {"name": card(instance).name} | {f.name: getattr(instance, f.name) for f in fields if f.name != "state"}


@contextmanager
def apply(model: SentenceTransformer, *methods: object) -> Iterator[SentenceTransformer]:
    """Install methods on a model for the length of a `with` block; nothing of them is left afterwards.

    >>> with apply(model, create("pooling", "last")):  # doctest: +SKIP
    ...     model.encode("a red fox")
    """
    for each in methods:
        if not isinstance(each, Applicable):
            raise BtoksError(f"{each!r}", "cannot be applied to a model", "pass methods made by btoks.methods.create")
    with ExitStack() as stack:
        for each in methods:
            stack.enter_context(cast("Applicable", each).applied(model))
        yield model


def for_index(*methods: object) -> None:
    """Refuse methods that need the query where no query is known: at index time."""
    for each in methods:
        if card(each).query_aware:
            way_out = "use it when reading, or choose a query-free method"
            raise BtoksError(f"{card(each).name}", "needs the query, which is unknown while indexing", way_out)
