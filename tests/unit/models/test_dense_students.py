"""A dense student answers at every pixel, whatever the size, and ignores what a sample lacks."""

import pytest
import torch

from mke_ray.errors import ConfigError
from mke_ray.models import StudentTeacher, build_student, load_student, save_student
from mke_ray.models.dense import DenseStudent
from mke_ray.schema import LabelKind, LabelSpace

FUSIONS = ["add", "gated", "attention"]
SPACE = LabelSpace(("wall", "floor", "bed"), LabelKind.DENSE, 255)


def _spec(*modalities, fusion="add", **changes):
    encoders = {
        "rgb": {"type": "pyramid", "channels": [4, 8, 8]},
        "depth": {"type": "pyramid", "channels": [4, 8, 8], "reads": "hha"},
    }
    return {
        "encoders": {name: encoders[name] for name in modalities or encoders},
        "fusion": {"type": fusion},
        "decoder": {"channels": [8, 4]},
        **changes,
    }


def _scenes(num=2, height=12, width=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    arrays = {
        "rgb": torch.randint(
            0, 256, (num, height, width, 3), dtype=torch.uint8, generator=generator
        ),
        "depth": torch.rand(num, height, width, 6, generator=generator),
    }
    return arrays, {name: torch.ones(num, dtype=torch.bool) for name in arrays}


def _built(spec, seed=0):
    torch.manual_seed(seed)
    student = build_student(spec, 3).eval()
    with torch.no_grad():  # zeroed layers would hide what they see
        for one in student.parameters():
            one.add_(torch.randn_like(one) * 0.05)
    return student


@pytest.mark.parametrize("size", [(12, 16), (7, 9), (1, 1), (61, 83)])
def test_logits_have_the_height_and_width_of_the_picture_whatever_they_are(size):
    arrays, present = _scenes(1, *size)
    assert _built(_spec())(arrays, present).shape == (1, 3, *size)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_row_without_a_modality_does_not_depend_on_its_array(fusion):
    student = _built(_spec(fusion=fusion))
    arrays, present = _scenes()
    present["depth"][1] = False
    logits = student(arrays, present)
    arrays["depth"][1] = float("nan")
    assert torch.equal(student(arrays, present), logits)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_row_without_a_modality_does_not_depend_on_noise_upon_it(fusion):
    student = _built(_spec(fusion=fusion))
    arrays, present = _scenes()
    present["depth"][1] = False

    class Loud:
        def input(self, modality, x_BX):
            return x_BX + 100.0 if modality == "depth" else x_BX

        def hidden(self, x_BD):
            return x_BD

    logits, noisy = student(arrays, present), student(arrays, present, Loud())
    assert torch.allclose(noisy[1], logits[1])
    assert not torch.allclose(noisy[0], logits[0], atol=1e-3)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_an_array_that_is_not_given_counts_as_missing(fusion):
    student = _built(_spec(fusion=fusion))
    arrays, present = _scenes()
    without = student({"rgb": arrays["rgb"]}, {"rgb": present["rgb"]})
    present["depth"][:] = False
    assert torch.allclose(student(arrays, present), without, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_sample_does_not_depend_on_the_others_of_its_batch_in_training_either(fusion):
    student = _built(_spec(fusion=fusion)).train()
    arrays, present = _scenes(3)
    together = student(arrays, present)
    alone = student(
        {name: array[1:2] for name, array in arrays.items()},
        {name: flags[1:2] for name, flags in present.items()},
    )
    assert torch.allclose(together[1], alone[0], atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_both_modalities_matter_where_both_are_there(fusion):
    student = _built(_spec(fusion=fusion))
    arrays, present = _scenes()
    logits = student(arrays, present)
    for name in arrays:
        changed = {**arrays, name: arrays[name].flip(0)}
        assert not torch.allclose(student(changed, present), logits, atol=1e-4)


def test_the_sum_of_both_modalities_is_their_mean_where_both_are_there():
    student = _built(_spec())
    arrays, present = _scenes(1)
    maps = {
        name: student.encoder(name)(student.encoder(name).represent(array))
        for name, array in arrays.items()
    }
    fused = student.fusion(maps, present)
    for scale, one in enumerate(fused):
        expected = (maps["rgb"][scale] + maps["depth"][scale]) / 2
        assert torch.allclose(one, expected, atol=1e-6)


def test_noise_on_the_hidden_layer_is_put_on_the_coarsest_fused_map():
    student = _built(_spec())
    arrays, present = _scenes(1)
    seen = {}

    class Trace:
        def input(self, modality, x_BX):
            seen[modality] = tuple(x_BX.shape)
            return x_BX

        def hidden(self, x_BD):
            seen["hidden"] = tuple(x_BD.shape)
            return x_BD

    student(arrays, present, Trace())
    assert seen == {"rgb": (1, 3, 12, 16), "depth": (1, 6, 12, 16), "hidden": (1, 8, 2, 2)}


def test_pictures_and_depth_are_standardised_by_what_was_observed():
    student = build_student(_spec(), 3)
    arrays, present = _scenes(8)
    present["depth"][4:] = False
    arrays["depth"][4:] = 1000.0  # rows that lack depth tell nothing of it
    student.observe(arrays, present)
    student.freeze_normalisation()
    for name, num in (("rgb", 8), ("depth", 4)):
        shown = student.encoder(name).represent(arrays[name][:num])
        assert shown.mean(dim=(0, 2, 3)).abs().max() < 1e-4
        assert (shown.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-2


def test_a_picture_of_floats_is_read_like_one_of_bytes():
    student = _built(_spec("rgb"))
    arrays, present = _scenes(1)
    as_float = student({"rgb": arrays["rgb"].float()}, present)
    assert torch.allclose(as_float, student({"rgb": arrays["rgb"]}, present))


def test_encoders_of_different_widths_are_widened_to_the_widest():
    spec = _spec()
    spec["encoders"]["depth"]["channels"] = [2, 4, 4]
    arrays, present = _scenes()
    assert _built(spec)(arrays, present).shape == (2, 3, 12, 16)


def test_the_mean_over_a_mirror_is_that_of_both_and_knows_what_changes_its_sign():
    plain, averaged = _built(_spec("depth")), _built(_spec("depth", flip_average=True))
    arrays, present = _scenes(1)
    mirrored = arrays["depth"].flip(2)
    mirrored[..., 4] *= -1
    expected = (plain(arrays, present) + plain({"depth": mirrored}, present).flip(3)) / 2
    assert torch.allclose(averaged(arrays, present), expected, atol=1e-6)
    averaged.train()
    assert torch.allclose(averaged(arrays, present), plain(arrays, present), atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_saved_dense_student_gives_the_same_logits(fusion, tmp_path):
    student, spec = _built(_spec(fusion=fusion)), _spec(fusion=fusion)
    arrays, present = _scenes()
    student.observe(arrays, present)
    student.freeze_normalisation()
    save_student(tmp_path / "student", student, spec=spec, label_space=SPACE)
    loaded = load_student(tmp_path / "student")
    assert isinstance(loaded.student, DenseStudent)
    assert torch.equal(loaded.student(arrays, present), student(arrays, present))
    assert loaded.label_space == SPACE


def test_a_dense_fit_of_one_modality_is_a_teacher_of_pixels(tmp_path):
    spec = _spec("rgb", flip_average=True)
    student = _built(spec)
    save_student(tmp_path / "teacher", student, spec=spec, label_space=SPACE)
    teacher = StudentTeacher(tmp_path / "teacher")
    arrays, present = _scenes(1)
    logits = teacher.predict(arrays["rgb"].numpy())
    assert logits.shape == (1, 3, 12, 16)
    assert logits.dtype == "float32"
    expected = student({"rgb": arrays["rgb"]}, present).detach().numpy()
    assert logits == pytest.approx(expected, abs=1e-6)
    assert teacher.needs == {"kind": "image"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_hidden": [3]}, r"student\.head_hidden is no such key"),
        ({"decoder": {"channels": [8]}}, r"student\.decoder\.channels is \[8\]; give 2"),
        ({"decoder": {"widths": [8]}}, r"student\.decoder\.widths is no such key"),
        ({"fusion": {"type": "concat"}}, r"student\.fusion\.type is 'concat'"),
        ({"fusion": {"type": "attention", "num_heads": 3}}, r"num_heads=3 does not divide"),
        ({"dropout": 1.0}, r"student\.dropout is 1\.0"),
        ({"encoders": {"rgb": {"type": "image"}}}, r"student\.encoders\.rgb\.type is 'image'"),
        (
            {"encoders": {"rgb": {"type": "pyramid", "reads": "smell"}}},
            r"student\.encoders\.rgb\.reads is 'smell'",
        ),
        (
            {
                "encoders": {
                    "rgb": {"type": "pyramid", "channels": [4, 4, 4]},
                    "depth": {"type": "pyramid", "channels": [4, 4], "reads": "hha"},
                }
            },
            "different numbers of levels",
        ),
    ],
)
def test_a_part_outside_the_vocabulary_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        build_student({**_spec(), **change}, 3)


def test_modalities_of_different_sizes_are_refused():
    arrays, present = _scenes(1)
    arrays["depth"] = arrays["depth"][:, :6]
    with pytest.raises(ConfigError, match="different heights and widths"):
        _built(_spec())(arrays, present)
