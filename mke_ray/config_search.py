"""The section of the configuration that says what jobs/tune.py searches, and how."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class SearchConfig:
    """What ``jobs/tune.py`` searches, and how; other jobs leave it alone.

    Args:
        name: First part of the name of the search's folder below ``search/`` of the root.
        space: Per dotted key what it may be: ``{type: choice, values: [...]}``, ``uniform``,
            ``loguniform``, ``quniform`` or ``integer`` with ``low``, ``high`` (and
            ``step``). A value of a choice may hold further spaces, and ``when: {key: value}`` asks
            only where another key was given that value. A key that is a group of ``conf/`` takes
            names of its options. A ``+`` before a key adds one that the configuration lacks.
        num_trials: Trials, the first of which is the configuration as it is.
        scheduler: ``asha`` stops trials that are worse than others, or than the configuration as it
            is, at the same step; ``fifo`` stops none.
        reduction: With ``asha``, one of so many trials goes on at every rung.
        rungs: With ``asha``, most rungs of a trial, the last of which is its end: with 3 of them
            and ``reduction=5`` trials are compared after a 25th and a fifth of their steps, later
            where the configuration as it is has not learnt most of what it will by then.
        sampler: ``random``, or ``tpe``, which learns from trials where to look: it takes more of
            them than 24, and then lets more of them run to their end.
        seed: Seed of the sampler; null takes that of the job.
        quality: What the select part of the probe is asked: ``metric`` (accuracy, mean average
            precision or mean IoU) or ``log_likelihood`` (of the true labels at the temperature that
            makes them likeliest, mean in nats), which tells more where the select part is small;
            null takes the likelihood where samples have one class, else the metric.
        cost: null searches for quality alone; ``seconds`` (of training) or ``parameters`` (of the
            network) is a second goal, with ``scheduler=fifo``.
        finalists: Best trials beside the configuration as it is, of those that came to their end,
            that are repeated with it with every seed of ``final_seeds``.
        final_seeds: Seeds of these; the winner is the best by its mean over them.
        workers_per_trial: Processes that train one trial together.
        max_concurrent: Most trials at once; null takes as many as the cluster has room for.
        max_failures: Times that a trial whose process is lost is begun again.
        patience_s: Seconds for which no trial runs or ends before the search stops with an error.
        silence_s: Seconds for which a trial may run without a step (its start, a look at the
            select part and the end count too) before it is ended and on record as failed; null
            waits for it without end.
    """

    name: str = "search"
    space: dict[str, Any] = field(default_factory=dict)
    num_trials: int = 24
    scheduler: str = "asha"
    reduction: int = 5
    rungs: int = 3
    sampler: str = "random"
    seed: int | None = None
    quality: str | None = None
    cost: str | None = None
    finalists: int = 1
    final_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    workers_per_trial: int = 1
    max_concurrent: int | None = None
    max_failures: int = 1
    patience_s: float = 600.0
    silence_s: float | None = 1800.0
