"""The files of a new plugin package; ``new_plugin`` replaces each ``@WORD@``."""

from __future__ import annotations

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "@DISTRIBUTION@"
version = "0.1.0"
description = "The task @NAME@ for visiongraft."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["visiongraft@VERSIONS@"]

[project.optional-dependencies]
dev = ["pytest>=9"]

[project.entry-points.visiongraft]                 # what makes it a plugin
@NAME@ = "@MODULE@"

[project.entry-points."visiongraft.predictions"]   # exported files predict without PyTorch
@NAME@ = "@MODULE@.prediction:predictions"

[tool.setuptools.packages.find]
where = ["src"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

README = """\
# @DISTRIBUTION@

The task `@NAME@` for visiongraft: predict one number for each image.

It reads a CSV table with the columns `path` and `value`; relative paths start at the table's folder.

```console
$ pip install -e ".[dev]"
$ pytest                                           # all checks of a task
$ visiongraft check-plugin @NAME@                  # the same from the command line
$ visiongraft fit photos.csv --task @NAME@ --out run
$ visiongraft export run @NAME@.onnx
$ visiongraft predict @NAME@.onnx photo.jpg
```

`src/@MODULE@/task.py` is the task, `data.py` finds the images, `prediction.py` defines the
prediction for users. Change them, and run the tests again.
"""

PLUGIN = '''\
"""The task @NAME@ for visiongraft."""

from visiongraft import hookimpl

visiongraft_api = "@API@"  # the version of the plugin interface


@hookimpl
def register_tasks():
    """Provide the task; PyTorch is imported only here, because exported files do not need it."""
    from @MODULE@.task import @CLASS@

    return [@CLASS@]
'''

TASK = '''\
"""Predict one number for each image."""

from dataclasses import dataclass, replace

import numpy as np
from torch import nn
from visiongraft import Task
from visiongraft.task import TaskExamples

from @MODULE@.data import draw_examples, read_table, split
from @MODULE@.model import Error, Head, Loss
from @MODULE@.prediction import predictions


@dataclass(frozen=True)
class @CLASS@(Task):
    """Predict one number for each image; its own fields are the options of ``--set``."""

    name = "@NAME@"
    headline = "mean_error"  # selects the best epoch
    better = "lower"

    center: float = 0.0  # of the training values, set by bind
    scale: float = 1.0

    def read(self, data, *, validation=0.2, seed=0):
        return split(read_table(data), validation, seed)

    def read_evaluation(self, data):
        return read_table(data)

    def bind(self, train):
        values = [train.target(i) for i in range(len(train))]
        return replace(self, center=float(np.mean(values)), scale=float(np.std(values)) or 1.0)

    def build_head(self, backbone) -> nn.Module:
        return Head(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return Loss(self.center, self.scale)

    def decode(self, outputs, sizes):
        return {"value": outputs.float() * self.scale + self.center}

    def build_metrics(self):
        return Error()

    def predictions(self, decoded):
        return predictions(decoded, self.metadata())

    def examples(self):
        return TaskExamples(draw_examples, ideal=lambda targets: {"value": targets.numpy()})
'''

MODEL = '''\
"""Head, loss and metric."""

import numpy as np
from torch import nn
from torch.nn import functional as F


class Head(nn.Module):
    """Map the features of N images to N numbers."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, 1)

    def forward(self, features):
        return self.linear(self.norm(features.pooled))[:, 0]


class Loss(nn.Module):
    """Squared error of standardized values."""

    def __init__(self, center: float, scale: float):
        super().__init__()
        self.center, self.scale = center, scale

    def forward(self, outputs, targets):
        return {"squared_error": F.mse_loss(outputs.float(), (targets - self.center) / self.scale)}


class Error:
    """Mean absolute error over a dataset."""

    def __init__(self):
        self.errors = []

    def update(self, decoded, targets):
        self.errors.extend(np.abs(decoded["value"] - np.asarray(targets)).tolist())

    def compute(self):
        return {"mean_error": float(np.mean(self.errors))}
'''

DATA = '''\
"""Tables of images and values, and an example dataset."""

import csv
import math
from pathlib import Path

import numpy as np
from PIL import Image
from visiongraft import Splits
from visiongraft.data.samples import FileSamples
from visiongraft.data.splits import stratified_split
from visiongraft.errors import DataError


def read_table(data):
    """Find the images of a CSV file with the columns path and value."""
    try:
        table = Path(data)
        rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
        paths = [table.parent / row["path"] for row in rows]
        values = [float(row["value"]) for row in rows]
    except (OSError, TypeError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{data} has no columns path and value: {error!r}") from error
    if not rows or not all(map(math.isfinite, values)):
        raise DataError(f"{data} has no rows, or a value that is not a finite number")
    return FileSamples(paths, values)


def split(samples, validation, seed):
    """Hold out a fraction of the images for validation."""
    train, rest = stratified_split([0] * len(samples), validation, seed)
    return Splits(samples.subset(train), samples.subset(rest))


def draw_examples(folder, count, seed):
    """Create gray images whose value is their brightness, from 0 to 100."""
    random = np.random.default_rng(seed)
    lines = ["path,value"]
    for number in range(count):
        value = 100 * number / (count - 1)
        height, width = random.integers(20, 60, 2)
        pixels = value * 2.55 + random.normal(0, 10, (height, width, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{value}")
    table = folder / "images.csv"
    table.write_text("\\n".join(lines) + "\\n", encoding="utf-8")
    return table
'''

PREDICTION = '''\
"""Predictions; must not import PyTorch, which exported files do not need."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """The number predicted for one image."""

    value: float


def predictions(arrays, metadata):
    """Convert the results of ``decode``, as arrays, to typed predictions."""
    return [Number(float(value)) for value in arrays["value"]]
'''

TESTS = '''\
"""Run all checks of a task; ``pytest -k decode`` runs some of them."""

import pytest
from visiongraft import fit
from visiongraft.registry.manager import plugins
from visiongraft.testing import TASK_CHECKS, TaskTrial

from @MODULE@.data import draw_examples
from @MODULE@.task import @CLASS@


def test_the_task_is_found_once_installed():
    assert plugins().get("task", "@NAME@") is @CLASS@


@pytest.fixture(scope="module")
def trial():
    return TaskTrial(@CLASS@())  # shared: trained and exported once


@pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.name)
def test_the_task_conforms(check, trial):
    check(trial)


def test_the_task_learns_from_a_table(tmp_path):
    table = draw_examples(tmp_path, count=40, seed=0)
    small = {"backbone": "simple_cnn", "weights": None, "size": 32, "device": "cpu"}
    quick = {"schedule": "full(learning_rate=0.005)", "epochs": 8, "batch_size": 8}
    model = fit(table, task="@NAME@", callbacks=(), **small, **quick)
    assert model.evaluate(table)["mean_error"] < 15  # a constant guess is off by 25
'''

FILES = {
    "pyproject.toml": PYPROJECT,
    "README.md": README,
    "src/@MODULE@/__init__.py": PLUGIN,
    "src/@MODULE@/task.py": TASK,
    "src/@MODULE@/model.py": MODEL,
    "src/@MODULE@/data.py": DATA,
    "src/@MODULE@/prediction.py": PREDICTION,
    "tests/test_@NAME@.py": TESTS,
}
