"""Embed texts by a task, which may take the network."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from visiongraft.network import Network
    from visiongraft.task import Task


def embed_texts(task: Task, texts: Sequence[str], network: Network) -> NDArray[np.float32] | None:
    """Call ``Task.embed_texts``, with the network if it takes one.

    Args:
        task: The task.
        texts: The texts.
        network: The trained network, in evaluation mode.

    Returns:
        float32 (N, D); ``None`` if the task embeds no texts.
    """
    embed = task.embed_texts
    if "network" in inspect.signature(embed).parameters:
        return embed(texts, network)  # type: ignore[call-arg]
    return embed(texts)
