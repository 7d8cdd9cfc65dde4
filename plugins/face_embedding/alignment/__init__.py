"""Detect faces and align them by five landmarks; numpy and Pillow only, but for the detector."""

from visiongraft.plugins.face_embedding.alignment.detectors import align_face, align_folder
from visiongraft.plugins.face_embedding.alignment.landmarks import align

__all__ = ["align", "align_face", "align_folder"]
