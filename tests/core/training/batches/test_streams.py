"""Streams: further batches for the training steps, in an order of their own."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.data.unlabeled import unlabeled_samples
from visiongraft.errors import DataError, OptionError, ReplayError, VisiongraftError
from visiongraft.hookspecs import hookimpl
from visiongraft.training.batches.streams import endless_keys

QUICK: dict[str, Any] = {"schedule": "full(learning_rate=0.02)", "epochs": 1, "batch_size": 8}


def images_only(data: Any) -> list[Any]:
    return [image for image, _ in data]


# ---- the order ----


def test_every_pass_is_another_permutation() -> None:
    keys = endless_keys("a", 5, seed=0, start=0, count=15)
    passes = [[index for index, passed in keys if passed == n] for n in range(3)]
    assert [sorted(each) for each in passes] == [[0, 1, 2, 3, 4]] * 3
    assert passes[0] != passes[1]


def test_the_order_depends_on_seed_and_name_only_and_goes_on_at_any_place() -> None:
    keys = endless_keys("a", 5, seed=0, start=0, count=12)
    assert endless_keys("a", 5, 0, 7, 5) == keys[7:]
    assert endless_keys("b", 5, 0, 0, 12) != keys
    assert endless_keys("a", 5, 1, 0, 12) != keys


# ---- in a run ----


class Watch:
    """Records the batches of a run's steps."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    def run_started(self, run: Any) -> None:
        network, forward = run.network, run.network.forward

        def watched(batch: Any) -> Any:
            self.seen.append(batch)
            return forward(batch)

        network.forward = watched


def test_each_step_has_a_batch_of_the_stream_in_the_stated_order(
    fit_toy: Any, toy_data: Any, StreamingToy: Any
) -> None:
    watch = Watch()
    streams = {"unlabelled": images_only(toy_data(11, seed=6))}
    settings = {**QUICK, "epochs": 2, "task": StreamingToy(augment=False)}
    fit_toy(toy_data(30), streams=streams, callbacks=[watch], **settings)
    found = [batch.streams["unlabelled"] for batch in watch.seen]
    taken = [i for batch in found for i in batch.indices.tolist()]
    assert [len(batch.indices) for batch in found] == [8] * len(watch.seen)
    assert taken == [i for i, _ in endless_keys("unlabelled", 11, 0, 0, len(taken))]
    assert all(batch.targets is None for batch in found)


def test_the_model_card_counts_the_images_of_a_stream(
    fit_toy: Any, toy_data: Any, StreamingToy: Any
) -> None:
    streams = {"unlabelled": images_only(toy_data(11, seed=6))}
    model = fit_toy(toy_data(30), streams=streams, task=StreamingToy(), **QUICK)
    assert model.facts["data"]["images of stream unlabelled"] == 11
    assert len(model.training_images.images) == 24 + 11  # evaluation recognizes these, too


def test_feature_caching_is_off_and_the_log_states_why(
    fit_toy: Any, toy_data: Any, StreamingToy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {
        "schedule": "linear_probe",
        "task": StreamingToy(augment=False),
        "streams": {"unlabelled": images_only(toy_data(11, seed=6))},
    }
    with caplog.at_level(logging.INFO, "visiongraft"):
        fit_toy(toy_data(30), epochs=2, **settings)
    line = "no replay: the images of 'unlabelled' are needed as well"
    assert line in caplog.messages
    with pytest.raises(ReplayError, match="the images of 'unlabelled' are needed"):
        fit_toy(toy_data(30), replay=True, epochs=2, **settings)


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        (None, r"task 'streaming-toy' needs the stream 'unlabelled'; pass streams=\{'unlabelled'"),
        ({"unlabeled": []}, "uses 'unlabeled'; did you mean 'unlabelled'"),
        ({"unlabelled": []}, r"stream 'unlabelled': the dataset \(list\) is empty"),
        ({"unlabelled": "nowhere"}, "stream 'unlabelled': nowhere does not exist"),
        ({"unlabelled": ["nowhere.jpg"]}, "stream 'unlabelled': nowhere.jpg does not exist"),
        ({"unlabelled": None}, "stream 'unlabelled' is None"),
        ({"unlabelled": 7}, "stream 'unlabelled': data must be a path or a dataset"),
        ({"unlabelled": ["text"]}, "text does not exist"),
        ({"unlabelled": [5]}, "unreadable"),
    ],
)
def test_a_stream_that_cannot_be_used_is_refused_in_one_line(
    fit_toy: Any, toy_data: Any, StreamingToy: Any, tmp_path: Path, streams: Any, words: str
) -> None:
    with pytest.raises(VisiongraftError, match=words) as caught:
        settings = {"task": StreamingToy(), "out": tmp_path / "run", **QUICK}
        fit_toy(toy_data(20), streams=streams, **settings)
    assert isinstance(caught.value, OptionError | DataError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_task_without_streams_refuses_all(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match="'unlabelled'; they use no streams"):
        fit_toy(toy_data(20), streams={"unlabelled": images_only(toy_data(9))}, **QUICK)


# ---- images without targets ----


def test_images_are_found_in_folders_lists_of_paths_and_datasets(
    tmp_path: Path, toy_data: Any
) -> None:
    (tmp_path / "deep").mkdir()
    pixels = images_only(toy_data(3))
    files = [tmp_path / "deep" / "b.png", tmp_path / "a.png"]
    for file, image in zip(files, pixels, strict=False):
        Image.fromarray(image).save(file)
    by_folder = unlabeled_samples(tmp_path)
    assert {Path(by_folder.name(i)) for i in range(2)} == set(files)
    for data in (files, [str(f) for f in files], pixels[:2], toy_data(2), np.stack(pixels[:2])):
        samples = unlabeled_samples(data)
        assert [samples.target(i) for i in range(len(samples))] == [None, None]
        assert np.array_equal(samples.load(0), pixels[0])
    again = unlabeled_samples(by_folder)
    assert (len(again), again.target(0)) == (2, None)


def test_a_dataset_that_fails_is_named_with_the_item() -> None:
    def fail(self: Any, index: int) -> Any:
        raise KeyError("gone")

    kind = type("Broken", (SimpleNamespace,), {"__len__": lambda self: 2, "__getitem__": fail})
    with pytest.raises(DataError, match="item 1: the dataset raised KeyError"):
        unlabeled_samples(kind()).load(1)
