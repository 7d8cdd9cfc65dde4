"""What travels between server and sites: the declared tensors as .npy bytes, and nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import VisiongraftError, name_some, one_line
from visiongraft.options import is_integer

Arrays = Mapping[str, NDArray[np.floating[Any]]]
Payload = Mapping[str, bytes]
KINDS: dict[str, Any] = {  # of the parts of a declaration as JSON values
    "shapes": Mapping,
    "buffers": list,
    "frozen": str,
    "task": Mapping,
    "task_name": str,
    "task_options": Mapping,
    "bound": list,
}


class ExchangeError(VisiongraftError):
    """A message holds something else than the declared tensors."""


@dataclass(frozen=True)
class Declared:
    """The tensors that may travel.

    Attributes:
        shapes: Shape of each by name.
        buffers: Names of those that are statistics, not parameters.
        frozen: Digest of all tensors that do not train, which is equal at all sites.
        task: What the task says about its results, such as names of classes, which must mean the same everywhere.
        task_name: Name by which the task is found.
        task_options: Its options, of which the server makes the task of its model.
        bound: Names of the options that the images of the site set, such as weights of classes.
    """

    shapes: dict[str, tuple[int, ...]]
    buffers: tuple[str, ...]
    frozen: str
    task: Mapping[str, Any] = field(default_factory=dict)
    task_name: str = ""
    task_options: Mapping[str, Any] = field(default_factory=dict)
    bound: tuple[str, ...] = ()

    @property
    def numbers(self) -> int:
        """How many numbers one message holds."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as JSON values."""
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        about = {"frozen": self.frozen, "task": dict(self.task), "task_name": self.task_name}
        options = {"task_options": dict(self.task_options), "bound": list(self.bound)}
        return {"shapes": shapes, "buffers": list(self.buffers), **about, **options}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Declared:
        """Make it from what ``to_json`` returned.

        Raises:
            ExchangeError: It is something else.
        """
        for name, kind in KINDS.items():
            if not isinstance(values, Mapping) or not isinstance(values.get(name), kind):
                raise ExchangeError(f"the declaration has no {name!r} of the kind it should have")
        shapes = values["shapes"]
        if not all(
            isinstance(s, list) and all(is_integer(n, 0) for n in s) for s in shapes.values()
        ):
            raise ExchangeError("the declaration has shapes that are no lists of sizes")
        if not all(isinstance(n, str) for n in (*values["buffers"], *values["bound"])):
            raise ExchangeError("the declaration has names that are no texts")
        named = {name: values[name] for name in ("frozen", "task", "task_name", "task_options")}
        return cls(
            {name: tuple(shape) for name, shape in shapes.items()},
            tuple(values["buffers"]),
            **named,
            bound=tuple(values["bound"]),
        )

    def difference(self, other: Declared) -> str:
        """Describe how another declaration differs; nothing if it does not."""
        if self.task_name != other.task_name:
            return f"the task is {self.task_name!r} here and {other.task_name!r} there"
        for name in sorted(self.task.keys() | other.task.keys()):
            own, others = self.task.get(name), other.task.get(name)
            if own != others:
                return f"{name} is {_short(own)} here and {_short(others)} there"
        # Images of a site set some, such as weights of classes; what must agree of these is in ``task``.
        set_by_images = set(self.bound) & set(other.bound)
        for name in sorted((self.task_options.keys() | other.task_options.keys()) - set_by_images):
            own, others = self.task_options.get(name), other.task_options.get(name)
            if own != others:
                return f"the option {name} of the task is {_short(own)} here and {_short(others)} there"
        odd = sorted(self.shapes.keys() ^ other.shapes.keys())
        if odd:
            return f"other tensors train: {name_some(odd)}"
        wrong = [name for name, shape in self.shapes.items() if other.shapes[name] != shape]
        if wrong:
            name = wrong[0]
            return f"{name!r} has the shape {other.shapes[name]}, elsewhere {self.shapes[name]}"
        return "" if self.frozen == other.frozen else "the frozen tensors have other values"


def encode(arrays: Arrays) -> dict[str, bytes]:
    """Encode arrays as .npy bytes, as Flower does."""
    return {name: _npy(array) for name, array in arrays.items()}


def decode(payload: Payload, declared: Declared) -> dict[str, NDArray[np.float32]]:
    """Decode a message, and refuse all but the declared tensors.

    Args:
        payload: .npy bytes by name.
        declared: What may travel.

    Returns:
        float32 arrays by name.

    Raises:
        ExchangeError: A tensor is not declared or missing, has another shape or type, or is not finite.
    """
    odd = sorted(payload.keys() ^ declared.shapes.keys())
    if odd:
        state = "is not declared" if odd[0] in payload else "is missing"
        raise ExchangeError(f"tensor {odd[0]!r} {state}; {len(declared.shapes)} tensors travel")
    found = {}
    for name, shape in declared.shapes.items():
        try:
            array = np.load(io.BytesIO(payload[name]), allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ExchangeError(f"tensor {name!r} is no .npy file: {error}") from error
        if array.shape != shape or array.dtype != np.float32:
            got = f"{array.dtype} {array.shape}"
            raise ExchangeError(f"tensor {name!r} is {got}, not float32 {shape}")
        if len(payload[name]) != len(_npy(array)):
            raise ExchangeError(
                f"tensor {name!r} has {len(payload[name])} bytes: more than its values"
            )
        if not np.isfinite(array).all():
            raise ExchangeError(f"tensor {name!r} is not finite")
        found[name] = array
    return found


def _short(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), 80)


def size(payload: Payload) -> int:
    """Return the number of bytes of a message."""
    return sum(map(len, payload.values()))


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
    return buffer.getvalue()
