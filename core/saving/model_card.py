"""The model card that goes with every saved model."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from visiongraft.errors import escape_unprintable
from visiongraft.network import Network
from visiongraft.options import is_integer
from visiongraft.system.versions import VISIONGRAFT


def model_card(network: Network, facts: Mapping[str, Any]) -> str:
    """Write the model card.

    Args:
        network: The model.
        facts: What is known about its training, as JSON values.

    Returns:
        Markdown.
    """
    info, task = network.backbone.info, network.task
    parameters = sum(p.numel() for p in network.parameters())
    sections = [
        f"# {task.name} on {info.name}",
        f"Made with visiongraft {VISIONGRAFT}; {parameters:,} parameters.",
        "Load it with `visiongraft.load(FOLDER)`.",
        _table("Task", {"task": task.name, **task.metadata()}),
        _table(
            "Backbone",
            {
                "name": info.name,
                "input": f"{info.preprocess.size[0]} x {info.preprocess.size[1]} pixels, "
                f"{info.in_channels} channels, {info.preprocess.resize}",
                **info.provenance,
            },
        ),
        *(
            _table(str(k).capitalize(), _one_based(v))
            for k, v in facts.items()
            if isinstance(v, Mapping)
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _one_based(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Count an epoch from one, as readers do; facts count it from zero."""
    epoch = values.get("epoch")
    return {**values, "epoch": epoch + 1} if is_integer(epoch) else values


def _table(title: str, values: Mapping[str, Any]) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in values.items()]
    return "\n".join([f"## {title}", "", "| | |", "| --- | --- |", *rows])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = escape_unprintable(" ".join(text.splitlines()))
    text = text if len(text) <= 400 else text[:397] + "..."
    # Names come from data: they must not become tags, images or links where the card is shown.
    text = html.escape(text, quote=False).replace("](", "]\\(")
    return re.sub(r"(\\*)\|", r"\1\1\\|", text)  # backslashes before a bar would undo its escape
