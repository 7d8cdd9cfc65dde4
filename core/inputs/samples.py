"""What a user passes to predict: samples without targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from visiongraft.data.decode import printable, read_file
from visiongraft.data.images import image_name
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError
from visiongraft.inputs.contract import Inputs
from visiongraft.inputs.images import IMAGES


@dataclass(frozen=True)
class InputSamples(Samples):
    """Images, or samples of another kind, without targets.

    Attributes:
        values: Anything that ``inputs.array`` accepts.
        inputs: What they are.
    """

    values: Sequence[Any]
    inputs: Inputs = IMAGES

    @classmethod
    def of(cls, values: Any, inputs: Inputs = IMAGES) -> Self:
        """Create samples from one sample, several, or a folder.

        Args:
            values: Anything that ``inputs.each`` accepts.
            inputs: What they are.

        Raises:
            DataError: A folder contains none, a path does not exist, or ``values`` is of another kind.
        """
        found = list(inputs.each(values))
        for value in found:
            if isinstance(value, (str, Path)) and not inputs.is_path(Path(value)):
                raise DataError(f"{printable(value)} does not exist or is not a file")
        return cls(found, inputs)

    def __len__(self) -> int:
        return len(self.values)

    def name(self, index: int) -> str:
        """Return the path, or the position of a value in memory."""
        return image_name(self.values[index], index)

    def target(self, index: int) -> Any:
        """Return 0: there are no targets."""
        return 0

    def content(self, index: int) -> bytes | None:
        """Return the bytes of a file; ``None`` of other values, or if it cannot be read."""
        value = self.values[index]
        if not isinstance(value, (str, Path)) or Path(value).is_dir():
            return None
        try:
            return read_file(Path(value))
        except DataError:
            return None

    def load(self, index: int, channels: int = 3) -> NDArray[Any]:
        """Decode or convert a value."""
        return self.inputs.array(self.values[index], self.name(index), channels)
