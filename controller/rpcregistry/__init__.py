"""rpcregistry: pods that say which RPC services they serve, published where RPC clients look."""
