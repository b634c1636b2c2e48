package watcher;

import java.util.List;
import org.apache.dubbo.common.URL;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.Invoker;
import org.apache.dubbo.rpc.cluster.ClusterInvoker;
import org.apache.dubbo.rpc.service.GenericService;

/**
 * Dubbo's consumer and provider: {@code watch SERVERS GROUP INTERFACE VERSION}, {@code write SERVERS GROUP INTERFACE
 * VERSION HOST PORT}. An empty version is none.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        RegistryConfig registry = new RegistryConfig("zookeeper://" + args[1]);
        registry.setGroup(args[2].substring(1));
        registry.setUseAsConfigCenter(false);
        registry.setUseAsMetadataCenter(false);
        ApplicationConfig application = new ApplicationConfig("watcher");
        application.setQosEnable(false);
        DubboBootstrap dubbo = DubboBootstrap.getInstance().application(application).registry(registry);
        if (args[0].equals("watch")) {
            watch(dubbo, args[3], args[4]);
        } else {
            registry.setRegisterMode("interface"); // of the two ways that it has, the one that we write
            write(dubbo, args);
        }
        Lines.untilInputEnds();
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
