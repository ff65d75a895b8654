"""Which classes a student never answers, as a sentence for the page and the terminal."""

from mke_ray.report.content import ReportContent

_MOST_NAMES = 6


def never_answered_line(content: ReportContent) -> str:
    """Return which classes of the test set the student answers for no sample.

    Returns:
        "" where there are none, or where a sample may have several classes. Samples that the
        teacher could not answer are left out.
    """
    found = content.evaluation.diagnosis
    if found is None or not found.moves:
        return ""
    said = {one.student for one in found.moves}
    names = [
        name
        for number, (name, flow) in enumerate(zip(content.classes, found.by_class, strict=True))
        if flow.num and number not in said
    ]
    if not names:
        return ""
    rest = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
    occur = "it occurs" if len(names) == 1 else "they occur"
    return f"The student never answers {shown} on the test set, where {occur}."
