// Pages of another origin that know nothing of Visnyk: a plain EventSource and a fetch loop.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { after, before, describe, test } from "node:test";

import { newContext, retry, startBrowser } from "./browser.mjs";
import { startHub } from "./hub.mjs";
import { listen } from "./proxy.mjs";

describe("a page of another origin", { timeout: 120_000 }, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  /** Serves the pages on a port of their own, and opens one. */
  async function openPage(t, hub, name, query = "") {
    const server = http.createServer(async (request, response) => {
      const { pathname } = new URL(request.url, "http://pages");
      if (!["/eventsource.html", "/long-poll.html"].includes(pathname)) {
        response.writeHead(404).end();
        return;
      }
      response.setHeader("Content-Type", "text/html");
      response.end(await readFile(new URL(`./pages${pathname}`, import.meta.url)));
    });
    const origin = await listen(t, server);
    assert.notEqual(new URL(origin).origin, new URL(hub.url).origin);
    const context = await newContext(t, browser);
    const page = await context.newPage();
    await page.goto(`${origin}/${name}?hub=${encodeURIComponent(hub.url)}${query}`);
    return page;
  }

  async function send(hub, message) {
    const response = await fetch(`${hub.url}/publish`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ message }),
    });
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), { status: "Message sent", message });
  }

  const updates = (page) => page.locator("#updates li");

  test("an EventSource on /events hears what is posted to /publish", async (t) => {
    const hub = await startHub(t);
    const page = await openPage(t, hub, "eventsource.html");
    await page.waitForFunction(() => document.title === "open");
    await send(hub, "from a server");
    await updates(page).first().waitFor();

    await page.getByLabel("Message").fill("from the page");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByText("200 Message sent: from the page").waitFor();
    await updates(page).nth(1).waitFor();
    assert.deepEqual(await updates(page).allTextContents(), ["from a server", "from the page"]);
    const fields = await updates(page).evaluateAll((items) => items.map(({ dataset }) => ({ ...dataset })));
    assert.equal(fields[1].text, "from the page");
    assert.match(fields[1].timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.ok(Number(fields[1].id) > Number(fields[0].id));

    await page.getByLabel("Message").fill("");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByText("400 Message is required").waitFor();
  });

  test("a fetch loop on /subscribe hears them one poll at a time", async (t) => {
    const hub = await startHub(t);
    const page = await openPage(t, hub, "long-poll.html");
    for (let count = 1; count <= 5; count += 1) {
      // As in the tutorials, the page misses what comes between two polls: wait until it polls.
      await retry(async () => {
        const polls = await page.locator("#polls").textContent();
        return Number(polls) === count && (await hub.channel("default"))?.pollers === 1;
      });
      await send(hub, `message ${count}`);
      await updates(page).nth(count - 1).waitFor();
    }
    const texts = [1, 2, 3, 4, 5].map((count) => `message ${count}`);
    assert.deepEqual(await updates(page).allTextContents(), texts);
  });

  test("with the id of the last one it misses nothing between polls", async (t) => {
    const hub = await startHub(t);
    const page = await openPage(t, hub, "long-poll.html", "&resume");
    await retry(async () => (await hub.channel("default"))?.pollers === 1);
    const texts = Array.from({ length: 30 }, (_, index) => `burst ${index}`);
    for (const text of texts) await send(hub, text);
    await updates(page).nth(29).waitFor();
    assert.deepEqual(await updates(page).allTextContents(), texts);
  });

  test("the native routes stay closed to it", async (t) => {
    const hub = await startHub(t);
    const page = await openPage(t, hub, "eventsource.html");
    const outcome = await page.evaluate(async (url) => {
      try {
        const init = { method: "POST", body: "from abroad", mode: "no-cors" };
        await fetch(`${url}/v1/channels/guarded/events`, init);
        const seen = await fetch(`${url}/v1/channels`);
        return seen.status;
      } catch (error) {
        return error.name;
      }
    }, hub.url);
    assert.equal(outcome, "TypeError");
    assert.equal(await hub.channel("guarded"), null);
  });
});
