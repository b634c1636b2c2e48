// What runs in the pods of real nodes.
module rpcregistry.dev/hack/binaries/test-server

go 1.26.0
