package watcher;

import com.example.Echo;
import java.util.List;
import org.apache.dubbo.common.URL;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.Filter;
import org.apache.dubbo.rpc.Invocation;
import org.apache.dubbo.rpc.Invoker;
import org.apache.dubbo.rpc.Result;
import org.apache.dubbo.rpc.cluster.ClusterInvoker;
import org.apache.dubbo.rpc.model.ApplicationModel;
import org.apache.dubbo.rpc.service.GenericService;

/**
 * Dubbo's consumer and provider: {@code watch SERVERS GROUP INTERFACE VERSION}, {@code write SERVERS GROUP INTERFACE
 * VERSION HOST PORT}. An empty version is none. {@code call …} calls the providers, with the retries that Dubbo has by
 * default and without; {@code serve HOST PORT VERSION} is a provider that registers nowhere.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            serve(args[1], Integer.parseInt(args[2]), args[3]);
        }
        RegistryConfig registry = new RegistryConfig("zookeeper://" + args[1]);
        registry.setGroup(args[2].substring(1));
        registry.setUseAsConfigCenter(false);
        registry.setUseAsMetadataCenter(false);
        DubboBootstrap dubbo = application().registry(registry);
        if (args[0].equals("watch")) {
            watch(dubbo, args[3], args[4]);
        } else if (args[0].equals("call")) {
            ApplicationModel.defaultModel().getDefaultModule().getExtensionLoader(Filter.class)
                    .addExtension("attempts", Attempts.class);
            call("off", dubbo, args[4], 0);
            call("defaults", dubbo, args[4], null);
        } else {
            registry.setRegisterMode("interface"); // of the two ways that it has, the one that we write
            write(dubbo, args);
        }
        Lines.untilInputEnds();
    }

    private static DubboBootstrap application() {
        ApplicationConfig application = new ApplicationConfig("watcher");
        application.setQosEnable(false);
        return DubboBootstrap.getInstance().application(application);
    }

    private static void serve(String host, int port, String version) throws Exception {
        ProtocolConfig protocol = new ProtocolConfig("dubbo", port);
        protocol.setHost(host);
        ServiceConfig<Echo> service = new ServiceConfig<>();
        service.setInterface(Echo.class);
        service.setVersion(version);
        service.setRef(() -> host + ":" + port);
        application().registry(new RegistryConfig(RegistryConfig.NO_AVAILABLE)).protocol(protocol).service(service).start();
        Thread.currentThread().join();
    }

    private static void call(String via, DubboBootstrap dubbo, String version, Integer retries) {
        ReferenceConfig<Echo> reference = new ReferenceConfig<>();
        reference.setInterface(Echo.class);
        reference.setVersion(version);
        reference.setRetries(retries);
        reference.setFilter("attempts");
        reference.setTimeout(20000); // with a machine that others load
        reference.setCheck(false);
        dubbo.reference(reference).start();
        Echo echo = reference.get();
        Lines.calls(via, () -> Lines.answer(echo.address()));
    }

    /** Counts, as each attempt of a call passes the filters anew. */
    public static final class Attempts implements Filter {
        @Override
        public Result invoke(Invoker<?> invoker, Invocation invocation) {
            Lines.tried(1);
            return invoker.invoke(invocation);
        }
    }

    private static void watch(DubboBootstrap dubbo, String service, String version) {
        ReferenceConfig<GenericService> reference = new ReferenceConfig<>();
        reference.setInterface(service);
        reference.setVersion(version.isEmpty() ? null : version);
        reference.setGeneric("true");
        reference.setCheck(false);
        reference.setLazy(true); // the endpoints need not answer for the directory to list them
        dubbo.reference(reference).start();
        reference.get();
        Lines.poll("directory", () -> endpoints(((ClusterInvoker<?>) reference.getInvoker()).getDirectory().getAllInvokers()));
    }

    private static Lines.Endpoints endpoints(List<? extends Invoker<?>> invokers) {
        Lines.Endpoints endpoints = new Lines.Endpoints();
        for (Invoker<?> invoker : invokers) {
            URL url = invoker.getUrl();
            endpoints.add(url.getHost(), url.getPort(), url.getParameters());
        }
        return endpoints;
    }

    private static void write(DubboBootstrap dubbo, String[] args) {
        // It serves on loopback, and registers what a provider at HOST and PORT would.
        System.setProperty("DUBBO_IP_TO_REGISTRY", args[5]);
        System.setProperty("DUBBO_PORT_TO_REGISTRY", args[6]);
        ProtocolConfig protocol = new ProtocolConfig("dubbo", -1);
        protocol.setHost("127.0.0.1");
        ServiceConfig<GenericService> service = new ServiceConfig<>();
        service.setInterface(args[3]);
        service.setVersion(args[4].isEmpty() ? null : args[4]);
        service.setGeneric("true");
        service.setRef((method, types, arguments) -> null);
        dubbo.protocol(protocol).service(service).start();
        Lines.written();
    }
}
