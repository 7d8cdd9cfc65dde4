"""Built-in text encoders against the libraries that they come from."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.plugins.text_encoders import tiny_clip
from visiongraft import load_backbone, load_text_encoder
from visiongraft.errors import BackboneError, PluginError, VisiongraftError, WeightsError
from visiongraft.plugins.text_encoders.wordllama_text import WordllamaSource
from visiongraft.testing import check_text_encoder

TEXTS = ["a photo of a cat", "truck", "a very small dog in the grass"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    hf = {kind: tiny_clip.write_hf(root / kind, kind) for kind in ("clip", "siglip")}
    return {**hf, "open_clip": tiny_clip.write_open_clip(root / "tiny")}


def test_open_clip_encodes_as_the_library_does(folders: dict[str, Path]) -> None:
    name = f"local-dir:{folders['open_clip']}"
    encoder = load_text_encoder(f"open_clip/{name}")
    model: Any = open_clip.create_model(name).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer(name)(TEXTS)).numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)
    info = encoder.info
    assert (info.name, info.dim) == ("open_clip/local-dir:tiny", 12)
    assert info.provenance["weights"] == "local-dir:tiny"
    assert info.pairing is not None and info.pairing.projection is None
    assert info.pairing.scale == pytest.approx(model.logit_scale.exp().item())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers_encodes_as_the_library_does(kind: str, folders: dict[str, Path]) -> None:
    folder = folders[kind]
    encoder = load_text_encoder(f"hf/{folder}")
    model: Any = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": 16}
    tokens = tokenizer(TEXTS, return_tensors="pt", **padding)
    if kind == "siglip":
        del tokens["attention_mask"]
    with torch.no_grad():
        expected = model.get_text_features(**tokens).pooler_output.numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)
    pairing = encoder.info.pairing
    assert pairing is not None and (pairing.projection is not None) == (kind == "clip")
    assert pairing.bias == (0 if kind == "clip" else -3)
    assert encoder.info.dim == (12 if kind == "clip" else 16)


def test_wordllama_comes_with_its_weights() -> None:
    cat, kitten, truck = load_text_encoder("wordllama").encode(["cat", "kitten", "truck"])
    assert cat @ kitten > 2 * cat @ truck
    random = load_text_encoder("wordllama", None)
    assert random.info.provenance["weights"] == "random"
    assert not np.allclose(random.encode(["cat"]), cat)


def test_libraries_leave_the_root_logger_alone(folders: dict[str, Path]) -> None:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    load_text_encoder("wordllama")
    load_text_encoder(f"open_clip/local-dir:{folders['open_clip']}", None)
    assert (root.level, root.handlers) == before


def test_what_is_missing_is_one_line(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PluginError, match="no text encoder 'wordlama'; did you mean"):
        load_text_encoder("wordlama")
    with pytest.raises(WeightsError, match="there are several: add one of"):
        load_text_encoder("open_clip/ViT-B-32")
    with pytest.raises(WeightsError, match="text encoders have published or random weights"):
        load_text_encoder("wordllama", "weights.pth")
    vision = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    vision.save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="of the type 'vit'; text encoders are those of clip"):
        load_text_encoder(f"hf/{tmp_path}")
    for library, name in {
        "wordllama": "wordllama",
        "open_clip": f"open_clip/local-dir:{folders['open_clip']}",
        "transformers": f"hf/{folders['clip']}",
    }.items():
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(BackboneError, match=r"run pip install 'visiongraft\["):
            load_text_encoder(name)


def test_a_folder_without_the_text_tower_or_its_tokenizer_is_refused(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    bare, mute = tmp_path / "bare", tmp_path / "mute"
    for folder in (bare, mute):
        shutil.copytree(folders["clip"], folder)
    file = bare / "model.safetensors"
    kept = {n: t for n, t in load_file(file).items() if not n.startswith("text_model.")}
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(
        WeightsError, match=r"has no complete text tower; missing text_model\."
    ) as caught:
        load_text_encoder(f"hf/{bare}")
    assert "\n" not in str(caught.value)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (mute / name).unlink()
    with pytest.raises(BackboneError, match="knows no words; its files are missing"):
        load_text_encoder(f"hf/{mute}")


@pytest.mark.parametrize("name", ["hf/./gone", "open_clip/local-dir:gone"])
def test_a_folder_that_is_not_here_is_one_line(name: str) -> None:
    for load in (load_text_encoder, load_backbone):
        with pytest.raises(VisiongraftError, match=r"gone is (not|neither) a folder"):
            load(name)


def test_transformers_prints_nothing_while_it_loads(
    folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    load_text_encoder(f"hf/{folders['clip']}")
    load_backbone(f"hf/{folders['clip']}")
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_a_tokenizer_of_another_network_is_one_line(tmp_path: Path) -> None:
    folder = tiny_clip.write_open_clip(tmp_path / "small")
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["vocab_size"] = 50
    path.write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="its tokenizer does not belong to it"):
        load_text_encoder(f"open_clip/local-dir:{folder}", None)


def test_wordllama_conforms() -> None:
    check_text_encoder(WordllamaSource())


@pytest.mark.parametrize("kind", ["open_clip", "clip", "siglip"])
def test_networks_conform(kind: str, folders: dict[str, Path]) -> None:
    prefix = "open_clip/local-dir:" if kind == "open_clip" else "hf/"
    check_text_encoder(f"{prefix}{folders[kind]}")
