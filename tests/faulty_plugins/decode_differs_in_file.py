"""Decode does something else while it is traced."""

import torch
from sound_task import Color

from visiongraft import hookimpl


class Faulty(Color):
    name = "decode-differs-in-file"

    def decode(self, outputs, sizes):
        decoded = super().decode(outputs, sizes)
        if torch.compiler.is_exporting():
            decoded["probabilities"] = decoded["probabilities"] * 1.001
        return decoded


@hookimpl
def register_tasks():
    return [Faulty]
