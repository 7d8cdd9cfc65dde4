"""What decides how onnxruntime's CPU kernels round."""

from __future__ import annotations

import onnxruntime

from visiongraft.exporters.doctor.machine import describe_machine


def kernels() -> str | None:
    """Name what onnxruntime chooses its CPU kernels by.

    Returns:
        Its version, the system, and the processor's instructions; ``None`` if they are not known here.
    """
    machine = describe_machine()
    instructions = ", ".join(machine["instructions"])
    if not instructions:
        return None
    return f"onnxruntime {onnxruntime.__version__}, {machine['system']} with {instructions}"
