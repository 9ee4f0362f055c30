// Proxies that misbehave on purpose, between the browser and the hub.
import http from "node:http";
import net from "node:net";

/**
 * Copies bytes. Set `budget` to cut each connection after so many bytes from the hub, wherever in
 * an event that may be; the head of its first answer does not count, since browsers take a
 * truncated head for a whole one. `cutAll` cuts what is open now.
 */
export async function startCuttingProxy(test, target) {
  const { hostname, port } = new URL(target);
  const sockets = new Set();
  const proxy = {
    url: "",
    cuts: 0,
    budget: () => Infinity,
    cutAll() {
      for (const socket of sockets) socket.destroy();
    },
  };
  const server = net.createServer((client) => {
    const hub = net.connect(Number(port), hostname);
    let left = proxy.budget();
    let head = Buffer.alloc(0);
    const end = () => {
      sockets.delete(client);
      client.destroy();
      hub.destroy();
    };
    sockets.add(client);
    for (const socket of [client, hub]) socket.on("error", end).on("close", end);
    client.on("data", (bytes) => hub.write(bytes));
    hub.on("data", (bytes) => {
      let body = bytes.length;
      if (head !== null) {
        head = Buffer.concat([head, bytes]);
        const at = head.indexOf("\r\n\r\n");
        body = at < 0 ? 0 : head.length - at - 4;
        if (at >= 0) head = null;
      }
      if (body < left) {
        left -= body;
        client.write(bytes);
        return;
      }
      proxy.cuts += 1;
      hub.removeAllListeners("close").destroy();
      client.end(bytes.subarray(0, bytes.length - body + left));
    });
  });
  proxy.url = await listen(test, server, sockets);
  return proxy;
}

/**
 * Passes requests on unless `fault(request)` returns something: `{status, headers, body}` is
 * answered instead, `"silence"` is never answered, `"lost"` reaches the hub but its answer is cut.
 */
export async function startFaultyProxy(test, target) {
  const sockets = new Set();
  const proxy = {
    url: "",
    fault: () => null,
    requests: [],
    cut() {
      for (const socket of sockets) socket.destroy();
    },
  };
  const server = http.createServer((request, response) => {
    const fault = proxy.fault(request);
    proxy.requests.push({ url: request.url, at: performance.now(), fault });
    if (fault === "silence") return;
    if (fault && fault !== "lost") {
      request.resume();
      response.writeHead(fault.status, fault.headers).end(fault.body ?? "");
      return;
    }
    const { method, headers } = request;
    const upstream = http.request(new URL(request.url, target), { method, headers }, (answer) => {
      if (fault === "lost") {
        answer.resume().once("end", () => response.destroy());
        return;
      }
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
      answer.once("error", () => response.destroy());
    });
    upstream.once("error", () => {
      if (response.headersSent) response.destroy();
      else response.writeHead(502).end();
    });
    response.once("close", () => upstream.destroy());
    request.pipe(upstream);
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  proxy.url = await listen(test, server, sockets);
  return proxy;
}

/** Whether a request asks for a stream. */
export function isStream({ headers }) {
  return headers.accept?.includes("text/event-stream") ?? false;
}

/** Starts a server on a port of its own; `test.after` closes it with all its connections. */
export async function listen(test, server, sockets = new Set()) {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  test.after(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections?.();
    });
  });
  return `http://127.0.0.1:${server.address().port}`;
}
