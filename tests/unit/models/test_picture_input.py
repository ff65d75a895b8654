"""Pictures prepared on the device are those that the model's own processor prepares."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from transformers import (
    CLIPImageProcessor,
    ConvNextImageProcessor,
    Mask2FormerImageProcessor,
    SegformerImageProcessor,
    ViTImageProcessor,
)

from mke_ray.errors import ConfigError
from mke_ray.models.picture_input import PictureInput

RNG = np.random.default_rng(0)
PROCESSORS = {
    "square": ViTImageProcessor(size={"height": 32, "width": 24}),
    "nearest": ViTImageProcessor(size={"height": 32, "width": 24}, resample=0),
    "not resized": ViTImageProcessor(do_resize=False, do_normalize=False),
    "levels": ViTImageProcessor(do_rescale=False, do_normalize=False),
    "cropped": CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 24, "width": 24}
    ),
    "padded": CLIPImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 27, "width": 41}),
    "crop of a share": ConvNextImageProcessor(size={"shortest_edge": 32}),
    "warped": ConvNextImageProcessor(size={"shortest_edge": 384}),
    "ade": SegformerImageProcessor(size={"height": 64, "width": 64}),
    "edges": Mask2FormerImageProcessor(size={"shortest_edge": 48, "longest_edge": 60}),
    "one edge": Mask2FormerImageProcessor(size={"shortest_edge": 48, "longest_edge": 160}),
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(("height", "width"), [(40, 52), (20, 30), (61, 33)])
def test_the_batch_is_prepared_as_by_the_processor(name, height, width):
    found = PictureInput(PROCESSORS[name])
    coarse = RNG.integers(0, 256, (3, -(-height // 5), -(-width // 5), 3), np.uint8)
    sharp = np.repeat(np.repeat(coarse, 5, 1), 5, 2)[:, :height, :width]
    noise = RNG.integers(0, 256, (3, height, width, 3), np.uint8)
    for pictures in (sharp, noise):
        x = torch.from_numpy(np.ascontiguousarray(pictures))
        made, wanted = found(x), found.own(x)
        apart = (made - wanted).abs()
        assert made.shape == wanted.shape and made.dtype == torch.float32
        assert apart.max() <= found._level() and apart.mean() < 0.15 * found._level()


def test_a_filter_that_torch_lacks_is_refused_with_the_way_out():
    lanczos = ViTImageProcessor(size={"height": 32, "width": 24}, resample=1)
    pictures = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="preparation=own"):
        PictureInput(lanczos)(pictures)
    assert PictureInput(lanczos, "own")(pictures).shape == (1, 3, 32, 24)


class Darker(ViTImageProcessor):
    """A processor that does more than its settings say."""

    def _preprocess(self, images, *args, **more):
        return super()._preprocess([one // 2 for one in images], *args, **more)


def test_a_processor_that_does_more_than_it_says_is_found_out():
    pictures = torch.full((1, 8, 8, 3), 200, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=r"Darker makes .* set preparation=own"):
        PictureInput(Darker())(pictures)
    assert PictureInput(Darker(), "own")(pictures).mean() < -0.2
