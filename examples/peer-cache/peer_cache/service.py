"""The gRPC service."""

from concurrent.futures import ThreadPoolExecutor

import grpc

from peer_cache import messages
from peer_cache.links import MESSAGE_SIZES
from peer_cache.replica import Replica
from peer_cache.sync_pb2 import SyncRequest, SyncResponse
from peer_cache.sync_pb2_grpc import SyncServicer, add_SyncServicer_to_server

CALLS_AT_ONCE = 16


class SyncService(SyncServicer):
    """Sync, on a replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def Get(self, request: SyncRequest, context: grpc.ServicerContext) -> SyncResponse:  # noqa: N802
        """Return the values of the types in the request."""
        self._require_filled(context)
        return SyncResponse(data=messages.answer(self._replica.cache, request.data))

    def GetAll(self, request: SyncRequest, context: grpc.ServicerContext) -> SyncResponse:  # noqa: N802
        """Return all values; with versions if the request has a type below zero."""
        self._require_filled(context)
        entries = self._replica.cache.entries()
        data = [*messages.values(entries)]
        if any(asked.type < 0 for asked in request.data):
            data += messages.versions(entries)
        return SyncResponse(data=data)

    def Set(self, request: SyncRequest, context: grpc.ServicerContext) -> SyncResponse:  # noqa: N802
        """Set the values of the request; those without a version get one, and go to all peers."""
        try:
            unversioned, versioned = messages.parse(request.data)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        # Accept peers' values also before we are filled: nobody sends them again soon.
        self._replica.cache.take(versioned)
        if unversioned:
            self._require_filled(context)
            self._replica.set(unversioned)
        return SyncResponse()

    def _require_filled(self, context: grpc.ServicerContext) -> None:
        if not self._replica.filled:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "still taking over what the peers have")


def serve(replica: Replica, address: str) -> grpc.Server:
    """Start the service at *address*, ``HOST:PORT``; raises ``RuntimeError`` if that is taken."""
    server = grpc.server(
        ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="grpc"),
        # Without this, two processes could listen on one port, and share its connections.
        options=[*MESSAGE_SIZES, ("grpc.so_reuseport", 0)],
    )
    add_SyncServicer_to_server(SyncService(replica), server)
    server.add_insecure_port(address)
    server.start()
    return server
