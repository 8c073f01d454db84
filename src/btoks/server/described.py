"""The OpenAPI description as a page to read at `/docs`: plain HTML, with nothing from elsewhere and no script."""

from __future__ import annotations

import html
import json
from typing import Any

_HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    '<meta name="viewport" content="width=device-width"><title>{title}</title>'
)


def page(description: dict[str, Any]) -> str:
    """Every endpoint with its parameters, its body and its answers, and below them the forms these have.

    >>> "<h2>GET /x</h2>" in page({"info": {"title": "t"}, "paths": {"/x": {"get": {"responses": {}}}}})
    True
    """
    info = description["info"]
    title = _text(info["title"])
    parts = [_HEAD.format(title=title), f"<h1>{title} {_text(info.get('version', ''))}</h1>"]
    parts += [f"<p>{_text(line)}</p>" for line in info.get("description", "").split("\n\n")]
    parts.append('<p>The same for programs: <a href="openapi.json">openapi.json</a></p>')
    for path, methods in description["paths"].items():
        parts += [_operation(path, method, told) for method, told in methods.items()]
    for name, form in description.get("components", {}).get("schemas", {}).items():
        shown = json.dumps(form, indent=1, ensure_ascii=False)
        parts.append(f'<h3 id="{_text(name)}">{_text(name)}</h3><pre>{_text(shown)}</pre>')
    return "".join(parts)


def _operation(path: str, method: str, told: dict[str, Any]) -> str:
    parts = [f"<h2>{_text(method.upper())} {_text(path)}</h2>"]
    parts += [f"<p>{_text(line)}</p>" for line in told.get("description", "").split("\n\n") if line]
    rows = [
        f"<li><code>{_text(each['name'])}</code> ({_text(each['in'])}): {_text(each.get('description', ''))}</li>"
        for each in told.get("parameters", [])
    ]
    rows += [f"<li>body: {_forms(told['requestBody'])}</li>"] if "requestBody" in told else []
    rows += [
        f"<li>{_text(status)}: {_forms(answer) or _text(answer.get('description', ''))}</li>"
        for status, answer in told["responses"].items()
    ]
    return "".join([*parts, "<ul>", *rows, "</ul>"])


def _forms(body: dict[str, Any]) -> str:
    """The media types of a body, each with a link to its form."""
    found = []
    for kind, media in body.get("content", {}).items():
        name = str(media.get("schema", {}).get("$ref", "")).rpartition("/")[2]
        found.append(f'<a href="#{_text(name)}">{_text(name)}</a>' if name else _text(kind))
    return ", ".join(found)


def _text(value: object) -> str:
    return html.escape(str(value))
