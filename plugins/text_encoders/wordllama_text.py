"""Static word vectors of wordllama, whose weights come with its package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visiongraft.plugins.backbones.errors import missing_library
from visiongraft.plugins.backbones.logs import root_logger_kept
from visiongraft.text_encoders import TextEncoder, TextEncoderInfo, TextEncoderSource, Vectors

NAME = "l2_supercat_256"
DIM = 256


class WordllamaSource(TextEncoderSource):
    """Provides the word vectors that the package wordllama contains."""

    prefix = "wordllama"

    def names(self) -> Sequence[str]:
        return (NAME,)

    def build(self, name: str, *, pretrained: bool) -> TextEncoder:
        full = f"{self.prefix}/{name}"
        with root_logger_kept():
            try:
                import wordllama
            except ImportError as error:
                raise missing_library(full, "wordllama", "wordllama") from error
        # The package looks for its own tokenizer in another folder than the one that it ships.
        own = Path(wordllama.__file__).parent
        model = wordllama.WordLlama.load(cache_dir=own, disable_download=True)
        provenance = {"source": f"wordllama {wordllama.__version__}", "weights": "random"}
        if pretrained:
            provenance |= {"weights": NAME, "license": "MIT"}
        else:
            model.embedding = torch.randn(model.embedding.shape).numpy()
        return WordllamaEncoder(TextEncoderInfo(full, DIM, provenance), model)


class WordllamaEncoder(TextEncoder):
    """Means of the vectors of a text's tokens.

    Args:
        info: Facts about the encoder.
        model: The model of wordllama.
    """

    def __init__(self, info: TextEncoderInfo, model: Any) -> None:
        super().__init__(info)
        self.model = model

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.asarray(self.model.embed(list(texts)), dtype=np.float32)
