"""A searchable library of texts, pictures, videos and document pages: one folder, one writer, any number of readers."""

from btoks.library.library import Library
from btoks.library.ranking import Hit

__all__ = ["Hit", "Library"]
