from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features, backbone_names
from visiongraft.errors import BackboneError, OptionError, WeightsError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.backbones import find_source, load_backbone
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import PluginManager


class Toy(Backbone):
    def __init__(self, name: str, in_channels: int, size: tuple[int, int]) -> None:
        info = BackboneInfo(
            name=name,
            stage_of={"first.weight": "stem", "first.bias": "stem", "last.weight": "stage1"},
            channels=(2,),
            strides=(1,),
            embedding_dim=3,
            preprocess=PreprocessConfig(size).with_channels(in_channels),
            in_channels=in_channels,
        )
        super().__init__(info)
        self.first = nn.Conv2d(in_channels, 2, 1)
        self.last = nn.Linear(2, 3, bias=False)

    def forward(self, images: Tensor) -> Features:
        maps = self.first(images)
        return Features((maps,), self.last(maps.mean((2, 3))))


class ToySource(BackboneSource):
    def __init__(self, prefix: str, *names: str) -> None:
        self.prefix = prefix
        self._names = names

    def names(self) -> Sequence[str]:
        return self._names

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        toy = Toy(f"{self.prefix}/{name}".strip("/"), in_channels, size or (8, 8))
        if pretrained:
            nn.init.ones_(toy.last.weight)
        return toy


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> list[BackboneSource]:
    """Make these the only sources."""
    sources: list[BackboneSource] = [
        ToySource("red", "small", "shared"),
        ToySource("blue", "large", "shared"),
        ToySource("", "plain"),
    ]
    manager = PluginManager(discover=False)
    plugin = SimpleNamespace(hook=hookimpl(lambda: sources, specname="register_backbones"))
    manager.register(plugin, "toys")
    monkeypatch.setattr("visiongraft.lookup.backbones.plugins", lambda: manager)
    return sources


@pytest.mark.parametrize(
    ("name", "prefix", "short"),
    [
        ("red/small", "red", "small"),
        ("blue/shared", "blue", "shared"),
        ("large", "blue", "large"),
        ("plain", "", "plain"),
    ],
)
def test_a_backbone_is_found_by_full_name_or_by_a_short_name_that_is_unique(
    name: str, prefix: str, short: str
) -> None:
    source, found = find_source(name)
    assert (source.prefix, found) == (prefix, short)


class AnySource(ToySource):
    """Accepts more names than it lists."""

    def accepts(self, name: str) -> bool:
        return name.count("/") == 1


@pytest.mark.parametrize(
    ("name", "prefix", "short"),
    [("hub/org/net", "hub", "org/net"), ("hub/mine/net", "hub/mine", "net")],
)
def test_the_source_with_the_longest_prefix_provides_a_name_that_is_not_listed(
    toys: list[BackboneSource], name: str, prefix: str, short: str
) -> None:
    manager = PluginManager(discover=False)
    sources = [AnySource("hub", "org/listed"), ToySource("hub/mine", "net")]
    plugin = SimpleNamespace(hook=hookimpl(lambda: sources, specname="register_backbones"))
    manager.register(plugin, "hubs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visiongraft.lookup.backbones.plugins", lambda: manager)
        source, found = find_source(name)
        assert (source.prefix, found) == (prefix, short)
        with pytest.raises(BackboneError, match="no backbone 'hub/mine/other/net'"):
            find_source("hub/mine/other/net")


def test_a_short_name_that_two_sources_have_is_refused_with_both_full_names() -> None:
    with pytest.raises(BackboneError, match="use blue/shared or red/shared"):
        find_source("shared")


@pytest.mark.parametrize("name", ["red/smal", "green/small", "nothing"])
def test_an_unknown_backbone_is_refused_with_what_it_may_have_meant(name: str) -> None:
    with pytest.raises(BackboneError, match=f"no backbone '{name}'; .*red/small"):
        find_source(name)


def test_names_are_listed_as_load_backbone_accepts_them(toys: list[BackboneSource]) -> None:
    names = backbone_names(toys)
    assert names == ["red/small", "red/shared", "blue/large", "blue/shared", "plain"]
    assert [load_backbone(n).info.name for n in names] == names


def test_stages_follow_the_order_of_the_tensors() -> None:
    assert load_backbone("plain", None).stages == ("stem", "stage1")


def test_size_and_channels_reach_the_architecture() -> None:
    backbone = load_backbone("plain", None, in_channels=4, size=12)
    assert backbone.info.preprocess.size == (12, 12)
    assert backbone(torch.zeros(1, 4, 12, 12)).pooled.shape == (1, 3)


def test_pretrained_is_passed_to_the_source_and_none_is_not() -> None:
    assert load_backbone("plain").last.weight.eq(1).all()  # type: ignore[union-attr, operator]
    assert not load_backbone("plain", None).last.weight.eq(1).all()  # type: ignore[union-attr, operator]


def test_a_weights_file_is_loaded_over_random_weights(tmp_path: Path) -> None:
    torch.save({n: t + 1 for n, t in Toy("", 3, (8, 8)).state_dict().items()}, tmp_path / "w.pth")
    backbone = load_backbone("plain", tmp_path / "w.pth")
    assert backbone.info.provenance["weights"] == "w.pth"
    with pytest.raises(
        WeightsError, match="does not exist; pass an existing file, 'pretrained' or None"
    ):
        load_backbone("plain", "pretrain")


def test_a_partial_file_is_accepted_only_on_request(tmp_path: Path) -> None:
    torch.save({"last.weight": torch.ones(3, 2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="partial=True"):
        load_backbone("plain", tmp_path / "w.pth")
    backbone = load_backbone("plain", tmp_path / "w.pth", partial=True)
    assert backbone.state_dict()["last.weight"].eq(1).all()


def test_impossible_options_are_refused() -> None:
    with pytest.raises(BackboneError, match="in_channels=0"):
        load_backbone("plain", None, in_channels=0)
    with pytest.raises(OptionError, match="size=0"):
        load_backbone("plain", None, size=0)
