"""Several tasks' heads on one backbone, as one task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.data.samples import EvaluationSplit, Samples, Splits, Transform
from visiongraft.errors import DataError, OptionError, near_matches
from visiongraft.multi_task.datasets import data_by_head
from visiongraft.multi_task.examples import combined_examples
from visiongraft.multi_task.export import HeadGraph, HeadOutput, combined_support
from visiongraft.multi_task.heads import MultiHead, head_options, read_heads
from visiongraft.multi_task.joining import join_evaluation, join_splits
from visiongraft.multi_task.loss import UNCERTAINTY, MultiLoss, check_weights
from visiongraft.multi_task.metrics import COMBINED, MultiMetrics
from visiongraft.multi_task.names import of_head, outputs_of, prefixed
from visiongraft.multi_task.prediction import MultiPrediction, draw_all, joined
from visiongraft.multi_task.samples import HeadSamples, MultiSamples, ProofSamples
from visiongraft.multi_task.steps import (
    evaluate_heads,
    infer_heads,
    refuse_mixing,
    start_heads,
    train_heads,
)
from visiongraft.multi_task.transforms import combined_transform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import (
    Arrays,
    Decoded,
    ExportSupport,
    HeadFit,
    LossParts,
    Task,
    TaskExamples,
)
from visiongraft.task_contract.checks import bound, read_evaluation, read_splits
from visiongraft.task_contract.class_rows import ClassRows
from visiongraft.task_contract.explained import Explained

if TYPE_CHECKING:
    from visiongraft.data.batch import Batch
    from visiongraft.extra_outputs import ExtraOutput
    from visiongraft.network import InferenceGraph, Network


@dataclass(frozen=True)
class MultiTask(Task):
    """Several tasks on one backbone, each with a head of its own.

    The backbone runs once for all heads. An image may have targets of some heads only; the loss and the
    metrics of a head count the images that have its target. The headline metric is the mean of the
    heads' headlines, each converted to 0..1 of which more is better.

    Attributes:
        heads: The task of each head by name: a task, or a name with or without options, such as
            ``"segmentation(decoder='fpn')"``.
        weights: Weight of each head in the loss, 1 for those that it does not name; or
            ``"uncertainty"``, which learns them (Kendall, Gal and Cipolla, 2018).
        incomplete: Heads whose targets some training images lack, set by ``bind``.
        determined: Options of heads that training determined, such as a threshold.
    """

    name: ClassVar[str] = "multi"
    headline: ClassVar[str] = COMBINED
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    heads: Mapping[str, Any]
    weights: Mapping[str, float] | str = field(default_factory=dict)
    incomplete: tuple[str, ...] = ()
    determined: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", read_heads(self.heads))
        check_weights(self.weights, self.heads)
        for name in (*self.incomplete, *self.determined):
            if name not in self.heads:
                raise OptionError(f"there is no head {name!r}")

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of each head."""
        return {
            head: replace(task, **self.determined[head]) if head in self.determined else task
            for head, task in self.heads.items()
        }

    # ---- what the heads ask for together ----

    @property
    def resize(self) -> Literal["crop", "stretch", "pad"] | None:  # type: ignore[override]
        return next((t.resize for t in self.tasks.values() if t.resize is not None), None)

    @property
    def input_size(self) -> tuple[int, int] | None:  # type: ignore[override]
        return next((t.input_size for t in self.tasks.values() if t.input_size is not None), None)

    @property
    def schedule_options(self) -> Mapping[str, Any]:  # type: ignore[override]
        first, *others = (dict(task.schedule_options) for task in self.tasks.values())
        return {n: v for n, v in first.items() if all(n in o and o[n] == v for o in others)}

    @property
    def whole_image_targets(self) -> bool:  # type: ignore[override]
        return all(task.whole_image_targets for task in self.tasks.values())

    @property
    def splits_alike(self) -> bool:  # type: ignore[override]
        return all(task.splits_alike for task in self.tasks.values())

    @property
    def loss_over_pairs(self) -> bool:  # type: ignore[override]
        return any(task.loss_over_pairs for task in self.tasks.values())

    @property
    def adversarial(self) -> bool:  # type: ignore[override]
        return any(task.adversarial for task in self.tasks.values())

    @property
    def varying_loss_parts(self) -> bool:  # type: ignore[override]
        return bool(self.incomplete)

    @property
    def full_resolution_outputs(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(
            f"{head}.{name}"
            for head, task in self.tasks.items()
            for name in task.full_resolution_outputs
        )

    @property
    def streams(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys(n for task in self.tasks.values() for n in task.streams))

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        """Read a dataset for each head and join them; see ``datasets.data_by_head``."""
        given, shared = self._given(data)
        missing = [name for name in self.heads if name not in given]
        if missing:
            raise DataError(
                f"head {missing[0]!r} has no data; pass data={{{missing[0]!r}: PATH, ...}}"
            )
        found = {}
        for head, task in self.tasks.items():
            with _named(head):
                found[head] = read_splits(task, given[head], validation, seed)
        return join_splits(found, self.tasks, shared)

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        """Read and join the datasets of some heads, or of all."""
        found = {}
        for head, own in self._given(data)[0].items():
            with _named(head):
                found[head] = read_evaluation(self.tasks[head], own)
        if not found:
            raise DataError("the dataset has no targets of any head")
        return join_evaluation(found)

    def _given(self, data: Any) -> tuple[dict[str, Any], bool]:
        return data_by_head(data, list(self.heads))

    def bind(self, train: Samples) -> MultiTask:
        """Let each head's task know its training samples, and note which are not complete.

        Raises:
            DataError: The samples do not come from ``read``.
        """
        if not isinstance(train, MultiSamples):
            raise DataError(f"bind takes samples returned by read(), not {type(train).__name__}")
        heads = {head: bound(task, train.of_head(head)) for head, task in self.heads.items()}
        incomplete = tuple(head for head in heads if train.count(head) < len(train))
        return replace(self, heads=heads, incomplete=incomplete)

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        return combined_transform(self.tasks, preprocess)

    def augmentable(self, image: Any, target: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the image, and what of the targets of all heads moves with it, named ``head.part``."""
        found: dict[str, Any] = {}
        for head, own in target.items():
            image, parts = self.tasks[head].augmentable(image, own)
            found |= prefixed(head, parts)
        return image, found

    def augmented(
        self,
        target: Mapping[str, Any],
        parts: Mapping[str, Any],
        size: tuple[int, int],
        preprocess: PreprocessConfig,
    ) -> dict[str, Any]:
        return {
            head: self.tasks[head].augmented(own, of_head(head, parts), size, preprocess)
            for head, own in target.items()
        }

    def collate(self, targets: list[Any]) -> dict[str, Any]:
        """Collate targets by head.

        Args:
            targets: The targets of each image by head.

        Returns:
            For each head that any image has a target for: ``rows``, int64 (M,), the images that have
            one, and ``targets``, these as the head's task collates them.
        """
        found: dict[str, Any] = {}
        for head, task in self.tasks.items():
            rows = [row for row, own in enumerate(targets) if head in own]
            if rows:
                own = task.collate([targets[row][head] for row in rows])
                found[head] = {"rows": torch.tensor(rows, dtype=torch.int64), "targets": own}
        return found

    def batch_sampler(
        self, samples: Samples, batch_size: int, processes: int, *, seed: int, epoch: int
    ) -> list[list[list[int]]] | None:
        chosen: dict[str, list[list[list[int]]]] = {}
        for head, task in self.tasks.items():
            if type(task).batch_sampler is Task.batch_sampler:
                continue
            own = HeadSamples.of(samples, head)
            batches = task.batch_sampler(own, batch_size, processes, seed=seed, epoch=epoch)
            if batches is not None:
                chosen[head] = batches
        for head in chosen:
            if head in self.incomplete or len(chosen) > 1:
                raise OptionError(
                    f"head {head!r} chooses the images of each batch, so that every training image needs "
                    "its target, and no other head may choose too"
                )
        return next(iter(chosen.values()), None)

    def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        refuse_mixing(self.tasks, images, targets)
        return images, targets

    def read_stream(self, name: str, data: Any) -> Samples:
        return self._owner_of(name).read_stream(name, data)

    def stream_transform(self, name: str, preprocess: PreprocessConfig) -> Transform | None:
        return self._owner_of(name).stream_transform(name, preprocess)

    def _owner_of(self, stream: str) -> Task:
        """Return the task that uses a stream; of one that a transfer loss uses the first."""
        tasks = list(self.tasks.values())
        return next((task for task in tasks if stream in task.streams), tasks[0])

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        return MultiHead(self.tasks, backbone)

    def class_rows(self, backbone: Backbone) -> Mapping[str, ClassRows | None] | None:
        """Return the rows of all heads, if each head's are known."""
        found: dict[str, ClassRows | None] = {}
        for head, task in self.tasks.items():
            own = task.class_rows(backbone)
            if own is None:
                return None
            found |= prefixed(head, own)
        return found

    @property
    def learned_from_targets(self) -> str:
        learned = {head: task.learned_from_targets for head, task in self.tasks.items()}
        return ", ".join(f"{what} of head {head!r}" for head, what in learned.items() if what)

    @property
    def starts_head(self) -> bool:
        """Whether all heads have a good start; one that has none needs other learning rates."""
        return all(task.starts_head for task in self.tasks.values())

    @property
    def refits_head(self) -> bool:
        return all(task.refits_head for task in self.tasks.values())

    def start_head(
        self,
        head: nn.Module,
        samples: Iterable[tuple[Features, Any]],
        first: HeadFit | None = None,
    ) -> HeadFit:
        assert isinstance(head, MultiHead)
        return start_heads(self.tasks, self.incomplete, head, samples, first)

    def build_loss(self, backbone: Backbone) -> nn.Module:  # type: ignore[override]
        weights = None if self.weights == UNCERTAINTY else self.weights
        assert not isinstance(weights, str)
        return MultiLoss(backbone, self.tasks, weights)

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        return train_heads(self.tasks, self.incomplete, network, batch)

    def inference_step(self, network: Network | InferenceGraph, images: Tensor) -> Any:
        return infer_heads(self.tasks, network, images)

    def evaluation_step(self, network: Network, batch: Batch) -> Mapping[str, Tensor]:
        return evaluate_heads(self.tasks, network, batch)

    def proof_samples(self, network: Network, samples: Samples) -> Samples:
        prove = {
            head: partial(task.proof_samples, cast("Network", HeadGraph(network, head)))
            for head, task in self.tasks.items()
            if type(task).proof_samples is not Task.proof_samples
        }
        return ProofSamples.of(samples, prove) if prove else samples

    def class_logits(self, outputs: Any) -> Tensor | None:
        """Return the class logits of the only head that has some."""
        found = [
            logits
            for head, task in self.tasks.items()
            if (own := outputs_of(head, outputs)) != {}
            and (logits := task.class_logits(own)) is not None
        ]
        return found[0] if len(found) == 1 else None

    def explained(
        self, outputs: Any, sizes: Tensor, wanted: str | None = None
    ) -> Sequence[Explained]:
        """Return what each head offers; ``wanted`` is ``head``, or ``head.what``."""
        own, _, what = (wanted or "").partition(".")
        if own and own not in self.tasks:
            raise OptionError(f"target={wanted!r} names no head{near_matches(own, self.tasks)}")
        found = []
        for head, task in self.tasks.items():
            if own in ("", head) and (mine := outputs_of(head, outputs)) != {}:
                for each in task.explained(mine, sizes, what or None):
                    score = partial(_of_head, head, each.score)
                    measure = partial(_of_head, head, each.measure or each.score)
                    name = f"{head}.{each.name}"
                    found.append(replace(each, name=name, score=score, measure=measure))
        return found

    # ---- results ----

    def decode(self, outputs: Any, sizes: Tensor) -> Decoded:
        """Decode the outputs of each head, named ``head.result``."""
        found: Decoded = {}
        for head, task in self.tasks.items():
            found |= prefixed(head, task.decode(outputs_of(head, outputs), sizes))
        return found

    def metric_inputs(self, name: str, decoded: Arrays, targets: Any) -> tuple[Any, Any] | None:
        """Return those of the head that the name of a metric begins with."""
        head, _, own = name.partition(".")
        if head not in self.tasks or not own:
            raise OptionError(
                f"metrics: {name!r} names no head; call it 'HEAD.{own or name}'{near_matches(head, self.tasks)}"
            )
        if head not in targets:
            return None
        rows = targets[head]["rows"].numpy()
        arrays = {key: values[rows] for key, values in of_head(head, decoded).items()}
        return self.tasks[head].metric_inputs(own, arrays, targets[head]["targets"])

    def build_metrics(self) -> MultiMetrics:
        return MultiMetrics(self.tasks)

    def predictions(self, decoded: Arrays) -> list[MultiPrediction]:
        found = {
            head: task.predictions(of_head(head, decoded)) for head, task in self.tasks.items()
        }
        return joined(found, {head: task.name for head, task in self.tasks.items()})

    def draw(self, image: PillowImage.Image, prediction: Any) -> PillowImage.Image:
        return draw_all(image, prediction, {head: task.draw for head, task in self.tasks.items()})

    def after_training(self, results: Mapping[str, Any]) -> MultiTask:
        """Let each head's task derive values from its results of the best epoch."""
        determined: dict[str, Mapping[str, Any]] = {}
        for head, task in self.tasks.items():
            before = vars(task)
            after = vars(task.after_training(of_head(head, results)))
            changed = {name: value for name, value in after.items() if value != before[name]}
            if changed:
                determined[head] = {**self.determined.get(head, {}), **changed}
        return replace(self, determined={**self.determined, **determined})

    def extra_outputs(self) -> Mapping[str, ExtraOutput]:
        return {
            f"{head}.{name}": HeadOutput(head, function)
            for head, task in self.tasks.items()
            for name, function in task.extra_outputs().items()
        }

    def export_support(self) -> ExportSupport:
        return combined_support(self.tasks)

    def metadata(self) -> dict[str, Any]:
        """Return the task of each head, and what each must be deployed with, named ``head.name``."""
        found: dict[str, Any] = {"heads": {head: task.name for head, task in self.tasks.items()}}
        for head, task in self.tasks.items():
            found |= prefixed(head, task.metadata())
        return found

    def options(self) -> dict[str, Any]:
        weights = self.weights if isinstance(self.weights, str) else dict(self.weights)
        return {
            "heads": {head: head_options(task) for head, task in self.heads.items()},
            "weights": weights,
            "incomplete": self.incomplete,
            "determined": {head: dict(options) for head, options in self.determined.items()},
        }

    def examples(self) -> TaskExamples | None:
        return combined_examples(self.tasks)


@contextmanager
def _named(head: str) -> Iterator[None]:
    """Name the head whose data cannot be read."""
    try:
        yield
    except DataError as error:
        raise DataError(f"head {head!r}: {error}") from error


def _of_head(
    head: str, score: Callable[[Features, Any], Tensor], features: Features, outputs: Any
) -> Tensor:
    return score(features, outputs_of(head, outputs))
