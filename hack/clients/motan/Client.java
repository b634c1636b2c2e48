package watcher;

import com.weibo.api.motan.core.extension.ExtensionLoader;
import com.weibo.api.motan.registry.Registry;
import com.weibo.api.motan.registry.RegistryFactory;
import com.weibo.api.motan.rpc.URL;
import java.util.List;
import java.util.Map;

/**
 * Motan: {@code watch SERVERS CHROOT GROUP VERSION INTERFACE}, by either of its registry protocols.  It looks below
 * {@code /motan} only, so what is elsewhere needs a chroot.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        for (String protocol : new String[] {"zookeeper", "zk"}) {
            watch(protocol, args[1] + args[2], args[3], args[4], args[5]);
        }
        Lines.untilInputEnds();
    }

    private static void watch(String protocol, String servers, String group, String version, String service) {
        URL registryUrl = new URL(protocol, "127.0.0.1", 0, "com.weibo.api.motan.registry.RegistryService");
        registryUrl.addParameter("address", servers);
        registryUrl.addParameter("connectTimeout", "10000");
        Registry registry = ExtensionLoader.getExtensionLoader(RegistryFactory.class)
                .getExtension(protocol).getRegistry(registryUrl);
        // Two clients of one address would be one, so each protocol has a port of its own.
        URL referer = new URL("motan", "127.0.0.1", protocol.equals("zk") ? 1 : 2, service);
        referer.addParameter("group", group);
        referer.addParameter("version", version);
        referer.addParameter("protocol", "motan");
        referer.addParameter("nodeType", "referer");
        registry.subscribe(referer, (url, urls) -> Lines.seen(protocol, endpoints(urls, referer)));
    }

    /** As Motan's ClusterSupport chooses them. */
    private static Lines.Endpoints endpoints(List<URL> urls, URL referer) {
        Lines.Endpoints endpoints = new Lines.Endpoints();
        for (URL url : urls) {
            if (url.canServe(referer)) {
                endpoints.add(url.getHost(), url.getPort(), Map.of());
            }
        }
        return endpoints;
    }
}
