"""A report says in a sentence who taught."""

import pytest
from composed import composed

from mke_ray.expansion.teacher_words import teacher_words

INNER = "{_target_: mke_ray.models.brought.SoundTeacher, path: /nets/tagger}"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "The teacher reads video and was trained by this run on the labelled samples."),
        (
            ["teacher=pretrained_text", "teacher.network.path=/nets/bert"],
            "The teacher reads text. It was brought to this run: TextTeacher of /nets/bert.",
        ),
        (
            ["teacher=function", "teacher.modality=a", "teacher.network.function=rules.worn"],
            "The teacher reads a. It was brought to this run: CallableTeacher of rules.worn.",
        ),
        (
            [
                "teacher=mapped",
                "teacher.modality=audio",
                "teacher.network.table=classes.csv",
                f"+teacher.network.teacher={INNER}",
            ],
            "The teacher reads audio. It was brought to this run: SoundTeacher of /nets/tagger, "
            "its classes mapped by classes.csv.",
        ),
        (
            ["teacher=custom", "teacher.modality=a", "+teacher.network={_target_: nets.Mine}"],
            "The teacher reads a. It was brought to this run: Mine.",
        ),
    ],
)
def test_the_teacher_is_named_with_what_it_reads_and_where_it_lies(overrides, said):
    (job,) = composed("allow_targets=[nets,rules]", *overrides)
    assert teacher_words(job.teacher) == said
