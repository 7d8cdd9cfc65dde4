"""Trace the graph that PyTorch evaluates into one exported program."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx.experimental import _config as fx_config
from torch.fx.experimental.symbolic_shapes import free_symbols

from visiongraft.errors import ExportError, name_some
from visiongraft.exporters.open_graph import OpenGraph
from visiongraft.exporters.pt2.safety import LIBRARIES
from visiongraft.exporters.tracing import example_batch, silenced, untraceable
from visiongraft.inputs import Inputs
from visiongraft.network import InferenceGraph

EXPORTER = "pt2"
CLASSES = "classes"  # what the number of classes is called in descriptions


def trace(graph: InferenceGraph, size: tuple[int, int] | None = None) -> ExportedProgram:
    """Trace an inference graph.

    Args:
        graph: In evaluation mode, on the CPU.
        size: Fixed height and width of the images in pixels; any size if ``None``.

    Returns:
        A program that takes a raw batch, of images uint8 (N, H, W, C), and returns the task's decoded
        results by name. It holds no example, no stack traces, and no conditions that tracing found: those are
        Python code, and stricter than the program, which is proved at many sizes anyway.

    Raises:
        ExportError: PyTorch cannot trace it, or it has operators of its own.
    """
    inputs = graph.inputs(example_batch(graph.preprocess, size))
    free = graph.preprocess.inputs.axes(fixed_size=size is not None)
    kept = keep_classes(graph) if isinstance(graph, OpenGraph) else ()
    failure: Exception | None = None
    with silenced(), torch.no_grad(), _sizes_of_one():
        for strict in (False, True):  # len() of a tensor fixes the batch for the first alone
            try:
                program = torch.export.export(
                    graph,
                    tuple(inputs.values()),
                    dynamic_shapes=_dynamic((free, *graph.further_axes())),
                    strict=strict,
                )
                operators = graph.task.export_support().operators_for(EXPORTER)
                program = program.run_decompositions(operators) if operators else program
                break
            except Exception as error:  # whatever any operator's tracing raises
                failure = failure or error
        else:
            assert failure is not None
            raise untraceable(failure, size)
    _refuse_own_operators(program)
    return _strip(program, kept)


def keep_classes(graph: OpenGraph) -> tuple[str, ...]:
    """Let the file contain the graph's own classes, as tensors of the names of its inputs."""
    for name, value in graph.values.items():
        graph.register_buffer(name, value)
    return tuple(graph.values)


def open_shapes(program: ExportedProgram, names: Sequence[str]) -> dict[str, list[Any]]:
    """Describe the inputs of classes by name; the number of classes is ``"classes"``."""
    shapes = [node.meta["val"].shape for node in _inputs_of(program)[1:]]
    return {
        name: [CLASSES, *map(int, shape[1:])] for name, shape in zip(names, shapes, strict=True)
    }


def outputs_of(program: ExportedProgram, inputs: Inputs) -> list[dict[str, Any]]:
    """Describe the results of a program: name, dtype, shape.

    Args:
        program: The result of ``trace``.
        inputs: What it takes.

    Returns:
        One entry each, in order; sizes that vary as texts.
    """
    signature = program.graph_signature
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    images, *classes = (node.meta["val"].shape for node in _inputs_of(program))
    known = {str(images[axis]): name for axis, name in inputs.axes().items()}
    known |= {str(shape[0]): CLASSES for shape in classes}
    names = program.call_spec.out_spec.context
    found = []
    for name, node in zip(names, signature.user_outputs, strict=True):
        shape = [s if isinstance(s, int) else known.get(str(s), str(s)) for s in values[node].shape]
        dtype = str(values[node].dtype).removeprefix("torch.")
        found.append({"name": name, "dtype": dtype, "shape": shape})
    return found


def _sizes_of_one() -> AbstractContextManager[None]:
    """Let tracing treat sizes of 0 and 1 like all other sizes."""
    config: Any = fx_config  # its types do not know that it can be patched
    patched: AbstractContextManager[None] = config.patch(backed_size_oblivious=True)
    return patched


def _refuse_own_operators(program: ExportedProgram) -> None:
    """Raise an error if the file could be loaded only next to the plugin's code."""
    used = {
        node.target.name()
        for module in _graph_modules(program)
        for node in module.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
    }
    own = sorted(name for name in used if name.partition("::")[0] not in LIBRARIES)
    if own:
        raise ExportError(
            f"{name_some(own)} would be needed wherever the file is loaded; let the task provide its "
            f"form in PyTorch's own operators, in ExportSupport.operators[{EXPORTER!r}]"
        )


def _inputs_of(program: ExportedProgram) -> list[torch.fx.Node]:
    """Return the nodes of the inputs, in order."""
    nodes = {node.name: node for node in program.graph.nodes}
    return [nodes[name] for name in program.graph_signature.user_inputs]


def _dynamic(axes: Any) -> Any:
    """Return the same structure of axes, each of any size."""
    if isinstance(axes, dict):
        return {axis: Dim.DYNAMIC for axis in axes}
    return tuple(map(_dynamic, axes))


def _strip(program: ExportedProgram, kept: Collection[str]) -> ExportedProgram:
    """Remove what tracing adds: conditions, the example, and notes that name local files."""
    _drop_unused(program, kept)
    program._guards_code = []
    program.example_inputs = None
    used: set[Any] = set()
    for module in _graph_modules(program):
        for node in module.graph.nodes:
            node.meta = {key: value for key, value in node.meta.items() if key == "val"}
            used |= free_symbols(node.meta.get("val"))
    for symbol in set(program.range_constraints) - used:  # of what was replaced
        del program.range_constraints[symbol]
    return program


def _drop_unused(program: ExportedProgram, kept: Collection[str]) -> None:
    """Remove the tensors that no result depends on, such as what a head needs in training only.

    Args:
        program: The program; changed in place.
        kept: Names of tensors that stay nevertheless.
    """
    signature, graph = program.graph_signature, program.graph
    used = {node.name for node in graph.nodes if node.op != "placeholder" or node.users}
    for spec in list(signature.input_specs):
        tensor, name = spec.target, getattr(spec.arg, "name", None)
        own = spec.kind in (InputKind.PARAMETER, InputKind.BUFFER)
        if own and name not in used and tensor not in kept:
            signature.input_specs.remove(spec)
            graph.erase_node(next(node for node in graph.nodes if node.name == name))
            program.state_dict.pop(tensor, None)
            program.constants.pop(tensor, None)


def _graph_modules(program: ExportedProgram) -> list[torch.fx.GraphModule]:
    modules = program.graph_module.modules()
    return [module for module in modules if isinstance(module, torch.fx.GraphModule)]
