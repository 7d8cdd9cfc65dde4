"""The commands that train and use models, with a task, a backbone and an exporter of their own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiongraft
from tests.core.stopping import StopAt
from visiongraft.certificate import Certificate, Comparison
from visiongraft.cli import main, models
from visiongraft.data.folder import read_folder
from visiongraft.data.samples import EvaluationSplit, FileSamples, Samples, Splits
from visiongraft.data.splits import stratified_split
from visiongraft.errors import ExportError
from visiongraft.exporter import Exporter
from visiongraft.hookspecs import hookimpl
from visiongraft.registry.manager import PluginManager, plugins

Run = Callable[..., tuple[int, str, str]]
FAST = ["--backbone", "toys/toy", "--weights", "none", "--device", "cpu", "--batch-size", "8"]


@dataclass(frozen=True)
class Color:
    color: str
    scores: tuple[float, ...]


@pytest.fixture(autouse=True, scope="module")
def installed(Toy: type[Any], toys_are_registered: None) -> None:
    """Register a task that reads folders, and an exporter that proves nothing."""
    if "colors" in plugins().tasks():
        return

    @dataclass(frozen=True)
    class Colors(Toy):  # type: ignore[misc]
        """Predicts which color dominates."""

        name = "colors"
        whole_image_targets = True

        def metric_inputs(self, name: str, decoded: Any, targets: Any) -> Any:
            return torch.as_tensor(decoded["scores"]), targets

        def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
            samples = self.read_evaluation(data).samples
            keys = [samples.target(i) for i in range(len(samples))]
            kept, out = stratified_split(keys, validation, seed)
            return Splits(samples.subset(kept), samples.subset(out))

        def read_evaluation(self, data: Any) -> EvaluationSplit:
            found = read_folder(Path(data))
            files = found.splits["train"]
            targets = [found.names.index(labels[0]) for labels in files.targets]
            further = [{"parity": "odd" if int(p.stem) % 2 else "even"} for p in files.paths]
            samples = FileSamples(files.paths, targets, further=further)
            return EvaluationSplit(samples, "all", found.warnings)

        def predictions(self, decoded: Any) -> list[Any]:
            names = ("blue", "green", "red")
            pairs = zip(decoded["label"], decoded["scores"], strict=True)
            return [Color(names[label], tuple(scores.tolist())) for label, scores in pairs]

    class Plugin:
        @hookimpl
        def register_tasks(self) -> list[type[Any]]:
            return [Colors]

        @hookimpl
        def register_exporters(self) -> list[type[Exporter]]:
            return [Echo]

    plugins().register(Plugin(), "colors")


class Echo(Exporter):
    """Records that it was called."""

    name = "echo"
    suffix = ".echo"

    def export(
        self, model: Any, path: Path, samples: Samples | None, **options: Any
    ) -> Certificate:
        if options.get("fail"):
            raise ExportError("the exported file disagrees with PyTorch")
        path.write_text(f"echo {json.dumps(options)}")
        count = 0 if samples is None else len(samples)
        comparison = Comparison("real", 1, count, ((20, 24),), 1e-6, 0, "image 0")
        certificate = Certificate(
            path.name, "echo", (comparison,), 1e-4, "share_right", 0.5, 0.5, None, {}, ("a toy",)
        )
        if "precision" not in options:
            return certificate
        comparison = replace(comparison, mismatches=2, predictions=40)
        left = ["stem", "first", "second", "third"]
        settings = {"head": "fp32", "tried": [{"lost": 0.1}], "scale": 0.25, "left": left}
        return replace(
            certificate, comparisons=(comparison,), tolerance=None, settings=settings, **options
        )


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def workspace(toy_data: Any, installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 24 images in three folders, and a run on them; tests take copies.

    The first channel is that of the last name.
    """
    folder = tmp_path_factory.mktemp("workspace")
    for index, (image, target) in enumerate(toy_data(24)):
        kind = folder / "images" / ("red", "green", "blue")[target]
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(kind / f"{index}.png")
    words = ["fit", folder / "images", "--task", "colors", "--out", folder / "run", "--epochs", 2]
    assert main([str(word) for word in (*words, *FAST)]) == 0
    return folder


@pytest.fixture
def images(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(workspace / "images", tmp_path / "images"))


@pytest.fixture
def trained(workspace: Path, images: Path) -> Path:
    return Path(shutil.copytree(workspace / "run", "run"))


def test_fit_writes_a_run_and_names_the_path_of_the_model(run: Run, images: Path) -> None:
    words = ["fit", images, "--task", "colors", "--out", "run", "--epochs", 3, *FAST]
    code, out, err = run(*words, "--schedule", "lp_ft(probe_epochs=1)")
    assert code == 0
    assert Path("run/model/model.safetensors").is_file()
    lines = out.splitlines()
    assert lines[0].split() == ["phase", "trained", "epochs", "best", "share_right"]
    assert [line.split()[:3] for line in lines[1:3]] == [["1", "head", "1"], ["2", "all", "2"]]
    assert lines[3].endswith("model saved to run/model")
    assert "epoch 3/3" in err  # progress goes to standard error
    assert "\x1b" not in out + err


def test_fit_prints_the_best_epoch_as_json(run: Run, images: Path) -> None:
    words = ["fit", images, "--task", "colors", "--out", "run", "--epochs", 2, *FAST, "--json"]
    code, out, _ = run(*words)
    values = json.loads(out)
    history = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    best = max(record["validation"]["share_right"] for record in history)
    assert code == 0
    assert values["run"] == "run"
    assert values["model"] == "run/model"
    assert values["epochs"] == 2
    assert values["headline"] == "share_right"
    assert values["validation"]["share_right"] == best
    assert history[values["best_epoch"]]["validation"] == values["validation"]


def test_every_option_of_fit_reaches_the_run(run: Run, images: Path) -> None:
    words = ["--set", "classes=4", "--set", "augment=false", "--schedule", "full", "--epochs", 1]
    words += ["--validation", 0.25, "--size", "16x16", "--resize", "stretch", "--accumulate", 2]
    words += ["--learning-rate", 0.01, "--optimizer", "sgd", "--weight-decay", 0.1, "--views", 2]
    words += ["--replay", "off", "--replay-dtype", "float16", "--replay-budget", "2MB"]
    words += ["--no-replay-shared", "--gradient-checkpointing"]
    words += ["--precision", "no", "--clip-norm", 0, "--ema", 0.9, "--patience", 3, "--seed", 5]
    words += ["--checkpoint-every", 2, "--workers", 0, "--in-channels", 3]
    words += ["--evaluate-on", f"old={images}", "--evaluate-on", f"b={images}", "--select", "last"]
    words += ["--callback", "tensorboard", "--transfer-loss", "l2_sp(alpha=0.5)"]
    words += ["--transfer-loss", "bss", "--adapter", "stoch_norm(p=0.4)"]
    code, _, err = run("fit", images, "--task", "colors", "--out", "run", *FAST, *words)
    assert code == 0, err
    config = json.loads(Path("run/config.json").read_text())
    expected = {
        "data": str(images),
        "task": "colors",
        "task_options": {"classes": 4, "augment": False, "maps": False},
        "backbone": "toys/toy",
        "weights": None,
        "transfer_loss": [
            {"name": "l2_sp", "options": {"alpha": 0.5}},
            {"name": "bss", "options": {}},
        ],
        "adapters": [{"name": "stoch_norm", "options": {"p": 0.4}}],
        "epochs": 1,
        "validation": 0.25,
        "evaluate_on": {"old": str(images), "b": str(images)},
        "select": "last",
        "streams": None,
        "start": None,
        "size": [16, 16],
        "resize": "stretch",
        "in_channels": 3,
        "batch_size": 8,
        "optimizer": "sgd",
        "weight_decay": 0.1,
        "views": 2,
        "replay": "off",
        "replay_dtype": "float16",
        "replay_budget": 2_000_000,
        "replay_shared": False,
        "gradient_checkpointing": True,
        "precision": "no",
        "accumulate": 2,
        "clip_norm": None,
        "ema": 0.9,
        "swa": None,
        "wise_ft": None,
        "patience": 3,
        "checkpoint_every": 2,
        "keep_epochs": None,
        "weights_license": None,
        "groups": None,
        "group_training": None,
        "data_license": None,
        "workers": 0,
        "device": "cpu",
        "seed": 5,
        "partial": False,
        "leave_out": None,
        "privacy": None,
        "metrics": None,
        "augment": None,
    }
    assert {name: config[name] for name in expected} == expected
    others = {"schedule", "format", "visiongraft", "learning_rate", "budget"}  # instead of epochs
    assert set(config) - set(expected) <= others
    assert config["schedule"] == {"name": "full", "options": {"learning_rate": 0.01}}
    assert Path("run/tensorboard").is_dir()
    assert Path("run/curves.png").is_file()


def test_own_metrics_and_augmentation_are_options(run: Run, images: Path) -> None:
    Path("augmentation_of_colors.py").write_text("def same(image):\n    return image\n")
    words = ["fit", images, "--task", "colors", "--out", "run", "--epochs", 2, *FAST]
    own = [
        "--metric",
        "f1=MulticlassF1Score(num_classes=3)",
        "--augment",
        "augmentation_of_colors.py:same",
    ]
    code, _, err = run(*words, *own)
    assert code == 0, err
    assert ", f1 0." in err or ", f1 1." in err
    code, out, err = run("evaluate", "run", images, "--metric", "MulticlassAUROC(num_classes=3)")
    assert code == 0, err
    assert "MulticlassAUROC" in out
    assert run("fit", "--out", "run", "--resume")[0] == 0
    assert run("fit", "--config", "run", "--out", "again")[0] == 0


def test_a_run_without_progress_shows_it_when_it_is_resumed_here(run: Run, images: Path) -> None:
    settings = {"task": "colors", "backbone": "toys/toy", "weights": None, "epochs": 3}
    settings |= {"batch_size": 8, "device": "cpu", "checkpoint_every": 1, "schedule": "full"}
    with pytest.raises(KeyboardInterrupt):
        visiongraft.fit(images, out="run", callbacks=(StopAt(2),), **settings)
    stored = json.loads(Path("run/callbacks.json").read_text())
    Path("run/callbacks.json").write_text(json.dumps({**stored, "callbacks": []}))
    code, _, err = run("fit", "--out", "run", "--resume")
    assert code == 0, err
    assert "epoch 3/3" in err
    assert json.loads(Path("run/callbacks.json").read_text())["callbacks"] == []


def test_fit_without_out_writes_to_the_next_free_folder_and_prints_it(
    run: Run, images: Path
) -> None:
    for number in (1, 2):
        code, out, err = run("fit", images, "--task", "colors", "--epochs", 1, *FAST)
        assert code == 0
        assert err.startswith(f"run folder: runs/images-{number}\n")
        assert f"model saved to runs/images-{number}/model" in out


def test_a_run_is_repeated_from_its_folder_with_the_same_weights(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    code, _, err = run("fit", "--config", trained, "--out", "again")
    assert (code, err.count("error")) == (0, 0)
    stored = [Path(folder, "config.json").read_text() for folder in (trained, "again")]
    assert json.loads(stored[0]) == json.loads(stored[1])


def test_options_replace_settings_of_the_file(run: Run, images: Path) -> None:
    settings = f"data: {images}\ntask: colors\nepochs: 5\nbackbone: toys/toy\nweights: null\n"
    Path("run.yaml").write_text(settings)
    code, _, _ = run("fit", "--config", "run.yaml", "--epochs", 1, "--out", "run-of-file")
    assert code == 0
    config = json.loads(Path("run-of-file/config.json").read_text())
    assert (config["data"], config["epochs"], config["weights"]) == (str(images), 1, None)


def test_predictions_are_written_to_one_file_and_printed_as_a_table(
    run: Run, trained: Path, images: Path
) -> None:
    (images / "red" / "damaged.png").write_bytes(b"")
    code, out, err = run("predict", trained, images / "red", "--csv", "-", "--out", "found.csv")
    assert (code, Path("found.csv").read_text()) == (0, out)
    head, *rows = out.splitlines()
    assert head.startswith("image,")
    assert len(rows) == len(list((images / "red").glob("*.png"))) - 1
    assert err.startswith("warning: unreadable images skipped: 1")
    run("predict", trained, images / "red", "--out", "found.json")
    assert [one["image"] for one in json.loads(Path("found.json").read_text())] == [
        row.split(",")[0] for row in rows
    ]


@pytest.mark.parametrize("mark", "\u2028\x0b\x0c\x1c\x1d\x1e\x85")
def test_a_row_stays_one_line_whatever_ends_lines_elsewhere(
    run: Run, trained: Path, images: Path, mark: str
) -> None:
    source = next(iter(sorted((images / "blue").glob("*.png"))))
    named = images / f"odd{mark}name.png"
    named.write_bytes(source.read_bytes())
    code, out, _ = run("predict", trained, named, "--csv", "-")
    assert code == 0
    assert len(out.split("\n")) == 3  # heads, a row and the end
    named.unlink()


def test_a_table_is_not_written_over_an_input(run: Run, trained: Path, images: Path) -> None:
    text = "path,group\na.png,a\n"
    Path("groups.csv").write_text(text)
    for option in ("--csv", "--out"):
        code, _, err = run(
            "predict", trained, images / "red", "--groups", "groups.csv", option, "./groups.csv"
        )
        assert (code, err.count("\n")) == (2, 1)
        assert f"{option} groups.csv would overwrite an input" in err
    assert Path("groups.csv").read_text() == text


def test_csv_and_json_exclude_each_other(run: Run, trained: Path, images: Path) -> None:
    code, _, err = run("predict", trained, images, "--csv", "-", "--json")
    assert code == 2
    assert "--csv - and --json both print to standard output" in err


def test_a_table_is_written_beside_lines_and_drawn_images(
    run: Run, trained: Path, images: Path
) -> None:
    _, table, _ = run("predict", trained, images / "blue", "--csv", "-")
    code, out, _ = run("predict", trained, images / "blue", "--csv", "own.csv", "--out", "drawn")
    assert (code, Path("own.csv").read_text()) == (0, table)
    assert len(out.splitlines()) == len(table.splitlines()) - 1
    assert Path("drawn/predictions.json").is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--csv", "found.txt"],
            "--csv found.txt is not a path of a file with the suffix .csv; or pass -",
        ),
        (["--csv", "--out", "found.csv"], "--csv --out is not a path"),
        (["--out", "-"], "to print predictions, pass --csv - or --json"),
    ],
)
def test_what_is_no_table_is_answered_with_what_to_pass(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "no-model", "a.jpg", *given]) == 2
    assert message in capsys.readouterr().err.replace("\n", "")


def test_several_processes_require_out(
    run: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    code, _, err = run("fit", images, "--task", "colors", *FAST)
    assert code == 2
    assert "several processes require --out FOLDER" in err


def test_an_interrupted_fit_prints_the_command_to_continue_and_resumes(
    run: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop:
        @hookimpl
        def epoch_ended(self, record: dict[str, Any]) -> None:
            if record["epoch"] == 1:
                raise KeyboardInterrupt

    class Plugin:
        @hookimpl
        def register_callbacks(self) -> list[type[Any]]:
            return [type("Named", (Stop,), {"name": "stop"})]

    if "stop" not in plugins().callbacks():
        plugins().register(Plugin(), "stop")
    words = ["--epochs", 4, "--schedule", "gradual", "--checkpoint-every", 1, *FAST]
    code, out, err = run(
        "fit", images, "--task", "colors", "--out", "a run", *words, "--callback", "stop"
    )
    assert (code, out) == (130, "")
    last = err.splitlines()[-1]
    assert last.startswith("error: interrupted; continue with: visiongraft fit ")
    program, *resume = shlex.split(last.partition("continue with: ")[2])
    assert program == "visiongraft"
    code, out, err = run(*resume)
    assert code == 0, err
    assert Path("a run/model/model.safetensors").is_file()
    assert len(Path("a run/metrics.jsonl").read_text().splitlines()) == 4


def test_an_interrupt_before_the_first_checkpoint_is_reported_as_such(
    run: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("visiongraft.fitting.fit", interrupted)
    code, _, err = run("fit", images, "--task", "colors", "--out", "run")
    assert (code, err) == (
        130,
        "error: interrupted before the first checkpoint; nothing to resume\n",
    )


def test_a_finished_run_is_not_overwritten(run: Run, trained: Path, images: Path) -> None:
    before = (trained / "metrics.jsonl").read_bytes()
    code, out, err = run("fit", images, "--task", "colors", "--out", trained, *FAST)
    assert (code, out) == (2, "")
    assert "run already contains a run" in err
    assert (trained / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "nowhere", "--out", "r", "--task", "colors", *FAST], "nowhere"),
        (["fit", "images", "--out", "r", "--task", "color"], "did you mean 'colors'?"),
        (
            ["fit", "images", "--out", "r", "--task", "colors", "--backbone", "toys/tox"],
            "toys/toy",
        ),
        (
            ["fit", "images", "--out", "r", "--task", "colors", *FAST, "--schedule", "ful"],
            "'full'",
        ),
        (
            ["fit", "images", "--out", "r", "--task", "colors", *FAST, "--epochs", "0"],
            "epochs=0",
        ),
        (["fit", "images", "--out", "r", "--resume"], "r contains no run to resume"),
        (["evaluate", "nowhere", "images"], "nowhere does not exist"),
        (["evaluate", "images", "images"], "images"),
        (["predict", "nowhere", "images"], "nowhere does not exist"),
        (["export", "nowhere", "x.echo"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_input_is_one_line_and_leaves_no_run(
    run: Run, images: Path, words: list[str], message: str
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("r/config.json").exists()


def test_evaluate_measures_a_run_and_a_saved_model_alike(
    run: Run, trained: Path, images: Path
) -> None:
    code, out, _ = run("evaluate", trained, images, "--json")
    values = json.loads(out)
    assert code == 0
    assert values["images"] == values["seen"] == 24
    assert json.loads(run("evaluate", trained / "model", images, "--json")[1]) == values
    code, out, _ = run("evaluate", trained, images)
    assert ["share_right", f"{values['share_right']:.4f}"] in [x.split() for x in out.splitlines()]


def test_evaluate_tells_what_it_measured_and_what_was_in_training(
    run: Run, trained: Path, images: Path
) -> None:
    code, out, err = run("evaluate", trained, images)
    assert code == 0
    assert out.splitlines()[-1] == (
        "measured on all images of the dataset: 24 images, 18 images seen in training"
    )
    [line] = err.splitlines()
    assert line.startswith(
        "warning: 18 of 24 evaluated images were in training, so that the results"
    )
    values = json.loads(run("evaluate", trained, images, "--json")[1])
    assert (values["split"], values["images_seen_in_training"]) == ("all", 18)
    assert [f"warning: {each}" for each in values["warnings"]] == [line]


def test_evaluate_of_new_images_warns_of_nothing(run: Run, trained: Path, images: Path) -> None:
    for path in images.rglob("*.png"):
        Image.fromarray(np.array(Image.open(path)) ^ 1).save(path)
    code, out, err = run("evaluate", trained, images)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith(": 24 images, 0 images seen in training")


def test_evaluate_names_what_was_skipped(run: Run, trained: Path, images: Path) -> None:
    for number in range(100, 201):
        Image.new("RGB", (24, 20), (number, 0, 9)).save(images / "red" / f"{number}.png")
    (images / "red" / "150.png").write_bytes(b"no image")
    (images / "red" / "notes.txt").write_text("no image")
    code, out, err = run("evaluate", trained, images, "--json")
    values = json.loads(out)
    assert code == 0
    assert (values["images"], values["unreadable"]) == (124, 1)
    lines = err.splitlines()
    assert any("notes.txt" in line for line in lines)
    assert any(line.startswith("warning: 1 unreadable images were dropped: ") for line in lines)
    assert any("150.png" in line for line in lines)


def test_evaluate_prints_a_table_of_groups(run: Run, trained: Path, images: Path) -> None:
    code, out, err = run("evaluate", trained, images, "--by", "parity")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()]
    (start,) = (i for i, row in enumerate(rows) if row[:1] == ["parity"])
    assert rows[start] == ["parity", "share_right", "seen", "images"]
    assert [(row[0], row[-1]) for row in rows[start + 1 :]] == [("even", "12"), ("odd", "12")]
    warning, error = run("evaluate", trained, images, "--by", "parities")[2].splitlines()
    assert warning.startswith("warning: 18 of 24 evaluated images were in training")
    assert error == "error: by='parities': no sample has this attribute; did you mean 'parity'?"


def test_fit_continues_with_a_model_and_prints_the_evaluation_sets(
    run: Run, trained: Path, images: Path
) -> None:
    words = ["fit", images, "--start", trained, "--out", "again", "--schedule", "full"]
    words += ["--epochs", 1, "--device", "cpu", "--evaluate-on", f"old={images}"]
    code, out, err = run(*words, "--select", "best(old.share_right >= -1)", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["selection"]["satisfied"]
    before = run("evaluate", trained, images, "--json")[1]
    told = values["evaluation"]["old.share_right before training"]
    assert told == json.loads(before)["share_right"]
    assert f"old share_right {told:.4f}" in err
    code, out, _ = run("fit", images, "--out", "again", "--resume")
    assert ["old", f"{values['evaluation']['old.share_right']:.4f}"] in [
        line.split() for line in out.splitlines()
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--evaluate-on", "old"], "--evaluate-on old: expected NAME=PATH"),
        (["--stream", "a=x", "--stream", "a=y"], "--stream a=y: 'a' appears twice"),
        (["--select", "worst"], "select='worst' is not 'best', 'last' or"),
        (["--stream", "a=x"], "neither task 'colors' nor a transfer loss uses 'a'"),
    ],
)
def test_a_malformed_dataset_or_selection_is_refused(
    run: Run, images: Path, words: list[str], message: str
) -> None:
    code, _, err = run("fit", images, "--task", "colors", "--out", "run", *FAST, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not Path("run").exists()


def test_predict_prints_one_line_per_image(run: Run, trained: Path, images: Path) -> None:
    first = images / "red" / "0.png"
    code, out, err = run("predict", trained, first, images / "blue")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert len(lines) == 1 + 8
    assert lines[0].startswith(f"{first}: color ")
    assert "scores" not in lines[0]


def test_predict_prints_the_summary_of_a_prediction(
    run: Run, trained: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Color, "summary", lambda self: f"mostly {self.color}", raising=False)
    first = images / "red" / "0.png"
    code, out, _ = run("predict", trained, first)
    assert code == 0
    assert out.startswith(f"{first}: mostly ")
    assert "mostly" not in run("predict", trained, first, "--json")[1]


def test_predict_in_json_is_what_the_model_predicts(run: Run, trained: Path, images: Path) -> None:
    code, out, _ = run("predict", trained, images, "--json", "--batch-size", 5)
    found = json.loads(out)["predictions"]
    expected = visiongraft.load(trained).predict([one["image"] for one in found])
    assert code == 0
    assert [one["color"] for one in found] == [one.color for one in expected]
    scores = [one["scores"] for one in found]
    np.testing.assert_allclose(scores, [one.scores for one in expected], rtol=1e-5)


def test_predict_writes_images_and_predictions(run: Run, trained: Path, images: Path) -> None:
    code, out, _ = run("predict", trained, images / "red", "--out", "shown", "--json")
    assert code == 0
    assert json.loads(Path("shown/predictions.json").read_text()) == json.loads(out)["predictions"]
    assert len(list(Path("shown").glob("*.jpg"))) == 8


def test_predict_skips_unreadable_files_of_a_folder_and_names_them(
    run: Run, trained: Path, images: Path
) -> None:
    mixed = Path("mixed")
    shutil.copytree(images / "red", mixed)
    (mixed / "00.png").write_bytes(b"no image")
    code, out, _ = run("predict", trained, mixed)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 8 + 1
    assert lines[-1].startswith("warning: unreadable images skipped: 1 (mixed/00.png")
    found = json.loads(run("predict", trained, mixed, "--json")[1])
    assert len(found["predictions"]) == 8 and len(found["unreadable"]) == 1

    code, out, err = run("predict", trained, mixed, mixed / "00.png")  # this one is given by name
    assert (code, out) == (2, "") and "mixed/00.png" in err
    for good in (path for path in mixed.iterdir() if path.name != "00.png"):
        good.unlink()
    code, out, err = run("predict", trained, mixed)
    assert (code, out) == (2, "") and "mixed contains no readable images: mixed/00.png" in err


def test_predict_on_an_empty_folder_is_refused(run: Run, trained: Path) -> None:
    Path("empty").mkdir()
    code, out, err = run("predict", trained, "empty")
    assert (code, out) == (2, "")
    assert err.startswith("error: empty contains no images")


def test_a_file_that_is_not_a_model_is_refused(run: Run, images: Path) -> None:
    Path("notes.txt").write_text("no model")
    code, _, err = run("predict", "notes.txt", images)
    assert code == 2
    assert err.startswith("error: notes.txt is not an exported model")


def test_a_provider_is_for_exported_files(run: Run, trained: Path, images: Path) -> None:
    code, _, err = run("predict", trained, images, "--provider", "cuda")
    assert code == 2
    assert "--provider requires an exported file" in err


def test_export_prints_what_was_proved(run: Run, trained: Path) -> None:
    code, out, err = run("export", trained, "m.echo")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["inputs", "batch", "images", "difference", "mismatches"]
    assert lines[1].split()[0::3] == ["real", "1.0e-06"]
    assert lines[2] == "share_right: 0.5000 in PyTorch, 0.5000 in the exported file"
    assert lines[3] == "warning: a toy"
    assert lines[4].startswith("proved: relative differences at most 1.0e-06 (tolerance 1e-04)")
    assert Path("m.echo").is_file()


def test_export_passes_on_precision_and_settings_and_prints_what_was_proved(
    run: Run, trained: Path
) -> None:
    words = ["--precision", "fp16", "--set", "budget=0.02"]
    code, out, _ = run("export", trained, "x.echo", *words)
    assert code == 0
    assert Path("x.echo").read_text() == 'echo {"budget": 0.02, "precision": "fp16"}'
    made = "settings: head fp32, scale 0.2500, left 4 (stem, first, second and 1 more)"
    assert out.splitlines()[-3] == made
    assert out.splitlines()[-1] == (
        "proved: fp16 stays within its budget of 0.02; changed predictions on real images: "
        "2 of 40 (5.00%)"
        "; wrote x.echo"
    )


@pytest.mark.parametrize("position", [0, 1, 2])
def test_export_takes_options_of_the_exporter_at_any_position(
    position: int, run: Run, trained: Path
) -> None:
    words: list[object] = [trained, "x.echo"]
    words[position:position] = ["--shelf", "top", "--most-rows=3"]
    assert run("export", *words, "--set", "precise=true")[0] == 0
    options = json.loads(Path("x.echo").read_text().removeprefix("echo "))
    assert options == {"shelf": "top", "most_rows": 3, "precise": True}


@pytest.mark.parametrize("words", [["--shelf"], ["--shelf", "--json"], ["--shelf="]], ids=str)
def test_an_option_of_the_exporter_without_a_value_is_invalid(
    words: list[str], run: Run, trained: Path
) -> None:
    code, _, err = run("export", trained, "x.echo", *words)
    assert code == 2
    assert err == "error: --shelf requires a value, such as --shelf NAME\n"
    assert not Path("x.echo").exists()


def test_arguments_after_two_dashes_are_not_options(run: Run, trained: Path) -> None:
    assert run("export", "--", trained, "--x.echo")[0] == 0
    assert Path("--x.echo").read_text() == "echo {}"


def test_export_in_json_is_the_certificate(run: Run, trained: Path, images: Path) -> None:
    code, out, _ = run("export", trained, "m.x", "--format", "echo", "--data", images, "--json")
    values = json.loads(out)
    assert code == 0
    assert (values["path"], values["difference"], values["mismatches"]) == ("m.x", 1e-6, 0)
    assert values["comparisons"][0]["images"] == 24


def test_a_failed_proof_exits_with_1(run: Run, trained: Path) -> None:
    code, out, err = run("export", trained, "m.echo", "--set", "fail=true")
    assert (code, out) == (1, "")
    assert err == "error: the exported file disagrees with PyTorch\n"


def test_an_unknown_format_names_those_that_exist(run: Run, trained: Path) -> None:
    code, _, err = run("export", trained, "m.echo", "--format", "ecko")
    assert code == 2
    assert "did you mean 'echo'?" in err


def test_no_space_left_is_one_line(run: Run, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.replace", full)
    code, out, err = run("fit", images, "--task", "colors", "--out", "r", *FAST)
    assert (code, out) == (2, "")
    assert "No space left on device" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_an_exported_file_is_evaluated_with_the_metrics_of_its_task(
    run: Run, trained: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Predictor:
        """Replaces any runtime; the built-in one is tested with its exporter."""

        metadata = {  # noqa: RUF012
            "task": "colors",
            "task_options": {"classes": 3},
            "input": {"channels": 3},
        }

        def __init__(self, path: Path, *settings: Any) -> None:
            self.model = visiongraft.load(trained)

        def run(self, images: Any) -> dict[str, Any]:
            assert images.ndim == 4
            found = self.model.predict(list(images))
            names = ("blue", "green", "red")
            return {"label": np.array([names.index(one.color) for one in found])}

    large = Image.open(images / "red" / "0.png").resize((40, 30))
    large.save(images / "red" / "1.png")
    direct = visiongraft.load(trained).evaluate(images)
    monkeypatch.setattr(models, "_exported", Predictor)
    code, out, err = run("evaluate", "m.file", images, "--json", "--batch-size", 5)
    values = json.loads(out)
    assert code == 0, err
    assert values["share_right"] == direct["share_right"]
    assert values["seen"] == values["images"] == 25
    assert values["unreadable"] == 0
    assert (values["split"], values["images_seen_in_training"]) == ("all", None)
    assert err == ""
    out = run("evaluate", "m.file", images, "--batch-size", 5)[1]
    assert out.splitlines()[-1] == "measured on all images of the dataset: 25 images"
    values = json.loads(run("evaluate", "m.file", images, "--json", "--by", "parity")[1])
    assert values["groups"] == visiongraft.load(trained).evaluate(images, by="parity")["groups"]


def test_a_manager_without_plugins_still_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = PluginManager(discover=False)
    monkeypatch.setattr("visiongraft.registry.manager.plugins", lambda: empty)
    assert json.loads(run("tasks", "--json")[1]) == {"tasks": []}
    assert json.loads(run("exporters", "--json")[1]) == {"exporters": []}


DEMO = """
def show(out):
    return {"out": out, "summary": [f"{__name__} in {out}"]}
"""


def test_demo_runs_what_is_installed(
    run: Run, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = "second = second:show\nfirst = first:show\n"
    install("demos", f"[visiongraft.demos]\n{points}", first=DEMO, second=DEMO)
    monkeypatch.setenv("VISIONGRAFT_DISABLE_PLUGINS", "visiongraft")
    assert run("demo") == (0, "first in demo\n", "")
    assert run("demo", "second", "--out", "x") == (0, "second in x\n", "")
    values = json.loads(run("demo", "first", "--json")[1])
    assert values == {"out": "demo", "summary": ["first in demo"]}
    assert run("demo", "secnod")[2] == "error: no demo 'secnod'; did you mean 'second'?\n"


def test_without_any_demo_the_command_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONGRAFT_DISABLE_PLUGINS", "visiongraft")
    assert run("demo") == (2, "", "error: no plugin with a demo is installed\n")
