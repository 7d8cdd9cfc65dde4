"""Recognize known people with a trained model or an exported file; numpy only."""

from visiongraft.plugins.face_embedding.gallery.gallery import Gallery, Identification
from visiongraft.plugins.face_embedding.gallery.verification import Verification, embed, verify

__all__ = ["Gallery", "Identification", "Verification", "embed", "verify"]
