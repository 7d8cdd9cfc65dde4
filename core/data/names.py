"""How the names of images in tables, lists and annotation files find the files on disk.

One policy for all readers. A name is taken as it is written; if there is no such file, in other
spellings that tools write: with slashes for backslashes, with URL escapes replaced, and with
accents composed or decomposed. Names that find no file are kept as they are written, so that they
are counted and named with the other images that do not exist.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote


def spellings(name: str) -> Iterator[str]:
    r"""Iterate over the spellings of a file's name, the given one first.

    Args:
        name: File name or relative path, as written in a file.

    Yields:
        Spellings, each once.

    Examples:
        >>> list(spellings("a\\b%20c.png"))
        ['a\\b%20c.png', 'a\\b c.png', 'a/b%20c.png', 'a/b c.png']
    """
    seen: set[str] = set()
    for slashes in (name, name.replace("\\", "/")):
        for text in (slashes, unquote(slashes)):
            for form in (
                text,
                unicodedata.normalize("NFC", text),
                unicodedata.normalize("NFD", text),
            ):
                if form not in seen:
                    seen.add(form)
                    yield form


def find_listed(folder: Path, name: str) -> Path | None:
    """Return the path of a file by its name in a table or list, or ``None`` if it does not exist.

    Args:
        folder: The folder that the name is relative to.
        name: The name; see ``spellings``.
    """
    if not name:
        return None
    paths = (folder / spelling for spelling in spellings(name))
    return next((path for path in paths if os.path.isfile(path)), None)
