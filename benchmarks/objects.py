"""CPU time of reading and putting objects of S3: with the fast client against s3fs, on loopback.

PYTHONPATH=benchmarks python benchmarks/objects.py --objects 1000 --kilobytes 134

Options that the fast client lacks leave a root to s3fs; that is the baseline.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from local_s3 import BUCKET, local_s3

from mke_ray.storage import Root, open_root

NUM_THREADS = 8
NUM_WARM = 50


def main() -> None:
    """Print the ratios of the CPU time of s3fs to ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--kilobytes", type=int, default=134)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    content = os.urandom(1000 * options.kilobytes)
    with local_s3() as server:
        server.fill("objects", options.objects, [content])
        ours = open_root(f"s3://{BUCKET}/objects")
        theirs = open_root(ours.uri, {"default_block_size": 1 << 20})  # ours has no such option
        names = list(ours.names())

        def read(root: Root) -> Callable[[str], object]:
            return root.read

        def write(root: Root) -> Callable[[str], object]:
            return lambda name: root.write(f"written/{name}", content)

        for what, of in (("read", read), ("write", write)):
            pairs = [
                (cpu_ms(of(ours), names), cpu_ms(of(theirs), names))
                for _ in range(options.repetitions)
            ]
            ratios = sorted(their_ms / our_ms for our_ms, their_ms in pairs)
            our_ms, their_ms = (statistics.median(one) for one in zip(*pairs, strict=True))
            print(
                f"{what:<6} {our_ms:.2f} ms against {their_ms:.2f} ms of s3fs per object   ratio "
                f"min {ratios[0]:.1f}  median {statistics.median(ratios):.1f}  max {ratios[-1]:.1f}"
            )


def cpu_ms(do: Callable[[str], object], names: list[str]) -> float:
    """Return the CPU time of this process per object."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(do, names[:NUM_WARM]))
        start_s = time.process_time()
        list(pool.map(do, names))
        return 1e3 * (time.process_time() - start_s) / len(names)


if __name__ == "__main__":
    main()
