// Many EventSources on one page: six at a time over HTTP/1.1, as many as one likes over HTTP/2.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { blankPage, heard, newContext, startBrowser, until } from "./browser.mjs";
import { startHub } from "./hub.mjs";

const SOURCES = 20;
const HTTP1_CONNECTIONS = 6;

/** A certificate for this machine, in files of its own. */
function certificate(test) {
  const directory = mkdtempSync(join(tmpdir(), "visnyk-tls-"));
  test.after(() => rmSync(directory, { recursive: true }));
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(directory, name));
  const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const options = ["-days", "2", "-subj", "/CN=localhost", "-addext", names];
  const files = ["-keyout", key, "-out", cert];
  execFileSync("openssl", ["req", "-x509", ...kind, ...options, ...files], { stdio: "pipe" });
  return { VISNYK_TLS_CERT: cert, VISNYK_TLS_KEY: key };
}

/** Opens many EventSources of one channel; what each hears is in `heard`, by its number. */
function openSources(page, count) {
  return page.evaluate((sources) => {
    window.opened = 0;
    window.heard = Array.from({ length: sources }, () => []);
    window.sources = heard.map((events) => {
      const source = new EventSource("/v1/channels/many/events");
      source.onopen = () => (opened += 1);
      source.onmessage = ({ data }) => events.push(data);
      return source;
    });
  }, count);
}

/** Publishes from the page itself, on whatever connection it has. */
function publish(page, data) {
  return page.evaluate(async (body) => {
    const response = await fetch("/v1/channels/many/events", { method: "POST", body });
    return response.status;
  }, data);
}

function protocols(page) {
  return page.evaluate(() => [
    ...new Set(performance.getEntriesByType("navigation").map((entry) => entry.nextHopProtocol)),
  ]);
}

describe("many EventSources", { timeout: 120_000 }, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  test("twenty on one page all receive over TLS and HTTP/2, on one connection", async (t) => {
    const hub = await startHub(t, { env: certificate(t) });
    assert.match(hub.url, /^https:/);
    const page = await blankPage(
      await newContext(t, browser, { ignoreHTTPSErrors: true }),
      hub.url,
    );
    assert.deepEqual(await protocols(page), ["h2"]);
    await openSources(page, SOURCES);
    await until(page, (count) => opened === count, SOURCES);
    for (let number = 0; number < 10; number += 1) {
      assert.equal(await publish(page, `event ${number}`), 201, "a twenty-first request fits");
    }
    await until(page, () => heard.every((events) => events.length >= 10));
    const expected = Array.from({ length: 10 }, (_, number) => `event ${number}`);
    for (const events of await heard(page)) assert.deepEqual(events, expected);
    const metrics = await page.evaluate(async () => (await fetch("/metrics")).text());
    assert.match(metrics, /^visnyk_http2_connections 1$/m);
    assert.match(metrics, new RegExp(`^visnyk_streams ${SOURCES}$`, "m"));
  });

  test("over HTTP/1.1 the seventh waits", async (t) => {
    const hub = await startHub(t);
    const page = await blankPage(await newContext(t, browser), hub.url);
    assert.deepEqual(await protocols(page), ["http/1.1"]);
    await openSources(page, SOURCES);
    await until(page, (count) => opened >= count, HTTP1_CONNECTIONS);
    await hub.publish("many", "an event");
    await until(page, (count) => heard.filter((events) => events.length > 0).length >= count, HTTP1_CONNECTIONS);
    assert.equal((await hub.channel("many")).subscribers, HTTP1_CONNECTIONS);
    assert.equal(await page.evaluate(() => opened), HTTP1_CONNECTIONS);
    // Where one closes, the next opens.
    await page.evaluate(() => sources.slice(0, 2).forEach((source) => source.close()));
    await until(page, (count) => opened >= count, HTTP1_CONNECTIONS + 2);
  });
});
