// Command go-kit follows a service with go-kit's ZooKeeper instancer, or registers an instance of it.
//
//	go-kit watch SERVERS PATH
//	go-kit write SERVERS PATH NAME ADDRESS
//
// It prints one JSON line for every list of instances that the instancer tells of.  It ends with its
// standard input.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-kit/kit/sd"
	"github.com/go-kit/kit/sd/zk"
	"github.com/go-kit/log"
)

func main() {
	logger := log.NewLogfmtLogger(log.NewSyncWriter(os.Stderr))
	client, err := zk.NewClient(strings.Split(os.Args[2], ","), logger)
	if err != nil {
		fail(err)
	}
	switch os.Args[1] {
	case "watch":
		watch(client, os.Args[3], logger)
	case "write":
		write(client, os.Args[3], os.Args[4], os.Args[5], logger)
	}
	io.Copy(io.Discard, os.Stdin)
}

func watch(client zk.Client, path string, logger log.Logger) {
	instancer, err := zk.NewInstancer(client, path, logger)
	if err != nil {
		fail(err)
	}
	events := make(chan sd.Event)
	go instancer.Register(events)
	go func() {
		for event := range events {
			if event.Err != nil {
				printLine(map[string]any{"via": "instancer", "error": event.Err.Error()})
				continue
			}
			endpoints := map[string]any{}
			for _, address := range event.Instances {
				endpoints[address] = map[string]string{}
			}
			printLine(map[string]any{"via": "instancer", "endpoints": endpoints})
		}
	}()
}

func write(client zk.Client, path, name, address string, logger log.Logger) {
	service := zk.Service{Path: path, Name: name, Data: []byte(address)}
	zk.NewRegistrar(client, service, logger).Register()
	printLine(map[string]any{"written": true})
}

func printLine(line map[string]any) {
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
