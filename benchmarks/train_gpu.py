"""How fast a big student trains on GPUs from stores, and what keeps it from being faster.

    PYTHONPATH=benchmarks python benchmarks/train_gpu.py
    PYTHONPATH=benchmarks python benchmarks/train_gpu.py --ways zero1,zero2+fused --batch 128
    PYTHONPATH=benchmarks torchrun --nproc-per-node 8 benchmarks/train_gpu.py
    PYTHONPATH=benchmarks python benchmarks/train_gpu.py --tiny --device cpu

The student has ViT-B/16 over frames and AST-base over sound (random weights), in bfloat16. Each way
is an engine, torch, zero1, zero2 or fsdp2, and may be joined by ``+fused`` (one kernel for
the optimizer) and ``+compile``. Printed for each: samples/s of the loop and the feed from stores on
disk (--clips more than --cache-mib holds, so that they are read and decoded again), the share of
time in which the loop waited for data, the ratio to the same step again and again on one batch that
lies on the device (the goal is 0.95), the use of the GPU's arithmetic (flops of the student's
passes, counted by torch, over the dense bfloat16 peak of the GPU, --peak-tflops where it is not
known here), and the most memory. It needs no Ray; transformers, which the package itself
does not need, has to be there, and DeepSpeed for its ways, which are left out without it. Warm-up
(compilation too) is not counted.
"""

import argparse
import importlib.util
import math
import os
import statistics
import tempfile
import time
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode
from train_gpu_stores import CLASSES, write_stores

from mke_ray.config import build
from mke_ray.models.student import build_student
from mke_ray.storage import Root, open_root
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.engine import from_rank_zero, rank, world_size
from mke_ray.train.feeding import Feeding
from mke_ray.train.fits import FitSpec, RowSelection
from mke_ray.train.loop import FitParts, FitState, fit, step_of
from mke_ray.train.run import FitWatch

WARM_STEPS = 5
WAYS = "torch,torch+fused,torch+compile,torch+fused+compile,zero1,zero1+fused,zero2,zero2+fused"
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "T4": 65}


def main() -> None:
    """Print a line for each way."""
    options = parsed()
    device = connect(options.device)
    has_deepspeed = importlib.util.find_spec("deepspeed") is not None
    with tempfile.TemporaryDirectory(prefix="mke-gpu-") as temporary:
        root = open_root(from_rank_zero(temporary))
        if rank() == 0:
            write_stores(
                root,
                num_clips=options.clips,
                num_frames=options.frames,
                codec=options.codec,
                is_tiny=options.tiny,
            )
        dist.barrier()
        say(f"{torch.__version__}, {name_of(device)}, {world_size()} ranks, {options}")
        flops = flops_of_sample(spec_of("torch", options), root, device)
        say(f"flops of a sample, forward and backward: {flops / 1e9:,.1f} G")
        for way in options.ways.split(","):
            if way.startswith("zero") and not has_deepspeed:
                say(f"{way}: DeepSpeed is not there")
                continue
            compare(way, options, root=root, device=device, flops=flops)
        dist.barrier()
    dist.destroy_process_group()


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", default=WAYS, help="joined by commas")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=64, help="samples of a rank")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--frames", type=int, default=4, help="frames per clip")
    parser.add_argument("--codec", default="raw", help="of frames: raw or jpeg")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of all feeds")
    parser.add_argument("--cache-mib", type=int, default=2048)
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--tiny", action="store_true", help="tiny networks and clips, for a CPU")
    options = parser.parse_args()
    if options.tiny:
        options.clips, options.batch, options.steps = 64, 8, 12
    return options


def connect(kind: str) -> torch.device:
    """Join the ranks that torchrun started, or be the only one; returns this rank's device."""
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    if "RANK" not in os.environ:
        os.environ |= {**alone, "MASTER_PORT": "29813"}
    if kind != "cuda":
        dist.init_process_group("gloo")
        return torch.device(kind)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", device_id=device)
    return device


def compare(
    way: str, options: argparse.Namespace, *, root: Root, device: torch.device, flops: float
) -> None:
    """Print what one way reaches."""
    spec = spec_of(way, options)
    feeding = Feeding.from_scaling({"feed_threads": max(1, options.threads // world_size())})
    workplace = Workplace(
        root, engine_of(way), device=device, cache_bytes=options.cache_mib << 20, feeding=feeding
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    parts = assemble(spec, workplace)
    parts.engine.student.train()
    alone = synthetic_rate(parts, options.steps)
    every = max(1, (options.steps - WARM_STEPS) // 5)
    state = fit(spec, parts, state=FitState(), watch=FitWatch(spec, None, None, every, 0))
    laps = state.history[1:]
    rate = statistics.median(one["samples_per_s"] for one in laps)
    wait = statistics.median(one["data_wait"] for one in laps)
    peak = options.peak_tflops or peak_of(device)
    use = rate / world_size() * flops / (peak * 1e12)
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else math.nan
    say(
        f"{way:<20} {rate:9,.1f} samples/s, on a batch on the device {alone:9,.1f}, ratio "
        f"{rate / alone:.3f}, data wait {100 * wait:.1f}%, flops used {100 * use:.1f}%, "
        f"loss {state.history[-1]['loss']:.3f}, {memory:.1f} GiB"
    )
    parts.engine.close()


def synthetic_rate(parts: FitParts, num_steps: int) -> float:
    """Return samples/s of all ranks of the same step on one batch that lies on the device."""
    item = next(iter(parts.feed.batches(0, 1)))
    item = replace(item, batch=item.batch.to(parts.engine.device))
    ends = []
    for number in range(WARM_STEPS + num_steps):
        step_of(item, parts, lr=0.0, progress=number / num_steps)
        ends.append(time.perf_counter())  # a step ends by reading its norm
    return item.num_global * num_steps / (ends[-1] - ends[WARM_STEPS - 1])


def flops_of_sample(spec: FitSpec, root: Root, device: torch.device) -> float:
    """Return the flops of forward and backward for one sample."""
    parts = assemble(spec, Workplace(root, {"type": "torch"}, device=device))
    batch = next(iter(parts.feed.batches(0, 1))).batch.to(device)
    student = build_student(spec.student, len(CLASSES), build=build).to(device).train()
    counter = FlopCounterMode(display=False)
    with counter:
        parts.objective(student, batch, 0.0)["loss"].backward()
    parts.engine.close()
    return counter.get_total_flops() / batch.num_samples


def spec_of(way: str, options: argparse.Namespace) -> FitSpec:
    """Return the fit of a way."""
    tiny = {"is_tiny": options.tiny}
    student = {
        "encoders": {
            "video": {"_target_": "big_encoders.BigFrameEncoder", **tiny},
            "audio": {"_target_": "big_encoders.BigSoundEncoder", **tiny},
        },
        "fusion": {"type": "concat"},
        "head_hidden": [64 if options.tiny else 512],
        "dropout": 0.0,
    }
    return FitSpec(
        name=way,
        arm="mke",
        samples="s",
        labels="t",
        student=student,
        objective={"_target_": "mke_ray.objectives.MKEObjective", "alpha": 0.0},
        rows=(RowSelection("unlabeled", "pseudo"),),
        optimizer={"type": "adamw", "lr": 1e-5, **({"fused": True} if "+fused" in way else {})},
        num_steps=WARM_STEPS + options.steps,
        global_batch=options.batch * world_size(),
        clip_norm=1.0,
    )


def engine_of(way: str) -> dict[str, Any]:
    """Return the engine of a way, in bfloat16."""
    name, *more = way.split("+")
    switches = {"compile": True} if "compile" in more else {}
    if name.startswith("zero"):
        zero = {"stage": int(name.removeprefix("zero"))}
        config = {"bf16": {"enabled": True}, "zero_optimization": zero}
        return {"type": "deepspeed", "config": config, **switches}
    shard = {} if name == "torch" else {"shard": name}
    return {"type": "torch", "bf16": True, **shard, **switches}


def peak_of(device: torch.device) -> float:
    """Return the dense bfloat16 peak of a device in Tflops, nan where it is not known."""
    known = (peak for name, peak in PEAK_TFLOPS.items() if name in name_of(device).split())
    return next(known, math.nan)


def name_of(device: torch.device) -> str:
    """Return what computes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name.replace("-", " ")


def say(line: str) -> None:
    """Print a line on the first rank."""
    if rank() == 0:
        print(line, flush=True)


if __name__ == "__main__":
    main()
