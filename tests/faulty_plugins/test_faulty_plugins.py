"""The conformance kit under sabotage: each plugin here has one fault, which the kit must find.

All of them are installed together, so none may break another one or visiongraft itself. Each faulty
task goes through every check that trains nothing, and through the one that its fault needs: the
named check must be the first to fail, for the stated reason, and others only if they are said to
trip over the same fault. ``sound_task`` passes everything. What takes long on it and passes on other
sound plugins in tests/core/testing, too, is left to the exhaustive run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.short_trials import ShortTrial, trial_for
from visiongraft.caching import plan
from visiongraft.caching.images import CachedImages
from visiongraft.exporter import Exporter
from visiongraft.hookspecs import API_VERSION
from visiongraft.registry.manager import PluginManager, using
from visiongraft.testing import (
    BACKBONE_CHECKS,
    EXPORTER_CHECKS,
    READER_CHECKS,
    SCHEDULE_CHECKS,
    TASK_CHECKS,
    BackboneTrial,
    Check,
    ExporterTrial,
    ReaderTrial,
    Result,
    ScheduleTrial,
    TaskTrial,
    run_all,
)
from visiongraft.testing.plugins import RECORD_CHECKS, check_plugin
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.caching import replay_changes_nothing
from visiongraft.testing.tasks.data import DATA_CHECKS
from visiongraft.testing.tasks.processes import PROCESS_CHECKS

HERE = Path(__file__).parent
HOST_API = ".".join(map(str, API_VERSION))
PLUGINS = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("test_"))
CHEAP = {check.name for check in (*DATA_CHECKS, *FORWARD_CHECKS)}


@dataclass(frozen=True)
class Case:
    """A plugin, the check that finds its fault (and others that may fail too), and part of the message."""

    plugin: str
    checks: tuple[str, ...]
    words: str


# Another plugin fails the same check in seconds less, or the check starts several processes.
SECOND_OF_A_KIND = {
    "backbone_counts_its_calls",
    "backbone_differs_in_file",
    "backbone_gives_nothing",
    "backbone_keeps_a_tensor_to_itself",
    "compare_sees_the_first_only",
    "decode_depends_on_values",
    "decode_fixes_the_batch",
    "labels_in_any_order",
    "labels_kept_on_the_class",
    "loss_is_upside_down",
    "schedule_changes_the_history",
    "state_in_the_second_phase",
    "stream_in_its_own_order",
}


def case(plugin: str, checks: str, words: str) -> Any:
    marks = [pytest.mark.exhaustive] if plugin in SECOND_OF_A_KIND else []
    return pytest.param(Case(plugin, tuple(checks.split()), words), id=plugin, marks=marks)


TASKS = [
    case("decode_differs_in_file", "the_exported_file_agrees", "disagrees with PyTorch"),
    case("decode_depends_on_values", "the_exported_file_agrees", "PyTorch cannot export"),
    case("decode_fixes_the_batch", "the_exported_file_agrees", "inferred a static shape"),
    case(
        "decode_is_random",
        "decode_is_repeatable batch_size_does_not_matter",
        "decode the same images twice",
    ),
    case("decode_mixes_images", "batch_size_does_not_matter", "the results of one batch"),
    case(
        "extra_output_mixes_images",
        "extra_outputs_belong_to_single_images",
        "the results of one batch",
    ),
    case("decode_needs_an_image", "no_image_gives_no_result", "to decode an empty batch"),
    case("decode_in_half_precision", "half_precision_trains", "in torch.bfloat16"),
    case(
        "dropout_in_evaluation",
        "decode_is_repeatable batch_size_does_not_matter loss_parts_are_means metrics_do_not_depend_on_batches",
        "decode the same images twice",
    ),
    case(
        "head_captures_batch_size",
        "batch_size_does_not_matter extra_outputs_belong_to_single_images no_image_gives_no_result "
        "loss_parts_are_means metrics_do_not_depend_on_batches",
        "RuntimeError",
    ),
    case(
        "head_changes_features",
        "features_stay_untouched learned_tensors_are_registered",
        "other values in pooled",
    ),
    case("head_fixes_the_size", "any_image_size_works", "an input of 40x24"),
    case("head_has_an_idle_layer", "learned_tensors_are_registered", "none for head.hidden"),
    case("state_outside_the_module", "a_killed_run_resumes_exactly", "never interrupted"),
    case("stream_in_its_own_order", "a_killed_run_resumes_exactly", "never interrupted"),
    case("optimizer_of_its_own", "a_killed_run_resumes_exactly", "keeps an optimizer of its own"),
    case("state_between_runs", "equal_runs_are_equal", "no state may be kept outside"),
    case("loss_parameters_not_registered", "learned_tensors_are_registered", "not a parameter of"),
    case("loss_is_a_sum", "loss_parts_are_means", "a mean over samples, not a sum"),
    case("weighted_sum_is_a_mean", "loss_parts_are_means", "a mean over samples, not a sum"),
    case("optimizer_leaves_the_loss_out", "every_parameter_has_one_optimizer", "none for loss."),
    case("optimizers_share_the_head", "every_parameter_has_one_optimizer", "two for head."),
    case("pair_loss_is_a_sum", "loss_parts_are_means", "a mean over pairs, not a sum"),
    case("pair_loss_undeclared", "loss_parts_are_means", "a mean over samples, not a sum"),
    case("pair_loss_minds_the_order", "loss_parts_are_means", "of them in another order"),
    case("mean_loss_claims_pairs", "loss_parts_are_means", "because loss_over_pairs is set"),
    case(
        "model_method_hides_a_method",
        "declares_itself",
        "names are not attributes of TransferModel",
    ),
    case("loss_needs_two_samples", "every_single_image_has_a_loss", "finite scalar tensors"),
    case("loss_is_upside_down", "a_few_images_are_overfit", "a value near 1"),
    case("batch_norm_thaws", "frozen_stays_frozen", "running_mean"),
    case("label_order_changes", "targets_keep_their_meaning", "as when it was read to train on"),
    case("labels_change_in_the_file", "class_names_survive_saving_and_export", "metadata"),
    case(
        "metric_above_one",
        "headline_stays_in_bounds ideal_predictions_score_best",
        "a value from 0 to 1",
    ),
    case("metric_averages_batches", "metrics_do_not_depend_on_batches", "as in one batch"),
    case("evaluation_mixes_images", "metrics_do_not_depend_on_batches", "spread"),
    case(
        "headline_needs_pytorch",
        "exported_files_are_measured_alike",
        "or proof_samples provides its results",
    ),
    case("metric_never_perfect", "ideal_predictions_score_best", "expected 1"),
    case(
        "compare_is_blind",
        "compare_sees_differences",
        "the proof of an exported file would be void",
    ),
    case("predictions_hold_arrays", "predictions_are_plain", "float32 is not JSON serializable"),
    case(
        "worker_data_do_not_pickle", "data_can_be_sent_to_workers", "the result of train_transform"
    ),
    case("augmentation_is_not_seeded", "augmentation_is_seeded", "different results"),
    case("bad_data_crash", "bad_data_raises_a_clear_error", "TypeError at bad_data_crash.py"),
    case(
        "options_are_no_json",
        "options_survive_json targets_keep_their_meaning",
        "frozenset is not JSON serializable",
    ),
    case(
        "projection_is_not_saved",
        "a_saved_model_predicts_the_same",
        "load it and predict an image",
    ),
    case("training_taps_a_frozen_layer", "replay_changes_nothing", "differs from computed"),
    case("labels_in_any_order", "two_processes_train_alike", "not that of a set"),
    case("labels_kept_on_the_class", "another_process_predicts_the_same", "IndexError"),
    case("augmentation_follows_the_steps", "workers_change_nothing", "a worker process"),
    case("augmentation_gives_0_to_1", "augmentation_keeps_the_range", "values in 0..255"),
    case("head_pickles_its_state", "nothing_is_pickled", "a pickle in tensor"),
    case("state_in_the_second_phase", "a_killed_run_resumes_exactly", "never interrupted"),
    case("name_of_two_words", "declares_itself", "an identifier"),
    case(
        "validation_is_training", "examples_are_read", "validation images that are not trained on"
    ),
    case(
        "targets_stay_behind", "any_number_of_targets_can_be_collated", "tensors inside a Wrapped"
    ),
    case("compare_sees_the_first_only", "compare_sees_differences", "number 1 is changed"),
    case("learns_no_image", "a_few_images_are_overfit", "results must depend on the image"),
    case("no_example_data", "examples_are_read", "has no examples to be checked with"),
]

CAREFREE = case("default_dtype_on_import", "it_leaves_settings_alone", "from torch.float32 to")

REFUSED = [
    case("wrong_hook_arguments", "it_loads", "takes no arguments, but register_tasks(registry)"),
    case("misspelled_hook", "it_loads", "did you mean 'register_tasks'?"),
    case("hook_raises", "it_loads", "register_tasks() raised FileNotFoundError"),
    case("import_error", "it_loads", "No module named 'a_module_that_nobody_has'"),
    case("import_exits", "it_loads", "this plugin needs another machine"),
    case("old_api", "it_loads", f"written for plugin API 0.9; this visiongraft has {HOST_API}"),
    case("newer_api", "it_loads", "install a newer visiongraft"),
    case("name_clash_one", "its_names_are_its_own", "also provided by plugin name_clash_two"),
    case("name_clash_two", "its_names_are_its_own", "also provided by plugin name_clash_one"),
]

OTHERS = [
    case("backbone_lists_a_name_twice", "names_are_listed", "each name once"),
    case("backbone_says_wrong_strides", "info_matches_the_network", "as in info"),
    case("backbone_draws_by_itself", "equal_seeds_build_equal_networks", "other random weights"),
    case("backbone_counts_in_evaluation", "evaluation_changes_nothing", "must not be updated"),
    case(
        "backbone_ignores_channels", "sizes_and_channels_are_supported_or_refused", "as requested"
    ),
    case("backbone_gives_no_gradient", "gradients_reach_every_stage", "cannot be fine-tuned"),
    case(
        "backbone_draws_beside_torch",
        "gradient_checkpointing_changes_nothing",
        "other values in",
    ),
    case("backbone_counts_in_a_frozen_stage", "frozen_stages_stay_frozen", "backbone.stem.mean"),
    case("backbone_gives_nothing", "a_few_images_are_overfit", "results must depend on the image"),
    case("backbone_counts_its_calls", "a_killed_run_resumes_exactly", "never interrupted"),
    case(
        "backbone_drops_by_gradient",
        "replay_changes_nothing",
        "training step differs from computed",
    ),
    case("backbone_keeps_a_tensor_to_itself", "a_saved_model_predicts_the_same", "load it"),
    case("backbone_differs_in_file", "the_exported_file_agrees", "disagrees with PyTorch"),
    case("schedule_options_change_in_json", "options_survive_json", "as a run's config has them"),
    case("schedule_names_a_stage", "phases_fill_the_epochs", "'stage4' is not a stage"),
    case("schedule_runs_over", "phases_fill_the_epochs", "2 epochs in total"),
    case(
        "schedule_stumbles_over_bad_results", "phases_fill_the_epochs", "'embedding' is not a stage"
    ),
    case("schedule_draws_lots", "plans_repeat", "the same phases"),
    case("schedule_rates_in_numpy", "frozen_stays_frozen", "float32 is not JSON serializable"),
    case("schedule_changes_the_history", "a_killed_run_resumes", "never interrupted"),
    case("exporter_has_no_suffix", "declares_itself", "small letters after a dot"),
    case(
        "exporter_makes_numbers_up",
        "the_certificate_lists_the_comparisons",
        "headline of both sides",
    ),
    case("exporter_proves_nothing", "a_file_that_disagrees_is_refused", "compared with PyTorch"),
    case("exporter_takes_any_option", "unknown_options_are_refused", "an OptionError"),
    case("exporter_cuts_the_file", "the_file_runs_without_pytorch", "to open the exported file"),
    case("reader_claims_any_file", "only_its_own_data_is_claimed", "claims a file of noise"),
    case("reader_takes_all_for_paths", "only_its_own_data_is_claimed", "TypeError at reader_takes"),
    case("reader_decodes_early", "splits_are_found", "24 images decoded"),
    case("reader_forgets_a_name", "targets_have_names", "'dog'; expected one of cat"),
    case("reader_keeps_a_file_open", "samples_can_be_sent_to_workers", "no open file"),
    case("reader_crashes_on_damage", "damaged_data_raises_a_clear_error", "FileNotFoundError"),
]
PLAIN = {  # what trains little
    check.name
    for check in (*BACKBONE_CHECKS[:6], *SCHEDULE_CHECKS[:3], *READER_CHECKS, *EXPORTER_CHECKS)
    if check.name != "a_file_that_disagrees_is_refused"
}
LONG = {  # seconds each; they pass on the sound plugins of tests/core/testing
    "frozen_stays_frozen",
    "the_exported_file_agrees",
    "class_names_survive_saving_and_export",
    "equal_runs_are_equal",
    "workers_change_nothing",
    "half_precision_trains",
    "the_certificate_lists_the_comparisons",
    "a_file_that_disagrees_is_refused",
    "unknown_options_are_refused",
    "the_file_runs_without_pytorch",
}
OPENERS = {"sound_exporter": "traced", "exporter_cuts_the_file": "cut"}  # suffixes


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PluginManager]:
    """Install every plugin of this folder, each as a distribution of its own, and use them."""
    site = tmp_path_factory.mktemp("site")
    for name in PLUGINS:
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir()
        about = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        (folder / "METADATA").write_text(about)
        points = f"[visiongraft]\n{name} = {name}\n"
        if name in OPENERS:
            points += f"[visiongraft.predictors]\n{OPENERS[name]} = sound_exporter:Opened\n"
        (folder / "entry_points.txt").write_text(points)
    before = set(sys.modules)
    sys.path[:0] = [str(HERE), str(site)]
    try:
        with using(PluginManager()) as manager:
            yield manager
    finally:
        sys.path[:2] = []
        for name in set(sys.modules) - before:
            if name in PLUGINS:
                del sys.modules[name]


def failed(results: list[Result]) -> dict[str, str]:
    return {r.check: r.message for r in results if r.outcome == "failed"}


def assert_found(case: Case, results: list[Result]) -> None:
    found = failed(results)
    check, *consequences = case.checks
    assert next(iter(found), None) == check, found
    assert set(found) <= {check, *consequences}, list(found.values())
    message = found[check]
    assert case.words in message
    assert message.startswith(f"{check}: ")
    assert "; got " in message
    assert "; expected " in message
    assert "; read more: python -m pydoc visiongraft." in message


def only_item(manager: PluginManager, plugin: str, kind: str) -> Any:
    (record,) = [r for r in manager.records if r.name == plugin]
    (name,) = record.provides[kind]
    return manager.get(kind, name)


@pytest.mark.parametrize("case", TASKS)
def test_a_faulty_task_is_failed_for_its_fault_alone(installed: PluginManager, case: Case) -> None:
    task = only_item(installed, case.plugin, "task")
    suffix = ".onnx" if case.plugin in SECOND_OF_A_KIND else ".pt2"  # which is quicker
    trial = trial_for(task, case.checks, exporter=suffix)
    checks = [check for check in TASK_CHECKS if check.name in case.checks]
    assert_found(case, list(run_all(case.plugin, trial, checks)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", TASKS)
def test_a_faulty_task_passes_the_cheap_checks_before_the_one_that_fails_it(
    installed: PluginManager, case: Case
) -> None:
    if case.plugin == "no_example_data":
        pytest.skip("nothing else can be tried without data")
    trial = TaskTrial(only_item(installed, case.plugin, "task"))
    checks = [check for check in TASK_CHECKS if check.name in CHEAP | set(case.checks)]
    assert_found(case, list(run_all(case.plugin, trial, checks)))


def test_a_plugin_that_changes_settings_for_everybody_is_failed(installed: PluginManager) -> None:
    (case,) = CAREFREE.values
    (record,) = [r for r in installed.records if r.name == case.plugin]
    assert_found(case, list(run_all("it", record, RECORD_CHECKS)))
    assert torch.get_default_dtype() is torch.float32


def test_a_task_that_reads_the_images_is_trained_on_images(installed: PluginManager) -> None:
    trial = TaskTrial(only_item(installed, "training_reads_the_images", "task"))
    (result,) = run_all("it", trial, [replay_changes_nothing])
    assert result.outcome == "not tried"
    assert "Faulty.training_step: replay was requested but is impossible" in result.message
    assert "the task reads the images themselves (torch.Tensor.square)" in result.message


def test_a_cache_that_answered_with_zeros_for_images_would_be_noticed(
    installed: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check sees it where the cache does not refuse such a task."""

    def zeros(images: CachedImages, *_: Any, **__: Any) -> Tensor:
        return torch.zeros(images.shape)

    monkeypatch.setattr(CachedImages, "square", zeros)
    monkeypatch.setattr(plan, "_disagreement", lambda *_: "")
    trial = TaskTrial(only_item(installed, "training_reads_the_images", "task"))
    (result,) = run_all("it", trial, [replay_changes_nothing])
    assert result.outcome == "failed"
    assert "to train a head with and without replay" in result.message


@pytest.mark.parametrize("case", REFUSED)
def test_a_plugin_that_cannot_be_used_is_failed_and_not_tried_further(
    installed: PluginManager, case: Case
) -> None:
    results = list(check_plugin(case.plugin))
    assert_found(case, results)
    assert {r.outcome for r in results if r.subject.startswith("task")} <= {"not tried"}


KINDS_OF_TRIALS: dict[str, tuple[Callable[[Any], Any], tuple[Check[Any], ...]]] = {
    "backbone": (BackboneTrial, BACKBONE_CHECKS),
    "schedule": (ScheduleTrial, SCHEDULE_CHECKS),
    "exporter": (ExporterTrial, EXPORTER_CHECKS),
    "reader": (ReaderTrial, READER_CHECKS),
}


@pytest.fixture(scope="module")
def specimen() -> TaskTrial:
    """What exporters export; it is trained once for all of them."""
    return ShortTrial(Specimen())


def exporter_trial(exporter: type[Exporter], specimen: TaskTrial) -> ExporterTrial:
    trial = ExporterTrial(exporter)
    trial.specimen.once("trained", specimen.trained)
    return trial


@pytest.mark.parametrize("case", OTHERS)
def test_other_faulty_plugins_are_failed_too(
    installed: PluginManager, specimen: TaskTrial, case: Case
) -> None:
    kind = case.plugin.partition("_")[0]
    make, checks = KINDS_OF_TRIALS[kind]
    item, needed = only_item(installed, case.plugin, kind), set(case.checks)
    if kind == "exporter":
        trial = exporter_trial(item, specimen)
    else:
        trial, needed = make(item), PLAIN | needed
    tried = [check for check in checks if check.name in needed]
    assert_found(case, list(run_all(case.plugin, trial, tried)))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "case",
    [
        case
        for case in OTHERS
        # The one without a suffix would export to no effect.
        if str(case.id).startswith("exporter") and case.id != "exporter_has_no_suffix"
    ],
)
def test_a_faulty_exporter_passes_the_other_checks_before_the_one_that_fails_it(
    installed: PluginManager, specimen: TaskTrial, case: Case
) -> None:
    trial = exporter_trial(only_item(installed, case.plugin, "exporter"), specimen)
    tried = [check for check in EXPORTER_CHECKS if check.name in PLAIN | set(case.checks)]
    assert_found(case, list(run_all(case.plugin, trial, tried)))


def test_faulty_plugins_break_no_other_plugin(installed: PluginManager) -> None:
    records = {record.name: record for record in installed.records}
    broken = {name for name, record in records.items() if record.problems}
    assert broken == {param.values[0].plugin for param in (*REFUSED, CAREFREE)}
    assert set(PLUGINS) <= records.keys()
    assert installed.get("task", "color").__module__ == "sound_task"
    assert {"classification", "color"} <= installed.tasks().keys()
    assert {"lp_ft", "names_a_stage"} <= installed.schedules().keys()
    assert {"onnx", "trusting"} <= installed.exporters().keys()


def test_every_plugin_here_is_sound_or_has_its_case() -> None:
    cases = {param.values[0].plugin for param in (*TASKS, *REFUSED, *OTHERS, CAREFREE)}
    sound = {"sound_task", "sound_backbone", "sound_exporter", "sound_reader"}
    sound |= {"training_reads_the_images"}  # which the cache must notice; see above
    assert cases | sound == set(PLUGINS)
    assert len(cases) >= 70


@pytest.fixture(scope="module")
def sound(installed: PluginManager) -> TaskTrial:
    return TaskTrial(installed.get("task", "color"))


def marked(check: Check[Any]) -> Any:
    long = check in PROCESS_CHECKS or check.name in LONG
    mark = pytest.mark.exhaustive if long else pytest.mark.slow
    return pytest.param(check, id=check.name, marks=mark)


@pytest.mark.parametrize("check", [marked(check) for check in TASK_CHECKS])
def test_the_sound_task_passes_everything_among_the_faulty_ones(
    sound: TaskTrial, check: Check[Any]
) -> None:
    check(sound)


@pytest.mark.parametrize("check", BACKBONE_CHECKS[:6], ids=lambda check: check.name)
def test_the_sound_backbone_passes(installed: PluginManager, check: Check[Any]) -> None:
    check(only_item(installed, "sound_backbone", "backbone"))


@pytest.mark.parametrize("check", [marked(check) for check in EXPORTER_CHECKS])
def test_the_sound_exporter_passes(traced: ExporterTrial, check: Check[Any]) -> None:
    check(traced)


@pytest.fixture(scope="module")
def traced(installed: PluginManager, specimen: TaskTrial) -> ExporterTrial:
    return exporter_trial(only_item(installed, "sound_exporter", "exporter"), specimen)


@pytest.mark.parametrize("check", READER_CHECKS, ids=lambda check: check.name)
def test_the_sound_reader_passes(installed: PluginManager, check: Check[Any]) -> None:
    check(only_item(installed, "sound_reader", "reader"))
