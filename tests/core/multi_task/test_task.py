"""Options of a task with several heads, and training one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import visiongraft
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.multi_task.file import read_task_file
from visiongraft.multi_task.metrics import score
from visiongraft.multi_task.task import MultiTask
from visiongraft.optimizers import OptimizerSpec
from visiongraft.registry.manager import plugins
from visiongraft.task import create_task


def images(count: int, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 255, (20, 24, 3)).astype(np.uint8) for _ in range(count)]


def both(count: int) -> list[tuple[Any, dict[str, Any]]]:
    """Images with targets of both heads; every third lacks that of the second."""
    return [
        (image, {"kind": i % 3, **({} if i % 3 == 1 else {"place": float(i % 2)})})
        for i, image in enumerate(images(count))
    ]


def test_heads_are_tasks_or_their_names(Color: Any) -> None:
    task = MultiTask({"kind": "color(known=4)", "place": {"task": "spot"}, "more": Color()})
    assert task.tasks["kind"] == Color(known=4)
    assert create_task(MultiTask, task.options()) == task


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "heads.toml",
            '[heads]\nkind = "color(known=4)"\nplace = "spot"\n[weights]\nplace = 0.5\n',
        ),
        ("heads.yaml", "heads:\n  kind: color(known=4)\n  place: spot\nweights: {place: 0.5}\n"),
    ],
)
def test_a_task_is_read_from_a_file(tmp_path: Path, Color: Any, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    task = read_task_file(path)
    assert task.tasks["kind"] == Color(known=4)
    assert task.weights == {"place": 0.5}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("heads.toml", '[heads]\nkind = "color"\nkind = "spot"\n', "cannot be read"),
        ("heads.toml", '[heads]\nkind = "color"\n[weight]\nkind = 1\n', "no option 'weight'"),
        ("heads.toml", "", "needs its option 'heads'"),
        ("heads.yaml", "heads:\n  kind: color\n  kind: spot\n", "cannot be read"),
        ("heads.yaml", "- kind\n", "has no heads"),
        ("heads.yml", "", "has no heads"),
        ("missing.yaml", None, "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(OptionError, match=words) as caught:
        read_task_file(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ({}, "at least one head"),
        ({"a b": "color"}, "identifier"),
        ({"class": "color"}, "identifier"),
        ({"values": "color"}, "use another"),
        ([("kind", "color"), ("kind", "spot")], "named twice"),
        ({"kind": 3}, "neither a task"),
        ({"kind": "color(size=3)"}, "no option 'size'"),
        ({"kind": MultiTask}, "neither a task"),
        ("color", "not a dict"),
    ],
)
def test_heads_that_cannot_be_are_refused(heads: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        MultiTask(heads)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"kidn": 1.0}, "no head 'kidn'; did you mean 'kind'"),
        ({"kind": -1.0}, "non-negative"),
        ({"kind": 0.0, "place": 0.0}, "nothing would be learned"),
        ("equal", "uncertainty"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        MultiTask({"kind": "color", "place": "spot"}, weights=weights)


def test_a_task_of_clips_is_refused() -> None:
    with pytest.raises(
        OptionError, match="head 'act': heads share images, but 'video' takes clips"
    ):
        MultiTask({"kind": "classification", "act": "video"})


def test_a_task_with_optimizers_of_its_own_is_refused(Color: Any) -> None:
    class Rivals(Color):  # type: ignore[misc]
        name: ClassVar[str] = "rivals"

        def optimizers(self) -> tuple[OptimizerSpec, ...]:
            return (OptimizerSpec("one", ("head",)), OptimizerSpec("two", ("loss",)))

    with pytest.raises(OptionError, match=r"'rivals' needs optimizers of its own \('one', 'two'\)"):
        MultiTask({"kind": Color(), "other": Rivals()})


def test_a_task_with_heads_and_a_namesake_are_refused(Color: Any) -> None:
    class Namesake(Color):  # type: ignore[misc]
        pass

    with pytest.raises(OptionError, match="has heads itself"):
        MultiTask({"inner": MultiTask({"kind": "color"})})
    with pytest.raises(OptionError, match="the name of another task"):
        MultiTask({"kind": Namesake()})


def test_demands_on_the_images_that_conflict_are_refused(Color: Any) -> None:
    class Whole(Color):  # type: ignore[misc]
        name: ClassVar[str] = "whole"
        resize: ClassVar[Any] = "stretch"

    class Padded(Color):  # type: ignore[misc]
        name: ClassVar[str] = "padded"
        resize: ClassVar[Any] = "pad"

    assert MultiTask({"kind": Color(), "whole": Whole()}).resize == "stretch"
    with pytest.raises(OptionError, match="'a' needs resize='stretch' and 'b' needs resize='pad'"):
        MultiTask({"a": Whole(), "b": Padded()})


def test_a_headline_becomes_a_score(Color: Any, Spot: Any) -> None:
    assert score(Color(), 0.8) == 0.8
    assert score(Spot(), 0.0) == 1.0
    assert score(Spot(), 3.0) == 0.25


def test_training_saves_and_loads_what_each_head_predicts(tmp_path: Path) -> None:
    data = both(30)
    task = MultiTask({"kind": "color", "place": "spot"}, weights="uncertainty")
    model = visiongraft.fit(
        data,
        task=task,
        backbone="toys/toy",
        weights=None,
        epochs=2,
        batch_size=8,
        accumulate=2,
        device="cpu",
        out=tmp_path / "run",
        callbacks=(),
    )
    assert model.task.incomplete == ("place",)
    assert model.task.tasks["kind"].known == 24
    results = model.evaluate(data)
    assert results["kind.seen"] == 30
    expected = (results["kind.right"] + 1 / (1 + results["place.far"])) / 2
    assert results["combined"] == pytest.approx(expected)
    assert (
        model.evaluate({"kind": [(i, t["kind"]) for i, t in data]})["kind.right"]
        == (results["kind.right"])
    )
    loaded = visiongraft.load(tmp_path / "run")
    (before,), (after,) = model.predict(data[0][0]), loaded.predict(data[0][0])
    assert before == after
    assert before.kind == before.heads["kind"]
    assert loaded.task == model.task
    with pytest.raises(AttributeError, match="no head 'mask'; it has kind, place"):
        _ = before.mask


def test_what_training_determines_is_kept_apart(Color: Any) -> None:
    class Learned(Color):  # type: ignore[misc]
        name: ClassVar[str] = "learned"

        def after_training(self, results: Any) -> Any:
            return type(self)(known=results["seen"])

    task = MultiTask({"kind": Learned(), "place": "spot"}, weights={"kind": 2.0})
    after = task.after_training({"kind.seen": 7, "place.seen": 8})
    assert after.heads == task.heads
    assert after.determined == {"kind": {"known": 7}}
    assert after.tasks["kind"] == Learned(known=7)
    assert after.options()["determined"] == {"kind": {"known": 7}}


def write_folder(folder: Path, seed: int) -> Path:
    folder.mkdir()
    for i, image in enumerate(images(6, seed)):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def test_a_run_stores_the_paths_of_each_head(tmp_path: Path, Color: Any) -> None:
    class Files(Color):  # type: ignore[misc]
        name: ClassVar[str] = "files"

        def read_evaluation(self, data: Any) -> Any:
            paths = sorted(Path(data).iterdir())
            return FileSamples(paths, [i % 3 for i in range(len(paths))])

    class FilesPlugin:
        @hookimpl
        def register_tasks(self) -> list[Any]:
            return [Files]

    if "files" not in plugins().tasks():
        plugins().register(FilesPlugin(), "files")
    data = {name: write_folder(tmp_path / name, seed) for seed, name in enumerate("ab")}
    settings: dict[str, Any] = {
        "task": MultiTask({"a": Files(), "b": Files()}),
        "backbone": "toys/toy",
        "weights": None,
        "schedule": "full",
        "epochs": 1,
        "device": "cpu",
        "out": tmp_path / "run",
        "callbacks": (),
    }
    visiongraft.fit(data, **settings)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["data"] == {name: str(path) for name, path in data.items()}
    resumed = visiongraft.fit(
        task=settings["task"], out=tmp_path / "run", resume=True, callbacks=()
    )
    assert len(visiongraft.load(tmp_path / "run").proof_samples()) == len(resumed.validation)


def test_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    task = MultiTask({"kind": "color", "place": "spot"})
    items = [(image, 0) for image in images(5)]
    with pytest.raises(DataError, match="head 'place' has no data"):
        task.read({"kind": items})
    with pytest.raises(DataError, match="there is no head 'kidn'; did you mean 'kind'"):
        task.read({"kidn": items, "place": items})
    with pytest.raises(DataError, match="not a dict by head"):
        task.read([(items[0][0], {"kind": 1}), (items[1][0], {"sort": 1})])
    apart = [
        (image, {"kind": 0} if i % 2 else {"place": 0.0}) for i, image in enumerate(images(20))
    ]
    with pytest.raises(DataError, match="share no image, although all read the same dataset"):
        task.read(apart)


def test_heads_that_share_no_image_are_noticed() -> None:
    task = MultiTask({"kind": "color", "place": "spot"})
    splits = task.read(
        {"kind": [(i, 0) for i in images(5)], "place": [(i, 0.0) for i in images(5, seed=1)]}
    )
    assert splits.warnings == (
        "heads 'kind', 'place' share no image: each image has the target of one head only",
    )
