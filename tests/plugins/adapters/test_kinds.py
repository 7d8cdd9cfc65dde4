"""What each built-in adapter computes, trains and refuses."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from visiongraft.adaptation.backbones import apply_adapter, merge_adapters
from visiongraft.adaptation.networks import apply_adapters
from visiongraft.errors import OptionError, PluginError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.methods import find_adapter
from visiongraft.plugins.adapters.lora import LowRankUpdate
from visiongraft.plugins.adapters.stoch_norm import StochasticNormalization

# ---- options and targets ----


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ("lora(rank=0)", "adapter 'lora': rank=0 is not an integer of at least 1"),
        ("lora(alpha=-1)", "adapter 'lora': alpha=-1 is not a positive number"),
        ("lora(rang=1)", "adapter 'lora' has no option 'rang'.*rank"),
        ("lora(targets=[1])", r"targets=\[1\] is not a name of layers or a list of names"),
        ("bottleneck(place='beside')", "place='beside' is unknown"),
        ("bottleneck(width=0)", "width=0 is not an integer of at least 1"),
        ("bottleneck(scale=0)", "scale=0 is not a number other than 0"),
        ("stoch_norm(p=2)", r"p=2 is not a probability in \[0, 1\]"),
    ],
)
def test_an_option_out_of_range_is_refused(adapter: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        find_adapter(adapter)


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_a_rank_that_no_weight_has_is_refused_at_once(
    adapter: str, layers: Any, apply: Any
) -> None:
    backbone = layers(wide=nn.Linear(12, 20), narrow=nn.Linear(20, 3))
    apply(layers(wide=nn.Linear(12, 20), narrow=nn.Linear(20, 3)), f"{adapter}(rank=12)")
    with pytest.raises(OptionError, match=f"adapter '{adapter}': rank=1000000000 .* at most 12"):
        apply(backbone, f"{adapter}(rank=1000000000)")


def test_an_unknown_adapter_is_refused_with_similar_names() -> None:
    with pytest.raises(PluginError, match=r"no adapter 'lorra'.*lora"):
        find_adapter("lorra")


def test_a_target_that_fits_nothing_is_refused_with_what_could_fit(layers: Any, apply: Any) -> None:
    backbone = layers(qkv=nn.Linear(12, 20), fc1=nn.Linear(20, 8))
    with pytest.raises(OptionError) as caught:
        apply(backbone, "lora(targets=['fc1', 'qvk'])")
    assert str(caught.value).startswith("adapter 'lora': targets='qvk' matches no layer")
    assert str(caught.value).endswith("it can be put into stem, qkv, fc1")


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ("lora", "needs linear or convolution layers"),
        ("dora", "needs linear or convolution layers"),
        ("ia3", "needs linear or convolution layers"),
        ("bottleneck", "finds neither MLPs nor blocks of convolutions"),
        ("bitfit", "needs biases"),
        ("norm", "needs normalization layers"),
        ("stoch_norm", "needs batch norms with running statistics"),
    ],
)
def test_a_backbone_without_fitting_layers_is_refused(
    adapter: str, words: str, layers: Any, apply: Any
) -> None:
    backbone = layers()
    backbone.stem = nn.ConvTranspose2d(3, 12, 3, bias=False)
    with pytest.raises(OptionError, match=f"adapter '{adapter}' {words}.*tests/layers"):
        apply(backbone, adapter)


def test_depthwise_convolutions_are_left_out_and_counted(layers: Any) -> None:
    backbone = layers(depthwise=nn.Conv2d(12, 12, 3, groups=12), pointwise=nn.Conv2d(12, 20, 1))
    trained, applied = apply_adapter(backbone, find_adapter("lora"))
    assert trained == {"pointwise.lora.a", "pointwise.lora.b"}
    assert list(applied.left_out.values()) == [1]
    with pytest.raises(OptionError, match="finds nothing but 1 depthwise convolutions"):
        apply_adapter(
            layers(depthwise=nn.Conv2d(12, 12, 3, groups=12)),
            find_adapter("dora(targets='depthwise')"),
        )


def test_new_parameters_belong_to_the_stage_of_their_layer(layers: Any, apply: Any) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    apply(backbone, "lora(targets=['stem', 'layer'])")
    assert backbone.info.stage_of["stem.lora.a"] == "stem"
    assert backbone.info.stage_of["layer.lora.b"] == "stage1"
    assert backbone.stages == ("stem", "stage1")


# ---- formulas ----


@pytest.mark.parametrize(
    ("options", "scale"),
    [("rank=4", 1.0), ("rank=4, alpha=8", 2.0), ("rank=4, alpha=8, rslora=True", 4.0)],
)
def test_lora_adds_a_scaled_product_of_two_matrices(
    options: str, scale: float, layers: Any, apply: Any, perturb: Any
) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    perturb(backbone, apply(backbone, f"lora({options})"))
    layer, x = backbone.layer, torch.randn(5, 12)
    expected = functional.linear(x, layer.weight + scale * layer.lora.b @ layer.lora.a, layer.bias)
    torch.testing.assert_close(layer(x), expected)


def test_dora_scales_rows_to_trained_norms(layers: Any, apply: Any, perturb: Any) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    perturb(backbone, apply(backbone, "dora(rank=4)"))
    magnitudes = backbone.layer.dora.m.detach().clone()
    merge_adapters(backbone)
    torch.testing.assert_close(backbone.layer.weight.norm(dim=1), magnitudes.abs())


def test_the_norm_of_dora_gets_no_gradient(layers: Any, apply: Any, perturb: Any) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    perturb(backbone, apply(backbone, "dora(rank=4)"))
    layer, x = backbone.layer, torch.randn(5, 12)
    layer(x).sum().backward()
    part = layer.dora
    a, b, m = (t.detach().requires_grad_() for t in (part.a, part.b, part.m))
    direction = layer.weight.detach() + b @ a
    factor = m / direction.detach().norm(dim=1)
    functional.linear(x, direction * factor[:, None], layer.bias.detach()).sum().backward()
    for mine, theirs in ((part.a, a), (part.b, b), (part.m, m)):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_lora_needs_no_gradient_of_the_whole_weight(layers: Any, apply: Any) -> None:
    backbone = layers(layer=nn.Conv2d(12, 20, 3))
    trained = apply(backbone, "lora(rank=2)")
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)
    shapes: list[tuple[int, ...]] = []
    output = backbone.layer(torch.randn(1, 12, 5, 5))
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            shapes += [tuple(node.variable.shape)] if hasattr(node, "variable") else []
            nodes += [each for each, _ in node.next_functions]
    assert sorted(shapes) == [(2, 12, 3, 3), (20, 2, 1, 1)]


def test_a_grouped_update_keeps_groups_apart() -> None:
    update = LowRankUpdate(torch.zeros(6, 2, 3, 3), groups=3, rank=2, scale=1.0)
    nn.init.normal_(update.b)
    delta = update.update(torch.zeros(6, 2, 3, 3))
    by_hand = torch.stack(
        [update.b[o, :, 0, 0] @ update.a[o // 2 * 2 : o // 2 * 2 + 2].flatten(1) for o in range(6)]
    )
    torch.testing.assert_close(delta.flatten(1), by_hand)


def test_a_bottleneck_adds_a_small_network(layers: Any, apply: Any, perturb: Any) -> None:
    for place in ("parallel", "sequential"):
        mlp = nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 12))
        backbone = layers(norm=nn.LayerNorm(12), mlp=mlp)
        x = torch.randn(2, 5, 12)
        plain = backbone.mlp(x)
        trained = apply(backbone, f"bottleneck(width=4, scale=0.5, place='{place}')")
        assert torch.equal(backbone.mlp(x), plain)
        perturb(backbone, trained)
        part = backbone.mlp.bottleneck
        added = part.up(part.down(x if place == "parallel" else plain).relu())
        torch.testing.assert_close(backbone.mlp(x), plain + 0.5 * added)
        merge_adapters(backbone)  # is not linear, and stays
        assert backbone.mlp.bottleneck is part
        assert [c.name for c in backbone.adapters] == ["bottleneck"]


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("timm/test_vit", 6),
        ("timm/test_resnet", 4),
        ("timm/test_efficientnet", 4),
        ("timm/test_convnext", 9),
    ],
)
def test_bottlenecks_find_mlps_or_blocks(name: str, modules: int, apply: Any, embed: Any) -> None:
    backbone = load_backbone(name, None, size=32)
    plain = embed(backbone, 32)
    trained = apply(backbone, "bottleneck(width=4)")
    assert len({n.partition(".bottleneck.")[0] for n in trained}) == modules
    torch.testing.assert_close(embed(backbone, 32), plain)


def test_bitfit_and_norm_train_existing_parameters(layers: Any) -> None:
    backbone = layers(layer=nn.Linear(12, 20), norm=nn.LayerNorm(20))
    names = set(backbone.state_dict())
    trained = {name: apply_adapter(backbone, find_adapter(name))[0] for name in ("bitfit", "norm")}
    assert trained["bitfit"] == {"layer.bias", "norm.bias"}
    assert trained["norm"] == {"norm.weight", "norm.bias"}
    assert set(backbone.state_dict()) == names


# ---- stochastic normalization ----


def normalized(probability: float) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    """Return two equal batch norms with statistics, the first with stochastic normalization."""
    from visiongraft.adaptation.layers import attach

    made = []
    for _ in range(2):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(32)
        norm(torch.randn(8, 32, 3, 3) * 2 + 1)
        nn.init.normal_(norm.weight)
        made.append(norm)
    attach(made[0], "stoch_norm", StochasticNormalization(probability))
    return made[0], made[1]


def test_stochastic_normalization_is_one_of_two_normalizations_per_channel() -> None:
    x = torch.randn(4, 32, 5, 5)
    for probability, of_batch in ((0.0, 0), (1.0, 32), (0.5, None)):
        norm, plain = normalized(probability)
        running = plain.eval()(x)  # before this batch updates the statistics
        batch = plain.train()(x)
        output = norm(x)
        chosen = [bool(torch.equal(output[:, c], batch[:, c])) for c in range(32)]
        for c, is_batch in enumerate(chosen):
            assert torch.equal(output[:, c], (batch if is_batch else running)[:, c])
        assert 4 < sum(chosen) < 28 if of_batch is None else sum(chosen) == of_batch
        for name, buffer in plain.named_buffers():
            assert torch.equal(norm.get_buffer(name), buffer)


def test_stochastic_normalization_follows_the_seed_of_torch() -> None:
    norm, _ = normalized(0.5)
    x, outputs = torch.randn(4, 32, 5, 5), []
    state = {n: b.clone() for n, b in norm.named_buffers()}
    for seed in (1, 1, 2):
        norm.load_state_dict(state, strict=False)
        torch.manual_seed(seed)
        outputs.append(norm(x))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_stochastic_normalization_is_batch_norm_in_evaluation_and_once_merged(
    layers: Any, apply: Any, embed: Any
) -> None:
    backbone = layers(norm=nn.BatchNorm2d(12))
    plain = embed(backbone)
    assert apply(backbone, "stoch_norm") == frozenset()
    assert torch.equal(embed(backbone), plain)
    merge_adapters(backbone)
    assert type(backbone.norm) is nn.BatchNorm2d
    assert torch.equal(embed(backbone), plain)


# ---- networks ----


def test_what_no_adapter_trains_is_frozen(toy_network_of: Any) -> None:
    network = toy_network_of("lora", "bitfit")
    assert set(network.adapter_parameters) == {"lora", "bitfit"}
    trained = frozenset().union(*network.adapter_parameters.values())
    names = {n for n, _ in network.named_parameters() if n.startswith("backbone.")}
    assert network.created_frozen == names - trained


def test_layers_that_were_left_out_are_told(caplog: pytest.LogCaptureFixture) -> None:
    from visiongraft.network import Network
    from visiongraft.plugins.classification.task import Classification

    caplog.set_level(logging.INFO)
    task = Classification(class_names=("a", "b"))
    network = Network(load_backbone("timm/test_efficientnet", None, size=32), task)
    (note,) = apply_adapters(network, [find_adapter("lora")])
    assert note.startswith("adapter 'lora' leaves out 2 depthwise convolutions")
