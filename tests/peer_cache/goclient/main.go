// A client of Sync, made from the proto by Go's tool chain, that knows nothing else of the peer cache.
//
//	goclient ADDRESS set TYPE KEY VALUE
//	goclient ADDRESS get TYPE [KEY]
//	goclient ADDRESS get-all
//
// get and get-all print what the server answers as JSON: types with their values by key.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"goclient/sync"
)

func main() {
	log.SetFlags(0)
	address, command, arguments := os.Args[1], os.Args[2], os.Args[3:]
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	client := sync.NewSyncClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	request := &sync.SyncRequest{}
	if len(arguments) > 0 {
		kind, err := strconv.ParseInt(arguments[0], 10, 32)
		if err != nil {
			log.Fatal(err)
		}
		request.Data = []*sync.SyncData{{Type: int32(kind), Data: pairs(arguments[1:])}}
	}
	call := map[string]func(context.Context, *sync.SyncRequest, ...grpc.CallOption) (*sync.SyncResponse, error){
		"get": client.Get, "set": client.Set, "get-all": client.GetAll,
	}[command]
	response, err := call(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	answered := map[int32]map[string]string{}
	for _, data := range response.Data {
		answered[data.Type] = data.Data
	}
	if err := json.NewEncoder(os.Stdout).Encode(answered); err != nil {
		log.Fatal(err)
	}
}

// pairs makes a map of KEY VALUE KEY VALUE ...; a last key without a value gets an empty one.
func pairs(words []string) map[string]string {
	found := map[string]string{}
	for i := 0; i < len(words); i += 2 {
		found[words[i]] = ""
		if i+1 < len(words) {
			found[words[i]] = words[i+1]
		}
	}
	return found
}
