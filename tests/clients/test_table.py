"""The table of docs/clients.md: each client that our tests run has a row, which says what they do with it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hack.clients.build import ALL, CLIENTS
from tests.clients.readers import (
    ARMERIA,
    CURATOR,
    D2,
    DUBBO,
    FINAGLE,
    GO_KIT,
    MOTAN,
    NERVE_SD,
    SERVERSET_SD,
    SOFA,
    SPRING_CLOUD,
    VERTX,
    ZKCLI,
    Reader,
)
from tests.clients.versions.test_calls import CALLERS

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
# By the first two columns: name and version.
TESTED: Mapping[tuple[str, str], tuple[Reader, ...]] = {
    ("kube2zk's clients", ""): (ZKCLI,),
    ("Curator x-discovery", "5.9.0"): (CURATOR,),
    ("Armeria", "1.32.5"): ARMERIA,
    ("Spring Cloud Zookeeper", "4.2.1"): (SPRING_CLOUD,),
    ("Dubbo, interface level", "3.3.5"): (DUBBO,),
    ("SOFARPC", "5.13.2"): (SOFA,),
    ("Finagle `zk2!`", "24.2.0"): (FINAGLE,),
    ("Prometheus `serverset_sd`, `nerve_sd`", "2.42"): (SERVERSET_SD, NERVE_SD),
    ("go-kit `sd/zk`", "0.13.0"): (GO_KIT,),
    ("rest.li D2", "27.7.18"): (D2,),
    ("Motan, registry `zookeeper` and `zk`", "1.2.6"): (MOTAN,),
    ("Vert.x service discovery, ZooKeeper backend", "4.5.14"): (VERTX,),
}


def rows() -> Iterator[list[str]]:
    """The cells of the first table's rows."""
    for line in PAGE.read_text().partition("\n## ")[0].splitlines():
        if line.startswith("| ") and not line.startswith(("| ---", "| client")):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_clients_that_are_called_tested_are_those_of_the_tests():
    assert {reader.client for readers in TESTED.values() for reader in readers} == set(ALL)
    assert {(row[0], row[1]) for row in rows() if re.match("tested", row[4])} == set(TESTED)


@pytest.mark.parametrize("row", [pytest.param(row, id=" ".join(row[:2])) for row in rows()])
def test_a_row_says_what_is_tested_and_of_which_version(row: list[str]):
    name, version, layouts, works, remark = row
    for reader in TESTED.get((name, version), ()):
        assert f"`{reader.layout}`" in layouts
        assert works.startswith("yes")
        assert (reader in CALLERS) == remark.startswith("tested, with calls")
        built_from = [*CLIENTS.glob(f"{reader.client}/pom.xml"), *CLIENTS.glob(f"{reader.client}/go.mod")]
        assert all(re.search(rf"[>v]{re.escape(version)}\b", file.read_text()) for file in built_from)
