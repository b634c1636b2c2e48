"""The Deployment of ``examples/controller.yaml``, run.

No kubelet runs containers in the local cluster, so the test stands in for one: it takes the command,
variables, user, security context and ServiceAccount from the Deployment, and runs that in the root file
system of the image that the Dockerfile gives, or in one made of the virtualenv.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from hack.local.cluster import LocalCluster
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.pages import Page

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
KUSTOMIZE = REPOSITORY / "deploy" / "kustomize"
IMAGE = REPOSITORY / "hack" / "image"
NAMESPACE = ACCOUNT = "rpcregistry"
SECRETS = "run/secrets/kubernetes.io/serviceaccount"
HOLDER = "jsonpath={.spec.holderIdentity}"
STOPS_WITHIN = 5.0


class Root(NamedTuple):
    """A root file system.

    *folders* of this machine are mounted into *path*; *config* is the image's, as Docker has it.
    """

    path: Path
    folders: Sequence[str]
    config: Mapping[str, Any]


def unmountable() -> str | None:
    """Why this process cannot make a mount namespace and mount in it, or None."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "mounting needs root, and unshare on PATH"
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"mount namespaces do not work here: {done.stderr.strip()}" if done.returncode else None


NO_MOUNTS = unmountable()
pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(bool(NO_MOUNTS), reason=str(NO_MOUNTS)),
]


def missing() -> str | None:
    """Why no image can be built here without reaching an image registry, or None."""
    builder = subprocess.run([IMAGE / "builder"], capture_output=True, text=True)
    if builder.returncode:
        return builder.stderr.strip()
    if "BASE_IMAGE" not in os.environ and not shutil.which("debootstrap"):
        return "no base image: set BASE_IMAGE, or install debootstrap"
    return None


@pytest.fixture(scope="module")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    if reason := missing():
        pytest.skip(reason)
    base = os.environ.get("BASE_IMAGE") or output(IMAGE / "base")
    image = output(IMAGE / "build", BASE_IMAGE=base, IMAGE="rpcregistry:test", PYTHON=sys.executable)
    path = tmp_path_factory.mktemp("image")
    yield Root(path, (), json.loads(output(IMAGE / "unpack", image, path))["config"])
    shutil.rmtree(path)
    output(*output(IMAGE / "builder").split(), "rmi", image)


def output(*command: str | Path, **variables: str) -> str:
    """What *command* prints, run with some more environment variables."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def virtualenv_root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    wanted = ["/bin", "/etc", "/lib", "/lib64", "/usr", sys.base_prefix, sys.prefix, str(REPOSITORY)]
    there = dict.fromkeys(folder for folder in wanted if Path(folder).exists())
    # A folder inside of another is mounted with it; a mount of its own would be hidden by that.
    folders = [
        folder for folder in there if not any(Path(folder).is_relative_to(f) for f in there if f != folder)
    ]
    config = {
        "Entrypoint": [sys.executable, "-m", "rpcregistry"],
        "Env": [f"PYTHONPATH={REPOSITORY / 'controller'}"],
    }
    path = tmp_path_factory.mktemp("virtualenv")
    return Root(path, folders, config)


@pytest.fixture(
    params=[
        pytest.param("image_root", id="in the image", marks=pytest.mark.full),
        pytest.param("virtualenv_root", id="in the virtualenv"),
    ]
)
def root(request: pytest.FixtureRequest) -> Root:
    found: Root = request.getfixturevalue(request.param)
    return found


def entering(root: Root, secrets: Path, context: Mapping[str, Any], command: Sequence[str]) -> str:
    """The shell script that turns into *command*, in *root*, as the security *context* says.

    It has to be run in a mount namespace of its own.
    """
    top = shlex.quote(str(root.path))
    mounts = [f"{top}{shlex.quote(folder)}" for folder in root.folders]
    lines = [
        f"chmod 755 {top}",
        f"mount --bind {top} {top}",
        *(f"mkdir -p {mount}; mount --bind {mount.removeprefix(top)} {mount}" for mount in mounts),
        f"mkdir -p {top}/dev {top}/proc {top}/run {top}/var",
        f"[ -e {top}/var/run ] || ln -s /run {top}/var/run",
        f"mount --rbind /dev {top}/dev",
        f"mount -t proc proc {top}/proc",
        f"mount -t tmpfs tmpfs {top}/run",
        f"install -D -m 444 -t {top}/{SECRETS} {shlex.quote(str(secrets))}/*",
        f"mount -o remount,ro {top}/run",
    ]
    if context["readOnlyRootFilesystem"]:
        lines += [f"mount -o remount,bind,ro {mount}" for mount in (top, *mounts)]
    user, group = context["runAsUser"], context["runAsGroup"]
    return "\n".join(
        [
            "set -eu",
            *lines,
            f"exec chroot --userspec={user}:{group} --groups={group} {top} {shlex.join(command)}",
        ]
    )


@pytest.fixture(scope="module")
def deployment(cluster: LocalCluster, crds: None) -> Iterator[Mapping[str, Any]]:
    """The Deployment as the server has it, once pods of it are admitted and scheduled."""
    manifest = str(EXAMPLES / "controller.yaml")
    cluster.kubectl("apply", "-f", manifest)
    cluster.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/rpcregistry", "--timeout=60s")
    yield json.loads(cluster.kubectl("get", "-n", NAMESPACE, "-o", "json", "deployment", "rpcregistry"))
    cluster.kubectl("delete", "--wait=false", "-f", manifest)


class Kubelet(NamedTuple):
    """Runs the only container of a pod of *deployment* in *root*; *folder* is for what it needs to do so."""

    cluster: LocalCluster
    deployment: Mapping[str, Any]
    root: Root
    folder: Path

    @property
    def log(self) -> Path:
        """The output of the command."""
        return self.folder / "log"

    @property
    def pod(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.deployment["spec"]["template"]["spec"]
        return found

    def run(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start *command* as the pod's security contexts and ServiceAccount say."""
        pod, (container,) = self.pod, self.pod["containers"]
        assert not pod.get("volumes"), "this kubelet mounts no volumes"
        script = entering(
            self.root, self._secrets(), pod["securityContext"] | container["securityContext"], command
        )
        with self.log.open("wb") as log:
            return subprocess.Popen(
                ["setpriv", "--no-new-privs", "unshare", "--mount", "sh", "-c", script],
                stdout=log,
                stderr=log,
            )

    def run_container(self, **overrides: str) -> subprocess.Popen[bytes]:
        """Start the container; *overrides* are variables that name places of this machine."""
        (container,) = self.pod["containers"]
        server = urlsplit(self._config["clusters"][0]["cluster"]["server"])
        declared = {entry["name"]: entry["value"] for entry in container["env"]}
        environment = declared | {
            "KUBERNETES_SERVICE_HOST": server.hostname,
            "KUBERNETES_SERVICE_PORT": server.port,
            **overrides,
        }
        return self.run(
            [
                *("env", "-i", *self.root.config["Env"]),
                *(f"{name}={value}" for name, value in environment.items()),
                *container.get("command", self.root.config["Entrypoint"]),
                *container["args"],
            ]
        )

    @property
    def probes(self) -> list[str]:
        """The paths that tell whether the container is alive and ready."""
        (container,) = self.pod["containers"]
        return [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]

    @property
    def _config(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(
            self.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        )
        return found

    def _secrets(self) -> Path:
        """A folder with what the API server gives to pods of the ServiceAccount."""
        folder = self.folder / "secrets"
        folder.mkdir(exist_ok=True)
        (folder / "namespace").write_text(NAMESPACE)
        (folder / "token").write_text(
            self.cluster.kubectl("create", "token", "-n", NAMESPACE, self.pod["serviceAccountName"]).strip()
        )
        certificate = self._config["clusters"][0]["cluster"]["certificate-authority-data"]
        (folder / "ca.crt").write_bytes(b64decode(certificate))
        return folder


@pytest.fixture
def kubelet(cluster: LocalCluster, deployment: Mapping[str, Any], root: Root, tmp_path: Path) -> Kubelet:
    return Kubelet(cluster, deployment, root, tmp_path)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        pytest.param("id -u; id -g; id -G", "65532\n65532\n65532\n", id="one user and group"),
        pytest.param("grep CapEff /proc/self/status", "CapEff:\t0000000000000000", id="no capability"),
        pytest.param("grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1", id="no way to get one"),
        pytest.param("touch /x", "Read-only file system", id="a read-only root"),
        pytest.param(f"touch /{SECRETS}/x", "Read-only file system", id="a read-only token"),
    ],
)
def test_in_the_container_there_is(kubelet: Kubelet, command: str, says: str) -> None:
    kubelet.run(["sh", "-c", command]).wait(10)
    assert says in kubelet.log.read_text()


def test_the_container_does_the_whole_job(world: World, cluster: LocalCluster, kubelet: Kubelet) -> None:
    """Each step needs a right of its own; where one is missing, the controller says "forbidden"."""
    service, address = f"{world.namespace}-1", f"127.0.0.1:{free_port()}"
    pods = (EXAMPLES / "test-rpc-service.yaml").read_text().replace("test-rpc-server", world.namespace)
    process = kubelet.run_container(
        RPCREGISTRY_ZK_SERVERS=cluster.zk_servers,
        RPCREGISTRY_LAYOUT=f"kube2zk={world.base}",
        RPCREGISTRY_BIND_ADDRESS=address,
    )
    try:
        eventually(lambda: all(answers(f"http://{address}{path}") for path in kubelet.probes))
        cluster.kubectl("apply", "-n", world.namespace, "-f", "-", input=pods)
        eventually(lambda: len(world.servers(service) or ()) == 3)
        eventually(lambda: world.synced(service) == ("True", "InRegistry"))
        world.create_pod("bad", annotation="[7]")
        eventually(lambda: world.events("InvalidAnnotation", "bad"))
        assert cluster.kubectl("get", "lease", "-n", NAMESPACE, "rpcregistry", "-o", HOLDER)
        cluster.kubectl("delete", "-n", world.namespace, "-f", "-", input=pods)
        eventually(lambda: world.rpcservices() == {} and world.data(service) is None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOPS_WITHIN) == 0
    finally:
        process.kill()
        print(kubelet.log.read_text())
    assert "orbidden" not in kubelet.log.read_text()
    assert not cluster.kubectl("get", "lease", "-n", NAMESPACE, "rpcregistry", "-o", HOLDER)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether a kubelet's probe of *url* would succeed."""
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (HTTPException, OSError):
        return False


def to(verb: str, resource: str, group: str = "", **more: str) -> Mapping[str, str]:
    """A right, as a SubjectAccessReview asks for it."""
    return {"verb": verb, "resource": resource, "group": group, **more}


OURS = "rpcregistry.dev"
LEASES = ("leases", "coordination.k8s.io")
KINDS = ("customresourcedefinitions", "apiextensions.k8s.io")


@pytest.mark.parametrize(
    ("right", "granted"),
    [
        pytest.param(to("list", "pods"), True, id="read pods"),
        pytest.param(to("patch", "rpcservices", OURS, subresource="status"), True, id="write statuses"),
        pytest.param(to("get", *KINDS, name=f"rpcservices.{OURS}"), True, id="look at its kind"),
        pytest.param(to("update", *LEASES, name="rpcregistry", namespace=NAMESPACE), True, id="its Lease"),
        pytest.param(to("update", *LEASES, name="other", namespace=NAMESPACE), False, id="another Lease"),
        pytest.param(to("update", *LEASES, name="rpcregistry", namespace="x"), False, id="Leases elsewhere"),
        pytest.param(to("deletecollection", "rpcservices", OURS), False, id="delete all at once"),
        pytest.param(to("patch", "pods"), True, id="label pods"),
        pytest.param(to("update", "pods"), False, id="write whole pods"),
        pytest.param(to("patch", "pods", subresource="status"), False, id="change the status of pods"),
        pytest.param(to("create", "services"), True, id="make Services"),
        pytest.param(to("deletecollection", "services"), False, id="delete all Services at once"),
        pytest.param(to("patch", "localservices", OURS, subresource="status"), True, id="of LocalServices"),
        pytest.param(to("delete", "pods"), False, id="delete pods"),
        pytest.param(to("patch", "nodes"), False, id="change nodes"),
        pytest.param(to("get", "secrets"), False, id="read secrets"),
        pytest.param(to("get", "configmaps"), False, id="read configuration"),
        pytest.param(to("list", "namespaces"), False, id="list namespaces"),
        pytest.param(to("get", *KINDS, name="others.example.com"), False, id="look at other kinds"),
        pytest.param(to("delete", *KINDS), False, id="delete kinds"),
        pytest.param(to("escalate", "clusterroles", "rbac.authorization.k8s.io"), False, id="grant more"),
    ],
)
@pytest.mark.usefixtures("deployment")
def test_its_rights_are_what_it_needs(cluster: LocalCluster, right: Mapping[str, str], granted: bool) -> None:
    assert may(cluster, f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}", right) == granted


@pytest.mark.parametrize(
    ("role", "right", "granted"),
    [
        pytest.param("view", to("list", "rpcservices", OURS), True, id="viewers read"),
        pytest.param("view", to("create", "rpcservices", OURS), False, id="viewers do not write"),
        pytest.param("edit", to("patch", "localservices", OURS), True, id="editors write"),
        pytest.param("admin", to("delete", "rpcservices", OURS), True, id="administrators delete"),
        pytest.param(
            "admin",
            to("patch", "rpcservices", OURS, subresource="status"),
            False,
            id="no one writes statuses",
        ),
    ],
)
@pytest.mark.usefixtures("deployment")
def test_users_of_a_namespace_have_rights_too(
    cluster: LocalCluster, namespace: str, role: str, right: Mapping[str, str], granted: bool
) -> None:
    cluster.kubectl("create", "rolebinding", role, "-n", namespace, f"--clusterrole={role}", "--user=jane")
    # Roles are aggregated a moment after they were made.
    eventually(lambda: may(cluster, "jane", to("list", "rpcservices", OURS, namespace=namespace)))
    assert may(cluster, "jane", {**right, "namespace": namespace}) == granted


def may(cluster: LocalCluster, user: str, right: Mapping[str, str]) -> bool:
    """Whether *user* has the right."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": right},
    }
    answer = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review)))
    return bool(answer["status"]["allowed"])


@pytest.mark.usefixtures("deployment")
def test_the_examples_are_taken_without_a_warning(cluster: LocalCluster, namespace: str) -> None:
    """Their namespace warns of pods that could do more than they need."""
    unseen = "".join(
        f"---\n{path.read_text()}"
        for path in sorted(EXAMPLES.glob("*.yaml"))
        if path.name != "controller.yaml"
    )
    restricted = "pod-security.kubernetes.io/warn=restricted"
    cluster.kubectl("label", "namespace", namespace, restricted)
    cluster.kubectl(
        *("create", "--dry-run=server", "--warnings-as-errors", "-f", "-"),
        input=unseen.replace(f"namespace: {NAMESPACE}", f"namespace: {namespace}"),
    )


@pytest.mark.usefixtures("deployment")
def test_the_base_of_kustomize_changes_nothing_of_what_the_example_gave(cluster: LocalCluster) -> None:
    assert cluster.kubectl("diff", "-k", str(KUSTOMIZE / "base")) == ""


def test_the_component_for_a_zookeeper_with_passwords_is_a_patch_for_kubectl_too(
    cluster: LocalCluster, deployment: Mapping[str, Any]
) -> None:
    patch = str(KUSTOMIZE / "components" / "zookeeper-auth" / "deployment.yaml")
    patched = json.loads(
        cluster.kubectl(
            *("patch", "-n", NAMESPACE, "deployment", "rpcregistry", "--patch-file", patch),
            *("--dry-run=server", "-o", "json"),
        )
    )
    (before,) = deployment["spec"]["template"]["spec"]["containers"]
    (after,) = patched["spec"]["template"]["spec"]["containers"]
    (mount,) = after["volumeMounts"]
    settings = {variable["name"]: variable["value"] for variable in after["env"]}
    files = [settings[name] for name in ("RPCREGISTRY_ZK_AUTH_FILE", "RPCREGISTRY_ZK_TLS_CA")]
    assert {variable["name"] for variable in before["env"]} < settings.keys()
    assert all(Path(file).parent == Path(mount["mountPath"]) for file in files)


LABELS = '{"metadata":{"labels":{"rpcregistry.dev/node":"n1","local-service.rpcregistry.dev/echo":"true"}}}'


@pytest.mark.parametrize(
    ("patch", "refusal"),
    [
        pytest.param(LABELS, None, id="its labels"),
        pytest.param('{"metadata":{"labels":{"rpcregistry.dev/node":null}}}', None, id="its labels, away"),
        pytest.param('{"metadata":{"labels":{"app":"x"}}}', "no labels but its own", id="another label"),
        pytest.param('{"metadata":{"labels":{"kept":null}}}', "no labels but its own", id="a label away"),
        pytest.param(
            '{"metadata":{"annotations":{"rpc-service":"[]"}}}', "nothing of a pod but", id="annotations"
        ),
        pytest.param('{"metadata":{"finalizers":["a.b/c"]}}', "nothing of a pod but", id="finalizers"),
        pytest.param(
            '{"spec":{"containers":[{"name":"c","image":"evil"}]}}', "nothing of a pod but", id="an image"
        ),
    ],
)
@pytest.mark.usefixtures("deployment")
def test_of_a_pod_the_controller_may_change(
    cluster: LocalCluster, world: World, patch: str, refusal: str | None
) -> None:
    world.create_pod("p", ip="10.0.0.1", labels={"kept": "1"})
    account = f"--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    command = ("patch", "pod", "p", "-n", world.namespace, "--type=strategic", account, "-p")
    # A policy takes the API server a moment.
    eventually(lambda: complaint(cluster, *command, '{"metadata":{"labels":{"x":"y"}}}', "--dry-run=server"))
    said = complaint(cluster, *command, patch)
    assert refusal in said if refusal else not said, said


@pytest.mark.usefixtures("deployment")
def test_the_command_that_the_page_on_kustomize_shows_tells_whether_the_policy_holds(
    cluster: LocalCluster, world: World
) -> None:
    ((command, output),) = Page("deploy/kustomize/README.md").shown("The policy on pods' labels")
    _, *words = shlex.split(command.replace("POD", "p"))
    world.create_pod("p", ip="10.0.0.1")
    eventually(
        lambda: output.strip().replace("POD", "p") in complaint(cluster, *words, "-n", world.namespace)
    )


def complaint(cluster: LocalCluster, *command: str) -> str:
    """The errors of kubectl; empty if there are none."""
    try:
        cluster.kubectl(*command)
    except RuntimeError as error:
        return str(error)
    return ""
