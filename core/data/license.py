"""The license that the card of a dataset states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = "README.md"


def stated_license(data: Any) -> str | None:
    """Read the license of a dataset from its card, as the Hugging Face Hub has them.

    Args:
        data: What the user passed: a folder, or folders by name; anything else has no card.

    Returns:
        Identifiers such as ``"cc-by-nc-4.0"``, separated by commas; ``None`` if none is stated.
    """
    several = data.values() if isinstance(data, Mapping) else [data]
    found = [text for one in several for text in _of_folder(one)]
    return ", ".join(dict.fromkeys(found)) or None


def _of_folder(data: Any) -> list[str]:
    if not isinstance(data, (str, Path)) or not (Path(data) / CARD).is_file():
        return []
    from huggingface_hub import metadata_load

    try:
        stated = (metadata_load(Path(data) / CARD) or {}).get("license")
    except Exception:  # a card is written by people, and may be no YAML at all
        return []
    several = stated if isinstance(stated, list) else [stated]
    return [one for one in several if isinstance(one, str) and one.strip()]
