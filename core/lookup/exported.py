"""Opens exported files by what is installed for their suffix, without loading torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visiongraft.errors import ArtifactError, OptionError
from visiongraft.registry.functions import Function, functions

if TYPE_CHECKING:  # `visiongraft --help` does without numpy
    import numpy as np
    from numpy.typing import NDArray

GROUP = "visiongraft.predictors"


class ExportedModel(Protocol):
    """What an entry point of the group returns when called with a path and a provider.

    Attributes:
        metadata: The file's metadata; at least ``task``, ``task_options`` and
            ``input``, with its ``channels``.
    """

    metadata: dict[str, Any]

    def predict(
        self, images: Any, batch_size: int = 16, save: Path | None = None, **options: Any
    ) -> list[Any]:
        """Return one prediction per image; ``save`` is a folder for images with them drawn on."""

    def run(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Return the task's decoded results for uint8 (N, H, W, C)."""


def openers() -> dict[str, Function]:
    """Return the installed openers of exported files, by suffix."""
    return {f".{name}": function for name, function in functions(GROUP).items()}


def open_exported(
    path: Path, provider: str | None = None, time_limit: float | None = None
) -> ExportedModel:
    """Open an exported file.

    Args:
        path: The file.
        provider: Where to run it, such as ``"cuda"``; the CPU if ``None``.
        time_limit: Seconds after which a run is stopped; ``None`` for no limit.

    Returns:
        The model, ready to predict.

    Raises:
        ArtifactError: The file is missing or not an exported model.
        RuntimeProviderError: The provider cannot be used here.
        OptionError: Runs of such a file cannot be limited.
        PluginError: What opens such files cannot be imported, or there are several.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
    known = openers()
    if path.suffix.lower() not in known:
        raise ArtifactError(f"{path} is not an exported model ({', '.join(sorted(known))})")
    opened: ExportedModel = known[path.suffix.lower()].load()(path, provider)
    if time_limit is not None:
        if time_limit <= 0:
            raise OptionError(f"--time-limit {time_limit:g} is not above 0")
        if not hasattr(opened, "time_limit"):
            raise OptionError(
                f"runs of {path.suffix} files cannot be limited; leave out --time-limit"
            )
        opened.time_limit = time_limit
    return opened


def exchange_classes(opened: ExportedModel | None, path: Path, classes: Path) -> None:
    """Let an exported file predict other classes.

    Args:
        opened: The opened file; ``None`` for the folder of a model.
        path: The file, or the folder.
        classes: The file of classes.

    Raises:
        ArtifactError: The file of classes is missing or damaged, or belongs to another model.
        OptionError: The classes cannot be exchanged.
    """
    exchange = getattr(opened, "use_classes", None)
    if exchange is None:
        raise OptionError(
            f"--classes requires a file that was exported with open_classes=true, which {path} is not"
        )
    exchange(classes)
