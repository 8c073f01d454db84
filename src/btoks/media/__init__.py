"""Everything that opens media: a `Source` opens nothing, `load` decodes all of it, a `Decoder` does so in a worker.

    Source ──load──▶ Item       {"text": …}, {"image": …}, {"video": …} or a page's {"image": …, "text": …}

Content decides what something is, never its name; `Limits` say what it may cost and where it may come from; whatever is
wrong with an input is raised as `MediaError` by `load`.
"""

from btoks.media.decoder import Decoder
from btoks.media.loading import kind, load, page_count
from btoks.media.source import Item, Limits, MediaError, Source

__all__ = ["Decoder", "Item", "Limits", "MediaError", "Source", "kind", "load", "page_count"]
