// The kinds of the Prometheus Operator: nothing is built of it.
module rpcregistry.dev/hack/binaries/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.82.2
