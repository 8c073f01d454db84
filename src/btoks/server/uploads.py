"""Files sent to search by: kept for an hour in a folder of the server's own, which its workers share."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Request

from btoks.server.problems import ProblemError, responses
from btoks.server.schemas import UPLOAD, UploadMade
from btoks.server.state import State, state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEPT = 3_600
_NAME = re.compile(UPLOAD)
_ALL = 16
"""So many of the largest uploads may be kept at once."""
_RAW = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "required": ["file"], "properties": {"file": _RAW["schema"]}}}
_BODY: dict[str, Any] = {"required": True, "content": {"application/octet-stream": _RAW, "multipart/form-data": _FORM}}

router = APIRouter(tags=["search"])


class Uploads:
    """The folder of uploads; names are ours, so that no request can name another file."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes

    def path(self, name: str) -> Path:
        """Where an upload is."""
        path = self.folder / name
        if not _NAME.fullmatch(name) or not path.is_file():
            raise ProblemError(404, "there is no such upload; send the file again")
        return path

    async def keep(self, pieces: AsyncIterator[bytes]) -> tuple[str, int]:
        """Write a file as it arrives; its name and its size. What is too large or cut off leaves nothing."""
        self._tidy()
        name = secrets.token_hex(16)
        part, size = self.folder / f"{name}.part", 0
        try:
            async with await anyio.open_file(part, "wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if size > self.max_bytes:
                        raise ProblemError(413, f"an upload may have {self.max_bytes} bytes")
                    await file.write(piece)
            if not size:
                raise ProblemError(400, "the upload is empty")
            part.rename(self.folder / name)
        finally:
            part.unlink(missing_ok=True)
        return name, size

    def _tidy(self) -> None:
        """Forget what is old; refuse more while there is too much."""
        self.folder.mkdir(parents=True, exist_ok=True)
        total = 0
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if time.time() - status.st_mtime > KEPT:
                    path.unlink()
                else:
                    total += status.st_size
        if total > (_ALL - 1) * self.max_bytes:
            raise ProblemError(429, "too much is uploaded; try again later", {"Retry-After": "60"})


@router.post(
    "/v1/uploads",
    status_code=201,
    responses=responses(400, 413, 422, 429),
    openapi_extra={"requestBody": _BODY},
)
async def upload(request: Request, at: Annotated[State, Depends(state)]) -> UploadMade:
    """Keep a file for an hour: its bytes as the body, or the field `file` of a form."""
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with request.form(max_files=1, max_fields=0) as form:
            file = form.get("file")
            if file is None or isinstance(file, str):
                raise ProblemError(400, "the form has no field `file` that holds a file")
            name, size = await at.uploads.keep(_pieces(file))
    else:
        name, size = await at.uploads.keep(request.stream())
    return UploadMade(id=name, bytes=size, seconds=KEPT)


async def _pieces(file: Any) -> AsyncIterator[bytes]:
    while piece := await file.read(1 << 18):
        yield piece
