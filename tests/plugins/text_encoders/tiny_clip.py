"""Tiny networks of images and text with random weights, as folders that their own libraries load."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from safetensors.torch import save_file

OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "resize_mode": "squash"}
LAYERS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
VISION = {**LAYERS, "image_size": 32, "patch_size": 8}
PROCESSOR: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.25],
}


def write_open_clip(folder: Path, seed: int = 0, **changed: Any) -> Path:
    """Write a network in the layout of open_clip, with some settings changed."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    settings = {**OPEN_CLIP, **changed}
    model = open_clip.CLIP(**settings)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": settings, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def write_hf(folder: Path, kind: str) -> Path:
    """Write a network of transformers, ``"clip"`` or ``"siglip"``, with a tokenizer and an image processor."""
    torch.manual_seed(0)
    text = {**LAYERS, "vocab_size": 49408, "max_position_embeddings": 16}
    if kind == "clip":
        config: Any = transformers.CLIPConfig(
            text_config={
                **text,
                "eos_token_id": 49407,
                "bos_token_id": 49406,
                "pad_token_id": 49407,
            },
            vision_config=VISION,
            projection_dim=12,
        )
        model: Any = transformers.CLIPModel(config)
    else:
        config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
        model = transformers.SiglipModel(config)
        torch.nn.init.constant_(model.logit_scale, 1.5)
        torch.nn.init.constant_(model.logit_bias, -3.0)
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def _write_tokenizer(folder: Path) -> None:
    """Write CLIP's tokenizer as transformers reads it, from the table that open_clip ships."""
    table = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(table, "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    names = open_clip.tokenizer.SimpleTokenizer().encoder
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {renamed.get(word, word): number for word, number in names.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, **special}
    config |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
