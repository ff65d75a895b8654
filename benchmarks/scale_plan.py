"""The plan for many clips: what was measured, times how many there are, with prices to change."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mke_ray.expansion.estimate import Each, Estimate, Workers
from mke_ray.expansion.requests import (
    Requests,
    compaction_requests,
    epoch_requests,
    listing_requests,
)
from mke_ray.labels.pass_words import bytes_text
from mke_ray.labels.worker import UNITS_PER_CALL

HOUR_S = 3600.0
GB = 1e9
PARTS_OF_BYTES = 64e6
DELETES_OF_UNIT = 2  # one in each of two stores, counted by scale_requests.py


@dataclass(frozen=True, slots=True)
class Assumed:
    """What was not measured here, or elsewhere: change it to your own.

    Prices are list prices of AWS in us-west-2, in dollars, as of 2025, not looked up since.

    Args:
        num_clips: How many.
        unit_size: Clips of a unit.
        num_classes: Classes of the labels.
        decode_ms: CPU time of a clip on a core in the pass (240p, 5 s; docs/labelling.md).
        clip_bytes: Bytes of a clip.
        stored_bytes: Bytes stored of it (docs/storage.md).
        used: Share of its CPUs that a decode node spends on clips.
        decode_nodes: Nodes of the pool ``cpu-decode``.
        decode_cpus: CPUs of each.
        decode_price: Of a node and hour, spot.
        teacher_rate: Clips that a GPU of the teacher labels in a second; assumed.
        teacher_nodes: Nodes of the pool ``gpu-teacher``, with a GPU each.
        teacher_price: Of a node and hour, spot.
        train_rate: Clips that a GPU trains on in a second; assumed.
        train_nodes: Nodes of the pool ``gpu-train``.
        train_gpus: GPUs of each.
        train_price: Of a node and hour, on demand.
        num_epochs: Epochs of all networks together.
        head_price: Of the head and hour.
        head_bytes: Memory of the head.
        put_price: Of 1,000 requests that write or list.
        get_price: Of 1,000 requests that read.
        gb_price: Of a gigabyte and month.
        put_rate: Requests a second that write or delete below one prefix; AWS documents at least
            that many (Best practices design patterns: optimizing Amazon S3 performance).
        get_rate: Requests a second that read or list below one prefix; likewise.
        num_prefixes: Prefixes that the store has split the source and the root into, each; a new
            one is not split, and S3 splits by itself, slowly, while it is asked for much.
    """

    num_clips: int = 100_000_000
    unit_size: int = 32
    num_classes: int = 400
    decode_ms: float = 39.4
    clip_bytes: float = 444e3
    stored_bytes: float = 42.4e3
    used: float = 0.7
    decode_nodes: int = 20
    decode_cpus: int = 32
    decode_price: float = 0.75
    teacher_rate: float = 2000.0
    teacher_nodes: int = 8
    teacher_price: float = 0.55
    train_rate: float = 800.0
    train_nodes: int = 4
    train_gpus: int = 4
    train_price: float = 4.60
    num_epochs: float = 6.0
    head_price: float = 0.40
    head_bytes: float = 32e9
    put_price: float = 0.005
    get_price: float = 0.0004
    gb_price: float = 0.023
    put_rate: float = 3500.0
    get_rate: float = 5500.0
    num_prefixes: int = 1

    @property
    def num_units(self) -> int:
        """Units of all clips."""
        return math.ceil(self.num_clips / self.unit_size)

    @property
    def estimate(self) -> Estimate:
        """What ``dry_run`` would say of the pass, were its samples such clips."""
        each = Each(
            fetch_s=0.0,
            decode_s=self.decode_ms / 1000 / self.used,
            read_bytes=self.clip_bytes,
            needed_bytes=self.clip_bytes,
            stored_bytes=self.stored_bytes,
            media_s=5.0,
        )
        workers = Workers(
            self.decode_nodes * self.decode_cpus, 1, "assumed", num_teachers=self.teacher_nodes
        )
        return Estimate(
            num_samples=self.num_clips,
            each=each,
            teacher_s=1 / self.teacher_rate,
            workers=workers,
            num_classes=self.num_classes,
            unit_size=self.unit_size,
        )


def plan_lines(measured: Mapping[str, Any], one: Assumed) -> list[str]:
    """Return the plan as tables in Markdown.

    Args:
        measured: What ``scale.py`` kept.
        one: The assumptions.
    """
    return [
        *_stages(measured, one),
        "",
        *_requests(one),
        "",
        *_sizes(measured, one),
        "",
        *_limits(measured, one),
    ]


def _stages(measured: Mapping[str, Any], one: Assumed) -> list[str]:
    """Return hours and dollars of every stage: of computing, or of requests where they are more."""
    asked = _asked(one)
    list_s = one.num_clips * _each_us(measured, "rows", "first listing") / 1e6
    label_s = max(one.estimate.wall_s, _driver_s(measured, one))
    compact_s = 2 * one.num_units * _worker_ms(measured, "compaction") / 1000
    compact_s /= one.decode_nodes * one.decode_cpus * one.used
    num_gpus = one.train_nodes * one.train_gpus
    train_s = one.num_clips * one.num_epochs / (one.train_rate * num_gpus)
    list_h = max(list_s, _requests_s(asked["list"], one)) / HOUR_S
    clips_s, root_s = (_requests_s(asked[name], one) for name in ("clips fetched", "label"))
    label_h = max(label_s, clips_s, root_s) / HOUR_S
    compact_h = max(compact_s, _compaction_requests_s(one)) / HOUR_S
    train_h = max(train_s, one.num_epochs * _requests_s(asked["an epoch"], one)) / HOUR_S
    rows = [
        ("list", "head alone", list_h, 0.0),
        (
            "label",
            f"{one.decode_nodes} x cpu-decode, {one.teacher_nodes} x gpu-teacher",
            label_h,
            one.decode_nodes * one.decode_price + one.teacher_nodes * one.teacher_price,
        ),
        (
            "compact",
            f"{one.decode_nodes} x cpu-decode",
            compact_h,
            one.decode_nodes * one.decode_price,
        ),
        (
            f"train, {one.num_epochs:g} epochs in all",
            f"{one.train_nodes} x gpu-train",
            train_h,
            one.train_nodes * one.train_price,
        ),
    ]
    total_h = sum(hours for _, _, hours, _ in rows)
    total = sum(hours * (price + one.head_price) for _, _, hours, price in rows)
    return [
        "| stage | nodes | hours | dollars |",
        "|---|---|---|---|",
        *(
            f"| {name} | {nodes} | {hours:,.1f} | {hours * (price + one.head_price):,.0f} |"
            for name, nodes, hours, price in rows
        ),
        f"| all | and a head | {total_h:,.1f} | {total:,.0f} |",
    ]


def _asked(one: Assumed) -> dict[str, Requests]:
    """Return the requests of every stage: of the source for clips, of the root for the rest."""
    num_parts = math.ceil(one.num_clips * one.stored_bytes / PARTS_OF_BYTES)
    return {
        "list": listing_requests(one.num_clips, one.num_units),
        "clips fetched": Requests(gets=one.num_clips),
        "label": one.estimate.requests,
        "compact": compaction_requests(one.num_units, num_parts, num_stores=2),
        "an epoch": epoch_requests(one.num_units, num_stores=2),
    }


def _requests(one: Assumed) -> list[str]:
    """Return requests and what they cost."""
    return [
        "| requests | write | read | list | dollars |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {asked.puts:,} | {asked.gets:,} | {asked.lists:,} "
            f"| {_price(asked, one):,.2f} |"
            for name, asked in _asked(one).items()
        ),
    ]


def _requests_s(asked: Requests, one: Assumed, *, num_deletes: int = 0) -> float:
    """Return the seconds that a store takes at least for requests."""
    writing_s = (asked.puts + num_deletes) / one.put_rate
    return max(writing_s, (asked.gets + asked.lists) / one.get_rate) / one.num_prefixes


def _compaction_requests_s(one: Assumed) -> float:
    """Return the seconds of the requests of a compaction, with what it deletes unbilled."""
    return _requests_s(_asked(one)["compact"], one, num_deletes=DELETES_OF_UNIT * one.num_units)


def _price(asked: Requests, one: Assumed) -> float:
    written = asked.puts + asked.lists
    return (written * one.put_price + asked.gets * one.get_price) / 1000


def _sizes(measured: Mapping[str, Any], one: Assumed) -> list[str]:
    """Return what lies in the store."""
    rows, units = measured["rows"], measured["units"]
    row_bytes = rows["bytes"]["part"] / rows["sizes"][-1]
    record_bytes = units["bytes"]["commits"] / units["sizes"][-1]
    index_bytes = units["bytes"]["index"] / units["sizes"][-1]
    estimate = one.estimate
    found = {
        "manifest": (row_bytes * one.num_clips, f"{row_bytes:.0f} bytes a clip"),
        "samples": (
            one.num_clips * one.stored_bytes,
            f"{bytes_text(one.stored_bytes)} a clip, assumed from docs/storage.md",
        ),
        "labels": (estimate.label_bytes, f"4 bytes x {one.num_classes} classes, uncompressed"),
        "commit records": (
            2 * 2 * record_bytes * one.num_units,
            f"{record_bytes:.0f} bytes each, two of a unit in each of two stores",
        ),
        "indexes": (2 * index_bytes * one.num_units, f"{index_bytes:.0f} bytes a unit and store"),
    }
    total = sum(size for size, _ in found.values())
    return [
        "| in the store | bytes | |",
        "|---|---|---|",
        *(f"| {name} | {bytes_text(size)} | {why} |" for name, (size, why) in found.items()),
        f"| all | {bytes_text(total)} | {total / GB * one.gb_price:,.0f} dollars a month |",
    ]


def _limits(measured: Mapping[str, Any], one: Assumed) -> list[str]:
    """Return what one process has to do and hold, and the clips at which it cannot any more."""
    unit_mb = {stage: _each_mb(measured, stage) for stage in ("index", "resume", "index read")}
    head = one.head_bytes / 2**20
    driver_h = _driver_s(measured, one) / HOUR_S
    is_whole = bool(measured.get("actors"))
    rows = [
        *_request_limits(one),
        (
            "the driver hands units over" if is_whole else "the driver takes reports in",
            f"{driver_h:,.1f} h of one core",
            f"the pass cannot be shorter than {driver_h:,.1f} h"
            + ("" if is_whole else ", and Ray's part is not in this"),
        ),
    ]
    for stage, said in (
        ("index", "the driver makes the index"),
        ("resume", "a job that is started again looks what is there"),
        ("index read", "a training worker holds the index"),
    ):
        needed = unit_mb[stage] * one.num_units
        most = head / unit_mb[stage] * one.unit_size
        rows.append(
            (
                said,
                f"{needed / 1024:,.1f} GiB, one store",
                f"{most / 1e6:,.0f} million clips fill a head",
            )
        )
    for stage, said in (
        ("index", "making the index, time"),
        ("resume", "looking what is there, time"),
    ):
        spent_h = _each_us(measured, "units", stage) / 1e6 * one.num_units / HOUR_S
        rows.append((said, f"{60 * spent_h:,.0f} min of one core, one store", ""))
    return [
        "| one process, or one prefix | at this size | limit |",
        "|---|---|---|",
        *(f"| {name} | {now} | {then} |" for name, now, then in rows),
    ]


def _request_limits(one: Assumed) -> list[tuple[str, str, str]]:
    """Return what the rates of a store's prefixes allow."""
    stages = {
        "clips are fetched": _requests_s(_asked(one)["clips fetched"], one),
        "units are labelled": _requests_s(one.estimate.requests, one),
        "units are compacted": _compaction_requests_s(one),
    }
    of = f"{one.put_rate:,.0f} writes and {one.get_rate:,.0f} reads a second and prefix"
    return [
        (f"{stage}: requests", f"{spent_s / HOUR_S:,.1f} h, prefixes: {one.num_prefixes}", of)
        for stage, spent_s in stages.items()
    ]


def _driver_s(measured: Mapping[str, Any], one: Assumed) -> float:
    """Return the CPU seconds of the driver for handing all units over and taking reports in."""
    books_s = _each_us(measured, "units", "reports") / 1e6
    last = measured.get("actors", {}).get("passes", [{}])
    calls = [found for found in last if found.get("driver_s")]
    call_s = max((found["driver_s"] / found["calls"] for found in calls), default=0.0)
    return one.num_units * (books_s + call_s / UNITS_PER_CALL)


def _each_us(measured: Mapping[str, Any], part: str, stage: str) -> float:
    found = measured[part]
    return 1e6 * found["curves"][stage][-1]["cpu_s"] / found["sizes"][-1]


def _each_mb(measured: Mapping[str, Any], stage: str) -> float:
    """Return the mebibytes of a unit more, by the last doubling: what is fixed has come before."""
    found = measured["units"]
    curve, sizes = found["curves"][stage], found["sizes"]
    grown = curve[-1]["grown_mb"] - curve[-2]["grown_mb"]
    return max(grown, 1e-6) / (sizes[-1] - sizes[-2])


def _worker_ms(measured: Mapping[str, Any], stage: str) -> float:
    found = measured["units"]["workers"][stage]
    return 1000 * found["cpu_s"] / found["units"]
