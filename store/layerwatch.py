"""Showing a stored layer to a watcher, as it was shown when it was made (see store.diff)."""

import contextlib

from store.diff import Watcher
from store.restream import Source, stream
from store.tarreader import TarReader


def show(source: Source, watcher: Watcher) -> None:
    """Show all that is in a layer, and say so.

    Raises Corrupt, BadArchive where it is damaged, and what the watcher raises.
    """
    with contextlib.closing(stream(source)) as tar:
        reader = TarReader(tar)
        while (member := reader.next()) is not None:
            seen = watcher.entry(member.name, member.target, member.xattrs)
            for piece in reader.body():
                seen(piece)
    watcher.finish()
