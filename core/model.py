"""A trained model: predict, evaluate, export, save; and loading one again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import nn

from visiongraft.adaptation.networks import (
    adapter_state,
    has_its_base,
    merged_network,
    remove_adapters,
)
from visiongraft.backbone import Backbone, BackboneInfo
from visiongraft.certificate import Certificate
from visiongraft.config import FitConfig
from visiongraft.data.check import check_evaluated
from visiongraft.data.samples import Samples
from visiongraft.errors import ArtifactError, OptionError, near_matches
from visiongraft.inputs.samples import InputSamples
from visiongraft.lookup.models import load_adapted, load_network
from visiongraft.lookup.reading import named_reader
from visiongraft.network import InferenceGraph, Network
from visiongraft.options import checks_keywords
from visiongraft.preprocess import as_size
from visiongraft.registry.callbacks import listen
from visiongraft.registry.manager import plugins
from visiongraft.saving.adapter_folder import adapter_folder, is_adapter, save_adapter
from visiongraft.saving.files import numbered, write_crops, write_prediction_files
from visiongraft.saving.saved_config import CONFIG
from visiongraft.saving.saved_model import model_folder, save_model
from visiongraft.saving.training_images import TrainingImages, write_training_images
from visiongraft.summary import Summary, html_facts, summarize
from visiongraft.system.progress import shown_progress, track
from visiongraft.task import Task
from visiongraft.task_contract.checks import read_splits
from visiongraft.task_contract.group_rules import GroupDecisions, Groups
from visiongraft.task_contract.narrowing import ScoreThreshold, check_narrowing, narrowed
from visiongraft.task_contract.texts import embed_texts
from visiongraft.tiling import decode_tiled
from visiongraft.training.callbacks import shows_progress
from visiongraft.training.embedding import embed_samples
from visiongraft.training.evaluation import decode_samples, measure_all
from visiongraft.training.measuring.evaluation_data import prepare_evaluation
from visiongraft.training.measuring.own_metrics import OwnMetrics


@dataclass(repr=False)
class TransferModel:
    """A network with what is known about it.

    ``visiongraft.fit`` and ``visiongraft.load`` make these. A task may add methods of its own, see
    ``Task.model_methods``.

    Attributes:
        network: Backbone and head, in evaluation mode.
        facts: Training, data and metrics, as JSON values.
        validation: Validation samples of the run, if available.
        run_folder: The run it came out of, if known.
        callbacks: The callbacks of the run that it came out of, if that was in this process.
        training_images: Digests of the images that it was trained on, if known.
        metrics: The user's own metrics of the run, likewise if that was in this process.
    """

    network: Network
    facts: dict[str, Any] = field(default_factory=dict)
    validation: Samples | None = None
    run_folder: Path | None = None
    callbacks: pluggy.PluginManager | None = field(default=None, compare=False)
    training_images: TrainingImages | None = field(default=None, compare=False)
    metrics: OwnMetrics = field(default_factory=OwnMetrics, compare=False)

    def __repr__(self) -> str:
        adapters = list(self.network.adapter_parameters)
        beside = f", adapters={adapters!r}" if adapters else ""
        return f"TransferModel({self.task.name!r} on {self.backbone_info.name!r}{beside})"

    def _repr_html_(self) -> str:
        return html_facts(self.network, self.facts, self.run_folder)

    def summary(self) -> Summary:
        """Count parameters by stage, and operations; ``print(model.summary())`` shows a table."""
        return summarize(self.network)

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.network.task

    def __getattr__(self, name: str) -> Any:
        """Return one of the task's model methods; see ``Task.model_methods``."""
        network = self.__dict__.get("network")  # not there yet while a copy is being made
        model_methods = {} if network is None else network.task.model_methods()
        if name in model_methods:
            return partial(model_methods[name], self)
        public = {n for n in dir(type(self)) if not n.startswith("_")}
        raise AttributeError(
            f"a model has no {name!r}{near_matches(name, {*public, *model_methods})}"
        )

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.task.model_methods()})

    @property
    def backbone_info(self) -> BackboneInfo:
        """Facts about its backbone."""
        return self.network.backbone.info

    @checks_keywords
    def predict(
        self,
        images: Any,
        *,
        batch_size: int = 32,
        save: str | Path | None = None,
        tile: int | tuple[int, int] | None = None,
        score_threshold: ScoreThreshold | None = None,
        top: int | None = None,
        save_crops: bool = False,
        groups: Groups | None = None,
    ) -> list[Any]:
        """Predict images.

        Args:
            images: A path, a folder, an array (H, W, C) uint8, a PIL image, a tensor (C, H, W)
                uint8 or float in 0..1, or a sequence of these. A task of clips takes videos, folders
                of frames, arrays (T, H, W, C) and tensors (T, C, H, W).
            batch_size: Images per forward pass.
            save: Folder for images with the predictions drawn on them, and for files that
                predictions have, such as masks.
            tile: Side, or height and width, of the overlapping windows in pixels that big images
                are cut into, for tasks that predict maps such as masks.
            score_threshold: Least score or probability of objects and classes in predictions, from 0 to 1;
                ``None`` for what the task has decided. Or scores by class name, with ``"*"`` for all others.
            top: The most objects or classes in a prediction; ``None`` for all.
            save_crops: Whether to write the objects in the images into ``crops/CLASS`` of that folder, too, for
                tasks whose predictions have boxes.
            groups: The group of each image, by which a model with thresholds by group decides: their names, a file with
                the columns ``path`` and ``group``, or a function from the name of an image to its group.

        Returns:
            One typed prediction per image, in order, also if there is only one image.

        Raises:
            DataError: An image cannot be read.
            OptionError: The task predicts no maps, and ``tile`` is set, or its predictions have no scores; or there are
                groups, and the model has no thresholds for them.
        """
        decisions = GroupDecisions.of(groups, self.facts, "the model")
        check_narrowing(score_threshold, top, self.task.metadata().get("class_names", ()))
        if save_crops and save is None:
            raise OptionError("save_crops=True needs a folder: pass save=FOLDER")
        samples = InputSamples.of(images, self.task.inputs)
        found: dict[int, Any] = {}
        for decoded, _, indices in self._decoded(samples, batch_size, tile, for_metrics=False):
            found.update(zip(indices, self.task.predictions(decoded), strict=True))
        if decisions is not None:
            found = {i: decisions.decided(one, i, samples.name(i)) for i, one in found.items()}
            decisions.finish(len(samples))
        results = [narrowed(found[i], score_threshold, top) for i in range(len(samples))]
        if save is not None:
            self._draw(samples, results, Path(save), save_crops)
        return results

    @checks_keywords
    def embed(
        self,
        images: Any = None,
        *,
        text: str | Sequence[str] | None = None,
        batch_size: int = 32,
    ) -> NDArray[np.float32]:
        """Compute one vector for each image, such as for a search or a plot.

        Args:
            images: As in ``predict``.
            text: One or several texts instead, for tasks that embed both, such as retrieval.
            batch_size: Images per forward pass.

        Returns:
            float32 (N, D), in order: the embedding of a task that trains one, such as unit vectors of faces;
            otherwise the pooled features of the backbone.

        Raises:
            OptionError: There are neither images nor texts, or both, or the task embeds none.
            DataError: An image cannot be read.
        """
        if (images is None) == (text is None):
            raise OptionError("embed takes images, or text=...")
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            vectors = embed_texts(self.task, texts, self.network.eval())
            if vectors is None:
                raise OptionError(f"task {self.task.name!r} embeds no texts; pass images")
            return vectors
        if batch_size < 1:
            raise OptionError(f"batch_size={batch_size} is not at least 1")
        samples = InputSamples.of(images, self.task.inputs)
        return embed_samples(self.network, samples, batch_size)

    @checks_keywords
    def evaluate(
        self,
        data: Any,
        *,
        by: str | None = None,
        batch_size: int = 32,
        tile: int | tuple[int, int] | None = None,
        metrics: Any = None,
    ) -> dict[str, Any]:
        """Measure the model on labeled data.

        Issues with the data are logged as warnings, as in ``fit``.

        Args:
            data: In any form that ``fit`` takes; of a dataset with splits the test split is used,
                otherwise the validation split, otherwise all images.
            by: An attribute of the samples, such as a further column of a table, by whose values they
                are also measured in groups.
            batch_size: Images per forward pass.
            tile: As in ``predict``.
            metrics: Metrics of your own beside the task's, as for ``fit``; ``None`` for those of the run, if
                ``fit`` has just returned the model.

        Returns:
            The task's metrics; ``split``, the name of the split, ``"all"`` for all images of a
            dataset without splits; the counts ``images``, ``unreadable`` and
            ``images_seen_in_training``, which is ``None`` if unknown; and ``warnings``, a list of
            lines. Of samples with subjects, such as identities, those in training are counted too; with ``by`` also
            ``groups``, the metrics and ``images`` of each value.

        Raises:
            DataError: The dataset is missing, its classes differ, or too many images are unreadable.
            OptionError: No sample has the attribute.
        """
        channels = self.backbone_info.in_channels
        measured = prepare_evaluation(self.task, data, channels, self.training_images)
        decoded = self._decoded(measured.samples, batch_size, tile)
        own = self.metrics if metrics is None else OwnMetrics.of(metrics, self.task)
        return {**measure_all(self.task, measured.samples, by, decoded, own), **measured.facts}

    def export(
        self,
        path: str | Path,
        *,
        format: str | None = None,
        data: Any = None,
        callbacks: Sequence[str | object] | None = None,
        **options: Any,
    ) -> Certificate:
        """Write the model into one file that is proved to agree with PyTorch.

        Args:
            path: Where to.
            format: An exporter's name; found by the file's suffix if ``None``.
            data: Labeled images to prove it on; the validation split of the training data if
                ``None`` and at hand. Without any, the certificate notes that.
            callbacks: Names or objects, whose ``exported`` hook is called; those of the run if
                ``None``.
            options: The exporter's own.

        Returns:
            The certificate.

        Raises:
            ExportError: The file could not be made or disagrees; none is left.
            OptionError: No exporter writes files of this suffix.
        """
        path = Path(path)
        hooks = self.callbacks if callbacks is None else listen(callbacks)
        exporters = plugins().exporters()
        if format is None:
            fitting = [name for name, e in exporters.items() if e.suffix == path.suffix]
            if not fitting:
                known = ", ".join(sorted(e.suffix for e in exporters.values()))
                raise OptionError(f"{path}: no exporter for {path.suffix!r}; available: {known}")
            if len(fitting) > 1:
                raise OptionError(f"{path}: choose an exporter, format={' or '.join(fitting)}")
            format = fitting[0]
        exporter = plugins().get("exporter", format)()
        with shown_progress(hooks is not None and shows_progress(hooks)):
            samples = self.proof_samples(data)
            certificate: Certificate = exporter.export(self, path, samples, **options)
        if hooks is not None:
            hooks.hook.exported(model=self, path=path, certificate=certificate)
        return certificate

    @checks_keywords
    def save(self, folder: str | Path) -> None:
        """Write the model as a folder with weights, config and model card; adapters are merged.

        Args:
            folder: Where to.

        Raises:
            TrainingError: The merged weights are not finite.
        """
        name = plugins().name_of("task", type(self.task))
        merged = merged_network(self.network)
        save_model(Path(folder), merged, self.facts, name, self.training_images)

    def save_adapter(self, folder: str | Path) -> None:
        """Write the adapters and the head only, without the base that they were trained on.

        Args:
            folder: Where to; ``visiongraft.load(folder, base=...)`` loads them.

        Raises:
            OptionError: The model has no adapters, or its base trained as well.
        """
        network = self.network
        if not network.adapter_parameters:
            raise OptionError(
                "the model has no adapters of its own to save; train with fit(..., adapters=[...]), or "
                "load the adapter instead of the merged model, load(RUN/adapter, base=...)"
            )
        if not has_its_base(network):
            names = " and ".join(map(repr, network.adapter_parameters))
            raise OptionError(
                f"beside {names} the base has trained as well; save the model instead"
            )
        name = plugins().name_of("task", type(self.task))
        write_training_images(Path(folder), self.training_images)
        state = adapter_state(network)
        save_adapter(Path(folder), network, state, network.base_sha256, self.facts, name)

    @checks_keywords
    def use_adapter(self, folder: str | Path, *, task: type[Task] | None = None) -> None:
        """Exchange the adapters and the head for others that were trained on the same base.

        Args:
            folder: Written by ``save_adapter``, or a run folder.
            task: The task's class, if it is not an installed plugin's.

        Raises:
            ArtifactError: The folder is missing or damaged, or its base is another one; the model
                then stays as it is.
        """
        path = adapter_folder(Path(folder))
        if not is_adapter(path):
            raise ArtifactError(f"{path} is not the folder of an adapter; see model.save_adapter")
        device = next(self.network.parameters()).device
        backbone = remove_adapters(deepcopy(self.network))
        network, config = load_adapted(path, backbone, task)
        training_images = TrainingImages.read(path)
        self.network, self.training_images = network.to(device), training_images
        self.facts, self.validation, self.run_folder = config.facts, None, None

    def inference_graph(self, extra_outputs: Sequence[str] = ()) -> InferenceGraph:
        """Return the graph from raw images to predictions, on the CPU and in evaluation mode.

        Adapters are merged, so that the graph is as fast as without them.

        Args:
            extra_outputs: Names of what to return beside the task's results, such as ``"embedding"``.

        Returns:
            The graph.

        Raises:
            OptionError: There is no such extra output.
        """
        self.network.to("cpu").eval()
        return InferenceGraph(merged_network(self.network), extra_outputs).eval()

    def proof_samples(self, data: Any = None) -> Samples | None:
        """Find the images that an exported file is proved on.

        Args:
            data: Labeled images; the validation split of the training data if ``None`` and at hand.

        Returns:
            The readable ones, or ``None`` if there are none at hand.

        Raises:
            DataError: The dataset is missing, its classes differ, or too many images are unreadable.
        """
        found = self._proof_samples(data)
        return None if found is None else self.task.proof_samples(self.network.eval(), found)

    def _proof_samples(self, data: Any) -> Samples | None:
        """Find the images as the task reads them."""
        channels = self.backbone_info.in_channels
        if data is not None:
            return prepare_evaluation(self.task, data, channels).samples
        if self.validation is not None:
            return self.validation
        if self.run_folder is None:
            return None
        config = FitConfig.read(self.run_folder)
        paths = config.data.values() if isinstance(config.data, dict) else [config.data]
        if not all(path and Path(named_reader(path)[1]).exists() for path in paths):
            return None
        splits = read_splits(self.task, config.data, config.held_out, config.seed)
        return check_evaluated(splits.validation, channels, self.task.inputs).samples

    def _decoded(
        self,
        samples: Samples,
        batch_size: int,
        tile: int | tuple[int, int] | None,
        *,
        for_metrics: bool = True,
    ) -> Iterator[tuple[dict[str, NDArray[Any]], Any, list[int]]]:
        """Yield decoded arrays, targets and positions, a batch at a time; see ``decode_samples``."""
        if batch_size < 1:
            raise OptionError(f"batch_size={batch_size} is not at least 1")
        window, label = as_size(tile, "tile"), "evaluating" if for_metrics else "predicting"
        if window is not None:
            results = decode_tiled(self.network, samples, window, batch_size)
            collate: Callable[[list[Any]], Any] = self.task.collate if for_metrics else list
            for index, decoded in enumerate(track(results, label, len(samples))):
                yield decoded, collate([samples.target(index)]), [index]
            return
        found = decode_samples(self.network, samples, batch_size, for_metrics=for_metrics)
        yield from track(found, label, len(samples), lambda one: len(one[2]))

    def _draw(
        self, samples: InputSamples, results: Sequence[Any], folder: Path, crops: bool
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for i, result in enumerate(results):
            shown, name = self.task.inputs.shown(samples.load(i)), numbered(i, samples.name(i))
            if shown is not None:
                drawn = self.task.draw(PillowImage.fromarray(shown), result)
                drawn.convert("RGB").save(folder / f"{name}.jpg", quality=90)
                if crops:
                    write_crops(folder, name, PillowImage.fromarray(shown), result)
            write_prediction_files(folder, name, result)


@checks_keywords
def load(
    folder: str | Path,
    *,
    task: type[Task] | None = None,
    base: str | Path | Backbone | None = None,
    backbone: nn.Module | None = None,
    text_encoder: str | None = None,
) -> TransferModel:
    """Load a saved model, or the best model of a run.

    Args:
        folder: A saved model's folder, a run folder, or the folder of an adapter.
        task: The task's class, if it is not an installed plugin's.
        base: What an adapter was trained on: the name of a backbone, the folder of a saved model, or
            a backbone, which is changed in place; ``None`` for the name that it was trained with. With
            a base, the adapter of a run folder is loaded instead of its merged model.
        backbone: The network that was passed to ``fit`` as backbone, if one was; it is copied, and gets
            the saved weights.
        text_encoder: Name of the text encoder, if the task has one and it is not found where it was in
            training, as a folder that has moved. Saving the model again keeps the name.

    Returns:
        The model, in evaluation mode on the CPU.

    Raises:
        ArtifactError: The folder is missing, damaged, no saved model, or one for another task.
        OptionError: The task has no text encoder, and ``text_encoder`` is given.
        PluginError: No installed plugin provides its task, and ``task`` is not given.
    """
    given = Path(folder) if base is None else adapter_folder(Path(folder))
    if is_adapter(given):
        network, config = load_adapted(given, base, task, text_encoder)
        return TransferModel(network, config.facts, training_images=TrainingImages.read(given))
    if base is not None:
        raise ArtifactError(
            f"{given} contains no adapter; omit base, which is for folders of save_adapter"
        )
    path = model_folder(given)
    if not given.is_dir():
        raise ArtifactError(f"{given} is not a folder; pass a run folder or a saved model's")
    if path == given and (given / "metrics.jsonl").is_file():
        raise ArtifactError(
            f"run {given} has no finished model yet; finish it with fit(..., resume=True)"
        )
    network, config = load_network(path, task, backbone, text_encoder)
    return TransferModel(
        network,
        config.facts,
        run_folder=given if path != given and (given / CONFIG).is_file() else None,
        training_images=TrainingImages.read(path),
    )
