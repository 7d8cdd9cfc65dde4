"""What the samples of a task are: images, clips or latents; without PyTorch.

``Task.inputs`` is an object of one of these kinds. Loading, the check of the data, the network,
exporters, proofs and predictors ask it what one sample's array is, instead of assuming an image.
"""

from __future__ import annotations

from visiongraft.inputs.clips import Clips
from visiongraft.inputs.contract import Inputs
from visiongraft.inputs.description import described_inputs
from visiongraft.inputs.images import IMAGES, Images
from visiongraft.inputs.latents import Latents

__all__ = ["IMAGES", "Clips", "Images", "Inputs", "Latents", "described_inputs"]
