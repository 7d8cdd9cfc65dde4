"""Commands for the cached features that runs share."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, table
from visiongraft.system.byte_sizes import readable_size

if TYPE_CHECKING:
    from visiongraft.caching.shared import Entry

app = typer.Typer(help="List or remove the cached features that runs share.")


@app.command("ls")
def list_caches(as_json: Json = False) -> Answer:
    """List cached features: what they are, their size, and when they were used last."""
    from visiongraft.caching.shared import LIMIT, entries, shared_folder

    folder = shared_folder()
    found = [_described(entry) for entry in entries(folder)]
    total = sum(each["bytes"] for each in found)
    columns = ["backbone", "layers", "images", "type", "size", "last used"]
    rows = [
        [
            each["backbone"],
            ", ".join(each["layers"]),
            str(each["images"]),
            each["dtype"],
            readable_size(each["bytes"]),
            each["last_used"],
        ]
        for each in found
    ]
    summary = f"{readable_size(total)} of at most {readable_size(LIMIT)} in {folder}"
    values = {"folder": folder, "bytes": total, "limit": LIMIT, "caches": found}
    return Answer(values, [table(columns, rows), summary] if rows else [summary])


@app.command("clear")
def clear_caches(as_json: Json = False) -> Answer:
    """Remove all cached features."""
    from visiongraft.caching.shared import clear, shared_folder

    folder = shared_folder()
    removed = clear(folder)
    freed = sum(entry.size for entry in removed)
    line = f"removed {len(removed)} cached feature sets, {readable_size(freed)}, from {folder}"
    return Answer({"folder": folder, "removed": len(removed), "bytes": freed}, [line])


def _described(entry: Entry) -> dict[str, Any]:
    about = entry.about
    layers = about.get("layers")
    return {
        "key": entry.path.name,
        "backbone": str(about.get("backbone", "damaged")),
        "layers": list(map(str, layers)) if isinstance(layers, list) else [],
        "images": about.get("images"),
        "dtype": str(about.get("dtype", "")),
        "bytes": entry.size,
        "last_used": datetime.fromtimestamp(entry.used).isoformat(" ", "seconds"),
    }
