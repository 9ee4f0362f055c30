// What a page gets from a plain EventSource.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { blankPage, heard, newContext, numbers, startBrowser, until } from "./browser.mjs";
import { QUICK_RETRY, startHub } from "./hub.mjs";
import { startCuttingProxy } from "./proxy.mjs";

/**
 * Opens an EventSource in the page: data goes to `heard`, `opens` counts, and `admitted` is set
 * once the hub's hello shows that the first block, with the position, has arrived.
 */
function openSource(page, url) {
  return page.evaluate((address) => {
    window.opens = 0;
    window.admitted = false;
    window.source = new EventSource(`${address}?hello=1`);
    source.onopen = () => (opens += 1);
    source.onmessage = ({ data }) => heard.push(data);
    source.addEventListener("visnyk.hello", () => (admitted = true));
  }, url);
}

function untilAdmitted(page) {
  return until(page, () => admitted);
}

describe("EventSource", { timeout: 120_000 }, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  test("a stream that is cut again and again loses and repeats nothing", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const proxy = await startCuttingProxy(t, hub.url);
    const page = await blankPage(await newContext(t, browser), proxy.url);
    await openSource(page, "/v1/channels/cut/events");
    await untilAdmitted(page);
    // Sizes that fall now within a first block, now within an event.
    const budgets = [1_500, 301, 533, 2_111, 40, 819];
    let connections = 0;
    proxy.budget = () => budgets[(connections += 1) % budgets.length];
    proxy.cutAll();

    const last = 400;
    for (let first = 1; first <= last; first += 8) {
      await hub.publishNumbers("cut", first, first + 7);
    }
    await until(page, (count) => heard.length >= count, last);
    await hub.publish("cut", "end");
    await until(page, () => heard.at(-1) === "end");
    assert.deepEqual(await heard(page), [...numbers(1, last), "end"]);
    assert.ok(proxy.cuts >= 5, `only ${proxy.cuts} connections were cut`);
  });

  test("a reconnect before the first event loses nothing", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const proxy = await startCuttingProxy(t, hub.url);
    const page = await blankPage(await newContext(t, browser), proxy.url);
    await openSource(page, "/v1/channels/quiet/events");
    await untilAdmitted(page);
    proxy.cutAll();
    await hub.publish("quiet", "while away");
    await until(page, () => heard.length > 0);
    assert.deepEqual(await heard(page), ["while away"]);
  });

  test("named events reach their listeners, and only those", async (t) => {
    const hub = await startHub(t);
    const page = await blankPage(await newContext(t, browser), hub.url);
    await openSource(page, "/v1/channels/named/events");
    await untilAdmitted(page);
    await page.evaluate(() => {
      source.addEventListener("paid", ({ type, data, lastEventId }) => {
        heard.push([type, data, lastEventId]);
      });
    });
    await hub.publish("named", "unheard", "shipped");
    const id = await hub.publish("named", "line 1\nline 2", "paid");
    await hub.publish("named", "plain");
    await until(page, () => heard.length >= 2);
    assert.deepEqual(await heard(page), [["paid", "line 1\nline 2", id], "plain"]);
  });

  test("204 stops it: its channel was deleted", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const page = await blankPage(await newContext(t, browser), hub.url);
    await openSource(page, "/v1/channels/ended/events");
    await untilAdmitted(page);
    await page.evaluate(() => {
      source.addEventListener("visnyk.closed", ({ data }) => heard.push(["closed", data]));
    });
    await hub.publish("ended", "last words");
    await hub.closeChannel("ended");
    await until(page, () => source.readyState === EventSource.CLOSED);
    assert.deepEqual(await heard(page), ["last words", ["closed", "ended"]]);
  });

  test("an overload refusal does not stop it", async (t) => {
    const env = { ...QUICK_RETRY, VISNYK_LIMITS__CONNECTIONS__CONNECTIONS_MAX: "1" };
    const hub = await startHub(t, { env });
    const context = await newContext(t, browser);
    const first = await blankPage(context, hub.url);
    const second = await blankPage(context, hub.url);
    await openSource(first, "/v1/channels/full/events");
    await untilAdmitted(first);
    await openSource(second, "/v1/channels/full/events");
    await until(second, () => opens >= 3); // Refused each time: opened, ended, tried again.
    await hub.publish("full", "for the first");
    await until(first, () => heard.length === 1);
    assert.equal(await second.evaluate(() => admitted), false);
    assert.notEqual(await second.evaluate(() => source.readyState), 2);

    await first.evaluate(() => source.close());
    await untilAdmitted(second);
    await hub.publish("full", "for the second");
    await until(second, () => heard.length > 0);
    assert.deepEqual(await heard(second), ["for the second"]);
    assert.deepEqual(await heard(first), ["for the first"]);
  });
});
