"""The conformance kit passes the built-in adapters, and catches faulty ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from visiongraft.adapters import Adapter, Applied, LayerAdapter, weighted_layers
from visiongraft.backbone import Backbone
from visiongraft.hookspecs import hookimpl
from visiongraft.registry.manager import PluginManager, plugins, using
from visiongraft.testing import ADAPTER_CHECKS, AdapterTrial, CheckError, check_adapter

BUILT_IN = ["bitfit", "bottleneck", "dora", "ia3", "lora", "norm", "stoch_norm", "tsm"]
QUICK = [check for check in ADAPTER_CHECKS if "output" in check.name or "again" in check.name]


class Gain(LayerAdapter):
    def __init__(self, start: float = 1.0, random: bool = False) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(start))

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        return plain(*args) * self.factor

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        for tensor in layer.parameters(recurse=False):
            tensor.mul_(self.factor)


class Forgetful(Gain):
    """Does not fold the bias."""

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        layer.weight.mul_(self.factor)


class Shifting(Gain):
    """Folds into a tensor that its layer does not have."""

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        super().fold(layer, parameter)
        layer.shift = nn.Parameter(torch.zeros(1))


class Idle(Gain):
    """Has a parameter that nothing reads."""

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        return plain(*args)

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        return


class Writing(Gain):
    """Writes to the frozen weight of its layer."""

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        if layer.training:
            layer.weight.data.mul_(1.001)
        return plain(*args) * self.factor


def adapter(kind: str, part: Callable[[], LayerAdapter], share: float = 1.0) -> type[Adapter]:
    """Make an adapter that puts a part into the linear layers of a backbone."""

    class Made(Adapter):
        name = kind

        def apply(self, backbone: Backbone) -> Applied:
            for layer, each in weighted_layers(backbone).items():
                if isinstance(each.module, nn.Linear) and torch.rand(()) <= share:
                    self.attach(backbone, layer, part())
            return Applied()

    return Made


FAULTY = {
    "applying_it_changes_no_output": adapter("loud", lambda: Gain(2.0)),
    "applying_it_again_adds_the_same": adapter("drawing", Gain, share=0.5),
    "merging_it_changes_no_output": adapter("forgetful", Forgetful),
}
OTHERS = [adapter("idle", Idle), adapter("writing", Writing), adapter("shifting", Shifting)]


@pytest.fixture(scope="module", autouse=True)
def faulty_ones() -> Iterator[None]:
    kinds = [*FAULTY.values(), *OTHERS]
    register = hookimpl(lambda: kinds, specname="register_adapters")
    with using(PluginManager()):
        plugins().register(SimpleNamespace(register_adapters=register), "faulty")
        yield


@pytest.mark.parametrize(
    "name", ["lora", *(pytest.param(n, marks=pytest.mark.slow) for n in BUILT_IN if n != "lora")]
)
def test_a_built_in_adapter_passes_the_quick_checks(name: str) -> None:
    trial = AdapterTrial(name)
    for check in QUICK:
        check(trial)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_adapter_passes_the_kit(name: str) -> None:
    check_adapter(name)


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_adapter_is_caught_by_its_check(name: str) -> None:
    (check,) = (check for check in ADAPTER_CHECKS if check.name == name)
    with pytest.raises(CheckError):
        check(FAULTY[name].name)


def test_an_adapter_that_does_nothing_is_caught() -> None:
    (check,) = (c for c in ADAPTER_CHECKS if c.name == "merging_it_changes_no_output")
    with pytest.raises(CheckError, match="it must act on the backbone"):
        check("idle")


def test_an_adapter_whose_merging_adds_tensors_is_caught() -> None:
    check = ADAPTER_CHECKS[0]
    with pytest.raises(CheckError, match="adds, removes or reshapes 'shift'"):
        check("shifting")


@pytest.mark.slow
def test_an_adapter_that_writes_to_the_base_is_caught() -> None:
    (check,) = (c for c in ADAPTER_CHECKS if c.name == "what_it_does_not_train_is_frozen")
    with pytest.raises(CheckError, match="frozen tensor"):
        check("writing")
