"""Transfer learning that proves itself: graft, fine-tune, verify and ship vision models.

The public names are imported on first use, so that ``import visiongraft`` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import Any

__version__ = _version("visiongraft")

_HOMES = {
    "Backbone": "backbone",
    "BackboneInfo": "backbone",
    "BackboneSource": "backbone",
    "Batch": "network",
    "Certificate": "certificate",
    "Exporter": "exporter",
    "Features": "backbone",
    "LabelMap": "data.labels",
    "Phase": "schedules",
    "PreprocessConfig": "preprocess",
    "Samples": "data.samples",
    "Splits": "data.samples",
    "Task": "task",
    "TransferModel": "model",
    "VisiongraftError": "errors",
    "fit": "fitting",
    "hookimpl": "hookspecs",
    "load": "model",
    "load_backbone": "backbone",
    "schedule": "schedules",
}
_MODULES = ("errors", "schedules", "data")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"visiongraft.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"visiongraft.{name}")
    raise AttributeError(f"module 'visiongraft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *_HOMES, *_MODULES]
