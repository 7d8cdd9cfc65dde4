from __future__ import annotations

import re
from pathlib import Path

import onnxruntime
import pytest

from visiongraft.errors import OptionError
from visiongraft.exporters.runtime import engine_cache
from visiongraft.exporters.runtime.engine_cache import (
    cache_folder,
    cache_options,
    private_folder,
    tensorrt_version,
)


def model(folder: Path, content: bytes = b"a", name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_the_folder_depends_on_content_and_versions_not_on_the_name(tmp_path: Path) -> None:
    folder = cache_folder(model(tmp_path), "10.9.0", tmp_path / "cache")
    assert folder.parent == tmp_path / "cache"
    assert re.fullmatch(
        rf"[0-9a-f]{{16}}-onnxruntime-{onnxruntime.__version__}-tensorrt-10\.9\.0", folder.name
    )
    renamed = cache_folder(model(tmp_path, name="n.onnx"), "10.9.0", tmp_path / "cache")
    assert renamed == folder
    assert cache_folder(model(tmp_path), "10.9.1", tmp_path / "cache") != folder
    assert cache_folder(model(tmp_path, b"b"), "10.9.0", tmp_path / "cache") != folder


def test_engines_are_in_the_users_cache_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONGRAFT_CACHE", str(tmp_path / "mine"))
    assert cache_folder(model(tmp_path), "10.9.0").parent == tmp_path / "mine" / "tensorrt"


def test_nobody_else_may_write_to_the_folder_of_engines(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    for mode in (0o777, 0o770, 0o702):
        folder.chmod(mode)
        with pytest.raises(OptionError, match="other users can write to it"):
            private_folder(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be used for TensorRT's engines"):
        private_folder(tmp_path / "file")


def test_without_tensorrt_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_cache, "_LIBRARIES", ("no-such-library.so.1",))
    assert tensorrt_version() is None
    assert cache_options(model(tmp_path), tmp_path / "cache") == {}
    assert not (tmp_path / "cache").exists()


def test_a_library_that_is_not_tensorrt_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_cache, "_LIBRARIES", ("libc.so.6",))
    assert tensorrt_version() is None
