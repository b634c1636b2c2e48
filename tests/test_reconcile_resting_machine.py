"""A comparison leaves out only names of which a plan would change nothing, whatever happened before."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.test_reconcile_others_machine import Machine

PARTS = 3


class Resting(Machine):
    """As ``Machine``; others also change znodes, which no watch tells, and all is compared now and then."""

    # Others may publish what they like, until all is compared.

    def no_forged_address_is_published(self):
        pass

    def who_is_ready_stays_published(self):
        pass

    def who_was_seen_to_go_is_withdrawn(self):
        pass

    @rule(pick=st.integers(0, 20), deletes=st.booleans(), compared=st.booleans())
    def a_znode_is_changed(self, pick, deletes, compared):
        znodes = self.world.zookeeper.znodes
        ours = sorted(path for path in znodes if path == "/rpc_v2/echo" or "/providers/" in path)
        if ours:
            path = ours[pick % len(ours)]
            data, version = znodes[path]
            if deletes:
                del znodes[path]
            elif path == "/rpc_v2/echo":
                znodes[path] = (data.replace(b"10.0.0.", b"9.9.9."), version + 1)
            else:
                znodes[path] = (b"theirs", version + 1)
        if compared and self.world.compared:
            self.compare()

    @rule(which=st.integers(0, 3), keep=st.integers(0, 3), compared=st.booleans())
    def a_condition_is_removed(self, which, keep, compared):
        services = self._services()
        if services:
            service = services[which % len(services)]
            status = service.status
            rows = status.endpoints[:keep]
            self.world.server.others_write(
                service, status=msgspec.structs.replace(status, conditions=(), endpoints=rows)
            )
            self.world.late.deliver()
        if compared and self.world.compared:
            self.compare()

    @rule(in_bulk=st.booleans())
    def another_server_answers(self, in_bulk):
        self.world.zookeeper.in_bulk = in_bulk

    @rule(minutes=st.integers(1, 3))
    def minutes_pass(self, minutes):
        for _ in range(minutes):
            self.it_works()
            self.compare()

    def compare(self) -> None:
        """Compare all; then plan what that left out, too: nothing happens."""
        world = self.world
        for _ in range(PARTS):
            due = world.registry.compare_next(PARTS)
            world.names |= due
        left_out = sorted(world.registry.every_name() - world.names - world.failing.keys())
        world.registry._writer.cache.mark_stale(left_out)
        world.registry.report_late()  # which a plan of others does, too
        told = (world.zookeeper.commits, world.zookeeper.refusals, world.events.told, world.conditions)
        before = [repr(what) for what in told]
        queued, failed = set(world.names), world.zookeeper.writes_left
        failures, written = world.registry.reconcile(left_out)
        assert (failures, written) == ({}, set()), left_out
        assert [repr(what) for what in told] == before, left_out
        assert (world.names, world.zookeeper.writes_left) == (queued, failed), left_out

    def teardown(self) -> None:
        """Nothing is refused any more, and all is compared once: all becomes as it should be."""
        self.the_api_server_accepts()
        self.zookeeper_accepts()
        self.world.work()
        self.compare()
        super().teardown()


TestMachine = Resting.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40)
