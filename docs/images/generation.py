"""Draw ``generation.png``: digits that an autoencoder made, and ways from one to another.

Run it from anywhere: ``python docs/images/generation.py``. It needs scikit-learn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import visiongraft as vg
from visiongraft.plugins.generation.figures import interpolate, write_grid
from visiongraft.plugins.generation.task import Generation

COLUMNS = 12

if __name__ == "__main__":
    digits = (load_digits().images * 15.9).astype(np.uint8)[..., None]
    model = vg.fit(
        (list(digits[:1700]), list(digits[1700:1732])),
        task=Generation("vae", latents=10, generator="mlp", hidden=(256,), features_size=32),
        backbone="generation/mlp_relu",
        weights=None,
        in_channels=1,
        size=8,
        schedule="full(learning_rate=2e-3)",
        epochs=40,
        batch_size=64,
        select="last",
    )
    draw = model.task.inputs.draw
    ends = draw(4, seed=2)
    ways = [interpolate(ends[i], ends[i + 1], COLUMNS) for i in (0, 2)]
    latents = np.concatenate([draw(2 * COLUMNS, seed=0), *ways])
    drawn = np.stack([one.image for one in model.predict(latents)])
    images = np.concatenate([digits[:COLUMNS], drawn])
    write_grid(Path(__file__).with_name("generation.png"), images, COLUMNS)
    print(model.facts["metrics"])
