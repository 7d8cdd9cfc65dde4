"""Networks for faces: their published checkpoints are recognized, and embed without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import visiongraft
from visiongraft.errors import BackboneError, OptionError, WeightsError
from visiongraft.plugins.face_embedding.example import write_folder
from visiongraft.plugins.face_embedding.networks.iresnet import DEPTHS, IResNet
from visiongraft.plugins.face_embedding.networks.mobilefacenet import MobileFaceNet
from visiongraft.plugins.face_embedding.networks.source import NETWORKS, FaceSource, read_published
from visiongraft.plugins.face_embedding.task import FaceEmbedding
from visiongraft.testing import BACKBONE_CHECKS, BackboneTrial, check_backbone

PARAMETERS = {  # in thousands, as published or counted in the libraries of these checkpoints
    "mobilefacenet": 1000,
    "iresnet18": 24_026,
    "iresnet50": 43_591,
    "inception_resnet_v1": 23_483,
}


# The first six numbers of an embedding by facenet-pytorch 2.6.0, and by insightface's arcface_torch at commit
# 04a433f, with the weights of `drawn`.
PUBLISHED = {
    "inception_resnet_v1": (0.020455, 0.009586, 0.045323, -0.073868, 0.002391, 0.045578),
    "iresnet18": (0.01349, -0.047121, 0.010641, -0.008514, 0.006343, -0.047444),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of MobileFaceNet_Pytorch."""
    torch.manual_seed(0)
    network = MobileFaceNet()
    for each in network.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.normal_(0, 0.1)
            each.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("faces") / "068.ckpt"
    torch.save({"epoch": 68, "net_state_dict": network.state_dict()}, path)
    return path


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_parameters_of_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in NETWORKS[name].make().parameters())
    assert round(count / 1000) == PARAMETERS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_embeddings_are_those_of_the_published_code(name: str) -> None:
    """The numbers are results of that code with the same weights, see ``PUBLISHED``."""
    network = NETWORKS[name].make()
    network.load_state_dict(drawn(network.state_dict()))
    size = {"iresnet18": 112, "inception_resnet_v1": 160}[name]
    images = np.random.default_rng(1).uniform(-1, 1, (2, 3, size, size)).astype(np.float32)
    with torch.no_grad():
        embedding = network.eval()(torch.from_numpy(images[:1]))[1]
    torch.testing.assert_close(
        F.normalize(embedding)[0, :6], torch.tensor(PUBLISHED[name]), rtol=0, atol=2e-5
    )


def drawn(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Draw weights in the order of their names, of which signals neither vanish nor explode."""
    random, found = np.random.default_rng(0), {}
    for name, tensor in sorted(state.items()):
        if name.endswith("num_batches_tracked"):
            found[name] = tensor
            continue
        values = random.standard_normal(tuple(tensor.shape)).astype(np.float32)
        if name.endswith("running_var"):
            values = np.abs(values) + 0.5
        elif tensor.ndim > 1:
            values *= 1.4 / np.sqrt(np.prod(tensor.shape[1:]))
        else:
            values = 0.1 * values + name.endswith("weight")
        found[name] = torch.from_numpy(values.astype(np.float32))
    return found


@pytest.mark.parametrize("name", ["mobilefacenet", "inception_resnet_v1", "iresnet18"])
def test_maps_have_the_strides_and_channels_that_are_stated(name: str) -> None:
    backbone = visiongraft.load_backbone(f"faces/{name}", None).eval()
    info = backbone.info
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, *info.preprocess.size))
    assert features.pooled.shape == (1, info.embedding_dim)
    for values, channels, stride in zip(features.maps, info.channels, info.strides, strict=True):
        assert values.shape[1] == channels
        assert values.shape[2:] == tuple(-(-side // stride) for side in info.preprocess.size)
    assert set(info.stage_of) == set(backbone.state_dict())
    assert len(backbone.stages) >= 5


def test_stages_follow_the_order_of_the_layers() -> None:
    stage_of = visiongraft.load_backbone("faces/mobilefacenet", None).info.stage_of
    assert stage_of["model.conv1.conv.weight"] == "stem"
    assert stage_of["model.blocks.4.conv.0.weight"] == "stage1"
    assert stage_of["model.blocks.5.conv.0.weight"] == "stage2"
    assert stage_of["model.linear1.bn.bias"] == "stage4"


def test_a_published_file_embeds_without_training(checkpoint: Path, tmp_path: Path) -> None:
    model = visiongraft.assemble("face_embedding", weights=checkpoint)
    assert model.backbone_info.name == "faces/mobilefacenet"
    assert (model.task.head, model.task.dimension) == ("none", 128)
    assert model.backbone_info.preprocess.size == (112, 96)
    image = np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    network = MobileFaceNet().eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["net_state_dict"])
    middle = torch.from_numpy(image[:, 8:104]).permute(2, 0, 1)[None]  # of the template
    with torch.no_grad():
        expected = F.normalize(network((middle - 127.5) / 128)[1])
    torch.testing.assert_close(torch.from_numpy(model.embed([image])), expected, rtol=0, atol=1e-5)
    people = write_folder(tmp_path / "people", count=12, seed=0)
    assert 0 <= model.evaluate(people)["verification_accuracy"] <= 1
    model.save(tmp_path / "model")
    again = visiongraft.load(tmp_path / "model")
    assert np.array_equal(again.embed([image]), model.embed([image]))


@pytest.mark.exhaustive
def test_a_run_continues_with_a_published_file(checkpoint: Path, tmp_path: Path) -> None:
    people = write_folder(tmp_path / "people", count=24, seed=0)
    tuned = visiongraft.fit(
        people,
        task="face_embedding",
        start=checkpoint,
        schedule="last_n(n=1)",
        epochs=1,
        callbacks=(),
        device="cpu",
    )
    assert tuned.task.identities > 0
    certificate = tuned.export(tmp_path / "faces.onnx")
    assert certificate.headline == "verification_accuracy"


def test_files_of_all_layouts_are_recognized() -> None:
    with torch.device("meta"):
        for name in NETWORKS:
            found = read_published(NETWORKS[name].make().state_dict())
            assert found is not None
            assert found.backbone == f"faces/{name}"
            assert found.options["dimension"] == NETWORKS[name].embedding
    assert read_published({"layer1.0.conv1.weight": torch.zeros(1)}) is None


def test_the_classifier_of_a_published_file_is_left_out() -> None:
    backbone = visiongraft.load_backbone("faces/inception_resnet_v1", None)
    given = {"last_bn.weight": torch.zeros(1), "logits.weight": torch.zeros(1)}
    assert list(backbone.convert_weights(given)) == ["model.last_bn.weight"]


def test_a_weight_that_insightface_keeps_fixed_does_not_train() -> None:
    network = IResNet(DEPTHS["iresnet18"])
    assert not network.features.weight.requires_grad


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"pretrained": True}, WeightsError, "pass weights=FILE"),
        ({"size": (112, 112)}, BackboneError, r"takes images of 112 x 96 .* pass size=112x96"),
        ({"in_channels": 1}, BackboneError, "takes 3 channels, not 1"),
    ],
)
def test_what_a_network_cannot_do_is_refused(
    settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        FaceSource().build("mobilefacenet", **{"pretrained": False, **settings})


def test_the_length_of_the_embedding_is_that_of_the_backbone() -> None:
    backbone = visiongraft.load_backbone("simple_cnn", None, size=32)
    with pytest.raises(OptionError, match="pass dimension=128 instead of 512"):
        FaceEmbedding(head="none").build_head(backbone)
    assert not FaceEmbedding(head="none", dimension=128).build_head(backbone).state_dict()


@pytest.mark.exhaustive
def test_the_source_passes_the_kit() -> None:
    check_backbone("faces/mobilefacenet")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["iresnet18", "inception_resnet_v1"])
def test_larger_networks_pass_what_trains_nothing(name: str) -> None:
    trial = BackboneTrial(f"faces/{name}")
    for check in BACKBONE_CHECKS[:7]:
        check(trial)
