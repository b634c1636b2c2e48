package watcher;

import com.alipay.sofa.rpc.client.ProviderGroup;
import com.alipay.sofa.rpc.client.ProviderInfo;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import com.alipay.sofa.rpc.listener.ProviderInfoListener;
import com.alipay.sofa.rpc.registry.Registry;
import com.alipay.sofa.rpc.registry.RegistryFactory;
import com.example.Echo;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * SOFARPC's registry: {@code watch SERVERS BASE INTERFACE}, {@code write SERVERS BASE INTERFACE HOST PORT}. BASE ends
 * in /sofa-rpc, which the library appends to whatever path it is given. {@code call …} calls the providers, {@code serve
 * HOST PORT} is one that registers nowhere.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            serve(args[1], Integer.parseInt(args[2]));
        }
        String above = args[2].substring(0, args[2].length() - "/sofa-rpc".length());
        RegistryConfig where = new RegistryConfig().setProtocol("zookeeper").setAddress(args[1] + above);
        if (args[0].equals("call")) {
            Echo echo = new ConsumerConfig<Echo>()
                    .setInterfaceId(args[3]).setProtocol("bolt").setApplication(new ApplicationConfig().setAppName("caller"))
                    .setRegistry(where).setConnectTimeout(20000).setTimeout(20000).refer(); // with a machine that others load
            Lines.calls("defaults", () -> Lines.answer(echo.address()));
            Lines.untilInputEnds();
        }
        Registry registry = RegistryFactory.getRegistry(where);
        registry.init();
        registry.start();
        if (args[0].equals("watch")) {
            watch(registry, args[3]);
        } else {
            ServerConfig server = new ServerConfig().setProtocol("bolt");
            server.setVirtualHost(args[4]).setVirtualPort(Integer.parseInt(args[5]));
            registry.register(new ProviderConfig<Object>()
                    .setInterfaceId(args[3]).setApplication(new ApplicationConfig().setAppName("provider"))
                    .setServer(server));
            Lines.written();
        }
        Lines.untilInputEnds();
    }

    private static void serve(String host, int port) throws Exception {
        new ProviderConfig<Echo>()
                .setInterfaceId(Echo.class.getName()).setRef(() -> host + ":" + port).setRegister(false)
                .setApplication(new ApplicationConfig().setAppName("provider"))
                .setServer(new ServerConfig().setProtocol("bolt").setHost(host).setPort(port))
                .export();
        Thread.currentThread().join();
    }

    private static void watch(Registry registry, String service) {
        ConsumerConfig<Object> consumer = new ConsumerConfig<Object>()
                .setInterfaceId(service).setProtocol("bolt").setApplication(new ApplicationConfig().setAppName("watcher"));
        Groups groups = new Groups();
        consumer.setProviderInfoListener(groups);
        List<ProviderGroup> now = registry.subscribe(consumer);
        if (now != null) {
            groups.updateAllProviders(now);
        }
    }

    /** What the registry has told so far, by the name of the group. */
    private static final class Groups implements ProviderInfoListener {
        private final Map<String, List<ProviderInfo>> byName = new LinkedHashMap<>();

        @Override
        public synchronized void addProvider(ProviderGroup group) {
            byName.computeIfAbsent(group.getName(), name -> new ArrayList<>()).addAll(group.getProviderInfos());
            show();
        }

        @Override
        public synchronized void removeProvider(ProviderGroup group) {
            byName.getOrDefault(group.getName(), new ArrayList<>()).removeAll(group.getProviderInfos());
            show();
        }

        @Override
        public synchronized void updateProviders(ProviderGroup group) {
            byName.put(group.getName(), new ArrayList<>(group.getProviderInfos()));
            show();
        }

        @Override
        public synchronized void updateAllProviders(List<ProviderGroup> groups) {
            byName.clear();
            groups.forEach(group -> byName.put(group.getName(), new ArrayList<>(group.getProviderInfos())));
            show();
        }

        private void show() {
            Lines.Endpoints endpoints = new Lines.Endpoints();
            byName.values().forEach(infos -> infos.forEach(
                    info -> endpoints.add(info.getHost(), info.getPort(), info.getStaticAttrs())));
            Lines.seen("listener", endpoints);
        }
    }
}
