"""All hooks that a plugin may implement.

A plugin is a module (or any object) named by an entry point in the group ``visiongraft``, or one
Python file named on the command line by ``--plugin``. It marks functions with
``visiongraft.hookimpl``; a function may take any subset of its hook's arguments.

Registration hooks are pure: they take nothing and return what the plugin provides. Run hooks are
implemented by callbacks, which a user chooses per run; installing a plugin changes nobody's run.

A plugin may state which version of these hooks and contracts it was written for::

    visiongraft_api = "2.0"

The first number changes when a plugin must be rewritten, the second when something is added. A
plugin for another first number, or for a later second one, is refused with an explanation; one
that declares nothing is taken to fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from visiongraft.adapters import Adapter
    from visiongraft.backbone import BackboneSource
    from visiongraft.certificate import Certificate
    from visiongraft.data.readers import DataReader
    from visiongraft.exporter import Exporter
    from visiongraft.model import TransferModel
    from visiongraft.optimizers import OptimizerFactory
    from visiongraft.reporting.contract import ReportSection
    from visiongraft.schedules import Phase, Schedule
    from visiongraft.scorers import Scorer
    from visiongraft.task import Task
    from visiongraft.text_encoders import TextEncoderSource
    from visiongraft.training.freezing import Receipt
    from visiongraft.training.run import Run
    from visiongraft.training.selection.trials import Trial
    from visiongraft.training.transfer_losses import TransferLoss

PROJECT = "visiongraft"
API_VERSION = (2, 2)
API_ATTRIBUTE = "visiongraft_api"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegistrationHooks:
    """What a plugin provides."""

    @hookspec
    def register_tasks(self) -> Iterable[type[Task]]:  # type: ignore[empty-body]
        """Provide tasks: what to learn, from the data's format to the typed prediction.

        Returns:
            Subclasses of ``Task``, each found by its ``name``: ``fit(..., task="regression")``.

        Example:
            ::

                @hookimpl
                def register_tasks():
                    return [Regression]
        """

    @hookspec
    def register_backbones(self) -> Iterable[BackboneSource]:  # type: ignore[empty-body]
        """Provide families of backbones.

        Returns:
            Instances of ``BackboneSource``, each found by its ``prefix``:
            ``fit(..., backbone="mine/small")``. What they build takes images float
            (N, C, H, W) and returns ``Features``: maps (N, C_i, H_i, W_i) and pooled (N, D).

        Example:
            ::

                @hookimpl
                def register_backbones():
                    return [MySource()]
        """

    @hookspec
    def register_schedules(self) -> Iterable[Schedule]:  # type: ignore[empty-body]
        """Provide schedules: which stages train, when, and how fast.

        Returns:
            Instances of ``Schedule``, as ``visiongraft.schedule`` makes them of generator
            functions, each found by its ``name``: ``fit(..., schedule="head_then_rest")``.

        Example:
            ::

                @schedule
                def head_then_rest(stages, epochs, *, learning_rate=1e-3):
                    yield Phase(1, "head", learning_rate)
                    if epochs > 1:
                        yield Phase(epochs - 1, "all", learning_rate / 10)

                @hookimpl
                def register_schedules():
                    return [head_then_rest]
        """

    @hookspec
    def register_optimizers(self) -> Iterable[OptimizerFactory]:  # type: ignore[empty-body]
        """Provide optimizers.

        Returns:
            Instances of ``OptimizerFactory``, as ``visiongraft.optimizers.optimizer`` makes them of
            functions, each found by its ``name``: ``fit(..., optimizer="rmsprop(alpha=0.9)")``.

        Example:
            ::

                @optimizer
                def rmsprop(groups, *, alpha=0.99):
                    return torch.optim.RMSprop(groups, alpha=alpha)

                @hookimpl
                def register_optimizers():
                    return [rmsprop]
        """

    @hookspec
    def register_exporters(self) -> Iterable[type[Exporter]]:  # type: ignore[empty-body]
        """Provide exporters, which write a trained model as one file and prove it.

        Returns:
            Subclasses of ``Exporter``, each found by its ``name`` or by its file ``suffix``:
            ``model.export("model.gz")``.

        Example:
            ::

                @hookimpl
                def register_exporters():
                    return [PackedExporter]
        """

    @hookspec
    def register_readers(self) -> Iterable[DataReader]:  # type: ignore[empty-body]
        """Provide data readers, which find samples in a dataset format that no task knows itself.

        Returns:
            Instances of ``DataReader``. Every task that reads the kind of targets that a
            reader reads can read its data: ``fit("photos.zip", task="mine")``. A reader
            is also found by its ``name``: ``fit("zip:photos.zip", ...)``.

        Example:
            ::

                @hookimpl
                def register_readers():
                    return [ZipReader()]
        """

    @hookspec
    def register_losses(self) -> Iterable[type[TransferLoss]]:  # type: ignore[empty-body]
        """Provide transfer losses, which tie the network to the backbone it started from.

        Returns:
            Subclasses of ``TransferLoss``, each found by its ``name``:
            ``fit(..., transfer_loss="l2_sp(alpha=0.01)")``.

        Example:
            ::

                @hookimpl
                def register_losses():
                    return [L2SP]
        """

    @hookspec
    def register_adapters(self) -> Iterable[type[Adapter]]:  # type: ignore[empty-body]
        """Provide adapters, which train few parameters in place of a whole backbone.

        Returns:
            Subclasses of ``Adapter``, each found by its ``name``:
            ``fit(..., adapters=["lora(rank=8)"])``.

        Example:
            ::

                @hookimpl
                def register_adapters():
                    return [Scaling]
        """

    @hookspec
    def register_scorers(self) -> Iterable[type[Scorer]]:  # type: ignore[empty-body]
        """Provide scorers, which rank backbones on a labeled dataset before any training.

        Returns:
            Subclasses of ``Scorer``, each found by its ``name``:
            ``advise(..., scorers=["spread"])``.

        Example:
            ::

                @hookimpl
                def register_scorers():
                    return [Spread]
        """

    @hookspec
    def register_text_encoders(self) -> Iterable[TextEncoderSource]:  # type: ignore[empty-body]
        """Provide families of text encoders, whose vectors describe classes in words.

        Returns:
            Instances of ``TextEncoderSource``, each found by its ``prefix``:
            ``zero_shot(..., text="mine/small")``.

        Example:
            ::

                @hookimpl
                def register_text_encoders():
                    return [MySource()]
        """

    @hookspec
    def register_callbacks(self) -> Iterable[type[Any]]:  # type: ignore[empty-body]
        """Provide callbacks for runs: classes whose objects implement some of ``RunHooks``.

        Returns:
            Classes that are called without arguments, each found by its ``name``:
            ``fit(..., callbacks=["progress", "mine"])``.

        Example:
            ::

                class Bell:
                    name = "bell"

                    @hookimpl
                    def run_finished(self):
                        print("done")

                @hookimpl
                def register_callbacks():
                    return [Bell]
        """

    @hookspec
    def register_report_sections(self) -> Iterable[type[ReportSection]]:  # type: ignore[empty-body]
        """Provide sections of the report of a run.

        Returns:
            Subclasses of ``ReportSection``, each of which every report has unless it is empty.

        Example:
            ::

                @hookimpl
                def register_report_sections():
                    return [Weather]
        """


class RunHooks:
    """The hooks of the callbacks of one run; only the main process calls them.

    The order is ``run_started``, then for each phase ``phase_started``, ``step_ended`` and
    ``epoch_ended`` and ``phase_ended``, at last ``run_finished`` or ``run_failed``.
    ``checkpoint_saved`` is called after each checkpoint, ``exported`` after the run, and
    ``strength_chosen`` after all trainings of a run that tries several strengths.
    """

    @hookspec
    def run_started(self, run: Run) -> None:
        """The run is about to start or to continue.

        Args:
            run: Config, network, history, folder and planned length of the run.

        Example:
            ::

                @hookimpl
                def run_started(self, run):
                    print(run.network.backbone.info.name, len(run.training))
        """

    @hookspec
    def phase_started(self, run: Run, phase: Phase, index: int) -> None:
        """A phase begins; its stages have been frozen and unfrozen.

        Args:
            run: The run.
            phase: The phase.
            index: Its position in the schedule, from 0.

        Example:
            ::

                @hookimpl
                def phase_started(self, phase, index):
                    print(index, phase.trainable)
        """

    @hookspec
    def step_ended(self, run: Run, step: int, steps: int, losses: dict[str, float]) -> None:
        """The optimizer has made a step.

        Args:
            run: The run.
            step: Number of this step in its epoch, from 1.
            steps: Steps in this epoch.
            losses: Loss parts by name, and their sum as ``"loss"``.

        Example:
            ::

                @hookimpl
                def step_ended(self, step, losses):
                    print(step, losses["loss"])
        """

    @hookspec
    def checkpoint_saved(self, run: Run, path: Path) -> None:
        """A checkpoint is completely written; a run that stops now resumes from it.

        A run without a folder saves no checkpoints, so this hook is not called.

        Args:
            run: The run.
            path: The checkpoint's file, which the next checkpoint replaces.

        Example:
            ::

                @hookimpl
                def checkpoint_saved(self, path):
                    shutil.copy(path, "backup")
        """

    @hookspec
    def epoch_ended(self, run: Run, record: dict[str, Any]) -> None:
        """An epoch was trained and validated.

        Args:
            run: The run.
            record: The line added to ``metrics.jsonl``: ``epoch`` and ``phase`` from 0,
                ``train`` (loss parts) and ``validation`` (metrics) by name, ``best``; with
                evaluation sets also ``evaluate_on`` (metrics by set and name).

        Example:
            ::

                @hookimpl
                def epoch_ended(self, record):
                    print(record["epoch"], record["validation"])
        """

    @hookspec
    def phase_ended(self, run: Run, receipt: Receipt) -> None:
        """A phase ended, and the tensors that it froze were proved unchanged.

        Args:
            run: The run.
            receipt: The proof.

        Example:
            ::

                @hookimpl
                def phase_ended(self, receipt):
                    print(len(receipt.frozen), "frozen tensors unchanged")
        """

    @hookspec
    def run_finished(self, run: Run) -> None:
        """The run is over and its best model is saved.

        Args:
            run: The run; its network has the weights of the best epoch.

        Example:
            ::

                @hookimpl
                def run_finished(self, run):
                    print(run.state.best)
        """

    @hookspec
    def run_failed(self, run: Run, error: BaseException) -> None:
        """The run ends with an error or an interruption, which is raised after this.

        Args:
            run: The run.
            error: What ended it.

        Example:
            ::

                @hookimpl
                def run_failed(self, error):
                    print("stopped:", error)
        """

    @hookspec
    def exported(self, model: TransferModel, path: Path, certificate: Certificate) -> None:
        """A model was exported and verified, and the file is written.

        Called on the callbacks passed to ``model.export``, otherwise on those of the run that the
        model came out of, if it has not been loaded from a folder since.

        Args:
            model: The model.
            path: The exported file.
            certificate: What was compared, and what came out.

        Example:
            ::

                @hookimpl
                def exported(self, path, certificate):
                    print(path, certificate.difference)
        """

    @hookspec
    def strength_chosen(self, run: Run, trials: Sequence[Trial]) -> None:
        """All trainings of a run with several strengths of a transfer loss are over, and one is kept.

        Before this, each training has called the other hooks like a run of its own.

        Args:
            run: The one that is kept, in the folder of the whole.
            trials: All of them, in their order.

        Example:
            ::

                @hookimpl
                def strength_chosen(self, run, trials):
                    print([trial.name for trial in trials])
        """
