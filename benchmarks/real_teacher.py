"""A network that was trained by others on other data, as the teacher of recorded data.

    pip install --no-deps rapidocr-onnxruntime==1.4.4
    python benchmarks/real_teacher.py --data DIR

The wheel (Apache-2.0) holds the text recogniser of PP-OCRv4, which knows 6,623 symbols, most of
them Chinese. It reads the pictures of AV-MNIST: a table maps the digits and the letters that look
like them onto ten classes, and our student learns pictures and spoken digits from what it says.
The table was written before it was tried. DIR holds mnist and fsdd (docs/experiments.md).
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
PACKAGE, MODEL = "rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx"
REST = "anything else"
LOOKALIKES = {
    "0": "0OoQD",
    "1": "1lI|i/",
    "2": "2Zz",
    "3": "3",
    "4": "4",
    "5": "5Ss",
    "6": "6bG",
    "7": "7",
    "8": "8B&",
    "9": "9gq",
}
ARMS = "arms=[mke,mm_labelled_only,mm_supervised]"


def main() -> None:
    """Run one expansion and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="folder of mnist and fsdd")
    parser.add_argument("--model", help="the ONNX file; that of the installed wheel by default")
    parser.add_argument("--root", help="where the run is kept; a temporary folder by default")
    parser.add_argument("--set", nargs="*", default=[], help="further keys of jobs/expand.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        metrics = run(options, Path(temporary))
    print("| arm | accuracy | 95% interval |\n|---|---|---|")
    for name, arm in metrics["arms"].items():
        low, high = arm["ci95"]
        print(f"| {name} | {arm['value']:.1%} | {low:.1%} to {high:.1%} |")
    print(metrics["gate"]["reason"])


def run(options: argparse.Namespace, temporary: Path) -> dict[str, Any]:
    """Return the metrics of one run."""
    root = Path(options.root) if options.root else temporary / "run"
    (temporary / "conf" / "teacher").mkdir(parents=True)
    teacher = {"modality": "image", "train": False, "network": teacher_of(options.model)}
    (temporary / "conf" / "teacher" / "recogniser.yaml").write_text(yaml.safe_dump(teacher))
    command = [
        *(sys.executable, "jobs/expand.py", "--config-dir", str(temporary / "conf")),
        *("experiment=av_mnist", "teacher=recogniser", "allow_targets=[ocr_symbols]", ARMS),
        *(f"source.root={Path(options.data).resolve()}", f"root={root.resolve()}", *options.set),
    ]
    where = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": where}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads((root / "report" / "metrics.json").read_text())


def teacher_of(model: str | None) -> dict[str, Any]:
    """Return the specification of the recogniser, seen through a table of classes."""
    file = model or _installed()
    symbols = [one for several in LOOKALIKES.values() for one in several]
    return {
        "_target_": "mke_ray.models.label_map.MappedTeacher",
        "teacher": {
            "_target_": "mke_ray.models.calling.CallableTeacher",
            "function": "ocr_symbols.read_one",
            "modality": "image",
            "needs": {"kind": "image"},
            "settings": {"model": file, "symbols": symbols},
            "files": [file],
            "classes": [*symbols, REST],
        },
        "table": {digit: list(symbols) for digit, symbols in LOOKALIKES.items()},
        "classes": list(LOOKALIKES),
    }


def _installed() -> str:
    """Return the file of the wheel, which is not imported: that would need OpenCV."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit("pip install --no-deps rapidocr-onnxruntime==1.4.4, or name the file by --model")
    return str(Path(found.origin).parent / MODEL)


if __name__ == "__main__":
    main()
