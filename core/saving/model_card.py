"""The model card that goes with every saved model."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from visiongraft.backbone import IMAGES, license_warning, licenses
from visiongraft.errors import escape_unprintable
from visiongraft.network import Network
from visiongraft.options import is_integer, is_number
from visiongraft.system.versions import VISIONGRAFT

# Identifiers of the Hub for licenses that published weights have; others are named in words.
HUB_LICENSES = frozenset(
    [
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "cc0-1.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nc-nd-4.0",
        "gpl-3.0",
        "agpl-3.0",
        "lgpl-3.0",
        "openrail",
        "unknown",
    ]
)


def model_card(network: Network, facts: Mapping[str, Any]) -> str:
    """Write the model card, in the format of the Hugging Face Hub: metadata in YAML, then text.

    Args:
        network: The model.
        facts: What is known about its training, as JSON values.

    Returns:
        Markdown.
    """
    info, task = network.backbone.info, network.task
    parameters = sum(p.numel() for p in network.parameters())
    sections = [
        _metadata(network, facts),
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
        _table("Licenses", _license_rows(network)),
        *(
            _table(str(k).capitalize(), _one_based(v))
            for k, v in facts.items()
            if isinstance(v, Mapping)
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(network: Network, facts: Mapping[str, Any]) -> str:
    """Return what the Hub reads, as YAML; JSON texts are YAML, whatever they contain."""
    info, task = network.backbone.info, network.task
    stated = licenses(info.provenance)["weights"] if "license" in info.provenance else "unknown"
    known = stated.lower() if stated.lower() in HUB_LICENSES else "other"
    values: dict[str, Any] = {"license": known}
    if known == "other":
        values["license_name"] = stated
    values |= {"library_name": "visiongraft", "tags": [task.name, "transfer-learning"]}
    if task.pipeline_tag:
        values["pipeline_tag"] = task.pipeline_tag
    prefix, _, repository = info.name.partition("/")
    if prefix == "hf" and repository.count("/") == 1:
        values["base_model"] = repository
    metrics = facts.get("metrics")
    if isinstance(metrics, Mapping) and is_number(metrics.get(task.headline)):
        values["model-index"] = [_result(network, metrics[task.headline])]
    lines = [f"{name}: {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(["---", *lines, "---"])


def _result(network: Network, value: float) -> dict[str, Any]:
    """Return the headline on the validation images, as the Hub shows results."""
    task, name = network.task, f"{network.task.name} on {network.backbone.info.name}"
    of = {
        "task": {"type": task.pipeline_tag or task.name, "name": task.name},
        "dataset": {"type": "validation", "name": "validation images", "split": "validation"},
        "metrics": [
            {"type": task.headline, "name": task.headline, "value": value, "verified": False}
        ],
    }
    return {"name": name, "results": [of]}


def _license_rows(network: Network) -> dict[str, Any]:
    """Return the licenses of what the model was made of, and what does not go together."""
    info = network.backbone.info
    conflicts = license_warning(info.name, info.provenance)
    return {
        IMAGES: "not known to visiongraft; state it: data_license=..., --data-license",
        **licenses(info.provenance),
        "code": f"visiongraft {VISIONGRAFT}: Apache-2.0",
        **{f"note {number}": line for number, line in enumerate(conflicts, 1)},
    }


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
