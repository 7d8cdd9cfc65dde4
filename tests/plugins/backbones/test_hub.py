"""Downloads by the libraries' own code from a hub on the loopback address, and how they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.plugins.backbones import tiny_hf
from tests.plugins.backbones.hub_server import Hub, serving
from visiongraft import fit
from visiongraft.errors import WeightsError
from visiongraft.lookup.backbones import load_backbone

CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
}
NAMES = {
    "timm": "timm/hf-hub:tests/timm",
    "transformers": "hf/tests/vit",
    "open_clip": "open_clip/hf-hub:tests/clip",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a repository of each library."""
    root = tmp_path_factory.mktemp("repositories")
    torch.manual_seed(0)
    tiny_hf.write(root / "vit", tiny_hf.model_of("vit"))
    (root / "vit" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    for name in ("timm", "clip"):
        (root / name).mkdir()
    model = timm.create_model("test_vit", num_classes=3)
    save_file(model.state_dict(), root / "timm" / "model.safetensors")
    described = {**model.pretrained_cfg, "num_classes": 3, "license": "mit"}
    described = {
        k: v
        for k, v in described.items()
        if k in ("input_size", "mean", "std", "classifier", "license")
    }
    config = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": described}
    (root / "timm" / "config.json").write_text(json.dumps(config))
    save_file(open_clip.CLIP(**CLIP).state_dict(), root / "clip" / "open_clip_model.safetensors")
    (root / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP}))
    return root


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve these repositories, with an empty cache; the client waits for nothing."""
    with serving(Hub()) as hub:
        for folder in published.iterdir():
            hub.add(f"tests/{folder.name}", folder)
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        yield hub


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return NAMES[request.param]


def message(name: str) -> str:
    """Return the one line with which a backbone is refused."""
    with pytest.raises(WeightsError) as caught:
        load_backbone(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_library_downloads_into_the_cache_and_then_needs_no_hub(
    name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = load_backbone(name).state_dict()
    assert any(file.endswith(".safetensors") for file in hub.fetched())
    hub.requests.clear()
    again = load_backbone(name).state_dict()
    assert all(torch.equal(tensor, state[n]) for n, tensor in again.items())
    assert not any(file.endswith(".safetensors") for file in hub.fetched())
    hub.requests.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    load_backbone(name)
    assert not hub.requests


def test_license_and_origin_are_recorded(hub: Hub) -> None:
    provenance = load_backbone(NAMES["transformers"]).info.provenance
    assert (provenance["weights"], provenance["license"]) == ("tests/vit", "cc-by-nc-4.0")
    provenance = load_backbone(NAMES["timm"]).info.provenance
    assert (provenance["weights"], provenance["license"]) == ("hf-hub:tests/timm", "mit")


def test_large_files_come_from_another_host(name: str, hub: Hub) -> None:
    hub.redirects = True
    load_backbone(name)
    assert any(path.startswith("/elsewhere/") for _, path in hub.requests)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "no such repository, or it is private: check the name, or log in with"),
        (403, "its weights are gated: accept their terms on the hub's page, and log in"),
        (404, "no such repository, or it is private"),
        (429, "refuses further requests for now: wait, or log in"),
        (500, "the hub answered with status 500; try again later"),
    ],
)
def test_a_refusal_is_explained_with_its_remedy(
    status: int, words: str, name: str, hub: Hub
) -> None:
    hub.status = status
    text = message(name)
    assert words in text and "weights=FILE" in text


def test_a_broken_transfer_is_continued(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 500)
    hub.broken = 20_000
    state = load_backbone(NAMES["transformers"]).state_dict()
    assert 20_000 in hub.ranges
    reference = load_backbone(NAMES["transformers"]).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in reference.items())


def test_a_transfer_that_breaks_again_and_again_is_explained(hub: Hub) -> None:
    hub.broken = 2000
    words = "the transfer broke off, and could not be continued; run it again"
    assert words in message(NAMES["transformers"])
    hub.broken = None
    load_backbone(NAMES["transformers"])


def test_a_damaged_transfer_is_noticed_by_its_checksum_and_fetched_again(
    name: str, hub: Hub
) -> None:
    hub.damaged = True
    assert "arrived damaged, as its SHA-256 shows, and was removed from the cache" in message(name)
    hub.damaged = False
    load_backbone(name)


def test_a_file_that_a_repository_lacks_is_named(hub: Hub) -> None:
    del hub.files["tests/vit", "model.safetensors"]
    assert "model.safetensors" in message(NAMES["transformers"])


def test_offline_with_an_empty_cache_says_so(
    name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, and the cache does not contain the file" in message(name)
    assert not hub.requests


def test_a_hub_that_does_not_answer_is_not_tried_for_long(
    name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub cannot be reached" in message(name)


def test_a_cache_that_cannot_be_written_is_named(
    name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "cache")

    monkeypatch.setattr("huggingface_hub.file_download.os.makedirs", refuse)
    assert "the cache folder cannot be written" in message(name)
    assert "set HF_HOME" in message(name)


def test_weights_are_resolved_before_data_are_read_and_no_run_folder_is_left(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = 404
    reads: list[int] = []

    class Images:
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> tuple[Any, str]:
            reads.append(index)
            return np.zeros((8, 8, 3), np.uint8), "ab"[index % 2]

    with pytest.raises(WeightsError, match="no such repository"):
        fit(Images(), task="classification", backbone="hf/tests/vit", out=tmp_path / "run")
    assert not reads
    assert not (tmp_path / "run").exists()


@pytest.mark.exhaustive
def test_the_command_downloads_from_the_endpoint_of_the_environment(
    hub: Hub, tmp_path: Path
) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    code = f"import visiongraft as vg\nfor n in {list(NAMES.values())}: vg.load_backbone(n)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
    assert sum(file.endswith(".safetensors") for file in hub.fetched()) == len(NAMES)


@pytest.mark.exhaustive
@pytest.mark.parametrize("excepted", [False, True])
def test_the_proxy_of_the_environment_is_used_unless_the_hub_is_excepted(
    hub: Hub, tmp_path: Path, excepted: bool
) -> None:
    lower = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment = {**lower, "HF_ENDPOINT": "http://hub.invalid", "HF_HOME": str(tmp_path / "home")}
    environment |= {"HTTP_PROXY": hub.url, "http_proxy": hub.url}
    if excepted:
        environment |= {"NO_PROXY": "hub.invalid", "no_proxy": "hub.invalid"}
    code = f"import visiongraft as vg\nfor n in {list(NAMES.values())}: vg.load_backbone(n)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=False,
        timeout=300,
        capture_output=True,
        text=True,
    )
    if excepted:
        assert "the hub cannot be reached" in done.stderr
        assert not hub.proxied
    else:
        assert done.returncode == 0, done.stderr
        assert set(hub.proxied) == {"hub.invalid"}
        assert sum(file.endswith(".safetensors") for file in hub.fetched()) == len(NAMES)
