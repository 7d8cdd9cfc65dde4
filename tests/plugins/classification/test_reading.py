from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from visiongraft import fit, load
from visiongraft.data.decode import decode_bytes
from visiongraft.data.readers import DataReader, DataSplits
from visiongraft.data.samples import Image, Samples
from visiongraft.errors import DataError
from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.classification.reading import find_source
from visiongraft.plugins.classification.task import Classification
from visiongraft.registry.manager import PluginManager, using

IMAGE = np.zeros((4, 4, 3), np.uint8)


class Images:
    """A map-style dataset; ``classes`` only if given."""

    def __init__(self, targets: Any, classes: Any = None) -> None:
        self.targets = targets
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return IMAGE, self.targets[index]


def labels_of(data: Any, labels: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    return list(find_source(data, labels).splits["train"].labels)


# ---- files ----


def test_a_folder_of_label_folders_is_one_training_part(write_folder: Any) -> None:
    source = find_source(write_folder({"dog": 2, "cat": 1}))
    assert list(source.splits) == ["train"]
    assert source.splits["train"].labels == (("cat",), ("dog",), ("dog",))
    assert source.names == ("cat", "dog")


def test_parts_of_a_folder_are_kept_apart(write_folder: Any) -> None:
    root = write_folder({"train/cat": 1, "train/dog": 1, "val/cat": 1, "test/dog": 2})
    source = find_source(str(root))
    assert {part: len(found.labels) for part, found in source.splits.items()} == {
        "train": 2,
        "validation": 1,
        "test": 2,
    }


def test_a_part_without_images_is_no_part(write_folder: Any) -> None:
    source = find_source(write_folder({"train/cat": 1, "train/dog": 1, "val/cat": 0}))
    assert list(source.splits) == ["train"]


# ---- pairs ----


def test_a_pair_gives_training_and_validation(write_folder: Any, tmp_path: Path) -> None:
    root = write_folder({"a/cat": 2, "a/dog": 1, "b/cat": 1, "b/eel": 1})
    source = find_source((root / "a", root / "b"))
    assert len(source.splits["train"].labels) == 3
    assert len(source.splits["validation"].labels) == 2
    assert source.names == ("cat", "dog", "eel")


def test_the_second_of_a_pair_prefers_its_own_validation_part(write_folder: Any) -> None:
    root = write_folder({"a/cat": 1, "a/dog": 1, "b/train/cat": 3, "b/val/dog": 1})
    source = find_source((root / "a", root / "b"))
    assert list(source.splits["validation"].labels) == [("dog",)]


def test_class_ids_in_the_second_of_a_pair_take_the_names_of_the_first() -> None:
    source = find_source((Images([0, 1], ["cat", "dog"]), Images([1])))
    assert list(source.splits["validation"].labels) == [("dog",)]


def test_class_ids_that_only_the_second_of_a_pair_has_are_sorted_in() -> None:
    source = find_source((Images([0, 10]), Images([2])))
    assert source.names == ("0", "2", "10")


def test_a_pair_without_training_images_is_refused(write_folder: Any) -> None:
    root = write_folder({"a/val/cat": 1, "a/test/cat": 1, "b/cat": 1})
    with pytest.raises(DataError, match="no training images"):
        find_source((root / "a", root / "b"))


def test_three_sets_are_no_pair() -> None:
    with pytest.raises(DataError, match=r"a pair .training, validation., not 3"):
        find_source(("a", "b", "c"))


# ---- datasets ----


@pytest.mark.parametrize(
    "targets",
    [[1, 0], [torch.tensor(1), torch.tensor(0)], [np.int64(1), np.int64(0)], torch.tensor([1, 0])],
    ids=["int", "tensors", "numpy", "one tensor"],
)
def test_class_ids_of_any_kind_take_the_dataset_class_names(targets: Any) -> None:
    assert labels_of(Images(targets, ["dog", "cat"])) == [("cat",), ("dog",)]


def test_class_names_of_a_dataset_keep_its_order_and_ids() -> None:
    source = find_source(Images([1, 0], ["dog", "cat", "ape"]))
    assert source.names == ("dog", "cat", "ape")


def test_class_names_are_found_through_a_subset() -> None:
    inner = Images([0, 1, 1], ["dog", "cat"])
    assert labels_of(Subset(inner, [2, 0])) == [("cat",), ("dog",)]  # type: ignore[arg-type]


def test_class_names_that_are_no_names_are_passed_over() -> None:
    assert find_source(Images([0, 1], [("tench", "fish"), ("eel",)])).names == ("0", "1")
    assert find_source(Images([0, 1], ["crane", "crane"])).names == ("0", "1")


def test_class_ids_without_names_are_sorted_by_value() -> None:
    assert find_source(Images([10, 9, 100])).names == ("9", "10", "100")


def test_names_as_targets_are_sorted() -> None:
    source = find_source(Images(["dog", "cat"]))
    assert source.names == ("cat", "dog")
    assert list(source.splits["train"].labels) == [("dog",), ("cat",)]


def test_class_ids_mean_the_fixed_labels() -> None:
    assert labels_of(Images([1, 0]), ("zebra", "ant")) == [("ant",), ("zebra",)]


def test_class_ids_stay_their_own_names_where_the_fixed_labels_are_numbers() -> None:
    assert labels_of(Images([7, 3]), ("3", "7")) == [("7",), ("3",)]


@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_arrays_of_marks_are_several_labels(kind: Any) -> None:
    marks = [kind([1, 0, 1]), kind([0.0, 0.0, 0.0]), kind([False, True, False])]
    assert labels_of(Images(marks, ["a", "b", "c"])) == [("a", "c"), (), ("b",)]


def test_labels_that_no_array_marks_are_labels_still() -> None:
    source = find_source(Images([np.array([1, 0, 0]), np.array([1, 1, 0])]))
    assert source.names == ("0", "1", "2")


def test_arrays_of_names_are_names() -> None:
    assert labels_of(Images([np.array(["b", "a"]), np.array(["a"])])) == [("b", "a"), ("a",)]


def test_lists_and_sets_hold_names_or_ids() -> None:
    targets = [["cat", 0], {1, "cat"}, [], (1,)]
    found = labels_of(Images(targets, ["ape", "bee", "cat"]))
    assert found == [("cat", "ape"), ("bee", "cat"), (), ("bee",)]


def test_something_that_is_no_dataset_is_refused() -> None:
    with pytest.raises(DataError, match="a path or a dataset"):
        find_source(42)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([np.array([0, 2]), np.array([1, 0])], r"item 0: a target array holds 0 or 1 for each"),
        ([{"label": 1}, 0], "item 0: a target is a label name, a class id, or several of them"),
        ([0, 1.5], "item 1: a target is .*, not float"),
        ([0, None], "item 1: a target is .*, not NoneType"),
        ([0, -1], r"item 1: -1 is neither a label name nor a class id"),
        (["a", ""], r"item 1: '' is neither"),
        ([["a"], ["b", 0.5]], r"item 1: 0.5 is neither"),
        ([["a", "a"], ["b"]], r"item 0: the target \['a', 'a'\] names a label twice"),
        ([[0, 1], [1, 0]], "every target is a list of 0 and 1, which could be class ids or marks"),
        ([np.array([0, 1]), np.array([0, 1, 0])], r"target arrays have \[2, 3\] entries; one for"),
    ],
    ids=str,
)
def test_targets_that_cannot_be_understood_are_named(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        find_source(Images(targets))
    assert "\n" not in str(caught.value)


def test_class_ids_without_a_name_are_refused() -> None:
    with pytest.raises(DataError, match=r"item 1: class id 2 has no name; the 2 label names have"):
        find_source(Images([0, 2], ["dog", "cat"]))


def test_arrays_of_another_length_than_the_class_names_are_refused() -> None:
    marks = [np.array([0, 1, 0]), np.array([1, 0, 0])]
    with pytest.raises(DataError, match=r"have \[3\] entries for 2 label names"):
        find_source(Images(marks, ["dog", "cat"]))


def test_a_file_of_no_known_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.md").write_text("a.png cat")
    with pytest.raises(DataError, match=r"labels.md is a file of no known format; give a folder"):
        find_source(tmp_path / "labels.md")


# ---- readers that plugins add ----


class Archive(DataReader):
    """Reads zip archives: PART/LABEL/image.png."""

    name = "archive"
    targets = "labels"

    def claims(self, data: Any) -> bool:
        return Path(data).suffix == ".zip"

    def read(self, data: Any) -> DataSplits:
        parts: dict[str, Samples] = {}
        with zipfile.ZipFile(data) as archive:
            for part in ("train", "validation"):
                names = sorted(n for n in archive.namelist() if n.startswith(f"{part}/"))
                parts[part] = Packed(data, names)
        return DataSplits(parts, warnings=("one line",))


class Packed(Samples):
    def __init__(self, archive: Path, names: list[str]) -> None:
        self.archive, self.names = archive, names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return f"{self.archive}/{self.names[index]}"

    def target(self, index: int) -> str:
        return self.names[index].split("/")[1]

    def load(self, index: int, channels: int = 3) -> Image:
        with zipfile.ZipFile(self.archive) as archive:
            return decode_bytes(archive.read(self.names[index]), self.name(index), channels)


@pytest.fixture
def zipped(write_folder: Any, tmp_path: Path) -> Iterator[Path]:
    counts = {"train/cat": 6, "train/dog": 6, "validation/cat": 2, "validation/dog": 2}
    root = write_folder(counts)
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, file.relative_to(root))
    manager = PluginManager()
    plugin = SimpleNamespace(
        register_readers=hookimpl(lambda: [Archive()], specname="register_readers")
    )
    assert manager.register(plugin, "archives").problems == []
    with using(manager):
        yield path


def test_a_plugins_reader_gives_images_with_label_names(zipped: Path) -> None:
    source = find_source(zipped)
    assert source.names == ("cat", "dog")
    assert {part: len(found.labels) for part, found in source.splits.items()} == {
        "train": 12,
        "validation": 4,
    }
    assert source.splits["validation"].labels == [("cat",), ("cat",), ("dog",), ("dog",)]
    assert source.warnings == ("one line",)


def test_a_network_trains_on_what_a_plugins_reader_reads(zipped: Path, tmp_path: Path) -> None:
    model = fit(
        f"archive:{zipped}",
        task=Classification(augment="none"),
        backbone="simple_cnn",
        weights=None,
        size=16,
        epochs=1,
        out=tmp_path / "run",
        device="cpu",
        callbacks=(),
    )
    assert model.task.labels == ("cat", "dog")
    assert model.evaluate(zipped)["images"] == 4
    # The run can prove an export on its held-out images, though its data are no plain path.
    assert len(load(tmp_path / "run").proof_samples(None)) == 4


def test_what_can_be_read_without_a_reader_stays_as_it_was(
    write_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder({"cat": 1, "dog": 1})
    before = find_source(root)
    monkeypatch.setattr(Archive, "claims", lambda self, data: True)
    manager = PluginManager(discover=False)
    plugin = SimpleNamespace(
        register_readers=hookimpl(lambda: [Archive()], specname="register_readers")
    )
    manager.register(plugin, "greedy")
    with using(manager):
        assert find_source(root) == before


@pytest.mark.parametrize("target", [{"boxes": []}, 1.5, None])
def test_targets_that_are_no_labels_are_told(
    zipped: Path, monkeypatch: pytest.MonkeyPatch, target: Any
) -> None:
    monkeypatch.setattr(Packed, "target", lambda self, index: target)
    with pytest.raises(DataError, match=r"photos\.zip/train/cat/000\.png: a target is a label"):
        find_source(zipped)
