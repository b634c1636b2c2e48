package watcher;

import java.util.List;
import java.util.Map;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.boot.WebApplicationType;
import org.springframework.cloud.client.ServiceInstance;
import org.springframework.cloud.client.discovery.DiscoveryClient;
import org.springframework.cloud.client.loadbalancer.reactive.ReactiveLoadBalancer;
import org.springframework.cloud.loadbalancer.support.LoadBalancerClientFactory;
import org.springframework.cloud.zookeeper.discovery.ZookeeperInstance;
import org.springframework.cloud.zookeeper.serviceregistry.ServiceInstanceRegistration;
import org.springframework.cloud.zookeeper.serviceregistry.ZookeeperServiceRegistry;
import org.springframework.context.ConfigurableApplicationContext;
import reactor.core.publisher.Mono;

/**
 * Spring Cloud Zookeeper: {@code watch SERVERS BASE APPLICATION}, {@code write SERVERS BASE APPLICATION ID HOST PORT};
 * {@code call SERVERS BASE APPLICATION} asks the instances that Spring Cloud LoadBalancer chooses.
 */
@SpringBootApplication
class Client {
    public static void main(String[] args) throws Exception {
        ConfigurableApplicationContext context = new SpringApplicationBuilder(Client.class)
                .web(WebApplicationType.NONE)
                .properties(Map.of(
                        "spring.application.name", "watcher",
                        "spring.main.banner-mode", "off",
                        "spring.main.log-startup-info", false,
                        "logging.level.root", "warn",
                        "spring.cloud.zookeeper.connect-string", args[1],
                        "spring.cloud.zookeeper.discovery.root", args[2],
                        "spring.cloud.zookeeper.discovery.register", false))
                .run();
        String application = args[3];
        if (args[0].equals("watch")) {
            DiscoveryClient discovery = context.getBean(DiscoveryClient.class);
            Lines.poll("discovery", () -> endpoints(discovery.getInstances(application)));
        } else if (args[0].equals("call")) {
            ReactiveLoadBalancer<ServiceInstance> balancer =
                    context.getBean(LoadBalancerClientFactory.class).getInstance(application);
            Lines.calls("defaults", () -> {
                ServiceInstance chosen = Mono.from(balancer.choose()).block().getServer();
                return Pod.asked(chosen.getHost(), chosen.getPort());
            });
        } else {
            context.getBean(ZookeeperServiceRegistry.class).register(ServiceInstanceRegistration.builder()
                    .name(application).id(args[4]).address(args[5]).port(Integer.parseInt(args[6])).defaultUriSpec()
                    .payload(new ZookeeperInstance(args[4], application, Map.of("instance_status", "UP")))
                    .build());
            Lines.written();
        }
        Lines.untilInputEnds();
    }

    private static Lines.Endpoints endpoints(List<ServiceInstance> instances) {
        Lines.Endpoints endpoints = new Lines.Endpoints();
        for (ServiceInstance instance : instances) {
            endpoints.add(instance.getHost(), instance.getPort(), instance.getMetadata());
        }
        return endpoints;
    }
}
