"""A resumed run goes on with the data, weights and code that it began with, or says what changed."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft
from visiongraft.config import FitConfig
from visiongraft.data.check import SampleDigests
from visiongraft.data.samples import FileSamples, Samples, Splits
from visiongraft.errors import CheckpointError, DataError
from visiongraft.schedules import Phase, schedule
from visiongraft.training.resuming.inputs import FILE, RunInputs

QUICK: dict[str, Any] = {"schedule": "linear_probe", "epochs": 1}
COLORS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def Folders(Toy: Any) -> Any:
    """A task that reads ``SPLIT/CLASS/*.png``; a text file beside an image replaces its label."""

    @dataclass(frozen=True)
    class Folders(Toy):
        class_names: tuple[str, ...] = ()

        def read(self, data: Any, **_: Any) -> Splits:
            root = Path(data)
            if not root.is_dir():
                raise DataError(f"{root} does not exist")
            names = sorted(path.name for path in (root / "train").iterdir())
            train, validation = (self._split(root / s, names) for s in ("train", "val"))
            return Splits(train, validation, {"names": names})

        def _split(self, folder: Path, names: list[str]) -> Samples:
            paths = sorted(folder.glob("*/*.png"))
            return FileSamples(paths, [_label(path, names) for path in paths])

        def bind(self, train: Any) -> Any:
            names = {Path(train.name(i)).parent.name for i in range(len(train))}
            return replace(self, class_names=tuple(sorted(names)))

    return Folders


def _label(path: Path, names: list[str]) -> int:
    note = path.with_suffix(".txt")
    return names.index(note.read_text() if note.exists() else path.parent.name)


def write_dataset(root: Path) -> Path:
    random = np.random.Generator(np.random.PCG64(0))
    for split, count in (("train", 4), ("val", 2)):
        for channel, name in enumerate(COLORS):
            for i in range(count):
                image = random.integers(0, 200, (20, 24, 3), dtype=np.uint8)
                image[..., channel] += 55
                path = root / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope="module")
def finished(fit_toy: Any, Folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    data = write_dataset(folder / "data")
    fit_toy(data, task=Folders(augment=False), out=folder / "run", **QUICK)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run and of its data, with the modification times of the original."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def resume(fit_toy: Any, Folders: Any) -> Callable[..., Any]:
    def resume(folder: Path, data: str | Path = "data", **settings: Any) -> Any:
        path, task = folder / data, settings.pop("task", Folders(augment=False))
        return fit_toy(path, task=task, out=folder / "run", resume=True, **QUICK, **settings)

    return resume


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- the same data ----


def test_the_same_data_at_another_place_are_accepted(run: Path, resume: Any) -> None:
    """Here all paths differ from those of the run; the name is then also spelled differently."""
    before = contents(run / "run")
    resume(run)
    assert FitConfig.read(run / "run").data == str(run / "data")
    resume(run, f"{run}/./data/")
    (run / "data").rename(run / "moved")
    resume(run, "moved")
    assert FitConfig.read(run / "run").data == str(run / "moved")
    after = contents(run / "run")
    for name in ("metrics.jsonl", "model/model.safetensors", "model/config.json"):
        assert after[name] == before[name], name


def test_touched_files_are_accepted(run: Path, resume: Any) -> None:
    for path in (run / "data").rglob("*.png"):
        os.utime(path, ns=(1, 1))
    resume(run)


# ---- other data ----


def edit_a_pixel(path: Path) -> None:
    image = np.array(Image.open(path))
    image[0, 0, 0] ^= 1
    before = path.stat()
    Image.fromarray(image).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("between"))
    other.rename(one)
    one.with_name("between").rename(other)


def rename_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "red").rename(root / split / "scarlet")


def swap_classes(root: Path) -> None:
    for split in ("train", "val"):
        swap(root / split / "red", root / split / "blue")


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "added": (
        lambda d: edit_a_pixel(shutil.copy(d / "train/red/0.png", d / "train/red/9.png")),
        r"1 image added \(train/red/9\.png\)",
    ),
    "copied": (
        lambda d: shutil.copy(d / "train/red/0.png", d / "train/red/9.png"),
        r"1 image listed another number of times \(train/red/0\.png\)",
    ),
    "removed": (
        lambda d: (d / "train/red/0.png").unlink(),
        r"1 image removed \(train/red/0\.png\)",
    ),
    "edited": (
        lambda d: edit_a_pixel(d / "val/red/1.png"),
        r"1 image with other content \(val/red/1\.png\)",
    ),
    "moved to another class": (
        lambda d: (d / "train/green/0.png").rename(d / "train/red/7.png"),
        r"1 image with another label or annotation \(train/red/7\.png\)",
    ),
    "annotated otherwise": (
        lambda d: (d / "train/green/0.txt").write_text("red"),
        r"1 image with another label or annotation \(train/green/0\.png\)",
    ),
    "replaced by one of another class": (
        lambda d: swap(d / "train/green/0.png", d / "train/red/1.png"),
        r"2 images with another label or annotation \(train/green/0\.png, train/red/1\.png\)",
    ),
    "replaced by one of the same class": (
        lambda d: swap(d / "train/red/0.png", d / "train/red/1.png"),
        r"2 images at another position \(train/red/0\.png, train/red/1\.png\)",
    ),
    "moved to the other split": (
        lambda d: swap(d / "train/red/0.png", d / "val/red/1.png"),
        r"2 images in another split \(train/red/0\.png, val/red/1\.png\)",
    ),
    "a renamed class": (rename_class, r"class_names without 'red' with 'scarlet'"),
    "swapped classes": (
        swap_classes,
        r"12 images with another label or annotation \(train/blue/0\.png, .* and 9 more\)",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_data_are_refused_with_what_differs(run: Path, resume: Any, name: str) -> None:
    change, words = CHANGES[name]
    change(run / "data")
    before = contents(run / "run")
    remedy = r"; restore that, .* allow_changed_data=True \(--allow-changed-data\)$"
    with pytest.raises(CheckpointError, match=f"since the run began, {words}{remedy}") as caught:
        resume(run)
    assert "\n" not in str(caught.value)
    after = contents(run / "run")
    assert {n: before[n] for n in before if n != "data-check.json"} == {
        n: after[n] for n in after if n not in ("data-check.json", "run.lock")
    }
    with pytest.raises(CheckpointError, match=words):  # a refused attempt accepts nothing
        resume(run)


def test_changed_data_are_accepted_if_allowed_and_recorded_in_the_model(
    run: Path, resume: Any, caplog: pytest.LogCaptureFixture
) -> None:
    edit_a_pixel(run / "data/train/red/0.png")
    with caplog.at_level(logging.WARNING, "visiongraft"):
        model = resume(run, allow_changed_data=True)
    line = "1 image with other content (train/red/0.png)"
    assert f"the run goes on with changed data: {line}" in caplog.text
    assert model.facts["data"]["changed during training"] == [f"from epoch 2: {line}"]
    assert len(model.training_images.images) == 13  # it was trained on the former image, too
    again = resume(run)  # these are the run's data now
    assert len(again.training_images.images) == 13
    assert again.facts["data"]["changed during training"] == [f"from epoch 2: {line}"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 1}', '{"format": 99}'])
def test_a_run_whose_record_is_gone_is_refused_unless_any_data_are_accepted(
    run: Path, resume: Any, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = run / "run" / FILE
    file.unlink() if content is None else file.write_text(content)
    replace(FitConfig.read(run / "run"), data=str(run / "data")).write(run / "run")
    with pytest.raises(CheckpointError, match=f"{FILE} is missing, damaged .*--allow-changed-data"):
        resume(run)
    if content is None:
        with caplog.at_level(logging.WARNING, "visiongraft"):
            resume(run, allow_changed_data=True)
        assert f"{FILE} is missing, damaged or of another version" in caplog.text


# ---- data in memory ----


def test_changed_data_in_memory_are_refused(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    data = toy_data(20)
    fit_toy(data, out=tmp_path / "run", **QUICK)
    fit_toy(data, out=tmp_path / "run", resume=True, **QUICK)
    data[3][0][0, 0, 0] ^= 1
    with pytest.raises(CheckpointError, match=r"1 image with other content \(item 3\)"):
        fit_toy(data, out=tmp_path / "run", resume=True, **QUICK)


def test_data_in_memory_that_change_by_chance_are_not_compared(
    fit_toy: Any, toy_data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Noisy:
        items = toy_data(20)
        targets = tuple(target for _, target in items)

        def __len__(self) -> int:
            return len(self.items)

        def __getitem__(self, index: int) -> Any:
            image, target = self.items[index]
            return image ^ np.random.default_rng().integers(0, 2, image.shape, np.uint8), target

    fit_toy(Noisy(), out=tmp_path / "run", **QUICK)
    with caplog.at_level(logging.WARNING, "visiongraft"):
        fit_toy(Noisy(), out=tmp_path / "run", resume=True, **QUICK)
    assert "images in memory differ each time they are loaded" in caplog.text


# ---- weights ----


@pytest.fixture
def weighted(fit_toy: Any, toy_data: Any, tmp_path: Path) -> Path:
    fit_toy(toy_data(20), out=tmp_path / "first", **QUICK)
    shutil.copytree(tmp_path / "first" / "model", tmp_path / "start")
    settings = {"backbone": tmp_path / "start", "weights": "pretrained", **QUICK}
    fit_toy(toy_data(20), out=tmp_path / "run", **settings)
    return tmp_path


def test_weights_that_moved_are_accepted_and_others_refused(
    fit_toy: Any, toy_data: Any, weighted: Path
) -> None:
    (weighted / "start").rename(weighted / "moved")
    again: dict[str, Any] = {"out": weighted / "run", "resume": True, **QUICK}
    again |= {"backbone": weighted / "moved", "weights": "pretrained"}
    fit_toy(toy_data(20), **again)
    fit_toy(toy_data(20), seed=1, out=weighted / "second", **QUICK)
    shutil.rmtree(weighted / "moved")
    shutil.copytree(weighted / "second" / "model", weighted / "moved")
    with pytest.raises(CheckpointError, match="the file of backbone has other content; restore"):
        fit_toy(toy_data(20), **again)
    fit_toy(toy_data(20), allow_changed_data=True, **again)


# ---- code ----

PLUGIN = """
from dataclasses import dataclass

from coded_plugin.helper import NOISE


def make(base):
    @dataclass(frozen=True)
    class Mine(base):
        augment: bool = False

    return Mine()
"""


def test_changed_code_of_a_plugin_or_its_helper_is_a_warning(
    fit_toy: Any,
    toy_data: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    Toy: Any,
) -> None:
    package = tmp_path / "coded_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("NOISE = 1\n")
    (package / "task.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    from coded_plugin.task import make  # type: ignore[import-not-found]

    again = {"task": make(Toy), "out": tmp_path / "run", **QUICK}
    fit_toy(toy_data(20), **again)
    fit_toy(toy_data(20), resume=True, **again)
    assert "has changed" not in caplog.text
    (package / "helper.py").write_text("NOISE = 2\n")
    with caplog.at_level(logging.WARNING, "visiongraft"):
        fit_toy(toy_data(20), resume=True, **again)
    assert "the code of coded_plugin.helper has changed since the run began" in caplog.text
    for name in [name for name in sys.modules if name.startswith("coded_plugin")]:
        del sys.modules[name]


# ---- parts ----


def inputs(train: str = "a0 b1 c2", validation: str = "d0", **others: Any) -> RunInputs:
    """Make inputs: a letter is an image, a digit its target."""
    samples = {
        split: [SampleDigests(word[0], word[1:], f"data/{word[0]}.png") for word in words.split()]
        for split, words in (("training", train), ("validation", validation))
    }
    return replace(RunInputs(samples, {}, {}, {}), **others)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (inputs(), []),
        (inputs(train="a0 b1"), ["1 image removed (c.png)"]),
        (inputs(train="a0 b1 c2 e2"), ["1 image added (e.png)"]),
        (inputs(train="a0 b1 c1"), ["1 image with another label or annotation (c.png)"]),
        (inputs(train="b1 a0 c2"), ["2 images at another position (a.png, b.png)"]),
        (inputs(train="a0 b1 d0", validation="c2"), ["2 images in another split (c.png, d.png)"]),
        (
            inputs(train="a0 e1 c1"),
            [
                "1 image added (e.png)",
                "1 image removed (b.png)",
                "1 image with another label or annotation (c.png)",
            ],
        ),
        (inputs(task_options={"n": [2, 3]}), ["n=[2, 3] instead of None"]),
    ],
)
def test_differences_are_counted_and_named(now: RunInputs, words: list[str]) -> None:
    assert now.changes_since(inputs()) == words


def test_options_that_are_lists_differ_by_their_items(tmp_path: Path) -> None:
    inputs(task_options={"names": ("a", "b")}).write(tmp_path)
    before = RunInputs.read(tmp_path)
    assert before is not None
    other = inputs(task_options={"names": ("b", "c")})
    assert other.changes_since(before) == ["names without 'a' with 'c'"]
    turned = inputs(task_options={"names": ("b", "a")})
    assert turned.changes_since(before) == ["names=['b', 'a'] instead of ['a', 'b']"]


def test_inputs_come_back_with_any_names(tmp_path: Path) -> None:
    names = ["a b.png", "", "line\nbreak", "ö"]
    samples = {"training": [SampleDigests("00", "", name) for name in names]}
    one = RunInputs(samples, {"names": ["x"]}, {"weights": "ab"}, {"m": "cd"}, [{"epoch": 1}])
    one.write(tmp_path)
    assert RunInputs.read(tmp_path) == one


# ---- the classes behind the names ----


def test_a_run_of_a_subclass_is_not_resumed_as_the_task_that_it_extends(
    fit_toy: Any, toy_data: Any, Toy: Any, tmp_path: Path
) -> None:
    class Contrary(Toy):  # type: ignore[misc]
        """Has the name of the task that it extends."""

    settings: dict[str, Any] = {"out": tmp_path / "run", **QUICK}
    fit_toy(toy_data(20), task=Contrary(augment=False), **settings)
    with pytest.raises(
        CheckpointError, match=r"its task is .*Contrary, and what has that name here"
    ):
        visiongraft.fit(toy_data(20), out=tmp_path / "run", resume=True, callbacks=())
    visiongraft.fit(
        toy_data(20), task=Contrary(augment=False), out=tmp_path / "run", resume=True, callbacks=()
    )


def test_a_run_is_not_resumed_by_another_schedule_of_the_same_name(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    @schedule
    def linear_probe(stages: Any, epochs: int) -> Any:
        yield Phase(epochs, "all", 1e-3)

    fit_toy(toy_data(20), schedule=linear_probe, epochs=1, out=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"its schedule is .*linear_probe, and what has that"):
        visiongraft.fit(toy_data(20), out=tmp_path / "run", resume=True, callbacks=())
