"""Read the XML files of annotation tools."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from visiongraft.data.decode import printable, read_file
from visiongraft.errors import DataError

MAX_BYTES = 2**28
_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)""")
# Files that declare the first usually contain characters of the second, which extends it.
_EXTENDED = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949"}


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file.

    Args:
        path: The file, in any encoding that it declares.

    Returns:
        Its root; all tags are in lowercase and without namespace, as tools differ in both.

    Raises:
        DataError: The file cannot be read, or is not valid XML.
    """
    content = read_file(path, MAX_BYTES)
    try:
        root = _parse(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(
            f"{printable(path)} is not valid XML ({error}); save it as UTF-8 XML"
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2].lower()
    return root


def only_child(entry: ElementTree.Element, tag: str, path: Path) -> ElementTree.Element | None:
    """Return the child of an element with a tag.

    Args:
        entry: The element.
        tag: Tag of its child.
        path: The file, for messages.

    Returns:
        The child, or ``None`` if there is none.

    Raises:
        DataError: There are several.
    """
    found = entry.findall(tag)
    if len(found) > 1:
        raise DataError(
            f"{printable(path)}: an element <{entry.tag}> contains {len(found)} <{tag}>; keep one"
        )
    return found[0] if found else None


def _parse(content: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(content)
    except (LookupError, ValueError):  # an encoding that the parser itself does not know
        declared = _DECLARED.match(content.lstrip())
        if declared is None:
            raise
        encoding = declared[1].decode("ascii").lower()
        return ElementTree.fromstring(content.decode(_EXTENDED.get(encoding, encoding)))
