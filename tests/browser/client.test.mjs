// The client module, /visnyk.js: transports, refusals, one stream for all tabs.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
  blankPage,
  heard,
  newContext,
  numbers,
  openClient,
  retry,
  startBrowser,
  until,
  untilOpen,
} from "./browser.mjs";
import { QUICK_RETRY, startHub } from "./hub.mjs";
import { isStream, startCuttingProxy, startFaultyProxy } from "./proxy.mjs";

const LIMIT = { timeout: 180_000 };

describe("visnyk.js", LIMIT, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  test("events of every type arrive with id, channel, type and time", async (t) => {
    const hub = await startHub(t);
    const page = await blankPage(await newContext(t, browser), hub.url);
    await page.evaluate(async () => {
      const { Visnyk } = await import("/visnyk.js");
      window.hub = new Visnyk({ channels: ["orders/**", "news"] });
      hub.on("paid", ({ data }) => heard.push(`paid ${data}`));
      hub.on("*", (event) => heard.push(event));
    });
    await untilOpen(page, "sse");
    const ids = [
      await hub.publish("orders/eu/7", "one\ntwo", "paid"),
      await hub.publish("news", "plain"),
      await hub.publish("orders/8", "", "never seen before"),
      await hub.publish("orders/9", "no failure", "error"),
    ];
    await hub.publish("elsewhere", "not for us");
    await until(page, () => heard.length >= 5);
    const [paid, ...events] = await heard(page);
    assert.equal(paid, "paid one\ntwo");
    for (const { time } of events) assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const rest = events.map(({ id, channel, type, data }) => ({ id, channel, type, data }));
    assert.deepEqual(rest, [
      { id: ids[0], channel: "orders/eu/7", type: "paid", data: "one\ntwo" },
      { id: ids[1], channel: "news", type: "message", data: "plain" },
      { id: ids[2], channel: "orders/8", type: "never seen before", data: "" },
      { id: ids[3], channel: "orders/9", type: "error", data: "no failure" },
    ]);
    assert.equal(await page.evaluate(() => hub.position), ids[3]);
  });

  test("types are filtered by the hub, and a handler that throws disturbs nothing", async (t) => {
    const hub = await startHub(t);
    const page = await blankPage(await newContext(t, browser), hub.url);
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    await openClient(page, { channels: "mixed", types: ["b"] });
    await page.evaluate(() => {
      window.hub.on("b", () => {
        throw new Error("a bug of the page");
      });
    });
    await untilOpen(page);
    await hub.publish("mixed", "1", "a");
    await hub.publish("mixed", "2", "b");
    await hub.publish("mixed", "3", "b");
    await until(page, () => heard.length >= 2);
    assert.deepEqual(await heard(page), ["2", "3"]);
    assert.deepEqual(errors, ["a bug of the page", "a bug of the page"]);
  });

  for (const transport of ["sse", "poll"]) {
    test(`it begins with the last events of each channel (${transport})`, async (t) => {
      const hub = await startHub(t, { env: QUICK_RETRY });
      await hub.publishNumbers("busy", 1, 20);
      await hub.publish("quiet", "only");
      await hub.publish("quiet", "not this type", "other");
      const page = await blankPage(await newContext(t, browser), hub.url);
      const channels = ["busy", "quiet"];
      await openClient(page, { channels, types: ["message"], last: 2, transport });
      await untilOpen(page, transport);
      await until(page, () => heard.length >= 3);
      await hub.publish("busy", "live");
      await until(page, () => heard.at(-1) === "live");
      assert.deepEqual(await heard(page), ["19", "20", "only", "live"]);
      const refused = await page.evaluate(async () => {
        const { Visnyk } = await import("/visnyk.js");
        try {
          return new Visnyk({ channels: "a", last: 1001 }).state.state;
        } catch (error) {
          return error.message;
        }
      });
      assert.equal(refused, "last is a whole number from 1 to 1000, not 1001");
    });
  }

  test("it rides out 502 and 503 of a proxy", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const proxy = await startFaultyProxy(t, hub.url);
    const page = await blankPage(await newContext(t, browser), proxy.url);
    await openClient(page, { channels: "bumpy" });
    await untilOpen(page, "sse");
    await hub.publish("bumpy", "1");

    for (const status of [502, 503]) {
      const seen = proxy.requests.length;
      proxy.fault = () => ({ status, headers: { "Content-Type": "text/html" }, body: "<p>down" });
      proxy.cut();
      await until(page, () => hub.state.state === "reconnecting");
      await hub.publish("bumpy", `while ${status}`);
      await retry(() => proxy.requests.length >= seen + 3);
      proxy.fault = () => null;
      await untilOpen(page);
    }
    await hub.publish("bumpy", "end");
    await until(page, () => heard.at(-1) === "end");
    assert.deepEqual(await heard(page), ["1", "while 502", "while 503", "end"]);
    assert.ok((await page.evaluate(() => window.hub.state.reconnects)) >= 2);
  });

  test("it polls where streams are refused, and goes on at the same position", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const proxy = await startFaultyProxy(t, hub.url);
    const page = await blankPage(await newContext(t, browser), proxy.url);
    await openClient(page, { channels: "blocked" });
    await untilOpen(page, "sse");
    await hub.publishNumbers("blocked", 1, 20);
    await until(page, () => heard.length >= 20);

    proxy.fault = (request) => (isStream(request) ? { status: 403 } : null);
    proxy.cut();
    await hub.publishNumbers("blocked", 21, 250);
    await untilOpen(page, "poll");
    await hub.publishNumbers("blocked", 251, 260);
    await until(page, () => heard.length >= 260);
    assert.deepEqual(await heard(page), numbers(1, 260));
  });

  test("it polls where streams are held back, and returns when they come through", async (t) => {
    const hub = await startHub(t);
    const proxy = await startFaultyProxy(t, hub.url);
    const context = await newContext(t, browser);
    const page = await context.newPage();
    await page.clock.install();
    await page.goto(`${proxy.url}/healthz`);
    await page.evaluate(() => (window.heard = []));
    proxy.fault = (request) => (isStream(request) ? "silence" : null);
    await openClient(page, { channels: "held" });
    await retry(() => proxy.requests.some(({ fault }) => fault === "silence"));
    await page.clock.runFor(11_000);
    await untilOpen(page, "poll");
    await hub.publish("held", "by poll");
    await until(page, () => heard.length === 1);

    const streams = () => proxy.requests.filter(({ url }) => url.startsWith("/v1/events")).length;
    const before = streams();
    proxy.fault = () => null;
    await retry(async () => {
      await page.clock.runFor(2_000);
      return streams() > before;
    });
    await untilOpen(page, "sse");
    await hub.publish("held", "by stream");
    await until(page, () => heard.length === 2);
    assert.deepEqual(await heard(page), ["by poll", "by stream"]);
  });

  test("connections cut at random while it changes transports lose and repeat nothing", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const faulty = await startFaultyProxy(t, hub.url);
    const proxy = await startCuttingProxy(t, faulty.url);
    const page = await blankPage(await newContext(t, browser), proxy.url);
    await openClient(page, { channels: ["mix/*"] });
    await untilOpen(page, "sse");
    const budgets = [3_001, 411, 5_557, 950, 4_001];
    let connections = 0;
    proxy.budget = () => budgets[(connections += 1) % budgets.length];
    const last = 300;
    for (let first = 1; first <= last; first += 10) {
      if (first === 101) faulty.fault = (request) => (isStream(request) ? { status: 405 } : null);
      if (first % 50 === 1) proxy.cutAll();
      await hub.publishNumbers(`mix/${first % 3}`, first, first + 9);
      await until(page, (count) => heard.length >= count, first);
    }
    proxy.budget = () => Infinity;
    await until(page, (count) => heard.length >= count, last);
    await hub.publish("mix/0", "end");
    await until(page, () => heard.at(-1) === "end");
    assert.deepEqual(await heard(page), [...numbers(1, last), "end"]);
  });

  test("a hub that was restarted says so, and the client goes on", async (t) => {
    const first = await startHub(t, { env: QUICK_RETRY });
    const page = await blankPage(await newContext(t, browser), first.url);
    await openClient(page, { channels: "epoch" });
    await untilOpen(page);
    await first.publish("epoch", "before");
    await until(page, () => heard.length === 1);
    await first.crash();
    await until(page, () => hub.state.state === "reconnecting");
    const second = await startHub(t, { env: QUICK_RETRY, listen: new URL(first.url).host });
    await untilOpen(page);
    await second.publish("epoch", "after");
    await until(page, () => heard.length === 2);
    assert.deepEqual(await heard(page), ["before", "after"]);
    const notices = await page.evaluate(() => window.notices);
    assert.deepEqual(notices.map(({ type, reason }) => [type, reason]), [["visnyk.gap", "epoch"]]);
  });

  for (const transport of ["sse", "poll"]) {
    test(`a deleted channel ends it (${transport})`, async (t) => {
      const hub = await startHub(t, { env: QUICK_RETRY });
      const page = await blankPage(await newContext(t, browser), hub.url);
      await openClient(page, { channels: ["one", "two"], transport });
      await untilOpen(page, transport);
      await hub.publish("one", "1");
      await until(page, () => heard.length === 1);
      await hub.closeChannel("one");
      await hub.publish("two", "2");
      await until(page, () => heard.length === 2);
      assert.equal(await page.evaluate(() => window.hub.state.state), "open");
      await hub.closeChannel("two");
      await until(page, () => hub.state.state === "closed");
      assert.equal(await page.evaluate(() => window.hub.state.reason), "gone");

      // One that comes later gets 204 or 410, and stops too.
      await openClient(page, { channels: ["one"], transport });
      await until(page, () => hub.state.state === "closed");
      assert.equal(await page.evaluate(() => window.hub.state.reason), "gone");
    });
  }

  test("a subscription that the hub refuses for good ends it with the reason", async (t) => {
    const hub = await startHub(t);
    const page = await blankPage(await newContext(t, browser), hub.url);
    await openClient(page, { channels: ["a//b"] });
    await until(page, () => hub.state.state === "closed");
    const state = await page.evaluate(() => window.hub.state);
    assert.equal(state.reason, "refused");
    assert.equal(state.status, 400);
    assert.ok(state.detail.length > 0);
  });

  test("polls wait as long as Retry-After says", async (t) => {
    const hub = await startHub(t);
    const proxy = await startFaultyProxy(t, hub.url);
    const page = await blankPage(await newContext(t, browser), proxy.url);
    const seen = proxy.requests.length;
    const isPoll = ({ url }) => url.startsWith("/v1/poll");
    const polls = () => proxy.requests.slice(seen).filter(isPoll);
    const refusal = { status: 503, headers: { "Retry-After": 3 } };
    proxy.fault = (request) => (isPoll(request) && polls().length === 0 ? refusal : null);
    await openClient(page, { channels: "later", transport: "poll" });
    await untilOpen(page, "poll");
    const [first, second] = polls();
    assert.ok(second.at - first.at >= 2_990, `it came back after ${second.at - first.at} ms`);
    assert.ok(second.at - first.at < 10_000);
  });

  test("a publish whose answer is lost is published once", async (t) => {
    const hub = await startHub(t);
    const proxy = await startFaultyProxy(t, hub.url);
    const page = await blankPage(await newContext(t, browser), proxy.url);
    await openClient(page, { channels: "once" });
    await untilOpen(page);
    let posts = 0;
    const faults = ["lost", { status: 502 }];
    proxy.fault = ({ method }) => {
      if (method !== "POST") return null;
      posts += 1;
      return faults[posts - 1] ?? null;
    };
    const receipt = await page.evaluate(() => window.hub.publish("once", { n: 1 }, { type: "x" }));
    assert.equal(receipt.channel, "once");
    await page.evaluate(() => window.hub.publish("once", "end"));
    await until(page, () => heard.at(-1) === "end");
    assert.deepEqual(await heard(page), ['{"n":1}', "end"]);
    assert.equal(posts, 4);

    const refused = await page.evaluate(() =>
      window.hub.publish("a//b", "x").catch(({ name, status, message }) => ({ name, status, message })),
    );
    assert.equal(refused.name, "VisnykError");
    assert.equal(refused.status, 400);
    assert.ok(refused.message.length > 0);
  });

  test("close() ends the connection", async (t) => {
    const hub = await startHub(t);
    const page = await blankPage(await newContext(t, browser), hub.url);
    await openClient(page, { channels: "leave" });
    await untilOpen(page);
    await retry(async () => (await hub.channel("leave"))?.subscribers === 1);
    await page.evaluate(() => window.hub.close());
    const last = await page.evaluate(() => window.states.at(-1));
    assert.equal(last.state, "closed");
    assert.equal(last.reason, "closed");
    await retry(async () => (await hub.channel("leave"))?.subscribers === 0);
  });
});

describe("visnyk.js shared by tabs", LIMIT, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  async function openTabs(context, origin, count, options) {
    const tabs = [];
    for (let index = 0; index < count; index += 1) {
      const tab = await blankPage(context, origin);
      await openClient(tab, { shared: true, ...options });
      await untilOpen(tab);
      tabs.push(tab);
    }
    return tabs;
  }

  async function leaders(tabs) {
    const roles = await Promise.all(tabs.map((tab) => tab.evaluate(() => hub.state.role)));
    return tabs.filter((_, index) => roles[index] === "leader");
  }

  test("ten tabs share one stream and all hear everything", async (t) => {
    const hub = await startHub(t);
    const tabs = await openTabs(await newContext(t, browser), hub.url, 10, { channels: "ten" });
    const info = await hub.channel("ten");
    assert.equal(info.subscribers, 1);
    await hub.publishNumbers("ten", 1, 200);
    // Publishing from a tab works as well: there are connections left.
    await tabs[7].evaluate(() => window.hub.publish("ten", "from a tab"));
    for (const tab of tabs) {
      await until(tab, () => heard.length >= 201);
      assert.deepEqual(await heard(tab), [...numbers(1, 200), "from a tab"]);
    }
    assert.equal((await leaders(tabs)).length, 1);
  });

  test("a leader that closes hands over, with nothing lost or repeated", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    let tabs = await openTabs(await newContext(t, browser), hub.url, 5, { channels: "heirs" });
    let last = 0;
    let publishing = true;
    const publisher = (async () => {
      for (; publishing; last += 2) await hub.publishNumbers("heirs", last + 1, last + 2);
    })();
    const inherit = async (letGo) => {
      const before = last;
      await retry(() => last > before + 20);
      const [leader] = await leaders(tabs);
      tabs = tabs.filter((tab) => tab !== leader);
      await letGo(leader);
      await retry(async () => (await leaders(tabs)).length === 1);
      await until((await leaders(tabs))[0], () => hub.state.state === "open");
    };
    // A tab that is gone, one that lets go by itself, one whose page is left.
    await inherit((leader) => leader.close());
    await inherit((leader) => leader.evaluate(() => window.hub.close()));
    await inherit((leader) => leader.goto("about:blank"));
    publishing = false;
    await publisher;
    await hub.publish("heirs", "end");
    for (const tab of tabs) {
      await until(tab, () => heard.at(-1) === "end");
      assert.deepEqual(await heard(tab), [...numbers(1, last), "end"]);
      assert.deepEqual(await tab.evaluate(() => window.notices), []);
    }
    assert.equal(tabs.length, 2);
  });

  for (const heir of ["the heir", "another follower"]) {
    test(`broadcasts that ${heir} did not hear are made up for`, async (t) => {
      const hub = await startHub(t, { env: QUICK_RETRY });
      const context = await newContext(t, browser);
      await context.addInitScript(() => {
        Object.defineProperty(BroadcastChannel.prototype, "onmessage", {
          set(handler) {
            this.addEventListener("message", (message) => {
              if (!(window.deaf && message.data.items)) handler(message);
            });
          },
        });
      });
      const tabs = await openTabs(context, hub.url, 3, { channels: "deaf" });
      // The lock passes on in the order in which it was asked for.
      const [leader, deaf, other] = heir === "the heir" ? tabs : [tabs[0], tabs[2], tabs[1]];
      await hub.publishNumbers("deaf", 1, 5);
      for (const tab of tabs) await until(tab, () => heard.length === 5);

      await deaf.evaluate(() => (window.deaf = true));
      await hub.publishNumbers("deaf", 6, 10);
      await until(other, () => heard.length === 10);
      await deaf.evaluate(() => (window.deaf = false));
      await hub.publish("deaf", "11");
      await until(deaf, () => heard.length === 11); // It noticed that numbers were missing.

      await deaf.evaluate(() => (window.deaf = true));
      await hub.publishNumbers("deaf", 12, 20);
      await until(other, () => heard.length === 20);
      await deaf.evaluate(() => (window.deaf = false));
      await leader.close();
      await untilOpen(tabs[1]);
      await hub.publish("deaf", "21");
      for (const tab of [deaf, other]) {
        await until(tab, () => heard.at(-1) === "21");
        assert.deepEqual(await heard(tab), numbers(1, 21));
      }
    });
  }

  test("a tab that wants the past gets it, and the others do not", async (t) => {
    const hub = await startHub(t);
    const context = await newContext(t, browser);
    await hub.publishNumbers("past", 1, 250);
    const [live] = await openTabs(context, hub.url, 1, { channels: "past" });
    const [late] = await openTabs(context, hub.url, 1, { channels: "past", from: "earliest" });
    await hub.publishNumbers("past", 251, 260);
    await until(late, () => heard.length >= 260);
    await until(live, () => heard.length >= 10);
    assert.deepEqual(await heard(late), numbers(1, 260));
    assert.deepEqual(await heard(live), numbers(251, 260));

    // And it does not send the past to others when it comes to lead.
    await live.evaluate(() => window.hub.close());
    await until(late, () => hub.state.role === "leader" && hub.state.state === "open");
    const [newest] = await openTabs(context, hub.url, 1, { channels: "past" });
    await hub.publish("past", "end");
    await until(newest, () => heard.length > 0);
    assert.deepEqual(await heard(newest), ["end"]);
  });

  test("deleting the channel ends every tab", async (t) => {
    const hub = await startHub(t, { env: QUICK_RETRY });
    const tabs = await openTabs(await newContext(t, browser), hub.url, 3, { channels: "over" });
    await hub.publish("over", "1");
    for (const tab of tabs) await until(tab, () => heard.length === 1);
    await hub.closeChannel("over");
    for (const tab of tabs) {
      await until(tab, () => hub.state.state === "closed");
      assert.equal(await tab.evaluate(() => window.hub.state.reason), "gone");
    }
  });

  test("without Web Locks each tab has a stream of its own", async (t) => {
    const hub = await startHub(t);
    const context = await newContext(t, browser);
    await context.addInitScript(() => {
      Object.defineProperty(Navigator.prototype, "locks", { value: undefined });
    });
    const tabs = await openTabs(context, hub.url, 2, { channels: "own" });
    const info = await hub.channel("own");
    assert.equal(info.subscribers, 2);
    await hub.publish("own", "1");
    for (const tab of tabs) {
      await until(tab, () => heard.length === 1);
      assert.equal(await tab.evaluate(() => window.hub.state.role), "own");
    }
  });
});
