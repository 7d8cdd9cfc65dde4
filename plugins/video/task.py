"""Video classification as a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.data.samples import EvaluationSplit, Splits
from visiongraft.data.video import is_video
from visiongraft.errors import OptionError
from visiongraft.inputs import Clips
from visiongraft.options import bound_class_names, check_choice
from visiongraft.plugins.classification.data import evaluated, make_splits
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.video.example import make_dataset
from visiongraft.plugins.video.head import TEMPORAL, VideoHead, mean_of
from visiongraft.plugins.video.reading import read_dataset, with_groups_held_out
from visiongraft.plugins.video.shift import TSM
from visiongraft.plugins.video.transforms import ClipTransform, random_clip
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import HeadFit, LossParts, TaskExamples, Transform
from visiongraft.task_contract.text_head import TextHead

if TYPE_CHECKING:
    from visiongraft.data.batch import Batch
    from visiongraft.network import InferenceGraph, Network


@dataclass(frozen=True)
class Video(Classification):
    """Classify videos: one class per video, or several.

    A backbone for images runs on the frames of a clip, and the head joins them. Metrics, losses and the
    options for these are those of classification.

    Attributes:
        frames: Frames of a clip.
        clips: Clips of a video. Augmented training takes one of them at random; otherwise their logits
            are averaged.
        sampling: ``"uniform"`` spreads the frames of a clip over the whole video; ``"dense"`` takes
            neighboring ones.
        stride: Distance of neighboring frames with ``"dense"``, in frames.
        temporal: How the frames of a clip are joined: ``"mean"``, ``"attention"`` or
            ``"transformer"``, which alone sees their order.
    """

    name: ClassVar[str] = "video"
    pipeline_tag: ClassVar[str] = "video-classification"

    frames: int = 8
    clips: int = 1
    sampling: Literal["uniform", "dense"] = "uniform"
    stride: int = 2
    temporal: Literal["mean", "attention", "transformer"] = "attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("temporal", self.temporal, list(TEMPORAL))
        _ = self.inputs  # checks the others

    @property
    def inputs(self) -> Clips:  # type: ignore[override]
        return Clips(self.frames, self.clips, self.sampling, self.stride)

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        dataset = read_dataset(data, self.inputs, self.class_names)
        dataset = with_groups_held_out(dataset, validation, seed)
        return make_splits(dataset, self.class_names, self.multi_label, validation, seed)

    def claims(self, data: Any) -> bool:
        """Check for video files; folders of frames look like folders of images of a class."""
        if not isinstance(data, (str, Path)) or not super().claims(data):
            return False
        train = self.read(data).train
        return any(is_video(Path(train.name(i))) for i in range(len(train)))

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        names = bound_class_names(self.class_names)
        return evaluated(read_dataset(data, self.inputs, names), names, bool(self.multi_label))

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return ClipTransform(preprocess.size, self.augment, self.flip, self.frames)

    def augmentable(self, image: Any, target: Any) -> tuple[Any, dict[str, Any]]:
        """Return one of the clips of a video, at random."""
        return random_clip(image, self.frames), {}

    def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        mixed, targets = super().mix(images.flatten(1, 2), targets)  # all frames of a clip alike
        return mixed.unflatten(1, images.shape[1:3]), targets

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        self._check_shift(network.backbone)
        return super().training_step(network, batch)

    def inference_step(self, network: Network | InferenceGraph, images: Tensor) -> Any:
        self._check_shift(network.backbone)
        return super().inference_step(network, images)

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        if backbone.takes_clips and self.clips > 1:
            raise OptionError(
                f"{backbone.info.name} takes a whole clip; clips={self.clips} needs a backbone for images"
            )
        dim = backbone.info.embedding_dim
        temporal = TEMPORAL[self.temporal](dim, self.frames)
        return VideoHead(temporal, self.build_classifier(dim), self.frames)

    @property
    def refits_head(self) -> bool:
        """Whether the classifier sees the means over frames, also once the network is trained."""
        return self.temporal == "mean" and self.starts_head and not self.cached

    def start_head(
        self,
        head: nn.Module,
        samples: Iterable[tuple[Features, Tensor]],
        first: HeadFit | None = None,
    ) -> HeadFit:
        """Start from a linear classifier of the means over frames, as which all ways of joining start."""
        assert isinstance(head, VideoHead)
        means = ((Features((), mean_of(features.pooled)), labels) for features, labels in samples)
        return super().start_head(head.classifier, means, first)

    def set_text_head(self, head: nn.Module, text: TextHead) -> None:
        """Compare the mean over frames with texts, as which all ways of joining start."""
        assert isinstance(head, VideoHead)
        super().set_text_head(head.classifier, text)

    def open_inputs(self) -> Mapping[str, str]:
        return {name: f"classifier.{tensor}" for name, tensor in super().open_inputs().items()}

    def _check_shift(self, backbone: Backbone) -> None:
        """Refuse a temporal shift from one clip of a video into the next."""
        for choice in backbone.adapters:
            if isinstance(choice.adapter, TSM):
                frames = choice.adapter.frames
                if frames != self.frames and (frames is not None or self.clips > 1):
                    raise OptionError(
                        f"adapter 'tsm' has frames={frames}, but clips have {self.frames}; pass "
                        f"tsm(frames={self.frames})"
                    )

    def examples(self) -> TaskExamples:
        make = partial(make_dataset, class_names=self.class_names, inputs=self.inputs)
        return TaskExamples(make, self._ideal)
