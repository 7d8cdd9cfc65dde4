"""A trained model takes images of every usual kind, and explains what is wrong with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiongraft
from visiongraft.errors import DataError, OptionError, PluginError
from visiongraft.saving.training_images import FILE


@pytest.fixture(scope="module")
def model(fit_toy, toy_data):
    return fit_toy(toy_data(60), epochs=6)


@pytest.fixture
def image(toy_data) -> np.ndarray:
    return toy_data(1)[0][0]


def test_every_kind_of_image_has_the_same_prediction(model, image, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    kinds = [image, str(path), path, Image.open(path), tensor, tensor / 255, image / 255.0]
    for kind in kinds:
        assert model.predict(kind) == model.predict([image])
    assert model.predict(kinds) == model.predict(image) * len(kinds)
    assert model.predict(tmp_path) == model.predict(image)


def test_predictions_do_not_depend_on_the_batch(model, toy_data):
    images = [p[: 12 + i] for i, (p, _) in enumerate(toy_data(7))]
    assert model.predict(images, batch_size=3) == [model.predict(p)[0] for p in images]
    assert model.predict([]) == []


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ("nowhere.jpg", "does not exist"),
        (7, "paths, PIL images, arrays or tensors, not int"),
        ([object()], "not object"),
        (np.zeros((4, 4, 3), dtype=np.int64), "not int64"),
        (np.full((4, 4, 3), 7.0), "float in 0..1"),
        (np.zeros((4, 4, 2), dtype=np.uint8), "2 channels, but 3 are required"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "height, width and channels"),
    ],
)
def test_what_is_not_an_image_is_named(model, images, words):
    with pytest.raises(DataError, match=words):
        model.predict(images)


def test_a_corrupt_file_is_named(model, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        model.predict(tmp_path / "bad.jpg")


def test_predictions_are_drawn_one_file_an_image(model, toy_data, tmp_path):
    model.predict([p for p, _ in toy_data(3)], save=tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").glob("*.jpg"))) == 3


def test_evaluation_counts_what_it_saw(model, toy_data):
    results = model.evaluate(toy_data(12, seed=4))
    assert (results["images"], results["unreadable"]) == (12, 0)
    assert 0 <= results["share_right"] <= 1


def test_evaluation_counts_the_images_that_were_in_training(
    model: Any, toy_data: Any, tmp_path: Path
) -> None:
    def counted(one: Any, data: Any) -> int | None:
        return one.evaluate(data)["images_seen_in_training"]

    data = toy_data(60)  # 48 of them were trained on, and 12 held out
    held_out = [data[int(model.validation.name(i).split()[-1])] for i in range(12)]
    assert counted(model, data) == 48
    assert counted(model, held_out) == counted(model, toy_data(12, seed=4)) == 0
    model.save(tmp_path / "first")
    loaded = visiongraft.load(tmp_path / "first")
    loaded.save(tmp_path / "second")
    assert counted(loaded, data) == counted(visiongraft.load(tmp_path / "second"), data) == 48
    (tmp_path / "second" / FILE).unlink()
    unknowing = visiongraft.load(tmp_path / "second")
    assert counted(unknowing, data) is None
    unknowing.save(tmp_path / "first")  # over the model that knew
    assert counted(visiongraft.load(tmp_path / "first"), data) is None


def test_images_of_the_model_that_a_run_started_from_are_counted_too(
    model: Any, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    model.save(tmp_path / "first")
    settings = {"epochs": 1, "weights": "pretrained", "backbone": tmp_path / "first"}
    second = fit_toy(toy_data(10, seed=9), **settings)
    assert second.evaluate(toy_data(60))["images_seen_in_training"] == 48
    assert second.evaluate(toy_data(10, seed=9))["images_seen_in_training"] == 7
    quick = {"epochs": 1, "schedule": "linear_probe", "device": "cpu", "callbacks": ()}
    third = visiongraft.fit(toy_data(10, seed=9), start=model, **quick)
    assert third.evaluate(toy_data(60))["images_seen_in_training"] == 48
    settings["weights"] = None  # these know nothing of the first model's images
    other = fit_toy(toy_data(10, seed=9), **settings)
    assert other.evaluate(toy_data(60))["images_seen_in_training"] == 0


def test_of_training_images_that_differ_each_time_none_are_recorded(
    fit_toy: Any, toy_data: Any
) -> None:
    class Noisy:
        items = toy_data(20)
        targets = tuple(target for _, target in items)

        def __len__(self) -> int:
            return len(self.items)

        def __getitem__(self, index: int) -> Any:
            image, target = self.items[index]
            return image ^ np.random.default_rng().integers(0, 2, image.shape, np.uint8), target

    trained = fit_toy(Noisy(), epochs=1)
    assert trained.evaluate(Noisy())["images_seen_in_training"] is None


def test_a_wrong_batch_size_is_refused(model, toy_data):
    with pytest.raises(OptionError, match="batch_size=0"):
        model.evaluate(toy_data(3), batch_size=0)


def test_an_unknown_export_format_is_refused(model, tmp_path):
    with pytest.raises(OptionError, match=r"no exporter for '\.xyz'"):
        model.export(tmp_path / "model.xyz")
    with pytest.raises(PluginError, match="no exporter 'onyx'; did you mean 'onnx'"):
        model.export(tmp_path / "model.onnx", format="onyx")


def test_a_run_proves_its_export_on_its_own_held_out_images(tmp_path, fit_toy, toy_data):
    model = fit_toy(toy_data(30), out=tmp_path / "run", epochs=1)
    assert model.proof_samples(None) is model.validation
    assert len(model.proof_samples(toy_data(9))) == 9
    model.validation = None
    assert model.proof_samples(None) is None  # the data were in memory only


def test_a_loaded_run_proves_its_export_on_the_images_it_held_out(
    fit_toy: Any, toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    class FromFile(Toy):
        def read(self, data: Any, **options: Any) -> Any:
            images, targets = (np.load(data)[key] for key in ("images", "targets"))
            return super().read(list(zip(images, targets.tolist(), strict=True)), **options)

    images, targets = zip(*toy_data(20), strict=True)
    path = tmp_path / "data.npz"
    np.savez(path, images=np.stack(images), targets=np.array(targets))
    model = fit_toy(path, task=FromFile(augment=False), out=tmp_path / "run", epochs=1, seed=3)
    loaded = visiongraft.load(tmp_path / "run", task=FromFile)
    assert loaded.validation is None
    found = loaded.proof_samples(None)
    assert [found.name(i) for i in range(len(found))] == [
        model.validation.name(i) for i in range(len(model.validation))
    ]
    path.unlink()
    assert loaded.proof_samples(None) is None
    model.save(tmp_path / "saved")
    assert visiongraft.load(tmp_path / "saved", task=FromFile).proof_samples(None) is None


def test_a_model_shows_itself_without_its_images(model: Any) -> None:
    assert len(repr(model)) < 10_000 and "array(" not in repr(model)
