"""What the endpoints take and give, as the OpenAPI page shows it; what is not named here is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

UPLOAD = "^[0-9a-f]{32}$"
Text = Annotated[str, StringConstraints(max_length=1_000_000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
DataUrl = Annotated[str, StringConstraints(pattern="^data:")]
UploadId = Annotated[str, StringConstraints(pattern=UPLOAD)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Uploaded(_Strict):
    """A file that was uploaded before."""

    upload: UploadId


class Frames(_Strict):
    """A clip as pictures, each a data URL, of one size."""

    frames: Annotated[list[DataUrl], Field(min_length=1, max_length=64)]
    fps: Annotated[float, Field(strict=True, gt=0, le=240)] = 2.0


class Given(_Strict):
    """Something to embed: a text, a picture, a video, or several of them together.

    Media are data URLs or uploads. `upload` alone is told by its content; `page` chooses one of a PDF, the first if
    left out.
    """

    text: Text | None = None
    image: DataUrl | Uploaded | None = None
    video: DataUrl | Uploaded | Frames | None = None
    upload: UploadId | None = None
    page: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = None


class Search(_Strict):
    """A search, as `Library.search` takes it."""

    query: Given | Text | Annotated[list[Given | Text], Field(max_length=20)] | None = None
    k: Annotated[int, Field(strict=True, ge=1, le=1_000)] = 10
    where: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    min_score: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    library: Name | None = None
    hybrid: StrictBool = False
    group: Literal["file"] | None = None
    like: Name | Annotated[list[Name], Field(max_length=100)] | None = None
    unlike: Name | Annotated[list[Name], Field(max_length=100)] | None = None
    without: Given | Text | Annotated[list[Given | Text], Field(max_length=20)] | None = None


class _Part(BaseModel):
    id: str
    path: str | None
    kind: str
    page: int | None
    start: float | None
    end: float | None


class Hit(_Part):
    """Something found; `path` is where it is on the server's disk."""

    score: float
    text: str | None


class Hits(BaseModel):
    """The best first."""

    hits: list[Hit]


class Item(_Part):
    """One item of a library, with its whole text, all its paths, and how many pages its file has if it has any."""

    text: str | None
    folder: str | None
    year: int | None
    paths: list[str]
    pages: int | None
    metadata: dict[str, str | int | float | bool]


class Ask(_Strict):
    """A question, as `Library.ask` takes it; `from_memory` answers from stored memories alone."""

    question: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
    k: Annotated[int, Field(strict=True, ge=1, le=20)] = 3
    from_memory: StrictBool = False
    where: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    min_score: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    hybrid: StrictBool = False
    library: Name | None = None
    max_new_tokens: Annotated[int, Field(strict=True, ge=1, le=512)] = 128


class Answer(BaseModel):
    """What the model says, and from what; `unread` hits could not be opened. Without a source there is no answer."""

    answer: str
    from_memory: bool
    sources: list[Hit]
    unread: int


class Embed(_Strict):
    """Inputs to embed, as OpenAI's API takes them, and pictures and clips as well.

    `task` says what the vectors are for; `model` is one of those served, or anything for the only one.
    """

    input: Text | Given | Annotated[list[Text | Given], Field(min_length=1, max_length=2_048)]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(strict=True, ge=1, le=65_536)] | None = None
    task: Literal["query", "document"] | None = None
    user: str | None = None


class Vector(BaseModel):
    """One embedding: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """What was read."""

    prompt_tokens: int
    total_tokens: int


class Vectors(BaseModel):
    """The embeddings, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Vector]
    model: str
    usage: Usage


class UploadMade(BaseModel):
    """How an upload is named in a query, and how long it is kept."""

    id: UploadId
    bytes: int
    seconds: int


class LibraryFacts(BaseModel):
    """A library that is served."""

    name: str
    model: str | None
    items: int


class Libraries(BaseModel):
    """All of them, the default one first."""

    libraries: list[LibraryFacts]


class Stats(BaseModel):
    """What a library holds and takes."""

    name: str
    model: str | None
    files: int
    bad_files: int
    rows: int
    kinds: dict[str, int]
    dim: int | None
    bytes: int


class Facets(BaseModel):
    """How many items there are of each kind, in each folder, of each year; of very many folders the fullest."""

    kinds: dict[str, int]
    folders: dict[str, int]
    years: dict[str, int]


class Point(BaseModel):
    """An item's place on the map."""

    id: str
    kind: str
    path: str | None
    page: int | None
    start: float | None
    end: float | None
    text: str | None
    folder: str | None
    year: int | None
    x: float
    y: float


class Map(BaseModel):
    """Items by the two directions in which their embeddings differ most, between −1 and 1."""

    items: list[Point]
    version: int


class Health(BaseModel):
    """Whether searches are answered at once."""

    status: Literal["ready", "starting"]
