"""Where the weights of each part of a model came from, and under which license."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiongraft.backbone import BEFORE, DATA_LICENSE, UNKNOWN, is_of_weights
from visiongraft.network import Network

RANDOM = "random"  # weights that nobody has a license on
TEXT = "text: "  # begins what the provenance says of a text encoder
HEAD = "head."  # begins what it says of a part of the head
ASSEMBLED, START = (
    "assembled",
    "start",
)  # facts of models whose heads were not begun for their datasets


def weight_origins(network: Network, facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what each part of a model began with: ``backbone``, and ``head`` if it has weights.

    Parts of the head that have an origin of their own, such as ``head.text``, are named beside it.

    Training changes weights, but not whose they were.

    Args:
        network: The network.
        facts: What the model says about itself.

    Returns:
        By part ``tensors``, their number; ``source``, ``weights``, ``sha256`` as far as known; ``license``,
        ``"unknown"`` if none is stated, and those of what these weights began with, by whose they are.
    """
    known = network.backbone.info.provenance
    own = {key: value for key, value in known.items() if not key.startswith((TEXT, HEAD))}
    found = {"backbone": _part(len(network.backbone.state_dict()), own)}
    parts = dict.fromkeys(k.partition(": ")[0] for k in known if k.startswith(HEAD))
    inside = {
        part: _part(len(network.get_submodule(part).state_dict()), _entries(known, f"{part}: "))
        for part in parts
    }
    count = len(network.head.state_dict()) - sum(part["tensors"] for part in inside.values())
    if not count:
        return found | inside
    text = _entries(known, TEXT)
    if text and START not in facts:
        found["head"] = _part(count, text)
    elif ASSEMBLED in facts or START in facts:  # out of the same model or file as the backbone
        found["head"] = _part(count, own)
    else:
        images = {k: v for k, v in own.items() if k.endswith(DATA_LICENSE) and BEFORE not in k}
        found["head"] = {"tensors": count, "source": "trained on the dataset alone", **images}
    return found | inside


def _entries(provenance: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {k.removeprefix(prefix): v for k, v in provenance.items() if k.startswith(prefix)}


def _part(tensors: int, provenance: Mapping[str, str]) -> dict[str, Any]:
    stated = any(map(is_of_weights, provenance))
    license = {} if stated or provenance.get("weights") == RANDOM else {"license": UNKNOWN}
    return {"tensors": tensors, **provenance, **license}
