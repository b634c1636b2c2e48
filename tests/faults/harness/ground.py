"""The ground that tests share: a cluster with its witnesses."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml
from kubernetes import client, config

from hack.local.cluster import ADMIN_TOKEN
from tests.cluster.waiting import eventually
from tests.faults.harness.cluster import FaultCluster
from tests.faults.harness.history import History

TOP = Path(__file__).parents[3]
CRDS = TOP / "crds"
EXAMPLE = TOP / "examples" / "controller.yaml"
ACCOUNT = ("rpcregistry", "rpcregistry")  # namespace and name of the example's ServiceAccount
RUN = ("Deployment", "PodDisruptionBudget")  # of the example, not applied: replicas are processes here


class Ground:
    """A cluster in *directory*, and who watches it.  Tests that leave it whole share it.

    *nodes*, *apiserver_flags*: as ``LocalCluster`` has them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        crds: Path = CRDS,
        example: Path = EXAMPLE,
        nodes: int = 1,
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.cluster = FaultCluster(directory / "cluster", nodes=nodes, apiserver_flags=apiserver_flags)
        self._manifests = crds, example
        self._stack = ExitStack()

    def __enter__(self) -> "Ground":
        with ExitStack() as stack:
            stack.enter_context(self.cluster)
            self.apply()
            self.history = stack.enter_context(
                History(self.cluster.server, self.cluster.ca_file, ADMIN_TOKEN)
            )
            self.api = config.new_client_from_config(str(self.cluster.kubeconfig))
            self.core = client.CoreV1Api(self.api)
            self.cluster_id = str(self.core.read_namespace("kube-system").metadata.uid)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def make_namespace(self, name: str) -> None:
        """Create a namespace, in which pods can be made: its ServiceAccount is there."""
        self.core.create_namespace({"metadata": {"name": name}})
        eventually(lambda: self.core.list_namespaced_service_account(name).items, timeout=120)

    def apply(self) -> None:
        """Apply the CRDs and the example, without its Deployment: here, replicas are processes.

        A test that deleted them calls this: a ServiceAccount that is made again has another token.
        """
        crds, example = self._manifests
        self.cluster.kubectl("apply", "-f", str(crds))
        self.cluster.kubectl("wait", "--for=condition=Established", "-f", str(crds), "--timeout=60s")
        documents = [found for found in yaml.safe_load_all(example.read_text()) if found["kind"] not in RUN]
        self.cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))
        create = ("-n", ACCOUNT[0], "create", "token", ACCOUNT[1], "--duration=24h")
        self.token = self.cluster.kubectl(*create).strip()
