"""Built-in text encoders, registered like those of third parties."""

from __future__ import annotations

from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.text_encoders.hf_text import HfTextSource
from visiongraft.plugins.text_encoders.open_clip_text import OpenClipTextSource
from visiongraft.plugins.text_encoders.wordllama_text import WordllamaSource
from visiongraft.text_encoders import TextEncoderSource


@hookimpl
def register_text_encoders() -> list[TextEncoderSource]:
    """Return the sources of all built-in text encoders."""
    return [OpenClipTextSource(), HfTextSource(), WordllamaSource()]
