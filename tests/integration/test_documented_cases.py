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

from tiny_pretrained import save_ast, save_clip, save_vit

ROOT = Path(__file__).resolve().parents[2]
NUM = {"labelled": 3, "probe": 4, "test": 3, "unlabeled": 6}
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
FEATURES, FOLDERS, PAIRS, CLIPS, NAMES = CASES


def run_case(title, folder, *more):
    files, command = CASES[title]
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
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


def put_videos(folder, classes):
    for split, num in NUM.items():
        for name in [""] if split == "unlabeled" else classes:
            for number in range(num):
                path = folder / split / name / f"{number}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(write_clip(sound_hz=300 + 40 * number))


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
    said = run_case(FOLDERS, tmp_path, "dry_run=true")
    assert "reads audio, yours" in said
    assert "on 1 classes that the table does not map (Speech)" in said


def test_a_picture_network_teaches_pairs_of_files(tmp_path):
    for split, num in NUM.items():
        for name in [""] if split == "unlabeled" else ["crow", "owl"]:
            for number in range(num):
                key = os.path.join(split, name, str(number))
                photo, call = (
                    tmp_path / "data" / one for one in (f"photos/{key}.png", f"calls/{key}.wav")
                )
                photo.parent.mkdir(parents=True, exist_ok=True)
                call.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((70, 80, 3), 20 * number, np.uint8)).save(photo)
                sound = io.BytesIO()
                wavfile.write(sound, 16000, np.zeros(16000, np.int16) + number)
                call.write_bytes(sound.getvalue())
    save_vit(tmp_path / "vit", id2label={0: "crow", 1: "owl"})
    assert "reads photo, yours" in run_case(PAIRS, tmp_path, "dry_run=true")


def test_an_onnx_network_teaches_clips_of_a_table(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra dev is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    (tmp_path / "data").mkdir()
    rows = ["uri,start_s,end_s,label,split,group"]
    for number in range(12):
        (tmp_path / "data" / f"{number}.mp4").write_bytes(write_clip(rate_hz=5, sound_s=2.0))
        for start in (0, 1):
            split = ["labelled", "probe", "unlabeled", "test"][number % 4]
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
    assert "reads video, yours" in run_case(CLIPS, tmp_path, "dry_run=true")


def test_names_teach_and_a_pretrained_student_learns(tmp_path):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    put_videos(tmp_path / "data", ["dog", "rain"])
    save_clip(tmp_path / "clip")
    save_vit(tmp_path / "vit")
    assert "reads video, yours" in run_case(NAMES, tmp_path, "dry_run=true")
