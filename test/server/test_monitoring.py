"""The dashboard and the alert rules in deploy/ ask for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed: metrics need it")

from server.exposed import exposed_metrics, exposed_page
from spec_decode_ros.server.config_sources import resolve

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "alert_rules.yaml"
DASHBOARD = json.loads((DEPLOY / "grafana_dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PAGE = exposed_page()

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt install prometheus"
)


def queries() -> list[str]:
    """The PromQL of the dashboard, with its variables filled in."""
    found = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [re.sub(r"\$(job|instance)", ".*", query).replace("$__rate_interval", "5m") for query in found]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def series() -> dict[str, set[str]]:
    """The names that a query can select, with the labels of each; a histogram has three."""
    names: dict[str, set[str]] = {"up": set()}
    for name, kind in exposed_metrics(PAGE).items():
        endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {f"{name}{ending}": {"le"} if ending == "_bucket" else set() for ending in endings}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", PAGE, re.M):
        names.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    names["spec_decode_balancer_verifier_up"] |= {"verifier"}
    return names


@pytest.mark.parametrize("query", [*queries(), *(rule["expr"] for rule in alerts())])
def test_a_query_asks_for_metrics_and_labels_that_there_are(query: str) -> None:
    known = series()
    selected = re.findall(r"\b((?:spec_decode|process)_\w+|up)\b(?:\{([^}]*)\})?", query)
    assert selected
    for name, labels in selected:
        assert name in known, name
        asked = set(re.findall(r"(\w+)\s*=", labels)) - {"job", "instance"}
        assert asked <= known[name], f"{name} has no label {asked - known[name]}"


def test_the_dashboard_shows_what_an_operator_asks() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Load", "Latency", "Acceptance", "Refusals and stops", "Replicas"]
    shown = set(re.findall(r"spec_decode_\w+", " ".join(queries())))
    told = {name for name in exposed_metrics(PAGE) if not name.endswith("_info")}
    left_out = {name for name in told if not any(each.startswith(name) for each in shown)}
    assert left_out == {"spec_decode_balancer_ready", "spec_decode_balancer_verifier_leaving"}
    percentiles = re.findall(r"histogram_quantile\((\S+), .*?spec_decode_pass_seconds", " ".join(queries()))
    assert percentiles == ["0.5", "0.95", "0.99"]


def test_the_panels_have_places_of_their_own_and_any_data_source() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job", "instance"}
    for panel in PANELS:
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('job=~"$job"' in target["expr"] for target in panel["targets"])


def test_an_alert_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names) > 8
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.match(r"\d+[sm]$", rule.get("for", "0s"))


def test_prometheus_scrapes_the_addresses_of_the_shipped_settings() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    assert config["rule_files"] == [RULES.name]
    targets = {
        one for job in config["scrape_configs"] for each in job["static_configs"] for one in each["targets"]
    }
    ours = [
        resolve({}, {}, DEPLOY / f"{name}.yaml").config.metrics_address for name in ("service", "balancer")
    ]
    assert targets == {f"{host}:{port}" for host, port in ours}


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_nothing_wrong() -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", DEPLOY / "prometheus.yaml")


@needs_promtool
def test_promtool_reads_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel_{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)


@needs_promtool
def test_the_alerts_come_when_they_should_and_not_before() -> None:
    promtool("test", "rules", Path(__file__).with_name("alert_rules_test.yaml"))
