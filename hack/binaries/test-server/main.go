// A small server, all that is in the test pods' images: it answers over HTTP, is Ready or not as it is told, and
// ends as it is told. Without arguments it listens to nobody and waits for its end, as a pod's sandbox does.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	flags := flag.NewFlagSet("server", flag.ExitOnError)
	port := flags.Int("http-port", 0, "where to answer; 0: nowhere")
	life := flags.Duration("life", 0, "how long until it ends by itself; 0: never")
	code := flags.Int("code", 0, "the exit code then")
	drain := flags.Duration("drain", 0, "how long it goes on after SIGTERM")
	unready := flags.Bool("unready", false, "do not be Ready until told to recover")
	arguments := os.Args[1:]
	if len(arguments) > 0 && arguments[0] == "netexec" { // as agnhost's is called, which it stands in for
		arguments = arguments[1:]
	}
	if err := flags.Parse(arguments); err != nil {
		fail(err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	if *port > 0 {
		go func() { fail(http.ListenAndServe(":"+strconv.Itoa(*port), handler(*unready))) }()
	}
	var over <-chan time.Time
	if *life > 0 {
		over = time.After(*life)
	}
	select {
	case <-over:
		os.Exit(*code)
	case <-ended:
		time.Sleep(*drain)
	}
}

func handler(toldUnready bool) http.Handler {
	var unready atomic.Bool
	unready.Store(toldUnready)
	name, err := os.Hostname()
	if err != nil {
		fail(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/hostname", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprint(answer, name) })
	mux.HandleFunc("/ready", func(answer http.ResponseWriter, _ *http.Request) {
		if unready.Load() {
			answer.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/unready", func(http.ResponseWriter, *http.Request) { unready.Store(true) })
	mux.HandleFunc("/recover", func(http.ResponseWriter, *http.Request) { unready.Store(false) })
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(1) })
	return mux
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}
