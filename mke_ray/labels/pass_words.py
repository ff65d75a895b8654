"""What a person reads of a pass: one line while it runs, a few when it ends."""

from datetime import timedelta

from mke_ray.labels.pass_state import SECONDS_PER_HOUR, PassState
from mke_ray.labels.rates import PassRates

MAX_LINE_LETTERS = 76

_FASTER = {
    "fetch": "bring the workers nearer to the source, or read more samples side by side: "
    "labelling.num_cpus, labelling.max_actors",
    "decode": "give it more cores (labelling.max_actors, more nodes) or store less (decode)",
    "unpack": "give the teacher's workers more cores (labelling.num_cpus, or "
    "labelling.teachers_pool.num_cpus under labelling.plan=split)",
    "teacher": "give it GPUs or more actors (labelling.num_gpus, labelling.max_actors; under "
    "labelling.plan=split those of labelling.teachers_pool)",
    "write": "bring the root nearer to the workers, or write larger units: labelling.unit_size",
    "read": "bring the root nearer to the workers, or use more of them: labelling.max_actors",
}
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_MAX_DECIMALS = 100.0


def line(state: PassState) -> str:
    """Return how fast a pass goes and what it costs, cut to a line of a terminal.

    Rate, hours of media, the largest stage and the cost are always there, more where it fits.
    """
    rate = state.rates.samples_per_s
    if rate is None:
        return ""
    stages = [f"{stage} {share:.0%}" for stage, share in state.rates.shares().items()]
    said = [f"{_number(rate, 1)} samples/s", _media(state), *stages[:1], _cost(state)]
    text = ", ".join(filter(None, said))
    for more in (_read(state.rates), _to_come(state), *stages[1:]):
        if more and len(text) + 2 + len(more) <= MAX_LINE_LETTERS:
            text = f"{text}, {more}"
    return text


def summary(state: PassState, *, num_bytes_spilled: int = 0) -> list[str]:
    """Return what this start of a pass took and what held it up, in a few lines.

    Args:
        state: How far the pass came.
        num_bytes_spilled: Bytes that Ray's object stores wrote to disk meanwhile.
    """
    rates = state.rates
    lines = [_took(rates, rates.samples_per_s, state)]
    if state.total.num_starts > 1:
        lines.append(in_all(state))
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in rates.shares().items())
    if shares:
        lines.append(f"time of the workers: {shares}; {bottleneck(rates)}")
    if rates.num_bytes_read or rates.num_bytes_written:
        lines.append(", ".join(filter(None, [_read(rates), _written(rates)])))
    if num_bytes_spilled:
        lines.append(_spilled(num_bytes_spilled))
    return lines


def in_all(state: PassState) -> str:
    """Return what all starts of a pass took, "" where none is on record."""
    total = state.total
    if not total.num_starts:
        return ""
    where = "" if total.num_starts == 1 else f" of {total.num_starts} starts"
    took = _took(total, state.rate_in_all, state, where=where, untold=state.num_untold)
    return f"in all, {took}"


def bottleneck(rates: PassRates) -> str:
    """Return which stage holds a pass up, and what to change."""
    stage = next(iter(rates.shares()))
    advice = _FASTER.get(stage)
    return f"{stage} is the bottleneck" + (f": {advice}" if advice else "")


def bytes_text(num_bytes: float) -> str:
    """Return a number of bytes as a person reads it."""
    size, unit = next((one for one in _UNITS if num_bytes >= one[0]), _UNITS[-1])
    return f"{_number(num_bytes / size, 1 if size > 1 else 0)} {unit}"


def time_text(spent_s: float) -> str:
    """Return a time as a person reads it."""
    return str(timedelta(seconds=round(spent_s)))


def _took(
    rates: PassRates, rate: float | None, state: PassState, *, where: str = "", untold: int = 0
) -> str:
    """Return samples, time, rate and cost of one start or of all.

    The time of all starts is one to the last report of each: it holds the work on samples that
    nobody told of, but not all of it.
    """
    cost = rates.wall_s / SECONDS_PER_HOUR * (state.cost_per_hour or 0.0)
    more, others = (" or more", " in the others") if untold else ("", "")
    hours = _number(rates.duration_s / SECONDS_PER_HOUR, 2)
    samples = (
        f"{state.num_done:,} samples are stored," if untold else f"{rates.num_samples:,} samples"
    )
    said = [
        f"{samples} in {time_text(rates.wall_s)}{more}{where}",
        f"no report came of {untold:,} of them before a start was ended" if untold else "",
        f"{_number(rate, 1)} samples/s once workers had started" if rate else "",
        f"{hours} h of media{others}" if rates.duration_s else "",
        f"cost {_number(cost, 2)}{more}" if state.cost_per_hour is not None else "",
    ]
    return ", ".join(filter(None, said))


def _media(state: PassState) -> str:
    """Return the hours of media done and wanted, nothing of samples without a length."""
    if not state.media_wanted_s:
        return ""
    done = _number(state.media_done_s / SECONDS_PER_HOUR, 2)
    wanted = _number(state.media_wanted_s / SECONDS_PER_HOUR, 2)
    return f"{done} of {'' if state.is_media_known else 'about '}{wanted} h"


def _cost(state: PassState) -> str:
    """Return the cost so far and, behind a plus, that to come."""
    if state.cost is None:
        return ""
    so_far = f"cost {_number(state.cost, 2)}"
    to_come = state.cost_to_come
    return f"{so_far} + {_number(to_come, 2)}" if to_come else so_far


def _read(rates: PassRates) -> str:
    if not rates.num_bytes_read:
        return ""
    needed = rates.num_bytes_needed / rates.num_bytes_read
    return f"{bytes_text(rates.num_bytes_read)} read ({needed:.0%} needed)"


def _written(rates: PassRates) -> str:
    if not rates.num_bytes_written or not rates.num_samples:
        return ""
    each = bytes_text(rates.num_bytes_written / rates.num_samples)
    return f"{bytes_text(rates.num_bytes_written)} written ({each} per sample)"


def _to_come(state: PassState) -> str:
    return f"{bytes_text(state.num_bytes_to_come)} to store" if state.num_bytes_to_come else ""


def _spilled(num_bytes: int) -> str:
    return (
        f"Ray's object stores wrote {bytes_text(num_bytes)} to disk for want of memory, which is "
        "slow: lower labelling.max_actors or labelling.unit_size, or give them more memory "
        "(ray start --object-store-memory)"
    )


def _number(value: float, decimals: int) -> str:
    """Return a number, without decimals where it is large."""
    return f"{value:,.{0 if value >= _MAX_DECIMALS else decimals}f}"
