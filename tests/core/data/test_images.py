"""Images in memory and datasets of them are accepted in every common form."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import ImageFolder

from visiongraft.data.decode import to_array
from visiongraft.data.images import DatasetSamples, image_array
from visiongraft.errors import DataError
from visiongraft.inputs.samples import InputSamples


def test_every_kind_of_image_becomes_the_same_array(photo, encode, tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(encode(photo))
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    kinds = [path, str(path), Image.fromarray(photo), photo, photo / 255, tensor, tensor / 255]
    kinds += [tensor.to(torch.float64) / 255, (tensor / 255).requires_grad_()]
    kinds += [np.asfortranarray(photo), photo.astype(np.float32) / 255]
    for kind in kinds:
        decoded = image_array(kind, "p")
        assert decoded.dtype == np.uint8 and np.array_equal(decoded, photo)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_to_the_nearest_level(dtype):
    tensor = torch.tensor([[0.0, 0.25, 0.5, 1.0]], dtype=dtype)
    assert image_array(tensor, "p", 1)[0, :, 0].tolist() == [0, 64, 128, 255]


def test_an_image_is_not_changed_by_reading_it(photo):
    fixed = photo.copy()
    fixed.flags.writeable = False
    for channels in (1, 3, 4):
        assert image_array(fixed, "p", channels).shape == (40, 60, channels)
    assert np.array_equal(fixed, photo)


@given(arrays.arrays(np.uint8, (2, 3, 4)), st.sampled_from([1, 3, 4]))
def test_arrays_and_tensors_are_converted_as_pillow_images_are(pixels, channels):
    expected = to_array(Image.fromarray(pixels), channels)
    assert np.array_equal(image_array(pixels, "p", channels), expected)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    assert np.array_equal(image_array(tensor, "p", channels), expected)


def test_a_pillow_image_is_rotated_by_its_exif_orientation(photo):
    image = Image.fromarray(photo)
    image.getexif()[0x0112] = 8
    assert np.array_equal(image_array(image, "p"), np.rot90(photo))


def test_deep_pillow_images_are_scaled_to_8_bits():
    image = Image.fromarray(np.array([[256, 65535]], np.uint16))
    assert image_array(image, "p", 1)[0, :, 0].tolist() == [1, 255]


def test_gray_kinds_are_repeated(photo):
    gray = photo[:, :, 1]
    for kind in (gray, gray[:, :, None], torch.from_numpy(gray.copy()), Image.fromarray(gray)):
        decoded = image_array(kind, "p")
        assert all(np.array_equal(decoded[:, :, c], gray) for c in range(3))


@given(arrays.arrays(np.bool_, (3, 4)))
def test_masks_are_black_and_white(mask):
    assert np.array_equal(image_array(mask, "p", 1)[:, :, 0], mask * 255)


def test_numbers_of_channels_without_a_conversion_must_fit(photo):
    five = np.zeros((4, 6, 5), np.uint8)
    assert image_array(five, "p", 5) is five
    with pytest.raises(DataError, match=r"p: has 5 channels, but 3 are required; .* \(H, W, C\)"):
        image_array(five, "p")
    with pytest.raises(DataError, match=r"has 6 channels, but 3 are required; .* \(C, H, W\)"):
        image_array(torch.zeros(4, 5, 6, dtype=torch.uint8).permute(2, 0, 1), "p")
    with pytest.raises(DataError, match=r"has 3 channels, but 5 are required"):
        image_array(photo, "p", 5)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            np.array([[0.0, 2.0]]),
            r"p: pixels must be uint8 .* not float64 from 0 to 2; pass images before",
        ),
        (np.array([[-1.0, 1.0]]), "not float64 from -1 to 1"),
        (np.array([[0.0, float("nan")]]), "not float64"),
        (np.zeros((2, 2), np.int64), "not int64 from 0 to 0"),
        (np.zeros((0, 2, 3), np.uint8), r"not the shape \(0, 2, 3\)"),
        (np.zeros((0, 2, 3)), "not float64; pass images before"),
        (np.zeros(3, np.uint8), r"not the shape \(3, 1\)|not the shape \(3,\)"),
        (3, "an image must be a path, PIL image, array or tensor, not int"),
    ],
)
def test_objects_that_are_not_images_are_refused(image, words):
    with pytest.raises(DataError, match=words) as caught:
        image_array(image, "p")
    assert "\n" not in str(caught.value)


def test_an_image_that_fails_when_decoded_is_named(encode, photo):
    lazy = Image.open(io.BytesIO(encode(photo)[:300]))
    with pytest.raises(DataError, match=r"^p: .*truncated"):
        image_array(lazy, "p")
    with pytest.raises(DataError, match=r"^p: LAB colors are not supported"):
        image_array(Image.new("LAB", (2, 2)), "p")
    closed = Image.open(io.BytesIO(encode(photo)))
    closed.close()
    with pytest.raises(DataError, match=r"^p: \S") as caught:
        image_array(closed, "p")
    assert "\n" not in str(caught.value)


def test_one_image_several_images_and_a_folder_are_distinguished(photo, write_images, tmp_path):
    paths = write_images(3)
    assert len(InputSamples.of(photo)) == len(InputSamples.of(photo[:, :, 0])) == 1
    assert len(InputSamples.of(Image.fromarray(photo))) == 1
    assert len(InputSamples.of(np.stack([photo, photo]))) == 2
    assert len(InputSamples.of([photo, str(paths[0])])) == 2
    folder = InputSamples.of(tmp_path)
    assert [folder.name(i) for i in range(3)] == [str(p) for p in paths]
    assert InputSamples.of([photo]).name(0) == "image 0"
    assert len(InputSamples.of(str(tmp_path))) == 3
    assert len(InputSamples.of(paths[0])) == len(InputSamples.of(str(paths[0]))) == 1
    tensors = torch.zeros(4, 3, 2, 2)
    assert (len(InputSamples.of(tensors)), len(InputSamples.of(tensors[0]))) == (4, 1)
    assert len(InputSamples.of(path for path in paths)) == 3
    assert len(InputSamples.of([])) == 0


def test_images_to_predict_are_decoded_and_have_no_target(photo, write_images):
    paths = write_images(1)
    samples = InputSamples.of([photo, paths[0]])
    assert np.array_equal(samples.load(0), photo) and samples.load(1, 1).shape == (6, 8, 1)
    assert [samples.target(i) for i in range(2)] == [0, 0]
    paths[0].write_bytes(b"")
    with pytest.raises(DataError, match=f"^{paths[0]}: the file is empty"):
        samples.load(1)
    with pytest.raises(
        DataError, match=r"^image 1: an image must be a path, PIL image, array or tensor"
    ):
        InputSamples.of([photo, None]).load(1)


def test_images_to_predict_must_exist(tmp_path):
    (tmp_path / "empty").mkdir()
    for images, words in [
        (tmp_path / "missing.jpg", "does not exist"),
        ([tmp_path / "missing.jpg"], "does not exist"),
        (tmp_path / "empty", "contains no images"),
        (5, "not int"),
    ]:
        with pytest.raises(DataError, match=words):
            InputSamples.of(images)


class Counting:
    """A dataset that counts how often each item is read."""

    def __init__(self, photo, values, **listed):
        self.photo, self.values, self.asked = photo, values, 0
        self.__dict__.update(listed)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        self.asked += 1
        return self.photo, self.values[index]


@pytest.mark.parametrize("listed", ["targets", "labels", "samples"])
def test_listed_targets_are_read_without_decoding(photo, listed):
    values = list(range(50))
    as_listed = [("path", v) for v in values] if listed == "samples" else values
    dataset = Counting(photo, values, **{listed: as_listed})
    samples = DatasetSamples.of(dataset)
    assert [samples.target(i) for i in range(50)] == values
    assert dataset.asked <= 3


@pytest.mark.parametrize("listed", [torch.arange(50), np.arange(50), tuple(range(50))])
def test_listed_targets_may_be_a_tensor_an_array_or_a_tuple(photo, listed):
    dataset = Counting(photo, list(range(50)), targets=listed)
    assert list(DatasetSamples.of(dataset).targets) == list(range(50))
    assert dataset.asked <= 3


def test_the_targets_of_a_subset_of_a_subset_are_read_without_decoding(photo):
    values = [i % 7 for i in range(50)]
    dataset = Counting(photo, values, targets=values)
    subset = Subset(Subset(dataset, range(1, 50)), range(0, 49, 2))
    assert list(DatasetSamples.of(subset).targets) == values[1::2]
    assert dataset.asked <= 3


@pytest.mark.parametrize(
    "listed",
    [
        {"targets": [0, 1, 2]},
        {"targets": [9, 2, 3]},
        {"targets": [1, 9, 3]},
        {"targets": [1, 2, 9]},
        {"targets": [1, 2]},
        {"targets": "123"},
        {"labels": ["1", "2", "3"]},
        {"labels": lambda: [1, 2, 3]},
        {"samples": [1, 2, 3]},
        {"samples": [("path", 1), ("path", 2)]},
        {"samples": [("path", 3), ("path", 2), ("path", 1)]},
    ],
)
def test_listed_targets_that_differ_from_the_items_are_ignored(photo, listed):
    dataset = Counting(photo, [1, 2, 3], **listed)
    assert list(DatasetSamples.of(dataset).targets) == [1, 2, 3]


def test_without_a_list_every_item_is_got_once(photo):
    dataset = Counting(photo, ["a", "b"])
    assert list(DatasetSamples.of(dataset).targets) == ["a", "b"]
    assert dataset.asked == 2
    assert list(DatasetSamples.of(Subset(dataset, [1, 0])).targets) == ["b", "a"]


def test_a_dataset_that_wraps_another_without_choosing_from_it_is_read_item_by_item(photo):
    inner = Counting(photo, ["a", "b"], targets=["a", "b"])
    assert list(DatasetSamples.of(Counting(photo, ["c", "d"], dataset=inner)).targets) == ["c", "d"]


def test_targets_of_several_values_stay_as_they_are(photo):
    many = torch.tensor([0, 1, 1])
    samples = DatasetSamples.of([(photo, many), (photo, np.array([2.5])), (photo, ["a", "b"])])
    assert samples.target(0) is many and isinstance(samples.target(1), np.ndarray)
    assert samples.target(2) == ["a", "b"]


def test_items_are_named_by_their_position_and_decoded_on_demand(photo):
    samples = DatasetSamples.of([(photo, "a"), (photo[::-1], "b")])
    assert len(samples) == 2 and samples.name(1) == "item 1" and samples.target(1) == "b"
    assert np.array_equal(samples.load(1), photo[::-1])
    assert samples.content(1) is None
    subset = samples.subset([1])
    assert subset.name(0) == "item 1" and np.array_equal(subset.load(0), photo[::-1])


def test_an_item_without_a_valid_image_is_named_when_it_is_loaded(photo):
    samples = DatasetSamples.of([(photo, 0), (np.zeros((2, 2)) - 1, 1)])
    with pytest.raises(DataError, match=r"^item 1: pixels must be uint8"):
        samples.load(1)


def test_datasets_of_torch_and_torchvision_are_read(photo, encode, tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(encode(photo))
    folder = DatasetSamples.of(ImageFolder(str(tmp_path)))
    assert list(folder.targets) == [0, 1] and np.array_equal(folder.load(1), photo)
    assert list(DatasetSamples.of(Subset(ImageFolder(str(tmp_path)), [1])).targets) == [1]
    tensors = TensorDataset(torch.zeros(2, 3, 4, 5), torch.tensor([4, 9]))
    samples = DatasetSamples.of(tensors, convert=str)
    assert list(samples.targets) == ["4", "9"] and samples.load(0).shape == (4, 5, 3)


class Broken:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise RuntimeError("disk\nmissing")


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (lambda: None, "a path or a dataset with __len__ and __getitem__, not function"),
        ([], "the dataset (list) is empty"),
        ([(1, 2, 3)], "item 0: a dataset must return (image, target), not tuple"),
        ([5], "item 0: a dataset must return (image, target), not int"),
        ({0: "a"}.keys(), "a path or a dataset with __len__ and __getitem__, not dict_keys"),
        ({"a": 1}, "item 0: the dataset raised KeyError: 0"),
        (Broken(), "item 0: the dataset raised RuntimeError: disk missing"),
    ],
)
def test_objects_that_are_not_map_style_datasets_are_refused_in_one_line(dataset, words):
    with pytest.raises(DataError) as caught:
        DatasetSamples.of(dataset)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_targets_become_plain_values(values):
    pixels = np.zeros((2, 2, 3), np.uint8)
    for wrap in (torch.tensor, np.int64, int):
        samples = DatasetSamples.of([(pixels, wrap(v)) for v in values])
        assert list(samples.targets) == values
        assert all(type(t) is int for t in samples.targets)
