// The console page, as a person uses it. VISNYK_PICTURES names a directory for pictures of it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { newContext, retry, startBrowser } from "./browser.mjs";
import { QUICK_RETRY, startHub } from "./hub.mjs";

const KEPT = process.env.VISNYK_PICTURES;
const LAPTOP = { viewport: { width: 1280, height: 800 } };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

describe("the console", { timeout: 180_000 }, () => {
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
  async function openConsole(t, hub, options, hash = "") {
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
    await page.getByRole("textbox", { name: "Channels" }).fill(channels);
    await page.getByLabel("Transport").selectOption(transport);
    await page.getByRole("button", { name: "Watch", exact: true }).click();
    await connected(page);
  }

  const rows = (page) => page.locator("#rows .row");

  test("its files are served with a strict policy and the right types", async (t) => {
    const hub = await startHub(t);
    const types = {
      "/": "text/html",
      "/console.css": "text/css",
      "/console.js": "text/javascript",
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
        await row.locator("summary").getByText(text, { exact: true }).waitFor();
      }
      await row.locator("summary").click();
      await row.getByText(id, { exact: true }).waitFor();

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

  test("lists the channels with their figures, and watches the one that is clicked", async (t) => {
    const hub = await startHub(t);
    await hub.publishNumbers("seen/before", 1, 3);
    const { page, errors } = await openConsole(t, hub, LAPTOP);
    const row = page.getByRole("row").filter({ hasText: "seen/before" });
    await row.waitFor();
    assert.deepEqual(await row.getByRole("cell").allTextContents(), ["seen/before", "0", "0", "3"]);
    await row.getByRole("button", { name: "Watch seen/before" }).click();
    await connected(page);
    await retry(async () => {
      const cells = await row.getByRole("cell").allTextContents();
      return cells[1] === "1";
    });
    // The next refresh leaves the focus where it is.
    await row.getByRole("button").focus();
    await hub.publish("seen/before", "4");
    await retry(async () => (await row.getByRole("cell").last().textContent()) === "4");
    assert.equal(await row.getByRole("button").evaluate((b) => b === document.activeElement), true);
    assert.deepEqual(errors, []);
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

    await page.getByRole("button", { name: "Clear" }).click();
    assert.equal(await rows(page).count(), 0);
    await page.getByText("Waiting for events on many").waitFor();
    assert.deepEqual(errors, []);
  });

  test("says what the hub refuses, and when a channel is closed", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const { page } = await openConsole(t, hub, LAPTOP);
    await connected(page);
    await page.getByRole("textbox", { name: "Channels" }).fill("a//b");
    await page.getByRole("button", { name: "Watch", exact: true }).click();
    await page.getByText("Refused", { exact: true }).first().waitFor();
    assert.notEqual(await page.getByRole("alert").textContent(), "");

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

  test("counts reconnects and says when it is cut off", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const { page } = await openConsole(t, hub, LAPTOP);
    await connected(page);
    await hub.crash();
    await page.getByText("Reconnecting", { exact: true }).first().waitFor();
    await page.getByText("Not up to date").waitFor();
    await startHub(t, { env: QUICK_RETRY, listen: new URL(hub.url).host });
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
    await page.locator("#rows").focus();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await rows(page).first().getByText("by hand").nth(1).waitFor();
    assert.deepEqual(errors, []);
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`fits a laptop and a phone (${colorScheme})`, async (t) => {
      const hub = await startHub(t);
      const long = "a/channel/with/a/name/that/is/longer/than/any/column/of/the/list/could/show";
      for (const [device, options] of [["laptop", LAPTOP], ["phone", PHONE]]) {
        const { page, errors } = await openConsole(t, hub, { ...options, colorScheme });
        await connected(page);
        const fits = async (view) => {
          const width = await page.evaluate(() => document.documentElement.scrollWidth);
          assert.equal(width, options.viewport.width, `${view} is too wide for a ${device}`);
          for (const part of await page.locator("#rows time, #rows .channel").all()) {
            const box = await part.boundingBox();
            if (box === null) continue; // Of a panel that the phone does not show now.
            assert.ok(box.width > 60 && box.x >= 16, `${view} hides parts of rows on a ${device}`);
            assert.ok(box.x + box.width <= options.viewport.width - 16);
          }
          for (const time of await page.locator("#rows time").all()) {
            assert.ok(await time.evaluate((part) => part.scrollWidth <= part.clientWidth));
          }
          const name = `${colorScheme}-${device}-${view}.png`;
          await page.screenshot({ path: path.join(pictures, name) });
        };
        await fits("empty");
        await watch(page, `${long} orders/**`);
        await hub.publish(long, "word ".repeat(200), "a-type-that-is-rather-long-as-well");
        await hub.publish("orders/7", `{"unbroken":"${"x".repeat(300)}"}`, "paid");
        await rows(page).nth(1).waitFor();
        await rows(page).first().locator("summary").click();
        await page.locator("#rows pre").waitFor();
        await fits("events");
        for (const view of ["Publish", "Channels"]) {
          const button = page.getByRole("navigation").getByRole("button", { name: view });
          if (device === "phone") await button.click();
          await page.getByRole("region", { name: view }).waitFor();
          await fits(view.toLowerCase());
        }
        assert.deepEqual(errors, []);
      }
    });
  }

  test("ten consoles at once share a stream", async (t) => {
    const hub = await startHub(t);
    const { page, errors } = await openConsole(t, hub, LAPTOP);
    const pages = [page];
    while (pages.length < 10) {
      const other = await page.context().newPage();
      await other.goto(`${hub.url}/`);
      pages.push(other);
    }
    for (const each of pages) await connected(each);
    assert.equal((await hub.channel("default")).subscribers, 1);
    await hub.publish("default", "for all ten");
    for (const each of pages) await rows(each).getByText("for all ten").waitFor();
    assert.deepEqual(errors, []);
  });
});
