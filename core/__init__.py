"""Transfer learning that proves itself: graft, fine-tune, verify and ship vision models.

``fit`` trains a model, ``load`` loads one again; ``TransferModel`` is what both return. The other
names are for those who write plugins, or who use the parts. Names are imported on first use, so that
``import visiongraft`` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from visiongraft.versions import VISIONGRAFT as __version__

if TYPE_CHECKING:  # what editors and type checkers read; ``_HOMES`` says the same at run time
    from visiongraft import data, errors, schedules
    from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features
    from visiongraft.certificate import Certificate, Comparison
    from visiongraft.comparison import Disagreement
    from visiongraft.data.batch import Batch
    from visiongraft.data.labels import LabelMap
    from visiongraft.data.readers import DataReader, DataSplits
    from visiongraft.data.samples import FileSamples, Samples, Splits, WrappedSamples
    from visiongraft.errors import VisiongraftError
    from visiongraft.exporter import Exporter
    from visiongraft.fitting import fit
    from visiongraft.hookspecs import RunHooks, hookimpl
    from visiongraft.lookup import find_schedule, load_backbone, read_data
    from visiongraft.model import TransferModel, load
    from visiongraft.network import Network
    from visiongraft.preprocess import PreprocessConfig
    from visiongraft.schedules import Phase, Schedule, schedule
    from visiongraft.task import Metrics, Task
    from visiongraft.training.engine import Run
    from visiongraft.training.freezing import Receipt
    from visiongraft.training.transfer_losses import TransferLoss, TransferStep

__all__ = [
    "Backbone",
    "BackboneInfo",
    "BackboneSource",
    "Batch",
    "Certificate",
    "Comparison",
    "DataReader",
    "DataSplits",
    "Disagreement",
    "Exporter",
    "Features",
    "FileSamples",
    "LabelMap",
    "Metrics",
    "Network",
    "Phase",
    "PreprocessConfig",
    "Receipt",
    "Run",
    "RunHooks",
    "Samples",
    "Schedule",
    "Splits",
    "Task",
    "TransferLoss",
    "TransferModel",
    "TransferStep",
    "VisiongraftError",
    "WrappedSamples",
    "__version__",
    "data",
    "errors",
    "find_schedule",
    "fit",
    "hookimpl",
    "load",
    "load_backbone",
    "read_data",
    "schedule",
    "schedules",
]

_HOMES = {
    "Backbone": "backbone",
    "BackboneInfo": "backbone",
    "BackboneSource": "backbone",
    "Batch": "data.batch",
    "Certificate": "certificate",
    "Comparison": "certificate",
    "DataReader": "data.readers",
    "DataSplits": "data.readers",
    "Disagreement": "comparison",
    "Exporter": "exporter",
    "Features": "backbone",
    "FileSamples": "data.samples",
    "LabelMap": "data.labels",
    "Metrics": "task",
    "Network": "network",
    "Phase": "schedules",
    "PreprocessConfig": "preprocess",
    "Receipt": "training.freezing",
    "Run": "training.engine",
    "RunHooks": "hookspecs",
    "Samples": "data.samples",
    "Schedule": "schedules",
    "Splits": "data.samples",
    "Task": "task",
    "TransferLoss": "training.transfer_losses",
    "TransferModel": "model",
    "TransferStep": "training.transfer_losses",
    "VisiongraftError": "errors",
    "WrappedSamples": "data.samples",
    "find_schedule": "lookup",
    "fit": "fitting",
    "hookimpl": "hookspecs",
    "load": "model",
    "load_backbone": "lookup",
    "read_data": "lookup",
    "schedule": "schedules",
}
_MODULES = ("data", "errors", "schedules")


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__"]


if not TYPE_CHECKING:  # or a type checker would take every misspelled name for a name

    def __getattr__(name):
        if name in _HOMES:
            value = getattr(import_module(f"visiongraft.{_HOMES[name]}"), name)
        elif name in _MODULES:
            value = import_module(f"visiongraft.{name}")
        else:
            raise AttributeError(f"module 'visiongraft' has no attribute {name!r}")
        return value
