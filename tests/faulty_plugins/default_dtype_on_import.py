"""Sets torch's default dtype on import, which changes the weights of every new network."""

import torch
from sound_task import Color

from visiongraft import hookimpl

torch.set_default_dtype(torch.float64)


class Faulty(Color):
    name = "default-dtype-on-import"


@hookimpl
def register_tasks():
    return [Faulty]
