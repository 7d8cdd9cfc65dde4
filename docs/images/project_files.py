"""Draw ``containers.svg`` and ``workflow.svg``, the steps of the ``Dockerfile`` and of the workflow, as the files have them.

Run it from anywhere: ``python docs/images/project_files.py``.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from textwrap import shorten

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WIDTH, STEP, TOP, MARGIN = (
    430,
    34,
    78,
    20,
)  # pixels; of a column, of a step, above the steps, around all
LONGEST = 50  # characters of a step
STYLE = """
    text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1f2933 }
    .title { font: bold 15px sans-serif } .note { font: 12px sans-serif; fill: #52606d }
    .part { fill: #e4f0fb; stroke: #2f6fad } .paper { fill: #ffffff }
    path { stroke: #52606d; stroke-width: 1.5; fill: none }
"""
Column = tuple[str, str, list[str]]  # title, note, steps


def stages_of(dockerfile: str) -> list[Column]:
    """Return the stages of a ``Dockerfile`` with their instructions."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    instructions = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).split("\n")
    columns: list[Column] = []
    for each in filter(None, map(str.strip, instructions)):
        word, _, rest = each.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            columns.append((name or "image", f"begins as {base}", []))
        elif columns and word != "SHELL":
            columns[-1][2].append(each)
    return columns


def jobs_of(workflow: str) -> list[Column]:
    """Return the jobs of a workflow with their steps."""
    columns: list[Column] = []
    for name, job in yaml.safe_load(workflow)["jobs"].items():
        versions = job.get("strategy", {}).get("matrix", {}).get("python", [])
        note = f"on {job['runs-on']}" + (f", Python {' and '.join(versions)}" if versions else "")
        columns.append((name, note, [step.get("uses") or step["run"] for step in job["steps"]]))
    return columns


def drawing(columns: list[Column], label: str) -> str:
    """Draw columns of steps.

    Args:
        columns: What there is, from left to right.
        label: For those who cannot see it.

    Returns:
        The SVG.
    """
    height = TOP + max(len(steps) for *_, steps in columns) * STEP + MARGIN
    width = MARGIN + len(columns) * (WIDTH + MARGIN)
    parts = []
    for i, (title, note, steps) in enumerate(columns):
        left = MARGIN + i * (WIDTH + MARGIN)
        parts.append(f'<text class="title" x="{left}" y="32">{escape(title)}</text>')
        parts.append(f'<text class="note" x="{left}" y="54">{escape(note)}</text>')
        for j, step in enumerate(steps):
            top = TOP + j * STEP
            text = escape(shorten(step, LONGEST, placeholder=" ..."))
            parts.append(
                f'<rect class="part" x="{left}" y="{top}" width="{WIDTH}" height="26" rx="5"/>'
            )
            parts.append(f'<text x="{left + 8}" y="{top + 17}">{text}</text>')
            if j:
                parts.append(f'<path d="M{left + WIDTH // 2} {top - STEP + 26}v{STEP - 26}"/>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">\n<style>{STYLE}</style>\n'
        f'<rect class="paper" width="{width}" height="{height}" rx="8"/>\n{body}\n</svg>\n'
    )


def drawings() -> dict[str, str]:
    """Return both drawings by the name of their file."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    return {
        "containers.svg": drawing(stages_of(dockerfile), "the two stages of the Dockerfile"),
        "workflow.svg": drawing(jobs_of(workflow), "the two jobs of the workflow"),
    }


if __name__ == "__main__":
    for name, text in drawings().items():
        (HERE / name).write_text(text, encoding="utf-8")
