"""The section of the configuration that says what is looked at before the money is spent."""

from dataclasses import dataclass

PREFLIGHT_MODES = OFF, WARN, STOP = "off", "warn", "stop"


@dataclass
class PreflightConfig:
    """What ``jobs/expand.py`` looks at after the first few thousand labels.

    Args:
        mode: ``off`` looks at nothing; ``warn`` says what is to be expected, and goes on; ``stop``
            ends the job before more is labelled where no gain is to be expected.
        samples: About how many unlabeled samples are labelled for it, evenly from all of them.
        epochs: Passes over these in the training of its witnesses and its trial student. Where they
            are all samples, both are trained as the run says, and the witnesses are those of the
            first round.
        worth: Least gain that is worth a student, a share: 0.01 is one point.
        certainty: Probability of that gain, or of less, from which on the verdict is ``go`` or
            ``no-go``; between them it is ``unsure``.
    """

    mode: str = "warn"
    samples: int = 4000
    epochs: int = 20
    worth: float = 0.01
    certainty: float = 0.8
