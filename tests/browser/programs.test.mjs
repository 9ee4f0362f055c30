// The programs of docs/examples/clients that run in a page: React, Vue, htmx. Each lists what was paid, over kill -9 of
// the hub, and publishes.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

import { newContext, retry, startBrowser, until } from "./browser.mjs";
import { QUICK_RETRY, startGuardedHub, startHub } from "./hub.mjs";

const EXAMPLES = fileURLToPath(new URL("../../docs/examples/clients/", import.meta.url));
const MODULES = fileURLToPath(new URL("node_modules", import.meta.url));
const CLIENT = fileURLToPath(new URL("../../src/http/console/visnyk.js", import.meta.url));
const HUB = "http://127.0.0.1:3000";

/** Orders.jsx in a page, as a bundler makes it. */
async function reactPage() {
  const main = `import { createRoot } from "react-dom/client";
    import { Orders } from "./Orders.jsx";
    createRoot(document.getElementById("root")).render(<Orders />);`;
  const { outputFiles } = await build({
    stdin: { contents: main, loader: "jsx", resolveDir: EXAMPLES },
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    nodePaths: [MODULES],
    alias: { visnyk: CLIENT },
    define: { "process.env.NODE_ENV": '"production"' },
  });
  return `<!doctype html><div id="root"></div><script type="module">${outputFiles[0].text}</script>`;
}

describe("programs in pages", { concurrency: 3, timeout: 120_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "visnyk-pages-"));
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(async () => {
    await browser.close();
    rmSync(directory, { recursive: true });
  });

  /** A server that gives `server.page` to every request, at an origin of its own. */
  async function servePages(t) {
    const server = createServer((_, response) => {
      response.setHeader("Content-Type", "text/html; charset=utf-8");
      response.end(server.page);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.close());
    server.origin = `http://127.0.0.1:${server.address().port}`;
    return server;
  }

  /** Opens a page whose scripts of unpkg.com come from node_modules, in the versions that are pinned here. */
  async function open(t, origin) {
    const page = await (await newContext(t, browser)).newPage();
    await page.route("https://unpkg.com/**", (route) => {
      const [, name, version, path] = /unpkg\.com\/([^@]+)@([^/]+)(\/.*)$/.exec(route.request().url());
      const pinned = JSON.parse(readFileSync(join(MODULES, name, "package.json"), "utf8")).version;
      assert.equal(version, pinned, name);
      return route.fulfill({ path: join(MODULES, name, path), contentType: "text/javascript" });
    });
    await page.goto(origin);
    return page;
  }

  const lists = (items) => [...document.querySelectorAll("li")].map((li) => li.textContent).join() === items;
  const says = (words) => document.querySelector("[role=status]").textContent === words;

  /** What all three do. `paid` publishes as the program's own form does. */
  async function follow(t, page, hub, restart, paid) {
    await until(page, says, "Live");
    await until(page, lists, "1");
    await page.getByLabel("Total").fill("2");
    await page.getByText("Pay").click();
    await until(page, lists, "1,2");
    await hub.publish("orders/7", "not shown", "note");

    await hub.crash();
    await until(page, says, "Reconnecting");
    await page.getByLabel("Total").fill("9");
    await page.getByText("Pay").click();
    await page.waitForFunction(() => document.querySelector("[role=alert]").textContent.length > 10);
    const again = await restart();
    await paid(again, 3);
    await until(page, lists, "1,2,3");
    await until(page, says, "Live");
    return again;
  }

  for (const [name, source] of [
    ["React", reactPage],
    ["Vue", () => readFileSync(`${EXAMPLES}vue.html`, "utf8")],
  ]) {
    test(`${name} lists, publishes, and goes on over kill -9`, async (t) => {
      const pages = await servePages(t);
      const cors = { VISNYK_CORS_ORIGINS: pages.origin };
      const env = { ...QUICK_RETRY, ...cors, VISNYK_DATA_DIR: join(directory, name) };
      const hub = await startHub(t, { env });
      const text = await source();
      pages.page = text.replaceAll(HUB, hub.url);
      const paid = (to, total) => to.publish("orders/7", JSON.stringify({ total }), "paid");
      await paid(hub, 1);
      const page = await open(t, pages.origin);
      const restart = () => startHub(t, { env, listen: new URL(hub.url).host });
      const again = await follow(t, page, hub, restart, paid);
      await again.closeChannel("orders/7");
      await until(page, says, "Closed");

      const guarded = await startGuardedHub(t, cors);
      pages.page = text.replaceAll(HUB, guarded.url);
      await page.reload();
      await page.getByRole("status").getByText("token").waitFor();
      await page.getByLabel("Total").fill("2");
      await page.getByText("Pay").click();
      await page.getByRole("alert").getByText("token").waitFor();
    });
  }

  test("htmx inserts what the application rendered, and goes on where EventSource gave up", async (t) => {
    const free = await servePages(t);
    const { port } = free.address();
    await new Promise((resolve) => free.close(resolve));
    const env = { ...QUICK_RETRY, VISNYK_CORS_ORIGINS: free.origin, VISNYK_DATA_DIR: join(directory, "htmx") };
    const hub = await startHub(t, { env });
    const surroundings = { ...process.env, VISNYK_URL: hub.url, PORT: String(port) };
    const app = spawn("python3", [`${EXAMPLES}htmx/app.py`], { env: surroundings, stdio: "ignore" });
    t.after(() => app.kill());
    await retry(() => fetch(free.origin).then(({ ok }) => ok, () => false));

    const paid = async (_, total) => {
      const answer = await fetch(`${free.origin}/paid`, { method: "POST", body: new URLSearchParams({ total }) });
      assert.equal(answer.status, 200, await answer.text());
    };
    await paid(hub, 1);
    const page = await open(t, free.origin);
    const restart = () => startHub(t, { env, listen: new URL(hub.url).host });
    const again = await follow(t, page, hub, restart, paid);

    // A proxy's 502: EventSource gives up, and the extension makes another.
    let refusals = 0;
    await page.route("**/events?**", (route) => {
      refusals += 1;
      return refusals === 1 ? route.fulfill({ status: 502 }) : route.continue();
    });
    await again.crash();
    const last = await restart();
    await paid(last, "<b>4</b>");
    await until(page, lists, "1,2,3,<b>4</b>");
    assert.ok(refusals > 1, "the extension asked again");
    await last.closeChannel("orders/7");
    await until(page, says, "Closed");
  });
});
