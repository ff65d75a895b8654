"""What listing a bucket costs: memory and keys per second of our listing against ``fs.find``.

    python benchmarks/listing.py --keys 20000

Starts SeaweedFS on loopback (the test suite's server), puts N and then 2N small objects into it,
and lists both prefixes with each, each in a process of its own, in turns. Peak memory is that of
the process over what it had before it listed; growth is what 2N keys take over what N keys take:
1 means that memory does not grow with the bucket. The ratio of the rates is ours over the other's
in one run. With --endpoint the objects are put into a server that runs already (credentials from
the environment).
"""

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import s3fs
from local_s3 import BUCKET, local_s3

from mke_ray.data.listing import walk
from mke_ray.storage import open_root

WAYS = ("ours", "fs.find")
PUTS_AT_ONCE = 64


def main() -> None:
    """Print memory, rates and their ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--endpoint", help="an S3 server that runs, with the bucket in --bucket")
    parser.add_argument("--bucket", default=BUCKET)
    parser.add_argument("--list", nargs=2, metavar=("WAY", "URI"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        print(json.dumps(measure(*options.list)))
        return
    with server(options.endpoint):
        compare(options.bucket, options.keys, options.repetitions)


def compare(bucket: str, num_keys: int, repetitions: int) -> None:
    """List N and 2N keys with each way, in turns."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for number in (num_keys, 2 * num_keys):
        uri = f"s3://{bucket}/listing-{secrets.token_hex(4)}"
        begun_s = time.perf_counter()
        asyncio.run(put_objects(uri, number))
        print(f"{number} objects put in {time.perf_counter() - begun_s:.0f} s", flush=True)
        for _ in range(repetitions):
            for way in WAYS:
                command = [sys.executable, __file__, "--list", way, uri]
                ended = subprocess.run(command, check=True, capture_output=True, text=True)
                one = json.loads(ended.stdout)
                if one["keys"] != number:
                    raise RuntimeError(f"{way} listed {one['keys']} of {number} keys")
                found.setdefault((way, number), []).append(one)
    show(found, num_keys)


def show(found: dict[tuple[str, int], list[dict[str, float]]], num_keys: int) -> None:
    """Print a line per way and the ratios."""
    grown_mb: dict[tuple[str, int], float] = {}
    rate: dict[tuple[str, int], float] = {}
    for (way, number), runs in found.items():
        grown_mb[way, number] = statistics.median(one["grown_mb"] for one in runs)
        rate[way, number] = statistics.median(one["keys"] / one["seconds"] for one in runs)
        peak_mb = statistics.median(one["peak_mb"] for one in runs)
        print(
            f"{way:8} {number:9} keys  {rate[way, number]:8.0f} keys/s  peak {peak_mb:6.0f} MB, "
            f"{grown_mb[way, number]:6.1f} MB of it for the listing"
        )
    for way in WAYS:
        growth = grown_mb[way, 2 * num_keys] / max(grown_mb[way, num_keys], 0.1)
        print(f"{way:8} memory for 2N over N: {growth:.2f}")
    ratio = rate[WAYS[0], 2 * num_keys] / rate[WAYS[1], 2 * num_keys]
    print(f"rate of ours over fs.find: {ratio:.2f}")


def measure(way: str, uri: str) -> dict[str, float]:
    """List a prefix in this process and return what it took."""
    root = open_root(uri)
    filesystem = root.filesystem()
    filesystem.exists(root.path())  # the client and its modules are not what is measured
    before_mb, begun_s = peak_memory_mb(anew=True), time.perf_counter()
    if way == WAYS[0]:
        num_keys = sum(1 for _ in walk(root, "v"))
    else:
        num_keys = len(filesystem.find(root.path("v"), detail=True))
    seconds = time.perf_counter() - begun_s
    peak_mb = peak_memory_mb()
    grown_mb = peak_mb - before_mb
    return {"keys": num_keys, "seconds": seconds, "peak_mb": peak_mb, "grown_mb": grown_mb}


def peak_memory_mb(*, anew: bool = False) -> float:
    """Return the most memory that this process has held since it was asked for anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def put_objects(uri: str, number: int) -> None:
    """Put objects of one byte in parallel."""
    filesystem = s3fs.S3FileSystem(asynchronous=True, skip_instance_cache=True)
    client = await filesystem.set_session()
    bucket, prefix, _ = filesystem.split_path(uri)
    numbers = iter(range(number))

    async def put_some() -> None:
        for one in numbers:
            await client.put_object(Bucket=bucket, Key=f"{prefix}/v/clip-{one:08d}.mp4", Body=b"x")

    await asyncio.gather(*(put_some() for _ in range(PUTS_AT_ONCE)))
    await client.close()


@contextmanager
def server(endpoint: str | None) -> Iterator[None]:
    """Run SeaweedFS on loopback while something is measured, unless a server is given."""
    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        yield
        return
    with local_s3():
        yield


if __name__ == "__main__":
    main()
