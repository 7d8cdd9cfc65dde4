"""Metadata and certificates of other types than expected end in one line, never in a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from visiongraft.cli import main
from visiongraft.exporters.runtime.onnx_content import certificate_field, content_sha256

VALUES: tuple[Any, ...] = (None, 1, "x", [], {}, [1], {"a": 1}, True, -1.5, 10**400, "NaN", [[{}]])
KEYS = ("task", "task_options", "task_metadata", "preprocess", "input", "outputs", "precision")
FIELDS = ("comparisons", "difference", "tolerance", "budget", "metric_exported", "certified")
OTHERS = (
    "format",
    "versions",
    "backbone",
    "training",
    "opset",
    "task_class",
    "functions",
    "weights_sha256",
)
OTHER_FIELDS = ("mismatches", "headline", "precision", "content_sha256", "metadata_sha256")


def few() -> Iterator[Any]:
    """Yield one value for each key, and more in the exhaustive run."""
    keys = [(key, False) for key in (*KEYS, *OTHERS)]
    for i, (key, inside) in enumerate([*keys, *((f, True) for f in (*FIELDS, *OTHER_FIELDS))]):
        for j in range(len(VALUES)):
            marks = [] if j == 0 and key in (*KEYS, *FIELDS) else [pytest.mark.exhaustive]
            where = "certificate" if inside else "metadata"
            odd = (3 * i + 1 + j) % len(VALUES)
            yield pytest.param(key, inside, odd, marks=marks, id=f"{where} {key} {odd}")


def written(exported: Any, folder: Path, key: str, inside: bool, value: Any) -> Path:
    model = exported.load()
    properties = {p.key: json.loads(p.value) for p in model.metadata_props}
    certificate = properties.pop("certificate")
    (certificate if inside else properties)[key] = value
    helper.set_model_props(model, {k: json.dumps(v) for k, v in properties.items()})
    path = folder / "odd.onnx"
    onnx.save(model, path)
    if key != "content_sha256":
        certificate["content_sha256"] = content_sha256(path)
    path.write_bytes(path.read_bytes() + certificate_field(json.dumps(certificate)))
    return path


@pytest.mark.parametrize(("key", "inside", "odd"), list(few()))
def test_verify_never_ends_in_a_traceback(
    key: str,
    inside: bool,
    odd: int,
    exported: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(exported, tmp_path, key, inside, VALUES[odd])
    code = main(["verify", str(path)])
    told = capsys.readouterr()
    assert code in (0, 1, 2), told.err
    if code == 2:
        assert told.err.startswith("error: ") and told.err.count("\n") == 1


def test_names_in_a_file_are_printed_escaped(
    exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[2J\x07\nfake line"
    path = written(exported, tmp_path, "task", False, evil)
    main(["verify", str(path)])
    told = capsys.readouterr()
    assert not set("\x1b\x07") & set(told.out + told.err)
    assert r"\x07\nfake line" in told.out


def test_a_tensor_of_a_hostile_name_is_printed_escaped(
    exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = exported.load()
    (entry,) = model.graph.input
    for node in model.graph.node:
        node.input[:] = ["a\x1b[2J\nb" if name == entry.name else name for name in node.input]
    entry.name = "a\x1b[2J\nb"
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)
    for words in (["verify"], ["bench"], ["triton"]):
        more = [str(tmp_path / "repository")] if words == ["triton"] else []
        assert main([*words, str(path), *more]) == 2
        told = capsys.readouterr()
        assert "\x1b" not in told.out + told.err and told.err.count("\n") == 1
