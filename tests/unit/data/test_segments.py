"""Tests of joining long lists of clips with the files that are there."""

import subprocess
import sys

import pytest

from mke_ray.data.listing import ListedFile
from mke_ray.data.segments import Segment, joined, parse_segment_name

VIDEO = "-aB_0123456"
MEMORY = """
import resource, sys
from mke_ray.data.listing import ListedFile
from mke_ray.data.segments import Segment, joined

num = int(sys.argv[1])
segments = (Segment(f"{n:011d}", 30_000, 40_000, (1, 2), "unlabeled") for n in range(num))
files = (ListedFile(f"{n:011d}_30.mp4", 1, "e") for n in range(0, num, 7))
counts = []
found = sum(1 for _ in joined(segments, files, all_of_video=False, on_end=counts.append))
assert found == -(-num // 7) and sum(counts[0].missing.values()) == num - found
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def join(segments, *names, all_of_video=False):
    counts = []
    files = [ListedFile(name, 1, "e") for name in names]
    pairs = list(joined(segments, files, all_of_video=all_of_video, on_end=counts.append))
    return [(file.name, one.start_ms) for file, one in pairs], counts[0]


def segment(start_ms, video=VIDEO, split="test"):
    return Segment(video, start_ms, start_ms + 10_000, (3, 5), split)


@pytest.mark.parametrize(
    ("path", "video", "start"),
    [
        (f"a/b/{VIDEO}_000030.mp4", VIDEO, "000030"),
        (f"{VIDEO}_30.000_40.000.mkv", VIDEO, "30.000"),
        (f"{VIDEO}_30000_40000.wav", VIDEO, "30000"),
        (f"{VIDEO}.webm", VIDEO, None),
        (f"Y{VIDEO}.wav", VIDEO, None),
        (f"Y{VIDEO}_30.mp4", VIDEO, "30"),
        ("Yabcdefghij.mp4", "Yabcdefghij", None),
        ("Yabcdefghij_30.mp4", "Yabcdefghij", "30"),
    ],
)
def test_a_name_says_its_video_and_second_in_every_way_in_use(path, video, start):
    name = parse_segment_name(path)
    assert name is not None and (name.video, name.start) == (video, start)


@pytest.mark.parametrize("path", ["holiday.mp4", "a_30.mp4", f"{VIDEO}-30.mp4", f"{VIDEO}_x.mp4"])
def test_another_name_is_of_no_clip(path):
    assert parse_segment_name(path) is None


@pytest.mark.parametrize("suffix", ["_000030", "_30", "_30.000", "_30000_40000", ""])
def test_the_second_may_be_written_in_seconds_or_milliseconds_or_not_at_all(suffix):
    pairs, count = join([segment(30_000)], f"{VIDEO}{suffix}.mp4")
    assert pairs == [(f"{VIDEO}{suffix}.mp4", 30_000)]
    assert not count.missing and not count.unknown


def test_of_a_video_with_several_clips_a_file_is_the_one_it_names():
    two = [segment(30_000), segment(90_000)]
    pairs, count = join(two, f"{VIDEO}_90.mp4", f"{VIDEO}_91.mp4", f"{VIDEO}.mp4")
    assert pairs == [(f"{VIDEO}_90.mp4", 90_000)]
    assert (count.missing, count.unknown, count.example) == ({"test": 1}, 2, f"{VIDEO}_91.mp4")
    pairs, count = join(two, f"{VIDEO}.mp4", all_of_video=True)
    assert pairs == [(f"{VIDEO}.mp4", 30_000), (f"{VIDEO}.mp4", 90_000)] and not count.missing


def test_what_occurs_twice_counts_once_and_is_said():
    twice = [segment(30_000), segment(30_000, split="labelled")]
    pairs, count = join(twice, f"a/{VIDEO}_30.mp4", f"b/{VIDEO}_30.mkv", "list.csv")
    assert pairs == [(f"a/{VIDEO}_30.mp4", 30_000)]
    assert (count.listed, count.repeated, count.further, count.unknown) == (1, 1, 1, 0)
    assert [one.split(": ")[1] for one in count.sentences("S")] == [
        "1 rows name a clip that another row names",
        "1 files are of a clip that has another",
    ]


def test_memory_does_not_grow_with_the_list():
    peaks = []
    for num in (20_000, 600_000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(num)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 100, peaks
