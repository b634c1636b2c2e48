// Command go-kit follows a service with go-kit's ZooKeeper instancer, or registers an instance of it.
//
//	go-kit watch SERVERS PATH
//	go-kit write SERVERS PATH NAME ADDRESS
//	go-kit call SERVERS PATH
//
// It prints one JSON line for every list of instances that the instancer tells of; or for every call by
// go-kit's round robin: without retries, and with those of go-kit's examples.  It ends with its standard
// input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync/atomic"
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
	// Go asks again where a connection that it kept is closed.
	once := balancer(instancer, &http.Transport{DisableKeepAlives: true}, logger)
	again := lb.Retry(3, 20*time.Second, balancer(instancer, &http.Transport{}, logger))
	go calls("off", func(ctx context.Context, request any) (any, error) {
		ask, err := once.Endpoint()
		if err != nil {
			return nil, err
		}
		return ask(ctx, request)
	})
	go calls("defaults", again)
}

// balancer gives the instances by turns, once there is one.
func balancer(instancer sd.Instancer, transport *http.Transport, logger log.Logger) lb.Balancer {
	made := lb.NewRoundRobin(sd.NewEndpointer(instancer, asking(transport), logger))
	for _, err := made.Endpoint(); err != nil; _, err = made.Endpoint() {
		time.Sleep(20 * time.Millisecond)
	}
	return made
}

func calls(via string, ask endpoint.Endpoint) {
	for {
		var tried atomic.Int32
		line := map[string]any{"via": via}
		address, err := ask(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			GetConn: func(string) { tried.Add(1) },
		}), nil)
		if err != nil {
			line["error"] = err.Error()
		} else {
			line["endpoints"] = map[string]any{address.(string): map[string]string{}}
		}
		line["retried"] = max(0, tried.Load()-1)
		printLine(line)
		time.Sleep(30 * time.Millisecond)
	}
}

// asking makes endpoints of instances: each asks for the address of the server that answers.
func asking(transport *http.Transport) sd.Factory {
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	return func(instance string) (endpoint.Endpoint, io.Closer, error) {
		return func(ctx context.Context, _ any) (any, error) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+instance+"/", nil)
			if err != nil {
				return nil, err
			}
			answer, err := client.Do(request)
			if err != nil {
				return nil, err
			}
			defer answer.Body.Close()
			address, err := io.ReadAll(answer.Body)
			return string(address), err
		}, nil, nil
	}
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
