"""Options, head, transforms, predictions and metadata of the task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from visiongraft.backbone import Features
from visiongraft.errors import ArtifactError, DataError, OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.plugins.face_embedding.faces import Face
from visiongraft.plugins.face_embedding.head import EmbeddingHead
from visiongraft.plugins.face_embedding.loss import LOSSES
from visiongraft.plugins.face_embedding.task import LOSS_NAMES, OVER_PAIRS, FaceEmbedding
from visiongraft.plugins.face_embedding.transforms import TrainTransform
from visiongraft.plugins.whole_images.embedded import Embedded, predictions
from visiongraft.preprocess import PreprocessConfig
from visiongraft.seeds import seeded
from visiongraft.task import create_task


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "arcfase"}, "loss='arcfase' is unknown; did you mean 'arcface'"),
        ({"neck": "long"}, "neck='long' is unknown"),
        ({"augment": "srong"}, "did you mean 'strong'"),
        ({"dimension": 1}, "dimension=1 is not an integer of at least 2"),
        ({"dimension": 2.5}, "dimension=2.5"),
        ({"dropout": 1.0}, r"dropout=1.0 is not in \[0, 1\)"),
        ({"margin": 0.0}, "margin=0.0 is not a number above 0"),
        ({"scale": "big"}, "scale='big'"),
        ({"loss": "sphereface", "margin": 1.5}, "must be an integer for SphereFace"),
        ({"sampled_identities": -1}, "sampled_identities=-1"),
        ({"sampled_identities": 9, "loss": "triplet"}, "which triplet does not have"),
        ({"images_per_identity": 1, "loss": "contrastive"}, "use 2 or more"),
        ({"images_per_identity": 0, "loss": "triplet"}, "without pairs of one identity"),
        ({"images_per_identity": -2}, "images_per_identity=-2"),
        ({"threshold": 1.5}, "threshold=1.5 is not a cosine"),
        ({"false_accept_rate": 0}, "false_accept_rate=0 is not a fraction in"),
        ({"false_accept_rate": 1}, "false_accept_rate=1 is not a fraction in"),
        ({"flip": "yes"}, "flip='yes' is not true or false"),
        ({"mirror": 1}, "mirror=1"),
        ({"margins": 1}, "has no option 'margins'; did you mean 'margin'"),
    ],
)
def test_invalid_options_are_refused_with_an_explanation(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        create_task(FaceEmbedding, options)


def test_names_of_losses_are_those_there_are() -> None:
    assert set(LOSS_NAMES) == LOSSES.keys()
    assert set(OVER_PAIRS) == {name for name, kind in LOSSES.items() if kind.over_pairs}


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_losses_over_pairs_are_declared(name: Any) -> None:
    assert FaceEmbedding(loss=name).loss_over_pairs is (name in OVER_PAIRS)


def test_without_data_there_is_no_loss_with_class_vectors() -> None:
    with pytest.raises(OptionError, match="the task has no identities yet"):
        FaceEmbedding().build_loss()(torch.zeros(2, 512), {})
    FaceEmbedding(loss="triplet").build_loss()
    with pytest.raises(DataError, match="bind takes the samples of read"):
        FaceEmbedding().bind([])  # type: ignore[arg-type]


# ---- head, decode, mirror ----


def features(count: int = 4, inputs: int = 20) -> Features:
    generator = torch.Generator().manual_seed(0)
    return Features((), torch.randn(count, inputs, generator=generator))


def test_an_untrained_head_keeps_the_angles_of_the_backbone() -> None:
    head = EmbeddingHead(20, 20, batch_norm=False)
    angles = [torch.nn.functional.normalize(x) for x in (features().pooled, head(features()))]
    assert torch.allclose(angles[0] @ angles[0].T, angles[1] @ angles[1].T, atol=1e-5)


def test_the_neck_has_no_parameters_of_its_own() -> None:
    head = EmbeddingHead(20, 8, dropout=0.5)
    assert [name for name, _ in head.named_parameters()] == ["output.weight"]
    vectors = head.train()(features(64))
    assert vectors.shape == (64, 8)
    assert vectors.mean(0).abs().max() < 1e-5
    assert [m for m in EmbeddingHead(20, 8).modules() if isinstance(m, torch.nn.Dropout)] == []


def test_a_batch_of_one_image_trains() -> None:
    head = EmbeddingHead(20, 8).train()
    before = head.neck.running_mean.clone()
    assert head(features(1)).isfinite().all()
    assert torch.equal(head.neck.running_mean, before)


def test_decode_returns_unit_vectors_also_of_zeros_and_of_very_long_vectors() -> None:
    outputs = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6e4, 6e4]])
    sizes = torch.ones(3, 2, dtype=torch.int64)
    for kind in (torch.float32, torch.float16):
        (found,) = FaceEmbedding(dimension=2).decode(outputs.to(kind), sizes).values()
        assert found.dtype == torch.float32
        assert torch.allclose(found.norm(dim=1), torch.tensor([1.0, 0.0, 1.0]), atol=1e-3)
    assert torch.allclose(found[0], torch.tensor([0.6, 0.8]))


def test_with_mirror_an_image_and_its_mirror_image_embed_alike() -> None:
    task = FaceEmbedding(dimension=16, loss="triplet", mirror=True)
    torch.manual_seed(0)
    network = Network(load_backbone("simple_cnn", None, size=(24, 24)), task).eval()
    images, sizes = torch.rand(3, 3, 24, 24), torch.full((3, 2), 24)
    with torch.no_grad():
        one, other = (network.decode(x, sizes)["embedding"] for x in (images, images.flip(3)))
        plain = [network.head(network.backbone(x)) for x in (images, images.flip(3))]
        network.task = FaceEmbedding(dimension=16, loss="triplet")
        alone = network.decode(images, sizes)["embedding"]
    assert torch.allclose(one, other, atol=1e-6)
    units = [torch.nn.functional.normalize(x) for x in plain]
    assert torch.allclose(one, torch.nn.functional.normalize(units[0] + units[1]), atol=1e-6)
    assert not torch.allclose(one, alone, atol=1e-4)


# ---- targets, transforms, predictions ----


def test_a_batch_of_targets_serves_loss_and_metrics() -> None:
    batch = FaceEmbedding().collate([Face("a", 3, ((0, 1),), label=5), Face("b", 4)])
    assert batch["labels"].tolist() == [5, -1]
    assert batch["identities"] == ["a", "b"]
    assert batch["indices"] == [3, 4]
    assert batch["pairs"] == [((0, 1),), ()]


@pytest.mark.parametrize("strength", ["light", "strong"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_augmentation_has_the_size_and_keeps_the_target(strength: str, channels: int) -> None:
    image = tv_tensors.Image(torch.randint(0, 256, (channels, 50, 40), dtype=torch.uint8))
    target = Face("a", 0)
    transform = TrainTransform((32, 48), strength)
    with seeded(0):
        changed, same = transform(image, target)
    assert changed.shape == (channels, 32, 48)
    assert same is target
    with seeded(1):
        assert not torch.equal(transform(image, target)[0], changed)


def test_faces_are_flipped_unless_the_option_is_off() -> None:
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[:, :, :16] = 255
    sides: dict[bool, set[bool]] = {True: set(), False: set()}
    for flip, seen in sides.items():
        transform = TrainTransform((32, 32), "light", flip)
        for seed in range(20):
            with seeded(seed):
                changed = transform(tv_tensors.Image(image), None)[0].float()
            seen.add(bool(changed[:, :, 4:14].mean() > changed[:, :, 18:28].mean()))
    assert sides == {True: {True, False}, False: {True}}
    assert FaceEmbedding(augment="none").train_transform(PreprocessConfig((8, 8))) is None


def test_predictions_are_embeddings() -> None:
    task = FaceEmbedding(dimension=2)
    arrays = {"embedding": np.array([[0.6, 0.8]], dtype=np.float32)}
    (one,) = task.predictions(arrays)
    assert one == Embedded(2, (pytest.approx(0.6), pytest.approx(0.8)))
    with pytest.raises(ArtifactError, match=r"embeddings \(1, 2\), not of dimension 512"):
        predictions(arrays, FaceEmbedding().metadata())


# ---- threshold and model methods ----


def test_the_threshold_is_what_the_validation_pairs_decide() -> None:
    task = FaceEmbedding()
    assert task.after_training({"threshold": 0.375}).threshold == 0.375
    assert task.after_training({"threshold": None}).threshold is None
    assert FaceEmbedding(threshold=0.5).after_training({"threshold": 0.375}).threshold == 0.5
    assert task.after_training({"threshold": 0.375}).metadata() == {
        "dimension": 512,
        "similarity": "cosine",
        "threshold": 0.375,
        "aligned": False,
    }


def test_a_models_verbs_are_those_of_faces() -> None:
    assert set(FaceEmbedding().model_methods()) == {"verify", "gallery", "match_rates"}
