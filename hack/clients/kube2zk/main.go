// Command kube2zk writes a service's znode by kube2zk's rules, which has no library to call: a persistent
// znode, open to all, that holds Go's JSON of these two fields.
//
//	kube2zk write SERVERS BASE SERVICE ADDRESS…
//
// It ends with its standard input.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

type service struct {
	Config  []string `json:"config"`
	Servers []string `json:"servers"`
}

func main() {
	connection, _, err := zk.Connect(strings.Split(os.Args[2], ","), 10*time.Second)
	check(err)
	_, err = connection.Create(os.Args[3], []byte{}, 0, zk.WorldACL(zk.PermAll))
	check(err)
	data, err := json.Marshal(service{
		Config: []string{
			"zone kg 8M",
			"kg_round_robin broken_tries=2 health_checks=5 max_uri_slots=0",
			"keepalive 32",
		},
		Servers: os.Args[5:],
	})
	check(err)
	_, err = connection.Create(os.Args[3]+"/"+os.Args[4], data, 0, zk.WorldACL(zk.PermAll))
	check(err)
	fmt.Println(`{"written":true}`)
	io.Copy(io.Discard, os.Stdin)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
