"""How everything that one process does grows: rows, units, reports, actors, requests.

    OMP_NUM_THREADS=1 python benchmarks/scale.py rows units actors requests --out outputs/scale
    python benchmarks/scale.py plan --out outputs/scale --clips 100000000

Each stage is measured at an eighth, a quarter, half and all of its size, by CPU time and by the
peak of memory beyond what the process had before; printed is what twice the data takes over the
data: 2 is linear, 1 is flat. ``units`` leaves two small files for each unit while it runs. What was
measured is kept in ``scale.json``, beside a picture of the curves; ``plan`` turns it into the
tables of docs/scale.md, with the prices and machines of ``scale_plan.py``.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from scale_plan import Assumed, plan_lines
from scale_stages import ROWS_HELD, UNIT_STAGES, WORKER_STAGES, bytes_below, list_rows, measured

FRACTIONS = (8, 4, 2, 1)
WORKER_SHARE = 32  # what workers do per unit is measured on so many times fewer units
PARTS = ("rows", "units", "actors", "requests", "plan")
CORES_TOLD = "2 cores of a server without a GPU, beside other work"


def main() -> None:
    """Measure what is asked for, keep it, and show it."""
    asked = _options()
    folder = Path(asked.out)
    folder.mkdir(parents=True, exist_ok=True)
    for part in asked.parts:
        if part == "plan":
            print("\n".join(plan_lines(_measured(folder), Assumed(num_clips=asked.clips))))
            continue
        found = _MEASURE[part](asked)
        _keep(folder, {**_kept(folder), part: found})
    if kept := _kept(folder):
        _draw(folder, kept)


def _rows(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure a manifest."""
    sizes = _ladder(asked.rows)
    with tempfile.TemporaryDirectory(prefix="mke-scale-") as folder:
        listed = _process("first listing", folder, asked.rows)
        curves = {"first listing": listed["curve"]}
        for stage in ROWS_HELD:
            curves[stage] = [_process(stage, folder, size) for size in sizes]
        found = {"sizes": sizes, "curves": curves, "bytes": listed["bytes"]}
    _show("rows", found)
    return found


def _units(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure a store of units, and the driver's books."""
    sizes = _ladder(asked.units)
    curves: dict[str, list[dict[str, float]]] = {stage: [] for stage in UNIT_STAGES}
    bytes_of = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="mke-scale-") as folder:
            for stage in UNIT_STAGES:
                curves[stage].append(_process(stage, folder, size))
            bytes_of = bytes_below(folder)
    found = {"sizes": sizes, "curves": curves, "bytes": bytes_of}
    _show("units", found)
    of_workers = asked.units // WORKER_SHARE
    with tempfile.TemporaryDirectory(prefix="mke-scale-") as folder:
        found["workers"] = {
            stage: {"units": of_workers, **_process(stage, folder, of_workers)}
            for stage in WORKER_STAGES
        }
    for stage, one in found["workers"].items():
        print(f"{stage:<22} {1000 * one['cpu_s'] / of_workers:.2f} ms of CPU per unit, by a worker")
    return found


def _actors(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure Ray at several numbers of actors, and its autoscaler at 1,000."""
    from scale_actors import measure_actors, measure_autoscaler  # noqa: PLC0415 - Ray is not for all

    sizes = [asked.actors // fraction for fraction in FRACTIONS[1:]]
    decisions = measure_autoscaler(_ladder(1000))
    for one in decisions:
        print(f"{one['actors']:>6} waiting actors    {one['decision_s']:.2f} s per decision")
    found = []
    for one in measure_actors(sizes):
        found.append(one)
        print(json.dumps(one), flush=True)
    return {"sizes": sizes, "passes": found, "decisions": decisions}


def _requests(asked: argparse.Namespace) -> dict[str, Any]:
    """Count requests to a real S3 server."""
    del asked
    from local_s3 import BUCKET, local_s3  # noqa: PLC0415 - it sets the environment
    from scale_requests import per_unit  # noqa: PLC0415

    from mke_ray.storage import open_root  # noqa: PLC0415

    with local_s3():
        found = per_unit(open_root(f"s3://{BUCKET}/scale"), 8, 24)
    for step, number in found.items():
        print(f"{step:<12} per unit and two stores: {dict(number)}")
    return {step: dict(number) for step, number in found.items()}


_STAGES = {**ROWS_HELD, **UNIT_STAGES, **WORKER_STAGES}
_MEASURE = {"rows": _rows, "units": _units, "actors": _actors, "requests": _requests}


def _process(stage: str, folder: str, number: int) -> Any:
    """Measure one stage in a process of its own, forked so that it need not import anything."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        if stage == "first listing":
            curve = pool.submit(list_rows, folder, _ladder(number)).result()
            found: Any = {"curve": curve, "bytes": bytes_below(folder)}
        else:
            found = pool.submit(measured, _STAGES[stage], folder, number).result()
    print(f"{stage:<22} {number:>11,}  {json.dumps(found)}", file=sys.stderr, flush=True)
    return found


def _show(counted: str, found: Mapping[str, Any]) -> None:
    """Print what twice the data takes over the data."""
    sizes = found["sizes"]
    for stage, curve in found["curves"].items():
        time_ratio, memory_ratio = (_growth(curve, name) for name in ("cpu_s", "grown_mb"))
        print(
            f"{stage:<22} {sizes[-1]:>11,} {counted}  "
            f"{1e6 * curve[-1]['cpu_s'] / sizes[-1]:8.2f} us each, x{time_ratio:.2f} for twice"
            f"   {curve[-1]['grown_mb']:7.0f} MiB, x{memory_ratio:.2f} for twice"
        )


def _growth(curve: Sequence[Mapping[str, float]], name: str) -> float:
    """Return what twice the data takes over the data, from the smallest size to the largest."""
    first, last = max(curve[0][name], 1e-9), max(curve[-1][name], 1e-9)
    return (last / first) ** (1 / (len(curve) - 1))


def _ladder(most: int) -> list[int]:
    return [most // fraction for fraction in FRACTIONS]


def _kept(folder: Path) -> dict[str, Any]:
    """Return what was measured before."""
    file = folder / "scale.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _measured(folder: Path) -> dict[str, Any]:
    """Return what was measured before, refusing where a plan has nothing to go by."""
    kept = _kept(folder)
    if not {"rows", "units"} <= set(kept):
        raise SystemExit(
            f"{folder}/scale.json holds no rows and units; run scale.py rows units --out {folder} "
            "first"
        )
    return kept


def _keep(folder: Path, found: Mapping[str, Any]) -> None:
    (folder / "scale.json").write_text(json.dumps({**found, "machine": CORES_TOLD}, indent=1))


def _draw(folder: Path, kept: Mapping[str, Any]) -> None:
    """Draw the curves that there are."""
    from scale_figure import growth_picture  # noqa: PLC0415 - matplotlib takes a second

    if {"rows", "units"} & set(kept):
        (folder / "scale.png").write_bytes(growth_picture(kept))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure or print")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--actors", type=int, default=200, help="real ones, without CPUs")
    parser.add_argument("--clips", type=int, default=100_000_000, help="of the plan")
    parser.add_argument("--out", default="outputs/scale")
    return parser.parse_args()


if __name__ == "__main__":
    main()
