"""Explanations by example: the training images that a model embeds nearest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visiongraft as vg
from visiongraft.cli import main
from visiongraft.errors import OptionError

COLORS = {"red": (200, 0, 0), "green": (0, 200, 0)}


def write(path: Path, color: tuple[int, int, int], seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 40, (20, 24, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + color).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on red and green images, one of which has the wrong label."""
    folder = tmp_path_factory.mktemp("nearest")
    for split, count in (("train", 6), ("val", 2)):
        for label, color in COLORS.items():
            for i in range(count):
                write(folder / "data" / split / label / f"{i}.png", color, i)
    write(folder / "data/train/red/wrong.png", COLORS["green"], 50)
    vg.fit(
        folder / "data", task="classification", backbone="simple_cnn", weights=None, size=16, epochs=1,
        schedule="linear_probe", out=folder / "run", device="cpu", callbacks=(),
    )  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def green(run: Path) -> Path:
    path = run.parent / "green <i>.png"
    write(path, COLORS["green"], 50)  # the pixels of the image with the wrong label
    return path


def test_the_nearest_images_are_those_that_look_alike(run: Path, green: Path) -> None:
    (found,) = vg.nearest_images(run, green, count=3)
    first = found.neighbors[0]
    assert first.image.endswith("train/red/wrong.png") and first.label == "red"
    assert first.distance == pytest.approx(0, abs=1e-6)
    assert [n.label for n in found.neighbors[1:]] == ["green", "green"]
    distances = [n.distance for n in found.neighbors]
    assert distances == sorted(distances) and distances[1] > 1e-6


def test_they_are_training_images_only(run: Path, green: Path) -> None:
    (found,) = vg.nearest_images(run, green, count=100)
    assert len(found.neighbors) == 13
    assert all("/train/" in n.image for n in found.neighbors)


def test_a_model_in_memory_is_given_the_training_data(run: Path, green: Path) -> None:
    model = vg.load(run / "model")
    (found,) = vg.nearest_images(model, green, training=run.parent / "data", count=2)
    (expected,) = vg.nearest_images(run, green, count=2)
    assert found.to_json() == expected.to_json()
    with pytest.raises(OptionError, match="training=DATA"):
        vg.nearest_images(model, green)


def test_notebooks_show_the_images_and_escape_names(run: Path, green: Path) -> None:
    (found,) = vg.nearest_images(run, green, count=2)
    assert found.draw().size == (3 * 24 * 7, 20 * 7 + 18)
    shown = found._repr_html_()
    assert "data:image/jpeg" in shown and "green &lt;i&gt;.png" in shown


def test_the_command_draws_them(
    run: Path, green: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["explain", str(run), str(green), "--method", "nearest", "--out", str(tmp_path)]
    assert main([*given, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["explanations"]
    assert found["method"] == "nearest" and found["neighbors"][0]["label"] == "red"
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "nearest", "--checks"], "takes no --target, --similar-to or --checks"),
        (["--training", "somewhere"], "--training is for --method nearest"),
    ],
)
def test_options_of_other_methods_are_refused(
    run: Path, green: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["explain", str(run), str(green), *options]) != 0
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_explain_says_where_the_method_is(run: Path, green: Path) -> None:
    with pytest.raises(OptionError, match="nearest_images"):
        vg.explain(run, green, "nearest")


def test_the_network_runs_once_over_the_images(run: Path, green: Path) -> None:
    model = vg.load(run)
    passed: list[int] = []
    model.network.backbone.register_forward_hook(lambda *given: passed.append(len(given[1][0])))
    vg.nearest_images(model, [green, green, green])
    assert sum(passed) == 3 + 13  # images and training images


@pytest.mark.parametrize("method", ["grad_cam", "nearest"])
def test_folders_are_read_as_predict_reads_them(
    run: Path, green: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    command = ["explain", str(run), str(folder), "--method", method, "--out", str(out)]
    assert main(command) == 2
    assert "contains no images" in capsys.readouterr().err
    shutil.copy(green, folder / "a.png")
    (folder / "damaged.png").write_bytes(b"no image")
    assert main(command) == 0
    assert "warning: unreadable images skipped: 1 (" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 1
