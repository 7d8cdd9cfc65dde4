"""Any network as a backbone: what is probed, and runs, saved models and files of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visiongraft import load
from visiongraft.backbone import Backbone, BackboneSource
from visiongraft.errors import BackboneError, CheckpointError, OptionError, WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.module_backbone import ModuleBackbone
from visiongraft.testing import check_backbone


class Net(nn.Module):
    """A parameter of its own, two resolutions inside of a container, and a classifier."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.features = nn.Sequential(
            nn.Conv2d(channels, 4, 3, 2, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, 2, 1),
            nn.ReLU(inplace=True),
        )
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.average(self.features(images + self.shift))
        return self.classifier(x.flatten(1))  # type: ignore[no-any-return]


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def test_maps_are_the_last_outputs_at_each_resolution_and_the_output_is_the_embedding(
    net: Net,
) -> None:
    backbone = ModuleBackbone(net, size=16).eval()
    assert backbone.maps == ("features.2", "features")
    info = backbone.info
    assert (info.channels, info.strides, info.embedding_dim) == ((4, 6), (2, 4), 5)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        maps, pooled = backbone(images)
        first = net.eval().features[:3](images)
        assert torch.equal(pooled, net(images))
    assert torch.equal(maps[0], first)
    assert maps[1].shape == (2, 6, 4, 4)


def test_a_stage_ends_with_each_map_and_parameters_of_the_whole_are_in_the_first(net: Net) -> None:
    stage_of = ModuleBackbone(net, size=16).info.stage_of
    stages = {name.removeprefix("model."): stage for name, stage in stage_of.items()}
    assert (
        stages["shift"] == stages["features.0.weight"] == stages["features.1.running_var"] == "stem"
    )
    assert stages["features.3.weight"] == stages["classifier.bias"] == "stage1"
    assert stages.keys() == net.state_dict().keys()


def test_maps_embedding_and_stages_can_be_stated(net: Net) -> None:
    backbone = ModuleBackbone(
        net,
        maps=["features.3"],
        pooled="average",
        stages=["features.1", "classifier"],
        size=16,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        name="mine",
    )
    info = backbone.info
    assert (info.name, info.channels, info.embedding_dim) == ("module/mine", (6,), 6)
    assert info.preprocess.mean == (0.0,) * 3
    assert backbone.stages == ("stem", "stage1", "stage2")
    assert info.stage_of["model.features.1.weight"] == "stage1"
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = net.eval().features(images).mean((2, 3))
        torch.testing.assert_close(backbone.eval()(images).pooled, expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"maps": ["feature"]}, "has no module 'feature'; did you mean 'features'"),
        ({"maps": ["classifier"]}, r"maps='classifier' is not a map: .*\(1, 5\)"),
        ({"mean": (0.5,), "std": (0.5,)}, "pass the size and the number of channels that it takes"),
    ],
)
def test_what_the_network_does_not_have_is_refused_in_one_line(
    net: Net, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BackboneError, match=words) as caught:
        ModuleBackbone(net, size=16, **options)
    assert "\n" not in str(caught.value)


def test_an_output_that_is_no_embedding_is_refused() -> None:
    class Several(Net):
        def forward(self, images: Tensor) -> Any:
            return {"logits": super().forward(images)}

    with pytest.raises(
        BackboneError, match=r"its output is not an embedding: of type dict; .*pooled=NAME"
    ):
        ModuleBackbone(Several(), size=16)


def test_the_network_is_copied_and_a_file_replaces_its_weights(net: Net, tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "w.pth")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    backbone = load_backbone(net, tmp_path / "w.pth", size=16)
    assert not torch.equal(
        backbone.state_dict()["model.features.0.weight"], before["features.0.weight"]
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert load_backbone(Net(1), in_channels=1, size=16).info.in_channels == 1
    with pytest.raises(WeightsError, match="weights=None, but a network"):
        load_backbone(net, None)


def test_a_backbone_is_copied_and_keeps_its_channels(net: Net) -> None:
    backbone = ModuleBackbone(net, size=16, pooled="average")
    again = load_backbone(backbone, size=32)
    assert again is not backbone and again.info.preprocess.size == (32, 32)
    assert again.info.embedding_dim == 6 and again.info.stage_of == backbone.info.stage_of
    with pytest.raises(BackboneError, match="takes 3 image channels, not 1"):
        load_backbone(backbone, in_channels=1)
    with pytest.raises(BackboneError, match="was built for the size"):
        load_backbone(load_backbone("simple_cnn", None, size=32), size=64)


# ---- runs ----


SETTINGS = {"weights": "pretrained", "size": 16, "schedule": "linear_probe", "epochs": 1}


@pytest.fixture(scope="module")
def data(toy_data: Any) -> Any:
    return toy_data(18)


def test_a_run_trains_a_copy_and_its_model_loads_with_the_network(
    fit_toy: Any, data: Any, net: Net, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    backbone = ModuleBackbone(net, pooled="average", size=16)
    changes = {"backbone": backbone, "schedule": "lp_ft", "epochs": 2}
    model = fit_toy(data, **{**SETTINGS, **changes}, out=tmp_path / "run")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    again = load(tmp_path / "run", backbone=Net())
    state = model.network.inference_state()
    assert all(torch.equal(t, state[n]) for n, t in again.network.inference_state().items())
    images = [image for image, _ in data[:3]]
    assert repr(again.predict(images)) == repr(model.predict(images))
    for call in (lambda: load(tmp_path / "run"), lambda: load_backbone(tmp_path / "run")):
        with pytest.raises(BackboneError, match=r"module/Net is a network .*pass it again: load\("):
            call()


def test_another_network_is_refused_when_a_model_is_loaded(
    fit_toy: Any, data: Any, net: Net, tmp_path: Path
) -> None:
    fit_toy(data, **SETTINGS, backbone=net, out=tmp_path / "run")
    with pytest.raises(BackboneError, match=r"has no module 'features\.2'"):
        load(tmp_path / "run", backbone=nn.Conv2d(3, 4, 1))
    fit_toy(data, out=tmp_path / "named")
    with pytest.raises(BackboneError, match=r"backbone is toys/toy, not module/Net; omit backbone"):
        load(tmp_path / "named", backbone=net)


def test_a_run_is_resumed_only_with_the_same_network(
    fit_toy: Any, data: Any, net: Net, tmp_path: Path
) -> None:
    fit_toy(data, **SETTINGS, backbone=net, out=tmp_path / "run")
    again = {**SETTINGS, "out": tmp_path / "run", "resume": True}
    with pytest.raises(CheckpointError, match="network in memory: pass the same one again"):
        fit_toy(data, **again)
    with pytest.raises(CheckpointError, match="backbone"):
        fit_toy(data, backbone=Net(), **again)
    fit_toy(data, backbone=net, **again)
    with pytest.raises(OptionError, match="not a name, the folder of a saved model or a network"):
        fit_toy(data, backbone=3)


class NetSource(BackboneSource):
    prefix = "nets"

    def names(self) -> Sequence[str]:
        return ["net"]

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        ones = (1.0,) * in_channels
        backbone = ModuleBackbone(
            Net(in_channels), pooled="average", size=size or 32, mean=ones, std=ones
        )
        backbone.info = replace(backbone.info, name="nets/net", architecture={})
        return backbone


@pytest.mark.exhaustive
def test_freezing_caching_resuming_saving_and_export_work_as_with_other_backbones() -> None:
    check_backbone(NetSource())
