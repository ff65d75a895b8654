"""Some units of many, spread evenly, the same ones wherever it is asked."""

from collections.abc import Sequence

from mke_ray.data.manifest.files import UnitRef


def evenly(refs: Sequence[UnitRef], most: int) -> list[UnitRef]:
    """Return units that hold about so many rows, at even distances; all where they hold fewer.

    Args:
        refs: Units in the order of the manifest.
        most: Rows wanted.
    """
    num_rows = sum(ref.num_rows for ref in refs)
    if num_rows <= most:
        return list(refs)
    num = max(1, round(len(refs) * most / num_rows))
    return [refs[(2 * number + 1) * len(refs) // (2 * num)] for number in range(num)]
