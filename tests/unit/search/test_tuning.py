"""How many trials run at once, when they are compared, and what is told of those that fail."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from cluster_files import CLUSTER
from composed import composed
from ray.exceptions import OutOfMemoryError, RayTaskError

from mke_ray.config_search import SearchConfig
from mke_ray.errors import ConfigError, TrainingError
from mke_ray.labels.capacity import NodeRoom
from mke_ray.search.counts import Counts
from mke_ray.search.run import opened
from mke_ray.search.searcher import LedgerSearcher
from mke_ray.search.tuning import _resources, num_at_once, rungs_of
from mke_ray.search.watching import TrialsWatch, reason_of

ONE = {"cpus_per_worker": 1.0, "gpus_per_worker": 0.0}


def at_once(nodes: list[NodeRoom], scaling: dict[str, float] = ONE, **keys: Any) -> int:
    cores = keys.pop("num_cores", None)
    is_autoscaling = keys.pop("is_autoscaling", False)
    search = SearchConfig(**keys)
    return num_at_once(search, scaling, nodes, is_autoscaling=is_autoscaling, num_cores=cores)


def test_as_many_trials_run_as_there_is_room_for() -> None:
    assert at_once([NodeRoom(4.0, 0.0), NodeRoom(3.0, 0.0)]) == 7
    assert at_once([NodeRoom(4.0, 0.0), NodeRoom(3.0, 0.0)], workers_per_trial=2) == 3
    assert at_once([NodeRoom(4.0, 0.0)], max_concurrent=2) == 2
    assert at_once([NodeRoom(8.0, 0.0)], num_cores=2) == 2


def test_trials_share_a_gpu_where_they_ask_for_a_part_of_it() -> None:
    half = {"cpus_per_worker": 1.0, "gpus_per_worker": 0.5}
    assert at_once([NodeRoom(16.0, 2.0)], half) == 4


def test_a_trial_without_room_is_refused_unless_nodes_come() -> None:
    with pytest.raises(ConfigError, match=r"search\.workers_per_trial"):
        at_once([NodeRoom(2.0, 0.0)], workers_per_trial=3)
    assert at_once([], is_autoscaling=True, num_trials=5) == 5


def test_trials_are_compared_at_powers_of_the_reduction() -> None:
    assert rungs_of(SearchConfig()) == (1, 5, 25)
    assert rungs_of(SearchConfig(reduction=2, rungs=4)) == (1, 2, 4, 8)
    assert rungs_of(SearchConfig(scheduler="fifo")) == (8,)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"scheduler": "pbt"}, r"search\.scheduler='pbt'"),
        ({"cost": "seconds"}, r"search\.scheduler=fifo"),
        ({"reduction": 1}, "give at least 2"),
    ],
)
def test_schedules_that_cannot_be_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rungs_of(SearchConfig(**keys))


class FailedTrial:
    """A trial of Tune that failed, as far as its reason is looked for."""

    def __init__(self, error: Exception | None, text: str, folder: Path) -> None:
        self._error = error
        self.error_file = str(folder / "error.txt")
        Path(self.error_file).write_text(text)

    def get_pickled_error(self) -> Exception | None:
        return self._error


def test_why_a_trial_failed_is_told_in_one_line(tmp_path: Path) -> None:
    def reason(error: Exception | None, text: str = "") -> str:
        return reason_of(FailedTrial(error, text, tmp_path))

    assert reason(OutOfMemoryError("node was full\nmore")).startswith("out of memory: ")
    lost = RayTaskError("f", "traceback", TrainingError("step 3 is not finite"))
    assert reason(lost) == "step 3 is not finite"
    text = 'Failure # 1\n  File "x.py"\nmke_ray.errors.TrainingError: step 1 is not finite\n'
    assert reason(None, text) == "mke_ray.errors.TrainingError: step 1 is not finite"


def test_a_search_in_which_nothing_can_run_ends_with_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 1.0})

    class Waiting:
        status = "PENDING"

    searcher: Any = LedgerSearcher.__new__(LedgerSearcher)
    counts = Counts.of([])
    watch = TrialsWatch(
        searcher,
        last_look=1,
        counts=counts,
        patience_s=-1.0,
        silence_s=None,
        tell=lambda _: None,
    )
    with pytest.raises(TrainingError, match=r"no trial could start .* 1 CPUs"):
        watch.on_step_begin(1, [Waiting()])


def test_a_trial_whose_fit_was_there_counts_for_what_is_to_come_as_it_was_trained() -> None:
    class Known:
        def number_of(self, trial_id: str) -> int:
            return 0

        def ended(self, *told: Any) -> None:
            pass

    class Ended:
        trial_id = "a"
        last_result: ClassVar = {
            "look": 4,
            "curve": [{"quality": 0.5, "samples": 64, "seconds": 90.0}],
        }

    searcher: Any = Known()
    counts = Counts.of([])
    watch = TrialsWatch(
        searcher, last_look=4, counts=counts, patience_s=1.0, silence_s=None, tell=lambda _: None
    )
    watch.on_trial_start(1, [], Ended())
    watch.on_trial_complete(1, [], Ended())
    assert counts.mean_s("finished") == 90.0


def test_trials_of_a_pool_are_counted_on_its_nodes_and_reserve_them() -> None:
    nodes = [NodeRoom(4.0, 0.0, "train"), NodeRoom(8.0, 0.0, "decode")]
    placed: dict[str, Any] = {**ONE, "pool": "train"}
    assert at_once(nodes, placed) == 4
    with pytest.raises(ConfigError, match=r"scaling\.pool=traim: .*\['decode', 'train'\]"):
        at_once(nodes, {**ONE, "pool": "traim"})
    for workers in (1, 2):
        asked = _resources(SearchConfig(workers_per_trial=workers), placed)
        assert asked._kwargs["bundle_label_selector"] == [{"pool": "train"}] * workers


def test_a_cluster_that_could_never_run_a_trial_is_refused_before_a_run_is_looked_for(
    tmp_path: Path,
) -> None:
    path = CLUSTER / "aws" / "cluster.yaml"
    coming = ("ray.autoscaling=true", f"ray.cluster_file={path}", "scaling.pool=traim")
    (job,) = composed("search=engine", *coming, f"root={tmp_path / 'nowhere'}")
    with (
        pytest.raises(ConfigError, match=r"cluster\.yaml starts no .*scaling\.pool=traim: no node"),
        opened(job, lambda _: job, {}),
    ):
        pass
