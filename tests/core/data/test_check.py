"""Before training every picture is looked at; what is odd is counted and named."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest

from visiongraft.data import check
from visiongraft.data.check import check_samples, drop_unreadable
from visiongraft.data.pictures import DatasetSamples
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError


def files(paths, targets=None):
    return FileSamples(paths, targets or [0] * len(paths))


def test_sound_pictures_all_stay_and_are_measured(write_pictures):
    train, held_out = files(write_pictures(6)), files(write_pictures(2, start=6))
    checked = check_samples(train, held_out)
    assert checked.train is train and checked.validation is held_out
    assert checked.report.warnings == ()
    assert checked.report.pictures == {"training": 6, "validation": 2}
    assert checked.report.heights == (6, 7, 8) and checked.report.widths == (8, 8, 8)


def test_up_to_1_percent_unreadable_is_dropped_counted_and_named(write_pictures):
    paths = write_pictures(150)
    paths[7].write_bytes(paths[7].read_bytes()[:40])
    checked = check_samples(files(paths[:120]), files(paths[120:]))
    assert len(checked.train) == 119
    assert str(paths[7]) not in [checked.train.name(i) for i in range(119)]
    (line,) = checked.report.warnings
    assert line.startswith("1 unreadable pictures were dropped") and str(paths[7]) in line
    assert checked.report.counts()["unreadable"] == 1


def test_more_than_1_percent_unreadable_stops_and_names_the_first(write_pictures):
    paths = write_pictures(100)
    for path in paths[:5]:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="5 of 100 pictures are unreadable") as caught:
        check_samples(files(paths[:80]), files(paths[80:]))
    message = str(caught.value)
    assert str(paths[0]) in message and "and 2 more" in message and "\n" not in message


def test_a_picture_in_training_and_validation_is_reported(write_pictures):
    paths = write_pictures(4)
    paths[3].write_bytes(paths[0].read_bytes())
    checked = check_samples(files(paths[:3]), files(paths[3:]))
    assert checked.report.leaked == ((str(paths[0]), str(paths[3])),)
    assert f"{paths[0]} = {paths[3]}" in checked.report.warnings[0]


def test_identical_pictures_with_different_targets_are_reported(write_pictures):
    paths = write_pictures(4)
    paths[1].write_bytes(paths[0].read_bytes())
    same = check_samples(files(paths[:3], [1, 1, 0]), files(paths[3:]))
    other = check_samples(files(paths[:3], [1, 2, 0]), files(paths[3:]))
    assert same.report.conflicting == ()
    assert other.report.conflicting == ((str(paths[0]), str(paths[1])),)


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
    train, held_out = (DatasetSamples.of(OneAtATime(part)) for part in (items[:8], items[8:]))
    assert check_samples(train, held_out).report.unreadable == ()


def test_pictures_in_memory_are_compared_by_their_pixels():
    items = [(np.full((4, 4, 3), level, np.uint8), 0) for level in (1, 2, 1)]
    checked = check_samples(DatasetSamples.of(items[:2]), DatasetSamples.of(items[2:]))
    assert checked.report.leaked == (("item 0", "item 0"),)


def test_a_part_without_any_readable_picture_stops(write_pictures, monkeypatch):
    paths = write_pictures(3)
    paths[2].write_bytes(b"")
    monkeypatch.setattr(check, "UNREADABLE_LIMIT", 0.5)
    with pytest.raises(DataError, match="the validation part has no readable picture"):
        check_samples(files(paths[:2]), files(paths[2:]))


def test_progress_is_told_for_every_picture(write_pictures):
    paths = write_pictures(3)
    told = []
    check_samples(files(paths[:2]), files(paths[2:]), progress=lambda *p: told.append(p))
    assert told == [(1, 3), (2, 3), (3, 3)]


class Cache:
    """Counts how many pictures are really decoded."""

    def __init__(self, monkeypatch, path):
        self.path, self.decoded = path, 0
        real = check.decode_bytes

        def counting(*args):
            self.decoded += 1
            return real(*args)

        monkeypatch.setattr(check, "decode_bytes", counting)

    def check(self, paths):
        self.decoded = 0
        return check_samples(files(paths[:2]), files(paths[2:]), cache=self.path).report


@pytest.fixture
def cache(monkeypatch, tmp_path):
    return Cache(monkeypatch, tmp_path / "run" / "data-check.json")


def test_a_second_look_decodes_only_what_has_changed(cache, write_pictures):
    paths = write_pictures(4)
    first = cache.check(paths)
    assert cache.decoded == 4
    assert cache.check(paths) == first and cache.decoded == 0
    paths[1].write_bytes(paths[0].read_bytes())
    os.utime(paths[1], ns=(1, 1))
    paths[3].write_bytes(paths[0].read_bytes())
    assert len(cache.check(paths).leaked) == 1 and cache.decoded == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"findings": 3}'])
def test_a_damaged_cache_costs_time_only(cache, write_pictures, content):
    paths = write_pictures(4)
    first = cache.check(paths)
    cache.path.write_text(content)
    assert cache.check(paths) == first and cache.decoded == 4


def test_the_cache_holds_the_report(cache, write_pictures):
    report = cache.check(write_pictures(4))
    assert json.loads(cache.path.read_text())["report"]["pictures"] == report.pictures


def test_for_evaluation_unreadable_pictures_are_dropped_and_counted(write_pictures):
    paths = write_pictures(101)
    paths[5].unlink()
    readable, dropped = drop_unreadable(files(paths))
    assert (len(readable), dropped) == (100, 1)


def test_too_many_unreadable_pictures_or_none_at_all_cannot_be_evaluated(write_pictures):
    paths = write_pictures(2)
    paths[0].unlink()
    with pytest.raises(DataError, match="1 of 2 pictures are unreadable"):
        drop_unreadable(files(paths))
    with pytest.raises(DataError, match="no picture to evaluate"):
        drop_unreadable(files([]))
