// The console page, as a person uses it. VISNYK_PICTURES names a directory for pictures of it.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { violations } from "./axe.mjs";
import { newContext, retry, startBrowser, until } from "./browser.mjs";
import { QUICK_RETRY, startHub } from "./hub.mjs";

const KEPT = process.env.VISNYK_PICTURES;
const LAPTOP = { viewport: { width: 1440, height: 900 } };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

describe("the console", { timeout: 180_000, concurrency: 2 }, () => {
  let browser;
  let pictures;
  before(async () => {
    browser = await startBrowser();
    pictures = KEPT ?? (await mkdtemp(path.join(tmpdir(), "visnyk-console-")));
  });
  after(async () => {
    await browser.close();
    if (!KEPT) await rm(pictures, { recursive: true });
  });

  /** Opens the console; every error that the page or its console reports goes to `errors`. */
  async function openConsole(t, hub, options, hash = "#view=events") {
    const context = await newContext(t, browser, options);
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") errors.push(message.text());
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(hub.url)) errors.push(`asked for ${request.url()}`);
    });
    await page.goto(`${hub.url}/${hash}`);
    return { page, errors };
  }

  async function connected(page) {
    await page.getByText("Connected", { exact: true }).first().waitFor();
  }

  async function watch(page, channels, transport = "Automatic") {
    if (!(await page.locator("#watch-form").isVisible())) await page.locator("#watch-fold summary").click();
    await page.getByRole("textbox", { name: "Channels" }).fill(channels);
    await page.getByLabel("Transport").selectOption(transport);
    await page.getByRole("button", { name: "Watch", exact: true }).click();
    await connected(page);
  }

  const view = (page, name) => page.getByRole("navigation").getByRole("link", { name }).click();
  const rows = (page) => page.locator("#rows .row");
  const cells = (row) => row.getByRole("gridcell").allTextContents();

  test("its files are served with a strict policy and the right types", async (t) => {
    const hub = await startHub(t);
    const types = {
      "/": "text/html",
      "/console/console.css": "text/css",
      "/console/console.js": "text/javascript",
      "/console/chart.js": "text/javascript",
      "/visnyk.js": "text/javascript",
      "/favicon.svg": "image/svg+xml",
    };
    for (const [route, type] of Object.entries(types)) {
      const response = await fetch(hub.url + route);
      assert.equal(response.status, 200, route);
      assert.ok(response.headers.get("content-type").startsWith(type), route);
    }
    const policy = (await fetch(`${hub.url}/`)).headers.get("content-security-policy");
    assert.match(policy, /default-src '(none|self)'/);
    assert.doesNotMatch(policy, /unsafe/);
    assert.equal((await fetch(`${hub.url}/console/none.js`)).status, 404);
  });

  test("a fresh page shows the last minutes of the hub", async (t) => {
    const hub = await startHub(t);
    await hub.publishNumbers("before", 1, 20);
    const sampled = async (count) => (await (await fetch(`${hub.url}/v1/samples`)).json()).samples.length >= count;
    await fetch(`${hub.url}/v1/channels/before/events`, { method: "POST", body: "x".repeat(2 << 20) });
    await retry(() => sampled(2));
    const { page, errors } = await openConsole(t, hub, LAPTOP, "");
    await page.getByText("requests: body too large").waitFor();
    assert.equal(await page.locator("#overview-facts dd").nth(1).textContent(), "0.1.0");
    const chart = (name) => page.locator("figure", { has: page.getByText(name, { exact: true }) });
    const line = await chart("Events a second").locator("path.s0").getAttribute("d");
    assert.match(line, /^M[\d.]+ [\d.]+h0.1L/, "two samples or more are one line");
    assert.match(await chart("Memory").locator("b").first().textContent(), /MiB$/);
    assert.match(await chart("Events a second").getByRole("img").getAttribute("aria-label"), /^Events a second: /);
    // The arrow keys show the values of another moment, in all charts at once.
    await page.getByRole("group", { name: /Charts/ }).focus();
    await page.keyboard.press("ArrowLeft");
    assert.equal(await page.locator("#charts .cursor").count(), 12);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#charts .cursor").count(), 0);
    assert.deepEqual(errors, []);
  });

  for (const transport of ["SSE", "Long-poll"]) {
    test(`watches several channels, shows events and publishes (${transport})`, async (t) => {
      const hub = await startHub(t);
      const { page, errors } = await openConsole(t, hub, LAPTOP);
      await connected(page);
      await page.getByText("Waiting for events on default").waitFor();
      await watch(page, "orders/** prices/EUR", transport);
      assert.equal(await page.locator("#fact-transport").textContent(), transport);

      const id = await hub.publish("orders/eu/7", '{"total":12}', "paid");
      await hub.publish("prices/EUR", "1.08");
      await hub.publish("prices/USD", "not watched");
      await rows(page).nth(1).waitFor();
      assert.equal(await rows(page).count(), 2);
      const row = rows(page).nth(1);
      for (const text of ["orders/eu/7", "paid", '{"total":12}']) {
        await row.locator(".line").getByText(text, { exact: true }).waitFor();
      }
      await row.locator(".line").click();
      await row.getByText(id, { exact: true }).waitFor();
      await row.locator(".line").click();

      const form = page.locator("#publish-form");
      await form.getByLabel("Channel").fill("orders/8");
      await form.getByLabel("Type").fill("shipped");
      await form.getByLabel("Data").fill("from the page");
      await form.getByRole("button", { name: "Publish" }).click();
      await page.getByText(/^Published as /).waitFor();
      await rows(page).first().getByText("from the page").waitFor();
      assert.equal(await page.locator("#fact-events").textContent(), "3");
      assert.deepEqual(errors, []);
    });
  }

  test("lists channels: searches, sorts, watches one, closes one", async (t) => {
    const hub = await startHub(t);
    await hub.publishNumbers("seen/before", 1, 3);
    await hub.publishNumbers("seen/much", 1, 30);
    await hub.publish("other", "x");
    const { page, errors } = await openConsole(t, hub, LAPTOP, "#view=channels");
    const grid = page.getByRole("grid", { name: "Channels" });
    const row = (name) => grid.getByRole("row").filter({ hasText: name });
    const names = () => grid.locator(".sizer .r > :first-child").allTextContents();
    await row("seen/before").waitFor();
    const [name, streams, polls, , retained] = await cells(row("seen/before"));
    assert.deepEqual([name, streams, polls, retained], ["seen/before", "0", "0", "3"]);

    await page.getByRole("button", { name: "Retained" }).click();
    const heading = grid.getByRole("columnheader", { name: "Retained" });
    assert.equal(await heading.getAttribute("aria-sort"), "descending");
    const top = await row("seen/much").boundingBox();
    assert.ok(top.y < (await row("seen/before").boundingBox()).y);
    await page.getByLabel("Search channels").fill("SEEN");
    await page.getByText("2 of 3 channels").waitFor();
    assert.deepEqual((await names()).sort(), ["seen/before", "seen/much"]);
    await page.getByLabel("Search channels").fill("nothing like it");
    await page.getByText("Nothing fits the search.").waitFor();
    await page.getByLabel("Search channels").fill("seen");

    // The next look has a rate, and leaves the focus where it is.
    await row("seen/before").focus();
    await hub.publishNumbers("seen/before", 4, 60);
    await retry(async () => Number((await cells(row("seen/before")))[3]) > 0);
    assert.equal(await row("seen/before").evaluate((r) => r === document.activeElement), true);

    await page.keyboard.press("Enter");
    const drawer = page.getByRole("complementary", { name: "The chosen channel" });
    await drawer.getByText("Events since the start").waitFor();
    await drawer.getByRole("button", { name: "Watch" }).click();
    await page.getByText("Waiting for events on seen/before").waitFor();
    await connected(page);
    assert.match(page.url(), /#channel=seen%2Fbefore$/);

    await view(page, "Channels");
    await drawer.getByText("1 stream and 0 waiting polls receive it.").waitFor();
    await drawer.getByRole("button", { name: /^Close channel/ }).click();
    const dialog = page.getByRole("dialog", { name: "Close seen/before?" });
    await dialog.getByRole("button", { name: "Cancel" }).click();
    assert.equal((await hub.channel("seen/before")).closed, false);
    await drawer.getByRole("button", { name: /^Close channel/ }).click();
    await dialog.getByRole("button", { name: "Close channel" }).click();
    await drawer.getByText(/^It is closed/).waitFor();
    assert.equal((await hub.channel("seen/before")).closed, true);
    await view(page, "Events");
    await page.getByText("Channel closed", { exact: true }).first().waitFor();
    assert.deepEqual(errors, []);
  });

  test("lists connections, says why one is behind, and ends it", async (t) => {
    const lagging = {
      VISNYK_LIMITS__CONNECTIONS__LAG_EVENTS_MAX: "100000",
      VISNYK_LIMITS__CONNECTIONS__LAG_BYTES_MAX: "100000000",
      VISNYK_LIMITS__HISTORY__BYTES_MAX: "100000000",
    };
    const hub = await startHub(t, { env: { ...QUICK_RETRY, ...lagging } });
    // A client that stops reading, as a phone in a tunnel does.
    const socket = connect({ port: new URL(hub.url).port, host: "127.0.0.1", noDelay: true });
    t.after(() => socket.destroy());
    await once(socket, "connect");
    socket.write("GET /v1/events?channel=slow%2F** HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n");
    await once(socket, "data");
    socket.pause();
    const { page, errors } = await openConsole(t, hub, LAPTOP, "#view=connections");
    const grid = page.getByRole("grid", { name: "Connections" });
    const row = grid.getByRole("row").filter({ hasText: "slow/**" });
    await row.filter({ hasText: "live" }).waitFor();
    for (let n = 0; n < 16; n += 1) await hub.publish("slow/a", "x".repeat(1_000_000));
    await row.filter({ hasText: "blocked" }).waitFor();
    await page.getByText(/ in all: 1 blocked$/).waitFor();
    // Those that lag most come first.
    assert.equal(await row.getAttribute("aria-rowindex"), "2");
    // Its socket took nothing between two looks.
    await retry(async () => (await row.locator(":scope > :nth-child(6)").textContent()) === "0");
    await page.getByLabel("Search connections").fill("slow/");
    await page.getByText(/^1 listed/).waitFor();
    await row.click();
    const drawer = page.getByRole("complementary", { name: "The chosen connection" });
    await drawer.getByText(/^Its socket takes no more bytes\./).waitFor();
    await drawer.getByText("it is disconnected").waitFor();
    await drawer.getByRole("button", { name: /^End connection/ }).click();
    const dialog = page.getByRole("dialog", { name: /^End connection/ });
    await dialog.getByRole("button", { name: "End connection" }).click();
    await drawer.getByText("An administrator ended it.").waitFor();
    await page.getByLabel("Show").selectOption("Ended lately");
    await row.filter({ hasText: "ended by admin" }).waitFor();
    const ended = grid.getByRole("columnheader", { name: "Ended" });
    assert.equal(await ended.getAttribute("aria-sort"), "descending");
    assert.match((await cells(row)).at(-1), /^\d\d:\d\d:\d\d$/);
    assert.equal(await drawer.getByRole("button", { name: /^End connection/ }).count(), 0);
    assert.deepEqual(errors, []);
  });

  test("says why the facts of a row are not to be had, and not of a row that was chosen before", async (t) => {
    const hub = await startHub(t);
    for (const name of ["first", "second"]) {
      const asked = new AbortController();
      t.after(() => asked.abort());
      const { body } = await fetch(`${hub.url}/v1/events?channel=${name}`, { signal: asked.signal });
      body.pipeTo(new WritableStream()).catch(() => {});
    }
    const context = await newContext(t, browser, LAPTOP);
    const page = await context.newPage();
    const asked = new Map();
    await page.route("**/v1/connections/*", (route) => asked.set(route.request().url(), route));
    await page.goto(`${hub.url}/#view=connections`);
    const grid = page.getByRole("grid", { name: "Connections" });
    const choose = async (name) => {
      const before = [...asked.keys()];
      await grid.getByRole("row").filter({ hasText: name }).click();
      await retry(async () => asked.size > before.length);
      return [...asked].find(([url]) => !before.includes(url))[1];
    };
    const drawer = page.getByRole("complementary", { name: "The chosen connection" });
    const [first, second] = [await choose("first"), await choose("second")];
    await second.fulfill({ status: 500, json: { detail: "the second cannot be read" } });
    await drawer.getByText("The hub refuses this: the second cannot be read.").waitFor();
    const answered = page.waitForResponse(first.request().url());
    await first.fulfill({ status: 500, json: { detail: "the first cannot be read" } });
    await answered;
    await page.waitForTimeout(200);
    assert.equal(await drawer.getByText("The hub refuses this: the second cannot be read.").count(), 1);
  });

  test("shows how many events and bytes a second each connection is sent", async (t) => {
    const hub = await startHub(t);
    const read = async (query) => {
      const asked = new AbortController();
      t.after(() => asked.abort());
      const { body } = await fetch(`${hub.url}/v1/events?${query}`, { signal: asked.signal });
      body.pipeTo(new WritableStream()).catch(() => {});
    };
    await Promise.all(["channel=a/1", "channel=a/*", "channel=b&channel=a/**", "channel=**&type=x", "channel=c"].map(read));
    const { page, errors } = await openConsole(t, hub, LAPTOP, "#view=connections");
    const grid = page.getByRole("grid", { name: "Connections" });
    // All of one look, by what each connection is subscribed to.
    const look = () => grid.locator(".sizer .r").evaluateAll((rows) =>
      Object.fromEntries(rows.map(({ children }) => [children[1].textContent, children[5].textContent])));
    // The console's own stream may be listed beside them.
    await retry(async () => Object.keys(await look()).length >= 5);
    // Twice as much to a/1 as to a/2, as long as it takes for a look to begin and end within.
    const publishing = setInterval(() => {
      for (const name of ["a/1", "a/1", "a/2"]) hub.publish(name, "x").catch(() => {});
    }, 50);
    t.after(() => clearInterval(publishing));
    let rates;
    await retry(async () => {
      rates = await look();
      return Number(rates["a/1"]) > 15 && Number(rates["a/*"]) > 25;
    });
    assert.ok(Number(rates["a/*"]) < 100 && Number(rates["a/1"]) < 70, JSON.stringify(rates));
    assert.equal(rates["b a/**"], rates["a/*"]);
    assert.deepEqual([rates.c, rates["**"]], ["0", "–"]);
    // From top to bottom, which is not their order in the document.
    const bytes = () => grid.locator(".sizer .r").evaluateAll((rows) => rows
      .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)
      .map(({ children }) => [children[1].textContent, children[6].textContent]));
    await retry(async () => {
      const found = Object.fromEntries(await bytes());
      return /^[1-9][\d.,]* (B|KiB)$/.test(found["a/1"]) && found.c === "0 B";
    });
    await grid.getByRole("columnheader", { name: "Bytes/s" }).click();
    await retry(async () => {
      const order = (await bytes()).map(([channels]) => channels);
      return order.indexOf("a/*") < order.indexOf("a/1") && order.indexOf("a/1") < order.indexOf("c");
    });
    await grid.getByRole("row").filter({ has: page.getByText("a/1", { exact: true }) }).click();
    const drawer = page.getByRole("complementary", { name: "The chosen connection" });
    await drawer.getByText("Events a second").waitFor();
    await drawer.getByText("Bytes sent").waitFor();
    assert.deepEqual(errors, []);
  });

  test("opens no stream before events are shown, and says when a connection has ended meanwhile", async (t) => {
    const hub = await startHub(t);
    const { page } = await openConsole(t, hub, LAPTOP, "#view=connections");
    const asked = new AbortController();
    t.after(() => asked.abort());
    const { body } = await fetch(`${hub.url}/v1/events?channel=a`, { signal: asked.signal });
    body.pipeTo(new WritableStream()).catch(() => {});
    await page.getByText(/^1 listed · 1 stream/).waitFor();
    assert.equal(await page.locator("#state").isVisible(), false);
    await page.getByRole("grid", { name: "Connections" }).locator(".sizer .r").click();
    const drawer = page.getByRole("complementary", { name: "The chosen connection" });
    await drawer.getByRole("button", { name: /^End connection/ }).click();
    asked.abort();
    await retry(async () => (await (await fetch(`${hub.url}/v1/status`)).json()).connections.streams === 0);
    const dialog = page.getByRole("dialog", { name: /^End connection/ });
    const yes = dialog.getByRole("button", { name: "End connection" });
    await yes.click();
    await dialog.getByText(/^Not done: .* has ended: peer_closed/).waitFor();
    assert.equal(await yes.isDisabled(), true);
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await view(page, "Events");
    await connected(page);
    assert.equal((await hub.channel("default")).subscribers, 1);
  });

  test("10,000 rows are a few dozen in the page", async (t) => {
    const hub = await startHub(t);
    const context = await newContext(t, browser, LAPTOP);
    const page = await context.newPage();
    const name = (n) => `room/${String(n).padStart(5, "0")}`;
    await page.route("**/v1/channels?*", (route) => {
      const after = new URL(route.request().url()).searchParams.get("after");
      const first = after === null ? 0 : Number(after.slice(5)) + 1;
      const channels = Array.from({ length: 1_000 }, (_, index) => ({
        channel: name(first + index), subscribers: (first + index) % 7, pollers: 0, events_total: first + index,
        events_retained: 1, bytes_retained: 44, truncated: false, first_id: "a-1", last_id: "a-1", closed: false,
      }));
      const next = first + 1_000 < 10_000 ? { next: name(first + 999) } : {};
      route.fulfill({ json: { channels, ...next } });
    });
    await page.goto(`${hub.url}/#view=channels`);
    const grid = page.getByRole("grid", { name: "Channels" });
    await page.getByText("10,000 channels").waitFor();
    assert.equal(await grid.getAttribute("aria-rowcount"), "10001");
    const drawn = () => grid.locator(".sizer .r").count();
    assert.ok((await drawn()) < 80, `${await drawn()} rows`);
    await grid.getByRole("row").filter({ hasText: name(0) }).focus();
    await page.keyboard.press("End");
    await grid.getByText(name(9_999)).waitFor();
    assert.ok((await drawn()) < 80, `${await drawn()} rows`);
    await page.keyboard.press("PageUp");
    await page.keyboard.press("Home");
    await page.getByRole("button", { name: "Streams" }).click();
    assert.equal(await grid.locator('.sizer .r[aria-rowindex="2"] > :nth-child(2)').textContent(), "6");
    await page.screenshot({ path: path.join(pictures, "light-laptop-rows.png") });
  });

  test("starts from all that is retained, pauses, clears, and keeps a bounded list", async (t) => {
    const hub = await startHub(t);
    await hub.publishNumbers("many", 1, 800);
    const { page, errors } = await openConsole(t, hub, LAPTOP, "#channel=many&from=earliest");
    await page.getByText("Newest 500 of 800 events").waitFor();
    assert.equal(await rows(page).count(), 500);
    await rows(page).first().getByText("800", { exact: true }).waitFor();

    await page.getByRole("button", { name: "Pause" }).click();
    await hub.publish("many", "held");
    await page.getByText("paused, 1 held back").waitFor();
    await rows(page).first().getByText("800", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await rows(page).first().getByText("held", { exact: true }).waitFor();
    assert.equal(await rows(page).count(), 500);

    // New events wait while a person reads further down.
    await page.locator("#rows").evaluate((list) => (list.scrollTop = 900));
    await hub.publishNumbers("many", 801, 803);
    const pill = page.getByRole("button", { name: "3 new" });
    await pill.waitFor();
    await rows(page).first().getByText("held", { exact: true }).waitFor();
    await pill.click();
    await rows(page).first().getByText("803", { exact: true }).waitFor();
    assert.equal(await page.locator("#rows").evaluate((list) => list.scrollTop), 0);
    await page.locator("#pill").waitFor({ state: "hidden" });

    await page.getByRole("button", { name: "Clear" }).click();
    assert.equal(await rows(page).count(), 0);
    await page.getByText("Waiting for events on many").waitFor();
    assert.deepEqual(errors, []);
  });

  test("says that it catches up, and how much has come", async (t) => {
    const hub = await startHub(t);
    await hub.publishNumbers("old", 1, 300);
    // Events older than the difference that clocks may have are history.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const page = await (await newContext(t, browser, LAPTOP)).newPage();
    // What the state has said, however short it was seen.
    await page.addInitScript(() => {
      window.heard = [];
      new MutationObserver(() => {
        const text = document.getElementById("state-text")?.textContent;
        if (text && text !== heard.at(-1)) heard.push(text);
      }).observe(document, { subtree: true, childList: true, characterData: true });
    });
    await page.goto(`${hub.url}/#channel=old&from=earliest`);
    await until(page, () => heard.some((text) => /^Catching up: [\d,]+ events/.test(text)) && heard.at(-1) === "Connected");
    assert.equal(await page.locator("#fact-events").textContent(), "300");
  });

  test("filters, copies, shows data in three ways, with one tab stop and the arrow keys", async (t) => {
    const hub = await startHub(t);
    const options = { ...LAPTOP, permissions: ["clipboard-read", "clipboard-write"] };
    const { page, errors } = await openConsole(t, hub, options);
    await connected(page);
    await watch(page, "mix/*");
    await hub.publish("mix/a", '{"total":12,"open":true}', "paid");
    await hub.publish("mix/b", "plain words");
    await hub.publish("mix/c", "more words");
    await rows(page).nth(2).waitFor();
    assert.equal(await page.locator('#rows button[tabindex="0"]').count(), 1);
    // The filter and the list: two tab stops, with the buttons between them.
    await page.locator("#clear").focus();
    await page.keyboard.press("Tab");
    const focused = () => page.evaluate(() => document.activeElement.querySelector(".channel")?.textContent);
    assert.equal(await focused(), "mix/c");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    assert.equal(await focused(), "mix/a");
    await page.keyboard.press("Home");
    assert.equal(await focused(), "mix/c");
    await page.keyboard.press("End");
    await page.keyboard.press("Enter");
    const row = rows(page).last();
    const text = () => row.locator("pre").textContent();
    assert.equal(await text(), '{\n  "total": 12,\n  "open": true\n}');
    await row.getByRole("button", { name: "Raw", exact: true }).click();
    assert.equal(await text(), '{"total":12,"open":true}');
    await row.getByRole("button", { name: "JSON", exact: true }).click();
    assert.equal(JSON.parse(await text()).type, "paid");
    const copied = () => page.evaluate(() => navigator.clipboard.readText());
    await row.getByRole("button", { name: "Copy as JSON" }).click();
    await row.getByRole("button", { name: "Copied" }).waitFor();
    assert.equal(JSON.parse(await copied()).data, '{"total":12,"open":true}');
    await row.locator(".line").focus();
    await page.keyboard.press("c");
    await retry(async () => (await copied()) === '{"total":12,"open":true}');
    await page.keyboard.press("Enter");

    await page.getByLabel("Filter").fill("WORDS");
    await page.getByText("2 of 3 events match").waitFor();
    assert.equal(await rows(page).filter({ visible: true }).count(), 2);
    await hub.publish("mix/d", "without it");
    await page.getByText("2 of 4 events match").waitFor();
    await page.getByLabel("Filter").fill("");
    await page.getByText("4 events").waitFor();
    assert.equal(await rows(page).filter({ visible: true }).count(), 4);
    assert.deepEqual(errors, []);
  });

  test("says what the hub refuses, and when a channel is closed", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const { page } = await openConsole(t, hub, LAPTOP);
    await connected(page);
    await page.getByRole("textbox", { name: "Channels" }).fill("a//b");
    await page.getByRole("button", { name: "Watch", exact: true }).click();
    await page.getByText("Refused", { exact: true }).first().waitFor();
    assert.notEqual(await page.locator("#watch-error").textContent(), "");

    await watch(page, "brief");
    await hub.publish("brief", "last words");
    await hub.closeChannel("brief");
    await page.getByText("Channel closed", { exact: true }).first().waitFor();
    await page.getByText("Channel closed: brief").waitFor();
    await rows(page).getByText("last words").waitFor();

    const form = page.locator("#publish-form");
    await form.getByLabel("Channel").fill("a/../b");
    await form.getByLabel("Data").fill("x");
    await form.getByRole("button", { name: "Publish" }).click();
    await page.getByText(/^Not published: /).waitFor();
  });

  test("counts down to the next try while the hub is away", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const { page } = await openConsole(t, hub, LAPTOP);
    await connected(page);
    await hub.crash();
    await page.getByText(/^Reconnecting/).first().waitFor();
    await view(page, "Channels");
    await page.getByText("The hub does not answer").waitFor();
    await page.getByText(/^Trying again in \d+ s\.$/).waitFor();
    await page.screenshot({ path: path.join(pictures, "light-laptop-away.png") });
    await startHub(t, { env: QUICK_RETRY, listen: new URL(hub.url).host });
    await page.getByRole("button", { name: "Try now" }).click();
    await page.locator("#banner").waitFor({ state: "hidden" });
    await view(page, "Events");
    await connected(page);
    await retry(async () => Number(await page.locator("#fact-reconnects").textContent()) >= 1);
  });

  test("works by keyboard alone", async (t) => {
    const hub = await startHub(t);
    const { page, errors } = await openConsole(t, hub, LAPTOP);
    await connected(page);
    const channels = page.getByRole("textbox", { name: "Channels" });
    await channels.focus();
    await page.keyboard.press("ControlOrMeta+a");
    await page.keyboard.type("keys/*");
    await page.keyboard.press("Enter");
    await page.getByText("Waiting for events on keys/*").waitFor();
    await connected(page);
    await page.locator("#publish-channel").focus();
    await page.keyboard.press("ControlOrMeta+a");
    await page.keyboard.type("keys/a");
    await page.keyboard.press("Tab");
    await page.keyboard.type("pressed");
    await page.keyboard.press("Tab");
    await page.keyboard.type("by hand");
    await page.keyboard.press("Control+Enter");
    await rows(page).first().waitFor();
    await page.locator("#clear").focus();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await rows(page).first().getByText("by hand").nth(1).waitFor();
    assert.deepEqual(errors, []);
  });

  for (const colorScheme of ["light", "dark"]) {
    for (const [device, options] of [["laptop", LAPTOP], ["phone", PHONE]]) {
      test(`fits a ${device} and is accessible (${colorScheme})`, async (t) => {
        const hub = await startHub(t);
        const long = "a/channel/with/a/name/that/is/longer/than/any/column/of/the/list/could/show";
        const { page, errors } = await openConsole(t, hub, { ...options, colorScheme }, "");
        const fits = async (shown) => {
          const width = await page.evaluate(() => document.documentElement.scrollWidth);
          assert.equal(width, options.viewport.width, `${shown} is too wide`);
          for (const part of await page.locator("#rows time, #rows .channel").all()) {
            const box = await part.boundingBox();
            if (box === null) continue; // Of a view that is not shown now.
            assert.ok(box.width > 60 && box.x >= 16, `${shown} hides parts of rows`);
            assert.ok(box.x + box.width <= options.viewport.width - 16);
          }
          const name = `${colorScheme}-${device}-${shown}.png`;
          await page.screenshot({ path: path.join(pictures, name) });
          assert.deepEqual(await violations(page), [], shown);
        };
        await page.locator("#overview-facts dd").first().waitFor();
        await fits("overview");
        await view(page, "Events");
        await connected(page);
        await fits("empty");
        await watch(page, `${long} orders/**`);
        await hub.publish(long, "word ".repeat(200), "a-type-that-is-rather-long-as-well");
        await hub.publish("orders/7", `{"unbroken":"${"x".repeat(300)}"}`, "paid");
        await rows(page).nth(1).waitFor();
        await rows(page).first().locator(".line").click();
        await page.locator("#rows pre").waitFor();
        await hub.publish("orders/8", "held back");
        await page.getByRole("button", { name: "1 new" }).waitFor();
        await fits("events");
        for (const shown of ["Channels", "Connections"]) {
          await view(page, shown);
          const grid = page.getByRole("grid", { name: shown });
          await grid.locator(".sizer .r").first().click();
          await page.locator("aside:visible").getByText(/receive it\.|sent everything/).waitFor();
          await fits(shown.toLowerCase());
        }
        if (device === "phone") {
          // The form is folded away, and opens over the list.
          await view(page, "Events");
          assert.equal(await page.locator("#watch-form").isVisible(), false);
          assert.equal(await page.locator("#publish-form").isVisible(), false);
          await page.locator("#publish-fold summary").click();
          await page.locator("#publish-form").getByLabel("Data").fill("x");
          await fits("publish");
        }
        assert.deepEqual(errors, []);
      });
    }
  }

  test("ten consoles at once share a stream", async (t) => {
    const hub = await startHub(t);
    const { page, errors } = await openConsole(t, hub, LAPTOP);
    const pages = [page];
    while (pages.length < 10) {
      const other = await page.context().newPage();
      await other.goto(`${hub.url}/#view=events`);
      pages.push(other);
    }
    for (const each of pages) await connected(each);
    assert.equal((await hub.channel("default")).subscribers, 1);
    await hub.publish("default", "for all ten");
    for (const each of pages) await rows(each).getByText("for all ten").waitFor({ state: "attached" });
    assert.deepEqual(errors, []);
  });
});
