"""Layouts with one znode a service: a plan changes it and its ledger entry in one step."""

from collections.abc import Collection

import msgspec

from rpcregistry.layouts.forms import Config, PerService, Rendered
from rpcregistry.model import Problem
from rpcregistry.plan.ledger import Ledger, decode_ledger
from rpcregistry.plan.ops import Delete, Op, Set, Znode, write
from rpcregistry.plan.outcome import ObservedZnodes, Outcome
from rpcregistry.plan.publication import Adopt, Publication, PublicationSettings, without_additions


class OneZnode(msgspec.Struct, frozen=True):
    """The service at *path*, which the ledger records at *entry*; *spared*: addresses that stay."""

    form: PerService
    path: str
    entry: str
    wanted: Publication
    observed: ObservedZnodes
    settings: PublicationSettings
    spared: Collection[str] = ()

    @property
    def ledger(self) -> Ledger | None:
        return decode_ledger(self.observed.ledger.data) if self.observed.ledger else None

    def plan(self, now: str, grace_over: bool) -> Outcome:
        ledger = self.ledger
        refusal = self.refusal(grace_over)
        if refusal:
            return Outcome(refusal=refusal if self.wanted.endpoints else None)
        if self.wanted.endpoints:
            outcome = self.publish(grace_over)
            if outcome.refusal is None:
                return outcome
            # It costs only what it would add: remove what is to go.
            less = msgspec.structs.replace(self, wanted=without_additions(self.wanted))
            return msgspec.structs.replace(less.plan(now, grace_over), refusal=outcome.refusal)
        if ledger is None or self.wanted.frozen:
            return Outcome()
        if ledger.cluster != self.settings.cluster_id and self.wanted.services:
            return Outcome()  # keep the previous cluster's znode until ours replaces it
        if ledger.withdrawn_at:
            forgotten = (Delete(self.entry, _version(self.observed.ledger)),)
            return Outcome(removals=(forgotten,) if grace_over else ())
        if self.form.addresses(self.render(ledger.config).data):
            unlisted = self.publish(grace_over)  # keep the unlisted addresses, remove all others
            return msgspec.structs.replace(unlisted, steps=(), removals=unlisted.steps)
        return self.withdraw(ledger, now)

    def refusal(self, grace_over: bool) -> Problem | None:
        """Why the path belongs to another writer, or None."""
        ledger, znode = self.ledger, self.observed.znode
        over = grace_over and ledger is not None and ledger.withdrawn_at
        if ledger and ledger.cluster not in self.settings.clusters and not over:
            return Problem("OwnedElsewhere", f"the ledger says the path belongs to cluster {ledger.cluster}")
        if znode and znode.ephemeral:
            return Problem(
                "OwnedElsewhere",
                "an RPC server registered itself there with an ephemeral znode, which is left alone",
            )
        if znode and ledger is None and self.settings.adopt is Adopt.NEVER:
            return Problem("OwnedElsewhere", "the znode existed before, and --adopt=never leaves it alone")
        return None

    def publish(self, grace_over: bool) -> Outcome:
        wanted, ledger, znode = self.wanted, self.ledger, self.observed.znode
        remembered = None if ledger is None or (grace_over and ledger.withdrawn_at) else ledger.config
        rendered = self.render(remembered)
        limit = self.settings.max_znode_bytes
        if len(rendered.data) > limit and wanted.endpoints:
            size = f"{len(rendered.data)} bytes, more than --max-znode-bytes={limit}"
            message = f"{self.path} would take {size}; nothing is added"
            return Outcome(refusal=Problem("TooLarge", message))
        stays = wanted.frozen or wanted.unlisted or self.spared
        kept = ledger.namespaces if stays and ledger else ()
        names = tuple(sorted({*wanted.namespaces, *kept}))
        entry = Ledger(self.settings.cluster_id, names, rendered.config).encode()
        step = (*write(self.entry, entry, self.observed.ledger), *write(self.path, rendered.data, znode))
        return Outcome((step,) if step else (), notes=rendered.notes)

    def render(self, remembered: Config) -> Rendered:
        """The desired content of the znode."""
        wanted, znode = self.wanted, self.observed.znode
        unlisted = {endpoint.ip for endpoint in wanted.unlisted}.union(self.spared)
        return self.form.render(
            wanted.endpoints,
            wanted.config,
            znode.data if znode else None,
            remembered,
            lambda address: wanted.frozen or address in unlisted,
        )

    def withdraw(self, ledger: Ledger, now: str) -> Outcome:
        """Delete the znode, or empty it if others have put children under it."""
        znode = self.observed.znode
        rest = self.form.withdrawn(znode.data if znode else None, ledger.config)
        entry = Ledger(ledger.cluster, config=rest.config, withdrawn_at=now).encode()
        step: list[Op] = [Set(self.entry, entry, _version(self.observed.ledger))]
        if znode and znode.children:
            step += write(self.path, rest.data, znode)
        elif znode:
            step.append(Delete(self.path, znode.version))
        return Outcome(removals=(tuple(step),))


def _version(znode: Znode | None) -> int:
    return znode.version if znode else 0
