package watcher;

import com.linecorp.armeria.client.Endpoint;
import com.linecorp.armeria.client.WebClient;
import com.linecorp.armeria.client.zookeeper.ZooKeeperDiscoverySpec;
import com.linecorp.armeria.client.zookeeper.ZooKeeperEndpointGroup;
import com.linecorp.armeria.common.SessionProtocol;
import java.util.List;
import java.util.Map;

/**
 * Armeria: {@code watch SERVERS curator|serverset BASE SERVICE} lists endpoints, {@code call …} asks one after another
 * for {@code /}, whose answer is the address of the server that was asked.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        ZooKeeperEndpointGroup group = args[2].equals("curator")
                ? ZooKeeperEndpointGroup.of(args[1], args[3], ZooKeeperDiscoverySpec.curator(args[4]))
                : ZooKeeperEndpointGroup.of(args[1], args[3] + "/" + args[4], ZooKeeperDiscoverySpec.serverSets());
        if (args[0].equals("watch")) {
            group.addListener(endpoints -> Lines.seen("group", shown(endpoints)), true);
        } else {
            group.whenReady().join();
            WebClient client = WebClient.builder(SessionProtocol.HTTP, group).build();
            Lines.calls("defaults", () -> Lines.answer(client.get("/").aggregate().join().contentUtf8()));
        }
        Lines.untilInputEnds();
    }

    private static Lines.Endpoints shown(List<Endpoint> endpoints) {
        Lines.Endpoints shown = new Lines.Endpoints();
        for (Endpoint endpoint : endpoints) {
            shown.add(endpoint.host(), endpoint.port(), Map.of());
        }
        return shown;
    }
}
