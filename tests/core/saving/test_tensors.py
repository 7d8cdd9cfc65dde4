"""Weights files whose contents are no sound weights: refused by name, before they do harm."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from visiongraft.errors import WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.saving.tensor_files import write_tensors
from visiongraft.saving.weights import load_weights, read_weights

NORM = "blocks.stage1.1"
CONV = "blocks.stage2.0.weight"


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {n: t.clone() for n, t in load_backbone("toys/toy", None).state_dict().items()}


def refusal(path: Path, **options: Any) -> str:
    """Load a weights file that is refused; the backbone must keep its weights."""
    backbone = load_backbone("toys/toy", None)
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_weights(backbone, path, **options)
    assert all(torch.equal(t, before[n]) for n, t in backbone.state_dict().items())
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


# ---- values ----


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [CONV, f"{NORM}.running_var", f"{NORM}.running_mean"])
@pytest.mark.parametrize("partial", [False, True])
def test_a_value_that_is_not_finite_is_refused_by_the_tensors_name(
    tmp_path: Path, name: str, value: float, partial: bool
) -> None:
    tensors = state()
    tensors[name].view(-1)[3] = value
    torch.save(tensors, tmp_path / "weights.pth")
    message = refusal(tmp_path / "weights.pth", partial=partial)
    assert f"tensor '{name}' contains 1 values that are not finite" in message
    assert "weights.pth" in message


def test_the_same_in_safetensors(tmp_path: Path) -> None:
    tensors = state()
    tensors[CONV][0] = float("nan")
    write_tensors(tmp_path / "weights.safetensors", tensors, {})
    assert f"tensor '{CONV}' contains" in refusal(tmp_path / "weights.safetensors")


def test_a_value_that_is_too_large_for_the_network_is_refused(tmp_path: Path) -> None:
    torch.save({**state(), CONV: state()[CONV].double() * 1e300}, tmp_path / "weights.pth")
    assert "not finite" in refusal(tmp_path / "weights.pth")


def test_a_negative_variance_is_refused(tmp_path: Path) -> None:
    tensors = state()
    tensors[f"{NORM}.running_var"][0] = -1
    torch.save(tensors, tmp_path / "weights.pth")
    assert f"'{NORM}.running_var' contains negative variances" in refusal(tmp_path / "weights.pth")


def test_integers_in_place_of_weights_are_refused(tmp_path: Path) -> None:
    """Their scale is missing, or in a tensor that nobody reads."""
    torch.save({**state(), CONV: torch.ones_like(state()[CONV]).to(torch.int8)}, tmp_path / "w.pth")
    assert "has values of type int8, not floating-point weights" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_loaded(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state().items()}
    torch.save(tensors, tmp_path / "weights.pth")
    load_weights(load_backbone("toys/toy", None), tmp_path / "weights.pth")


# ---- kinds of tensors ----

KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse (sparse_coo)": lambda t: t.to_sparse(),
    "sparse (sparse_csr)": lambda t: t.flatten(1).to_sparse_csr(),
    "a meta tensor, without values": lambda t: t.to("meta"),
    "quantized (qint8)": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("partial", [False, True])
def test_tensors_that_are_not_dense_are_refused_by_name(
    tmp_path: Path, kind: str, partial: bool
) -> None:
    torch.save({**state(), CONV: KINDS[kind](state()[CONV])}, tmp_path / "weights.pth")
    message = refusal(tmp_path / "weights.pth", partial=partial)
    assert f"tensor '{CONV}' is {kind}, not plain dense values; save it as dense" in message


# ---- sizes ----


def test_an_archive_that_unpacks_to_much_more_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in ("data.pkl", "data/0"):
            with archive.open(f"archive/{part}", "w") as file:
                for _ in range(40):
                    file.write(bytes(1 << 20))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was read"))
    assert "would unpack to 83886080 bytes, more than 4 times its size" in refusal(path)


def test_an_archive_of_compressed_weights_is_read(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for record in plain.namelist():
            packed.writestr(record, plain.read(record))
    read = read_weights(tmp_path / "packed.pth")
    assert all(torch.equal(t, state()[n]) for n, t in read.items())


def test_a_tensor_that_repeats_few_values_to_a_huge_shape_is_refused(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(1 << 40)
    torch.save({**state(), "extra": huge}, tmp_path / "weights.pth")
    message = refusal(tmp_path / "weights.pth", partial=True)
    assert "tensor 'extra' states the shape (1099511627776,), which the file cannot hold" in message


# ---- dicts in dicts ----


def test_a_checkpoint_that_contains_itself_is_read_or_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = OrderedDict(state())
    content["state_dict"] = content
    torch.save(content, tmp_path / "self.pth")
    assert read_weights(tmp_path / "self.pth").keys() == state().keys()
    nothing: dict[str, Any] = {}
    nothing["model"] = {"state_dict": nothing}
    torch.save(nothing, tmp_path / "nothing.pth")
    assert "holds no tensors by name" in refusal(tmp_path / "nothing.pth")


def test_dicts_that_share_dicts_are_searched_once(tmp_path: Path) -> None:
    """Each of 60 wrappers twice in the next one would be 2^60 ways to the bottom."""
    content: dict[str, Any] = {}
    for _ in range(60):
        content = {"state_dict": content, "model": content}
    torch.save(content, tmp_path / "shared.pth")
    assert "holds no tensors by name" in refusal(tmp_path / "shared.pth")


def test_very_deep_dicts_are_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    for _ in range(300):
        content = {"model": content}
    torch.save(content, tmp_path / "deep.pth")
    assert "holds no tensors by name" in refusal(tmp_path / "deep.pth")
