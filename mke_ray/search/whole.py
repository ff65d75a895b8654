"""A search from its space to its page: ``jobs/tune.py``."""

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mke_ray.config import (
    jobs_with,
    overrides,
    own_config_dir,
    shown_override,
    usual_of,
    values_of_winner,
)
from mke_ray.config_schema import JobConfig
from mke_ray.config_values import WINNER, is_group, named, winner_yaml
from mke_ray.errors import ConfigError
from mke_ray.expansion.run import num_select
from mke_ray.report.terminal import terminal
from mke_ray.search.content import SearchContent
from mke_ray.search.counts import held_by_trial
from mke_ray.search.figures import search_pictures
from mke_ray.search.judging import result_on_test
from mke_ray.search.key_figures import comparable
from mke_ray.search.ledger import USUAL, TrialRecord
from mke_ray.search.page import TrialTable, search_terminal, write_search
from mke_ray.search.recording import TrialRuns
from mke_ray.search.repeats import run_finals
from mke_ray.search.run import Search, opened, run_search_trials
from mke_ray.search.searcher import study_of
from mke_ray.search.space import Space

__all__ = ["search", "searched"]

logger = logging.getLogger(__name__)


def search(jobs: Sequence[JobConfig]) -> None:
    """Search the space of a job, choose by the select part, and look at the test split once.

    Args:
        jobs: One configuration.

    Raises:
        ConfigError: There are several, or the space does not fit.
    """
    if len(jobs) > 1:
        raise ConfigError("data_seeds: a search is of one draw of the data; choose with data_seed")
    (job,) = jobs
    usual = usual_of(list(Space.parse(job.search.space).keys))
    with opened(job, jobs_with(), usual) as found:
        if job.dry_run:
            _say_plan(found)
            return
        searched(found)


def searched(found: Search) -> None:
    """Carry out a search whose space is checked."""
    run, keys = found.run, found.run.job.search
    tracker = None
    if run.job.tracking.enabled:
        tracker = run.open_tracker(f"search {keys.name}", found.ledger.folder)
        run.stack.push(_closing(tracker))
    runs = TrialRuns(tracker)
    table = TrialTable(found.ledger.folder, num_known=len(found.ledger.ended()))

    def on_end(record: TrialRecord) -> None:
        runs.add(record)
        table.add(record)

    try:
        records = run_search_trials(found, on_end=on_end)
        finalists, winner = run_finals(found, records)
    except KeyboardInterrupt:
        num_ended = len(found.ledger.ended())
        logger.warning(
            "interrupted: %d of %d trials are on record; start the same command again to go on",
            num_ended,
            keys.num_trials,
        )
        raise SystemExit(130) from None
    values, command = _with_earlier(records[winner.number].values), ""
    if winner.number != USUAL:
        uri = f"{found.ledger.folder.uri}/winner.yaml"
        command = winner_command(overrides(), uri, values, own_config_dir())
    test = result_on_test(found, winner, {one.number: one for one in finalists})
    content = SearchContent(
        title=f"{run.job.name}, {keys.name}",
        quality=found.quality_words,
        records=records,
        finalists=finalists,
        winner=winner,
        test=test,
        num_select=num_select(run, found.candidates.manifest),
        full_samples=sum(one.full_samples for one in records),
        pictures=search_pictures(
            records,
            winner.number,
            study_of(found.settings, found.space, comparable(records)),
            found.quality_words,
        ),
        folder=found.ledger.folder.uri,
        held=held_by_trial(keys, asdict(run.job.scaling)),
        cost=keys.cost,
        command=command,
    )
    page = write_search(found.ledger.folder, content, _yaml(found, values))
    runs.finish(records, finalists, winner, test)
    console = terminal()
    console.print(search_terminal(content))
    if content.command:
        console.print(f"Run the winner: {content.command}", soft_wrap=True)
    console.print(f"Report: {page}", soft_wrap=True)


def winner_command(
    line: Sequence[str], winner: str, keys: Iterable[str], config_dir: str | None = None
) -> str:
    """Return the command that runs a winner on the stores of its search, for a shell.

    Args:
        line: The command line of the search; what may be a secret of it is hidden.
        winner: Its file.
        keys: The keys that it sets, which the command line would overrule.
        config_dir: The user's own folder of configurations.
    """
    given = {key.lstrip("+") for key in keys}
    inside = tuple(f"{key}." for key in given if not is_group(key))
    kept = [
        shown_override(one)
        for one in line
        if (key := named(one)).partition(".")[0] not in ("search", "dry_run", WINNER)
        and key not in given
        and not key.startswith(inside)
    ]
    own = ["--config-dir", config_dir] if config_dir else []
    return shlex.join(["python", "jobs/expand.py", *own, *kept, f"+winner={winner}"])


def _closing(tracker: Any) -> Any:
    """Return what closes the run of a search that ends with an error."""

    def close(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            tracker.finish("FAILED" if issubclass(kind, Exception) else "KILLED")

    return close


def _yaml(found: Search, values: Mapping[str, Any]) -> str:
    """Return the configuration of the winner."""
    groups = [key for key in values if is_group(key)]
    return winner_yaml(values, groups, f"Winner of {found.ledger.folder.uri}")


def _with_earlier(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a trial with those of the winner that the search began from."""
    own = {key.lstrip("+") for key in values}
    earlier = values_of_winner().items()
    return {**{key: one for key, one in earlier if key.lstrip("+") not in own}, **values}


def _say_plan(found: Search) -> None:
    """Say what would be searched."""
    keys = found.run.job.search
    for key, one in found.space.keys.items():
        logger.info("%s: %s", key, one.in_words())
    logger.info(
        "%d trials, %s, then the best %d and the configuration as it is with seeds "
        "%s; every trial trains %s of "
        "at most %d steps on the stores of %s. Nothing was trained",
        keys.num_trials,
        keys.scheduler,
        keys.finalists,
        keys.final_seeds,
        found.run.shipped,
        found.candidates.num_steps(found.candidates.candidate({}, found.seed).fit),
        found.run.root.uri,
    )
