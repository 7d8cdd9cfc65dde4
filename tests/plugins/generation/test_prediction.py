"""A generated image is a small prediction with a file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from visiongraft.errors import ArtifactError
from visiongraft.plugins.generation.prediction import predictions


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_the_file_of_a_prediction_is_its_image(channels: int, mode: str) -> None:
    values = np.linspace(-0.1, 1.1, channels * 20, dtype=np.float32).reshape(1, channels, 4, 5)
    (prediction,) = predictions({"images": values}, {})
    assert prediction.image.shape == (4, 5, channels)
    assert (prediction.image.min(), prediction.image.max()) == (0, 255)
    with Image.open(io.BytesIO(prediction.files()["png"])) as written:
        assert written.mode == mode
        assert np.array_equal(np.asarray(written).reshape(4, 5, channels), prediction.image)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        predictions({"images": np.zeros((1, 2, 4, 4))}, {})
