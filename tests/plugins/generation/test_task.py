"""Generators learn images, are measured, saved and exported, and draw images from seeds."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.plugins.generation.example import make_dataset
from visiongraft.plugins.generation.task import Generation
from visiongraft.plugins.generation.vae import autoencoder_parts

SMALL: dict[str, Any] = {"latents": 6, "width": 8, "features_size": 32}
SETTINGS: dict[str, Any] = {
    "backbone": "generation/conv",
    "weights": None,
    "size": 16,
    "batch_size": 8,
    "workers": 0,
    "device": "cpu",
    "callbacks": (),
}
IMAGES = make_dataset(Path(), 16, seed=0)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> TransferModel:
    return visiongraft.fit(
        IMAGES,
        task=Generation("vae", **SMALL),
        schedule="full(learning_rate=3e-3)",
        epochs=4,
        out=tmp_path_factory.mktemp("vae") / "run",
        **SETTINGS,
    )


def test_an_autoencoder_is_measured_by_likelihood_too(vae: TransferModel) -> None:
    results, again = vae.evaluate(IMAGES), vae.evaluate(IMAGES, batch_size=3)
    assert {"kid", "fid", "precision", "recall"} <= results.keys()
    assert 0 < results["reconstruction_error"] < 0.25
    assert results["elbo"] < 0
    assert results["elbo"] == pytest.approx(again["elbo"], rel=1e-4)


def test_a_posterior_equal_to_the_prior_has_no_divergence(vae: TransferModel) -> None:
    network = deepcopy(vae.network)
    with torch.no_grad():
        for parameter in network.head.get_submodule("posterior").parameters():
            parameter.zero_()
    parts = autoencoder_parts(network, torch.zeros(2, 3, 16, 16), beta=1.0)
    assert parts["kl"] == 0 and parts["reconstruction"] > 0


def test_equal_seeds_draw_equal_images(vae: TransferModel) -> None:
    one, again = vae.sample(3, seed=1), vae.predict(vae.task.inputs.draw(3, seed=1))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, again, strict=True))
    assert one[0].image.shape == (16, 16, 3)
    assert not np.array_equal(one[0].image, one[1].image)


def test_an_autoencoder_reconstructs_images_one_like_the_other(vae: TransferModel) -> None:
    one, other = vae.reconstruct(IMAGES[:2])
    assert one.image.shape == (16, 16, 3)
    assert not np.array_equal(one.image, other.image)
    assert "reconstruct" not in Generation("gan").model_methods()


@pytest.fixture(scope="module")
def path(vae: TransferModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "vae.onnx"
    certificate = vae.export(path)
    assert certificate.certified and certificate.mismatches == 0
    return path


def test_the_file_draws_images_without_pytorch(
    vae: TransferModel, path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from visiongraft.cli import main\n"
        f"sys.exit(main(['predict', {str(path)!r}, '--samples', '3', '--out', {str(out)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = sorted(out.glob("*.png"))
    assert len(files) == 3
    expected = vae.predict(vae.task.inputs.draw(3, seed=0))
    for file, one in zip(files, expected, strict=True):
        with Image.open(file) as image:
            assert np.abs(np.asarray(image).astype(int) - one.image).max() <= 1


@pytest.mark.parametrize("count", ["0", "1000001"])
def test_numbers_of_samples_that_make_no_sense_are_refused(
    path: Path, count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(path), "--samples", count]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Invalid value for '--samples': Input should be ")


def test_files_are_evaluated_by_the_same_images(
    vae: TransferModel, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    assert main(["evaluate", str(path), str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kid"] == pytest.approx(vae.evaluate(tmp_path)["kid"], rel=1e-3)
    assert "elbo" not in found


def test_a_frozen_backbone_judges_by_all_of_its_maps() -> None:
    model = visiongraft.fit(
        IMAGES,
        task=Generation("gan", critic="maps", **SMALL),
        schedule="linear_probe",
        epochs=1,
        **SETTINGS,
    )
    images = torch.rand(2, 3, 16, 16)
    network = model.network
    with torch.no_grad():
        scores = network.head(network.backbone(images))
    assert scores.shape == (2, 3)
    assert not any(p.requires_grad for p in network.backbone.parameters())
    assert len(model.sample(2)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "flow"}, "method='flow'"),
        ({"latents": 0}, "latents=0 is not an integer of at least 1"),
        ({"critic": "pixels"}, "critic='pixels'"),
        ({"hidden": ()}, "hidden"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"augment": ("blur",)}, "blur"),
        ({"features_size": 0}, "features_size"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Generation(**options)


def test_images_of_two_channels_are_refused() -> None:
    backbone = load_backbone("generation/conv", weights=None, in_channels=2)
    with pytest.raises(OptionError, match="2 channels"):
        Generation().build_head(backbone)
