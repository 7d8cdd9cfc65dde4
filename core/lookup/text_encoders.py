"""Find text encoders by name, and load them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from visiongraft.backbone import split_names
from visiongraft.errors import OptionError, PluginError, WeightsError
from visiongraft.registry.manager import plugins
from visiongraft.text_encoders import TextEncoder, TextEncoderSource

log = logging.getLogger("visiongraft")


def load_text_encoder(name: str, weights: str | None = "pretrained") -> TextEncoder:
    """Load a text encoder by name.

    Args:
        name: Such as ``"open_clip/ViT-B-32.openai"``, ``"hf/openai/clip-vit-base-patch32"`` or
            ``"wordllama"``.
        weights: ``"pretrained"``, or ``None`` for random weights.

    Returns:
        The encoder; ``encode(["a photo of a cat"])`` computes vectors.

    Raises:
        PluginError: Nobody provides the name.
        WeightsError: The weights could not be downloaded or read.

    Examples:
        >>> encoder = load_text_encoder("wordllama")
        >>> encoder.encode(["a cat", "a dog"]).shape
        (2, 256)
    """
    if weights not in ("pretrained", None):
        raise WeightsError(
            f"weights={weights!r}: text encoders have published or random weights; pass 'pretrained' or "
            "None, or the folder of a network as name"
        )
    if not isinstance(name, str):
        raise OptionError(f"{name!r} is not the name of a text encoder")
    source, short = find_text_source(name)
    return source.build(short, pretrained=weights is not None)


def find_text_source(name: str) -> tuple[TextEncoderSource, str]:
    """Find who provides a text encoder.

    Args:
        name: A full name, with ``"distribution:"`` before it where two plugins provide the prefix; or a
            prefix alone, for the first encoder of its source.

    Returns:
        The source, and the name without prefix.

    Raises:
        PluginError: Nobody provides it.
    """
    owner, colon, rest = name.partition(":")
    if colon:
        for prefix, short in _splits(rest):
            if plugins().provides("text_encoder", f"{owner}:{prefix}"):
                chosen: TextEncoderSource = plugins().get("text_encoder", f"{owner}:{prefix}")
                return chosen, short or chosen.names()[0]
    sources = plugins().text_encoder_sources()
    for prefix, short in _splits(name):
        if prefix in sources and (not short or _accepts(sources[prefix], short)):
            return sources[prefix], short or sources[prefix].names()[0]
    for prefix, short in _splits(name):
        if prefix in sources and sources[prefix].lacks(short):
            raise PluginError(sources[prefix].lacks(short))
    known = [*sources, *text_encoder_names(sources.values())]
    raise PluginError(plugins().missing("text_encoder", name, known))


def text_encoder_names(sources: Iterable[TextEncoderSource]) -> list[str]:
    """List the full names of these sources that are worth knowing; a broken source is logged and has none."""
    found = []
    for source in sources:
        try:
            found += [f"{source.prefix}/{name}" for name in source.names()]
        except Exception as error:  # a third-party source may raise any error
            log.warning("text encoders of %r cannot be listed: %r", source.prefix, error)
    return found


def _splits(name: str) -> list[tuple[str, str]]:
    """Split a name into prefix and rest in every way: the whole name is a prefix, too."""
    return [(name, ""), *split_names(name)]


def _accepts(source: TextEncoderSource, name: str) -> bool:
    try:
        return source.accepts(name)
    except Exception as error:  # a third-party source may raise any error
        log.warning("text encoders of %r cannot be looked up: %r", source.prefix, error)
        return False
