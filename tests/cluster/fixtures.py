"""Fixtures of the suites that run the public command against a real cluster."""

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kubernetes import client, config

from hack.local.binaries import operator_kinds
from hack.local.cluster import ADMIN_TOKEN
from hack.local.controller import finished
from hack.local.http_proxy import HttpProxy
from tests.cluster.waiting import TO_START, eventually
from tests.cluster.world import Controller, World

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def crds(cluster: Any) -> None:
    """The CRDs, applied and served."""
    cluster.kubectl("apply", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "-f", str(CRDS), "--timeout=30s")


@pytest.fixture(scope="session")
def operator(cluster: Any) -> None:
    """The kinds of the Prometheus Operator that we have manifests of, applied and served."""
    files = [argument for file in operator_kinds() for argument in ("-f", str(file))]
    cluster.kubectl("apply", "--server-side", *files)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *files)


@pytest.fixture
def other_namespace(cluster: Any, namespace: str) -> Iterator[str]:
    """A second namespace beside the test's own."""
    core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    name = f"{namespace}-other"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def world(cluster: Any, crds: None, namespace: str, zk: KazooClient) -> Iterator[World]:
    """A namespace of its own, and a base path of its own."""
    made = World(Path(cluster.kubeconfig), cluster.kubectl, namespace, zk, f"/{namespace}")
    yield made
    made.close()


@pytest.fixture
def start_controller(
    cluster: Any, world: World, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Controller]]:
    """Starts the public command for the test's namespaces and base path; ends it with the test."""
    started: list[Controller] = []

    def start(
        *flags: str,
        leader_elect: bool = False,
        wait: bool = True,
        kubeconfig: Path | None = None,
        only: str | None = None,
    ) -> Controller:
        scope = ["--namespace", only or world.namespace]
        if "other_namespace" in request.fixturenames:
            scope += ["--namespace", f"{world.namespace}-other"]
        layout = [] if {"--layout", "--zkpath"}.intersection(flags) else ["--layout", f"kube2zk={world.base}"]
        lead = ["--lease-namespace", world.namespace, *([] if leader_elect else ["--no-leader-elect"])]
        controller = Controller(
            kubeconfig or Path(cluster.kubeconfig),
            cluster.zk_servers,
            tmp_path / f"controller-{len(started)}.log",
            *scope,
            *layout,
            *lead,
            "--cluster-id",
            f"test-{world.namespace}",
            *flags,
        )
        started.append(controller.start())
        if wait:
            eventually(controller.leads, TO_START)
        return controller

    yield start
    for controller in started:
        controller.kill()
        if getattr(request.node, "failed", False):
            print(controller.text())


@pytest.fixture
def start_installed(cluster: Any, world: World, tmp_path: Path) -> Iterator[Callable[..., Controller]]:
    """Runs the public command as an installation in *namespace* does.

    *kubeconfig* is its ServiceAccount's, *environment* has its Deployment's variables.
    """
    started: list[Controller] = []

    def start(kubeconfig: Path, namespace: str, environment: Mapping[str, str]) -> Controller:
        controller = Controller(
            kubeconfig,
            cluster.zk_servers,
            tmp_path / "log",
            *("--lease-namespace", namespace, "--layout", f"kube2zk={world.base}"),
            *("--cluster-id", f"test-{world.namespace}"),
        ).start(**environment)
        started.append(controller)
        eventually(controller.leads, TO_START)
        return controller

    yield start
    for controller in started:
        controller.kill()
        print(controller.text())


@pytest.fixture
def start_local(start_controller: Callable[..., Controller]) -> Callable[..., Controller]:
    """Starts the public command with the LocalService controller alone."""

    def start(*flags: str, **options: Any) -> Controller:
        return start_controller("--controllers", "localservice", *flags, **options)

    return start


@pytest.fixture
def api(cluster: Any) -> Iterator[HttpProxy]:
    """A proxy that sees requests to the API server."""
    with HttpProxy(cluster.server, cluster.directory / "pki") as proxy:
        yield proxy


@pytest.fixture
def through_api(cluster: Any, api: HttpProxy, tmp_path: Path) -> Path:
    """A kubeconfig that leads through ``api``."""
    return Path(cluster.kubeconfig_for(ADMIN_TOKEN, tmp_path / "through-proxy", api.server))


@pytest.fixture
def controller(start_controller: Callable[..., Controller]) -> Controller:
    """The public command, running."""
    return start_controller()


@pytest.fixture
def verify(cluster: Any, world: World) -> Callable[[], tuple[int, list[dict[str, str]]]]:
    """``rpcregistry verify`` for the test's namespace: exit code and findings."""

    def run() -> tuple[int, list[dict[str, str]]]:
        done = finished(
            "verify",
            "--output",
            "json",
            kubeconfig=cluster.kubeconfig,
            zk_servers=cluster.zk_servers,
            namespace=world.namespace,
            layout=f"kube2zk={world.base}",
            cluster_id=f"test-{world.namespace}",
        )
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, json.loads(done.stdout)["findings"]

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say on the item that it failed, so that its controllers' logs are shown."""
    report = yield
    if report.failed:
        item.failed = True  # type: ignore[attr-defined]
    return report
