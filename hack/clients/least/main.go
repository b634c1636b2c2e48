// Command least does the least work that a controller of these tasks has to do, for the benchmarks: it lists and
// watches pods, writes an RpcService and its status for each service, and the service's znode by kube2zk's rules.
// It has no guard, no leader election, no conditions, no Events, and compares nothing.
//
//	least -namespace NAMESPACE -zkservers SERVERS -zkpath PATH
//
// It has kube2zk's flags, and reads the kubeconfig that KUBECONFIG names.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"gopkg.in/yaml.v3"
)

const (
	workers     = 8
	transaction = 100 // znodes
)

type pod struct {
	Metadata struct {
		Name            string            `json:"name"`
		UID             string            `json:"uid"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		Phase      string `json:"phase"`
		PodIP      string `json:"podIP"`
		HostIP     string `json:"hostIP"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

type entry struct {
	ServiceName string `json:"serviceName"`
	Port        int    `json:"port,omitempty"`
}

type row struct {
	PodName  string   `json:"podName"`
	PodUID   string   `json:"podUID"`
	IP       string   `json:"ip"`
	IPs      []string `json:"ips"`
	Port     int      `json:"port,omitempty"`
	NodeName string   `json:"nodeName,omitempty"`
	HostIP   string   `json:"hostIP,omitempty"`
	Ready    bool     `json:"ready"`
	Phase    string   `json:"phase,omitempty"`
}

type object struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       map[string]any `json:"spec"`
	Status     map[string]any `json:"status,omitempty"`
}

type znode struct {
	Config  []string `json:"config"`
	Servers []string `json:"servers"`
}

var config = []string{
	"zone kg 8M",
	"kg_round_robin broken_tries=2 health_checks=5 max_uri_slots=0",
	"keepalive 32",
}

func (p *pod) ready() bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == "Ready" {
			return condition.Status == "True" && p.Status.PodIP != ""
		}
	}
	return false
}

func (p *pod) entries() []entry {
	if p.Metadata.Labels["rpc-service"] != "true" {
		return nil
	}
	var found []entry
	if err := json.Unmarshal([]byte(p.Metadata.Annotations["rpc-service"]), &found); err != nil {
		return nil
	}
	return found
}

// controller has what it knows; the lock protects all maps.
type controller struct {
	api       *api
	namespace string
	base      string
	zk        *zk.Conn
	znodes    chan string

	lock     sync.Mutex
	changed  *sync.Cond
	pods     map[string]*pod
	services map[string]map[string]*pod // by name, then by the pod's
	due      []string
	waiting  map[string]bool
	working  map[string]bool
	versions map[string]string // of the RpcServices that exist
	there    map[string]bool   // the znodes that exist; the writer's alone
}

func main() {
	namespace := flag.String("namespace", "", "")
	servers := flag.String("zkservers", "127.0.0.1:2181", "")
	base := flag.String("zkpath", "/rpc_v2", "")
	flag.Parse()
	connection, _, err := zk.Connect(strings.Split(*servers, ","), 10*time.Second, zk.WithLogInfo(false))
	check(err)
	path := ""
	for _, part := range strings.Split(strings.Trim(*base, "/"), "/") {
		path += "/" + part
		if _, err := connection.Create(path, nil, 0, zk.WorldACL(zk.PermAll)); !errors.Is(err, zk.ErrNodeExists) {
			check(err)
		}
	}
	there, _, err := connection.Children(*base)
	check(err)
	c := &controller{
		api:       connect(),
		namespace: *namespace,
		base:      *base,
		zk:        connection,
		znodes:    make(chan string, 100_000),
		pods:      map[string]*pod{},
		services:  map[string]map[string]*pod{},
		waiting:   map[string]bool{},
		working:   map[string]bool{},
		versions:  map[string]string{},
		there:     map[string]bool{},
	}
	for _, name := range there {
		c.there[name] = true
	}
	c.changed = sync.NewCond(&c.lock)
	version := c.list()
	for range workers {
		go c.work()
	}
	go c.write()
	c.watch(version)
}

// list reads all RpcServices and pods, and returns from where to watch.
func (c *controller) list() string {
	var services struct {
		Items []object `json:"items"`
	}
	c.api.must("GET", c.rpcservices(""), nil, &services)
	for _, service := range services.Items {
		c.versions[service.Metadata["name"].(string)] = service.Metadata["resourceVersion"].(string)
	}
	var pods struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []*pod `json:"items"`
	}
	c.api.must("GET", c.podsPath(), nil, &pods)
	for _, found := range pods.Items {
		c.note(found, false)
	}
	return pods.Metadata.ResourceVersion
}

func (c *controller) watch(version string) {
	for {
		answer := c.api.send("GET", c.podsPath()+"?watch=1&resourceVersion="+version, nil)
		decoder := json.NewDecoder(answer.Body)
		for {
			var event struct {
				Type   string `json:"type"`
				Object *pod   `json:"object"`
			}
			if err := decoder.Decode(&event); err != nil {
				break
			}
			if event.Type == "ERROR" {
				check(errors.New("the watch expired"))
			}
			version = event.Object.Metadata.ResourceVersion
			c.note(event.Object, event.Type == "DELETED")
		}
		answer.Body.Close()
	}
}

// note takes a pod in, and has its services worked.
func (c *controller) note(now *pod, deleted bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	name := now.Metadata.Name
	if before := c.pods[name]; before != nil {
		for _, entry := range before.entries() {
			delete(c.services[entry.ServiceName], name)
			c.enqueue(entry.ServiceName)
		}
	}
	delete(c.pods, name)
	if deleted {
		return
	}
	c.pods[name] = now
	for _, entry := range now.entries() {
		if c.services[entry.ServiceName] == nil {
			c.services[entry.ServiceName] = map[string]*pod{}
		}
		c.services[entry.ServiceName][name] = now
		c.enqueue(entry.ServiceName)
	}
}

func (c *controller) enqueue(service string) {
	if !c.waiting[service] {
		c.waiting[service] = true
		c.due = append(c.due, service)
		c.changed.Signal()
	}
}

func (c *controller) take() (string, []row) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for {
		for place, service := range c.due {
			if !c.working[service] {
				c.due = slices.Delete(c.due, place, place+1)
				delete(c.waiting, service)
				c.working[service] = true
				return service, c.rows(service)
			}
		}
		c.changed.Wait()
	}
}

func (c *controller) rows(service string) []row {
	rows := []row{}
	for name, found := range c.services[service] {
		if found.Status.PodIP == "" {
			continue
		}
		for _, entry := range found.entries() {
			if entry.ServiceName == service {
				rows = append(rows, row{
					PodName: name, PodUID: found.Metadata.UID, IP: found.Status.PodIP,
					IPs: []string{found.Status.PodIP}, Port: entry.Port, NodeName: found.Spec.NodeName,
					HostIP: found.Status.HostIP, Ready: found.ready(), Phase: found.Status.Phase,
				})
			}
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.PodName, b.PodName) })
	return rows
}

// work writes one RpcService after the other.
func (c *controller) work() {
	for {
		service, rows := c.take()
		c.project(service, rows)
		c.znodes <- service
		c.lock.Lock()
		delete(c.working, service)
		c.changed.Signal()
		c.lock.Unlock()
	}
}

func (c *controller) project(service string, rows []row) {
	c.lock.Lock()
	version := c.versions[service]
	c.lock.Unlock()
	made := object{
		APIVersion: "rpcregistry.dev/v1alpha1",
		Kind:       "RpcService",
		Metadata:   map[string]any{"name": service, "namespace": c.namespace},
		Spec:       map[string]any{"serviceName": service},
	}
	var written object
	if version == "" {
		c.api.must("POST", c.rpcservices(""), made, &written)
		version = written.Metadata["resourceVersion"].(string)
	}
	ready := 0
	for _, row := range rows {
		if row.Ready {
			ready++
		}
	}
	made.Metadata["resourceVersion"] = version
	made.Status = map[string]any{
		"serviceName": service, "endpoints": rows, "readyEndpoints": ready, "totalEndpoints": len(rows),
		"ready": fmt.Sprintf("%d/%d", ready, len(rows)),
	}
	c.api.must("PUT", c.rpcservices("/"+service+"/status"), made, &written)
	c.lock.Lock()
	c.versions[service] = written.Metadata["resourceVersion"].(string)
	c.lock.Unlock()
}

// write writes all znodes that are due, in transactions.
func (c *controller) write() {
	for {
		names := map[string]bool{<-c.znodes: true}
		for len(names) < transaction && len(c.znodes) > 0 {
			names[<-c.znodes] = true
		}
		var operations []any
		for name := range names {
			path, data := c.base+"/"+name, c.content(name)
			switch {
			case data == nil && c.there[name]:
				operations = append(operations, &zk.DeleteRequest{Path: path, Version: -1})
			case data == nil:
			case c.there[name]:
				operations = append(operations, &zk.SetDataRequest{Path: path, Data: data, Version: -1})
			default:
				create := zk.CreateRequest{Path: path, Data: data, Acl: zk.WorldACL(zk.PermAll)}
				operations = append(operations, &create)
			}
			c.there[name] = data != nil
		}
		if len(operations) > 0 {
			_, err := c.zk.Multi(operations...)
			check(err)
		}
	}
}

// content is a service's znode; nil without a Ready pod.
func (c *controller) content(service string) []byte {
	c.lock.Lock()
	defer c.lock.Unlock()
	var addresses []netip.Addr
	for _, found := range c.services[service] {
		if found.ready() {
			addresses = append(addresses, netip.MustParseAddr(found.Status.PodIP))
		}
	}
	if addresses == nil {
		return nil
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	found := znode{Config: config}
	for _, address := range slices.Compact(addresses) {
		found.Servers = append(found.Servers, address.String())
	}
	data, err := json.Marshal(found)
	check(err)
	return data
}

func (c *controller) podsPath() string {
	if c.namespace == "" {
		return "/api/v1/pods"
	}
	return "/api/v1/namespaces/" + c.namespace + "/pods"
}

func (c *controller) rpcservices(below string) string {
	return "/apis/rpcregistry.dev/v1alpha1/namespaces/" + c.namespace + "/rpcservices" + below
}

// api is the API server, with a bearer token.
type api struct {
	client *http.Client
	server string
	token  string
}

func connect() *api {
	text, err := os.ReadFile(os.Getenv("KUBECONFIG"))
	check(err)
	var read struct {
		Clusters []struct {
			Cluster struct {
				Server string `yaml:"server"`
				CA     string `yaml:"certificate-authority"`
			} `yaml:"cluster"`
		} `yaml:"clusters"`
		Users []struct {
			User struct {
				Token string `yaml:"token"`
			} `yaml:"user"`
		} `yaml:"users"`
	}
	check(yaml.Unmarshal(text, &read))
	authority, err := os.ReadFile(read.Clusters[0].Cluster.CA)
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: workers + 1}
	return &api{&http.Client{Transport: transport}, read.Clusters[0].Cluster.Server, read.Users[0].User.Token}
}

func (a *api) send(method, path string, body any) *http.Response {
	text, err := json.Marshal(body)
	check(err)
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, a.server+path, content)
	check(err)
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := a.client.Do(request)
	check(err)
	if answer.StatusCode >= 300 {
		said, _ := io.ReadAll(answer.Body)
		check(fmt.Errorf("%s %s: %s", method, path, said))
	}
	return answer
}

func (a *api) must(method, path string, body, found any) {
	answer := a.send(method, path, body)
	defer answer.Body.Close()
	check(json.NewDecoder(answer.Body).Decode(found))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
