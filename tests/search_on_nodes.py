"""A search of trials of two workers on a Ray cluster of this machine that loses a node.

Run as ``python search_on_nodes.py FOLDER``; leaves ``events.jsonl``.
"""

import json
import sys
import threading
from pathlib import Path

from search_runs import SPACE, finished_run, search_here
from train_on_nodes import WAIT_S, Nodes, is_free, wait_for

KEYS = [
    "search.name=nodes",
    "search.num_trials=4",
    "search.workers_per_trial=2",
    "search.max_failures=3",
    "search.final_seeds=[0]",
    "scaling.launch=trainer",
    "scaling.num_workers=2",
]


def main() -> None:
    """Search while a node goes and another one comes."""
    import ray

    folder = Path(sys.argv[1])
    finished_run(folder)
    nodes, failed = Nodes(3), []

    def search() -> None:
        try:
            search_here(folder, *SPACE, *KEYS)
        except BaseException as error:  # told to the main thread, whatever it is
            failed.append(repr(error))
            raise

    searches = threading.Thread(target=search, daemon=True)
    searches.start()
    wait_for(lambda: any(folder.glob("run/search/nodes-*/trials/*")), "a trial has ended")
    wait_for(lambda: sum(not is_free(one.node_id) for one in nodes.nodes) == 2, "another runs")
    busy = [one for one in nodes.nodes if not is_free(one.node_id)]
    nodes.kill(busy[0])
    nodes.add()
    searches.join(3 * WAIT_S)
    event = {"failed": failed, "is_alive": searches.is_alive(), "busy": len(busy)}
    (folder / "events.jsonl").write_text(json.dumps(event))
    ray.shutdown()
    nodes.cluster.shutdown()


if __name__ == "__main__":
    main()
