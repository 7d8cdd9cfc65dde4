"""Classes in a small file of their own, to give to an exported file in place of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import ArtifactError, OptionError, one_line
from visiongraft.saving.files import write_bytes

OPEN_INPUTS = "open_inputs"  # the metadata of files whose classes can be exchanged: shapes by input
NAMES = "class_names"


@dataclass(frozen=True)
class ClassFile:
    """Classes, and the inputs of a file that describe them.

    Attributes:
        names: Their names.
        values: float32 arrays by input, the first dimension is the classes.
    """

    names: tuple[str, ...]
    values: dict[str, NDArray[np.float32]]

    def write(self, path: Path) -> None:
        """Write a file of tensors, with the names in its header."""
        from safetensors.numpy import save  # predictors of other files do without

        content = save(self.values, {NAMES: json.dumps(self.names, ensure_ascii=False)})
        write_bytes(path, content)


def read_classes(path: Path, metadata: Mapping[str, Any]) -> ClassFile:
    """Read classes for an exported file.

    Args:
        path: Written by ``ClassFile.write``.
        metadata: Of the exported file.

    Raises:
        ArtifactError: The file is missing or damaged, or belongs to another model.
        OptionError: The classes of the exported file cannot be exchanged.
    """
    from safetensors import safe_open

    shapes = metadata.get(OPEN_INPUTS)
    if not isinstance(shapes, dict) or not shapes:
        raise OptionError(
            "the classes of this file are fixed; export the model with open_classes=True"
        )
    try:
        with safe_open(path, "numpy") as file:
            names = json.loads((file.metadata() or {}).get(NAMES, "null"))
            values = {name: file.get_tensor(name) for name in shapes if name in set(file.keys())}
    except Exception as error:  # of a file that is missing or damaged
        raise ArtifactError(
            f"{path} cannot be read as a file of classes: {one_line(error)}"
        ) from error
    if not _are_names(names):
        raise ArtifactError(f"{path} does not name its classes; write it with save_classes")
    for name, shape in shapes.items():
        expected = (len(names), *shape[1:])
        value = values.get(name)
        fits = value is not None and value.shape == expected and value.dtype == np.float32
        if not fits or not np.isfinite(values[name]).all():
            raise ArtifactError(
                f"{path} does not belong to this model: {name} is not finite float32 numbers {expected}"
            )
    return ClassFile(tuple(names), {name: values[name] for name in shapes})


def _are_names(names: Any) -> bool:
    if not isinstance(names, Sequence) or isinstance(names, str) or len(names) < 2:
        return False
    return all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names)
