"""The built-in listeners: readable without a terminal, and files where they promise them."""

from __future__ import annotations

import sys

import pytest
from PIL import Image

from visiongraft.errors import PluginError
from visiongraft.listeners import TensorBoard


def test_progress_is_plain_lines_on_standard_error_when_there_is_no_terminal(
    fit_toy, toy_data, capsys
):
    fit_toy(toy_data(30), schedule="lp_ft", epochs=2, listeners=["progress"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    for words in (
        "toys/toy for toy: 24 training, 6 validation pictures",
        "phase 1: head, 1 epochs",
        "epoch 1/2: loss",
        "share_right",
        "frozen tensors unchanged",
    ):
        assert words in err


def test_curves_are_a_picture(fit_toy, toy_data, tmp_path):
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=3, listeners=["curves"])
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        assert picture.width > 600


def test_listeners_that_write_need_a_folder_only_if_it_is_all_they_do(fit_toy, toy_data):
    fit_toy(toy_data(30), epochs=1, listeners=["curves"])
    with pytest.raises(PluginError, match="needs out=FOLDER"):
        fit_toy(toy_data(30), epochs=1, listeners=["tensorboard"])


def test_tensorboard_gets_every_value(fit_toy, toy_data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit_toy(toy_data(30), out=tmp_path / "run", epochs=2, listeners=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"train/loss", "validation/share_right"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("train/loss")] == [0, 1]


def test_a_missing_tensorboard_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PluginError, match=r'pip install "visiongraft\[tensorboard\]"'):
        TensorBoard()
