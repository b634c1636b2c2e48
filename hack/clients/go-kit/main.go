// Command go-kit follows a service with go-kit's ZooKeeper instancer, or registers an instance of it.
//
//	go-kit watch SERVERS PATH
//	go-kit write SERVERS PATH NAME ADDRESS
//	go-kit call SERVERS PATH
//
// It prints one JSON line for every list of instances that the instancer tells of; or for every call, by
// go-kit's round robin and without a retry, that comes out otherwise than the one before.  It ends with
// its standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-kit/kit/endpoint"
	"github.com/go-kit/kit/sd"
	"github.com/go-kit/kit/sd/lb"
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
	case "call":
		call(client, os.Args[3], logger)
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

func call(client zk.Client, path string, logger log.Logger) {
	instancer, err := zk.NewInstancer(client, path, logger)
	if err != nil {
		fail(err)
	}
	balancer := lb.NewRoundRobin(sd.NewEndpointer(instancer, asking, logger))
	go func() {
		for _, err := balancer.Endpoint(); err != nil; _, err = balancer.Endpoint() {
			time.Sleep(20 * time.Millisecond) // the instancer has told of nothing yet
		}
		before := ""
		for {
			line := map[string]any{"via": "call"}
			if ask, err := balancer.Endpoint(); err != nil {
				line["error"] = err.Error()
			} else if address, err := ask(context.Background(), nil); err != nil {
				line["error"] = err.Error()
			} else {
				line["endpoints"] = map[string]any{address.(string): map[string]string{}}
			}
			if text := fmt.Sprint(line); text != before {
				printLine(line)
				before = text
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}

// asking makes an endpoint of an instance: it asks for the address of the server that answers.
func asking(instance string) (endpoint.Endpoint, io.Closer, error) {
	transport := &http.Transport{DisableKeepAlives: true} // Go asks again where a connection that it kept is closed
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	return func(context.Context, any) (any, error) {
		answer, err := client.Get("http://" + instance + "/")
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		address, err := io.ReadAll(answer.Body)
		return string(address), err
	}, nil, nil
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
