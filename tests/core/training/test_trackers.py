"""Trackers get every epoch once, also in runs that were killed, and resumed runs keep their callbacks."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker

import visiongraft
from visiongraft.errors import OptionError, PluginError
from visiongraft.hookspecs import hookimpl
from visiongraft.training import trackers
from visiongraft.training.trackers import TensorBoard, find_trackers


class Recorder(GeneralTracker):
    """Remembers what it is told."""

    name, requires_logging_directory = "recorder", False

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.steps: list[tuple[int | None, dict[str, Any]]] = []
        self.finished = 0

    @property
    def tracker(self) -> Recorder:
        return self

    def start(self) -> None: ...

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.steps.append((step, values))

    def finish(self) -> None:
        self.finished += 1


class Stopper:
    """Stops a run after an epoch, before or after trackers have noted it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    @hookimpl
    def epoch_ended(self, record: dict[str, Any]) -> None:
        if record["epoch"] == self.epoch:
            raise RuntimeError("stopped")


SETTINGS = {"schedule": "full", "epochs": 3, "checkpoint_every": 1}


def test_a_tracker_gets_settings_and_every_epoch_and_is_closed(fit_toy: Any, toy_data: Any) -> None:
    recorder = Recorder()
    fit_toy(toy_data(30), trackers=[recorder], evaluate_on={"more": toy_data(10)}, **SETTINGS)
    assert recorder.settings["epochs"] == 3 and recorder.settings["backbone"] == "toys/toy"
    assert [step for step, _ in recorder.steps] == [1, 2, 3]
    names = {"train/loss", "validation/share_right", "more/share_right", "learning_rate"}
    assert names <= set(recorder.steps[0][1])
    assert recorder.finished == 1


@pytest.mark.parametrize("trackers_first", [False, True])
def test_each_epoch_is_logged_once_by_a_killed_run_and_its_continuation(
    fit_toy: Any, toy_data: Any, tmp_path: Path, trackers_first: bool
) -> None:
    first, second, whole = Recorder(), Recorder(), Recorder()
    stopper: Any = Stopper(1)
    listeners = [trackers.GivenTracker(first), stopper]
    data = toy_data(30)
    with pytest.raises(RuntimeError, match="stopped"):
        fit_toy(
            data,
            out=tmp_path / "run",
            callbacks=listeners if trackers_first else listeners[::-1],
            **SETTINGS,
        )
    visiongraft.fit(data, out=tmp_path / "run", resume=True, callbacks=(), trackers=[second])
    fit_toy(data, trackers=[whole], **SETTINGS)
    assert first.steps + second.steps == whole.steps
    assert first.finished == second.finished == 1
    assert not second.settings  # the run of the tracker has them already


def test_tensorboard_goes_on_in_its_folder(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, data = tmp_path / "run", toy_data(30)
    with pytest.raises(RuntimeError, match="stopped"):
        fit_toy(data, out=run, callbacks=[Stopper(0)], trackers=["tensorboard"], **SETTINGS)
    visiongraft.fit(data, out=run, resume=True, callbacks=())
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3]
    assert json.loads((run / trackers.FILE).read_text())["tensorboard"]["epochs"] == 3


def test_a_resumed_run_has_the_callbacks_that_it_began_with(
    fit_toy: Any, toy_data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, data = tmp_path / "run", toy_data(30)
    with pytest.raises(RuntimeError, match="stopped"):
        fit_toy(data, out=run, callbacks=["curves", Stopper(0)], **SETTINGS)
    assert not (run / "curves.png").exists()
    visiongraft.fit(data, out=run, resume=True)
    assert (run / "curves.png").is_file() and not (run / "report.html").exists()
    assert "passed again" in caplog.text and "Stopper" in caplog.text


def test_callbacks_that_are_passed_replace_those_of_a_resumed_run(
    fit_toy: Any, toy_data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, data = tmp_path / "run", toy_data(30)
    with pytest.raises(RuntimeError, match="stopped"):
        fit_toy(data, out=run, callbacks=["curves", Stopper(0)], **SETTINGS)
    visiongraft.fit(data, out=run, resume=True, callbacks=[])
    assert not (run / "curves.png").exists()
    assert "passed again" not in caplog.text


def test_names_that_are_no_trackers_are_refused_with_those_that_are() -> None:
    with pytest.raises(OptionError, match="did you mean 'mlflow'"):
        find_trackers(["mlfow"])
    with pytest.raises(OptionError, match="'progress' is no name of one"):
        find_trackers(["progress"])
    with pytest.raises(OptionError, match="not a list"):
        find_trackers("wandb")


def test_a_missing_library_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r'pip install "visiongraft\[tensorboard\]"'):
        TensorBoard()


def test_an_error_of_the_library_names_the_tracker(fit_toy: Any, toy_data: Any) -> None:
    class Broken(Recorder):
        def start(self) -> None:
            raise OSError("no route\nto host")

    with pytest.raises(PluginError, match="tracker recorder cannot begin: no route to host"):
        fit_toy(toy_data(30), trackers=[Broken()], epochs=1)


def _stop_and_resume(fit_toy: Any, data: Any, run: Path, name: str) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        fit_toy(data, out=run, callbacks=[Stopper(0)], trackers=[name], **SETTINGS)
    visiongraft.fit(data, out=run, resume=True, callbacks=())


@pytest.mark.exhaustive
def test_trackio_has_one_run_with_every_epoch(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio", reason="make trackers")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from conftest import fit_toy, register_toys, toy_data
from pathlib import Path
import pytest
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_trackers import _stop_and_resume
register_toys()
_stop_and_resume(fit_toy, toy_data(30), Path({str(tmp_path / "run")!r}), "trackio")
from trackio.sqlite_storage import SQLiteStorage
runs = SQLiteStorage.get_runs("visiongraft")
logs = SQLiteStorage.get_logs("visiongraft", "run")
print("FOUND", len(runs), [log["step"] for log in logs if "train/loss" in log])
"""
    found = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert "FOUND 1 [1, 2, 3]" in found.stdout, found.stdout + found.stderr


@pytest.mark.exhaustive
def test_wandb_offline_files_are_of_one_run(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    _stop_and_resume(fit_toy, toy_data(30), tmp_path / "run", "wandb")
    folders = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    known = json.loads((tmp_path / "run" / trackers.FILE).read_text())["wandb"]
    assert len(folders) == 2 and known["epochs"] == 3
    assert all(folder.name.endswith(known["run"]["id"]) for folder in folders)
    steps = [step for folder in folders for step in _wandb_steps(next(folder.glob("*.wandb")))]
    assert steps == [1, 2, 3]


def _wandb_steps(path: Path) -> list[int]:
    """Read the steps at which a loss was logged from a file that waits to be synchronized."""
    from wandb.proto import wandb_internal_pb2

    steps = []
    for content in _log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        names = {item.key or ".".join(item.nested_key) for item in record.history.item}
        if "train/loss" in names:
            steps.append(record.history.step.num)
    return steps


def _log_records(content: bytes, block: int = 32768) -> Iterator[bytes]:
    """Split a file in the log format of LevelDB, after a header of 7 bytes, into its records."""
    position, whole = 7, b""
    while position + 7 <= len(content):
        if block - position % block < 7:
            position += block - position % block
        length, kind = struct.unpack_from("<HB", content, position + 4)
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # complete, or the last part
            yield whole
            whole = b""


def _mlflow_history(store: str, run: Path) -> list[int]:
    from mlflow.tracking import MlflowClient

    known = json.loads((run / trackers.FILE).read_text())["mlflow"]["run"]
    client = MlflowClient(store)
    (experiment,) = client.search_experiments(filter_string="name = 'visiongraft'")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_id == known["run_id"] and found.info.run_name == "run"
    assert found.data.params["backbone"] == "toys/toy"
    return [metric.step for metric in client.get_metric_history(known["run_id"], "train/loss")]


@pytest.mark.exhaustive
def test_mlflow_has_one_run_with_every_epoch_in_its_sqlite_store(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="make trackers")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(store)
    try:
        _stop_and_resume(fit_toy, toy_data(30), tmp_path / "run", "mlflow")
        assert _mlflow_history(store, tmp_path / "run") == [1, 2, 3]
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.exhaustive
def test_a_server_of_mlflow_has_one_run_with_every_epoch(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="make trackers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    server = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    store = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert server.poll() is None
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        mlflow.set_tracking_uri(store)
        _stop_and_resume(fit_toy, toy_data(30), tmp_path / "run", "mlflow")
        assert _mlflow_history(store, tmp_path / "run") == [1, 2, 3]
    finally:
        server.terminate()
        server.wait()
        mlflow.set_tracking_uri(None)
