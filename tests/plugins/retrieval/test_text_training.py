"""Training the text encoder beside the backbone: loss, rates, what is kept, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

import visiongraft as vg
from tests.plugins.text_encoders import tiny_clip
from visiongraft.backbone import license_warning
from visiongraft.cli import main
from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError, WeightsError
from visiongraft.network import Network
from visiongraft.plugins.retrieval.encoders import encoder_named
from visiongraft.plugins.retrieval.example import write_table
from visiongraft.plugins.retrieval.task import Retrieval
from visiongraft.schedules import Phase
from visiongraft.testing import TASK_CHECKS, TaskTrial
from visiongraft.testing.report import Check
from visiongraft.training.evaluation import measure
from visiongraft.training.trainable import apply_phase, parameter_groups, trainable_parameters


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("captions"), 24, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.write_open_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def options(folder: Path) -> dict[str, Any]:
    return {"text": f"open_clip/local-dir:{folder}", "train_text": True, "text_rate": 0.5}


@pytest.fixture(scope="module")
def model(
    table: Path, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> vg.TransferModel:
    return vg.fit(
        table, backbone="simple_cnn", weights=None, size=32, schedule="full", epochs=10,
        learning_rate=3e-3, batch_size=8, task_options=options, callbacks=(),
        out=tmp_path_factory.mktemp("run") / "run",
    )  # fmt: skip


def network_on(backbone: Any, options: dict[str, Any], table: Path) -> Network:
    task = Retrieval(**options)
    return Network(backbone, task.bind(task.read(table).train))


# ---- the network ----


def test_loss_and_gradients_are_open_clips(folder: Path, options: dict[str, Any]) -> None:
    name, words = options["text"], ["a red square", "a blue square", "something green"]
    pixels = np.zeros((8, 8, 3), np.uint8)
    task = Retrieval(**options, head_start="identity", temperature=1 / 20)
    train = task.read([(pixels, each) for each in words] * 2, validation=0.5).train
    network = Network(vg.load_backbone(name), task.bind(train))
    reference, _, _ = open_clip.create_model_and_transforms(name.partition("/")[2])
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    samples = task.read([(pixels, each) for each in (*words, "x")], validation=0.25).train
    targets = task.collate([samples.target(i) for i in range(3)])
    batch = Batch(images, targets, torch.zeros(3, 2, dtype=torch.int64), torch.arange(3))
    found = network.eval()(batch)["contrastive"]
    texts = open_clip.get_tokenizer(name.partition("/")[2])(words)
    rows = [int((texts == tokens).all(1).nonzero()) for tokens in targets["tokens"]]
    loss = open_clip.loss.ClipLoss()(
        torch.nn.functional.normalize(reference.encode_image(images), dim=1),
        reference.encode_text(texts[rows], normalize=True),
        torch.tensor(20.0),
    )
    torch.testing.assert_close(found, loss)
    found.backward()
    loss.backward()
    tower: Any = network.head.text.network
    assert tower.positional_embedding.grad.abs().max() > 1e-4
    for parameter in ("positional_embedding", "text_projection"):
        gradients = (getattr(each, parameter).grad for each in (tower, reference))
        torch.testing.assert_close(*gradients)


def test_the_text_encoder_learns_at_its_own_rate(options: dict[str, Any], table: Path) -> None:
    network = network_on(vg.load_backbone("simple_cnn", None, size=32), options, table)
    phase = Phase(epochs=1, trainable="head", learning_rate=0.01, rates={"head.text": 0.1})
    apply_phase(network, phase)
    rates = {n: g["lr"] for g in parameter_groups(network, phase, 0.0) for n in g["names"]}
    assert rates["head.project.weight"] == 0.01
    assert rates["head.text.network.text_projection"] == pytest.approx(0.01 * 0.5 * 0.1)
    assert "head.text.network.logit_scale" not in rates  # the loss has a scale of its own
    chosen = trainable_parameters(network, ("head.project", "loss"))
    assert not any(name.startswith("head.text.") for name in chosen)


def test_a_copy_is_trained_and_the_encoder_stays(options: dict[str, Any], table: Path) -> None:
    encoder = encoder_named(options["text"])
    before = encoder.encode(["a red square"])
    network = deepcopy(network_on(vg.load_backbone("simple_cnn", None), options, table))
    with torch.no_grad():
        network.head.text.network.positional_embedding.normal_()  # type: ignore[union-attr, operator]
    np.testing.assert_array_equal(encoder.encode(["a red square"]), before)
    changed = network.task.embed_texts(["a red square"], network)  # type: ignore[call-arg]
    assert not np.allclose(changed, before / np.linalg.norm(before), atol=1e-3)


# ---- models ----


def test_both_towers_learn_to_find_colors(model: vg.TransferModel, table: Path) -> None:
    found = model.evaluate(table)
    assert found["image_to_text_recall_at_1"] > 0.9 and found["text_to_image_recall_at_1"] == 1
    texts = model.embed(text=["a red square", "a blue square"])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    first = encoder_named(model.task.options()["text"]).encode(["a red square"])[0]
    assert texts[0] @ first / np.linalg.norm(first) < 0.99
    (place,) = model.search(table.parent, "a blue square", top=1)
    assert int(Path(place.image).stem) % 4 == 2


def test_a_saved_model_needs_no_pretrained_weights(
    model: vg.TransferModel, folder: Path, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    weights = folder / "open_clip_model.safetensors"
    encoder_named.cache_clear()
    try:
        weights.rename(folder / "away")
        again = vg.load(tmp_path / "model")
        np.testing.assert_array_equal(
            again.embed(text="a red square"), model.embed(text="a red square")
        )
    finally:
        (folder / "away").rename(weights)


@pytest.mark.exhaustive
def test_an_exported_file_is_measured_with_the_trained_texts(
    model: vg.TransferModel, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = model.export(tmp_path / "m.onnx", data=table, max_batch=1)
    assert certificate.metric_torch == pytest.approx(model.evaluate(table)["mean_recall"])
    assert (tmp_path / "m.onnx").stat().st_size < 1_000_000  # token embeddings alone are 1.6 MB
    origin = certificate.weights["head.text"]
    assert origin["weights"] == "local-dir:tiny" and origin["tensors"] > 10
    assert certificate.weights["head"]["tensors"] == 2
    assert main(["evaluate", str(tmp_path / "m.onnx"), str(table)]) == 2
    assert "needs a part of it that exported files do not contain" in capsys.readouterr().err


def test_without_the_trained_texts_nothing_is_measured(
    model: vg.TransferModel, table: Path
) -> None:
    """The text encoder as it was before training would give wrong results, not none."""
    samples = model.task.read_evaluation(table).samples  # type: ignore[union-attr]
    targets = model.task.collate([samples.target(i) for i in range(4)])
    decoded = {"embedding": model.embed(table.parent)[:4]}
    assert measure(model.task, [(decoded, targets)])["mean_recall"] is None
    proved = model.task.proof_samples(model.network, samples)
    targets = model.task.collate([proved.target(i) for i in range(4)])
    assert measure(model.task, [(decoded, targets)])["mean_recall"] > 0.9


def test_a_license_of_the_text_encoder_is_noted(model: vg.TransferModel) -> None:
    provenance = model.backbone_info.provenance
    assert provenance["head.text: source"].startswith("open_clip")
    assert not license_warning("b", provenance)
    assert license_warning("b", {**provenance, "head.text: license": "cc-by-nc-4.0"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_text": 1}, "train_text=1"),
        ({"text_rate": 0}, "text_rate=0 is not a number above 0"),
        ({"text_rate": float("nan")}, "text_rate=nan"),
    ],
)
def test_an_invalid_option_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Retrieval(**given)


def test_what_cannot_be_trained_is_refused(options: dict[str, Any], table: Path) -> None:
    with pytest.raises(OptionError, match=r"wordllama.* has no network that could be trained"):
        Retrieval(train_text=True).read(table)
    with pytest.raises(OptionError, match=r"learning rates of its own \(of head.text\)"):
        vg.MultiTask({"a": Retrieval(**options), "b": Retrieval()})
    with pytest.raises(WeightsError):
        Retrieval(text="open_clip/local-dir:nowhere", train_text=True).read(table)


@pytest.mark.exhaustive
@pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.name)
def test_the_task_conforms(check: Check[Any], trial: TaskTrial) -> None:
    check(trial)


@pytest.fixture(scope="module")
def trial(options: dict[str, Any]) -> TaskTrial:
    return TaskTrial(Retrieval(**options))
