"""The cases of docs/cases.md, taken out of the page and run as a reader would run them."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_files import write_clip
from PIL import Image
from scipy.io import wavfile

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import WORDS, save_ast, save_bert, save_clip, save_vit

from mke_ray.data.manifest import Manifest
from mke_ray.labels.store import UnitStore
from mke_ray.labels.verify import verify
from mke_ray.models import load_student
from mke_ray.storage import open_root

ROOT = Path(__file__).resolve().parents[2]
NUM = {"labelled": 3, "probe": 20, "test": 6, "unlabeled": 12}
SMALL = (
    "scaling.launch=local",
    "labelling.runner=local",
    "labelling.unit_size=8",
    "tracking=off",
    "engine=torch",
    "arms=[mm_student]",
    "expansion.rounds=1",
    "expansion.members=1",
    "fit.num_steps=40",
    "fit.global_batch=16",
    "fit.validate_every_steps=0",
    "gate.min_samples=8",
    "doubles.enabled=false",  # clips of one class differ by little
)
SMALL_CLIPS = (
    "decode.video={kind: video, num_frames: 4, height: 32, width: 32}",
    "decode.audio={kind: audio, sample_rate_hz: 16000, seconds: 1.0}",
    "views.video={num_frames: 2, height: 32, width: 32}",
    "views.audio={num_samples: 14000}",
)
TAGS = ["Dog", "Bark", "Rain", "Raindrop", "Speech"]


def documented() -> dict[str, tuple[dict[str, str], list[str]]]:
    """Return per case the files by their paths, and the arguments of its command."""
    page = (ROOT / "docs" / "cases.md").read_text()
    cases = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, blocks = part.splitlines()[0], re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL)
        files = {}
        for kind, text in blocks:
            first, _, rest = text.partition("\n")
            if kind != "sh":
                files[first.removeprefix("# ")] = rest
        (command,) = [text for kind, text in blocks if kind == "sh"]
        cases[title] = (files, shlex.split(command.replace("\\\n", " ")))
    return cases


CASES = documented()
FEATURES, FOLDERS, PAIRS, TEXTS, CLIPS, NAMES = CASES


def write_files(title, folder):
    """Write the files that the page shows."""
    for path, text in CASES[title][0].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def run_case(title, folder, *more):
    """Run the command of a case with its files, and return what it said."""
    _, command = CASES[title]
    write_files(title, folder)
    assert command[:2] == ["python", "jobs/expand.py"]
    where = os.pathsep.join([str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / command[1]), *command[2:], *more],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": where},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def keys_by_class(classes):
    """Yield the keys of all samples by split and folder, each with the number of its class."""
    for split, num in NUM.items():
        for label, name in enumerate(classes):
            for number in range(num):
                between = "" if split == "unlabeled" else name
                yield os.path.join(split, between, f"{number}{name[0]}"), label


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_videos(folder, classes):
    """Write clips whose pictures and sound say the class: a corner, low or high."""
    for number, (key, label) in enumerate(keys_by_class(classes)):
        sound_hz = (300, 2000)[label] + 7 * number
        clip = write_clip(size=(48, 48), sound_hz=sound_hz, rotation=180 * label)
        put(folder / f"{key}.mp4", clip)


def expanded(title, folder, *more, teacher):
    """Run a case in full, check what every run has to leave, and return its metrics.

    Args:
        title: Title of the case.
        folder: Where its files and data lie.
        more: Further arguments.
        teacher: How the page has to name the teacher.
    """
    said = run_case(title, folder, *SMALL, *more)
    metrics = json.loads((folder / "run" / "report" / "metrics.json").read_text())
    num_samples = check_labels(folder / "run")
    counts = metrics["counts"]
    assert counts["ok"] == counts["samples"] == num_samples
    page = (folder / "run" / "report" / "index.html").read_text()
    assert f"brought to this run: {teacher}" in page
    check_verdict(folder / "run", metrics["gate"], said)
    return metrics


def check_labels(root):
    """Prove that the teacher labelled every row once, and return how many there are."""
    manifest = Manifest.open(open_root(str(root / "manifest")))
    stores = [UnitStore.open(open_root(str(one))) for one in (root / "labels").iterdir()]
    (labels,) = (one for one in stores if "derivation" not in one.spec)
    found = verify(labels, manifest)
    assert found.ok, found.problems
    for ref in manifest.unit_refs():
        table = labels.read(ref.unit)
        assert set(table.column("status").to_pylist()) == {"ok"}
        logits_BC = np.array(table.column("logits").to_pylist())
        assert logits_BC.shape == (ref.num_rows, manifest.label_space.num_classes)
        assert np.isfinite(logits_BC).all()
    return found.num_rows


def check_verdict(root, gate, said):
    """Check that what is exported is what the gate promoted, and that it can be loaded."""
    assert gate["verdict"] in ("promoted", "inconclusive", "rejected")
    assert gate["promoted"] == (root / "student" / "student.json").exists()
    if gate["promoted"]:
        assert load_student(str(root / "student")).student.modalities
        assert "is promoted" in " ".join(said.split())
    else:
        assert "The teacher is kept" in " ".join(said.split())


def test_a_rule_teaches_a_table_in_full(tmp_path):
    generator = np.random.default_rng(0)
    rows = ["machine,state,rms,band_1,band_2,band_3,celsius"]
    for number in range(400):
        worn = number % 2
        rms, heat = generator.normal(0.4 + 0.12 * worn, 0.1), generator.normal(40 + 4 * worn, 3)
        bands = ",".join(f"{one:.3f}" for one in generator.normal(0.8 * worn, 1, 3))
        state = ["fine", "worn"][worn]
        rows.append(f"m{number // 8},{state},{rms:.3f},{bands},{heat:.2f}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "machines.csv").write_text("\n".join(rows))
    run_case(FEATURES, tmp_path, "scaling.launch=local", "fit.num_steps=60")
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    arms = metrics["arms"]
    assert 0.6 < arms["teacher"]["value"] < 0.85
    assert arms["mm_student"]["value"] > arms["teacher"]["value"]


def test_a_tagger_of_other_classes_teaches_videos(tmp_path):
    put_videos(tmp_path / "data", ["dog", "rain"])
    save_ast(tmp_path / "tagger", id2label=dict(enumerate(TAGS)))
    metrics = expanded(
        FOLDERS,
        tmp_path,
        *SMALL_CLIPS,
        teacher=f"SoundTeacher of {tmp_path / 'tagger'}, its classes mapped by",
    )
    assert metrics["pseudo_labels"]["num"] == 2 * NUM["unlabeled"]
    assert metrics["arms"]["mm_student"]["num_test"] == 2 * NUM["test"]


def test_a_table_of_classes_that_leaves_some_out_is_said_to(tmp_path):
    put_videos(tmp_path / "data", ["dog", "rain"])
    save_ast(tmp_path / "tagger", id2label=dict(enumerate(TAGS)))
    said = run_case(FOLDERS, tmp_path, "dry_run=true")
    assert "reads audio, yours" in said
    assert "on 1 classes that the table does not map (Speech)" in said


def test_a_picture_network_teaches_pairs_of_files(tmp_path):
    generator = np.random.default_rng(0)
    for key, label in keys_by_class(["crow", "owl"]):
        pixels_HWC = generator.integers(0, 120, (70, 80, 3)) + 100 * label
        photo = io.BytesIO()
        Image.fromarray(pixels_HWC.astype(np.uint8)).save(photo, "PNG")
        put(tmp_path / "data" / f"photos/{key}.png", photo.getvalue())
        sound_N = np.sin(np.arange(16000) * (0.2, 0.9)[label]) + generator.normal(0, 0.3, 16000)
        call = io.BytesIO()
        wavfile.write(call, 16000, (8000 * sound_N).astype(np.int16))
        put(tmp_path / "data" / f"calls/{key}.wav", call.getvalue())
    save_vit(tmp_path / "vit", id2label={0: "crow", 1: "owl"})
    metrics = expanded(PAIRS, tmp_path, teacher=f"PictureTeacher of {tmp_path / 'vit'}")
    assert metrics["pseudo_labels"]["num"] == 2 * NUM["unlabeled"]


def test_a_text_classifier_teaches_texts_of_a_column_beside_pictures(tmp_path):
    goods = {"garden": "spade rose", "kitchen": "pan soup", "music": "drum flute"}
    generator = np.random.default_rng(0)
    rows = ["key,text,label,split,group"]
    for split, num in {"unlabeled": 24, "probe": 48, "test": 18}.items():
        for number in range(num):
            name = list(goods)[number % 3]
            key, first = f"{split}-{number}", goods[name].split()[number // 3 % 2]
            label = "" if split == "unlabeled" else name
            rows.append(f"{key},a {first} of number {number},{label},{split},{key}")
            pixels_HWC = generator.integers(0, 150, (24, 24, 3))
            pixels_HWC[..., number % 3] += 100
            photo = io.BytesIO()
            Image.fromarray(pixels_HWC.astype(np.uint8)).save(photo, "PNG")
            put(tmp_path / "data" / f"photos/{key}.png", photo.getvalue())
    (tmp_path / "data" / "goods.csv").write_text("\n".join(rows))
    words = [*WORDS, *" ".join(goods.values()).split()]
    save_bert(tmp_path / "bert", words=words, id2label=dict(enumerate(goods)))
    write_files(TEXTS, tmp_path)
    subprocess.run([sys.executable, "files_of_texts.py"], cwd=tmp_path, check=True)
    metrics = expanded(
        TEXTS,
        tmp_path,
        "source.table=goods.csv",
        teacher=f"TextTeacher of {tmp_path / 'bert'}",
    )
    assert metrics["pseudo_labels"]["num"] == 24
    assert metrics["arms"]["mm_student"]["value"] > metrics["arms"]["teacher"]["value"]
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert re.search(r'<p class="text">a \w+ of number \d', page)


def test_an_onnx_network_teaches_clips_of_a_table(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra dev is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    (tmp_path / "data").mkdir()
    rows = ["uri,start_s,end_s,label,split,group"]
    for number in range(40):
        (tmp_path / "data" / f"{number}.mp4").write_bytes(write_clip(rate_hz=5, sound_s=2.0))
        for start in (0, 1):
            split = ["probe", "unlabeled", "probe", "test"][number % 4]
            label = "" if split == "unlabeled" else ["calm", "lively"][start]
            rows.append(f"{number}.mp4,{start},{start + 1},{label},{split},{number}")
    (tmp_path / "data" / "clips.csv").write_text("\n".join(rows))
    tensor, helper = onnx.TensorProto.FLOAT, onnx.helper
    weights = onnx.numpy_helper.from_array(np.ones((3 * 64, 2), np.float32) / 99, "w")
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"]),
    ]
    inputs = [helper.make_tensor_value_info("x", tensor, ["n", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("p", tensor, ["n", 2])]
    graph = helper.make_graph(nodes, "faces", inputs, outputs, [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(tmp_path / "faces.onnx"))
    metrics = expanded(
        CLIPS,
        tmp_path,
        *SMALL_CLIPS,
        teacher="OnnxTeacher of ",
    )
    assert metrics["pseudo_labels"]["num"] == 20
    assert metrics["arms"]["teacher"]["num_groups"] == 10


def test_names_teach_and_a_pretrained_student_learns(tmp_path):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    put_videos(tmp_path / "data", ["dog", "rain"])
    save_clip(tmp_path / "clip")
    save_vit(tmp_path / "vit")
    expanded(
        NAMES,
        tmp_path,
        *SMALL_CLIPS,
        teacher=f"ZeroShotPictures of {tmp_path / 'clip'}",
    )
    (student,) = [
        one["spec"]
        for one in (json.loads(path.read_text()) for path in tmp_path.glob("run/fits/*/*/fit.json"))
        if one["spec"]["arm"] == "mm_student"
    ]
    assert student["student"]["encoders"]["video"]["trainable"] == "lora"
