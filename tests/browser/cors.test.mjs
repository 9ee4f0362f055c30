// Pages of other origins that the settings name: plain EventSource and fetch, and the hub's own client,
// with cookies and without.
//
// Ports make origins, but not sites: `localhost` and `localhost` with another port are of one site, and
// share cookies that are `SameSite=Lax`; `127.0.0.1` is of another one.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test } from "node:test";

import { newContext, retry, startBrowser, until } from "./browser.mjs";
import { QUICK_RETRY, mint, startGuardedHub, startHub } from "./hub.mjs";
import { listen, startFaultyProxy } from "./proxy.mjs";

/** Unless it is partitioned, browsers keep a cookie from pages of other sites, whatever its `SameSite`. */
const PARTITIONED = { sameSite: "None", secure: true, partitionKey: "http://127.0.0.1" };

describe("a page of a listed origin", { timeout: 180_000 }, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  /** Serves an empty page on a port of its own, under any name of this machine; gives the port. */
  async function servePages(t) {
    const server = http.createServer((request, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end("<!doctype html><title>app</title>");
    });
    return new URL(await listen(t, server)).port;
  }

  /** Opens the page; `cookie` is the hub's. */
  async function openPage(t, origin, cookie) {
    const context = await newContext(t, browser);
    if (cookie) await context.addCookies([{ path: "/", domain: "localhost", ...cookie }]);
    const page = await context.newPage();
    await page.goto(`${origin}/`);
    await page.evaluate(() => (window.heard = []));
    return page;
  }

  /** The hub under the name that has the cookie. */
  const named = (hub) => hub.url.replace("127.0.0.1", "localhost");

  /** Opens an EventSource; its events and errors are heard. */
  function subscribe(page, url, init = {}) {
    return page.evaluate(
      ([url, init]) => {
        window.source = new EventSource(url, init);
        source.onopen = () => heard.push("open");
        source.onerror = () => heard.push(`error ${source.readyState}`);
        source.onmessage = ({ data }) => heard.push(data);
      },
      [url, init],
    );
  }

  const hears = (page, word) => until(page, (word) => heard.includes(word), word);

  /** A request of the page: status, body and the headers that it can read. */
  function ask(page, url, init = {}) {
    return page.evaluate(
      async ([url, init]) => {
        try {
          const response = await fetch(url, init);
          const { status } = response;
          return { status, body: await response.text(), headers: Object.fromEntries(response.headers) };
        } catch (error) {
          return { error: error.name };
        }
      },
      [url, init],
    );
  }

  test("subscribes, polls, publishes and closes without credentials", async (t) => {
    const port = await servePages(t);
    const env = { VISNYK_CORS_ORIGINS: `http://*.localhost:${port}` };
    const hub = await startHub(t, { env });
    const page = await openPage(t, `http://deep.app.localhost:${port}`);
    const events = `${hub.url}/v1/channels/a/events`;
    await subscribe(page, events);
    await hears(page, "open");
    const posted = await ask(page, events, {
      method: "POST",
      body: "hello",
      headers: { "Content-Type": "application/json", "Idempotency-Key": "k" },
    });
    assert.equal(posted.status, 201);
    await hears(page, "hello");
    const again = await ask(page, events, {
      method: "POST",
      body: "hello",
      headers: { "Content-Type": "application/json", "Idempotency-Key": "k" },
    });
    assert.equal(again.headers["idempotent-replayed"], "true");
    const polled = await ask(page, `${hub.url}/v1/channels/a/poll?last_event_id=earliest`);
    assert.equal(polled.status, 200);
    assert.equal(polled.headers["last-event-id"], JSON.parse(posted.body).id);
    assert.ok(polled.headers.etag);
    // This one waits: its answer is written by another part of the hub.
    const waiting = ask(page, `${hub.url}/v1/channels/b/poll`);
    await retry(async () => (await hub.channel("b"))?.pollers === 1);
    await hub.publish("b", "later");
    assert.equal(JSON.parse((await waiting).body).events[0].data, "later");
    const refused = await ask(page, `${hub.url}/v1/channels/b/poll?timeout=x`);
    assert.equal(refused.status, 400);
    assert.equal(JSON.parse(refused.body).field, "timeout");
    assert.equal((await ask(page, `${hub.url}/v1/channels/a`, { method: "DELETE" })).status, 204);
    await until(page, () => source.readyState === EventSource.CLOSED);
    // With credentials it is not shared at all.
    assert.deepEqual(await ask(page, events, { credentials: "include" }), { error: "TypeError" });
    // Another origin, even the domain itself, gets nothing.
    const bare = await openPage(t, `http://localhost:${port}`);
    assert.deepEqual(await ask(bare, `${hub.url}/v1/channels`), { error: "TypeError" });
    await subscribe(bare, events);
    await hears(bare, "error 2");
  });

  test("asks for leave once", async (t) => {
    const port = await servePages(t);
    const env = { VISNYK_CORS_ORIGINS: `http://localhost:${port}` };
    const hub = await startGuardedHub(t, env);
    const proxy = await startFaultyProxy(t, hub.url);
    const methods = [];
    proxy.fault = (request) => {
      methods.push(request.method);
      return null;
    };
    const page = await openPage(t, `http://localhost:${port}`);
    const headers = { Authorization: `Bearer ${mint({ publish: ["**"] })}` };
    for (let n = 0; n < 3; n += 1) {
      const init = { method: "POST", body: "x", headers };
      assert.equal((await ask(page, `${proxy.url}/v1/channels/a/events`, init)).status, 201);
    }
    assert.deepEqual(methods, ["OPTIONS", "POST", "POST", "POST"]);
    // What is wrong with a token it can read.
    const bad = { headers: { Authorization: "Bearer nonsense" } };
    const { status, body } = await ask(page, `${proxy.url}/v1/channels/a/poll`, bad);
    assert.equal(status, 401);
    assert.equal(JSON.parse(body).reason, "malformed");
  });

  test("comes back to a hub that was full", async (t) => {
    const port = await servePages(t);
    const hub = await startHub(t, {
      env: {
        ...QUICK_RETRY,
        VISNYK_CORS_ORIGINS: `http://localhost:${port}`,
        VISNYK_LIMITS__CONNECTIONS__CONNECTIONS_MAX: "1",
      },
    });
    const first = await openPage(t, `http://localhost:${port}`);
    await subscribe(first, `${hub.url}/v1/channels/a/events`);
    await hears(first, "open");
    const second = await openPage(t, `http://localhost:${port}`);
    await subscribe(second, `${hub.url}/v1/channels/a/events`);
    await hears(second, "error 0");
    await first.evaluate(() => source.close());
    await retry(async () => {
      await hub.publish("a", "to all");
      return second.evaluate(() => heard.includes("to all"));
    });
  });

  for (const [site, page_, cookie] of [
    ["the hub's site", "localhost", { sameSite: "Lax" }],
    ["another site", "127.0.0.1", PARTITIONED],
  ]) {
    test(`acts as its visitor with the cookie, from ${site}`, async (t) => {
      const port = await servePages(t);
      const origin = `http://${page_}:${port}`;
      const hub = await startGuardedHub(t, {
        VISNYK_AUTH__COOKIE: "session",
        VISNYK_CORS_ORIGINS: origin,
        VISNYK_CORS__CREDENTIALS: "true",
      });
      const value = mint({ sub: "visitor", publish: ["a"], subscribe: ["a"] });
      const page = await openPage(t, origin, { name: "session", value, ...cookie });
      const events = `${named(hub)}/v1/channels/a/events`;
      // Without credentials the cookie stays where it is.
      await subscribe(page, events);
      await hears(page, "error 2");
      assert.equal((await ask(page, events, { method: "POST", body: "x" })).status, 401);

      await subscribe(page, events, { withCredentials: true });
      await hears(page, "open");
      const init = { method: "POST", body: "as the visitor", credentials: "include" };
      assert.equal((await ask(page, events, init)).status, 201);
      await hears(page, "as the visitor");
      const elsewhere = `${named(hub)}/v1/channels/b/events`;
      assert.equal((await ask(page, elsewhere, init)).status, 403);

      // The hub's own client does the same by an option.
      await page.evaluate(async (url) => {
        const { Visnyk } = await import(`${url}/visnyk.js`);
        window.hub = new Visnyk({ url, channels: "a", withCredentials: true, from: "earliest" });
        hub.on("*", ({ data }) => heard.push(`client: ${data}`));
        heard.push((await hub.publish("a", "by the client")).channel);
      }, named(hub));
      await hears(page, "client: as the visitor");
      await hears(page, "client: by the client");

      // A page that is not listed has the same cookie, and gets nothing by it.
      const port2 = await servePages(t);
      const other = await openPage(t, `http://${page_}:${port2}`, { name: "session", value, ...cookie });
      await subscribe(other, events, { withCredentials: true });
      await hears(other, "error 2");
      assert.deepEqual(await ask(other, events, init), { error: "TypeError" });
      const blind = { ...init, mode: "no-cors", body: "blind" };
      assert.deepEqual(await ask(other, events, blind), { error: "TypeError" });
      const { events_retained } = await hub.channel("a");
      assert.equal(events_retained, 2);
    });
  }

  test("a page that is not listed learns why its client has nothing, and the hub counts it", async (t) => {
    const origin = `http://localhost:${await servePages(t)}`;
    const hub = await startHub(t);
    for (const transport of ["auto", "poll"]) {
      const page = await openPage(t, origin);
      await page.evaluate(
        async ([url, transport]) => {
          const { Visnyk } = await import(`${url}/visnyk.js`);
          window.hub = new Visnyk({ url, channels: "a", transport });
        },
        [hub.url, transport],
      );
      await until(page, () => hub.state.state === "closed");
      const { reason, detail } = await page.evaluate(() => hub.state);
      assert.equal(reason, "origin");
      assert.match(detail, new RegExp(`--cors-origin ${origin}`));
    }
    const metrics = await (await fetch(`${hub.url}/metrics`)).text();
    assert.ok(Number(/foreign_origin_requests_total (\d+)/.exec(metrics)[1]) >= 2, metrics);
  });

  test("uses the client with a token of its own", async (t) => {
    const port = await servePages(t);
    const origin = `http://localhost:${port}`;
    const hub = await startGuardedHub(t, { VISNYK_CORS_ORIGINS: origin });
    for (const transport of ["sse", "poll"]) {
      const page = await openPage(t, origin);
      await page.evaluate(
        async ([url, transport, token]) => {
          const { Visnyk } = await import(`${url}/visnyk.js`);
          window.hub = new Visnyk({ url, channels: transport, transport, token });
          hub.on("*", ({ data }) => heard.push(data));
        },
        [hub.url, transport, mint({ subscribe: ["**"], publish: ["**"] })],
      );
      await until(page, () => hub.state.state === "open");
      const sent = await page.evaluate((name) => hub.publish(name, "across"), transport);
      assert.equal(sent.channel, transport);
      await hears(page, "across");
    }
  });

  test("asks again for a token that its application could not give", async (t) => {
    const origin = `http://localhost:${await servePages(t)}`;
    const hub = await startGuardedHub(t, { VISNYK_CORS_ORIGINS: origin });
    for (const transport of ["auto", "poll"]) {
      const page = await openPage(t, origin);
      await page.evaluate(
        async ([url, transport, token]) => {
          const { Visnyk } = await import(`${url}/visnyk.js`);
          window.failures = 3;
          const ask = async () => {
            if (failures === 0) return token;
            failures -= 1;
            throw new Error("the application is away");
          };
          window.hub = new Visnyk({ url, channels: "a", transport, token: ask });
          hub.on("visnyk.state", ({ state, detail }) => heard.push(`${state}: ${detail}`));
        },
        [hub.url, transport, mint({ subscribe: ["**"] })],
      );
      await until(page, () => hub.state.state === "open");
      const states = await page.evaluate(() => heard);
      assert.ok(states.includes("reconnecting: the function that gives the token failed: the application is away"), states);
      assert.ok(!states.some((state) => state.startsWith("closed")), states);
    }
  });
});
