"""One network in training, evaluation and export: the same modules, the same numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visiongraft.data.batch import Batch, weights_channels_last
from visiongraft.errors import PluginError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import InferenceGraph, Network
from visiongraft.preprocess import Preprocess
from visiongraft.schedules import Phase
from visiongraft.training.freezing import check_modes
from visiongraft.training.trainable import apply_phase

CPU = torch.device("cpu")


def batch_with(targets: Any, images: torch.Tensor | None = None) -> Batch:
    images = torch.randn(2, 3, 16, 16) if images is None else images
    return Batch(images, targets, torch.tensor([[9, 8], [7, 6]]), torch.tensor([4, 1]))


# ---- frozen modules stay in evaluation mode ----

CALLS = {
    "train": lambda network: network.train(),
    "train(True)": lambda network: network.train(True),
    "eval": lambda network: network.eval(),
    "train(False)": lambda network: network.train(False),
    "a step": lambda network: sum(network(batch_with(torch.tensor([0, 1]))).values()).backward(),
    "apply": lambda network: network.apply(lambda module: None),
}


@given(
    calls=st.lists(st.sampled_from(sorted(CALLS)), max_size=8),
    trainable=st.sampled_from(["head", "stage2", "stage1", "all"]),
    batch_norm=st.sampled_from(["frozen", "train"]),
)
def test_whatever_is_called_frozen_modules_stay_in_evaluation_mode(
    toy_network: Network, calls: list[str], trainable: str, batch_norm: str
) -> None:
    apply_phase(toy_network, Phase(1, trainable, batch_norm=batch_norm))
    held = set(toy_network.held_in_eval)
    for call in [*calls, "train"]:
        CALLS[call](toy_network)
        assert not any(module.training for module in held)
    check_modes(toy_network, "here")
    for module in toy_network.modules():
        assert module.training is (module not in held)


def test_a_part_that_is_put_into_training_behind_the_networks_back_comes_back_at_the_next_call(
    toy_network: Network,
) -> None:
    apply_phase(toy_network, Phase(1, "head"))
    toy_network.backbone.train()
    assert toy_network.held_in_eval[0].training
    toy_network.train()
    assert not any(module.training for module in toy_network.backbone.modules())


def test_wrapping_the_network_does_not_lose_what_is_held(toy_network: Network) -> None:
    apply_phase(toy_network, Phase(1, "head"))
    wrapped = nn.Sequential(toy_network)
    wrapped.train()
    assert toy_network.training and toy_network.head.training
    assert not any(module.training for module in toy_network.backbone.modules())


def test_a_parameter_without_a_shape_is_refused(Toy: Any, toy_network: Network) -> None:
    class Lazy(Toy):  # type: ignore[misc]
        def build_loss(self) -> nn.Module:
            return nn.LazyLinear(1)

    with pytest.raises(PluginError, match=r"task 'toy': loss.weight has no shape before the first"):
        Network(toy_network.backbone, Lazy())


def test_train_returns_the_network(toy_network: Network) -> None:
    assert toy_network.train() is toy_network
    assert toy_network.eval() is toy_network


# ---- batches ----


def test_a_batch_moves_with_targets_of_any_structure() -> None:
    targets = {
        "boxes": [torch.ones(2, 4), torch.ones(0, 4)],
        "pair": (torch.tensor(1), "a name"),
        "count": 3,
        "nothing": None,
    }
    moved = batch_with(targets).to(torch.device("meta"))
    assert moved.images.device.type == moved.sizes.device.type == "meta"
    assert [box.device.type for box in moved.targets["boxes"]] == ["meta", "meta"]
    assert moved.targets["pair"][0].device.type == "meta"
    assert moved.targets["pair"][1] == "a name"
    assert (moved.targets["count"], moved.targets["nothing"]) == (3, None)
    assert moved.indices.device.type == "cpu"  # they name samples, which live on the CPU


def test_images_are_laid_out_for_convolutions_and_keep_their_values() -> None:
    batch = batch_with(torch.tensor([0, 1]))
    moved = batch.to(CPU)
    assert moved.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved.images, batch.images)
    assert batch.images.is_contiguous()  # the batch itself is left as it was


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 3, 8, 8)], ids=["vectors", "films"])
def test_images_of_other_ranks_are_moved_as_they_are(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape)
    assert torch.equal(batch_with(None, images).to(CPU).images, images)


def test_weights_are_laid_out_likewise_and_those_over_time_keep_their_layout() -> None:
    convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(3, 4))
    before = [parameter.clone() for parameter in convolutions.parameters()]
    weights_channels_last(convolutions)
    images, clips = convolutions[0].weight, convolutions[1].weight
    assert images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    assert clips.is_contiguous()
    assert all(torch.equal(*pair) for pair in zip(before, convolutions.parameters(), strict=True))


def test_a_stand_in_without_content_stays_without_content() -> None:
    images = torch.zeros(1, 1, 1, 1).expand(1000, 3, 224, 224)
    moved = batch_with(None, images).to(CPU)
    assert moved.images.shape == images.shape
    assert moved.images.untyped_storage().nbytes() == images.untyped_storage().nbytes()


# ---- the graph that is exported ----

PHOTO = skimage.data.chelsea()  # (300, 451, 3)
SIZES = [(300, 451), (451, 300), (120, 37), (37, 120), (16, 16), (5, 90)]


def photographs(height: int, width: int, count: int = 3) -> torch.Tensor:
    """Cut different real images of one size."""
    tall = PHOTO if height <= PHOTO.shape[0] else PHOTO.transpose(1, 0, 2)
    rows, columns = tall.shape[0] - height, tall.shape[1] - width
    cuts = [
        tall[rows * i // count :, columns * i // count :][:height, :width] for i in range(count)
    ]
    return torch.from_numpy(np.stack(cuts))


@pytest.fixture(scope="module", params=["crop", "stretch"])
def real_network(request: pytest.FixtureRequest, Toy: Any) -> Network:
    """A real architecture for input that is not square."""
    torch.manual_seed(0)
    backbone = load_backbone("timm/efficientnet_lite0", None, size=(64, 96))
    preprocess = replace(backbone.info.preprocess, resize=request.param)
    backbone.info = replace(backbone.info, preprocess=preprocess)
    return Network(backbone, Toy()).eval()


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_the_graph_equals_preprocessing_then_decoding(
    real_network: Network, size: tuple[int, int]
) -> None:
    images = photographs(*size)
    with torch.no_grad():
        got = InferenceGraph(real_network).eval()(images)
        prepared = real_network.preprocess(images)
        expected = real_network.decode(prepared, torch.tensor([size] * len(images)))
    assert prepared.shape == (3, 3, 64, 96)
    assert got.keys() == expected.keys() == {"scores", "label"}
    for name, value in expected.items():
        assert torch.equal(got[name], value), name


def test_images_loaded_one_by_one_have_the_results_of_the_graph(
    real_network: Network,
) -> None:
    images = photographs(120, 90)
    model = TransferModel(real_network)
    with torch.no_grad():
        got = InferenceGraph(real_network).eval()(images)["label"].tolist()
    assert model.predict([image.numpy() for image in images]) == got


@pytest.mark.parametrize("size", SIZES[:3], ids=lambda s: f"{s[0]}x{s[1]}")
def test_the_graph_passes_the_original_sizes_to_the_task(Toy: Any, size: tuple[int, int]) -> None:
    class TellSizes(Toy):
        def decode(self, outputs: torch.Tensor, sizes: torch.Tensor) -> Any:
            return {"sizes": sizes}

    network = Network(load_backbone("toys/toy", None), TellSizes()).eval()
    sizes = InferenceGraph(network)(photographs(*size))["sizes"]
    assert sizes.dtype is torch.int64
    assert sizes.tolist() == [list(size)] * 3


def test_the_graph_uses_the_networks_own_modules(toy_network: Network) -> None:
    graph = InferenceGraph(toy_network)
    images = photographs(20, 30)
    before = graph.eval()(images)["scores"]
    with torch.no_grad():
        toy_network.head.linear.bias += torch.tensor([1.0, -1.0, 0.0])
    assert not torch.equal(graph(images)["scores"], before)
    assert not hasattr(graph, "loss")


def test_another_preprocessing_would_be_noticed(real_network: Network) -> None:
    """The comparison above can fail: here the graph resizes without the crop, or with it."""
    config = real_network.preprocess.config
    other = {"crop": "stretch", "stretch": "crop"}[config.resize]
    graph = InferenceGraph(real_network).eval()
    graph.preprocess = Preprocess(replace(config, resize=other))
    images = photographs(120, 37)
    with torch.no_grad():
        expected = real_network.decode(
            real_network.preprocess(images), torch.tensor([[120, 37]] * 3)
        )
        assert not torch.equal(graph(images)["scores"], expected["scores"])


def test_preprocessing_for_loading_is_on_the_cpu_wherever_the_network_is(
    toy_network: Network,
) -> None:
    moved = toy_network.to("meta")
    loading = moved.preprocess_on_cpu()
    assert moved.preprocess.mean.device.type == "meta"
    assert loading.mean.device.type == "cpu"
    assert loading.config == moved.preprocess.config
