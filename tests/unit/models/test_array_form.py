"""Stored arrays as a network wants them, against axes moved by hand."""

import numpy as np
import pytest
import torch
from scipy.special import logit

from mke_ray.errors import ConfigError
from mke_ray.models.array_form import ArrayForm, form_of

RNG = np.random.default_rng(0)
VIDEO = RNG.integers(0, 256, (2, 4, 5, 6, 3), np.uint8)
SOUND = RNG.normal(size=(2, 7)).astype(np.float32)


@pytest.mark.parametrize(
    ("stored", "layout", "array", "wanted"),
    [
        ("image", "BCHW", VIDEO[:, 0], VIDEO[:, 0].transpose(0, 3, 1, 2)),
        ("image", None, VIDEO[:, 0], VIDEO[:, 0]),
        ("video", "BTCHW", VIDEO, VIDEO.transpose(0, 1, 4, 2, 3)),
        ("video", "BCTHW", VIDEO, VIDEO.transpose(0, 4, 1, 2, 3)),
        ("video", "BCHW", VIDEO, VIDEO.reshape(8, 5, 6, 3).transpose(0, 3, 1, 2)),
        ("audio", "B1N", SOUND, SOUND[:, None]),
        ("audio", "NB", SOUND, SOUND.T),
        ("audio", "1BN1", SOUND, SOUND[None, :, :, None]),
        ("features", "BD", SOUND, SOUND),
    ],
)
def test_axes_are_moved_as_the_layout_says(stored, layout, array, wanted):
    found = ArrayForm(stored, layout).inputs(torch.from_numpy(array))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), wanted.astype(np.float32))


def test_values_are_scaled_and_standardised_by_channel():
    form = ArrayForm("image", "BCHW", scale=1 / 255, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    found = form.inputs(torch.from_numpy(VIDEO[:, 0]))[:, 1].numpy()
    np.testing.assert_allclose(found, (VIDEO[:, 0, ..., 1] / 255 - 0.2) / 0.6, rtol=1e-5)


def test_pictures_are_resized_and_frames_chosen():
    form = ArrayForm("video", "BTCHW", size=[10, 3], num_frames=2)
    found = form.inputs(torch.from_numpy(VIDEO))
    assert found.shape == (2, 2, 3, 10, 3)
    even = np.full((1, 4, 5, 6, 3), 7, np.uint8)
    np.testing.assert_allclose(form.inputs(torch.from_numpy(even)), 7.0, rtol=1e-5)
    alone = ArrayForm("video", "BTHWC", num_frames=2).inputs(torch.from_numpy(VIDEO))
    np.testing.assert_array_equal(alone.numpy(), VIDEO[:, [0, 3]])


def test_a_video_without_time_is_answered_by_the_mean_over_its_frames():
    form = ArrayForm("video", "BCHW")
    found = form.answered(VIDEO, lambda x: x.mean(dim=(2, 3)), is_multi=False)
    np.testing.assert_allclose(found, VIDEO.mean(axis=(1, 2, 3)), rtol=1e-5)


def test_probabilities_become_logits():
    form, p = ArrayForm("features", answers="probabilities"), torch.tensor([[0.25, 0.0]])
    np.testing.assert_allclose(form.logits(p, is_multi=False), np.log([[0.25, 1e-7]]), rtol=1e-5)
    np.testing.assert_allclose(form.logits(p, is_multi=True)[0, 0], logit(0.25), rtol=1e-5)
    assert torch.isfinite(form.logits(torch.tensor([[1.0, 0.0]]), is_multi=True)).all()


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"stored": "sound"}, "form.stored=sound"),
        (None, r"form=None: a file does not say.*form\.stored.*'audio'.*'layout'"),
        ({"layout": "BCHW"}, r"form=\{'layout': 'BCHW'\}: .*give form\.stored"),
        ({"stored": "image", "colour": "red"}, r"the keys \['colour'\]; choose from \['stored'"),
        ({"stored": "image", "layout": "BHW"}, "has the axes BHWC"),
        ({"stored": "image", "layout": "BCHWT"}, "has the axes BHWC"),
        ({"stored": "audio", "layout": "BCN"}, "has the axes BN"),
        ({"stored": "audio", "answers": "classes"}, "form.answers=classes"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(plain, said):
    with pytest.raises(ConfigError, match=said):
        form_of(plain)


def test_a_size_is_for_pictures():
    with pytest.raises(ConfigError, match="is for pictures, not audio"):
        ArrayForm("audio", size=[3, 3]).inputs(torch.from_numpy(SOUND))
