"""What a task may override and rarely does: optional steps of training, streams, further outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor, nn

from visiongraft.comparison import Arrays
from visiongraft.data.samples import Samples, Transform
from visiongraft.data.unlabeled import unlabeled_samples
from visiongraft.errors import OptionError
from visiongraft.loss_parts import LossParts
from visiongraft.task_contract.class_rows import ClassRows, find_class_rows
from visiongraft.task_contract.explained import Explained, explain_logits
from visiongraft.task_contract.functions import DRAWINGS, task_function
from visiongraft.task_contract.label_judge import LabelJudge
from visiongraft.task_contract.published import Published
from visiongraft.task_contract.support import ExportSupport
from visiongraft.task_contract.text_head import TextHead

if TYPE_CHECKING:
    from visiongraft.backbone import Backbone
    from visiongraft.data.batch import Batch
    from visiongraft.extra_outputs import ExtraOutput
    from visiongraft.network import InferenceGraph, Network
    from visiongraft.optimizers import OptimizerSpec
    from visiongraft.preprocess import PreprocessConfig
    from visiongraft.task import Task


class OptionalMethods:
    """Methods of every ``Task`` whose defaults suit most tasks."""

    name: ClassVar[str]
    pipeline_tag: ClassVar[str] = ""  # what the Hugging Face Hub calls the task, for the model card
    splits_alike: ClassVar[bool]
    loss_over_pairs: ClassVar[bool]
    whole_image_targets: ClassVar[bool]

    def augmentable(self, image: Any, target: Any) -> tuple[Any, dict[str, Any]]:
        """Return what an augmentation of the user's own changes, for ``fit(augment=...)``.

        Args:
            image: ``tv_tensors.Image`` uint8 (C, H, W), or ``tv_tensors.Video`` (T, C, H, W).
            target: The target of the sample.

        Returns:
            The image, or the part of a sample that trains; and what moves with it, as ``torchvision.tv_tensors``
            by name: boxes whose name ends with ``boxes``, with class ids of a name that ends with ``labels``,
            masks or images. Targets of the image as a whole have none.

        Raises:
            OptionError: The task takes no augmentation of the user's own, as by default where targets have
                positions.
        """
        if not self.whole_image_targets:
            raise OptionError(
                f"augment: task {self.name!r} has no way to move its targets with images"
            )
        return image, {}

    def augmented(
        self,
        target: Any,
        parts: Mapping[str, Any],
        size: tuple[int, int],
        preprocess: PreprocessConfig,
    ) -> Any:
        """Return the target of an augmented image, see ``augmentable``.

        Args:
            target: The target before.
            parts: What has moved.
            size: Height and width of the augmented image, which is then resized as without augmentation,
                unless it has the size of the network's input.
            preprocess: How it is resized.
        """
        return target

    def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Mix the samples of a training batch with each other (mixup, CutMix).

        Called in training only, after ``train_transform`` and ``collate``, and only if
        ``train_transform`` returned a transform. The core seeds it per batch.

        Args:
            images: float (N, C, height, width), normalized.
            targets: Collated targets.

        Returns:
            Mixed images and targets; the default changes nothing.
        """
        return images, targets

    def batch_sampler(
        self, samples: Samples, batch_size: int, processes: int, *, seed: int, epoch: int
    ) -> list[list[list[int]]] | None:
        """Choose the batches of one training epoch, if random batches will not do.

        Override it if the loss needs certain samples in one batch, such as several of one class. The
        result may depend on the arguments only, because a resumed run computes it again.

        Args:
            samples: The training samples.
            batch_size: Samples per batch and process.
            processes: Processes that share each batch.
            seed: Seed of the run.
            epoch: Epoch of the run, from 0.

        Returns:
            For each batch, one list of sample indices per process; or ``None`` to shuffle all samples.
        """
        return None

    def read_stream(self, name: str, data: Any) -> Samples:
        """Find the samples of a stream, without decoding any image.

        Args:
            name: Name of the stream, one of ``streams`` or one that a transfer loss uses.
            data: The user's argument.

        Returns:
            Samples in any order. By default images without targets: of a folder, a sequence of paths
            or a map-style dataset; ``Batch.targets`` is then ``None``. Override it to read targets,
            which ``collate`` combines.

        Raises:
            DataError: The dataset is missing or has no images.
        """
        return unlabeled_samples(data)

    def stream_transform(self, name: str, preprocess: PreprocessConfig) -> Transform | None:
        """Create the random augmentation of one sample of a stream.

        Args:
            name: Name of the stream.
            preprocess: As for ``train_transform``.

        Returns:
            As ``train_transform``, for the stream's targets, which may be ``None``. The default
            augments nothing.
        """
        return None

    @property
    def learned_from_targets(self) -> str:
        """What ``bind`` has computed from the training targets beside class names, in words, or nothing.

        Such as class weights that balance their frequencies. Differential privacy does not cover it, so
        that private runs refuse it.
        """
        return ""

    def optimizers(self) -> tuple[OptimizerSpec, ...]:
        """Return the optimizers of training; the default is that of the run, for everything.

        With several, each step runs ``training_step`` once per optimizer, in this order, on the same
        batch; ``batch.step.optimizer`` names the one whose parameters are updated by the result.
        Together they must train all that a phase trains, and no two the same.
        """
        return ()

    def provenance(self) -> Mapping[str, str]:
        """Return where weights come from that the task brings along, beside those of the backbone.

        Returns:
            Entries to add to ``BackboneInfo.provenance``: of a part of the head under its name, such as
            ``{"head.text: source": ..., "head.text: license": "mit"}``, and of another network that is only
            learned from, ``{"text teacher: license": "mit"}``.
        """
        return {}

    def learning_rates(self) -> Mapping[str, float]:
        """Return factors on the learning rate of parts of the network, beside those of a phase.

        Returns:
            Factors by name as in ``Phase.rates``, such as ``{"head.text": 0.1}``; none by default.
        """
        return {}

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        """Compute the loss parts of one batch; override it for unusual training.

        Args:
            network: Has ``backbone``, ``head`` and ``loss``.
            batch: Images, targets and original sizes, on the device; ``batch.step`` tells where in
                the run this is.

        Returns:
            Loss parts by name, see ``build_loss``.
        """
        parts: LossParts = network.loss(network.head(network.backbone(batch.images)), batch.targets)
        return parts

    def inference_step(self, network: Network | InferenceGraph, images: Tensor) -> Any:
        """Compute outputs in evaluation, prediction and export; override it for several passes.

        A task that combines several views of an image, such as its mirror image, does so here, with
        torch operators only.

        Args:
            network: Has ``backbone`` and ``head``.
            images: float (N, C, height, width), preprocessed.

        Returns:
            What ``decode`` accepts.
        """
        return network.head(network.backbone(images))

    def evaluation_step(self, network: Network, batch: Batch) -> Mapping[str, Tensor]:
        """Compute what metrics need beside decoded results, such as a likelihood.

        Called without gradients when a network is evaluated. Exported files do not compute it:
        ``headline`` must not need it, or ``proof_samples`` provides it.

        Args:
            network: Has ``backbone`` and ``head``, in evaluation mode.
            batch: Samples and targets, on the device.

        Returns:
            Named tensors with the batch as first dimension, which ``Metrics.update`` finds among the
            decoded results; the default is none.
        """
        return {}

    def proof_samples(self, network: Network, samples: Samples) -> Samples:
        """Return samples to prove an exported file of a network on.

        Override it if metrics need ``evaluation_step``, which exported files do not compute.

        Args:
            network: The trained network, in evaluation mode.
            samples: From ``read`` or ``read_evaluation``.

        Returns:
            The same images, with targets from which metrics can be computed without it; by default the
            samples as they are.
        """
        return samples

    def validation_loss(self, loss: nn.Module, outputs: Any, batch: Batch) -> LossParts | None:
        """Compute the loss parts of a validation batch, which are shown beside those of training.

        Called without gradients when a network is evaluated after an epoch; nothing is trained or selected
        by it.

        Args:
            loss: A copy of the network's loss, in evaluation mode.
            outputs: As ``decode`` receives them.
            batch: Samples and targets, on the device.

        Returns:
            Loss parts by name, see ``build_loss``; ``None`` if there are none. By default the loss of the
            outputs, if the training step is the default one, targets of both splits mean the same, and
            the loss compares no samples with each other.
        """
        plain = type(self).training_step is OptionalMethods.training_step
        if not plain or not self.splits_alike or self.loss_over_pairs:
            return None
        parts: LossParts = loss(outputs, batch.targets)
        return parts

    def metric_inputs(self, name: str, decoded: Arrays, targets: Any) -> tuple[Any, Any] | None:
        """Return predictions and targets as metrics of torchmetrics take them, for ``fit(metrics=...)``.

        Args:
            name: What the user calls the metric; of a task with several heads, that of a head comes first.
            decoded: The output of ``decode`` as arrays.
            targets: Collated targets, on the CPU.

        Returns:
            What ``torchmetrics.Metric.update`` takes, predictions first; ``None`` if the batch has no targets.

        Raises:
            OptionError: The task has no such pairs, as by default.
        """
        raise OptionError(
            f"metrics: task {self.name!r} has no predictions and targets in the form that torchmetrics takes"
        )

    def mistakes(self, decoded: Arrays, targets: Any) -> NDArray[np.float64] | None:
        """Rate how wrong the results of each image are, for reports to show the worst ones.

        Args:
            decoded: The output of ``decode`` as arrays.
            targets: Collated targets, on the CPU.

        Returns:
            float64 (N,), 0 for right results and higher for worse ones; ``None``, the default, for the
            headline metric of each image alone.
        """
        return None

    def label_judge(self) -> LabelJudge | None:
        """Return what judges labels by the results of a model that has not seen them, for ``find_mistakes``.

        The default is ``None``: classes of whole images are judged without it, and other labels not at all.
        """
        return None

    def class_rows(self, backbone: Backbone) -> Mapping[str, ClassRows | None] | None:
        """Return which tensors of the head have rows for classes, for runs that continue with other classes.

        Rows of classes that both heads know by name are kept, and other rows begin anew. Whatever is not
        named here is kept if name and shape are the same.

        Args:
            backbone: What the head is built for.

        Returns:
            By name in the head's ``state_dict()``: where the classes are, or ``None`` for a tensor that
            depends on the classes in another way, and begins anew. Instead of all, ``None`` if it is not
            known, so that runs with other classes are refused. By default, tensors with one row for each
            of the option ``class_names`` are found by building the head for one class more.
        """
        return find_class_rows(cast("Task", self), backbone)

    def explained(
        self, outputs: Any, sizes: Tensor, wanted: str | None = None
    ) -> Sequence[Explained]:
        """Return what explanations of one image can be of.

        Args:
            outputs: Of a batch of one image, as ``decode`` receives them.
            sizes: int64 (1, 2), its original height and width.
            wanted: What the user asks for, such as a class name; by default what is predicted.

        Returns:
            The results to explain, the most important first. By default the predicted class or, if there
            are class logits for each pixel, the regions of the largest classes.

        Raises:
            OptionError: There is nothing of the name ``wanted``.
        """
        task = cast("Task", self)
        if task.class_logits(outputs) is None:
            return ()
        names = list(task.metadata().get("class_names", ()))
        return list(
            explain_logits(lambda o: cast(Tensor, task.class_logits(o)), outputs, names, wanted)
        )

    def identity_ids(self, targets: Sequence[Any]) -> Sequence[int] | None:
        """Return what each image shows, of tasks that embed images so that the same is close together.

        Advice compares backbones by it; see ``advise``.

        Args:
            targets: Targets of training images, not collated.

        Returns:
            One number for each; ``None``, as by default, if there is no such thing.
        """
        return None

    def read_published(self, tensors: Mapping[str, Tensor]) -> Published | None:
        """Recognize a checkpoint of a whole network, backbone and head, that another library published.

        Args:
            tensors: The tensors of a file by name.

        Returns:
            What it is, in the terms of this task; ``None``, as by default, if it is not recognized.

        Raises:
            WeightsError: It is recognized, and this task has no head for it, or needs further options.
        """
        return None

    def after_training(self, results: Mapping[str, Any]) -> Self:
        """Return a copy of the task with what training determined, such as a decision threshold.

        Args:
            results: The metrics of the best epoch.

        Returns:
            The task of the trained model; head and ``decode`` must not change.
        """
        return self

    def with_text_head(self, class_names: Sequence[str], text: TextHead) -> Self | None:
        """Return a copy of the task that recognizes classes by texts about them; see ``zero_shot``.

        Args:
            class_names: The classes.
            text: The classifier that its head will be.

        Returns:
            A task whose ``build_head`` makes a head for it; ``None`` if the task does not recognize
            classes so, as by default.
        """
        return None

    def set_text_head(self, head: nn.Module, text: TextHead) -> None:
        """Set the weights of a head that such a task has built; called without gradients.

        Args:
            head: From ``build_head``; changed in place.
            text: The classifier.
        """
        raise NotImplementedError

    def with_text_encoder(self, name: str) -> Self:
        """Return a copy of a trained task whose text encoder is found under another name; see ``load``.

        Args:
            name: As ``load_text_encoder`` takes it.

        Raises:
            OptionError: The task has no text encoder, as by default.
        """
        raise OptionError(
            f"a model for task {cast('Task', self).name!r} contains all that it needs of texts; omit text_encoder"
        )

    def open_inputs(self) -> Mapping[str, str]:
        """Return which tensors of the head an exported file may take as inputs, to exchange its classes.

        Returns:
            Names in the head's ``state_dict()``, each of a tensor whose first dimension is the classes, by
            name of the input; none by default.
        """
        return {}

    def model_methods(self) -> Mapping[str, Callable[..., Any]]:
        """Return further methods of this task's models.

        Returns:
            Functions by name that take the model first: with ``{"count": count_cells}``,
            ``model.count(images)`` calls ``count_cells(model, images)``. No name may be that of an
            attribute of ``TransferModel``.
        """
        return {}

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """Embed texts so that they can be compared with embeddings of images, see ``TransferModel.embed``.

        A task that trains what embeds texts defines ``embed_texts(self, texts, network)``: the core passes
        the trained network to methods that take one.

        Args:
            texts: The texts.

        Returns:
            float32 (N, D); ``None``, the default, if the task embeds images only. Those of images are what
            ``decode`` returns as ``embedding``, float32 (N, D), or else the pooled features of the backbone.
        """
        return None

    def extra_outputs(self) -> Mapping[str, ExtraOutput]:
        """Return what users may request of exported files, besides what every task has.

        Returns:
            Functions by name, of torch operators only: ``function(graph, features, outputs)`` takes
            the ``InferenceGraph`` with its ``backbone`` and ``head``, the features of the first pass
            through the backbone and what ``decode`` receives, and returns a tensor with one entry per
            image. ``embedding`` and ``feature_map`` exist without it.
        """
        return {}

    def export_support(self) -> ExportSupport:
        """Return how exported files are compared and what exporters need; see ``ExportSupport``."""
        return ExportSupport()

    def draw(self, image: PillowImage.Image, prediction: Any) -> PillowImage.Image:
        """Draw a prediction on its image.

        The default calls the function that an installed plugin names in the entry-point group
        ``visiongraft.drawings``, which draws the predictions of exported files as well, and returns
        the image unchanged if there is none. Only a task that is not installed needs to override it.
        """
        function = _drawing_function(self.name)
        return image if function is None else function(image, prediction)


@cache  # the search goes through all installed distributions
def _drawing_function(task: str) -> Callable[..., Any] | None:
    return task_function(DRAWINGS, task)
