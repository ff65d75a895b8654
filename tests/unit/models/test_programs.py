"""Files of ONNX, TorchScript and torch.export answer as the networks they were made of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mke_ray.config import build
from mke_ray.errors import ConfigError
from mke_ray.models.onnx_files import weight_files
from mke_ray.models.programs import OnnxTeacher, ProgramTeacher
from mke_ray.models.teachers import Teacher

RNG = np.random.default_rng(0)
VIDEO = RNG.integers(0, 256, (5, 3, 8, 8, 3), np.uint8)
SOUND = RNG.normal(size=(5, 16)).astype(np.float32)
PICTURES = {"stored": "video", "layout": "BCHW", "scale": 1 / 255, "mean": [0.5], "std": [0.25]}
SOUNDS = {"stored": "audio", "layout": "B1N"}


def net_of_pictures() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


def net_of_sound() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()


def by_torch(video=VIDEO):
    with torch.inference_mode():
        x = (torch.from_numpy(video).permute(0, 1, 4, 2, 3) / 255 - 0.5) / 0.25
        return net_of_pictures()(x.flatten(0, 1)).unflatten(0, (-1, 3)).mean(dim=1).numpy()


def script(path):
    torch.jit.script(net_of_pictures()).save(str(path))
    return str(path)


def exported(path):
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (torch.zeros(2, 3, 8, 8),)
    program = torch.export.export(net_of_pictures(), example, dynamic_shapes=[{0: batch}])
    torch.export.save(program, str(path))
    return str(path)


@pytest.mark.parametrize("name", ["net.pt", "net.pt2"])
def test_a_trusted_program_answers_as_its_network(tmp_path, name):
    path = (exported if name.endswith("2") else script)(tmp_path / name)
    teacher = ProgramTeacher(path, modality="video", form=PICTURES, trust=True, batch_size=4)
    assert isinstance(teacher, Teacher) and teacher.needs == {"kind": "video"}
    np.testing.assert_allclose(teacher.predict(VIDEO), by_torch(), atol=1e-5)


@pytest.mark.parametrize("name", ["net.pt", "net.pt2"])
@pytest.mark.parametrize("trust", [False, "yes"])
def test_a_program_is_not_even_opened_without_trust(tmp_path, name, trust):
    path = tmp_path / name
    path.write_bytes(b"not a program at all")
    with pytest.raises(ConfigError, match=r"runs code that whoever made it chose.*trust=true"):
        ProgramTeacher(str(path), modality="video", form=PICTURES, trust=trust)
    with pytest.raises(ConfigError, match="holds no program that torch reads"):
        ProgramTeacher(str(path), modality="video", form=PICTURES, trust=True)


def test_the_fingerprint_of_a_program_is_of_its_file_and_form(tmp_path):
    path = script(tmp_path / "net.pt")

    def of(form, classes=None):
        return ProgramTeacher(
            path, modality="video", form=form, trust=True, classes=classes
        ).fingerprint()

    assert of(PICTURES) == of(PICTURES, ["a", "b", "c"]) != of({**PICTURES, "scale": 1.0})
    before = of(PICTURES)
    torch.jit.script(net_of_sound()).save(path)
    assert of(PICTURES) != before


def onnx_file(path, network, axes, outputs):
    onnx = pytest.importorskip("onnx", reason="the extra dev is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    helper, array = onnx.helper, onnx.numpy_helper
    weight, bias = (one.detach().numpy() for one in network[-1].parameters())
    nodes = [
        helper.make_node("Flatten", ["sound"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["plain"], transB=1),
        helper.make_node("Mul", ["plain", "gain"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["shares"]),
    ]
    numbers = onnx.TensorProto
    gain = [helper.make_tensor_value_info("gain", numbers.FLOAT, [1])]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("sound", numbers.FLOAT, axes), *gain],
        [helper.make_tensor_value_info(one, numbers.FLOAT, [axes[0], 3]) for one in outputs],
        [array.from_array(weight, "weight"), array.from_array(bias, "bias")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(path))
    return str(path)


@pytest.fixture
def sound_onnx(tmp_path):
    axes = ["batch", 1, 16]
    return onnx_file(tmp_path / "a.onnx", net_of_sound(), axes, outputs=["logits", "shares"])


def sound_teacher(path, output="logits", **more):
    settings = {"form": SOUNDS, "constants": {"gain": [2.0]}, **more}
    return OnnxTeacher(path, modality="audio", names={"output": output}, **settings)


def logits_of_sound():
    with torch.inference_mode():
        return 2 * net_of_sound()(torch.from_numpy(SOUND)).numpy()


def test_an_onnx_network_answers_as_its_network(sound_onnx):
    teacher = sound_teacher(sound_onnx, needs={"sample_rate_hz": 16000}, batch_size=2)
    assert isinstance(teacher, Teacher)
    assert teacher.needs == {"kind": "audio", "sample_rate_hz": 16000}
    np.testing.assert_allclose(teacher.predict(SOUND), logits_of_sound(), atol=1e-5)
    shares = sound_teacher(sound_onnx, "shares", form={**SOUNDS, "answers": "probabilities"})
    wanted = torch.log_softmax(torch.from_numpy(logits_of_sound()), dim=1)
    np.testing.assert_allclose(shares.predict(SOUND), wanted, atol=1e-4)
    assert shares.fingerprint() != teacher.fingerprint() == sound_teacher(sound_onnx).fingerprint()


def test_a_fixed_batch_is_filled_up(tmp_path):
    path = onnx_file(tmp_path / "b.onnx", net_of_sound(), [3, 1, 16], outputs=["logits"])
    teacher = sound_teacher(path, batch_size=100)
    np.testing.assert_allclose(teacher.predict(SOUND), logits_of_sound(), atol=1e-5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"output": "answer"}, r"has the outputs \['logits', 'shares'\]; set names.output"),
        ({"output": None}, "set names.output to one of them"),
        ({"constants": {}}, r"has the inputs \['sound', 'gain'\].*others in constants"),
        ({"providers": ["CUDAExecutionProvider"]}, r"providers=\['CUDAExec.*without a word"),
        ({"classes": ["a"]}, "two distinct classes"),
    ],
)
def test_an_onnx_network_that_does_not_fit_is_refused(sound_onnx, more, said):
    with pytest.raises(ConfigError, match=said):
        sound_teacher(sound_onnx, **more)


def with_weights_beside(sound_onnx, location, folder="net"):
    """Save a network that keeps its weights in a file, and says that it is somewhere."""
    onnx = pytest.importorskip("onnx", reason="the extra dev is not installed")
    made = onnx.load(sound_onnx)
    path = Path(sound_onnx).parent / folder / "net.onnx"
    path.parent.mkdir()
    onnx.save(made, str(path), save_as_external_data=True, location="far.bin", size_threshold=0)
    if location != "far.bin":
        moved = onnx.load(str(path), load_external_data=False)
        for one in moved.graph.initializer:
            next(entry for entry in one.external_data if entry.key == "location").value = location
        path.write_bytes(moved.SerializeToString())
    return path


def test_weights_in_a_file_of_another_name_are_in_the_fingerprint(sound_onnx):
    path = with_weights_beside(sound_onnx, "far.bin")
    before = sound_teacher(str(path))
    np.testing.assert_allclose(before.predict(SOUND), logits_of_sound(), atol=1e-5)
    assert weight_files(str(path)) == [str(path.parent / "far.bin")]
    weights = (path.parent / "far.bin").read_bytes()
    (path.parent / "far.bin").write_bytes(bytes(len(weights)))
    after = sound_teacher(str(path))
    assert np.abs(after.predict(SOUND)).max() == 0
    assert after.fingerprint() != before.fingerprint()


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../far.bin", r"keeps weights in \.\./far\.bin, outside its folder"),
        ("deep/../../far.bin", "outside its folder"),
        ("/far.bin", "outside its folder"),
        ("gone.bin", r"keeps weights in gone\.bin, which is not beside it"),
    ],
)
def test_weights_outside_the_folder_or_gone_are_refused(sound_onnx, location, said):
    path = with_weights_beside(sound_onnx, location)
    with pytest.raises(ConfigError, match=said):
        sound_teacher(str(path))


def test_weights_of_subgraphs_and_functions_are_found_and_a_file_cut_short_is_named(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra dev is not installed")

    def kept_in(name):
        tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="offset", value="0")
        tensor.external_data.add(key="location", value=name)
        (tmp_path / name).write_bytes(bytes(8))
        return tensor

    inner = onnx.helper.make_graph([], "inner", [], [], [kept_in("inner.bin")])
    nodes = [
        onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        onnx.helper.make_node("Constant", [], ["z"], value=kept_in("value.bin")),
    ]
    own = onnx.helper.make_node("Constant", [], ["a"], value=kept_in("function.bin"))
    opset = [onnx.helper.make_opsetid("", 17)]
    function = onnx.helper.make_function("mine", "f", [], ["a"], [own], opset)
    graph = onnx.helper.make_graph(nodes, "net", [], [])
    made = onnx.helper.make_model(graph, functions=[function], opset_imports=opset)
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    names = ("function.bin", "inner.bin", "value.bin")
    assert weight_files(str(path)) == [str(tmp_path / name) for name in names]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match="cut short"):
        weight_files(str(path))


def test_a_file_that_is_none_is_named(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"bad\.onnx is no network that onnxruntime reads"):
        sound_teacher(str(tmp_path / "bad.onnx"))
    with pytest.raises(ConfigError, match=r"gone\.onnx does not exist here"):
        sound_teacher(str(tmp_path / "gone.onnx"))


def test_it_is_built_from_a_configuration(tmp_path):
    spec = {"_target_": "mke_ray.models.programs.ProgramTeacher", "modality": "video"}
    path = script(tmp_path / "net.pt")
    teacher = build({**spec, "path": path, "form": PICTURES, "trust": True}, Teacher)
    assert teacher.predict(VIDEO).shape == (5, 3)
