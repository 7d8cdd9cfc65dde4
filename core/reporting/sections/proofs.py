"""What was proved, where, and how to repeat it: receipts, certificates, environment, command."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import torch

from visiongraft.config import FitConfig
from visiongraft.errors import VisiongraftError
from visiongraft.lookup.exported import open_exported
from visiongraft.pages.parts import Code, Part, Table, Text
from visiongraft.reporting.contract import ReportSection
from visiongraft.system.versions import installed_versions

PACKAGES = (
    "visiongraft", "torch", "torchvision", "timm", "transformers", "accelerate", "numpy", "pillow",
    "onnx", "onnxruntime", "onnxruntime-gpu",
)  # fmt: skip


class Receipts(ReportSection):
    """The proof of each phase that what was frozen did not change."""

    name, title, position = "receipts", "Receipts", 80

    def parts(self) -> Iterator[Part]:
        rows: list[list[str | int]] = []
        for receipt in self.run.receipts:
            digests: dict[str, str] = receipt["frozen"]
            numbers = (len(digests), receipt["modules_in_eval"], receipt["optimizer_parameters"])
            rows.append([receipt["phase"] + 1, str(receipt["trainable"]), *map(_count, numbers)])
        yield Text(
            "The SHA-256 of every frozen tensor was the same before and after each phase; "
            "receipts.json of the run lists them."
        )
        yield Table(
            [
                "phase", "trained", "frozen tensors, unchanged", "modules in evaluation mode",
                "parameters of the optimizer",
            ],
            rows,
        )  # fmt: skip


class Certificates(ReportSection):
    """The certificates of files that the model was exported to."""

    name, title, position = "certificate", "Certificate", 85

    def parts(self) -> Iterator[Part]:
        for path in self.run.exported:
            try:
                found: dict[str, Any] = open_exported(path).metadata.get("certificate", {})
            except VisiongraftError as error:
                yield Text(str(error))
                continue
            names = ("format", "precision", "difference", "mismatches", "near_ties", "headline",
                     "metric_torch", "metric_exported", "content_sha256")  # fmt: skip
            rows = [(name.replace("_", " "), found.get(name)) for name in names]
            yield Table(["value", path.name], [row for row in rows if row[1] is not None])
            yield Table(
                ["inputs", "batch", "images", "difference", "mismatches"],
                [
                    [c["inputs"], c["batch"], c["images"], float(c["difference"]), c["mismatches"]]
                    for c in found.get("comparisons", ())
                ],
                "Comparisons of the file with PyTorch",
            )
        if not self.run.exported:
            yield Text("The model was not exported into the run folder.")
            command = ["visiongraft", "export", str(self.run.folder)]
            yield Code(shlex.join([*command, str(self.run.folder / "model.onnx")]))


class Environment(ReportSection):
    """Backbone, settings and versions."""

    name, title, position = "environment", "Environment", 90

    def parts(self) -> Iterator[Part]:
        info = self.run.network.backbone.info
        known = {"name": info.name, **info.provenance}
        yield Table(["backbone", "value"], [(name, str(value)) for name, value in known.items()])
        system = {"python": platform.python_version(), "system": platform.platform()}
        if torch.cuda.is_available():
            system["gpu"] = torch.cuda.get_device_name()
        versions = system | installed_versions(*PACKAGES)
        yield Table(["package", "version"], list(versions.items()), "Where this page was written")


class Reproduce(ReportSection):
    """The command that trains the same model, and all settings."""

    name, title, position = "reproduce", "Repeat this run", 95

    def parts(self) -> Iterator[Part]:
        config = self.run.config
        folder = str(self.run.folder)
        yield Code(
            shlex.join(["visiongraft", "fit", "--config", folder, "--out", f"{folder}-again"])
        )
        own = asdict(config)
        rows = [
            (field.name, str(own[field.name]), "" if _is_default(field, own) else "set")
            for field in fields(FitConfig)
        ]
        yield Table(["setting", "value", "differs from the default"], rows, "Settings", folded=True)


def _is_default(field: Any, own: dict[str, Any]) -> bool:
    return bool(own[field.name] == field.metadata["default"])


def _count(value: Any) -> int:
    return value if isinstance(value, int) else len(value)
