// Tokens in the browser: the client that asks for fresh ones, and the console's field for them.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { blankPage, newContext, numbers, retry, startBrowser, until, untilOpen } from "./browser.mjs";
import { QUICK_RETRY, mint, startGuardedHub } from "./hub.mjs";

const KEPT = process.env.VISNYK_PICTURES;
const COOKIE = {
  VISNYK_AUTH__COOKIE: "session",
  VISNYK_AUTH__COOKIE_ORIGINS: "https://app.example.org",
};
const LAPTOP = { viewport: { width: 1280, height: 800 } };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

describe("the client with tokens", { timeout: 180_000 }, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  /** A page whose client asks `token()` here for its tokens. */
  async function openClient(t, hub, token, options = {}) {
    const page = await blankPage(await newContext(t, browser), hub.url);
    await page.exposeFunction("freshToken", token);
    await page.evaluate(async (options) => {
      const { Visnyk } = await import("/visnyk.js");
      window.states = [];
      window.hub = new Visnyk({ channels: "a", token: () => freshToken(), ...options });
      hub.on("*", ({ data }) => heard.push(data));
      hub.on("visnyk.state", (state) => states.push(state));
    }, options);
    return page;
  }

  test("hands fresh ones to a living stream, which goes on", async (t) => {
    const hub = await startGuardedHub(t);
    const renewed = [];
    let asked = 0;
    const page = await openClient(t, hub, () => {
      asked += 1;
      return mint({ seconds: 4, subscribe: ["a"] });
    });
    page.on("response", (response) => {
      if (response.url().endsWith("/token")) renewed.push(response.status());
    });
    await untilOpen(page, "sse");
    // Each is handed in within its own life, so three of them are longer than the first lives.
    await retry(() => renewed.length >= 3);
    await hub.publish("a", "long after");
    await until(page, () => heard.includes("long after"));
    assert.deepEqual(new Set(renewed), new Set([204]));
    assert.ok(asked >= 4, `${asked}`);
    const { reconnects, state } = await page.evaluate(() => window.hub.state);
    assert.deepEqual([reconnects, state], [0, "open"]);
    // And none of them any more for a stream that is over.
    await page.evaluate(() => window.hub.close());
    await retry(async () => (await hub.channel("a")).subscribers === 0);
  });

  test("comes back with a fresh one when a stream has ended with its token", async (t) => {
    const hub = await startGuardedHub(t, QUICK_RETRY);
    const page = await blankPage(await newContext(t, browser), hub.url);
    // Every renewal gets lost.
    await page.route("**/v1/connections/*/token", (route) => route.abort());
    await page.exposeFunction("freshToken", () => mint({ seconds: 3, subscribe: ["a"] }));
    await page.evaluate(async () => {
      const { Visnyk } = await import("/visnyk.js");
      window.hub = new Visnyk({ channels: "a", token: () => freshToken() });
      hub.on("*", ({ data }) => heard.push(data));
    });
    await untilOpen(page, "sse");
    let sent = 0;
    await retry(async () => {
      sent += 1;
      await hub.publish("a", String(sent));
      return (await page.evaluate(() => window.hub.state.reconnects)) >= 2;
    });
    await until(page, (count) => heard.length >= count, sent);
    assert.deepEqual(await page.evaluate(() => heard), numbers(1, sent));
  });

  test("stops where its token is refused, and when it has no other", async (t) => {
    const hub = await startGuardedHub(t);
    for (const transport of ["sse", "poll"]) {
      const bad = await openClient(t, hub, () => "nonsense", { transport });
      await until(bad, () => window.hub.state.state === "closed");
      const { reason, status } = await bad.evaluate(() => window.hub.state);
      assert.deepEqual([reason, status], ["refused", 401], transport);
    }
    const token = mint({ seconds: 2, subscribe: ["a"] });
    const page = await openClient(t, hub, () => token);
    await untilOpen(page, "sse");
    await until(page, () => window.hub.state.state === "closed");
    const { reason, status, detail } = await page.evaluate(() => window.hub.state);
    assert.deepEqual([reason, status], ["expired", 401]);
    assert.match(detail, /expired/);
  });

  test("has a cookie that expired renewed, and goes on", async (t) => {
    const hub = await startGuardedHub(t, { ...COOKIE, ...QUICK_RETRY });
    const context = await newContext(t, browser);
    const login = (seconds) =>
      context.addCookies([{ name: "session", value: mint({ seconds, subscribe: ["a"] }), url: hub.url }]);
    for (const [transport, seconds] of [["sse", 3], ["poll", -60]]) {
      await login(seconds);
      const page = await blankPage(context, hub.url);
      let refreshed = 0;
      await page.exposeFunction("login", async () => {
        refreshed += 1;
        if (refreshed === 1) throw new Error("the login server is away");
        await login(600);
      });
      await page.evaluate(async (transport) => {
        const { Visnyk } = await import("/visnyk.js");
        window.hub = new Visnyk({ channels: "a", transport, refresh: () => login() });
        hub.on("*", ({ data }) => heard.push(data));
      }, transport);
      await retry(() => refreshed === 2);
      await untilOpen(page, transport);
      await hub.publish("a", `after ${transport}`);
      await until(page, (data) => heard.includes(data), `after ${transport}`);
      assert.equal(refreshed, 2);
      await page.close();
    }
  });

  test("says that a cookie has expired, at once and without asking again", async (t) => {
    const hub = await startGuardedHub(t, { ...COOKIE, ...QUICK_RETRY });
    const context = await newContext(t, browser);
    await context.addCookies([
      { name: "session", value: mint({ seconds: 3, subscribe: ["a"] }), url: hub.url },
    ]);
    const page = await blankPage(context, hub.url);
    let streams = 0;
    page.on("request", (request) => (streams += request.url().includes("/v1/events")));
    await page.evaluate(async () => {
      const { Visnyk } = await import("/visnyk.js");
      window.hub = new Visnyk({ channels: "a" });
    });
    await untilOpen(page, "sse");
    await until(page, () => window.hub.state.state === "closed");
    const { reason, detail } = await page.evaluate(() => window.hub.state);
    assert.deepEqual([reason, detail, streams], ["expired", "the token has expired", 1]);
  });

  test("stops where a fresh one allows less", async (t) => {
    const hub = await startGuardedHub(t);
    let allowed = ["a"];
    const page = await openClient(t, hub, () => {
      const token = mint({ seconds: 4, subscribe: allowed });
      allowed = ["b"];
      return token;
    });
    await until(page, () => window.hub.state.state === "closed");
    const { reason, status } = await page.evaluate(() => window.hub.state);
    assert.deepEqual([reason, status], ["refused", 403]);
    assert.ok(await page.evaluate(() => states.some(({ state }) => state === "open")));
  });

  test("waits for one that cannot be had yet", async (t) => {
    const hub = await startGuardedHub(t);
    let asked = 0;
    const page = await openClient(t, hub, () => {
      asked += 1;
      if (asked < 3) throw new Error("the login server is away");
      return mint({ subscribe: ["a"] });
    });
    await untilOpen(page, "sse");
    assert.ok(asked >= 3);
  });
});

describe("the console of a hub that asks for tokens", { timeout: 180_000 }, () => {
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

  /** Opens the console. What its policy forbids is collected; that some requests are 401 is not an error. */
  async function openConsole(t, hub, options = LAPTOP, hash = "#view=events") {
    const page = await (await newContext(t, browser, options)).newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => {
      const isRefusal = /status of 40[13]/.test(message.text());
      if (message.type() === "error" && !isRefusal) errors.push(message.text());
    });
    await page.addInitScript(() => {
      window.violations = [];
      addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI }) => {
        violations.push(`${effectiveDirective} ${blockedURI}`);
      });
    });
    await page.goto(`${hub.url}/${hash}`);
    return { page, errors };
  }

  async function paste(page, token) {
    await page.getByLabel("Token").fill(token);
    await page.getByLabel("Token").press("Enter");
  }

  const connected = (page) => page.getByText("Connected", { exact: true }).first().waitFor();
  const rows = (page) => page.locator("#rows .row");

  test("asks for one, and goes on with it", async (t) => {
    const hub = await startGuardedHub(t);
    const { page, errors } = await openConsole(t, hub);
    await page.getByText("This hub needs a token", { exact: true }).waitFor();
    await page.getByText(/^visnyk token --admin /).waitFor();
    assert.equal(await page.getByLabel("Token").getAttribute("aria-invalid"), "true");
    await paste(page, "nonsense");
    await page.getByText(/^The hub refuses the token: /).waitFor();

    const token = mint({ publish: ["default"], subscribe: ["default"] });
    await paste(page, token);
    await connected(page);
    assert.equal(await page.getByLabel("Token").getAttribute("aria-invalid"), "false");
    await page.getByRole("textbox", { name: "Data" }).fill("with a token");
    await page.getByRole("button", { name: "Publish", exact: true }).last().click();
    await rows(page).getByText("with a token").waitFor();
    await page.getByRole("link", { name: "Channels" }).click();
    await page.getByRole("grid", { name: "Channels" }).getByText("default").waitFor();
    await page.getByRole("link", { name: "Connections" }).click();
    await page.getByText(/only your own/).waitFor();
    // Figures of all clients are not for this one.
    await page.getByRole("link", { name: "Overview" }).click();
    await page.getByText("This view needs a token with admin").waitFor();
    await page.getByRole("link", { name: "Channels" }).click();
    await page.locator("#banner").waitFor({ state: "hidden" });
    await page.getByRole("grid").getByRole("row").filter({ hasText: "default" }).click();
    await page.getByRole("button", { name: /^Close channel/ }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "Close channel" }).click();
    await dialog.getByText(/^Not done: .*admin/).waitFor();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    // It is in the field and nowhere else of the page.
    const found = await page.evaluate((token) => {
      const kept = [document.documentElement.outerHTML, location.href, document.cookie];
      kept.push(JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }));
      return kept.some((text) => text.includes(token));
    }, token);
    assert.equal(found, false);
    assert.equal(await page.getByLabel("Token").getAttribute("type"), "password");
    assert.deepEqual(errors, []);
    assert.deepEqual(await page.evaluate(() => violations), []);
  });

  test("says that one has expired, and keeps what was seen", async (t) => {
    const hub = await startGuardedHub(t);
    const { page } = await openConsole(t, hub);
    await paste(page, mint({ seconds: 3 }));
    await connected(page);
    await hub.publish("default", "before");
    await rows(page).getByText("before").waitFor();
    await page.getByText("Token expired", { exact: true }).first().waitFor();
    await page.getByText(/^The hub refuses the token: .*expired/).waitFor();
    await hub.publish("default", "meanwhile");
    await paste(page, mint());
    await connected(page);
    await rows(page).getByText("meanwhile").waitFor();
    assert.equal(await rows(page).getByText("before").count(), 1);
  });

  test("runs no script and no markup but its own", async (t) => {
    const hub = await startGuardedHub(t);
    const { page } = await openConsole(t, hub);
    const outcomes = await page.evaluate(async () => {
      // What the test itself has evaluated may evaluate too, until its first turn is over.
      await new Promise((resolve) => setTimeout(resolve));
      const outcomes = {};
      const attempt = (name, act) => {
        try {
          act();
          outcomes[name] = "done";
        } catch (error) {
          outcomes[name] = error.name;
        }
      };
      attempt("inline", () => {
        const script = document.createElement("script");
        script.text = "window.injected = true";
        document.body.append(script);
      });
      attempt("markup", () => (document.body.innerHTML = "<img src=x onerror='injected = true'>"));
      attempt("eval", () => new Function("window.injected = true")());
      attempt("address", () => (document.createElement("script").src = "data:text/javascript,1"));
      attempt("attribute", () => {
        document.createElement("a").setAttribute("onclick", "window.injected = true");
      });
      attempt("text", () => {
        const script = document.createElement("script");
        script.append("window.injected = true");
        document.body.append(script);
      });
      const foreign = await fetch("https://elsewhere.example/").catch((error) => error.name);
      return { ...outcomes, foreign, injected: window.injected ?? false };
    });
    assert.deepEqual(outcomes, {
      inline: "TypeError",
      markup: "TypeError",
      eval: "EvalError",
      address: "TypeError",
      attribute: "TypeError",
      text: "done",
      foreign: "TypeError",
      injected: false,
    });
    const violations = await page.evaluate(() => violations.map((text) => text.split(" ")[0]));
    for (const directive of ["require-trusted-types-for", "connect-src"]) {
      assert.ok(violations.includes(directive), `${directive} of ${violations}`);
    }
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`fits a laptop and a phone, with a token and without (${colorScheme})`, async (t) => {
      const hub = await startGuardedHub(t);
      for (const [device, options] of [["laptop", LAPTOP], ["phone", PHONE]]) {
        const { page, errors } = await openConsole(t, hub, { ...options, colorScheme });
        const fits = async (view) => {
          const width = await page.evaluate(() => document.documentElement.scrollWidth);
          assert.equal(width, options.viewport.width, `${view} is too wide for a ${device}`);
          const field = await page.getByLabel("Token").boundingBox();
          assert.ok(field.width >= 150 && field.x + field.width <= options.viewport.width - 16);
          const name = `${colorScheme}-${device}-${view}.png`;
          await page.screenshot({ path: path.join(pictures, name) });
        };
        await page.getByText("This hub needs a token", { exact: true }).waitFor();
        await fits("without-token");
        await paste(page, mint({ publish: ["**"], admin: true }));
        await connected(page);
        await hub.publish("default", "for a picture");
        await rows(page).getByText("for a picture").first().waitFor();
        await page.locator("#banner").waitFor({ state: "hidden" });
        if (device === "phone") {
          // A token that was accepted is folded away, and can be looked for.
          await page.getByLabel("Token").waitFor({ state: "hidden" });
          await page.getByRole("button", { name: "Token" }).click();
        }
        await fits("with-token");
        assert.deepEqual(errors, []);
      }
    });
  }
});
