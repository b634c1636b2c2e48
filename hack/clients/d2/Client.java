package watcher;

import com.linkedin.common.callback.FutureCallback;
import com.linkedin.common.util.None;
import com.linkedin.d2.balancer.D2Client;
import com.linkedin.d2.balancer.D2ClientBuilder;
import com.linkedin.d2.balancer.properties.UriProperties;
import com.linkedin.d2.balancer.properties.UriPropertiesJsonSerializer;
import com.linkedin.d2.balancer.properties.UriPropertiesMerger;
import com.linkedin.d2.discovery.event.PropertyEventBusImpl;
import com.linkedin.d2.discovery.event.PropertyEventSubscriber;
import com.linkedin.d2.discovery.stores.zk.ZKConnection;
import com.linkedin.d2.discovery.stores.zk.ZooKeeperEphemeralStore;
import com.linkedin.r2.filter.R2Constants;
import com.linkedin.r2.message.RequestContext;
import com.linkedin.r2.message.rest.RestRequestBuilder;
import java.net.URI;
import java.nio.file.Files;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * rest.li's D2: {@code watch SERVERS BASE SERVICE} lists the URIs of a cluster and their weights; {@code call …} asks
 * {@code d2://SERVICE/}, whose answer is the address of the server that was asked.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("watch")) {
            watch(args[1], args[2], args[3]);
        } else {
            call(args[1], args[2], args[3]);
        }
        Lines.untilInputEnds();
    }

    private static void watch(String servers, String base, String cluster) throws Exception {
        ZKConnection zookeeper = new ZKConnection(servers, 10000);
        zookeeper.start();
        ZooKeeperEphemeralStore<UriProperties> store = new ZooKeeperEphemeralStore<>(
                zookeeper, new UriPropertiesJsonSerializer(), new UriPropertiesMerger(), base + "/uris");
        PropertyEventBusImpl<UriProperties> bus =
                new PropertyEventBusImpl<>(Executors.newSingleThreadExecutor(), store);
        FutureCallback<None> started = new FutureCallback<>();
        store.start(started);
        started.get();
        bus.register(Set.of(cluster), new PropertyEventSubscriber<UriProperties>() {
            @Override
            public void onInitialize(String name, UriProperties found) {
                onAdd(name, found);
            }

            @Override
            public void onAdd(String name, UriProperties found) {
                Lines.seen("uris", endpoints(found));
            }

            @Override
            public void onRemove(String name) {
                Lines.seen("uris", new Lines.Endpoints());
            }
        });
    }

    private static Lines.Endpoints endpoints(UriProperties found) {
        Lines.Endpoints endpoints = new Lines.Endpoints();
        if (found != null) {
            found.getPartitionDesc().forEach((uri, partitions) -> endpoints.add(
                    uri.getHost(), uri.getPort(), Map.of("weight", partitions.get(0).getWeight())));
        }
        return endpoints;
    }

    private static void call(String servers, String base, String service) throws Exception {
        D2Client client = new D2ClientBuilder()
                .setZkHosts(servers)
                .setBasePath(base)
                .setFsBasePath(Files.createTempDirectory("d2").toString())
                .setLbWaitTimeout(10, TimeUnit.SECONDS)
                .build();
        FutureCallback<None> started = new FutureCallback<>();
        client.start(started);
        started.get();
        URI uri = URI.create("d2://" + service + "/");
        Lines.calls("defaults", () -> {
            try {
                RequestContext patient = new RequestContext(); // with a machine that others load
                patient.putLocalAttr(R2Constants.REQUEST_TIMEOUT, 20000);
                return Lines.answer(client.restRequest(new RestRequestBuilder(uri).build(), patient)
                        .get(20, TimeUnit.SECONDS).getEntity().asString("UTF-8"));
            } catch (ExecutionException error) {
                throw new IllegalStateException(error.getMessage() + ": " + root(error));
            }
        });
    }

    private static Throwable root(Throwable error) {
        return error.getCause() == null ? error : root(error.getCause());
    }
}
