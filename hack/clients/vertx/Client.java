package watcher;

import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.http.HttpClient;
import io.vertx.core.http.HttpClientRequest;
import io.vertx.core.http.HttpClientResponse;
import io.vertx.core.http.HttpMethod;
import io.vertx.core.json.JsonObject;
import io.vertx.servicediscovery.Record;
import io.vertx.servicediscovery.ServiceDiscovery;
import io.vertx.servicediscovery.ServiceDiscoveryOptions;
import io.vertx.servicediscovery.ServiceReference;
import io.vertx.servicediscovery.backend.zookeeper.ZookeeperBackendService;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Vert.x service discovery on its ZooKeeper backend: {@code watch SERVERS BASE SERVICE} lists records, {@code call …}
 * asks each in turn, by the HTTP client that the discovery makes of it.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        JsonObject backend = new JsonObject()
                .put("backend-name", ZookeeperBackendService.class.getName())
                .put("connection", args[1])
                .put("connectionTimeoutMs", 10000)
                .put("basePath", args[2]);
        ServiceDiscovery discovery = ServiceDiscovery.create(
                Vertx.vertx(), new ServiceDiscoveryOptions().setBackendConfiguration(backend));
        if (args[0].equals("watch")) {
            Lines.poll("records", () -> endpoints(records(discovery, args[3])));
        } else {
            AtomicInteger turn = new AtomicInteger();
            Lines.calls("defaults", () -> {
                List<Record> found = records(discovery, args[3]);
                ServiceReference reference = discovery.getReference(found.get(turn.getAndIncrement() % found.size()));
                try {
                    return Lines.answer(got(reference.getAs(HttpClient.class)
                            .request(HttpMethod.GET, "/").compose(HttpClientRequest::send)
                            .compose(HttpClientResponse::body), 20).toString());
                } finally {
                    reference.release();
                }
            });
        }
        Lines.untilInputEnds();
    }

    private static List<Record> records(ServiceDiscovery discovery, String service) throws Exception {
        // A record that was listed and is gone when it is read comes as null; a filter that throws ends the query for good.
        return got(discovery.getRecords(record -> record != null && record.getName().equals(service)), 20);
    }

    private static <T> T got(Future<T> future, int seconds) throws Exception {
        return future.toCompletionStage().toCompletableFuture().get(seconds, TimeUnit.SECONDS);
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
