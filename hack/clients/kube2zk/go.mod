module rpcregistry.dev/hack/clients/kube2zk

go 1.26

require github.com/go-zookeeper/zk v1.0.2
