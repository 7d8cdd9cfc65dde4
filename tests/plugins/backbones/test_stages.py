from __future__ import annotations

from torch import nn

from visiongraft.backbone import name_stages
from visiongraft.plugins.backbones.stages import tensor_names, timm_stages


class Grouped(nn.Module):
    """Two layers, a norm without group, and a configurable matcher."""

    def __init__(self, matcher: object = None, feature_info: object = ()) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
        self.norm = nn.BatchNorm1d(2)
        self.token = nn.Parameter(nn.init.zeros_(self.stem.weight.new_empty(2)))
        self.matcher = matcher
        self.feature_info = feature_info

    def group_matcher(self, coarse: bool) -> object:
        assert self.matcher is not None and coarse
        return self.matcher


PATTERNS = {"stem": r"^stem|token", "blocks": r"^blocks\.(\d+)"}
CALLED = ["", "stem", "blocks.0", "blocks.1", "norm"]


def test_unmatched_tensors_go_to_the_active_stage() -> None:
    numbers = timm_stages(Grouped(PATTERNS), CALLED)
    assert numbers["blocks.1.weight"] == numbers["norm.weight"] == numbers["norm.running_mean"]
    early = timm_stages(Grouped(PATTERNS), ["", "stem", "norm", "blocks.0", "blocks.1"])
    assert early["norm.weight"] == early["stem.weight"] == 0


def test_a_group_that_contradicts_the_order_of_calls_is_moved() -> None:
    backwards = ["", "stem", "blocks.1", "blocks.0", "norm"]
    numbers = timm_stages(Grouped(PATTERNS), backwards)
    assert numbers["blocks.0.weight"] == numbers["blocks.1.weight"] > numbers["stem.weight"]


def test_a_model_without_groups_is_divided_at_its_feature_maps() -> None:
    model = Grouped(feature_info=[{"module": "blocks.0"}, {"module": "blocks.1"}])
    stages = name_stages(timm_stages(model, CALLED))
    assert set(stages) == set(tensor_names(model))
    assert stages["token"] == stages["stem.weight"] == "stem"
    assert stages["blocks.0.weight"] == "stage1"
    assert stages["blocks.1.weight"] == stages["norm.bias"] == "stage2"


def test_a_tensor_of_a_module_that_is_never_called_keeps_its_group() -> None:
    numbers = timm_stages(Grouped(PATTERNS), ["stem", "blocks.1", "norm"])
    assert numbers["token"] == 0
    assert numbers["blocks.0.weight"] == 1 < numbers["blocks.1.weight"]


def test_stages_are_numbered_without_gaps() -> None:
    assert name_stages({"c": 9, "a": 2, "b": 4}, "x.") == {
        "x.a": "stem",
        "x.b": "stage1",
        "x.c": "stage2",
    }
