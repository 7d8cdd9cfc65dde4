"""The built-in callbacks: readable without a terminal, and files where they are documented."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import visiongraft
from visiongraft.errors import PluginError
from visiongraft.hookspecs import hookimpl
from visiongraft.training.callbacks import ConsoleProgress


def test_progress_is_plain_lines_on_standard_error_when_there_is_no_terminal(
    fit_toy, toy_data, capsys
):
    fit_toy(toy_data(30), schedule="lp_ft", epochs=2, callbacks=["progress"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    for words in (
        "toys/toy for toy: 24 training, 6 validation images",
        "phase 1: head, 1 epoch,",
        "epoch 1/2: loss",
        "share_right",
        "frozen tensors unchanged",
    ):
        assert words in err


def test_progress_on_a_terminal_has_a_bar_for_each_epoch(
    fit_toy: Any, toy_data: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    fit_toy(toy_data(30), schedule="lp_ft", epochs=2, callbacks=["progress"])
    out, err = capsys.readouterr()
    assert out == ""
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
    for words in ("epoch 1/2 ━", "epoch 2/2 ━", "/2 loss ", "epoch 2/2: loss"):
        assert words in shown
    assert err.count("\x1b[?25l") == err.count("\x1b[?25h")  # the cursor is there again


def test_epochs_have_their_time_and_the_rest_is_estimated(
    fit_toy: Any, toy_data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_toy(toy_data(30), schedule="full", epochs=2, callbacks=["progress"])
    first, last = re.findall(r"^epoch .*$", capsys.readouterr().err, re.MULTILINE)
    assert re.search(r"; [\d.e-]+ s, about [\d.e-]+ s left$", first)
    assert re.search(r"; [\d.e-]+ s$", last)


@pytest.mark.parametrize("callbacks", [(), ("progress",)])
def test_the_log_of_a_run_has_each_epoch_once(
    fit_toy: Any,
    toy_data: Any,
    tmp_path: Path,
    callbacks: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit_toy(toy_data(30), schedule="full", epochs=2, out=tmp_path / "run", callbacks=callbacks)
    lines = (tmp_path / "run" / "run.log").read_text().splitlines()
    assert sum("INFO epoch 1/2: loss" in line for line in lines) == 1
    assert sum("INFO epoch 2/2: loss" in line for line in lines) == 1
    assert capsys.readouterr().err.count("epoch 1/2: loss") == len(callbacks)


@pytest.mark.parametrize("terminal", ["0", "1"])
def test_progress_lets_go_of_log_and_terminal_also_after_a_failure(
    fit_toy: Any,
    toy_data: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: str,
) -> None:
    class Stop:
        @hookimpl
        def step_ended(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    handlers = list(logging.getLogger("visiongraft").handlers)
    progress = ConsoleProgress()
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(30), schedule="full", epochs=1, callbacks=[progress, Stop()])
    assert logging.getLogger("visiongraft").handlers == handlers
    assert progress.display.open == 0
    assert not progress.display.bars.live.is_started
    capsys.readouterr()
    logging.getLogger("visiongraft").warning("afterwards")
    assert "afterwards" not in capsys.readouterr().err


def test_progress_shows_what_was_dropped_and_where_a_resumed_run_continues(
    Toy: Any, fit_toy: Any, toy_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Warning_(Toy):  # type: ignore[misc]
        def read(self, data: Any, **options: Any) -> Any:
            return replace(super().read(data, **options), warnings=("class 2 is rare",))

    class Stop:
        @hookimpl
        def checkpoint_saved(self) -> None:
            raise KeyboardInterrupt

    settings = {"task": Warning_(augment=False), "out": tmp_path / "run", "schedule": "full"}
    data = toy_data(30)
    with pytest.raises(KeyboardInterrupt):
        fit_toy(data, epochs=2, checkpoint_every=1, callbacks=["progress", Stop()], **settings)
    shown = capsys.readouterr().err
    assert "warning: class 2 is rare" in shown and "goes on" not in shown
    visiongraft.fit(data, out=tmp_path / "run", resume=True, task=settings["task"])
    assert "resuming at epoch 1, step 2" in capsys.readouterr().err


def test_a_run_without_a_checkpoint_logs_that_it_starts_over(
    fit_toy: Any, toy_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], Toy: Any
) -> None:
    class Stop:
        @hookimpl
        def step_ended(self) -> None:
            raise KeyboardInterrupt

    data, out = toy_data(30), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit_toy(data, epochs=1, schedule="full", out=out, callbacks=["progress", Stop()])
    visiongraft.fit(data, out=out, resume=True, task=Toy(augment=False))
    words = "warning: the run has no checkpoint yet and starts from the beginning"
    assert words in capsys.readouterr().err


def test_progress_shows_what_is_logged(
    fit_toy: Any, toy_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_toy(toy_data(30), schedule="full", epochs=1, out=tmp_path / "run", callbacks=["progress"])
    assert "no replay: every stage trains" in capsys.readouterr().err


@dataclass
class Count:
    """Like all dataclasses that can be compared, not hashable."""

    steps: int = 0

    @visiongraft.hookimpl
    def step_ended(self) -> None:
        self.steps += 1


def test_a_callback_need_not_be_hashable(fit_toy, toy_data, tmp_path):
    count = Count()
    model = fit_toy(toy_data(6), callbacks=[count])
    assert count.steps > 0
    assert model.evaluate(toy_data(6))


def test_curves_are_an_image(fit_toy, toy_data, tmp_path):
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=3, callbacks=["curves"])
    with Image.open(tmp_path / "run" / "curves.png") as image:
        assert image.width > 600


def test_callbacks_that_write_need_a_folder_only_if_it_is_all_they_do(fit_toy, toy_data):
    fit_toy(toy_data(30), epochs=1, callbacks=["curves"])
    with pytest.raises(PluginError, match="needs out=FOLDER"):
        fit_toy(toy_data(30), epochs=1, callbacks=["tensorboard"])


def test_tensorboard_gets_every_value(fit_toy, toy_data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit_toy(toy_data(30), out=tmp_path / "run", epochs=2, callbacks=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"train/loss", "validation/share_right"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2]
