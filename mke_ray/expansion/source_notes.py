"""What a source says of its samples, kept with the report, since it is asked only when listed."""

import json

from mke_ray.data.sources import Noted, Source
from mke_ray.storage import Root

NOTES_NAME = "report/source.json"


def note_source(root: Root, source: Source) -> list[str]:
    """Keep what a source has to say, where it says anything.

    Args:
        root: Root of the run.
        source: The source, which has just been listed.

    Returns:
        What is new to this root.
    """
    notes = source.notes() if isinstance(source, Noted) else []
    before = source_notes(root)
    if notes == before:
        return []
    root.write(NOTES_NAME, json.dumps({"notes": notes}).encode())
    return notes


def source_notes(root: Root) -> list[str]:
    """Return what the source said when it was listed last."""
    try:
        return json.loads(root.read(NOTES_NAME))["notes"]
    except FileNotFoundError:
        return []
