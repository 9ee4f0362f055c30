// A hostile page on another origin tries everything a browser lets it; then the same page under a name
// that resolves to the hub's own address.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test } from "node:test";

import { newContext, retry, startBrowser } from "./browser.mjs";
import { startGuardedHub, startHub } from "./hub.mjs";
import { listen } from "./proxy.mjs";

const NAMES = "MAP evil.example 127.0.0.1,MAP rebound.example 127.0.0.1";

describe("a hostile page", { timeout: 180_000 }, () => {
  let browser;
  before(async () => {
    browser = await startBrowser([`--host-resolver-rules=${NAMES}`]);
  });
  after(() => browser.close());

  /** A page of evil.example that loads nothing. */
  async function openEvil(t) {
    const server = http.createServer((request, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end("<!doctype html><title>evil</title><body>");
    });
    const { port } = new URL(await listen(t, server));
    const page = await (await newContext(t, browser)).newPage();
    await page.goto(`http://evil.example:${port}/`);
    return page;
  }

  /** How a request of the page ended: its status, or the name of what it threw. */
  function fetched(page, url, init = {}) {
    return page.evaluate(
      async ([url, init]) => {
        try {
          const response = await fetch(url, init);
          return response.type === "opaque" ? "opaque" : response.status;
        } catch (error) {
          return error.name;
        }
      },
      [url, init],
    );
  }

  test("publishes and closes nothing on the native routes", async (t) => {
    const hub = await startHub(t);
    await hub.publish("kept", "x");
    const page = await openEvil(t);
    const events = `${hub.url}/v1/channels/guarded/events`;
    const json = { "Content-Type": "application/json" };
    const plain = { "Content-Type": "text/plain" };
    for (const init of [
      { method: "POST", body: "x" },
      { method: "POST", body: "x", headers: plain, mode: "no-cors" },
      { method: "POST", body: "x", mode: "no-cors", keepalive: true },
      { method: "POST", body: "x", mode: "no-cors", referrerPolicy: "no-referrer" },
      { method: "POST", body: "{}", headers: json },
      { method: "POST", body: "x", headers: { "Idempotency-Key": "k" } },
      { method: "POST", body: "x", mode: "no-cors", credentials: "include" },
    ]) {
      const outcome = await fetched(page, events, init);
      assert.ok(["TypeError", "opaque"].includes(outcome), `${JSON.stringify(init)}: ${outcome}`);
    }
    for (const url of [`${hub.url}/v1/channels/kept`, `${hub.url}/v1/channels/kept/events`]) {
      assert.equal(await fetched(page, url, { method: "DELETE" }), "TypeError");
    }
    // Forms and beacons say no more than that they were sent.
    await page.evaluate(async (url) => {
      navigator.sendBeacon(url, new Blob(["x"], { type: "text/plain" }));
      navigator.sendBeacon(`${url}?type=beacon`);
      const ended = [];
      for (const enctype of ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]) {
        for (const policy of ["unsafe-url", "no-referrer"]) {
          const frame = document.createElement("iframe");
          frame.name = `${enctype} ${policy}`;
          const form = document.createElement("form");
          Object.assign(form, { method: "POST", enctype, action: url, target: frame.name });
          form.append(Object.assign(document.createElement("input"), { name: "a", value: "b" }));
          const meta = document.createElement("meta");
          Object.assign(meta, { name: "referrer", content: policy });
          document.head.append(meta);
          document.body.append(frame, form);
          ended.push(new Promise((resolve) => (frame.onload = resolve)));
          form.submit();
        }
      }
      await Promise.all(ended);
      // Beacons are answered before this, on the same connections.
      for (let n = 0; n < 20; n += 1) {
        await fetch(url, { method: "POST", mode: "no-cors" }).catch(() => {});
      }
    }, events);
    assert.equal(await hub.channel("guarded"), null);
    assert.equal((await hub.channel("kept")).closed, false);
  });

  test("reads nothing, and does not learn when events come", async (t) => {
    const hub = await startHub(t);
    await hub.publish("guarded", "private");
    const page = await openEvil(t);
    const channel = `${hub.url}/v1/channels/guarded`;
    const poll = `${channel}/poll?timeout=60`;
    for (const url of [
      `${channel}/events?last_event_id=earliest`,
      poll,
      channel,
      `${hub.url}/v1/channels`,
      `${hub.url}/v1/connections`,
      `${hub.url}/metrics`,
      `${hub.url}/`,
    ]) {
      assert.equal(await fetched(page, url), "TypeError", url);
      assert.equal(await fetched(page, url, { credentials: "include" }), "TypeError", url);
      assert.equal(await fetched(page, url, { mode: "no-cors" }), "TypeError", url);
    }
    // None of these waits for an event: each is answered although none comes, long before a poll's time
    // is up.
    const began = Date.now();
    const outcomes = await page.evaluate(async (url) => {
      const asked = (tag, name, more = {}) =>
        new Promise((resolve) => {
          const element = Object.assign(document.createElement(tag), more);
          element.onload = () => resolve("load");
          element.onerror = () => resolve("error");
          element[name] = url;
          document.body.append(element);
        });
      // A window of another origin says no more than that it is not the page's own any more: its answer
      // has come.
      const opened = window.open(url);
      const arrived = async () => {
        const until = performance.now() + 30_000;
        while (performance.now() < until) {
          try {
            if (opened.location.href !== "about:blank") return "own";
          } catch {
            return "arrived";
          }
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        return "waits";
      };
      const source = new EventSource(url.replace("/poll", "/events"));
      const heard = new Promise((resolve) => {
        source.onmessage = () => resolve("message");
        source.onopen = () => resolve("open");
        source.onerror = () => resolve(`error ${source.readyState}`);
      });
      const outcomes = {
        source: heard,
        image: asked("img", "src"),
        script: asked("script", "src"),
        module: asked("script", "src", { type: "module" }),
        style: asked("link", "href", { rel: "stylesheet" }),
        video: asked("video", "src"),
        frame: asked("iframe", "src"),
        embedded: asked("object", "data"),
        window: arrived(),
      };
      for (const name of Object.keys(outcomes)) outcomes[name] = await outcomes[name];
      return outcomes;
    }, poll);
    assert.deepEqual(outcomes, {
      source: "error 2",
      image: "error",
      script: "error",
      module: "error",
      style: "error",
      video: "error",
      frame: "load",
      embedded: "error",
      window: "arrived",
    });
    // A poll that is let in is answered after 60 s.
    assert.ok(Date.now() - began < 30_000, `answered after ${Date.now() - began} ms`);
    const { subscribers, pollers } = await hub.channel("guarded");
    assert.deepEqual([subscribers, pollers], [0, 0]);
    // The hub's own client, which any page may import, gets no further.
    const state = await page.evaluate(async (url) => {
      const { Visnyk } = await import(`${url}/visnyk.js`);
      const hub = new Visnyk({ url, channels: "guarded", from: "earliest" });
      return new Promise((resolve) => {
        hub.on("*", () => resolve("event"));
        hub.on("visnyk.state", ({ state }) => state !== "connecting" && resolve(state));
      });
    }, hub.url);
    assert.notEqual(state, "event");
    assert.notEqual(state, "open");
  });

  test("reaches no hub by a name of its own that resolves to this machine", async (t) => {
    const hub = await startHub(t);
    await hub.publish("default", "x");
    const { port } = new URL(hub.url);
    const page = await (await newContext(t, browser)).newPage();
    const own = `http://rebound.example:${port}`;
    assert.equal((await page.goto(`${own}/`)).status(), 421);
    // To the browser this page is of the hub's origin: it could read everything.
    for (const path of [
      "/",
      "/v1/channels",
      "/v1/channels/default/poll?last_event_id=earliest",
      "/subscribe?after=0",
      "/events",
      "/metrics",
    ]) {
      assert.equal(await fetched(page, own + path), 421, path);
    }
    for (const path of ["/v1/channels/rebound/events", "/publish"]) {
      const init = { method: "POST", body: '{"message":"rebound"}' };
      assert.equal(await fetched(page, own + path, init), 421, path);
    }
    // Probes come by address, and say nothing but that it lives.
    assert.equal(await fetched(page, `${own}/healthz`), 200);
    assert.equal(await hub.channel("rebound"), null);
    assert.equal((await hub.channel("default")).events_retained, 1);
  });

  test("has the channel of the quickstart and no other, unless that is off or asks for tokens", async (t) => {
    const page = await openEvil(t);
    const publish = (hub) => {
      const init = { method: "POST", body: '{"message":"from a page"}' };
      return fetched(page, `${hub.url}/publish?channel=other`, init);
    };
    const open = await startHub(t);
    assert.equal(await publish(open), 200);
    assert.equal((await open.channel("default")).events_retained, 1);
    assert.equal(await open.channel("other"), null);
    const read = `${open.url}/subscribe?after=0&channel=other&last_event_id=earliest`;
    assert.equal(await fetched(page, read), 200);
    assert.equal(await open.channel("other"), null);

    const off = await startHub(t, { env: { VISNYK_QUICKSTART: "false" } });
    assert.equal(await publish(off), "TypeError");
    assert.equal(await off.channel("default"), null);

    const locked = await startGuardedHub(t);
    assert.equal(await publish(locked), 401);
    assert.equal(await fetched(page, `${locked.url}/subscribe`), 401);
  });

  test("cannot put the console in a frame", async (t) => {
    const hub = await startHub(t);
    const page = await openEvil(t);
    const said = [];
    page.on("console", (message) => said.push(message.text()));
    await page.evaluate((url) => {
      document.body.append(Object.assign(document.createElement("iframe"), { src: url }));
    }, `${hub.url}/`);
    await retry(() => said.some((text) => text.includes("frame")));
    assert.deepEqual(
      page.frames().map((frame) => frame.url()).filter((url) => url.startsWith(hub.url)),
      [],
    );
  });

  test("plants no faults", async (t) => {
    const hub = await startHub(t, { env: { VISNYK_FAULTS: "true" } });
    const page = await openEvil(t);
    const init = { method: "POST", mode: "no-cors" };
    // This one would end the process.
    assert.equal(await fetched(page, `${hub.url}/faults/log`, init), "TypeError");
    for (let n = 0; n < 10; n += 1) await hub.publish("a", "x");
  });
});
