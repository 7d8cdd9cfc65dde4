"""The head puts a pickle into its state, and unpickles it when it is loaded."""

import pickle

import torch
from sound_task import Color, Head

from visiongraft import hookimpl


class Pickling(Head):
    def get_extra_state(self):
        return torch.frombuffer(bytearray(pickle.dumps({"version": 1})), dtype=torch.uint8)

    def set_extra_state(self, state):
        assert pickle.loads(state.numpy().tobytes())["version"] == 1


class Faulty(Color):
    name = "head-pickles-its-state"

    def build_head(self, backbone):
        return Pickling(backbone.info.embedding_dim, len(self.labels))


@hookimpl
def register_tasks():
    return [Faulty]
