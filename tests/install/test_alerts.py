"""The alerts: each fires when it should, not before and not for less; promtool judges."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from hack.clients import build
from hack.local.binaries import Unavailable
from hack.manifests import OPTIONAL, RULES
from tests.install.metrics import exposed, used
from tests.pages import TOP, Page


def alerts(file: Path) -> Mapping[str, Any]:
    """The rules of a file, by name."""
    (group,) = yaml.safe_load(file.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


ALERTS: Mapping[str, Mapping[str, Any]] = {**alerts(RULES), **alerts(OPTIONAL)}
STEP, STEPS = 30, 120  # seconds, samples
UNITS = {"s": 1, "m": 60, "h": 3600}


def constant(value: float) -> str:
    return f"{value:g}x{STEPS}"


def rising(each: float, begin: float = 0) -> str:
    """A counter that grows by *each* every 30 s."""
    return f"{begin:g}{each:+g}x{STEPS}"


NOW = rising(STEP)  # as Unix time
WELL = {
    'up{job="rpcregistry"}': constant(1),
    "rpcregistry_build_info": constant(1),
    "rpcregistry_leader": constant(1),
    'rpcregistry_leader{instance="b"}': constant(0),
    "rpcregistry_lease_renewed_timestamp_seconds": rising(STEP, -2),
    "rpcregistry_zookeeper_connected": constant(1),
    "rpcregistry_zookeeper_connections_total": constant(1),
    "rpcregistry_oldest_waiting_seconds": constant(0),
    'rpcregistry_oldest_waiting_seconds{instance="b"}': constant(900),  # a follower's stands still
    'rpcregistry_source_unknown{resource="pods"}': constant(0),
    "rpcregistry_restored": constant(0),
    "rpcregistry_nodes_silent": constant(0),
    "rpcregistry_held": constant(0),
    'rpcregistry_propagation_seconds_bucket{layout="kube2zk",le="1"}': rising(1),
    'rpcregistry_propagation_seconds_bucket{layout="kube2zk",le="2.5"}': rising(1),
    'rpcregistry_propagation_seconds_bucket{layout="kube2zk",le="+Inf"}': rising(1),
    'rpcregistry_queue_depth{controller="registry"}': constant(0),
    'rpcregistry_reconcile_total{controller="registry",result="done"}': rising(10),
    'rpcregistry_reconcile_total{controller="registry",result="conflict"}': rising(10),
    'rpcregistry_reconcile_total{controller="registry",result="retry"}': rising(0),
    'rpcregistry_reconcile_total{controller="registry",result="error"}': constant(0),
    'rpcregistry_keys_refused{controller="registry"}': constant(0),
    'rpcregistry_watch_restarts_total{resource="pods",reason="ended"}': rising(10),
    'rpcregistry_watch_restarts_total{resource="pods",reason="broken"}': constant(0),
    "rpcregistry_compared_timestamp_seconds": NOW,
    'rpcregistry_compared_timestamp_seconds{instance="b"}': constant(0),
    'rpcregistry_services_unsynced{reason="Held"}': constant(3),
    'rpcregistry_services_unsynced{reason="MissingPort"}': constant(0),
    'rpcregistry_repairs_total{layout="kube2zk",kind="edited"}': constant(100),
    "rpcregistry_events_dropped_total": constant(100),
    "rpcregistry_invalid_pods": constant(0),
    "rpcregistry_services_nobody_ready": constant(0),
    'rpcregistry_services_nobody_ready{instance="b"}': constant(3),  # what a follower reads may be old
    "rpcregistry_largest_znode_bytes": constant(1000),
    "rpcregistry_largest_znode_limit_bytes": constant(524288),
    "rpcregistry_largest_service_endpoints": constant(10),
    "rpcregistry_services": constant(10),
    "rpcregistry_ledger_services": constant(10),
    "process_resident_memory_bytes": constant(1e8),
    "rpcregistry_memory_limit_bytes": constant(1e9),
    "process_open_fds": constant(30),
    "process_max_fds": constant(1024),
    'process_open_fds{job="another"}': constant(1000),
    'process_max_fds{job="another"}': constant(1024),
    # An installation for LocalServices alone, without a leader election.
    'rpcregistry_leader{namespace="other"}': constant(1),
    'rpcregistry_zookeeper_connected{namespace="other"}': constant(0),
    'rpcregistry_lease_renewed_timestamp_seconds{namespace="other"}': constant(0),
}


class Case(NamedTuple):
    """What goes wrong.

    *series*: the samples that then replace those of ``WELL``; None: there are none.  *almost*: what is just
    not enough.  *labels*: of the alert, besides severity, namespace and job.  *description*: what it says.
    *after*: from when on the condition holds, as samples have to come together; seconds.
    """

    series: Mapping[str, str | None]
    almost: Mapping[str, str]
    description: str
    labels: Mapping[str, str] = {}
    after: int = 0


def on(name: str, bad: float, fine: float) -> tuple[dict[str, str | None], dict[str, str]]:
    """A gauge that is *bad*, or just still *fine*."""
    return {name: constant(bad)}, {name: constant(fine)}


RETRIES = 'rpcregistry_reconcile_total{controller="registry",result="retry"}'
ERRORS = 'rpcregistry_reconcile_total{controller="registry",result="error"}'
BROKEN = 'rpcregistry_watch_restarts_total{resource="pods",reason="broken"}'
REPAIRS = 'rpcregistry_repairs_total{layout="kube2zk",kind="edited"}'
FAST, SOME, ALL = (
    f'rpcregistry_propagation_seconds_bucket{{layout="kube2zk",le="{le}"}}' for le in ("1", "2.5", "+Inf")
)
REGISTRY = {"controller": "registry"}
MISSING_PORT = 'rpcregistry_services_unsynced{reason="MissingPort"}'
MISSING_PORT_TOO = 'rpcregistry_services_unsynced{reason="MissingPort",instance="b"}'
OWN = {"instance": "a"}  # it is about one process
CASES = {
    "RpcRegistryDown": Case(
        {'up{job="rpcregistry"}': constant(0)},
        {'up{job="rpcregistry",instance="b"}': constant(0)},
        "No replica answers. Changes of pods do not reach ZooKeeper; what is published stays.",
    ),
    "RpcRegistryNoLeader": Case(
        *on("rpcregistry_leader", 0, 1),
        "Replicas run, and none holds the Lease. Nothing is written; what is published stays.",
    ),
    "RpcRegistryTwoLeaders": Case(
        *on('rpcregistry_leader{instance="b"}', 1, 0),
        "2 replicas say that they lead. The fence lets one of them write.",
    ),
    "RpcRegistryLeaseSlow": Case(
        {"rpcregistry_lease_renewed_timestamp_seconds": rising(STEP, -6)},
        {"rpcregistry_lease_renewed_timestamp_seconds": rising(STEP, -5)},
        "The Lease was 6s old; after 10 s without a renewal the leader stops.",
        after=STEP,
    ),
    "RpcRegistryZooKeeperDisconnected": Case(
        {"rpcregistry_zookeeper_connected": constant(0)},
        {'rpcregistry_zookeeper_connected{instance="b"}': constant(0)},
        "Changes wait, and nothing is withdrawn. Clients go on with what they know.",
    ),
    "RpcRegistryZooKeeperFlapping": Case(
        {"rpcregistry_zookeeper_connections_total": rising(0.25)},
        {"rpcregistry_zookeeper_connections_total": rising(0.15)},
        "7.5 connections in 15 minutes. Changes wait for each.",
        OWN,
        21 * STEP,
    ),
    "RpcRegistryChangeWaits": Case(
        *on("rpcregistry_oldest_waiting_seconds", 31, 30),
        "The oldest one has waited for 31s. Clients do not see it.",
    ),
    "RpcRegistrySourceUnknown": Case(
        *on('rpcregistry_source_unknown{resource="pods"}', 1, 0),
        "What exists of them is unknown: nothing is withdrawn, and nothing new is seen.",
        {"resource": "pods"},
    ),
    "RpcRegistryRestored": Case(
        *on("rpcregistry_restored", 1, 0),
        "Nothing that it lacks is withdrawn before a person releases it.",
    ),
    "RpcRegistryNodesSilent": Case(
        *on("rpcregistry_nodes_silent", 7, 0),
        "7 Nodes are silent. Their pods stay published without a time limit.",
    ),
    "RpcRegistryHeld": Case(
        *on("rpcregistry_held", 3, 0),
        "3 absences wait to be confirmed for longer than that should take. "
        "Clients may be sent to pods that are gone.",
    ),
    "RpcRegistrySlow": Case(
        {FAST: constant(0), SOME: rising(1), ALL: rising(1)},
        {FAST: rising(1), SOME: rising(1), ALL: rising(1.005)},
        "One in a hundred takes longer than 2.485s.",
        after=STEP,
    ),
    "RpcRegistryQueueGrows": Case(
        *on('rpcregistry_queue_depth{controller="registry"}', 101, 100),
        "At least 101 keys have waited for 10 minutes.",
        REGISTRY | OWN,
    ),
    "RpcRegistryFailing": Case(
        {RETRIES: rising(5)},
        {RETRIES: rising(2)},
        "20% of all fail.",
        REGISTRY,
        STEP,
    ),
    "RpcRegistryRefused": Case(
        *on('rpcregistry_keys_refused{controller="registry"}', 4, 0),
        "Of 4 keys the last write was refused, or failed. The others are up to date.",
        REGISTRY,
    ),
    "RpcRegistryUnhandledError": Case(
        {ERRORS: rising(1)},
        {ERRORS: constant(7)},
        "20 errors in 10 minutes that it does not know.",
        REGISTRY,
        STEP,
    ),
    "RpcRegistryWatchBroken": Case(
        {BROKEN: rising(1)},
        {BROKEN: rising(0.5)},
        "20 times in 10 minutes. Changes are seen late.",
        {"resource": "pods"},
        11 * STEP,
    ),
    "RpcRegistryNotComparing": Case(
        {"rpcregistry_compared_timestamp_seconds": constant(9)},
        {"rpcregistry_compared_timestamp_seconds": f"{' '.join(f'{n}x15' for n in range(1, 9))}"},
        "For 10 minutes nobody has looked for what others changed.",
        OWN,
        STEP,
    ),
    "RpcRegistryUnsynced": Case(
        {MISSING_PORT: constant(2), MISSING_PORT_TOO: constant(2)},  # a follower counts the same ones
        {MISSING_PORT: constant(0), MISSING_PORT_TOO: constant(0)},
        "2 of them. Clients do not find all of their endpoints.",
        {"reason": "MissingPort"},
    ),
    "RpcRegistryRepairing": Case(
        {REPAIRS: rising(0.2)},
        {REPAIRS: rising(0.15)},
        "12 znodes of kube2zk were repaired in 30 minutes.",
        {"layout": "kube2zk"},
        51 * STEP,
    ),
    "RpcRegistryEventsDropped": Case(
        {"rpcregistry_events_dropped_total": rising(1)},
        {"rpcregistry_events_dropped_total": constant(9)},
        "30 in 15 minutes. What is published is not affected; people miss why.",
        after=STEP,
    ),
    "RpcRegistryInvalidAnnotations": Case(
        *on("rpcregistry_invalid_pods", 2, 0),
        "2 pods are not published as somebody meant.",
    ),
    "RpcRegistryZnodeNearLimit": Case(
        *on("rpcregistry_largest_znode_bytes", 0.75 * 524288, 0.69 * 524288),
        "It has 75% of --max-znode-bytes. Beyond that, the last content that fits stays.",
        OWN,
    ),
    "RpcRegistryServiceNearLimit": Case(
        *on("rpcregistry_largest_service_endpoints", 14001, 14000),
        "It has 14001 endpoints; up to 20,000 are tested.",
    ),
    "RpcRegistryLedgerGrows": Case(
        *on("rpcregistry_ledger_services", 521, 520),
        "521 services are in it. Names that change with each deployment fill it for --ownership-grace.",
        OWN,
    ),
    "RpcRegistryMemoryNearLimit": Case(
        *on("process_resident_memory_bytes", 0.8e9, 0.7e9),
        "It uses 80%. Beyond the limit it is killed, and the next one leads.",
        OWN,
    ),
    "RpcRegistryServiceEmpty": Case(
        *on("rpcregistry_services_nobody_ready", 2, 0),
        "For 10 minutes there has been one at least; now there are 2. Their clients find nobody.",
    ),
    "RpcRegistryFilesNearLimit": Case(
        *on("process_open_fds", 0.75 * 1024, 0.69 * 1024),
        "It uses 75%. Beyond the limit it makes no connection.",
        OWN,
    ),
}


def promtool() -> str:
    """The program, if it can be had here."""
    try:
        return build.promtool()
    except Unavailable as error:
        pytest.skip(str(error))


def seconds(duration: str) -> int:
    return int(duration[:-1]) * UNITS[duration[-1]]


def series(name: str) -> str:
    """The series with the labels that Prometheus adds, where it has none of its own."""
    name, _, labels = name.partition("{")
    given = dict(label.split("=", 1) for label in labels.removesuffix("}").split(",") if label)
    whole = {"namespace": '"r"', "job": '"rpcregistry"', "instance": '"a"', **given}
    return f"{name}{{{','.join(f'{key}={value}' for key, value in sorted(whole.items()))}}}"


def expected(alert: str, case: Case) -> dict[str, Any]:
    """The alert as Alertmanager gets it."""
    rule = ALERTS[alert]
    about = {} if alert == "RpcRegistryDown" else {"namespace": "r", "job": "rpcregistry"}
    labels = {**about, **case.labels}
    summary = rule["annotations"]["summary"]
    for key, value in labels.items():
        summary = summary.replace(f"{{{{ $labels.{key} }}}}", value)
    return {
        "exp_labels": {**rule["labels"], **labels},
        "exp_annotations": {**rule["annotations"], "summary": summary, "description": case.description},
    }


def judged(folder: Path, samples: Mapping[str, str | None], *wanted: tuple[str, int, list[Any]]) -> str:
    """What promtool finds wrong: of each alert, at a second, exactly these are wanted."""
    # Evaluating one rule of all, and on what it reads, takes a fraction of the time.
    rules = [ALERTS[alert] for alert in {alert for alert, _, _ in wanted}]
    read = {"up"}.union(*(used(rule["expr"]) for rule in rules))
    test = {
        "interval": f"{STEP}s",
        "input_series": [
            {"series": series(name), "values": values}
            for name, values in {**WELL, **samples}.items()
            if values is not None and name.partition("{")[0] in read
        ],
        "alert_rule_test": [
            {"alertname": alert, "eval_time": f"{at}s", "exp_alerts": found} for alert, at, found in wanted
        ],
    }
    (folder / "rules.yaml").write_text(json.dumps({"groups": [{"name": "some", "rules": rules}]}))
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{STEP}s", "tests": [test]}
    file = folder / "test.yaml"
    file.write_text(json.dumps(content))
    done = subprocess.run([promtool(), "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_rules_are_rules():
    check = [promtool(), "check", "rules", RULES, OPTIONAL]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_while_all_is_well_no_alert_fires(tmp_path: Path):
    assert judged(tmp_path, {}, *((alert, STEP * STEPS, []) for alert in ALERTS)) == ""


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_once_its_time_has_passed_and_not_before(tmp_path: Path, alert: str):
    case = CASES[alert]
    fires = case.after + seconds(ALERTS[alert]["for"])
    before: list[tuple[str, int, list[Any]]] = [(alert, fires - STEP, [])] if fires else []
    late = STEP * (STEPS - 2)
    assert judged(tmp_path, case.series, *before, (alert, late, [expected(alert, case)])) == ""
    # At first its description may name another number, while a window fills.
    assert "got:[\n" in judged(tmp_path, case.series, (alert, fires, [])).replace(" ", "")


def test_the_first_error_counts_though_its_counter_begins_with_it(tmp_path: Path):
    case = CASES["RpcRegistryUnhandledError"]
    said = "1 errors in 10 minutes that it does not know."
    born = expected("RpcRegistryUnhandledError", case._replace(description=said))
    at = STEP * 60
    assert judged(tmp_path, {ERRORS: "_x60 1x60"}, ("RpcRegistryUnhandledError", at, [born])) == ""


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_does_not_fire_for_what_is_just_not_enough(tmp_path: Path, alert: str):
    assert (
        judged(tmp_path, CASES[alert].almost, *((alert, at * STEP, []) for at in (60, 90, STEPS - 2))) == ""
    )


def test_an_alert_reads_only_metrics_that_there_are_and_all_that_fire_have_a_case():
    assert CASES.keys() == ALERTS.keys()
    for rule in ALERTS.values():
        assert used(rule["expr"]) <= exposed(), rule["expr"]


def test_the_command_on_the_page_leads_all_alerts_to_a_host():
    (command,) = (code for code in Page("docs/install.md").code if code.startswith("sed "))
    done = subprocess.run(
        command.partition(" > ")[0], shell=True, cwd=TOP, capture_output=True, text=True, check=True
    )
    (group,) = yaml.safe_load(done.stdout)["groups"]
    links = [rule["annotations"]["runbook_url"].partition("#")[0] for rule in group["rules"]]
    assert links == ["https://wiki.example.com/rpcregistry/runbooks"] * len(alerts(RULES))


def test_each_alert_has_a_section_of_runbooks_and_each_section_an_alert():
    page = Page("docs/runbooks.md")
    links = [rule["annotations"]["runbook_url"] for rule in ALERTS.values()]
    assert [link.partition("#")[0] for link in links] == [str(page.path)] * len(links)
    anchors = {link.partition("#")[2] for link in links}
    assert anchors == {anchor for anchor in page.anchors if anchor.startswith("rpcregistry")}
    for alert in ALERTS:
        assert len(page.text(alert)) > 100, alert


def test_each_alert_says_what_it_is_about():
    for alert, rule in ALERTS.items():
        assert rule["labels"].keys() == {"severity"}, alert
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), alert
        assert "$value" not in rule["annotations"]["summary"], "the summary groups alerts"
