"""Digests of the training images recognize them again, wherever they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from visiongraft.data.check import check_evaluated
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import ArtifactError
from visiongraft.inputs.samples import InputSamples
from visiongraft.saving.tensor_files import write_tensors
from visiongraft.saving.training_images import FILE, FORMAT, TrainingImages


def images(*values: int) -> Samples:
    return InputSamples([np.full((3, 4), value, np.uint8) for value in values])


def files(folder: Path, *values: int) -> Samples:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{value}.png" for value in values]
    for value, path in zip(values, paths, strict=True):
        Image.new("L", (4, 3), value).save(path)
    return FileSamples(paths, [0] * len(paths))


def digests(samples: Samples) -> list[str]:
    return check_evaluated(samples).images


def record(samples: Samples) -> TrainingImages:
    return TrainingImages.of(samples, digests(samples))


def seen(training: TrainingImages, samples: Samples) -> list[int] | None:
    return training.seen_images(samples, digests(samples))


def test_images_are_recognized_by_their_content_in_another_place(tmp_path: Path) -> None:
    training = record(files(tmp_path / "a", 1, 2, 3))
    assert seen(training, files(tmp_path / "b", 7, 3, 1)) == [1, 2]
    assert seen(training, files(tmp_path / "c", 8, 9)) == []
    assert seen(record(images(1, 2)), images(2, 5)) == [0]


def test_an_image_that_differs_in_one_pixel_is_another() -> None:
    changed = np.full((3, 4), 1, np.uint8)
    changed[1, 1] = 2
    assert seen(record(images(1)), InputSamples([changed])) == []


def test_images_in_files_and_in_memory_cannot_be_compared(tmp_path: Path) -> None:
    assert seen(record(files(tmp_path, 1)), images(1)) is None
    assert seen(record(images(1)), files(tmp_path, 1)) is None


class Patients(InputSamples):
    def subject(self, index: int) -> str:
        return f"patient {index}"


def test_groups_are_recognized_by_their_names() -> None:
    samples = Patients([np.full((3, 4), i, np.uint8) for i in range(3)])
    names = ["patient 5", "patient 2"]
    assert record(samples).seen_subjects(names) == ["patient 2"]
    assert record(samples.subset([0, 1])).seen_subjects(names) == []
    assert record(images(1)).seen_subjects(names) == []


def test_the_file_holds_8_bytes_an_image_and_no_names(tmp_path: Path) -> None:
    samples = Patients([np.full((1, i + 1), 7, np.uint8) for i in range(500)])
    written = record(samples)
    written.write(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    assert len(content) < 500 * 16 + 400  # every image is of another subject here
    assert b"patient" not in content
    read = TrainingImages.read(tmp_path)
    assert read is not None
    assert np.array_equal(read.images, written.images) and len(read.images) == 500
    assert np.array_equal(read.subjects, written.subjects) and read.files is False


def test_equal_training_sets_have_equal_files_in_any_order(tmp_path: Path) -> None:
    contents = []
    for values in ((1, 2, 3), (3, 1, 2, 2)):
        record(images(*values)).write(tmp_path)
        contents.append((tmp_path / FILE).read_bytes())
    assert contents[0] == contents[1]


def test_without_the_file_nothing_is_known(tmp_path: Path) -> None:
    assert TrainingImages.read(tmp_path) is None


@pytest.mark.parametrize(
    ("tensors", "values", "words"),
    [
        ({}, {"format": FORMAT, "files": True}, "does not hold digests"),
        ({"images": torch.zeros(3)}, {"format": FORMAT, "files": True}, "does not hold digests"),
        ({}, {"format": 99, "files": True}, "unknown format"),
        ({}, {"format": FORMAT, "files": 1}, "unknown format"),
        ({}, {}, "unknown format"),
    ],
)
def test_other_content_is_refused_with_the_remedy(
    tmp_path: Path, tensors: dict[str, Any], values: dict[str, Any], words: str
) -> None:
    write_tensors(tmp_path / FILE, tensors, values)
    with pytest.raises(ArtifactError, match=f"{FILE}.*{words}; remove it to do without"):
        TrainingImages.read(tmp_path)


def test_a_flipped_bit_is_refused_with_the_remedy(tmp_path: Path) -> None:
    record(images(1, 2)).write(tmp_path)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"does not match its checksum; remove it"):
        TrainingImages.read(tmp_path)
