"""Queries of the dashboard and of alerts: they parse, and ask for metrics that there are."""

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import ray.dashboard
from cluster_files import CLUSTER, document

from mke_ray.labels import ray_metrics

FOLDER = CLUSTER / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana" / "labelling.json").read_text())
RULES = document(FOLDER / "alerts.yml")["groups"][0]["rules"]
PANELS = Path(ray.dashboard.__file__).parent / "modules" / "metrics" / "dashboards"
RAYS_OWN = (PANELS / "default_dashboard_panels.py").read_text()
QUERIES = {
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    },
    **{rule["alert"]: rule["expr"] for rule in RULES},
}


def exported() -> dict[str, set[str]]:
    """Return our metrics as Prometheus sees them, with their tags."""
    prefix = f"ray_{ray_metrics.PREFIX}"
    found = {f"{prefix}{name}": {"run"} for name in ray_metrics._GAUGES}
    for name, (_, tag) in ray_metrics._COUNTERS.items():
        found[f"{prefix}{name}_total"] = {"run", tag} - {""}
    found[f"{prefix}unit_seconds_bucket"] = {"run", "le"}
    return found


def metrics_of(query: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", query))


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_parses(query: str) -> None:
    assert promql_parser.parse(query.replace("$run", "first"))


def test_what_is_no_query_does_not_parse() -> None:
    with pytest.raises(ValueError, match=r"."):
        promql_parser.parse("sum by (run) rate(x[5m]")


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_asks_for_metrics_and_tags_that_there_are(query: str) -> None:
    ours = exported()
    for metric in metrics_of(query):
        assert metric in ours or metric in RAYS_OWN
    known = {tag for metric in metrics_of(query) for tag in ours.get(metric, set())}
    for tags in re.findall(r"by \((\w+)\)", query):
        assert tags in known or tags in RAYS_OWN


def test_the_dashboard_shows_every_metric_of_a_pass() -> None:
    shown = {one for query in QUERIES.values() for one in metrics_of(query)}
    assert set(exported()) <= shown


def test_panels_lie_side_by_side_and_ask_the_source_that_is_provisioned() -> None:
    (source,) = document(FOLDER / "grafana" / "datasource.yaml")["datasources"]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_reads_the_list_that_ray_writes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    prometheus = document(FOLDER / "prometheus.yml")
    assert set(prometheus) == {"global", "rule_files", "scrape_configs"}
    (job,) = prometheus["scrape_configs"]
    assert job["file_sd_configs"] == [{"files": [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]}]
    assert prometheus["rule_files"] == ["alerts.yml"]


def test_alerts_have_the_fields_that_prometheus_knows() -> None:
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"]["summary"]
