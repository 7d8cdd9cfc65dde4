"""A hook of mkdocs: links from notebooks to pages, which are files in the repository and folders on the site."""

from __future__ import annotations

import re
from typing import Any

LINK = re.compile(r'href="\.\./([\w/-]+)\.md(#[\w-]+)?"')


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Turn ``../page.md`` into ``../../page/`` on the pages of notebooks.

    Args:
        output: The page as HTML.
        page: What mkdocs knows of it.
    """
    if not page.file.src_uri.endswith(".ipynb"):
        return output
    return LINK.sub(lambda found: f'href="../../{found[1]}/{found[2] or ""}"', output)
