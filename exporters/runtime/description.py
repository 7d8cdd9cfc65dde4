"""The metadata of an exported file that prediction relies on: its format, task and input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from visiongraft.class_file import OPEN_INPUTS
from visiongraft.errors import ArtifactError
from visiongraft.exporters.runtime.task_record import FUNCTIONS, is_record
from visiongraft.inputs import IMAGES, Inputs, described_inputs
from visiongraft.options import is_number

FORMAT = 2  # version of the layout of the metadata and of the certificate
CERTIFICATE = "certificate"  # its key in the metadata
EXTRA = "extra"  # marks the outputs that the user requested besides the task's results
OWN_KEYS = {"task", "task_options", "input"}  # that tell this package's files from those of others
_DTYPES = {"float": ("float32", "float16")}  # of preprocessed images, the usual one first
_PREPARED = "NCHW"  # their layout


@dataclass(frozen=True)
class InputSpec:
    """The input of an exported file.

    Attributes:
        name: Its name in the graph.
        kind: ``"uint8"`` for raw images (N, H, W, C) or clips (N, T, C, H, W), or ``"float"`` for
            preprocessed images (N, C, H, W).
        dtype: Type of its values.
        channels: How many.
        height: The only height that it takes, in pixels; ``None`` for any.
        width: The only width, likewise.
        sizes: Name of a second input, int64 (N, 2): original height and width of each preprocessed
            image in pixels; ``None`` without one.
        inputs: What its raw samples are.
    """

    name: str
    kind: str
    dtype: str
    channels: int
    height: int | None
    width: int | None
    sizes: str | None = None
    inputs: Inputs = IMAGES

    @property
    def names(self) -> list[str]:
        """All inputs of the graph, in order."""
        return [self.name] if self.sizes is None else [self.name, self.sizes]

    def accepts(self, images: Any) -> bool:
        """Check whether an object is an array that the file takes."""
        required = self.shape(None, None, None)
        if not isinstance(images, np.ndarray) or images.dtype != self.dtype:
            return False
        if images.ndim != len(required) or 0 in images.shape:
            return False
        return all(
            size in (None, given) for size, given in zip(required, images.shape, strict=True)
        )

    def __str__(self) -> str:
        shape = ", ".join(str(size) for size in self.shape(self.inputs.name, "any", "any"))
        return f"{self.dtype} ({shape})"

    def shape(self, count: Any, height: Any, width: Any) -> tuple[Any, ...]:
        """Return the shape of a batch; a fixed height and width override the arguments."""
        size = (self.height or height, self.width or width)
        if self.kind == "float":
            return (count, self.channels, *size)
        return self.inputs.shape(count, self.channels, *size)


def read_description(path: Path, properties: Mapping[str, str]) -> tuple[dict[str, Any], InputSpec]:
    """Parse and check the part of the metadata that prediction relies on.

    Args:
        path: The file, for messages.
        properties: Its metadata, as texts.

    Returns:
        All metadata as JSON values, and the input.

    Raises:
        ArtifactError: visiongraft did not write it, or its metadata are damaged.
    """
    metadata: dict[str, Any] = {}
    for key, text in properties.items():
        try:
            metadata[key] = json.loads(text)
        except (ValueError, RecursionError) as error:
            if OWN_KEYS <= properties.keys():
                raise ArtifactError(
                    f"{path} is damaged: {key!r} in its metadata is not JSON; export it again"
                ) from error
            metadata = {}  # another program's metadata need not be JSON
            break
    return metadata, described_input(path, metadata)


def extra_outputs_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a file's extra outputs.

    Args:
        metadata: Its metadata, already checked.

    Returns:
        Names in order; none for a file of an older version.
    """
    entries = metadata.get("outputs", ())
    return tuple(str(entry.get("name")) for entry in entries if entry.get(EXTRA) is True)


def described_input(path: Path, metadata: Mapping[str, Any]) -> InputSpec:
    """Check the part of the metadata that prediction relies on.

    Args:
        path: The file, for messages.
        metadata: Its metadata, as JSON values.

    Returns:
        The input.

    Raises:
        ArtifactError: visiongraft did not write it, or a version with another format did.
    """
    _check_format(path, metadata)
    for key, (fits, words) in _TYPES.items():
        if key in metadata and not fits(metadata[key]):
            raise ArtifactError(
                f"{path} is damaged: {key!r} in its metadata is not {words}; export it again"
            )
    spec = _input(metadata.get("input"))
    options, about = metadata.get("task_options"), metadata.get("task_metadata")
    known = isinstance(metadata.get("task"), str) and isinstance(options, dict)
    if spec is None or not known or not isinstance(about, dict):
        raise ArtifactError(f"{path} does not describe its input; was it exported by visiongraft?")
    return spec


def metadata_sha256(metadata: Mapping[str, Any]) -> str:
    """Hash all metadata but the certificate, as JSON with sorted keys.

    Args:
        metadata: JSON values by key.

    Returns:
        SHA-256 in hexadecimal digits.
    """
    others = {key: value for key, value in metadata.items() if key != CERTIFICATE}
    text = json.dumps(others, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_format(path: Path, metadata: Mapping[str, Any]) -> None:
    found, versions = metadata.get("format"), metadata.get("versions")
    if not _is_size(found) or found == FORMAT:
        return
    made_by = versions.get("visiongraft") if isinstance(versions, dict) else None
    raise ArtifactError(
        f"{path} was exported by visiongraft {made_by or 'of an unknown version'} in format "
        f"{found}; this version reads format {FORMAT}: export the model again"
    )


def _is_preprocessing(value: Any) -> bool:
    """Check whether it describes how images are prepared."""
    if not isinstance(value, dict):
        return False
    size, fraction = value.get("size"), value.get("crop_fraction", 1.0)
    means = [value.get(key) for key in ("mean", "std")]
    words = [value.get(key) for key in ("interpolation", "resize")]
    return (
        isinstance(size, list)
        and len(size) == 2
        and all(_is_size(side) for side in size)
        and all(isinstance(m, list) and m and all(map(is_number, m)) for m in means)
        and all(isinstance(word, str) for word in words)
        and is_number(fraction)
    )


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_facts(value: Any) -> bool:
    return not _is_mapping(value) or _has_texts(value.get("class_names", []))


def _has_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _has_shapes(value: Any) -> bool:
    return _is_mapping(value) and all(isinstance(v, list) and v for v in value.values())


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "task_metadata": (_is_facts, "a mapping with a list of class names"),
    "preprocess": (_is_preprocessing, "a description of the preprocessing"),
    "outputs": (lambda value: isinstance(value, list) and all(map(_is_mapping, value)), "a list"),
    "precision": (_is_text, "a name"),
    "task_class": (_is_text, "a name"),
    "weights_sha256": (_is_text, "a hash"),
    FUNCTIONS: (is_record, "a mapping of functions"),
    "versions": (_is_mapping, "a mapping"),
    "backbone": (_is_mapping, "a mapping"),
    "training": (_is_mapping, "a mapping"),
    OPEN_INPUTS: (_has_shapes, "shapes by input"),
}


def _input(entry: Any) -> InputSpec | None:
    if not isinstance(entry, dict):
        return None
    name, channels, kind = entry.get("name"), entry.get("channels"), entry.get("kind", "uint8")
    sizes, second = (entry.get("height"), entry.get("width")), entry.get("sizes")
    if not isinstance(name, str) or not _is_size(channels):
        return None
    if not all(side is None or _is_size(side) for side in sizes):
        return None
    if kind == "float":
        dtype, layout = entry.get("dtype", _DTYPES[kind][0]), entry.get("layout", _PREPARED)
        fits = dtype in _DTYPES[kind] and layout == _PREPARED and isinstance(second, str | None)
        return InputSpec(name, kind, dtype, channels, *sizes, second) if fits else None
    inputs = described_inputs(entry)
    if inputs is None or entry.get("dtype", inputs.dtype) != inputs.dtype or kind != inputs.dtype:
        return None
    return InputSpec(name, kind, kind, channels, *sizes, inputs=inputs) if second is None else None


def _is_size(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def described(value: Any) -> str:
    """Return dtype and shape of an array, or the type of anything else, for messages."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}"
