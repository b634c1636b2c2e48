package watcher;

import com.example.Echo;
import com.weibo.api.motan.config.ProtocolConfig;
import com.weibo.api.motan.config.RefererConfig;
import com.weibo.api.motan.config.RegistryConfig;
import com.weibo.api.motan.config.ServiceConfig;
import com.weibo.api.motan.core.extension.ExtensionLoader;
import com.weibo.api.motan.registry.Registry;
import com.weibo.api.motan.registry.RegistryFactory;
import com.weibo.api.motan.rpc.URL;
import java.util.List;
import java.util.Map;

/**
 * Motan: {@code watch SERVERS CHROOT GROUP VERSION INTERFACE}, by either of its registry protocols.  It looks below
 * {@code /motan} only, so what is elsewhere needs a chroot.  {@code call …} calls the providers, {@code serve HOST PORT
 * GROUP VERSION} is one that registers nowhere.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            serve(args[1], Integer.parseInt(args[2]), args[3], args[4]);
        }
        for (String protocol : new String[] {"zookeeper", "zk"}) {
            if (args[0].equals("watch")) {
                watch(protocol, args[1] + args[2], args[3], args[4], args[5]);
            } else {
                call(protocol, args[1] + args[2], args[3], args[4]);
            }
        }
        Lines.untilInputEnds();
    }

    private static void serve(String host, int port, String group, String version) throws Exception {
        ServiceConfig<Echo> service = new ServiceConfig<>();
        service.setInterface(Echo.class);
        service.setRef(() -> host + ":" + port);
        service.setHost(host);
        service.setGroup(group);
        service.setVersion(version);
        service.setRegistry(registry("local", "127.0.0.1:0"));
        service.setProtocol(motan());
        service.setExport("motan:" + port);
        service.export();
        Thread.currentThread().join();
    }

    private static void call(String protocol, String servers, String group, String version) {
        RefererConfig<Echo> referer = new RefererConfig<>();
        referer.setInterface(Echo.class);
        referer.setGroup(group);
        referer.setVersion(version);
        referer.setRegistry(registry(protocol, servers));
        referer.setProtocol(motan());
        referer.setRequestTimeout(20000); // with a machine that others load
        referer.setCheck("false");
        Echo echo = referer.getRef();
        Lines.calls(protocol, () -> Lines.answer(echo.address()));
    }

    private static RegistryConfig registry(String protocol, String address) {
        RegistryConfig registry = new RegistryConfig();
        registry.setRegProtocol(protocol);
        registry.setAddress(address);
        registry.setConnectTimeout(10000);
        return registry;
    }

    private static ProtocolConfig motan() {
        ProtocolConfig protocol = new ProtocolConfig();
        protocol.setId("motan");
        protocol.setName("motan");
        return protocol;
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
