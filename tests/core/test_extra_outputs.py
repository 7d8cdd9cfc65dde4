"""Extra outputs: computed from the pass that the predictions come from, and looked up by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from visiongraft.backbone import Features
from visiongraft.errors import OptionError, PluginError
from visiongraft.extra_outputs import ExtraOutput, find_extra_outputs
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import InferenceGraph, Network
from visiongraft.plugins.classification.task import Classification

IMAGES = torch.randint(0, 256, (3, 20, 30, 3), dtype=torch.uint8)


def network_of(task: Classification) -> Network:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=16)
    return Network(backbone, task).eval()


def results(task: Classification, *names: str) -> dict[str, Tensor]:
    with torch.no_grad():
        return InferenceGraph(network_of(task), names)(IMAGES)


@dataclass(frozen=True)
class WithExtras(Classification):
    """Classification with the extra outputs that a test provides."""

    def extra_outputs(self) -> Mapping[str, ExtraOutput]:
        return {
            "margin": margin,
            "count": count,
            "text": as_text,
            "number": as_number,
            "labels": count,
        }


def margin(graph: InferenceGraph, features: Features, outputs: Tensor) -> Tensor:
    return outputs.double()[:, 0] - outputs.double()[:, 1]


def count(graph: InferenceGraph, features: Features, outputs: Tensor) -> Tensor:
    return torch.full((len(outputs),), graph.backbone.info.embedding_dim)


def as_text(graph: InferenceGraph, features: Features, outputs: Tensor) -> Any:
    return "no tensor"


def as_number(graph: InferenceGraph, features: Features, outputs: Tensor) -> Tensor:
    return outputs.sum()


TASK = WithExtras(class_names=("a", "b"), multi_label=False)


def test_embedding_and_feature_map_are_those_of_the_backbone() -> None:
    found, network = results(TASK, "embedding", "feature_map"), network_of(TASK)
    with torch.no_grad():
        features = network.backbone(network.preprocess(IMAGES))
    assert torch.equal(found["embedding"], features.pooled)
    assert torch.equal(found["feature_map"], features.maps[-1])


def test_the_results_of_the_task_stay_as_they_are_and_come_first() -> None:
    plain, more = results(TASK), results(TASK, "embedding")
    assert list(more) == [*plain, "embedding"]
    assert all(torch.equal(more[name], value) for name, value in plain.items())


def test_extra_outputs_of_a_task_see_graph_features_and_outputs() -> None:
    found = results(TASK, "count", "margin")
    probabilities = found["probabilities"]
    assert found["count"].tolist() == [128] * 3 and found["count"].dtype == torch.int64
    assert found["margin"].dtype == torch.float32  # as all real-valued results
    assert torch.allclose(
        found["margin"], (probabilities[:, 0] / probabilities[:, 1]).log(), atol=1e-6
    )


def test_of_several_passes_the_first_one_counts() -> None:
    class Mirrored(WithExtras):
        def inference_step(self, network: Any, images: Tensor) -> Any:
            return super().inference_step(network, images) + super().inference_step(
                network, images.flip(3)
            )

    mirrored = Mirrored(class_names=("a", "b"), multi_label=False)
    assert torch.equal(
        results(mirrored, "embedding")["embedding"], results(TASK, "embedding")["embedding"]
    )


def test_a_graph_leaves_no_hook_behind() -> None:
    network = network_of(TASK)
    graph = InferenceGraph(network, ["embedding"])
    graph(IMAGES)
    with pytest.raises(PluginError):
        InferenceGraph(network, ["text"])(IMAGES)
    assert not network.backbone._forward_hooks


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["embeding"], "has no extra output 'embeding'; did you mean 'embedding'"),
        (["margin", "margin"], r"\['margin', 'margin'\] names an output twice"),
    ],
)
def test_unknown_and_repeated_names_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        find_extra_outputs(TASK, names)
    assert "\n" not in str(caught.value)


def test_the_name_of_a_result_is_refused() -> None:
    with pytest.raises(OptionError, match="'labels' is already a result of task 'classification'"):
        results(TASK, "labels")


@pytest.mark.parametrize("name", ["text", "number"])
def test_what_is_no_tensor_with_one_entry_per_image_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match=f"extra output '{name}' .* one entry per image"):
        results(TASK, name)


def test_a_task_that_runs_no_backbone_has_none() -> None:
    class Blind(WithExtras):
        def inference_step(self, network: Any, images: Tensor) -> Any:
            return images.mean((1, 2, 3))[:, None].repeat(1, 2)

    with pytest.raises(PluginError, match="it runs no backbone"):
        results(Blind(class_names=("a", "b"), multi_label=False), "embedding")
