"""Every image is checked before training; problems are counted and named."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from skimage import data

from visiongraft.data import check
from visiongraft.data.check import check_evaluated, check_samples
from visiongraft.data.decode import decode_file
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError
from visiongraft.inputs import images as inputs_images
from visiongraft.inputs.samples import InputSamples


def files(paths, targets=None):
    return FileSamples(paths, targets or [0] * len(paths))


def test_sound_images_all_stay_and_are_measured(write_images):
    train, validation = files(write_images(6)), files(write_images(2, start=6))
    checked = check_samples(train, validation)
    assert checked.train is train and checked.validation is validation
    assert checked.report.warnings == ()
    assert checked.report.images == {"training": 6, "validation": 2}
    assert checked.report.heights == (6, 7, 8) and checked.report.widths == (8, 8, 8)


def test_up_to_1_percent_unreadable_is_dropped_counted_and_named(write_images):
    paths = write_images(150)
    paths[7].write_bytes(paths[7].read_bytes()[:40])
    checked = check_samples(files(paths[:120]), files(paths[120:]))
    assert len(checked.train) == 119
    assert str(paths[7]) not in [checked.train.name(i) for i in range(119)]
    (line,) = checked.report.warnings
    assert line.startswith("1 unreadable images were dropped") and str(paths[7]) in line
    assert checked.report.counts()["unreadable"] == 1


@pytest.mark.parametrize(
    ("bad", "total", "stops"), [(1, 100, False), (1, 99, True), (2, 199, True)]
)
def test_the_limit_of_unreadable_images_is_exact(bad, total, stops):
    samples = InputSamples(
        [np.zeros((2, 2), np.int64 if i < bad else np.uint8) for i in range(total)]
    )
    train, validation = samples.subset(range(total - 50)), samples.subset(range(total - 50, total))
    if stops:
        words = f"^{bad} of {total} images are unreadable: image 0: "
        with pytest.raises(DataError, match=words):
            check_samples(train, validation)
    else:
        assert len(check_samples(train, validation).train) == total - 50 - bad


def test_unreadable_images_of_both_splits_are_counted_and_named(write_images):
    paths = write_images(200)
    paths[3].write_text("I am text")
    paths[199].unlink()
    checked = check_samples(files(paths[:150]), files(paths[150:]))
    assert checked.report.images == {"training": 149, "validation": 49}
    assert (len(checked.train), len(checked.validation)) == (149, 49)
    text, missing = checked.report.unreadable
    assert text.startswith(f"{paths[3]}: ") and missing.startswith(f"{paths[199]}: ")


def test_of_a_photograph_and_its_truncated_copy_only_the_copy_is_dropped(
    write_images, encode, tmp_path
):
    content = encode(data.coffee()[:64, :64], "JPEG")
    paths = [tmp_path / "sound.jpg", tmp_path / "cut.jpg"]
    paths[0].write_bytes(content)
    paths[1].write_bytes(content[:-100])
    others = write_images(98)
    checked = check_samples(files([*paths, *others[:90]]), files(others[90:]))
    (line,) = checked.report.unreadable
    assert line.startswith(f"{paths[1]}: cannot be decoded: ")
    assert checked.train.name(0) == str(paths[0]) and checked.train.name(1) == str(others[0])


def test_more_than_1_percent_unreadable_stops_and_names_the_first(write_images):
    paths = write_images(100)
    for path in paths[:5]:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="5 of 100 images are unreadable") as caught:
        check_samples(files(paths[:80]), files(paths[80:]))
    message = str(caught.value)
    assert str(paths[0]) in message and "and 2 more" in message and "\n" not in message


@pytest.mark.parametrize("bad", [2, 3])
def test_up_to_three_are_all_named(write_images, bad):
    paths = write_images(4)
    for path in paths[:bad]:
        path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        check_samples(files(paths[:3]), files(paths[3:]))
    assert all(str(path) in str(caught.value) for path in paths[:bad])
    assert "more" not in str(caught.value)


def test_an_image_in_training_and_validation_is_reported(write_images):
    paths = write_images(4)
    paths[3].write_bytes(paths[0].read_bytes())
    checked = check_samples(files(paths[:3]), files(paths[3:]))
    assert checked.report.leaked == ((str(paths[0]), str(paths[3])),)
    assert f"{paths[0]} = {paths[3]}" in checked.report.warnings[0]
    assert len(checked.validation) == 1  # a warning, not more


def test_an_image_that_differs_in_one_pixel_is_another(write_images, encode):
    paths = write_images(2)
    pixels = decode_file(paths[0])
    paths[1].write_bytes(encode(pixels))
    assert len(check_samples(files(paths[:1]), files(paths[1:])).report.leaked) == 1
    pixels[0, 0, 0] ^= 1
    paths[1].write_bytes(encode(pixels))
    assert check_samples(files(paths[:1]), files(paths[1:])).report.leaked == ()


def test_a_copy_that_was_saved_again_is_not_found(write_images, encode):
    paths = write_images(2)
    content = encode(decode_file(paths[0]), compress_level=0)
    assert content != paths[0].read_bytes()
    paths[1].write_bytes(content)
    assert check_samples(files(paths[:1]), files(paths[1:])).report.leaked == ()


def test_unreadable_images_are_not_duplicates_of_each_other(write_images):
    paths = write_images(400)
    for path in (*paths[:2], paths[-1]):
        path.write_bytes(b"")
    report = check_samples(files(paths[:300], list(range(300))), files(paths[300:])).report
    assert len(report.unreadable) == 3
    assert report.leaked == () and report.conflicting == ()


def test_identical_images_with_different_targets_are_reported(write_images):
    paths = write_images(4)
    paths[1].write_bytes(paths[0].read_bytes())
    same = check_samples(files(paths[:3], [1, 1, 0]), files(paths[3:]))
    other = check_samples(files(paths[:3], [1, 2, 0]), files(paths[3:]))
    assert same.report.conflicting == ()
    assert other.report.conflicting == ((str(paths[0]), str(paths[1])),)
    assert f"{paths[0]} = {paths[1]}" in other.report.warnings[0]


def test_every_further_copy_is_reported_with_the_first(write_images):
    paths = write_images(6)
    for copy in paths[1:5]:
        copy.write_bytes(paths[0].read_bytes())
    report = check_samples(files(paths[:3], [0, 1, 2]), files(paths[3:])).report
    first = str(paths[0])
    assert report.conflicting == ((first, str(paths[1])), (first, str(paths[2])))
    assert report.leaked == ((first, str(paths[3])), (first, str(paths[4])))


class OneAtATime(list[tuple[np.ndarray, int]]):
    """A dataset whose code cannot be run by two threads at once."""

    inside = False

    def __getitem__(self, index):
        assert not self.inside
        self.inside = True
        time.sleep(0.005)
        item = super().__getitem__(index)
        self.inside = False
        return item


def test_a_datasets_own_code_is_never_run_by_two_threads_at_once():
    items = [(np.full((4, 4, 3), level, np.uint8), 0) for level in range(12)]
    train, validation = (DatasetSamples.of(OneAtATime(part)) for part in (items[:8], items[8:]))
    assert check_samples(train, validation).report.unreadable == ()


def test_images_in_memory_are_compared_by_their_pixels():
    items = [(np.full((4, 4, 3), level, np.uint8), 0) for level in (1, 2, 1)]
    checked = check_samples(DatasetSamples.of(items[:2]), DatasetSamples.of(items[2:]))
    assert checked.report.leaked == (("item 0", "item 0"),)


def test_images_of_other_proportions_are_not_identical():
    wide, tall = np.zeros((4, 9, 3), np.uint8), np.zeros((9, 4, 3), np.uint8)
    one = DatasetSamples.of([(wide, 0)])
    assert check_samples(one, DatasetSamples.of([(tall, 0)])).report.leaked == ()
    assert len(check_samples(one, DatasetSamples.of([(wide, 0)])).report.leaked) == 1


def test_findings_belong_to_their_images_however_many_there_are():
    images = [np.full((1, 1 + i % 7), i % 251, np.uint8) for i in range(2100)]
    images[1500] = np.zeros((1, 1), np.int64)
    validation = [np.full((1, 9), 9, np.uint8), images[7 * 251]]  # the same as the first
    checked = check_samples(InputSamples(images), InputSamples(validation))
    assert checked.report.leaked == (("image 0", "image 1"),)
    assert checked.report.unreadable[0].startswith("image 1500: ")
    assert checked.train.name(1499) == "image 1499" and checked.train.name(1500) == "image 1501"
    assert checked.report.widths == (1, 4, 9)


def test_images_are_checked_in_the_channels_that_training_takes():
    deep = DatasetSamples.of([(np.full((2, 2, 5), i, np.uint8), 0) for i in range(2)])
    train, validation = deep.subset([0]), deep.subset([1])
    assert check_samples(train, validation, channels=5).report.unreadable == ()
    with pytest.raises(DataError, match="has 5 channels, but 3 are required"):
        check_samples(train, validation)


def test_a_turned_image_is_measured_upright(photo, encode, write_images):
    paths = write_images(2)
    exif = Image.Exif()
    exif[0x0112] = 6
    for path, image in zip(paths, (photo, photo[::-1]), strict=True):
        path.write_bytes(encode(image, "JPEG", exif=exif))
    report = check_samples(files(paths[:1]), files(paths[1:])).report
    assert (report.heights, report.widths) == ((60, 60, 60), (40, 40, 40))


def test_the_report_becomes_json(write_images):
    paths = write_images(4)
    paths[3].write_bytes(paths[0].read_bytes())
    report = check_samples(files(paths[:3]), files(paths[3:])).report
    read = json.loads(json.dumps({"all": asdict(report), "counts": report.counts()}))
    assert read["all"]["leaked"] == [[str(paths[0]), str(paths[3])]]
    assert read["counts"] == {
        "training images": 3,
        "validation images": 1,
        "unreadable": 0,
        "identical in training and validation": 1,
        "identical with different targets": 0,
        "height (min, median, max)": [6, 6, 8],
        "width (min, median, max)": [8, 8, 8],
    }


def test_a_split_without_readable_images_is_an_error(write_images, monkeypatch):
    paths = write_images(3)
    paths[2].write_bytes(b"")
    monkeypatch.setattr(check, "UNREADABLE_LIMIT", 0.5)
    with pytest.raises(DataError, match="the validation split has no readable images"):
        check_samples(files(paths[:2]), files(paths[2:]))
    with pytest.raises(DataError, match="the training split has no readable images"):
        check_samples(files(paths[2:]), files(paths[:2]))


def test_a_dataset_without_images_is_an_error():
    with pytest.raises(DataError, match="the training split has no readable images"):
        check_samples(files([]), files([]))


class Cache:
    """Counts how many images are really decoded."""

    def __init__(self, monkeypatch, path):
        self.path, self.decoded = path, 0
        real = inputs_images.decode_bytes

        def counting(*args):
            self.decoded += 1
            return real(*args)

        monkeypatch.setattr(inputs_images, "decode_bytes", counting)

    def check(self, paths, channels=3):
        self.decoded = 0
        parts = files(paths[:2]), files(paths[2:])
        return check_samples(*parts, channels=channels, cache=self.path).report


@pytest.fixture
def cache(monkeypatch, tmp_path):
    return Cache(monkeypatch, tmp_path / "run" / "data-check.json")


def test_a_second_check_decodes_only_changed_images(cache, write_images):
    paths = write_images(5)
    new, paths = paths[4], paths[:4]
    first = cache.check(paths)
    assert cache.decoded == 4
    assert cache.check(paths) == first and cache.decoded == 0
    paths[1].write_bytes(new.read_bytes())
    paths[3].write_bytes(new.read_bytes())
    assert len(cache.check(paths).leaked) == 1 and cache.decoded == 2


def test_an_edit_that_keeps_size_and_modification_time_is_noticed(cache, write_images):
    paths = write_images(4)
    parts = files(paths[:2]), files(paths[2:])
    first = check_samples(*parts, cache=cache.path).digests["validation"]
    before = paths[3].stat()
    paths[3].write_bytes(paths[0].read_bytes().ljust(before.st_size, b"\0"))
    os.utime(paths[3], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = paths[3].stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    again = check_samples(*parts, cache=cache.path).digests["validation"]
    assert again[0] == first[0] and again[1] != first[1]


def test_moved_images_are_read_but_not_decoded_again(cache, write_images, tmp_path):
    paths = write_images(4)
    first = cache.check(paths)
    moved = [path.rename(path.with_name(f"moved-{path.name}")) for path in paths]
    assert cache.check(moved) == first and cache.decoded == 0


def test_for_other_channels_images_are_decoded_again(cache, write_images):
    paths = write_images(4)
    cache.check(paths)
    cache.check(paths, channels=1)
    assert cache.decoded == 4


def test_images_that_left_the_dataset_leave_the_cache(cache, write_images):
    paths = write_images(6)
    cache.check(paths)
    cache.check(paths[:4])
    assert len(json.loads(cache.path.read_text())["findings"]) == 4


def test_an_image_that_reappears_is_checked(cache, write_images):
    paths = write_images(4)
    content = paths[0].read_bytes()
    paths[0].unlink()
    with pytest.raises(DataError, match="1 of 4 images are unreadable"):
        cache.check(paths)
    paths[0].write_bytes(content)
    assert cache.check(paths).unreadable == ()


def test_a_repaired_image_is_checked_again(cache, write_images):
    paths = write_images(4)
    content = paths[0].read_bytes()
    paths[0].write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 of 4 images .* the file is empty \(0 bytes\)"):
            cache.check(paths)
    paths[0].write_bytes(content)
    assert cache.check(paths).unreadable == ()


def test_images_without_files_are_not_cached(tmp_path):
    path = tmp_path / "data-check.json"
    for level in (1, 2):
        train = DatasetSamples.of([(np.full((2, 2), i + level, np.uint8), 0) for i in range(2)])
        validation = DatasetSamples.of([(np.full((2, 2), 3, np.uint8), 0)])
        leaked = check_samples(train, validation, cache=path).report.leaked
        assert leaked == ((("item 1", "item 0"),) if level == 2 else ())
    assert json.loads(path.read_text())["findings"] == {}


def test_the_cache_is_written_even_if_the_run_stops(cache, write_images):
    paths = write_images(3)
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DataError):
        cache.check(paths)
    report = json.loads(cache.path.read_text())["report"]
    assert report["images"] == {"training": 0, "validation": 0}
    assert report["heights"] == report["widths"] == [0, 0, 0]
    assert len(report["unreadable"]) == 3


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b'{"findings": 3}', b'{"findings": [{}]}', b"\xff\xfe{}"]
)
def test_a_damaged_cache_costs_time_only(cache, write_images, content):
    paths = write_images(4)
    first = cache.check(paths)
    cache.path.write_bytes(content)
    assert cache.check(paths) == first and cache.decoded == 4
    assert cache.check(paths) == first and cache.decoded == 0


@pytest.mark.parametrize(
    "finding", [None, 3, "abcd", [], ["a"], ["a", 1, 2, "", 3], [None, 1, 2, ""], [{}, 1, 2, ""]]
)
def test_an_image_with_a_damaged_cache_entry_is_checked_again(cache, write_images, finding):
    paths = write_images(4)
    first = cache.check(paths)
    known = json.loads(cache.path.read_text())
    known["findings"][next(iter(known["findings"]))] = finding
    cache.path.write_text(json.dumps(known))
    assert cache.check(paths) == first and cache.decoded == 1


def test_the_cache_holds_the_report(cache, write_images):
    report = cache.check(write_images(4))
    assert json.loads(cache.path.read_text())["report"]["images"] == report.images


def test_for_evaluation_unreadable_images_are_dropped_counted_and_named(write_images):
    paths = write_images(101)
    paths[5].unlink()
    checked = check_evaluated(files(paths))
    assert str(paths[5]) not in [checked.samples.name(i) for i in range(100)]
    assert len(checked.samples) == len(checked.images) == 100
    [line] = checked.report.warnings
    assert line.startswith(f"1 unreadable images were dropped: {paths[5]}")


def test_for_evaluation_sound_images_all_stay(write_images):
    samples = files(write_images(3))
    checked = check_evaluated(samples)
    assert checked.samples == samples
    assert checked.report.warnings == ()
    deep = DatasetSamples.of([(np.zeros((2, 2, 5), np.uint8), 0)])
    assert check_evaluated(deep, channels=5).samples == deep


def test_too_many_unreadable_images_or_none_at_all_cannot_be_evaluated(write_images):
    paths = write_images(2)
    paths[0].unlink()
    with pytest.raises(DataError, match="1 of 2 images are unreadable"):
        check_evaluated(files(paths))
    with pytest.raises(DataError, match="no images to evaluate"):
        check_evaluated(files([]))


class Masked(InputSamples):
    """Images of which some have a wrong target."""

    def problem(self, index: int, height: int, width: int) -> str:
        return f"mask {index} is not {height}x{width}" if index == 3 else ""


def test_a_sample_with_a_wrong_target_is_dropped_counted_and_named():
    samples = Masked([np.full((2, 5), i, np.uint8) for i in range(120)])
    checked = check_samples(samples.subset(range(110)), samples.subset(range(110, 120)))
    assert len(checked.train) == 109
    line = "1 unreadable images were dropped: mask 3 is not 2x5; repair or remove them"
    assert checked.report.warnings == (line,)
    assert len(check_evaluated(samples).samples) == 119


def test_a_target_is_looked_at_again_though_the_image_is_known(write_images, tmp_path):
    class Files(FileSamples):
        wrong = ""

        def problem(self, index: int, height: int, width: int) -> str:
            return self.wrong if index == 0 else ""

    paths = write_images(120)
    train, validation = Files(paths[:110], [0] * 110), files(paths[110:])
    cache = tmp_path / "check.json"
    assert len(check_samples(train, validation, cache=cache).train) == 110
    Files.wrong = "its mask is missing"
    assert len(check_samples(train, validation, cache=cache).train) == 109
    Files.wrong = ""
    assert len(check_samples(train, validation, cache=cache).train) == 110


class Counting(InputSamples):
    asked: ClassVar[list[int]] = []

    def target(self, index: int) -> int:
        self.asked.append(index)
        return index


def test_targets_are_read_once_per_image_and_only_for_training():
    samples = Counting([np.full((2, 2), i, np.uint8) for i in range(5)])
    check_evaluated(samples)
    assert Counting.asked == []
    checked = check_samples(samples, InputSamples([np.full((3, 2), 9, np.uint8)]))
    assert sorted(Counting.asked) == [0, 1, 2, 3, 4]
    assert len({digests.target for digests in checked.digests["training"]}) == 5


def test_long_targets_that_differ_in_the_middle_are_different():
    targets = [np.zeros(5000, np.int64), np.zeros(5000, np.int64)]
    assert repr(targets[0]) == repr(targets[1])
    targets[1][2500] = 1
    image = np.full((2, 2), 7, np.uint8)
    train = DatasetSamples.of([(image, target) for target in targets])
    report = check_samples(train, InputSamples([np.full((3, 2), 9, np.uint8)])).report
    assert report.conflicting == (("item 0", "item 1"),)


def test_a_target_that_cannot_be_read_is_left_to_the_loader_to_report():
    class Failing(InputSamples):
        def target(self, index: int) -> int:
            raise RuntimeError("no such annotation")

    one = Failing([np.full((2, 2), 7, np.uint8)])
    checked = check_samples(one, InputSamples([np.full((3, 2), 9, np.uint8)]))
    assert checked.digests["training"][0].target == "" and len(checked.train) == 1


def gray_files(folder, count, dtype, high):
    random = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(random.integers(1, high, (9, 160)).astype(dtype)).save(path)
    return paths


@pytest.mark.parametrize(
    ("dtype", "high", "words"),
    [
        (np.uint16, 250, "6 16-bit images use at most 1/16 of the range of values"),
        (np.uint16, 4096, "6 16-bit images use at most 1/16 of the range of values"),
        (np.uint16, 65535, None),
        (np.uint8, 12, None),
    ],
)
def test_16_bit_images_that_decode_to_black_are_named(tmp_path, dtype, high, words):
    paths = gray_files(tmp_path, 6, dtype, high)
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "sound.png")
    train, validation = files([tmp_path / "sound.png", *paths[:3]]), files(paths[3:])
    warnings = check_samples(train, validation, cache=tmp_path / "check.json").report.warnings
    again = check_samples(train, validation, cache=tmp_path / "check.json").report.warnings
    assert warnings == again and len(warnings) == (words is not None)
    assert words is None or (words in warnings[0] and str(paths[0]) in warnings[0])


def test_training_images_that_are_all_black_because_of_their_range_are_refused(tmp_path):
    paths = gray_files(tmp_path, 6, np.uint16, 250)
    with pytest.raises(DataError, match=r"all 4 training images.* are black; scale their values"):
        check_samples(files(paths[:4]), files(paths[4:]))


def test_for_evaluation_images_of_unusual_values_are_named_and_black_ones_alone_are_refused(
    tmp_path,
):
    paths = gray_files(tmp_path, 6, np.uint16, 250)
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "sound.png")
    Image.new("RGB", (9, 9), (0, 90, 0)).save(tmp_path / "green.png")
    mixed = [*paths, tmp_path / "sound.png", tmp_path / "green.png"]
    one_valued, dark = check_evaluated(files(mixed)).report.warnings
    assert one_valued.startswith("1 images have the same value") and "green.png" in one_valued
    assert dark.startswith("6 16-bit images") and str(paths[0]) in dark
    with pytest.raises(DataError, match=r"all 6 evaluated images.* are black; scale their values"):
        check_evaluated(files(paths))


def test_images_of_one_value_are_named(tmp_path, write_images):
    paths = write_images(6)
    Image.new("RGB", (9, 9), (0, 90, 0)).save(paths[1])
    (line,) = check_samples(files(paths[:4]), files(paths[4:])).report.warnings
    assert line.startswith("1 images have the same value in all pixels") and str(paths[1]) in line
