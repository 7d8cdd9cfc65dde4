"""What ``model.summary()`` counts."""

from __future__ import annotations

from torch import nn

from visiongraft.network import Network
from visiongraft.summary import StageSummary, Summary, summarize


def test_the_parameters_of_all_stages_are_those_of_backbone_and_head(toy_network: Network) -> None:
    found = summarize(toy_network).stages
    assert [stage.name for stage in found] == ["stem", "stage1", "stage2", "head"]
    parts: list[nn.Module] = [toy_network.backbone, toy_network.head]
    expected = sum(p.numel() for part in parts for p in part.parameters())
    assert sum(stage.parameters for stage in found) == expected


def test_frozen_parameters_are_not_trainable(toy_network: Network) -> None:
    for parameter in toy_network.backbone.parameters():
        parameter.requires_grad_(False)
    found = summarize(toy_network).stages
    assert [stage.trainable for stage in found[:-1]] == [0, 0, 0]
    assert found[-1].trainable == found[-1].parameters


def test_operations_are_multiplications_of_convolutions_and_linear_layers(
    toy_network: Network,
) -> None:
    convolutions = 3 * 4 * 9 * 8**2 + 4 * 8 * 9 * 4**2 + 8 * 12 * 9 * 2**2
    assert summarize(toy_network).macs == convolutions + 12 * 3


def test_the_text_is_a_table_that_fits_a_screen_and_html_is_escaped() -> None:
    found = Summary(
        "toy on <b>", (StageSummary("stem", 1200, 0), StageSummary("head", 34, 34)), 5_000_000, 1.5
    )
    assert str(found).splitlines() == [
        "toy on <b>",
        "stage     parameters      trainable",
        "stem           1,200              0",
        "head              34             34",
        "total          1,234             34",
        "0.005 GMACs per sample, 1.5 MB of weights",
    ]
    assert "<b>" not in found._repr_html_()
