"""An exported file, opened by the predictor that is installed for its suffix, with its certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.certificate import CertifiedImage
from visiongraft.comparison import Arrays
from visiongraft.errors import (
    ArtifactError,
    ExportError,
    OptionError,
    VisiongraftError,
    one_line,
)
from visiongraft.exporters.runtime.description import (
    CERTIFICATE,
    described_input,
    extra_outputs_of,
)
from visiongraft.exporters.verification.certified_results import parse_certified
from visiongraft.lookup.exported import ExportedModel, open_exported
from visiongraft.options import is_number


class CertifiedFile:
    """An exported file.

    Args:
        path: The file.
        time_limit: Seconds after which a run is stopped; ``None`` for no limit.

    Attributes:
        path: The file.
        opened: What runs it.
        metadata: The file's metadata, as JSON values.
        input: Its input.
        extras: Names of its extra outputs.
        certificate: Its certificate, as JSON values.
        certified: Results for seeded images in it; empty if there are none.
        exact: Whether no prediction may change, as for full precision.

    Raises:
        ArtifactError: The file is missing, unsafe, cannot be run, or has no certificate.
        OptionError: It takes preprocessed images, and PyTorch, which prepares them, is not
            installed.
    """

    def __init__(self, path: Path, time_limit: float | None = None) -> None:
        self.path = path
        self.opened: ExportedModel = open_exported(path, time_limit=time_limit)
        self.metadata = self.opened.metadata
        self.input = described_input(path, self.metadata)
        self.extras = extra_outputs_of(self.metadata)
        if "preprocess" not in self.metadata:
            raise ArtifactError(f"{path} does not describe its preprocessing; export it again")
        self.certificate = _certificate(path, self.metadata)
        self.exact = not _is_lower(self.certificate)
        self.certified = _certified(path, self.certificate)
        self._run: Callable[[NDArray[np.uint8]], Arrays] = (
            self._prepared_run() if self.input.kind == "float" else self.opened.run
        )

    @property
    def network_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        height, width = self.metadata["preprocess"]["size"]
        return int(height), int(width)

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The only height and width of raw images that it takes."""
        height, width = self.input.height, self.input.width
        padded = self.metadata["preprocess"]["resize"] == "pad"
        if height is None or width is None or (self.input.kind == "float" and not padded):
            return None
        return height, width

    @property
    def map_size(self) -> tuple[int, int] | None:
        """Height and width of its maps if it takes preprocessed images."""
        return (self.fixed_size or self.network_size) if self.input.kind == "float" else None

    @property
    def same_kernels(self) -> bool:
        """Whether results are rounded in the same way as those that were certified."""
        kernels = getattr(self.opened, "kernels", None)
        return kernels is not None and kernels == self.certificate.get("kernels")

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        """Return its results for raw images (N, H, W, C).

        Raises:
            ExportError: It fails.
        """
        try:
            return self._run(images)
        except VisiongraftError as error:
            raise ExportError(str(error)) from error

    def _prepared_run(self) -> Callable[[NDArray[np.uint8]], Arrays]:
        """Return a function that preprocesses raw images first."""
        try:
            import torch

            from visiongraft.exporters.float_graph import prepared
            from visiongraft.preprocess import Preprocess, PreprocessConfig
        except ImportError as error:
            raise OptionError(
                f"{self.path} takes preprocessed images; to check it needs PyTorch ({error})"
            ) from None
        given = self.metadata["preprocess"].items()
        config: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given}
        try:
            preprocess = Preprocess(PreprocessConfig(**config))
        except (TypeError, OptionError) as error:
            raise ArtifactError(
                f"{self.path} is damaged: its preprocessing cannot be built: {one_line(error)}"
            ) from error
        run: Callable[..., Arrays] = self.opened.run  # such a file may also take the images' sizes
        count = len(self.input.names)

        def run_raw(images: NDArray[np.uint8]) -> Arrays:
            with torch.inference_mode():
                inputs = list(prepared(preprocess, torch.tensor(images)).values())
            return run(*(x.numpy() for x in inputs[:count]))

        return run_raw


def _certificate(path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the certificate if it has everything that is checked."""
    certificate = metadata.get(CERTIFICATE)
    if not isinstance(certificate, dict):
        raise _uncheckable(path)

    def is_fit(value: Any, kind: type, required: bool) -> bool:
        if value is None:
            return not required
        return is_number(value) if kind is float else isinstance(value, kind)

    needed: dict[str, tuple[type, bool]] = {
        "comparisons": (list, True),
        "difference": (float, True),
        "mismatches": (int, True),
        "tolerance": (float, False),
        "budget": (float, _is_lower(certificate)),
        "headline": (str, True),
        "metric_torch": (float, False),
        "metric_exported": (float, False),
        "precision": (str, True),
        "content_sha256": (str, False),
        "data_sha256": (str, False),
        "kernels": (str, False),
    }
    exact = not _is_lower(certificate)
    fits = all(is_fit(certificate.get(name), *how) for name, how in needed.items())
    if not fits or (exact and certificate.get("budget") is not None):
        raise _uncheckable(path)
    return certificate


def _certified(path: Path, certificate: Mapping[str, Any]) -> tuple[CertifiedImage, ...]:
    """Return the results for seeded images in a certificate."""
    found = parse_certified(certificate.get("certified", []))
    if found is None:
        raise _uncheckable(path)
    return found


def _uncheckable(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} has no certificate that can be checked; export it again")


def _is_lower(certificate: Mapping[str, Any]) -> bool:
    """Check whether it is of a lower precision, which is held to a budget."""
    return certificate.get("tolerance") is None
