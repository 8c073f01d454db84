"""Libraries and their models over HTTP: search, originals, embeddings, and the page in a browser."""

from btoks.server.app import create
from btoks.server.state import Settings

__all__ = ["Settings", "create"]
