"""An adapter without its base: the tensors that it trained, the head, and which base it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from visiongraft.errors import ArtifactError
from visiongraft.network import Network
from visiongraft.saving.files import write_json
from visiongraft.saving.saved_config import CONFIG, FORMAT, SavedConfig, describe_model, read_config
from visiongraft.saving.tensor_files import write_tensors

TENSORS = "adapter.safetensors"
BASE = "base"  # entry of the config's backbone: SHA-256 of the base


def adapter_folder(folder: Path) -> Path:
    """Return a run folder's adapter, or the folder itself."""
    inner = folder / "adapter"
    return inner if is_adapter(inner) else folder


def is_adapter(folder: Path) -> bool:
    """Check whether a folder contains an adapter."""
    return (folder / TENSORS).is_file()


def save_adapter(
    folder: Path,
    network: Network,
    tensors: Mapping[str, Tensor],
    base: str,
    facts: Mapping[str, Any],
    task_name: str,
) -> None:
    """Write an adapter; each file appears complete or not at all.

    Args:
        folder: Where to.
        network: A network with adapters.
        tensors: Of its state, what belongs to the adapters and to the head.
        base: SHA-256 of the backbone without adapters.
        facts: JSON values for the config.
        task_name: Name by which the task is found again.
    """
    values = asdict(describe_model(network, facts, task_name))
    own = [c for c in network.backbone.adapters if c.adapter.name in network.adapter_parameters]
    values["backbone"] |= {BASE: base, "adapters": [choice.to_json() for choice in own]}
    write_tensors(folder / TENSORS, tensors, {"format": FORMAT})
    write_json(folder / CONFIG, {"format": FORMAT, **values})


def read_adapter_config(folder: Path) -> tuple[SavedConfig, str]:
    """Read and check the config of an adapter.

    Args:
        folder: The adapter's folder.

    Returns:
        The config, and the SHA-256 of the base.

    Raises:
        ArtifactError: It is missing or damaged, or of a saved model.
    """
    config = read_config(folder)
    base = config.backbone.get(BASE)
    if not isinstance(base, str) or not config.backbone.get("adapters"):
        raise ArtifactError(f"{folder / CONFIG} is not the config of an adapter")
    return config, base
