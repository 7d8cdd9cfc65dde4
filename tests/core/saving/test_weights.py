from __future__ import annotations

import argparse
import hashlib
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, Features
from visiongraft.errors import WeightsError
from visiongraft.preprocess import PreprocessConfig
from visiongraft.saving.weights import compare, file_sha256, load_weights, read_weights


class Tiny(Backbone):
    """Its published names lack the prefix ``body.`` of its own names."""

    def __init__(self, in_channels: int = 3, embedding: int = 5) -> None:
        body = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, embedding, 1)
        )
        super().__init__(
            BackboneInfo(
                name="test/tiny",
                stage_of={f"body.{n}": "stem" for n in body.state_dict()},
                channels=(embedding,),
                strides=(1,),
                embedding_dim=embedding,
                preprocess=PreprocessConfig((8, 8)),
                in_channels=in_channels,
            )
        )
        self.body = body

    def forward(self, images: Tensor) -> Features:
        maps = self.body(images)
        return Features((maps,), maps.mean((2, 3)))

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"body.{n}": t for n, t in weights.items()}


def published(**changes: Tensor | None) -> dict[str, Tensor]:
    """Make a file's tensors: those of another Tiny, some replaced, or left out where ``None``."""
    torch.manual_seed(1)
    tensors = {n.removeprefix("body."): t.clone() for n, t in Tiny().state_dict().items()}
    for name, tensor in changes.items():
        key = name.replace("__", ".").removeprefix("_")
        tensors.pop(key, None)
        if tensor is not None:
            tensors[key] = tensor
    return tensors


def written(folder: Path, tensors: object, name: str = "tiny.pth") -> Path:
    path = folder / name
    torch.save(tensors, path)
    return path


def equal(backbone: Backbone, tensors: dict[str, Tensor]) -> bool:
    own = backbone.state_dict()
    return all(torch.equal(own[f"body.{n}"], t) for n, t in tensors.items())


def refusal(backbone: Backbone, path: Path, **options: bool) -> str:
    """Load a file that must be refused; the backbone must stay as it was."""
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(backbone, path, **options)
    assert all(torch.equal(before[n], t) for n, t in backbone.state_dict().items())
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---- what is read ----


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th", ".bin", ".ckpt"])
def test_a_file_of_plain_tensors_is_loaded_whatever_pytorch_suffix_it_has(
    tmp_path: Path, suffix: str
) -> None:
    backbone, tensors = Tiny(), published()
    load_weights(backbone, written(tmp_path, tensors, f"tiny{suffix}"))
    assert equal(backbone, tensors)


def test_a_safetensors_file_is_loaded(tmp_path: Path) -> None:
    backbone, tensors = Tiny(), published()
    save_file(tensors, tmp_path / "tiny.safetensors")
    load_weights(backbone, tmp_path / "tiny.safetensors")
    assert equal(backbone, tensors)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": t, "epoch": 3, "best": 0.5},
        lambda t: {"model": t, "optimizer": {"state": {}}},
        lambda t: {"net_state_dict": t},
        lambda t: {"model_state_dict": t},
        lambda t: {f"module.{n}": v for n, v in t.items()},
        lambda t: {f"_orig_mod.module.{n}": v for n, v in t.items()},
        lambda t: {"state_dict": {f"model.{n}": v for n, v in t.items()}},
        lambda t: {"model": {"state_dict": t}},
        lambda t: {"ema": {"decay": 0.9}, "state_dict": t},
    ],
)
def test_the_usual_wrappers_are_taken_off(tmp_path: Path, wrap) -> None:  # type: ignore[no-untyped-def]
    backbone, tensors = Tiny(), published()
    load_weights(backbone, written(tmp_path, wrap(tensors)))
    assert equal(backbone, tensors)


def test_averaged_weights_are_preferred_to_the_last_ones(tmp_path: Path) -> None:
    averaged, last = published(), {n: t + 1 for n, t in published().items()}
    ema = {"n_averaged": torch.tensor(7), **{f"module.{n}": t for n, t in averaged.items()}}
    backbone = Tiny()
    load_weights(backbone, written(tmp_path, {"model": last, "model_ema": ema}))
    assert equal(backbone, averaged)


def nested(prefix: str) -> dict[str, Tensor]:
    """Return the tensors as part of a larger network."""
    inside = {f"{prefix}{name}": tensor for name, tensor in published().items()}
    return {**inside, "neck.conv.weight": torch.ones(2), "head.weight": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": nested("backbone."), "meta": {"epoch": 3}},  # mmengine
        {"state_dict": nested("model.backbone."), "hyper_parameters": {"lr": 0.1}},  # Lightning
        {"model": nested("encoder."), "opt": {"state": {}}},  # fastai
        {"student": {}, "teacher": nested("module.backbone.")},  # DINO
        {"model": published(), "args": argparse.Namespace(lr=0.1), "acc": np.float64(0.5)},
        {"ema": {"module": published()}},
    ],
    ids=["mmengine", "lightning", "fastai", "dino", "namespace", "ema"],
)
def test_the_backbone_is_found_in_checkpoints_of_training_programs(
    tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "w.pth")
    backbone = Tiny()
    load_weights(backbone, tmp_path / "w.pth")
    assert torch.equal(backbone.state_dict()["body.0.weight"], published()["0.weight"])


def test_a_part_under_a_prefix_of_the_users_own_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"state_dict": nested("nets.trunk.")}, tmp_path / "w.pth")
    backbone = Tiny()
    with caplog.at_level("INFO"):
        load_weights(backbone, tmp_path / "w.pth")
    assert torch.equal(backbone.state_dict()["body.0.weight"], published()["0.weight"])
    assert "the tensors under nets.trunk. are taken" in caplog.text


def test_parts_under_several_such_prefixes_are_refused(tmp_path: Path) -> None:
    torch.save({**nested("query."), **nested("key.")}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"under several prefixes \(query., key.\); save"):
        load_weights(Tiny(), tmp_path / "w.pth")


def test_a_part_that_lacks_tensors_is_refused_and_what_is_loaded_is_told_by_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = nested("backbone.")
    del tensors["backbone.2.bias"]
    torch.save({"state_dict": tensors}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"missing 1: 2\.bias; if it is meant to differ"):
        load_weights(Tiny(), tmp_path / "w.pth")
    backbone = Tiny()
    with caplog.at_level("INFO"):
        load_weights(backbone, tmp_path / "w.pth", partial=True)
    assert backbone.info.provenance["tensors"] == "7 of 8 loaded"
    assert "tensors loaded: stem 7/8" in caplog.text


def test_a_first_layer_that_is_called_model_in_every_name_is_not_lost(tmp_path: Path) -> None:
    path = written(tmp_path, {"model.weight": torch.ones(2), "other.weight": torch.ones(2)})
    assert set(read_weights(path)) == {"model.weight", "other.weight"}


# ---- what is refused as a file ----


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@given(content=st.binary(min_size=1, max_size=300))
def test_garbage_is_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@given(fraction=st.floats(0.01, 0.99))
@settings(max_examples=25)
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, fraction: float) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(published(), whole)
    else:
        save_file(published(), whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: max(1, int(fraction * len(content)))])
    with pytest.raises(WeightsError, match=r"cut\.\w+ (is damaged|holds)"):
        read_weights(cut)


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("forced", [False, True])
def test_a_malicious_pickle_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    target = tmp_path / "executed"
    path = written(tmp_path, {"weight": _Payload(target)})
    if forced:  # this variable makes torch.load unpickle by default
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(WeightsError, match=r"Python objects .*mkdir.* could run code"):
        read_weights(path)
    assert not target.exists()
    # The payload does work where a file is unpickled, so its absence above proves something.
    pickle.loads(pickle.dumps(_Payload(target)))
    assert target.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, nn.Linear(2, 2))
    with pytest.raises(WeightsError, match="not only tensors"):
        read_weights(path)


def test_an_empty_file_a_folder_and_a_missing_file_are_each_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    for name, words in [
        ("empty.pth", "is empty"),
        (".", "is a folder"),
        ("none.pth", "does not exist"),
        ("x" * 300, "cannot be read"),
    ]:
        with pytest.raises(WeightsError, match=words):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.ones(3), {"model": {}}])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(WeightsError, match="no tensors by name"):
        read_weights(written(tmp_path, content))


# ---- what is refused as weights ----


def test_missing_unexpected_and_reshaped_tensors_are_listed_with_the_way_out(
    tmp_path: Path,
) -> None:
    tensors = published(_0__bias=None, _2__weight=torch.ones(9, 4, 1, 1), _extra=torch.ones(1))
    text = refusal(Tiny(), written(tmp_path, tensors))
    assert "missing 1: 0.bias" in text
    assert "unexpected 1: extra" in text
    assert "reshaped 1: 2.weight (9, 4, 1, 1) instead of (5, 4, 1, 1)" in text
    assert "partial=True (--partial) loads the 6 of 8 tensors" in text
    assert "test/tiny" in text and "tiny.pth" in text


def test_a_long_list_is_cut_to_its_first_few_names_and_a_count(tmp_path: Path) -> None:
    extra = {f"_extra{i}": torch.ones(1) for i in range(30)}
    text = refusal(Tiny(), written(tmp_path, published(**extra)))
    assert "unexpected 30: extra0, extra1, extra2, extra3, extra4 and 25 more" in text


def test_partial_loads_what_fits_and_leaves_the_rest(tmp_path: Path) -> None:
    backbone = Tiny()
    before = backbone.body[2].weight.clone()
    tensors = published(_2__weight=torch.ones(9, 4, 1, 1), _extra=torch.ones(1))
    path = written(tmp_path, tensors)
    load_weights(backbone, path, partial=True)
    fitting = {n: t for n, t in tensors.items() if n not in ("2.weight", "extra")}
    assert equal(backbone, fitting)
    assert torch.equal(backbone.body[2].weight, before)
    assert backbone.info.provenance == {
        "source": "file",
        "weights": "tiny.pth",
        "license": "unknown",
        "sha256": file_sha256(path),
        "tensors": "7 of 8 loaded",
    }


@pytest.mark.parametrize("partial", [False, True])
def test_a_file_of_which_nothing_fits_is_always_refused(tmp_path: Path, partial: bool) -> None:
    path = written(
        tmp_path, {"conv.weight": torch.ones(2), "1.num_batches_tracked": torch.ones(())}
    )
    text = refusal(Tiny(), path, partial=partial)
    assert "contains no tensors that fit test/tiny" in text


def test_a_missing_counter_of_seen_batches_is_harmless(tmp_path: Path) -> None:
    backbone = Tiny()
    load_weights(backbone, written(tmp_path, published(_1__num_batches_tracked=None)))
    assert backbone.info.provenance["tensors"] == "8 of 8 loaded"


def test_half_precision_tensors_are_loaded_in_the_backbones_own_precision(tmp_path: Path) -> None:
    backbone, tensors = Tiny(), published()
    halves = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    load_weights(backbone, written(tmp_path, halves))
    assert backbone.body[0].weight.dtype is torch.float32
    assert equal(backbone, {n: t.to(tensors[n].dtype) for n, t in halves.items()})


# ---- other image channels ----


def test_gray_images_have_the_results_of_their_rgb_copies(tmp_path: Path) -> None:
    path = written(tmp_path, published())
    rgb, gray = Tiny().eval(), Tiny(in_channels=1).eval()
    load_weights(rgb, path)
    load_weights(gray, path)
    image = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(gray(image).pooled, rgb(image.expand(-1, 3, -1, -1)).pooled)


def test_a_fourth_channel_repeats_the_rgb_kernels_at_the_same_scale(tmp_path: Path) -> None:
    backbone = Tiny(in_channels=4)
    load_weights(backbone, written(tmp_path, published()))
    kernel = published()["0.weight"]
    expected = torch.cat([kernel, kernel[:, :1]], dim=1) * 3 / 4
    torch.testing.assert_close(backbone.body[0].weight.detach(), expected)


def test_kernels_for_other_channels_than_rgb_are_reshaped_not_adapted() -> None:
    fit = compare(Tiny(in_channels=4), Tiny(in_channels=2).state_dict())
    assert fit.reshaped == ("0.weight (4, 2, 3, 3) instead of (4, 4, 3, 3)",)


# ---- small parts ----


def test_a_file_is_hashed_as_hashlib_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"weights" * 1000)
    assert file_sha256(path) == hashlib.sha256(b"weights" * 1000).hexdigest()


def test_nothing_of_a_buffer_of_pickles_is_mistaken_for_weights(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pickle.dump({"weight": [1.0, 2.0]}, buffer)
    path = tmp_path / "lists.pth"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError):
        read_weights(path)
