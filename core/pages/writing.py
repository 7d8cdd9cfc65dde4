"""Pages of HTML that need no other file and no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from visiongraft.errors import OptionError, escape_unprintable
from visiongraft.pages.parts import Cell, Figure, Section

DIGITS = 4  # of a number in a table


def render_page(title: str, sections: Sequence[Section], lead: Sequence[str] = ()) -> str:
    """Write a page; everything that comes from data is escaped.

    Args:
        title: Its title.
        sections: What it consists of.
        lead: Lines under the title.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("visiongraft.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # Bokeh reads them in order
    environment.filters["cell"] = format_cell
    environment.filters["visible"] = escape_unprintable
    environment.filters["identity"] = id
    models = [
        part.model for section in sections for part in section.parts if isinstance(part, Figure)
    ]
    return environment.get_template("page.html").render(
        title=title,
        lead=lead,
        sections=sections,
        items=[_item(model, f"figure-{i}") for i, model in enumerate(models)],
        numbers={id(model): i for i, model in enumerate(models)},
        plotting=_plotting() if models else "",
    )


def format_cell(value: Cell) -> str:
    """Write the value of a cell.

    Examples:
        >>> format_cell(0.98765), format_cell(3), format_cell(None)
        ('0.9877', '3', '')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if math.isfinite(value) else "-"
    return escape_unprintable(str(value))


def check_page(path: str | Path) -> Path:
    """Return the path of a page.

    Raises:
        OptionError: Its suffix is not that of HTML, or it is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise OptionError(f"html={path} is not a path of a file with the suffix .html")
    return path


def _item(model: Any, target: str) -> Any:
    from bokeh.core.types import ID
    from bokeh.embed import json_item

    return json_item(model, ID(target))


def _plotting() -> str:
    """Return the script that draws figures."""
    from bokeh.util.paths import bokehjs_path

    script: str = (bokehjs_path() / "js" / "bokeh.min.js").read_text(encoding="utf-8")
    return script.replace("</script", "<\\/script")
