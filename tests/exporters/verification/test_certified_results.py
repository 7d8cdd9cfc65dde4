"""Results of a file that is only a function: what is recorded, what counts, what is a near-tie."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from visiongraft.certificate import CertifiedImage
from visiongraft.errors import ExportError
from visiongraft.exporters.verification.certified_comparison import compare_certified
from visiongraft.exporters.verification.certified_results import certified_results, parse_certified
from visiongraft.exporters.verification.seeded_images import MANY, flipped, seeded_images
from visiongraft.task import Arrays

WEIGHTS = np.random.RandomState(0).normal(size=(27, 128))
Change = Callable[[Arrays], Arrays]


def embed(images: Any) -> Arrays:
    """Return an embedding, boxes, a class and a mask, from means of cells of each image."""
    count, height, width, _ = images.shape
    rows, columns = (np.arange(4) * n // 4 for n in (height, width))
    cells = np.add.reduceat(np.add.reduceat(images.astype(np.float64), rows, 1), columns, 2)
    flat = (cells[:, :3, :3] / (height * width)).reshape(count, 27)
    embedding = np.tanh(flat @ WEIGHTS / 20).astype(np.float32)
    boxes = (embedding[:, :80].reshape(count, 20, 4) * width).astype(np.float32)
    mask = images[:, ::2, ::2].argmax(3)
    return {"embedding": embedding, "boxes": boxes, "label": embedding.argmax(1), "mask": mask}


class Same:
    """A reference that rounds a little differently."""

    name = "PyTorch"

    def __init__(self, change: Change = dict) -> None:
        self.change = change

    def nearby(self, images: Any) -> Sequence[Arrays]:
        exact = self.change(embed(images))
        return [exact, {k: v * (1 + 1e-7) if v.dtype.kind == "f" else v for k, v in exact.items()}]

    def accepts(self, images: Any, results: tuple[Arrays, Arrays]) -> bool:
        return False


def batches() -> Any:
    return seeded_images((32, 40), None, MANY, whole=True)


@pytest.fixture(scope="module")
def certified() -> tuple[CertifiedImage, ...]:
    return certified_results(embed, batches(), 3, Same())


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Any], Arrays]:
    def run(images: Any) -> Arrays:
        results = dict(embed(images))
        return {**results, name: change(results[name])}

    return run


def test_images_are_of_many_sizes_and_batches() -> None:
    images = list(batches())
    assert sum(map(len, images)) == 36
    assert {len(batch) for batch in images} == {1, 3, 4, 12}
    assert max(max(image.height, image.width) for batch in images for image in batch) > 2000
    assert len({(image.height, image.width) for batch in images for image in batch}) == 7
    assert {len(batch) for batch in seeded_images((32, 40), (32, 40), 2, whole=False)} == {1, 2}


def test_images_stay_the_same_for_ever() -> None:
    import hashlib

    digest = hashlib.sha256()
    for batch in batches():
        for image in batch:
            digest.update(image.pixels(3).tobytes())
    assert digest.hexdigest()[:16] == "4ff1447548346449"


def test_the_same_results_are_as_certified(certified: Any) -> None:
    found = compare_certified(embed, certified, 3)
    assert (found.problem, found.near_ties, found.images, found.largest_batch) == ("", 0, 36, 12)
    assert found.numbers > 36 * 40


def test_entries_are_small_and_survive_json(certified: Any) -> None:
    text = json.dumps([asdict(entry) for entry in certified])
    assert parse_certified(json.loads(text)) == certified
    assert len(text) < 40_000


FAULTS = {
    "permuted embedding": (changed("embedding", lambda v: v[:, ::-1]), "embedding: "),
    "boxes one percent larger": (changed("boxes", lambda v: v * 1.01), "is 1.01 times as large"),
    "boxes one pixel off": (changed("boxes", lambda v: v + 1), "each value is larger by 1"),
    "one value in 128": (
        changed("embedding", lambda v: np.where(np.arange(128) == 5, v + 0.1, v)),
        "embedding: mean is",
    ),
    "next class": (changed("label", lambda v: v + 1), "label: value 0 is"),
    "classes of a mask exchanged": (changed("mask", lambda v: 2 - v), "mask: "),
    "another shape": (changed("mask", lambda v: v[:, 1:]), "mask has the shape"),
    "not finite": (changed("boxes", lambda v: v * np.nan), "boxes is not finite"),
    "one result for a batch": (changed("boxes", lambda v: v[:1]), "another number of images"),
    "in batches only": (changed("boxes", lambda v: v * (1 + 0.01 * (len(v) > 8))), "boxes: "),
    "large images only": (
        lambda images: changed("boxes", lambda v: v * (1 + 0.1 * (images.shape[2] > 2000)))(images),
        "(32x2101)",
    ),
}


@pytest.mark.parametrize(("run", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named(run: Callable[[Any], Arrays], words: str, certified: Any) -> None:
    problem = compare_certified(run, certified, 3).problem
    assert words in problem and "\n" not in problem
    assert problem.endswith("of 36 images differ")


def test_a_missing_and_a_further_result_are_named(certified: Any) -> None:
    def run(images: Any) -> Arrays:
        results = dict(embed(images))
        return {"more": results.pop("boxes"), **results}

    problem = compare_certified(run, certified, 3).problem
    assert "more is not certified" in problem and "boxes is missing" in problem


def test_a_results_name_is_printed_escaped(certified: Any) -> None:
    def run(images: Any) -> Arrays:
        return {**embed(images), "a\x1b[2J\n": np.zeros((len(images), 1))}

    assert r"a\x1b[2J\n is not certified" in compare_certified(run, certified, 3).problem


def test_rounding_of_another_machine_is_no_fault(certified: Any) -> None:
    noise = np.random.default_rng(0)

    def run(images: Any) -> Arrays:
        found = embed(images)
        return {
            name: value * (1 + 2e-6 * noise.normal(size=value.shape))
            if value.dtype.kind == "f"
            else value
            for name, value in found.items()
        }

    assert compare_certified(run, certified, 3).problem == ""


def test_a_near_tie_is_counted_and_many_are_a_fault(certified: Any) -> None:
    def run(images: Any, most: int) -> Arrays:
        """Choose another class for some images, unless a few of their values change."""
        results = dict(embed(images))
        known = {image.pixels(3).tobytes() for image in [i for b in batches() for i in b][:most]}
        tied = np.array([image.tobytes() in known for image in images])
        return {**results, "label": results["label"] + tied}

    few = compare_certified(lambda images: run(images, 3), certified, 3)
    assert (few.problem, few.near_ties) == ("", 3)
    many = compare_certified(lambda images: run(images, 6), certified, 3)
    assert "label: value 0 is" in many.problem


def test_numbers_that_change_in_trials_do_not_count() -> None:
    class Shaky(Same):
        def nearby(self, images: Any) -> Sequence[Arrays]:
            exact = dict(embed(images))
            return [exact, {**exact, "label": exact["label"] + 1}]

    made = certified_results(embed, batches(), 3, Shaky())
    assert all(entry.results["label"] == "1 0.0001 0.0001 ~" for entry in made)
    assert compare_certified(changed("label", lambda v: v + 1), made, 3).problem == ""


def test_results_that_are_not_those_of_the_reference_are_not_certified() -> None:
    def wrong(results: Arrays) -> Arrays:
        return {**results, "boxes": results["boxes"] + 1}

    with pytest.raises(ExportError, match=r"disagrees with PyTorch on blocks 0 .* by 1\)"):
        certified_results(embed, batches(), 3, Same(wrong))


def test_results_that_are_not_finite_are_not_certified() -> None:
    with pytest.raises(ExportError, match="boxes is not finite on"):
        certified_results(changed("boxes", lambda v: v * np.inf), batches(), 3, Same())


def eight_bits(scale: float) -> Callable[[Any], Arrays]:
    """Compute with features of 8 bits, and with weights of a scale."""

    def run(images: Any) -> Arrays:
        found = embed(images)["embedding"][:, :27]
        coarse = np.round(found * 127) / 127
        return {"scores": np.tanh(scale * coarse @ WEIGHTS[:, :10] / 5).astype(np.float32)}

    return run


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_a_scale_ten_percent_off_is_a_fault_of_eight_bits(scale: float) -> None:
    made = certified_results(eight_bits(1.0), batches(), 3, None)
    assert compare_certified(eight_bits(1.0), made, 3).problem == ""
    assert "scores" in compare_certified(eight_bits(scale), made, 3).problem


def test_what_is_certified_twice_is_equal(certified: Any) -> None:
    assert certified_results(embed, batches(), 3, Same()) == certified


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 10**6},
        {"batch": "1"},
        {"kind": "photos"},
        {"seed": 1.5},
        {"results": []},
        {"results": {"a": 1}},
        {"results": {"a": "1"}},
        {"results": {"a": "1 nan 1 2"}},
        {"results": {"a": "1 1 1 2"}},
        {"results": {"a": "1 ~ ~ 2"}},
        {"more": 1},
    ],
)
def test_entries_of_another_kind_are_refused(change: dict[str, Any], certified: Any) -> None:
    assert parse_certified([{**asdict(certified[0]), **change}]) is None
    assert parse_certified([asdict(certified[0])] * 300) is None
    assert parse_certified([1]) is None and parse_certified({}) is None


def test_flipped_values_change_by_one() -> None:
    images = np.full((2, 4, 4, 3), 255, np.uint8)
    other = flipped(images, 3, seed=0)
    assert 1 <= (images != other).sum() <= 6 and other.min() == 254
