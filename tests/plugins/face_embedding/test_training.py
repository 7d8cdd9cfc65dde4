"""Real training runs on drawn heads, from files to the exported model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

import visiongraft
from tests.short_trials import SHORT, ShortTrial
from visiongraft.cli import main
from visiongraft.exporters.runtime import Predictor
from visiongraft.hookspecs import hookimpl
from visiongraft.model import TransferModel
from visiongraft.plugins.face_embedding.data import read_evaluation
from visiongraft.plugins.face_embedding.evaluation.metrics import FaceMetrics
from visiongraft.plugins.face_embedding.example import IMAGES_PER_IDENTITY, draw_head, write_folder
from visiongraft.plugins.face_embedding.gallery.gallery import Gallery
from visiongraft.plugins.face_embedding.gallery.verification import embed, verify
from visiongraft.plugins.face_embedding.task import FaceEmbedding
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.data import DATA_CHECKS
from visiongraft.testing.tasks.freezing import FREEZING_CHECKS
from visiongraft.testing.tasks.processes import PROCESS_CHECKS
from visiongraft.testing.tasks.reproducing import REPRODUCING_CHECKS
from visiongraft.training.resuming.checkpoint import Checkpoint

pytestmark = pytest.mark.slow

FAST: dict[str, Any] = {
    "task": "face_embedding",
    "task_options": {"dimension": 32, "scale": 16.0, "augment": "none"},
    "backbone": "simple_cnn",
    "weights": None,
    "size": 32,
    "schedule": "full(learning_rate=3e-3, layer_decay=1.0)",
    "batch_size": 24,
    "workers": 0,
    "device": "cpu",
    "callbacks": (),
}
LOSS_WEIGHTS = "loss.classes.W"


def heads(folder: Path, identities: int = 28, each: int = IMAGES_PER_IDENTITY) -> Path:
    """Draw heads of this many people."""
    random = np.random.default_rng(3)
    for person in range(identities):
        (folder / f"p{person:02d}").mkdir(parents=True)
        for i in range(each):
            draw_head(person, random).save(folder / f"p{person:02d}" / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heads(tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "faces"
    visiongraft.fit(data, out=folder, epochs=30, **FAST)
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> TransferModel:
    return visiongraft.load(run)


@pytest.fixture(scope="module")
def exported(model: TransferModel, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("exported") / "faces.onnx"
    return path, model.export(path)


# ---- learning ----


def test_fine_tuning_improves_the_verification_of_unseen_people(
    run: Path, model: TransferModel, data: Path
) -> None:
    trained = model.facts["metrics"]["verification_accuracy"]
    untrained = visiongraft.fit(
        data, epochs=1, **{**FAST, "schedule": "full(learning_rate=1e-9)"}
    ).facts["metrics"]["verification_accuracy"]
    assert trained > 0.85
    assert trained > untrained + 0.05


def test_a_run_without_people_to_learn_would_be_noticed(data: Path) -> None:
    """The same training on shuffled names teaches nothing about people."""
    samples = read_evaluation(data).samples
    names = [samples.target(i).identity for i in range(len(samples))]
    shuffled = np.random.default_rng(0).permutation(names)
    pairs = [(samples.load(i), name) for i, name in enumerate(shuffled)]
    found = visiongraft.fit(pairs, epochs=10, **FAST).facts["metrics"]
    assert found["verification_accuracy"] < 0.75


# ---- the loss's own weights ----


class Watch:
    """Records what the optimizer trains, and stops at the requested step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.trained: set[str] = set()
        self.steps, self.stop_at = 0, stop_at

    @hookimpl
    def step_ended(self, run: Any) -> None:
        self.steps += 1
        if self.steps == self.stop_at:
            raise KeyboardInterrupt


def checkpoint_of(folder: Path) -> Checkpoint:
    return Checkpoint.read(folder / "checkpoints" / "last.safetensors")


def test_the_class_vectors_are_trained_by_the_optimizer(data: Path, tmp_path: Path) -> None:
    visiongraft.fit(data, out=tmp_path / "run", epochs=2, **{**FAST, "schedule": "linear_probe"})
    point = checkpoint_of(tmp_path / "run")
    moments = [name for name in point.tensors["optimizer"] if LOSS_WEIGHTS in name]
    assert moments, "the optimizer has no state of the class vectors"
    assert any(point.tensors["optimizer"][name].abs().sum() > 0 for name in moments)
    seeds = [
        visiongraft.fit(data, out=tmp_path / f"lr{i}", epochs=1, learning_rate=rate, **FAST)
        for i, rate in enumerate((1e-9, 1e-2))
    ]
    assert len(seeds) == 2
    still, moved = (checkpoint_of(tmp_path / f"lr{i}").tensors["network"] for i in range(2))
    assert (still[LOSS_WEIGHTS] - moved[LOSS_WEIGHTS]).abs().max() > 1e-3


def test_the_class_vectors_are_in_the_checkpoint(run: Path, data: Path) -> None:
    weights = checkpoint_of(run).tensors["network"][LOSS_WEIGHTS]
    identities = visiongraft.load(run).task.identities
    assert weights.shape == (32, identities)
    assert identities == 22


def test_a_resumed_run_continues_with_its_class_vectors(data: Path, tmp_path: Path) -> None:
    settings = {**FAST, "epochs": 3, "checkpoint_every": 1}
    settings.pop("callbacks")
    visiongraft.fit(data, out=tmp_path / "whole", callbacks=(), **settings)
    with pytest.raises(KeyboardInterrupt):
        visiongraft.fit(data, out=tmp_path / "run", callbacks=[Watch(stop_at=4)], **settings)
    visiongraft.fit(data, out=tmp_path / "run", callbacks=(), resume=True, **settings)
    ends = [checkpoint_of(tmp_path / name).tensors for name in ("whole", "run")]
    for group in ("network", "optimizer"):
        assert ends[0][group].keys() == ends[1][group].keys()
        assert all(torch.equal(t, ends[1][group][n]) for n, t in ends[0][group].items())
    assert LOSS_WEIGHTS in ends[0]["network"]


def test_a_resume_that_forgets_them_would_be_noticed(data: Path, tmp_path: Path) -> None:
    settings = {**FAST, "epochs": 2}
    visiongraft.fit(data, out=tmp_path / "run", **settings)
    network = visiongraft.load(tmp_path / "run").network
    tensors = checkpoint_of(tmp_path / "run").tensors["network"]
    del tensors[LOSS_WEIGHTS]
    with pytest.raises(RuntimeError, match=f'Missing key.*"{LOSS_WEIGHTS}"'):
        network.load_state_dict(tensors)


def test_the_class_vectors_are_left_out_of_the_saved_model(run: Path) -> None:
    with safe_open(run / "model" / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert "head.output.weight" in names
    assert not [name for name in names if "loss" in name or name.endswith(".W")]


def test_the_class_vectors_are_left_out_of_the_exported_file(
    exported: Any, model: TransferModel
) -> None:
    shape = list(model.network.loss.classes.W.shape)
    graph = onnx.load(exported[0]).graph
    shapes = [list(tensor.dims) for tensor in graph.initializer]
    assert shape == [32, 22]
    assert shape not in shapes
    assert shape[::-1] not in shapes
    weight = list(model.network.head.output.weight.shape)
    assert weight in shapes or weight[::-1] in shapes  # the head's are there


def test_no_name_of_a_person_is_in_what_is_shipped(run: Path, exported: Any) -> None:
    for path in (*(run / "model").iterdir(), exported[0]):
        content = path.read_bytes()
        assert b"p03" not in content, path
        assert b"p00" not in content, path


# ---- export ----


def test_the_exported_file_returns_unit_vectors_close_to_pytorchs(
    exported: Any, model: TransferModel, data: Path
) -> None:
    images = sorted(data.rglob("*.png"))[::3]
    one, other = model.embed(images), embed(Predictor(exported[0]), images)
    assert other.dtype == np.float32
    assert np.allclose(np.linalg.norm(other, axis=1), 1, atol=1e-5)
    assert (one * other).sum(1).min() >= 0.9999


def test_verification_accuracy_is_the_same_in_torch_and_onnx(
    exported: Any, model: TransferModel, data: Path
) -> None:
    path, certificate = exported
    assert certificate.metric_torch == certificate.metric_exported
    assert certificate.headline == "verification_accuracy"
    samples, predictor, metrics = read_evaluation(data).samples, Predictor(path), FaceMetrics()
    for i in range(len(samples)):
        metrics.update(
            predictor.run(samples.load(i)[None]), model.task.collate([samples.target(i)])
        )
    found, expected = metrics.compute(), model.evaluate(data)
    assert found["verification_accuracy"] == expected["verification_accuracy"]
    assert found["rank1"] == expected["rank1"]


def test_threshold_and_metric_are_in_the_metadata(exported: Any, model: TransferModel) -> None:
    metadata = Predictor(exported[0]).metadata
    assert metadata["task_metadata"] == {
        "dimension": 32,
        "similarity": "cosine",
        "threshold": model.facts["metrics"]["threshold"],
        "aligned": False,
    }
    assert metadata["certificate"]["headline"] == "verification_accuracy"
    assert model.task.threshold == metadata["task_metadata"]["threshold"]


def test_verification_and_gallery_work_with_model_and_file_alike(
    exported: Any, model: TransferModel, data: Path, tmp_path: Path
) -> None:
    predictor = Predictor(exported[0])
    a, b, c = data / "p00" / "0.png", data / "p00" / "1.png", data / "p01" / "0.png"
    threshold = model.facts["metrics"]["threshold_at_best_accuracy"]
    for first, second in ((a, b), (a, c)):
        one = model.verify(first, second, threshold=threshold)
        other = verify(predictor, first, second, threshold=threshold)
        assert one.same == other.same
        assert one.similarity == pytest.approx(other.similarity, abs=1e-4)
    gallery = model.gallery(threshold=threshold)
    for person in ("p00", "p01", "p02", "p03"):
        gallery.add(person, [data / person / f"{i}.png" for i in (0, 1)])
    gallery.save(tmp_path / "people")
    again = Gallery.load(tmp_path / "people", predictor)  # made by the model, used by the file
    for person in ("p00", "p02"):
        image = data / person / "2.png"
        assert gallery.identify(image).name == again.identify(image).name
    strict = model.gallery(threshold=0.999)
    strict.add("p00", a)
    assert strict.identify(c).name == "unknown"
    assert strict.identify(a).name == "p00"


def test_a_gallery_of_another_training_is_refused(
    model: TransferModel, data: Path, tmp_path: Path
) -> None:
    gallery = model.gallery(threshold=0.5)
    gallery.add("p00", data / "p00" / "0.png")
    gallery.save(tmp_path)
    other = visiongraft.fit(data, epochs=1, seed=5, **FAST)
    with pytest.raises(visiongraft.errors.ArtifactError, match="another model"):
        Gallery.load(tmp_path, other)


# ---- transfer and the command line ----


def test_a_saved_model_is_the_backbone_of_a_second_set(
    run: Path, tmp_path: Path, data: Path
) -> None:
    second = heads(tmp_path / "second", identities=8)
    found = visiongraft.fit(
        second, epochs=1, **{**FAST, "backbone": run, "weights": "pretrained", "size": 32}
    )
    assert found.backbone_info.provenance["task"] == "face_embedding"
    assert found.task.identities == 6


@pytest.mark.exhaustive  # the command line knows no task
def test_the_command_line_does_it_all(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", tmp_path / "faces.onnx"

    def call(*words: object) -> Any:
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    call(
        *("fit", data, "--task", "face_embedding", "--backbone", "simple_cnn", "--weights", "none"),
        *("--size", 32, "--set", "loss=contrastive", "--set", "dimension=16", "--epochs", 2),
        *("--out", run),
    )
    results = call("evaluate", run, data)
    assert 0 <= results["verification_accuracy"] <= 1
    assert call("export", run, file)["headline"] == "verification_accuracy"
    assert call("evaluate", file, data)["verification_accuracy"] == pytest.approx(
        results["verification_accuracy"]
    )
    for model_or_file in (run, file):
        (one,) = call("predict", model_or_file, data / "p00" / "0.png")["predictions"]
        assert one["dimension"] == len(one["embedding"]) == 16


# ---- conformance ----

QUICK = (*DATA_CHECKS, *FORWARD_CHECKS)
OF_THE_ENGINE = (
    *FREEZING_CHECKS,
    *REPRODUCING_CHECKS,
    *PROCESS_CHECKS,
)  # resuming implies equality
# Tests above do the same with more people, or with the same interruption.
DONE_ABOVE = {
    "a_few_images_are_overfit",
    "a_killed_run_resumes_exactly",
    "class_names_survive_saving_and_export",
    "the_exported_file_agrees",
}
TRIALS: dict[str, Callable[[type[TaskTrial]], TaskTrial]] = {
    "default": lambda kind: kind(FaceEmbedding()),
    # A batch of two identities teaches a loss over pairs next to nothing.
    "triplet": lambda kind: kind(FaceEmbedding(loss="triplet", neck="none"), batch_size=18),
}
OPTIONS = {
    "contrastive": FaceEmbedding(loss="contrastive", dimension=32),
    "mirror": FaceEmbedding(loss="softmax", neck="none", mirror=True),
    "sampled": FaceEmbedding(loss="cosface", sampled_identities=3, dropout=0.2),
    "balanced": FaceEmbedding(loss="sphereface", images_per_identity=2),
}


@pytest.fixture(scope="module")
def trials() -> dict[str, tuple[TaskTrial, TaskTrial]]:
    """A short and a full trial of each."""
    return {name: (make(ShortTrial), make(TaskTrial)) for name, make in TRIALS.items()}


def case(name: str, check: Check[Any]) -> Any:
    """Mark what trains a second loss, and what other tasks check of the engine."""
    elsewhere = check in OF_THE_ENGINE or check.name in DONE_ABOVE
    ordinary = check in QUICK or (name == "default" and not elsewhere)
    return pytest.param(
        name, check, id=f"{check.name}-{name}", marks=() if ordinary else pytest.mark.exhaustive
    )


@pytest.mark.parametrize(("name", "check"), [case(n, c) for n in TRIALS for c in TASK_CHECKS])
def test_the_task_conforms(
    trials: dict[str, tuple[TaskTrial, TaskTrial]], name: str, check: Check[Any]
) -> None:
    short, full = trials[name]
    check(short if check.name in SHORT else full)


@pytest.mark.parametrize(
    "name",
    [
        "sampled",
        *(pytest.param(n, marks=pytest.mark.exhaustive) for n in OPTIONS if n != "sampled"),
    ],
)
def test_the_task_conforms_with_other_options(name: str) -> None:
    trial = TaskTrial(OPTIONS[name])
    for check in QUICK:
        check(trial)


def test_example_data_are_the_same_people_each_time(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", 12, seed=0)
    other = write_folder(tmp_path / "other", 12, seed=1)
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}
    assert (one / "person00" / "0.png").read_bytes() != (other / "person00" / "0.png").read_bytes()
