from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.backbone import Features
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.classification.head import INITIAL_STD, ClassificationHead


def features(pooled: Tensor) -> Features:
    return Features((torch.rand(len(pooled), 2, 3, 3),), pooled)


def test_without_hidden_layer_the_logits_are_linear_in_the_embedding() -> None:
    head = ClassificationHead(5, 3).eval()
    pooled = torch.randn(4, 5)
    expected = pooled @ head.output.weight.T + head.output.bias
    assert torch.allclose(head(features(pooled)), expected)


def test_a_hidden_layer_is_between_embedding_and_logits() -> None:
    head = ClassificationHead(5, 3, hidden=7).eval()
    pooled = torch.randn(4, 5)
    hidden = F.gelu(pooled @ head.hidden.weight.T + head.hidden.bias)
    expected = hidden @ head.output.weight.T + head.output.bias
    assert torch.allclose(head(features(pooled)), expected)


@pytest.mark.parametrize(("hidden", "count"), [(0, 5 * 3 + 3), (7, 5 * 7 + 7 + 7 * 3 + 3)])
def test_the_head_has_the_parameters_of_its_layers_and_no_others(hidden: int, count: int) -> None:
    head = ClassificationHead(5, 3, hidden)
    assert sum(p.numel() for p in head.parameters()) == count
    assert not list(head.buffers())


def test_only_the_pooled_embedding_is_used() -> None:
    head = ClassificationHead(5, 3).eval()
    pooled = torch.randn(2, 5)
    maps = Features((torch.full((2, 9, 1, 1), torch.nan),), pooled)
    assert torch.equal(head(maps), head(features(pooled)))


@pytest.mark.parametrize("hidden", [0, 7])
def test_features_are_not_modified(hidden: int) -> None:
    pooled = torch.randn(4, 5)
    before = pooled.clone()
    ClassificationHead(5, 3, hidden, dropout=0.5).train()(features(pooled))
    assert torch.equal(pooled, before)


def test_dropout_is_active_in_training_only() -> None:
    head = ClassificationHead(200, 3, dropout=0.5)
    pooled = torch.ones(1, 200)
    first, second = head.train()(features(pooled)), head(features(pooled))
    assert not torch.equal(first, second)
    first, second = head.eval()(features(pooled)), head(features(pooled))
    assert torch.equal(first, second)


def test_dropout_zeroes_its_fraction_of_the_inputs() -> None:
    head = ClassificationHead(4000, 1, dropout=0.3).train()
    torch.nn.init.ones_(head.output.weight)
    torch.manual_seed(0)
    # What is kept is scaled by 1 / 0.7, so dividing by it counts the kept inputs.
    kept = head(features(torch.ones(1, 4000))).item() * 0.7
    assert kept / 4000 == pytest.approx(0.7, abs=0.03)


def test_the_last_layer_starts_near_zero() -> None:
    head = ClassificationHead(1000, 20, hidden=1000)
    assert head.output.weight.std().item() == pytest.approx(INITIAL_STD, rel=0.05)
    assert not head.output.bias.any()


def test_initial_probabilities_are_nearly_uniform() -> None:
    torch.manual_seed(0)
    backbone = load_backbone("bundled/efficientnet_lite0", size=64).eval()
    head = ClassificationHead(backbone.info.embedding_dim, 10)
    with torch.no_grad():
        loss = F.cross_entropy(head(backbone(torch.randn(4, 3, 64, 64))), torch.arange(4))
    assert float(loss) == pytest.approx(math.log(10), abs=0.2)


def test_initial_weights_are_seeded() -> None:
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        heads.append(ClassificationHead(5, 3, hidden=4))
    first, again, other = (torch.cat([p.flatten() for p in h.parameters()]) for h in heads)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
