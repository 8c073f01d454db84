"""What a server is started with, so that each of its workers can make the same application."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.server.state import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI
    from sentence_transformers import SentenceTransformer

    from btoks.library.objects import Home

VARIABLE = "BTOKS_SERVE"
"""How a worker process is told its plan: in its environment, where other users cannot read it."""


@dataclass(frozen=True)
class Plan:
    """Libraries by name and folder, a model for embeddings besides, where models run, and how to serve."""

    libraries: dict[str, str]
    model: str | None = None
    device: str | None = None
    uploads: str | None = None
    settings: Settings = field(default_factory=Settings)

    def application(self) -> FastAPI:
        """The application, its models loaded, each once however many libraries were made with it."""
        from btoks.folder import load
        from btoks.library import Library
        from btoks.library.objects import home
        from btoks.library.settings import read
        from btoks.server.app import create
        from btoks.server.shelf import named

        loaded: dict[str, SentenceTransformer] = {}
        if self.model is not None:
            loaded[self.model] = load(self.model, device=self.device)
        libraries = {}
        for name, folder in self.libraries.items():
            of = read(home(folder)).model
            libraries[name] = Library.open(folder, device=self.device, model=loaded.get(of or ""))
            if of is not None:
                loaded[of] = libraries[name].model
        models = {named(self.model): loaded[self.model]} if self.model is not None else {}
        uploads = Path(self.uploads) if self.uploads is not None else None
        return create(libraries, models=models, settings=self.settings, uploads_folder=uploads)

    def text(self) -> str:
        """The plan in a form that an environment can hold."""
        return json.dumps(asdict(self))


def application() -> FastAPI:
    """The application of the plan in the environment: what each worker process calls."""
    given: dict[str, Any] = json.loads(os.environ[VARIABLE])
    told: dict[str, Any] = given.pop("settings")
    tuples: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return Plan(**given, settings=Settings(**tuples)).application()


def by_name(folders: Sequence[Home]) -> dict[str, str]:
    """Folders under names of their own: the last part of their paths, with a number where that is taken.

    >>> list(by_name([Path("/a/photos"), Path("/b/photos")]))
    ['photos', 'photos-2']
    """
    out: dict[str, str] = {}
    for folder in folders:
        whole = folder.expanduser().resolve() if isinstance(folder, Path) else folder
        name, number = whole.name or "library", 1
        while (name if number == 1 else f"{name}-{number}") in out:
            number += 1
        out[name if number == 1 else f"{name}-{number}"] = str(whole)
    return out
