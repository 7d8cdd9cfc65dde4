"""The task contract: options survive saving, and comparing outputs misses nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import OptionError
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import (
    Arrays,
    Decoded,
    Disagreement,
    ExportSupport,
    Metrics,
    Task,
    compare_arrays,
    create_task,
)


@dataclass(frozen=True)
class Bare(Task):
    """A task that supplies only what it must, with options of every kind."""

    name: ClassVar[str] = "bare"
    headline: ClassVar[str] = "good"
    count: int = 1
    fraction: float = 0.5
    flip: bool = True
    labels: tuple[str, ...] = ()
    table: tuple[Any, ...] = ()
    weights: dict[str, Any] = field(default_factory=dict)
    note: str | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise OptionError(f"count={self.count} is not at least 1")

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return Splits(data, data)

    def read_evaluation(self, data: Any) -> Samples:
        samples: Samples = data
        return samples

    def build_head(self, backbone: Any) -> nn.Module:
        return nn.Identity()

    def build_loss(self) -> nn.Module:
        return nn.Identity()

    def decode(self, outputs: Any, sizes: Tensor) -> Decoded:
        return {"out": outputs}

    def build_metrics(self) -> Metrics:
        raise NotImplementedError

    def predictions(self, decoded: Arrays) -> list[Any]:
        return list(decoded["out"])


# ---- options ----

numbers = st.one_of(st.integers(), st.floats(allow_nan=False))
plain = st.one_of(st.none(), st.booleans(), numbers, st.text())
nested = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)
tasks = st.builds(
    Bare,
    count=st.integers(1, 99),
    fraction=st.floats(allow_nan=False),
    flip=st.booleans(),
    labels=st.lists(st.text()).map(tuple),
    table=st.lists(nested, max_size=3).map(tuple),
    weights=st.dictionaries(st.text(), nested, max_size=3),
    note=st.none() | st.text(),
)


@given(tasks)
def test_a_task_comes_back_from_its_options_in_a_file(task: Bare) -> None:
    assert create_task(Bare, json.loads(json.dumps(task.options()))) == task


def test_omitted_options_keep_their_defaults() -> None:
    assert create_task(Bare, {"labels": ["a", "b"]}) == Bare(labels=("a", "b"))
    assert create_task(Bare, {}) == Bare()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cuont": 2}, "task 'bare' has no option 'cuont'; did you mean 'count'"),
        ({"count": 0}, "count=0 is not at least 1"),
        ({"name": "other"}, "no option 'name'"),  # what a task is called is no option
    ],
)
def test_a_wrong_option_is_refused(options: Mapping[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        create_task(Bare, options)


def test_a_missing_option_is_refused_by_name() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Strict(Bare):
        classes: int

    with pytest.raises(OptionError, match="task 'bare' needs its option 'classes'"):
        create_task(Strict, {})
    assert create_task(Strict, {"classes": 2}).classes == 2


def test_changed_options_make_a_new_task_that_is_checked_too() -> None:
    task = Bare()
    assert replace(task, count=3) == Bare(count=3)
    assert task.count == 1
    with pytest.raises(OptionError, match="count=0"):
        replace(task, count=0)


def test_a_headline_may_depend_on_an_option() -> None:
    @dataclass(frozen=True)
    class Choosy(Bare):
        @property
        def headline(self) -> str:  # type: ignore[override]
            return "strict" if self.flip else "mild"

    assert (Choosy().headline, create_task(Choosy, {"flip": False}).headline) == ("strict", "mild")
    assert "headline" not in Choosy().options()


# ---- what a task need not supply ----


def test_defaults_leave_everything_as_it_is() -> None:
    task = Bare()
    images, targets = torch.ones(2, 3, 4, 4), torch.tensor([0, 1])
    image = Image.new("RGB", (2, 2))
    assert task.bind([]) is task  # type: ignore[arg-type]
    assert task.train_transform(PreprocessConfig((4, 4))) is None
    assert task.mix(images, targets) == (images, targets)
    assert task.draw(image, 0) is image
    assert task.metadata() == {}
    assert task.examples() is None
    assert task.export_support() == ExportSupport()
    assert task.better == "higher"


def test_targets_are_collated_as_torch_does_by_default() -> None:
    assert Bare().collate([1, 2]).tolist() == [1, 2]
    assert Bare().collate([{"a": 1.0}, {"a": 2.0}])["a"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("method", sorted(Task.__abstractmethods__))
def test_a_task_that_lacks_what_it_must_supply_cannot_be_made(method: str) -> None:
    missing = type("Missing", (Bare,), {method: getattr(Task, method)})
    with pytest.raises(TypeError, match=method):
        missing()


# ---- metrics ----


@given(
    labels=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30),
    cut=st.integers(0, 30),
)
def test_metrics_do_not_depend_on_how_samples_are_dealt_into_batches(
    Toy: Any, labels: list[tuple[int, int]], cut: int
) -> None:
    """What must hold for any ``Metrics``, on the toy task's; it would not for a mean over batches."""

    def measured(parts: list[list[tuple[int, int]]]) -> dict[str, Any]:
        metrics: Metrics = Toy().build_metrics()
        for part in parts:
            found, true = np.array(part).reshape(-1, 2).T
            metrics.update({"label": found}, torch.from_numpy(true))
        results = metrics.compute()
        assert metrics.compute() == results  # asking changes nothing
        assert Toy.headline in results
        assert json.loads(json.dumps(results)) == results
        return results

    parts = [part for part in (labels[:cut], labels[cut:]) if part]
    right = sum(a == b for a, b in labels) / len(labels)
    assert measured(parts) == measured([labels])
    assert measured(parts)["share_right"] == right


# ---- comparing outputs ----

finite = st.floats(-1e6, 1e6, width=32)
real_arrays = npst.arrays(np.float32, npst.array_shapes(max_dims=3, max_side=4), elements=finite)
int_arrays = npst.arrays(np.int64, npst.array_shapes(max_dims=3, max_side=4))
outputs = st.fixed_dictionaries({"scores": real_arrays, "label": int_arrays})
AGREE = Disagreement(0.0, 0)
Output = dict[str, NDArray[Any]]


def changed(output: Output, name: str, position: int, value: Any) -> Output:
    copy = output[name].copy()
    copy.flat[position % copy.size] = value
    return {**output, name: copy}


@given(outputs)
def test_equal_outputs_agree(output: Output) -> None:
    assert compare_arrays(output, {n: a.copy() for n, a in output.items()}) == AGREE


@given(outputs, st.integers(0, 63), finite)
def test_one_changed_number_is_measured_by_the_largest_reference(
    output: Output, position: int, value: float
) -> None:
    other = changed(output, "scores", position, value)
    reference = output["scores"].astype(np.float64)
    scale = np.abs(reference).max()
    assume(scale > 1e-3)
    expected = np.abs(reference - other["scores"]).max() / scale
    result = compare_arrays(output, other)
    assert result.mismatches == 0
    assert result.difference == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(outputs, st.data())
def test_every_changed_decision_is_counted(output: Output, data: st.DataObject) -> None:
    mask = data.draw(npst.arrays(np.bool_, output["label"].shape))
    other = {**output, "label": output["label"] ^ mask}
    assert compare_arrays(output, other) == Disagreement(0.0, int(mask.sum()))


@given(outputs, st.floats(1e-3, 1e3))
def test_a_common_scale_does_not_matter(output: Output, scale: float) -> None:
    base = output["scores"].astype(np.float64)
    assume(np.abs(base).max() > 1e-3)
    one = compare_arrays({"x": base}, {"x": base * 1.01}).difference
    other = compare_arrays({"x": base * scale}, {"x": base * scale * 1.01}).difference
    assert one == pytest.approx(other, rel=1e-9, abs=1e-12) == pytest.approx(0.01, rel=1e-6)


@given(outputs, st.integers(0, 63), st.sampled_from([np.nan, np.inf, -np.inf]), st.booleans())
def test_what_is_not_finite_never_agrees(
    output: Output, position: int, value: float, in_reference: bool
) -> None:
    other = changed(output, "scores", position, value)
    pair = (other, output) if in_reference else (output, other)
    assert compare_arrays(*pair).difference == np.inf
    assert compare_arrays(other, other).difference == np.inf  # nor can it be relied on


@pytest.mark.parametrize(
    "candidate",
    [
        {},
        {"scores": np.zeros(3)},
        {"score": np.zeros(3), "label": np.zeros(3, int)},
        {"scores": np.zeros(3), "label": np.zeros(3, int), "more": np.zeros(1)},
        {"scores": np.zeros((3, 1)), "label": np.zeros(3, int)},
        {"scores": np.zeros(3), "label": np.zeros(4, int)},
        {"scores": np.zeros(()), "label": np.zeros(3, int)},
    ],
    ids=["nothing", "fewer", "renamed", "more", "reshaped", "longer", "one for all"],
)
def test_other_names_and_shapes_never_agree(candidate: Output) -> None:
    reference = {"scores": np.zeros(3), "label": np.zeros(3, int)}
    assert compare_arrays(reference, candidate).difference == np.inf


def test_outputs_of_zero_and_of_no_size_are_compared_too() -> None:
    assert compare_arrays({"x": np.zeros(2)}, {"x": np.zeros(2)}) == AGREE
    assert compare_arrays({"x": np.zeros(2)}, {"x": np.full(2, 1e-6)}).difference > 1
    assert compare_arrays({"x": np.zeros((0, 4))}, {"x": np.zeros((0, 4))}) == AGREE
    assert compare_arrays({}, {}) == AGREE


def test_half_precision_is_compared_without_overflow() -> None:
    reference = {"x": np.array([60000.0, -60000.0], np.float16)}
    candidate = {"x": np.array([-60000.0, 60000.0], np.float16)}
    assert compare_arrays(reference, candidate).difference == pytest.approx(2.0)


def test_masks_and_booleans_are_decisions() -> None:
    one = {"mask": np.array([[0, 1], [2, 2]], np.uint8), "seen": np.array([True, False])}
    other = {"mask": np.array([[0, 1], [2, 0]], np.uint8), "seen": np.array([False, True])}
    assert compare_arrays(one, other) == Disagreement(0.0, 3)


def test_a_task_compares_its_outputs_that_way_by_default() -> None:
    pair = {"x": np.ones(2)}, {"x": np.ones(2) * 1.5}
    assert Bare().export_support().compare(*pair) == compare_arrays(*pair) == Disagreement(0.5, 0)
    assert asdict(Bare().export_support().compare(*pair)) == {"difference": 0.5, "mismatches": 0}
