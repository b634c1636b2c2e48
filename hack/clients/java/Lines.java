package watcher;

import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.Callable;

/** What a watcher prints: one JSON line for every list of endpoints that its client shows, and for every call. */
final class Lines {
    private static final ThreadLocal<Integer> TRIED = ThreadLocal.withInitial(() -> 0);

    /** A list of endpoints: what is known of each, by "host:port". */
    static final class Endpoints {
        private final SortedMap<String, SortedMap<String, String>> byAddress = new TreeMap<>();

        Endpoints add(String host, Object port, Map<?, ?> metadata) {
            SortedMap<String, String> known = new TreeMap<>();
            metadata.forEach((key, value) -> known.put(String.valueOf(key), String.valueOf(value)));
            byAddress.put(host + ":" + port, known);
            return this;
        }

        @Override
        public String toString() {
            return object(byAddress);
        }
    }

    /** Print a list, and by which of its ways the client came to it. */
    static void seen(String via, Endpoints endpoints) {
        print("{\"via\":" + quote(via) + ",\"endpoints\":" + endpoints + "}");
    }

    /** Say that the instance is registered. */
    static void written() {
        print("{\"written\":true}");
    }

    /** Ask the client again and again for its list, and print whatever differs from the one before. */
    static void poll(String via, Callable<Endpoints> client) {
        Thread thread = new Thread(() -> {
            String before = "";
            while (true) {
                String line;
                try {
                    line = ",\"endpoints\":" + client.call() + "}";
                } catch (Exception error) {
                    line = ",\"error\":" + quote(error.toString()) + "}";
                }
                if (!line.equals(before)) {
                    print("{\"via\":" + quote(via) + line);
                }
                before = line;
                sleep(20);
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    /**
     * Make one call after the other, and print each: the endpoint at which it came out, and how often it was retried.
     *
     * <p><i>via</i> says how the client retries: "defaults", or "off" where it would by default.
     */
    static void calls(String via, Callable<Endpoints> client) {
        Thread thread = new Thread(() -> {
            while (true) {
                TRIED.set(0);
                String outcome;
                try {
                    outcome = ",\"endpoints\":" + client.call();
                } catch (Exception error) {
                    outcome = ",\"error\":" + quote(error.toString());
                }
                print("{\"via\":" + quote(via) + ",\"retried\":" + Math.max(0, TRIED.get() - 1) + outcome + "}");
                sleep(30);
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    /** Note so many attempts at the call which this thread makes; clients that never retry need not. */
    static void tried(int times) {
        TRIED.set(TRIED.get() + times);
    }

    /** The answer of a pod: its address. */
    static Endpoints answer(String address) {
        int colon = address.lastIndexOf(':');
        return new Endpoints().add(address.substring(0, colon), address.substring(colon + 1), Map.of());
    }

    /** Live as long as whoever started us wants. */
    static void untilInputEnds() throws Exception {
        while (System.in.read() >= 0) {
            // Nothing is asked of us.
        }
        Runtime.getRuntime().halt(0); // as a client that crashes: an orderly end is not what is tested here
    }

    private static synchronized void print(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static String object(Map<String, ?> map) {
        StringBuilder text = new StringBuilder("{");
        map.forEach((key, value) -> {
            text.append(text.length() > 1 ? "," : "").append(quote(key)).append(":");
            text.append(value instanceof SortedMap ? object(nested(value)) : quote(String.valueOf(value)));
        });
        return text.append("}").toString();
    }

    @SuppressWarnings("unchecked")
    private static Map<String, ?> nested(Object value) {
        return (Map<String, ?>) value;
    }

    private static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c < ' ') {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c == '"' || c == '\\' ? "\\" : "").append(c);
            }
        }
        return quoted.append('"').toString();
    }

    private static void sleep(int milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    private Lines() {}
}
