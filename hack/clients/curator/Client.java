package watcher;

import java.util.Collection;
import java.util.Map;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.details.ServiceCacheListener;

/**
 * Curator's ServiceDiscovery: {@code watch SERVERS BASE SERVICE}, {@code write SERVERS BASE SERVICE ID HOST PORT};
 * {@code call SERVERS BASE SERVICE} asks the instances that its ServiceProvider gives.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        CuratorFramework zookeeper = CuratorFrameworkFactory.newClient(args[1], new ExponentialBackoffRetry(100, 10));
        zookeeper.start();
        ServiceDiscovery<Object> discovery =
                ServiceDiscoveryBuilder.builder(Object.class).client(zookeeper).basePath(args[2]).build();
        discovery.start();
        if (args[0].equals("watch")) {
            watch(discovery, args[3]);
        } else if (args[0].equals("call")) {
            ServiceProvider<Object> provider = discovery.serviceProviderBuilder().serviceName(args[3]).build();
            provider.start();
            Lines.calls("defaults", () -> {
                ServiceInstance<Object> instance = provider.getInstance();
                return Pod.asked(instance.getAddress(), instance.getPort());
            });
        } else {
            discovery.registerService(ServiceInstance.builder()
                    .name(args[3]).id(args[4]).address(args[5]).port(Integer.parseInt(args[6])).build());
            Lines.written();
        }
        Lines.untilInputEnds();
    }

    private static void watch(ServiceDiscovery<Object> discovery, String service) throws Exception {
        ServiceCache<Object> cache = discovery.serviceCacheBuilder().name(service).build();
        cache.addListener(new ServiceCacheListener() {
            @Override
            public void cacheChanged() {
                Lines.seen("cache", endpoints(cache.getInstances()));
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
                // The cache goes on with what it has.
            }
        });
        cache.start();
        Lines.seen("cache", endpoints(cache.getInstances()));
        Lines.poll("query", () -> endpoints(discovery.queryForInstances(service)));
    }

    private static Lines.Endpoints endpoints(Collection<ServiceInstance<Object>> instances) {
        Lines.Endpoints endpoints = new Lines.Endpoints();
        for (ServiceInstance<Object> instance : instances) {
            Object payload = instance.getPayload();
            endpoints.add(instance.getAddress(), instance.getPort(), payload instanceof Map ? (Map<?, ?>) payload : Map.of());
        }
        return endpoints;
    }
}
