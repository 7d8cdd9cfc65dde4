"""The path of a page, which notebooks show."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())  # Python 3.11 makes no subclass of Path itself

HEIGHT = 600  # pixels


class ReportPage(_Path):
    """The path of a page; a notebook shows the page in a frame, if the file lies below its folder."""

    def _repr_html_(self) -> str:
        here = Path.cwd()
        path = self.resolve()
        inside = path.is_relative_to(here)
        address = quote(path.relative_to(here).as_posix()) if inside else path.as_uri()
        link = f'<a href="{escape(address)}" target="_blank">{escape(str(self))}</a>'
        frame = f'<iframe src="{escape(address)}" width="100%" height="{HEIGHT}"></iframe>'
        return f"<p>{link}</p>{frame if inside else ''}"
