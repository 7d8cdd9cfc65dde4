"""The layers of the source tree import only from lower layers, without cycles.

Imports inside functions count like all others. An import for types alone (``if TYPE_CHECKING:``) may
point up, but only to a contract.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    "core": "visiongraft",
    "plugins": "visiongraft.plugins",
    "exporters": "visiongraft.exporters",
}

# Rooms and root modules, lowest first; what is in one layer may import from its own room only.
# A name stands for a module, or for a package with all that no other entry names.
LAYERS: tuple[tuple[str, ...], ...] = (
    # Words, numbers and seeds: nothing of images, models or plugins.
    ("errors", "adaptation.timm_layers"),
    ("html", "saving.files"),
    ("caching.images", "class_file", "data.batch", "saving.classes", "saving.tensors"),
    (
        "options",
        "system",
        "seeds",
        "comparison",
        "certificate",
        "loss_parts",
        "advice.ridge",
        "calibration",
        "caching.units",
        "caching.folding",
        "training.selection.criteria",
    ),
    ("pages",),
    # What plugins may implement, and finding them: kinds are data here, no class is imported.
    ("hookspecs", "privacy"),
    ("registry",),
    ("group_training",),
    # Parts of tasks that need no model: what decodes, draws and compares without torch.
    (
        "task_contract.class_rows",
        "task_contract.functions",
        "task_contract.head_fit",
        "task_contract.published",
        "task_contract.narrowing",
        "task_contract.support",
        "task_contract.explained",
        "task_contract.label_judge",
        "task_contract.text_head",
    ),
    # Files, images, samples and batches.
    ("saving.tensor_files", "saving.lock"),
    ("data",),
    # What samples are, and from raw ones to the network's input.
    ("inputs",),
    ("preprocess",),
    ("data.findings",),
    ("data.check", "data.loader"),
    # Contracts of plugins.
    ("task_contract.group_rules", "task_contract.optional"),
    ("backbone", "schedules", "task", "exporter", "scorers", "text_encoders"),
    ("advice.probes", "module_backbone"),
    ("adaptation.layers",),
    ("adaptation.targets",),
    ("adapters",),
    ("adaptation.backbones",),
    ("optimizers",),
    ("task_contract", "extra_outputs", "saving.weights"),
    # One forward path: backbone, head, loss and decoding.
    ("network",),
    # Several tasks as one.
    ("multi_task",),
    ("caching", "saving.model_card"),
    ("saving",),
    # Training, from batches to checkpoints.
    ("config",),
    ("training",),
    ("adaptation",),
    ("tiling", "verification", "summary"),
    # Names become objects here, and are passed down.
    ("lookup",),
    ("model",),
    ("preparation.assembling",),
    ("preparation.starting",),
    ("averaging",),
    ("comparing",),
    ("explaining",),
    ("preparation",),
    ("tuning",),
    ("advice",),
    ("reporting",),
    ("text",),
    ("fitting",),
    ("auditing", "mistakes"),
    # The public face: it names what users meet.
    ("",),
    # Tools around it.
    ("scaffold", "testing"),
    ("cli",),
    ("__main__",),
    # What comes by the plugins' door. The core imports none of it.
    ("exporters",),
    ("plugins",),
)

# Where imports for types may point up to, each with what is named there.
CONTRACTS = (
    "adapters",  # Adapter
    "backbone",  # Backbone, BackboneSource
    "data.batch",  # Batch
    "data.readers",  # DataReader
    "exporter",  # Exporter
    "extra_outputs",  # ExtraOutput, which tasks offer
    "hookspecs",  # RunHooks
    "model",  # TransferModel, which exporters and callbacks are given
    "network",  # Network, which tasks are given
    "optimizers",  # OptimizerFactory, OptimizerSpec
    "reporting.contract",  # ReportSection
    "schedules",  # Schedule, Phase
    "scorers",  # Scorer
    "task",  # Task
    "text_encoders",  # TextEncoderSource
    "training.freezing",  # Receipt, which callbacks are given
    "training.run",  # Run, likewise
    "training.selection.trials",  # Trial, of which hooks are told
    "training.transfer.applying",  # Transfer, which the network holds while it trains
    "training.transfer_losses",  # TransferLoss
)

Graph = Mapping[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    """Return every module of the tree by its name without ``visiongraft.``."""
    found = {}
    for folder, package in SOURCES.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = [*package.split("."), *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(part for part in parts[1:] if part != "__init__")] = path
    return found


parsed = cache(ast.parse)


def imports_of(source: str, known: Iterable[str], types: bool) -> set[str]:
    """Return the known modules that a source imports.

    Args:
        source: Python source.
        known: Names of modules, without ``visiongraft.``.
        types: Return the imports under ``if TYPE_CHECKING:``, or all others.
    """
    tree = parsed(source)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if (id(node) in guarded) != types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if short(inner) in known else str(node.module))
    return {short(name) for name in found if name.split(".")[0] == "visiongraft"} & set(known)


def short(name: str) -> str:
    return name.removeprefix("visiongraft").removeprefix(".")


@cache
def graph(types: bool) -> dict[str, set[str]]:
    """Return what each module imports: for types alone, or otherwise."""
    known = modules()
    return {
        name: imports_of(path.read_text(encoding="utf-8"), known, types) - {name}
        for name, path in known.items()
    }


def entry_of(module: str, layers: tuple[tuple[str, ...], ...]) -> tuple[int, str]:
    """Return the layer of a module and its entry: the longest one that matches."""
    entries = [
        (len(entry), level, entry)
        for level, layer in enumerate(layers)
        for entry in layer
        if module == entry or (entry and module.startswith(f"{entry}."))
    ]
    if not entries:
        raise AssertionError(f"{module} is in no layer; name it in LAYERS")
    _, level, entry = max(entries)
    return level, entry


def upward(imports: Graph, layers: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the imports that point up, or sideways into another room."""
    found = []
    for module, targets in sorted(imports.items()):
        level, room = entry_of(module, layers)
        for target in sorted(targets):
            other, other_room = entry_of(target, layers)
            if other_room != room and other >= level:
                found.append(f"{module} imports {target}")
    return found


def circle(imports: Graph) -> list[str]:
    """Return some modules that import each other in a circle; empty if none do."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(imports.get(module, ())):
            found = visit(target, [*path, module])
            if found:
                return found
        done.add(module)
        return []

    return next(filter(None, (visit(module, []) for module in sorted(imports))), [])


def test_each_room_imports_only_from_rooms_below() -> None:
    assert upward(graph(types=False), LAYERS) == []


def test_imports_for_types_point_up_only_to_contracts() -> None:
    others = {
        module: {target for target in targets if target not in CONTRACTS}
        for module, targets in graph(types=True).items()
    }
    assert upward(others, LAYERS) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(graph(types=False)) == []


def test_the_layers_name_nothing_that_is_not_there() -> None:
    known = modules()
    entries = [entry for layer in LAYERS for entry in layer]
    assert len(set(entries)) == len(entries)
    assert [name for name in (*entries, *CONTRACTS) if name not in known] == []


@pytest.mark.parametrize("folder", sorted(SOURCES))
def test_imports_keep_to_the_rules_of_the_architecture(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        names = set()
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add("." * node.level + (node.module or ""))
        assert [name for name in names if name.startswith(".")] == [], path
        assert [name for name in names if name.split(".")[0] in SOURCES] == [], path
        if folder == "core":
            forbidden = ("visiongraft.plugins", "visiongraft.exporters")
            assert [name for name in names if name.startswith(forbidden)] == [], path


# ---- the tests of these tests ----

SMALL = (("low",), ("room",), ("high",))


@pytest.mark.parametrize(
    ("imports", "words"),
    [
        ({"low": {"high"}, "high": set()}, ["low imports high"]),
        ({"room.a": {"high"}, "high": set()}, ["room.a imports high"]),
        ({"room.a": {"room.b"}, "room.b": {"low"}, "low": set()}, []),
        ({"high": {"low", "room.a"}, "low": set(), "room.a": set()}, []),
    ],
)
def test_an_import_that_points_up_is_found(imports: Graph, words: list[str]) -> None:
    assert upward(imports, SMALL) == words


def test_a_module_in_no_layer_is_found() -> None:
    with pytest.raises(AssertionError, match="stray is in no layer"):
        upward({"stray": set()}, SMALL)


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_in_functions_and_for_types_are_distinguished() -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from visiongraft.task import Task\n"
        "def f():\n    from visiongraft.data import batch\n    import visiongraft.model\n"
    )
    known = {"task", "data", "data.batch", "model"}
    assert imports_of(source, known, types=True) == {"task"}
    assert imports_of(source, known, types=False) == {"data.batch", "model"}
