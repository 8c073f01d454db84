"""Embeddings from a server that speaks OpenAI's API, ours or another's, over plain HTTP."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from btoks.errors import BtoksError

_TIMEOUT = 120
_LONGEST = 160


@dataclass(frozen=True)
class Server:
    """Where embeddings are asked for, what the model is called there, a token, and the model's bottleneck tokens."""

    url: str
    served: str
    token: str | None
    tokens: int

    def vector(self, given: dict[str, Any]) -> Any:
        """The embedding of a probe, or in words why there is none."""
        told = ""
        for body in _bodies(given):
            answer = self._asked({"model": self.served, "encoding_format": "float", **body})
            if not isinstance(answer, str):
                return _pooled(answer, self.tokens)
            told = told or answer
        return told

    def _asked(self, body: dict[str, Any]) -> Any:
        """What the server answers, or its refusal in words; whatever holds for every request is raised."""
        headers = {"Content-Type": "application/json"} | (
            {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        )
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)  # noqa: S310 - http is checked
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise BtoksError(self.url, f"it answers {error.code}", "give its --token") from error
            return f"the server answers {error.code}: {_reason(error)}"
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error))
            raise BtoksError(self.url, f"no answer that can be read ({reason})", "see whether it runs") from error


def endpoint(url: str) -> str:
    """Where a server gives embeddings; a URL that names it is left as it is.

    >>> endpoint("http://127.0.0.1:8000"), endpoint("http://host/v1/"), endpoint("http://host/pooling")
    ('http://127.0.0.1:8000/v1/embeddings', 'http://host/v1/embeddings', 'http://host/pooling')
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BtoksError(url, "it is no URL of a server", "write http://host:port")
    whole = url.rstrip("/")
    if whole.endswith(("/embeddings", "/pooling")):
        return whole
    return f"{whole}/embeddings" if whole.endswith("/v1") else f"{whole}/v1/embeddings"


def _bodies(given: dict[str, Any]) -> list[dict[str, Any]]:
    """The ways to ask: as our server takes it, and pictures as the messages of a chat, as others do."""
    if set(given) == {"text"}:
        return [{"input": given["text"]}]
    item = {key: given[key] for key in ("text", "image") if key in given}
    if "video" in given:
        return [{"input": {**item, "video": {"frames": given["video"], "fps": given["fps"]}}}]
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": given["image"]}}]
    content += [{"type": "text", "text": given["text"]}] if "text" in given else []
    return [{"input": item}, {"messages": [{"role": "user", "content": content}]}]


def _pooled(answer: Any, tokens: int) -> Any:
    """The vector in an answer; of a vector a token the mean of the last ones, with length one."""
    try:
        first = answer["data"][0]
        found = first["embedding"] if "embedding" in first else first["data"]
        if isinstance(found, str):
            return np.frombuffer(base64.b64decode(found), "<f4")
        vector = np.asarray(found, np.float32)
    except (KeyError, IndexError, TypeError, ValueError):
        return "the answer holds no embedding"
    if vector.ndim == 1:
        return vector
    mean_D = vector[-tokens:].mean(axis=0)
    return mean_D / max(float(np.linalg.norm(mean_D)), 1e-12)


def _reason(error: urllib.error.HTTPError) -> str:
    """The first words of a refusal."""
    text = error.read(10_000).decode("utf-8", "replace")
    try:
        told = json.loads(text)
        text = str(told["error"]["message"] if "error" in told else told["detail"])
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(text.split())[:_LONGEST]
