"""``deploy/kustomize`` on a real API server: what it installs works, and can do no more than it needs.

Each installation has a namespace and a suffix of its own, so that several can be there side by side.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os.path import relpath
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from hack.local.cluster import LocalCluster
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller, World

DEPLOY = Path(__file__).parents[2] / "deploy" / "kustomize"
COMPONENTS = sorted(path.name for path in (DEPLOY / "components").iterdir())
IMAGE = '{"spec":{"containers":[{"name":"c","image":"evil"}]}}'
FOREIGN_LABEL = '{"metadata":{"labels":{"app":"x"}}}'
TRY = "--dry-run=server"  # so that the next who tries changes something, too
LABEL = '{"metadata":{"labels":{"rpcregistry.dev/node":"n1"}}}'


class Installation(NamedTuple):
    """What was installed."""

    cluster: LocalCluster
    manifests: list[dict[str, Any]]

    def the(self, kind: str) -> dict[str, Any]:
        """The only manifest of a kind."""
        (found,) = (manifest for manifest in self.manifests if manifest["kind"] == kind)
        return found

    def name(self, kind: str, original: str) -> str:
        """What the object that is called *original* in the base is called here."""
        names = [found["metadata"]["name"] for found in self.manifests if found["kind"] == kind]
        (name,) = (name for name in names if original in name)
        return str(name)

    @property
    def namespace(self) -> str:
        return str(self.the("ServiceAccount")["metadata"]["namespace"])

    @property
    def account(self) -> str:
        return str(self.the("ServiceAccount")["metadata"]["name"])

    @property
    def user(self) -> str:
        """The controller, as the API server names it."""
        return f"system:serviceaccount:{self.namespace}:{self.account}"

    @property
    def environment(self) -> dict[str, str]:
        """The controller's variables, as a kubelet would set them."""
        (container,) = self.the("Deployment")["spec"]["template"]["spec"]["containers"]
        return {entry["name"]: entry.get("value", self.namespace) for entry in container["env"]}

    def kubeconfig(self, file: Path) -> Path:
        """Write the kubeconfig of the controller's ServiceAccount."""
        token = self.cluster.kubectl("create", "token", "-n", self.namespace, self.account).strip()
        return self.cluster.kubeconfig_for(token, file)


@pytest.fixture
def tag(world: World) -> str:
    """What tells the test's objects that belong to no namespace from those of others."""
    return world.namespace[-6:]


@pytest.fixture
def apply(cluster: LocalCluster, crds: None, operator: None) -> Iterator[Callable[[str], Installation]]:
    """Applies manifests, and takes all but the kinds away again with the test."""
    items: list[dict[str, Any]] = []

    def apply(manifests: str) -> Installation:
        items.extend(yaml.safe_load_all(manifests))
        cluster.kubectl("apply", "-f", "-", input=manifests)
        return Installation(cluster, items)

    yield apply
    ours = [manifest for manifest in items if manifest["kind"] != "CustomResourceDefinition"]
    cluster.kubectl(
        *("delete", "--ignore-not-found", "--wait=false", "-f", "-"),
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": ours}),
    )


@pytest.fixture
def overlay(world: World, tag: str, tmp_path: Path) -> Callable[..., Path]:
    """Writes a kustomization of the base and components, with a namespace and names of the test's own."""

    def overlay(*components: str, **names: str) -> Path:
        folder = tmp_path / "overlay"
        folder.mkdir()
        content = {
            # The namespace of the base would not let the test's own pods in.
            "namespace": world.namespace if "namespaced" in components else f"rpcregistry-{tag}",
            **(names or {"nameSuffix": f"-{tag}"}),
            "resources": [relpath(DEPLOY / "base", folder)],
            "components": [relpath(DEPLOY / "components" / name, folder) for name in components],
        }
        (folder / "kustomization.yaml").write_text(json.dumps(content))
        return folder

    return overlay


@pytest.fixture
def install(cluster: LocalCluster, apply, overlay) -> Callable[..., Installation]:
    """Applies what ``overlay`` writes."""
    return lambda *components, **names: apply(
        cluster.kubectl("kustomize", str(overlay(*components, **names)))
    )


@pytest.fixture
def run(start_installed: Callable[..., Controller], tmp_path: Path) -> Callable[[Installation], Controller]:
    """Runs the public command as the installation's ServiceAccount, with its variables."""

    def run(installed: Installation) -> Controller:
        kubeconfig = installed.kubeconfig(tmp_path / "kubeconfig")
        return start_installed(kubeconfig, installed.namespace, installed.environment)

    return run


def may(world: World, user: str, verb: str, resource: str, namespace: str = "") -> bool:
    """Whether *user* has a right; *resource* may have its group behind a dot."""
    name, _, group = resource.partition(".")
    attributes = {"verb": verb, "resource": name, "group": group, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    answer = json.loads(world.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review)))
    return bool(answer["status"]["allowed"])


def complaint(world: World, *command: str) -> str:
    """What kubectl complains about; empty where it does not."""
    try:
        world.kubectl(*command)
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", [(), ("--server-side", "--force-conflicts")], ids=["by client", "by server"])
def test_all_components_at_once_are_applied_and_nothing_differs_then(
    world: World, overlay, apply, how: tuple[str, ...]
):
    folder = str(overlay(*COMPONENTS))
    apply(world.kubectl("kustomize", folder))
    world.kubectl("apply", *how, "-k", folder)
    assert world.kubectl("diff", *how, "-k", folder) == ""


@pytest.mark.parametrize(
    "components",
    [
        pytest.param((), id="all that it can do"),
        pytest.param(("namespaced",), id="in one namespace"),
        pytest.param(("no-localservice",), id="without LocalServices", marks=pytest.mark.full),
        pytest.param(("namespaced", "no-localservice"), id="with the least rights", marks=pytest.mark.full),
    ],
)
def test_the_controller_is_refused_nothing(world: World, tag: str, install, run, components: tuple[str, ...]):
    world.create_node(f"n-{tag}")
    controller = run(install(*components))
    world.create_localservice()
    address = world.run_pod("a", f"n-{tag}", "echo")
    eventually(lambda: world.servers("echo") == [address])
    eventually(lambda: world.synced("echo") == ("True", "InRegistry"))
    world.create_pod("bad", annotation="[7]")
    eventually(lambda: world.events("InvalidAnnotation", "bad"))
    if "no-localservice" not in components:
        eventually(lambda: world.rows() == {f"n-{tag}": [address]})
    world.delete_pod("a")
    eventually(lambda: world.rpcservices() == {} and world.data("echo") is None)
    assert controller.stop() == 0
    assert "orbidden" not in controller.text()
    assert "cannot" not in controller.text()
    if "no-localservice" in components:
        assert world.services().keys() <= {f"rpcregistry-{tag}"}  # the one for metrics


EVERYWHERE = [
    ("list", "pods"),
    ("patch", "pods"),
    ("limited-to", "podlabels.limits.rpcregistry.dev"),
    ("create", "services"),
    ("patch", "localservices.rpcregistry.dev"),
    ("create", "rpcservices.rpcregistry.dev"),
    ("create", "events.events.k8s.io"),
]


def test_in_one_namespace_its_rights_end_there(cluster: LocalCluster, world: World, install):
    user = install("namespaced").user
    here = [right for right in EVERYWHERE if may(world, user, *right, namespace=world.namespace)]
    elsewhere = [right for right in EVERYWHERE if may(world, user, *right, namespace="default")]
    assert (here, elsewhere) == (EVERYWHERE, [])


def test_without_localservices_it_may_neither_patch_pods_nor_write_services(
    cluster: LocalCluster, world: World, install, tag: str
):
    user = install("no-localservice").user
    granted = [right for right in EVERYWHERE if may(world, user, *right, namespace=world.namespace)]
    assert granted == [EVERYWHERE[0], *EVERYWHERE[-2:]]
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    assert tag not in cluster.kubectl("get", kinds, "-o", "name")


def test_several_namespaces_are_served_and_no_others(
    cluster: LocalCluster, world: World, other_namespace: str, tag: str, apply, run
):
    """The overlay as it is, but for the namespaces."""
    cluster.kubectl("create", "namespace", f"rpcregistry-{tag}")
    text = cluster.kubectl("kustomize", str(DEPLOY / "overlays" / "several-namespaces"))
    for old, new in [
        ("namespace: rpcregistry", f"namespace: rpcregistry-{tag}"),
        ("team-a", world.namespace),
        ("team-b", other_namespace),
    ]:
        text = text.replace(old, new)
    installed = apply(text)
    controller = run(installed)
    world.create_pod("a", "echo", ip="10.0.0.1")
    world.create_pod("b", "echo", ip="10.0.0.2", namespace=other_namespace)
    eventually(lambda: world.servers("echo") == ["10.0.0.1", "10.0.0.2"])
    assert controller.stop() == 0
    assert "orbidden" not in controller.text()
    assert not may(world, installed.user, "list", "pods", "default")
    cluster.kubectl("delete", "namespace", installed.namespace, "--wait=false")


def test_the_pods_of_the_example_overlay_are_admitted(cluster: LocalCluster, apply):
    installed = apply(cluster.kubectl("kustomize", str(DEPLOY / "overlays" / "example")))
    cluster.kubectl("rollout", "status", "-n", installed.namespace, "deployment/rpcregistry", "--timeout=60s")


def change(world: World, patch: str, *user: str) -> str:
    """What is said against a change of the pod ``p``; empty where it is made."""
    command = ("patch", "pod", "p", "-n", world.namespace, "--type=strategic", "-p", patch, *user)
    return complaint(world, *command)


@pytest.mark.parametrize(
    ("components", "names"),
    [
        pytest.param((), {"nameSuffix": "-{tag}"}, id="another namespace and a suffix"),
        pytest.param((), {"namePrefix": "our-{tag}-"}, id="another namespace and a prefix"),
        pytest.param(("namespaced",), {"nameSuffix": "-{tag}"}, id="one namespace"),
    ],
)
def test_the_policy_on_pods_labels_follows_the_controller(
    world: World, tag: str, install, components: tuple[str, ...], names: Mapping[str, str]
):
    installed = install(*components, **{key: value.format(tag=tag) for key, value in names.items()})
    world.create_pod("p", ip="10.0.0.1")
    controller = f"--as={installed.user}"
    # A policy takes the API server a moment.
    eventually(lambda: "nothing of a pod but labels" in change(world, IMAGE, controller, TRY))
    assert "no labels but its own" in change(world, FOREIGN_LABEL, controller)
    assert change(world, LABEL, controller) == ""
    assert world.label("p", "rpcregistry.dev/node") == "n1"


def test_the_policy_limits_all_to_whom_the_role_is_bound_and_nobody_else(world: World, install):
    installed = install()
    world.create_pod("p", ip="10.0.0.1")
    for role in ("rpcregistry-services", "rpcregistry-localservices"):
        bind(world, role, installed.name("ClusterRole", role), "stranger")
    bind(world, "edit", "edit", "editor")
    bind(world, "cluster-admin", "cluster-admin", "owner")
    eventually(lambda: "nothing of a pod but labels" in change(world, IMAGE, "--as=stranger", TRY))
    for user in (["--as=editor"], ["--as=owner"], ["--as=root", "--as-group=system:masters"]):
        assert change(world, IMAGE, *user, TRY) == ""


def bind(world: World, name: str, role: str, user: str) -> None:
    """Give *user* the rights of a ClusterRole in the test's namespace."""
    who = (f"--clusterrole={role}", f"--user={user}", "-n", world.namespace)
    world.kubectl("create", "rolebinding", name, *who)


def test_users_of_a_namespace_read_and_write_what_is_declared_and_only_read_statuses(world: World, install):
    install()
    bind(world, "view", "view", "viewer")
    bind(world, "edit", "edit", "editor")
    here = ("-n", world.namespace)
    kinds = "rpcservices,localservices"
    world.apply_rpcservice("echo")
    world.create_localservice("echo")
    # Roles are aggregated a moment after they were made.
    for user in ("viewer", "editor"):
        eventually(partial(may, world, user, "list", "localservices.rpcregistry.dev", world.namespace))
    for kind in kinds.split(","):
        said = complaint(world, "get", kind, "echo", *here, "--subresource=status", "--as=viewer")
        assert said == ""
        labelled = ("label", kind, "echo", *here, "a=b")
        assert "forbidden" in complaint(world, *labelled, "--as=viewer")
        assert complaint(world, *labelled, "--as=editor") == ""
        status = ("patch", kind, "echo", *here, "--subresource=status", "--type=merge", "-p", '{"status":{}}')
        assert "forbidden" in complaint(world, *status, "--as=editor")
        assert complaint(world, "delete", kind, "echo", *here, "--as=editor") == ""


def test_its_requests_have_seats_of_their_own(cluster: LocalCluster, install, tmp_path: Path):
    installed = install()
    api = config.new_client_from_config(str(installed.kubeconfig(tmp_path / "kubeconfig")))
    levels = {
        found["metadata"]["uid"]: found["metadata"]["name"]
        for found in json.loads(cluster.kubectl("get", "prioritylevelconfigurations", "-o", "json"))["items"]
    }

    def level(headers: Mapping[str, str]) -> str:
        return str(levels[headers["X-Kubernetes-Pf-Prioritylevel-Uid"]])

    def of_pods() -> str:
        return level(client.CoreV1Api(api).list_pod_for_all_namespaces_with_http_info(limit=1)[2])

    def of_its_lease() -> str:
        with pytest.raises(ApiException, match="leases") as missing:
            client.CoordinationV1Api(api).read_namespaced_lease("rpcregistry", installed.namespace)
        return level(missing.value.headers)

    eventually(lambda: of_pods() == installed.the("PriorityLevelConfiguration")["metadata"]["name"])
    eventually(lambda: of_its_lease() == "leader-election")
