"""Tiny, randomly initialized networks of transformers, as folders that the library itself wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

SIZE = 32
TOKENS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIZE,
    "patch_size": 8,
}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}
SWIN: dict[str, Any] = {
    "image_size": SIZE,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 2],
    "num_heads": [2, 2],
    "window_size": 4,
}
# Prefix of each family's classes, and the configuration.
FAMILIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "clip": ("CLIPVision", TOKENS),
    "convnext": ("ConvNext", STAGES),
    "convnextv2": ("ConvNextV2", STAGES),
    "deit": ("DeiT", TOKENS),
    "dinov2": ("Dinov2", {**TOKENS, "mlp_ratio": 2}),
    "dinov2_with_registers": ("Dinov2WithRegisters", {**TOKENS, "mlp_ratio": 2}),
    "dinov3_convnext": ("DINOv3ConvNext", STAGES),
    "dinov3_vit": ("DINOv3ViT", {**TOKENS, "num_register_tokens": 2}),
    "siglip": ("SiglipVision", TOKENS),
    "swin": ("Swin", SWIN),
    "vit": ("ViT", TOKENS),
}
PROCESSOR: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIZE, "width": SIZE},
    "resample": 3,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.25],
}


def model_of(family: str, **options: Any) -> Any:
    """Make a network in evaluation mode; ``options`` are arguments of its class."""
    name, config = FAMILIES[family]
    torch.manual_seed(0)
    made = getattr(transformers, f"{name}Config")(**config)
    return getattr(transformers, f"{name}Model")(made, **options).eval()


def write(folder: Path, model: Any, processor: Mapping[str, Any] | None = PROCESSOR) -> Path:
    """Write a network, and how its images are prepared, as a repository contains them."""
    import json

    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder
