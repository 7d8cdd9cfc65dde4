"""Detect faces and align them by five landmarks; only the detector needs more than numpy, Pillow."""

from visiongraft.plugins.face_embedding.alignment.detectors import align_face, align_folder
from visiongraft.plugins.face_embedding.alignment.landmarks import align

__all__ = ["align", "align_face", "align_folder"]
