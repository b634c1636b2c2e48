package watcher;

import com.twitter.finagle.Addr;
import com.twitter.finagle.Address;
import com.twitter.finagle.Announcer$;
import com.twitter.finagle.Http;
import com.twitter.finagle.Name;
import com.twitter.finagle.Resolver$;
import com.twitter.finagle.Service;
import com.twitter.finagle.http.Request;
import com.twitter.finagle.http.Response;
import com.twitter.finagle.partitioning.zk.ZkMetadata$;
import com.twitter.finagle.partitioning.zk.ZkMetadata;
import com.twitter.finagle.service.RetryBudgets;
import com.twitter.finagle.stats.InMemoryStatsReceiver;
import com.twitter.finagle.stats.ReadableCounter;
import com.twitter.util.Await;
import com.twitter.util.Duration;
import com.twitter.util.Event;
import com.twitter.util.Var;
import java.net.InetSocketAddress;
import java.util.Map;
import scala.Option;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractFunction1;
import scala.runtime.BoxedUnit;

/**
 * Finagle's serversets: {@code watch SERVERS PATH}, {@code write SERVERS PATH HOST PORT}; {@code call SERVERS PATH} asks
 * by its HTTP client, with the retries that it has by default and without.
 */
final class Client {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("watch")) {
            Name.Bound name = (Name.Bound) Resolver$.MODULE$.eval("zk2!" + args[1] + "!" + args[2]);
            changes(name.addr()).respond(new AbstractFunction1<Addr, BoxedUnit>() {
                @Override
                public BoxedUnit apply(Addr addr) {
                    show(addr);
                    return BoxedUnit.UNIT;
                }
            });
        } else if (args[0].equals("call")) {
            String path = "zk2!" + args[1] + "!" + args[2];
            call("off", Http.client().withRetryBudget(RetryBudgets.EMPTY), path);
            call("defaults", Http.client(), path);
        } else {
            InetSocketAddress address = new InetSocketAddress(args[3], Integer.parseInt(args[4]));
            Await.result(Announcer$.MODULE$.announce(address, "zk!" + args[1] + "!" + args[2] + "!0"));
            Lines.written();
        }
        Lines.untilInputEnds();
    }

    private static void call(String via, Http.Client client, String path) {
        InMemoryStatsReceiver stats = new InMemoryStatsReceiver();
        Service<Request, Response> service = client.withStatsReceiver(stats).newService(path, "pods");
        ReadableCounter requeues = stats.counter("pods", "retries", "requeues");
        Lines.calls(via, () -> {
            long before = (Long) requeues.apply();
            try {
                return Lines.answer(Await.result(service.apply(Request.apply("/")), Duration.fromSeconds(20)).contentString());
            } finally {
                Lines.tried(1 + (int) ((Long) requeues.apply() - before));
            }
        });
    }

    private static Event<Addr> changes(Var<Addr> addr) {
        return addr.changes();
    }

    private static void show(Addr addr) {
        Lines.Endpoints endpoints = new Lines.Endpoints();
        if (addr instanceof Addr.Bound) {
            for (Address address : CollectionConverters.asJava(((Addr.Bound) addr).addrs())) {
                Address.Inet inet = (Address.Inet) address;
                Option<ZkMetadata> metadata = ZkMetadata$.MODULE$.fromAddrMetadata(inet.metadata());
                Map<String, String> declared =
                        metadata.isDefined() ? CollectionConverters.asJava(metadata.get().metadata()) : Map.of();
                endpoints.add(inet.addr().getHostString(), inet.addr().getPort(), declared);
            }
        } else if (!addr.equals(Addr.Neg$.MODULE$)) {
            return; // pending, or failed: it shows no list
        }
        Lines.seen("resolver", endpoints);
    }
}
