"""Nothing that the torch-free runtime can import, now or later, imports torch or onnx."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import visiongraft.exporters.runtime

HEAVY = {"torch", "torchvision", "timm", "onnx", "onnxscript", "accelerate", "torchmetrics"}


def imported(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions, except for types alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def source_of(module: str) -> Path | None:
    """Return the file of one of visiongraft's modules; ``None`` for a name inside one."""
    parent = module.rpartition(".")[0]
    if parent != "visiongraft" and source_of(parent) is None:
        return None
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # its parent is a module, not a package
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def test_no_file_that_the_runtime_can_import_imports_torch() -> None:
    folder = Path(visiongraft.exporters.runtime.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {"predictor", "onnx_file", "providers"} <= names
    package = "visiongraft.exporters.runtime"
    waiting, seen = [package, *(f"{package}.{name}" for name in names)], set[str]()
    while waiting:
        module = waiting.pop()
        source = None if module in seen else source_of(module)
        seen.add(module)
        if source is None:
            continue
        for name in imported(source):
            assert name.partition(".")[0] not in HEAVY, f"{module} imports {name}"
            if name.startswith("visiongraft."):
                waiting.append(name)
    assert {"visiongraft.data.images", "visiongraft.saving.files"} <= seen
