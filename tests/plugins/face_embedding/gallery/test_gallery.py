"""Verification of two images, and identification with a gallery, by any embedding model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visiongraft.errors import ArtifactError, DataError, OptionError
from visiongraft.plugins.face_embedding.gallery.gallery import Gallery, Identification
from visiongraft.plugins.face_embedding.gallery.verification import embed, verify
from visiongraft.plugins.whole_images.embedded import Embedded


class Angles:
    """Embeds a number as the unit vector at that angle; as a model or as an exported file."""

    def __init__(self, threshold: float | None = 0.9, twist: float = 0.0, exported: bool = False):
        values = {"dimension": 2, "similarity": "cosine", "threshold": threshold, "aligned": False}
        self.twist = twist
        if exported:
            entry = {"channels": 1, "height": 20, "width": 30}
            self.metadata = {"task_metadata": values, "input": entry}
        else:
            self.task = self
            self._values = values

    def __getattr__(self, name: str) -> Any:
        if name == "metadata" and "_values" in self.__dict__:
            return lambda: self._values
        raise AttributeError(name)

    def predict(self, images: Any) -> list[Embedded]:
        if isinstance(images, np.ndarray):  # the image of the fingerprint
            self.seen = images.shape
            images = images.mean() / 100
        angles = images if isinstance(images, list) else [images]
        return [Embedded(2, (np.cos(a + self.twist), np.sin(a + self.twist))) for a in angles]


def test_embeddings_are_an_array() -> None:
    found = embed(Angles(), [0.0, np.pi / 2])
    assert found.dtype == np.float32
    assert np.allclose(found, [[1, 0], [0, 1]], atol=1e-6)
    assert embed(Angles(), []).shape == (0, 2)


def test_two_images_are_compared_at_the_models_threshold() -> None:
    same = verify(Angles(), 0.0, 0.3)
    assert (same.same, same.threshold) == (True, 0.9)
    assert same.similarity == pytest.approx(np.cos(0.3))
    assert not verify(Angles(), 0.0, 0.6).same
    assert verify(Angles(), 0.0, 0.6, threshold=0.5).same
    assert verify(Angles(threshold=-1.0), 0.0, np.pi).same  # at the threshold counts


def test_without_a_threshold_nothing_is_decided() -> None:
    with pytest.raises(OptionError, match="the model has no threshold"):
        verify(Angles(threshold=None), 0.0, 0.0)
    with pytest.raises(OptionError, match="the model has no threshold"):
        Gallery(Angles(threshold=None))
    assert Gallery(Angles(threshold=None), threshold=0.5).threshold == 0.5


def test_identify_takes_one_image_at_a_time() -> None:
    with pytest.raises(DataError, match="pass one image, not 2"):
        verify(Angles(), [0.0, 1.0], 0.0)


def test_a_model_of_another_task_is_refused() -> None:
    class Other(Angles):
        def __init__(self) -> None:
            super().__init__()
            self._values = {"labels": ["cat"]}

    with pytest.raises(OptionError, match="not a face_embedding model"):
        verify(Other(), 0.0, 0.0)


@pytest.fixture
def gallery() -> Gallery:
    made = Gallery(Angles())
    made.add("ada", [0.0, 0.2])
    made.add("bob", 1.0)
    made.add("cem", [2.0, 2.2, 2.4])
    return made


def test_the_nearest_person_is_named(gallery: Gallery) -> None:
    found = gallery.identify(0.25)
    assert isinstance(found, Identification)
    assert (found.name, found.known) == ("ada", True)
    assert found.similarity == pytest.approx(np.cos(0.05))
    assert [name for name, _ in found.candidates] == ["ada", "bob", "cem"]
    assert dict(found.candidates)["bob"] == pytest.approx(np.cos(0.75))
    assert dict(found.candidates)["cem"] == pytest.approx(np.cos(1.75))  # their nearest image


def test_below_the_threshold_somebody_is_unknown(gallery: Gallery) -> None:
    found = gallery.identify(1.48)
    assert (found.name, found.known) == ("unknown", False)
    assert found.candidates[0] == ("bob", pytest.approx(np.cos(0.48)))
    gallery.threshold = 0.5
    assert gallery.identify(1.45).name == "bob"


def test_more_images_of_a_person_may_come_later(gallery: Gallery) -> None:
    assert gallery.identify(-1.0).name == "unknown"
    gallery.add("bob", -1.1)
    assert gallery.identify(-1.0).name == "bob"
    assert len(gallery) == 7
    assert gallery.names == ("ada", "bob", "cem")


def test_a_person_is_removed(gallery: Gallery) -> None:
    gallery.remove("cem")
    assert gallery.identify(2.1).name == "unknown"
    assert (len(gallery), gallery.names) == (3, ("ada", "bob"))
    with pytest.raises(OptionError, match="nobody is named 'adda'; did you mean 'ada'"):
        gallery.remove("adda")
    gallery.remove("ada")
    gallery.remove("bob")
    with pytest.raises(DataError, match="the gallery is empty"):
        gallery.identify(0.0)


@pytest.mark.parametrize("name", ["", " ", "unknown", 7])
def test_invalid_names_are_refused(gallery: Gallery, name: Any) -> None:
    with pytest.raises(OptionError, match="is not a valid name"):
        gallery.add(name, 0.0)


def test_a_person_without_images_is_refused(gallery: Gallery) -> None:
    with pytest.raises(DataError, match="no images of 'eve'"):
        gallery.add("eve", [])


def test_precomputed_embeddings_can_be_added(gallery: Gallery) -> None:
    gallery.add_embeddings(["eve"], np.array([[0.0, -1.0]]))
    assert gallery.identify(-np.pi / 2).name == "eve"
    with pytest.raises(OptionError, match=r"2 names do not match embeddings \(1, 2\)"):
        gallery.add_embeddings(["a", "b"], np.array([[0.0, -1.0]]))
    (one, other) = gallery.identify_embeddings(np.array([[1.0, 0.0], [-1.0, 0.0]]), candidates=1)
    assert (one.name, other.name) == ("ada", "unknown")
    assert len(one.candidates) == 1


# ---- on disk ----


def test_a_gallery_is_saved_and_loaded(gallery: Gallery, tmp_path: Path) -> None:
    gallery.threshold = 0.8
    gallery.save(tmp_path / "people")
    assert {p.name for p in (tmp_path / "people").iterdir()} == {
        "gallery.safetensors",
        "gallery.json",
    }
    loaded = Gallery.load(tmp_path / "people", Angles())
    assert loaded.names == gallery.names
    assert loaded.threshold == 0.8
    assert (loaded.embeddings == gallery.embeddings).all()
    assert loaded.identify(1.05) == gallery.identify(1.05)


def test_a_gallery_of_another_model_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    gallery.save(tmp_path)
    with pytest.raises(ArtifactError, match="made with another model"):
        Gallery.load(tmp_path, Angles(twist=0.2))


def test_the_fingerprint_is_an_image_that_the_file_takes(tmp_path: Path) -> None:
    model = Angles(exported=True)
    Gallery(model).save(tmp_path)
    assert model.seen == (20, 30, 1)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("gallery.json", b"[]", "is not a gallery of format 1"),
        ("gallery.json", b'{"format": 9, "names": []}', "is not a gallery of format 1"),
        (
            "gallery.json",
            b'{"format": 1, "names": ["a"], "threshold": 0.5}',
            "has 1 names and 6 embeddings",
        ),
        ("gallery.safetensors", b"\x80\x04pickle", "missing or damaged"),
    ],
)
def test_a_damaged_gallery_is_refused(
    gallery: Gallery, tmp_path: Path, file: str, content: bytes, words: str
) -> None:
    gallery.save(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ArtifactError, match=words):
        Gallery.load(tmp_path, Angles())


def test_only_embeddings_and_names_are_kept(gallery: Gallery, tmp_path: Path) -> None:
    gallery.save(tmp_path)
    values = json.loads((tmp_path / "gallery.json").read_text())
    assert values["names"] == ["ada", "ada", "bob", "cem", "cem", "cem"]
    assert (tmp_path / "gallery.safetensors").stat().st_size < 400


def test_galleries_need_no_pytorch() -> None:
    code = (
        "import sys\n"
        "import visiongraft.plugins.face_embedding.gallery.gallery\n"
        "import visiongraft.plugins.whole_images.embedded\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
