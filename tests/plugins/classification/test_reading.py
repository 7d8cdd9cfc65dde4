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
from visiongraft.plugins.classification.reading import read_dataset
from visiongraft.plugins.classification.task import Classification
from visiongraft.registry.manager import PluginManager, using

IMAGE = np.zeros((4, 4, 3), np.uint8)


class Images:
    """A map-style dataset, optionally with ``classes``."""

    def __init__(self, targets: Any, classes: Any = None) -> None:
        self.targets = targets
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return IMAGE, self.targets[index]


def labels_of(data: Any, class_names: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    return list(read_dataset(data, class_names).splits["train"].labels)


# ---- files ----


def test_a_folder_of_class_folders_is_one_training_split(write_folder: Any) -> None:
    dataset = read_dataset(write_folder({"dog": 2, "cat": 1}))
    assert list(dataset.splits) == ["train"]
    assert dataset.splits["train"].labels == (("cat",), ("dog",), ("dog",))
    assert dataset.class_names == ("cat", "dog")


def test_split_folders_become_splits(write_folder: Any) -> None:
    root = write_folder({"train/cat": 1, "train/dog": 1, "val/cat": 1, "test/dog": 2})
    dataset = read_dataset(str(root))
    assert {part: len(found.labels) for part, found in dataset.splits.items()} == {
        "train": 2,
        "validation": 1,
        "test": 2,
    }


def test_an_empty_split_folder_is_ignored(write_folder: Any) -> None:
    dataset = read_dataset(write_folder({"train/cat": 1, "train/dog": 1, "val/cat": 0}))
    assert list(dataset.splits) == ["train"]


# ---- pairs ----


def test_a_pair_is_training_and_validation(write_folder: Any, tmp_path: Path) -> None:
    root = write_folder({"a/cat": 2, "a/dog": 1, "b/cat": 1, "b/eel": 1})
    dataset = read_dataset((root / "a", root / "b"))
    assert len(dataset.splits["train"].labels) == 3
    assert len(dataset.splits["validation"].labels) == 2
    assert dataset.class_names == ("cat", "dog", "eel")


def test_the_second_of_a_pair_prefers_its_own_validation_split(write_folder: Any) -> None:
    root = write_folder({"a/cat": 1, "a/dog": 1, "b/train/cat": 3, "b/val/dog": 1})
    dataset = read_dataset((root / "a", root / "b"))
    assert list(dataset.splits["validation"].labels) == [("dog",)]


def test_class_ids_in_the_second_of_a_pair_take_the_names_of_the_first() -> None:
    dataset = read_dataset((Images([0, 1], ["cat", "dog"]), Images([1])))
    assert list(dataset.splits["validation"].labels) == [("dog",)]


def test_class_ids_that_only_the_second_of_a_pair_has_are_sorted_in() -> None:
    dataset = read_dataset((Images([0, 10]), Images([2])))
    assert dataset.class_names == ("0", "2", "10")


def test_a_pair_without_training_images_raises(write_folder: Any) -> None:
    root = write_folder({"a/val/cat": 1, "a/test/cat": 1, "b/cat": 1})
    with pytest.raises(DataError, match="no training images"):
        read_dataset((root / "a", root / "b"))


def test_three_datasets_raise() -> None:
    with pytest.raises(DataError, match=r"a pair .training, validation., not 3"):
        read_dataset(("a", "b", "c"))


# ---- datasets ----


@pytest.mark.parametrize(
    "targets",
    [[1, 0], [torch.tensor(1), torch.tensor(0)], [np.int64(1), np.int64(0)], torch.tensor([1, 0])],
    ids=["int", "tensors", "numpy", "one tensor"],
)
def test_class_ids_of_any_kind_take_the_dataset_class_names(targets: Any) -> None:
    assert labels_of(Images(targets, ["dog", "cat"])) == [("cat",), ("dog",)]


def test_class_names_of_a_dataset_keep_its_order_and_ids() -> None:
    dataset = read_dataset(Images([1, 0], ["dog", "cat", "ape"]))
    assert dataset.class_names == ("dog", "cat", "ape")


def test_class_names_are_found_through_a_subset() -> None:
    inner = Images([0, 1, 1], ["dog", "cat"])
    assert labels_of(Subset(inner, [2, 0])) == [("cat",), ("dog",)]  # type: ignore[arg-type]


def test_invalid_class_names_are_ignored() -> None:
    assert read_dataset(Images([0, 1], [("tench", "fish"), ("eel",)])).class_names == ("0", "1")
    assert read_dataset(Images([0, 1], ["crane", "crane"])).class_names == ("0", "1")


def test_class_ids_without_names_are_sorted_by_value() -> None:
    assert read_dataset(Images([10, 9, 100])).class_names == ("9", "10", "100")


def test_names_as_targets_are_sorted() -> None:
    dataset = read_dataset(Images(["dog", "cat"]))
    assert dataset.class_names == ("cat", "dog")
    assert list(dataset.splits["train"].labels) == [("dog",), ("cat",)]


def test_class_ids_take_the_users_class_names() -> None:
    assert labels_of(Images([1, 0]), ("zebra", "ant")) == [("ant",), ("zebra",)]


def test_class_ids_stay_their_own_names_if_the_users_names_are_numbers() -> None:
    assert labels_of(Images([7, 3]), ("3", "7")) == [("7",), ("3",)]


@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_multi_hot_arrays_are_several_labels(kind: Any) -> None:
    multi_hot = [kind([1, 0, 1]), kind([0.0, 0.0, 0.0]), kind([False, True, False])]
    assert labels_of(Images(multi_hot, ["a", "b", "c"])) == [("a", "c"), (), ("b",)]


def test_classes_without_images_in_multi_hot_arrays_are_kept() -> None:
    dataset = read_dataset(Images([np.array([1, 0, 0]), np.array([1, 1, 0])]))
    assert dataset.class_names == ("0", "1", "2")


def test_arrays_of_names_are_names() -> None:
    assert labels_of(Images([np.array(["b", "a"]), np.array(["a"])])) == [("b", "a"), ("a",)]


def test_lists_and_sets_contain_names_or_ids() -> None:
    targets = [["cat", 0], {1, "cat"}, [], (1,)]
    found = labels_of(Images(targets, ["ape", "bee", "cat"]))
    assert found == [("cat", "ape"), ("bee", "cat"), (), ("bee",)]


def test_an_object_that_is_not_a_dataset_raises() -> None:
    with pytest.raises(DataError, match="a path or a dataset"):
        read_dataset(42)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([np.array([0, 2]), np.array([1, 0])], r"item 0: a target array is multi-hot"),
        ([{"label": 1}, 0], "item 0: a target is a class name, a class id, or several of them"),
        ([0, 1.5], "item 1: a target is .*, not float"),
        ([0, None], "item 1: a target is .*, not NoneType"),
        ([0, -1], r"item 1: -1 is neither a class name nor a class id"),
        (["a", ""], r"item 1: '' is neither"),
        ([["a"], ["b", 0.5]], r"item 1: 0.5 is neither"),
        ([["a", "a"], ["b"]], r"item 0: the target \['a', 'a'\] names a class twice"),
        ([[0, 1], [1, 0]], "every target is a list of 0 and 1, which could be class ids or multi"),
        (
            [np.array([0, 1]), np.array([0, 1, 0])],
            r"target arrays have \[2, 3\] entries; they need",
        ),
    ],
    ids=str,
)
def test_an_invalid_target_raises_an_error_that_names_the_item(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(Images(targets))
    assert "\n" not in str(caught.value)


def test_class_ids_without_a_name_raise() -> None:
    with pytest.raises(DataError, match=r"item 1: class id 2 has no name; the 2 class names have"):
        read_dataset(Images([0, 2], ["dog", "cat"]))


def test_multi_hot_arrays_of_the_wrong_length_raise() -> None:
    multi_hot = [np.array([0, 1, 0]), np.array([1, 0, 0])]
    with pytest.raises(DataError, match=r"have \[3\] entries for 2 class names"):
        read_dataset(Images(multi_hot, ["dog", "cat"]))


def test_an_unknown_file_format_raises(tmp_path: Path) -> None:
    (tmp_path / "labels.md").write_text("a.png cat")
    with pytest.raises(DataError, match=r"labels.md: unknown file format; pass a folder"):
        read_dataset(tmp_path / "labels.md")


# ---- plugin readers ----


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


def test_a_plugin_reader_provides_labeled_images(zipped: Path) -> None:
    dataset = read_dataset(zipped)
    assert dataset.class_names == ("cat", "dog")
    assert {part: len(found.labels) for part, found in dataset.splits.items()} == {
        "train": 12,
        "validation": 4,
    }
    assert dataset.splits["validation"].labels == [("cat",), ("cat",), ("dog",), ("dog",)]
    assert dataset.warnings == ("one line",)


def test_a_model_trains_on_the_data_of_a_plugin_reader(zipped: Path, tmp_path: Path) -> None:
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
    assert model.task.class_names == ("cat", "dog")
    assert model.evaluate(zipped)["images"] == 4
    # The run can verify an export on its validation images, though its data is not a plain path.
    assert len(load(tmp_path / "run").proof_samples(None)) == 4


def test_a_plugin_reader_does_not_change_supported_formats(
    write_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder({"cat": 1, "dog": 1})
    before = read_dataset(root)
    monkeypatch.setattr(Archive, "claims", lambda self, data: True)
    manager = PluginManager(discover=False)
    plugin = SimpleNamespace(
        register_readers=hookimpl(lambda: [Archive()], specname="register_readers")
    )
    manager.register(plugin, "greedy")
    with using(manager):
        assert read_dataset(root) == before


@pytest.mark.parametrize("target", [{"boxes": []}, 1.5, None])
def test_an_invalid_target_of_a_plugin_reader_raises(
    zipped: Path, monkeypatch: pytest.MonkeyPatch, target: Any
) -> None:
    monkeypatch.setattr(Packed, "target", lambda self, index: target)
    with pytest.raises(DataError, match=r"photos\.zip/train/cat/000\.png: a target is a class"):
        read_dataset(zipped)
