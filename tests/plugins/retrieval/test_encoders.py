"""The text encoder of a trained model, found again: a folder that has moved, and one that is another."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft as vg
from tests.plugins.text_encoders import tiny_clip
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, OptionError
from visiongraft.plugins.retrieval.encoders import (
    NUMBERS,
    encoder_named,
    known_network,
    mark_of,
    trainable_network,
)
from visiongraft.plugins.retrieval.example import write_table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("captions"), 8, 0)


@pytest.fixture(scope="module", params=[False, True], ids=["frozen", "trained"])
def moved(
    request: pytest.FixtureRequest, table: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, Any]:
    """Return a model, the name of its text encoder after the folder has moved, and a vector from before."""
    folder = tmp_path_factory.mktemp("clip")
    name = f"open_clip/local-dir:{tiny_clip.write_open_clip(folder / 'tiny')}"
    model = vg.fit(
        table, backbone="simple_cnn", weights=None, size=32, schedule="full", epochs=1, batch_size=4,
        task_options={"text": name, "train_text": request.param}, callbacks=(), out=folder / "run",
    )  # fmt: skip
    vectors = model.embed(text="a red square")
    (folder / "tiny").rename(folder / "elsewhere")
    encoder_named.cache_clear()
    return folder / "run", f"open_clip/local-dir:{folder / 'elsewhere'}", vectors


def test_a_folder_that_has_moved_is_found_where_the_user_says(
    moved: tuple[Path, str, Any], table: Path, tmp_path: Path
) -> None:
    run, name, vectors = moved
    model = vg.load(run, text_encoder=name)
    np.testing.assert_allclose(model.embed(text="a red square"), vectors, atol=1e-6)
    assert model.evaluate(table)["mean_recall"] is not None
    model.save(tmp_path / "saved")  # with the new place
    again = vg.load(tmp_path / "saved")
    np.testing.assert_allclose(again.embed(text="a red square"), vectors, atol=1e-6)


def test_without_it_the_message_names_the_remedy(
    moved: tuple[Path, str, Any], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, name, _ = moved
    words = ["search", str(run), str(table.parent), "a red square", "--top", "1"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "if its folder has moved, pass where it is: load(..., text_encoder=NAME)" in error
    assert error.count("\n") == 1
    assert main([*words, "--text-encoder", name]) == 0
    assert main(["evaluate", str(run), str(table), "--text-encoder", name]) == 0


def test_another_encoder_is_refused(
    moved: tuple[Path, str, Any], table: Path, tmp_path: Path
) -> None:
    run, name, _ = moved
    other = tmp_path / "other"
    if vg.load(run, text_encoder=name).task.options()["train_text"]:
        with pytest.raises(
            ArtifactError, match=r"wordllama.* has no network that could be trained"
        ):
            vg.load(run, text_encoder="wordllama")
        return
    tiny_clip.write_open_clip(other, seed=1)
    model = vg.load(run, text_encoder=f"open_clip/local-dir:{other}")
    with pytest.raises(OptionError, match=r"is not the one .*: its vectors are others"):
        model.embed(text="a red square")
    with pytest.raises(OptionError, match=r"is not the one .*: its vectors are others"):
        model.evaluate(table)


def test_a_trained_network_is_told_by_what_it_computes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "tiny": {},
        "other weights": {"seed": 1},
        "other activation": {"quick_gelu": True},
        "other heads": {"text_cfg": {**tiny_clip.OPEN_CLIP["text_cfg"], "heads": 4}},
    }
    names = {
        kind: f"open_clip/local-dir:{tiny_clip.write_open_clip(tmp_path / kind, **changed)}"
        for kind, changed in kinds.items()
    }
    network = trainable_network(names["tiny"])
    state, weights = torch.get_rng_state(), deepcopy(network.state_dict())
    mark = mark_of(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    known_network(names["tiny"], mark)
    known_network(names["other weights"], mark)  # which the model's own replace
    for kind in ("other activation", "other heads"):
        with pytest.raises(OptionError, match=r"is not the one .*: its layers are others"):
            known_network(names[kind], mark)
    assert not caplog.records
    for old in ((), mark[:-NUMBERS]):
        known_network(names["other activation"], old)
        assert "cannot be checked" in caplog.records.pop().getMessage()
    with pytest.raises(OptionError, match=r"is not the one .*: its tokens are others"):
        known_network(names["tiny"], (mark[0], mark[1] + 1, *mark[2:]))


def test_a_model_without_texts_takes_no_encoder(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    model = vg.fit(
        [(pixels, "a"), (pixels + 255, "b")] * 4, task="classification", backbone="simple_cnn",
        weights=None, size=16, epochs=1, out=tmp_path / "run", callbacks=(),
    )  # fmt: skip
    assert model.run_folder is not None
    with pytest.raises(OptionError, match=r"task 'classification' .* omit text_encoder"):
        vg.load(tmp_path / "run", text_encoder="wordllama")
