package watcher;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;

/** A pod's program, for clients that choose an endpoint and leave the call to others. */
final class Pod {
    private static final int PATIENCE = 20000; // with a machine that others load

    /** Ask once, by HTTP and without any retry, for the address of the server that answers. */
    static Lines.Endpoints asked(String host, int port) throws IOException {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress(host, port), PATIENCE);
            socket.setSoTimeout(PATIENCE);
            String request = "GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
            socket.getOutputStream().write(request.getBytes(StandardCharsets.US_ASCII));
            String answer = new String(socket.getInputStream().readAllBytes(), StandardCharsets.US_ASCII);
            if (!answer.startsWith("HTTP/1.1 200 ")) {
                throw new IOException(host + ":" + port + " answers '" + answer + "'");
            }
            return Lines.answer(answer.substring(answer.indexOf("\r\n\r\n") + 4));
        }
    }

    private Pod() {}
}
