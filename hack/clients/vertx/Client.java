package watcher;

import io.vertx.core.Vertx;
import io.vertx.core.json.JsonObject;
import io.vertx.servicediscovery.Record;
import io.vertx.servicediscovery.ServiceDiscovery;
import io.vertx.servicediscovery.ServiceDiscoveryOptions;
import io.vertx.servicediscovery.backend.zookeeper.ZookeeperBackendService;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Vert.x service discovery on its ZooKeeper backend: {@code watch SERVERS BASE SERVICE}. */
final class Client {
    public static void main(String[] args) throws Exception {
        JsonObject backend = new JsonObject()
                .put("backend-name", ZookeeperBackendService.class.getName())
                .put("connection", args[1])
                .put("connectionTimeoutMs", 10000)
                .put("basePath", args[2]);
        ServiceDiscovery discovery = ServiceDiscovery.create(
                Vertx.vertx(), new ServiceDiscoveryOptions().setBackendConfiguration(backend));
        Lines.poll("records", () -> endpoints(discovery.getRecords(record -> record.getName().equals(args[3]))
                .toCompletionStage().toCompletableFuture().get(2, TimeUnit.SECONDS)));
        Lines.untilInputEnds();
    }

    private static Lines.Endpoints endpoints(List<Record> records) {
        Lines.Endpoints endpoints = new Lines.Endpoints();
        for (Record record : records) {
            JsonObject location = record.getLocation();
            endpoints.add(location.getString("host"), location.getInteger("port"), record.getMetadata().getMap());
        }
        return endpoints;
    }
}
