"""How trials are told apart in figures: winner, as configured, trained to the end, stopped."""

from mke_ray.report import style
from mke_ray.search.ledger import FINISHED, USUAL, TrialRecord

STOPPED_GREY = "#b4bcc6"


def look_of(record: TrialRecord, winner: int) -> tuple[str, float]:
    """Return colour and width of a trial.

    Args:
        record: What became of it.
        winner: Number of the trial of the winner.
    """
    if record.number == winner:
        return style.BLUE, 2.2
    if record.number == USUAL:
        return style.ORANGE, 2.2
    return (style.MUTED, 1.2) if record.state == FINISHED else (STOPPED_GREY, 1.0)


def colour_words(winner: int) -> str:
    """Return what the two strong colours mean.

    Args:
        winner: Number of the trial of the winner.
    """
    if winner == USUAL:
        return "blue: as configured, which stays"
    return "blue: the winner, orange: as configured"
