"""The report of a run: at its end without a pass over the images, and complete afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.pages.parts import Text
from visiongraft.plugins.classification.task import Classification
from visiongraft.registry.manager import PluginManager, plugins, using
from visiongraft.reporting.contract import ReportedRun, ReportSection, Results
from visiongraft.reporting.sections.images import project

WATCHING = ("mistakes", "map", "duplicates", "confidence")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder whose image names must be escaped."""
    folder = tmp_path_factory.mktemp("reporting")
    for split, count in (("train", 10), ("val", 6)):
        for label, color in (("dark", 20), ("light <b>", 200)):
            own = folder / "data" / split / label
            own.mkdir(parents=True)
            for i in range(count):
                noise = np.random.default_rng(i).integers(0, 30, (20, 24, 3))
                Image.fromarray((noise + color).astype(np.uint8)).save(own / f"{i} <i>.png")
    # one image with the wrong label, which a trained model gets wrong
    own = folder / "data" / "val" / "dark"
    Image.fromarray(np.full((20, 24, 3), 210, np.uint8)).save(own / "wrong.png")
    visiongraft.fit(
        folder / "data", task="classification", backbone="simple_cnn", weights=None, size=16, epochs=3,
        schedule="gradual(learning_rate=0.01)", out=folder / "run", device="cpu", batch_size=4,
        callbacks=("report",),
    )  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def complete(run: Path) -> str:
    return visiongraft.report(run, run / "complete.html").read_text(encoding="utf-8")


def sections_of(page: str) -> list[str]:
    return [part.split('"')[0] for part in page.split('<section id="')[1:]]


def test_fit_writes_the_sections_that_need_no_pass_over_the_images(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    found = sections_of(page)
    assert found[:4] == ["headline", "curves", "data", "batch"]
    assert {"classes", "receipts", "certificate", "environment", "reproduce"} <= set(found)
    assert not set(WATCHING) & set(found)
    assert f"visiongraft report {run}" in page


def test_a_report_looks_at_all_validation_images(complete: str) -> None:
    found = sections_of(complete)
    assert set(WATCHING) <= set(found)
    mistakes = complete.partition('<section id="mistakes">')[2].partition("</section>")[0]
    assert "1 of 13 validation images have faults" in mistakes
    assert "val/dark/wrong.png" in mistakes and "true: dark" in mistakes
    assert mistakes.count("data:image/jpeg") == 1 + 1 + 3  # with its map and the nearest images


def test_a_mistake_is_explained_by_a_map_and_by_the_nearest_training_images(complete: str) -> None:
    mistakes = complete.partition('<section id="mistakes">')[2].partition("</section>")[0]
    details = mistakes.partition('<div class="details">')[2]
    assert "why light &lt;b&gt;" in details and details.count(" away<br>") == 3
    assert details.count("light &lt;b&gt;, ") == 3  # what it is like, in spite of its label
    assert "train/light &lt;b&gt;/" in details


def test_a_prediction_that_cannot_be_explained_is_shown_with_the_reason(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classification, "explained", lambda self, *given: refuse())
    page = visiongraft.report(run, tmp_path / "page.html").read_text(encoding="utf-8")
    mistakes = page.partition('<section id="mistakes">')[2].partition("</section>")[0]
    assert "not explained: nothing to see here" in mistakes
    assert mistakes.count("data:image/jpeg") == 1 + 3


def refuse() -> None:
    raise OptionError("nothing to see here")


def test_the_headline_is_put_against_the_most_frequent_class(complete: str) -> None:
    assert "Always answering &#39;dark&#39;" in complete
    assert "has accuracy 0.5385" in complete  # 7 of 13


def test_curves_have_the_validation_loss(run: Path, complete: str) -> None:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [json.loads(line)["validation_loss"] for line in lines]
    assert all(each.keys() == {"cross_entropy", "loss"} for each in losses)
    assert f"{losses[-1]['loss']:.6f}"[:6] in complete


def test_names_from_files_are_escaped(complete: str) -> None:
    assert "light &lt;b&gt;" in complete and "light <b>" not in complete
    assert "&lt;i&gt;.png" in complete and "<i>.png" not in complete


def test_folders_that_lead_to_the_data_are_not_in_captions(run: Path, complete: str) -> None:
    mistakes = complete.partition('<section id="mistakes">')[2].partition("</section>")[0]
    assert str(run.parent) not in mistakes


def test_a_run_without_the_callback_has_no_report(run: Path, tmp_path: Path) -> None:
    arguments = [
        "fit",
        str(run.parent / "data"),
        "--task",
        "classification",
        "--backbone",
        "simple_cnn",
    ]
    arguments += ["--weights", "none", "--size", "16", "--epochs", "1", "--device", "cpu"]
    assert main([*arguments, "--no-report", "--out", str(tmp_path / "quiet")]) == 0
    assert (tmp_path / "quiet" / "curves.png").is_file()
    assert not (tmp_path / "quiet" / "report.html").exists()


def test_without_the_data_the_rest_is_shown(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["data"] = str(tmp_path / "gone")
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    page = visiongraft.report(copy).read_text(encoding="utf-8")
    assert "gone does not exist" in page
    assert "curves" in sections_of(page) and "mistakes" not in sections_of(page)


class Weather(ReportSection):
    """Counts images."""

    name, title, position, watches = "weather", "Weather", 1, True

    def __init__(self, run: ReportedRun) -> None:
        super().__init__(run)
        self.images = 0

    def update(self, results: Results) -> None:
        assert results.embeddings is not None and len(results.embeddings) == len(results.positions)
        self.images += len(results.positions)

    def parts(self) -> Iterator[Text]:
        yield Text(f"{self.images} images of sunshine")


class Storm(Weather):
    """Fails."""

    name, title = "storm", "Storm"

    def update(self, results: Results) -> None:
        raise ValueError("struck by <lightning>")


class Plugin:
    @hookimpl
    def register_report_sections(self) -> list[type[ReportSection]]:
        return [Weather, Storm]


@pytest.fixture
def with_plugin() -> Iterator[PluginManager]:
    with using(PluginManager()) as manager:
        manager.register(Plugin(), "sky")
        yield manager


def test_plugins_add_sections_and_one_that_fails_stops_no_other(
    run: Path, tmp_path: Path, with_plugin: PluginManager, caplog: pytest.LogCaptureFixture
) -> None:
    page = visiongraft.report(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert sections_of(page)[:3] == ["headline", "storm", "weather"]
    assert "13 images of sunshine" in page
    assert "could not be made: struck by &lt;lightning&gt;" in page
    assert "struck by" in caplog.text


def test_every_section_of_a_report_is_registered() -> None:
    assert {"headline", "confidence", "confusions"} <= set(plugins().report_sections())


@pytest.mark.exhaustive
def test_an_exported_file_in_the_run_folder_shows_its_certificate(
    run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    certificate = visiongraft.load(copy).export(copy / "model.onnx")
    page = visiongraft.report(copy).read_text(encoding="utf-8")
    assert str(certificate.content_sha256) in page


@pytest.mark.parametrize("out", ["page.pdf", "."])
def test_another_suffix_is_refused(run: Path, tmp_path: Path, out: str) -> None:
    with pytest.raises(OptionError, match="html="):
        visiongraft.report(run, tmp_path / out)


def test_another_projection_is_refused(run: Path) -> None:
    with pytest.raises(OptionError, match="projection"):
        visiongraft.report(run, projection="tsne")  # type: ignore[arg-type]


@pytest.mark.exhaustive
def test_umap_keeps_groups_together() -> None:
    pytest.importorskip("umap")
    groups = np.repeat(np.eye(2, 8) * 20, 20, axis=0)
    points, how = project(groups + np.random.default_rng(0).normal(size=(40, 8)), "umap")
    apart = np.linalg.norm(points[:20].mean(0) - points[20:].mean(0))
    assert how == "UMAP"
    assert apart > max(points[:20].std(0).max(), points[20:].std(0).max())


def test_a_folder_that_is_no_run_is_refused(run: Path) -> None:
    with pytest.raises(ArtifactError, match="not the folder of a finished run"):
        visiongraft.report(run / "model")


def test_the_command_names_the_page(run: Path, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(page)}
    assert page.is_file()
