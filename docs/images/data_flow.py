"""Draw ``data-flow.svg``, the data flow of a run: ``python docs/images/data_flow.py``."""

from __future__ import annotations

from html import escape
from pathlib import Path

WIDTH, ROW, BOX_WIDTH, BOX_HEIGHT = 960, 96, 168, 52
COLUMNS = (112, 304, 496, 688, 880)  # x of the centers; the last column is for results on disk

# name: (column, row, title, note)
BOXES = {
    "read": (0, 0, "task.read(data)", "finds samples"),
    "check": (1, 0, "check_samples", "decodes each image once"),
    "bind": (2, 0, "task.bind(train)", "class names"),
    "network": (3, 0, "Network", "backbone, head, loss"),
    "report": (4, 0, "config.json", "data-check.json"),
    "schedule": (0, 1, "schedule", "receives the history"),
    "phase": (1, 1, "Phase", "what is trainable"),
    "freeze": (2, 1, "apply_phase", "freezes stages"),
    "snapshot": (3, 1, "FrozenSnapshot", "hashes frozen tensors"),
    "batches": (0, 2, "batches", "images or cached features"),
    "step": (1, 2, "task.training_step", "loss, optimizer, EMA"),
    "validate": (2, 2, "validation", "task.decode, metrics"),
    "verify": (3, 2, "FrozenSnapshot.check", "compares the hashes"),
    "epoch": (4, 2, "metrics.jsonl", "checkpoints/, receipts"),
    "model": (0, 3, "TransferModel", "weights of the best epoch"),
    "graph": (1, 3, "InferenceGraph", "preprocess to decode"),
    "export": (2, 3, "Exporter.export", "writes a temporary file"),
    "prove": (3, 3, "verification", "compares with PyTorch"),
    "file": (4, 3, "model/, exported file", "certificate"),
}
ROWS = ("prepare", "each phase", "each epoch, then the end of the phase", "after training")
ARROWS = (
    ("read", "check"), ("check", "bind"), ("bind", "network"), ("network", "report"),
    ("schedule", "phase"), ("phase", "freeze"), ("freeze", "snapshot"),
    ("batches", "step"), ("step", "validate"), ("validate", "verify"), ("verify", "epoch"),
    ("model", "graph"), ("graph", "export"), ("export", "prove"), ("prove", "file"),
)  # fmt: skip
DOWN = (("network", "schedule"), ("snapshot", "batches"), ("verify", "model"))


def center(name: str) -> tuple[int, int]:
    """Return the center of a box, in pixels."""
    column, row, *_ = BOXES[name]
    return COLUMNS[column], 62 + row * ROW


def box(name: str) -> str:
    """Draw a box with its title and its note."""
    column, _, title, note = BOXES[name]
    x, y = center(name)
    kind = "file" if column == len(COLUMNS) - 1 else "code"
    left, top = x - BOX_WIDTH // 2 + 6, y - BOX_HEIGHT // 2
    return (
        f'<rect class="{kind}" x="{left}" y="{top}" width="{BOX_WIDTH - 12}" '
        f'height="{BOX_HEIGHT}" rx="6"/>'
        f'<text class="title" x="{x}" y="{y - 4}">{escape(title)}</text>'
        f'<text class="note" x="{x}" y="{y + 14}">{escape(note)}</text>'
    )


def across(start: str, end: str) -> str:
    """Draw an arrow to the next box of the same row."""
    (x, y), (other, _) = center(start), center(end)
    half = BOX_WIDTH // 2 - 6
    return f'<path class="arrow" d="M{x + half} {y} H{other - half - 3}"/>'


def down(start: str, end: str) -> str:
    """Draw an arrow to a box of the next row."""
    (x, y), (other, below) = center(start), center(end)
    half, middle = BOX_HEIGHT // 2, y + ROW // 2 - 4
    return f'<path class="arrow" d="M{x} {y + half} V{middle} H{other} V{below - half - 3}"/>'


def loop(start: str, end: str, side: int) -> str:
    """Draw the dashed way back from one row to an earlier or the same one, left of both."""
    (x, y), (other, above) = center(start), center(end)
    left, half = x - BOX_WIDTH // 2 + 6, BOX_WIDTH // 2 - 6
    return f'<path class="back" d="M{left} {y} H{side} V{above} H{other - half - 3}"/>'


def drawing() -> str:
    """Return the SVG."""
    height = 62 + ROW * len(ROWS) - 20
    style = (
        "text{font-family:sans-serif;text-anchor:middle;fill:#1b1f24}"
        ".title{font-size:13px;font-weight:600}.note{font-size:11px;fill:#57606a}"
        ".row{font-size:11px;text-anchor:start;fill:#57606a}"
        ".code{fill:#ddf4ff;stroke:#54aeff}.file{fill:#fff8c5;stroke:#d4a72c}"
        ".arrow,.back{fill:none;stroke:#57606a;stroke-width:1.4;marker-end:url(#head)}"
        ".back{stroke-dasharray:5 4}"
    )
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 Z" fill="#57606a"/></marker>'
    )
    parts = [
        f'<rect width="{WIDTH + 16}" height="{height}" fill="#ffffff"/>',
        *(
            f'<text class="row" x="122" y="{28 + row * ROW}">{name}</text>'
            for row, name in enumerate(ROWS)
        ),
        *(across(*arrow) for arrow in ARROWS),
        *(down(*arrow) for arrow in DOWN),
        loop("batches", "schedule", 14),
        *map(box, BOXES),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 16} {height}" role="img" '
        f'aria-label="Data flow of a run"><style>{style}</style><defs>{head}</defs>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    Path(__file__).with_name("data-flow.svg").write_text(drawing(), encoding="utf-8")
