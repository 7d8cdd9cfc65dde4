"""Loads everything that can be loaded while forbidding pickles, commands and connections.

Usage: python run_audited.py SAVED_MODEL RUN_FOLDER PICKLE
Says when all is loaded, and then loads a pickle as a careless program would.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
from conftest import fit_toy, register_toys, toy_data

import visiongraft
from visiongraft.lookup.backbones import load_backbone

FORBIDDEN = ("pickle.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "socket.connect")


def forbid(event: str, args: tuple) -> None:
    if event.startswith(FORBIDDEN):
        raise RuntimeError(f"forbidden: {event} {args}")


if __name__ == "__main__":
    saved, run, pickled = sys.argv[1:]
    register_toys()
    fit_toy(toy_data(20), schedule="linear_probe", epochs=1)  # imports what training needs
    sys.addaudithook(forbid)
    model = visiongraft.load(saved)
    model.predict([image for image, _ in toy_data(2)])
    load_backbone(saved)
    load_backbone("toys/toy", Path(run, "backbone.safetensors"))
    load_backbone("toys/toy", Path(run, "backbone.pth"))
    fit_toy(toy_data(20), out=run, schedule="lp_ft", epochs=2, resume=True)
    print("loaded", flush=True)
    torch.load(pickled, weights_only=False)
