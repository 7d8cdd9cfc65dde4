"""The command ``advise``: text for a person, or JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visiongraft.advice.trials import Trials
from visiongraft.cli import main
from visiongraft.plugins.classification.example import write_folder


def test_advice_is_printed_and_is_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Trials, "run", lambda self, embedded: self._fit_head(embedded.features)
    )  # the rest has its own tests
    words = ["advise", str(write_folder(tmp_path, 24, 0, class_names=()))]
    words += ["--task", "classification", "--weights", "none", "--size", "32", "--epochs", "2"]
    words += ["--backbone", "simple_cnn", "--scorer", "knn(k=3)", "--within", "20s"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ranking"][0]["scores"]["knn(k=3)"]["value"] is not None
    assert main([*words, "--html", str(tmp_path / "advice.html")]) == 0
    assert "knn(k=3)" in (tmp_path / "advice.html").read_text()
    shown = capsys.readouterr().out
    assert shown.startswith("backbone") and "training images in" in shown
