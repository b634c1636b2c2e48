module rpcregistry.dev/hack/clients/least

go 1.26

require (
	github.com/go-zookeeper/zk v1.0.2
	gopkg.in/yaml.v3 v3.0.1
)
