// The examples of docs/browser.md, and the loop of polls of docs/api.md, as they stand there.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { blankPage, newContext, retry, startBrowser, until } from "./browser.mjs";
import { mint, startGuardedHub, startHub } from "./hub.mjs";

const read = (name) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8");
const TEXT = read("browser.md");

/** The code of the first block of a language below a heading. */
function example(heading, language, text = TEXT) {
  const [, section] = text.split(`## ${heading}\n`);
  return new RegExp(`\`\`\`${language}\n([^]*?)\n\`\`\``).exec(section)[1];
}

/** As much of React as a hook needs that one component uses: its states, and an effect that runs again. */
const REACT = `
  const states = [], effects = [];
  let at, render;
  export function mount(component) {
    render = () => { at = 0; component(); };
    render();
  }
  export function unmount() { for (const { undo } of effects.filter(Boolean)) undo(); }
  export function useState(first) {
    const mine = at++;
    if (!(mine in states)) states[mine] = first;
    return [states[mine], (next) => {
      states[mine] = typeof next === "function" ? next(states[mine]) : next;
      queueMicrotask(render);
    }];
  }
  export function useEffect(effect, needs) {
    const mine = at++;
    if (effects[mine]?.needs.every((need, n) => need === needs[n])) return;
    effects[mine]?.undo();
    effects[mine] = { needs, undo: effect() };
  }
`;

describe("docs/browser.md", { timeout: 120_000 }, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  /** A page of the hub's origin with this text. */
  async function open(t, hub, body, modules = {}) {
    const page = await (await newContext(t, browser)).newPage();
    for (const [path, script] of Object.entries(modules)) {
      const answer = { contentType: "text/javascript", body: script };
      await page.route(`**${path}`, (route) => route.fulfill(answer));
    }
    await page.route("**/example", (route) => route.fulfill({ contentType: "text/html", body }));
    await page.goto(`${hub.url}/example`);
    return page;
  }

  test("the page lists what is published", async (t) => {
    const hub = await startHub(t);
    await hub.publish("chat", "before");
    const page = await open(t, hub, example("A page", "html"));
    await page.getByText("before").waitFor();
    await hub.publish("chat", "<b>live</b>");
    await page.getByText("<b>live</b>").waitFor();
  });

  test("the loop of polls in api.md outlives a hub that is killed", async (t) => {
    const first = await startHub(t);
    const page = await blankPage(await newContext(t, browser), first.url);
    await page.evaluate((code) => {
      const AsyncFunction = (async () => {}).constructor;
      window.over = new AsyncFunction("console", code)({ log: (data) => heard.push(data) });
    }, example("Long-polls", "js", read("api.md")));
    await retry(async () => (await first.channel("alerts"))?.pollers === 1);
    await first.publish("alerts", "before");
    await until(page, () => heard.length === 1);
    await first.crash();
    const second = await startHub(t, { listen: new URL(first.url).host });
    await second.publish("alerts", "after");
    await until(page, () => heard.join() === "before,after");
    await second.closeChannel("alerts");
    await page.evaluate(() => window.over);
  });

  test("the hook has the latest events and the state, and lets go of a channel", async (t) => {
    const hub = await startHub(t);
    const body = `<!doctype html><script type="importmap">{"imports":{"react":"/react.js"}}</script>
      <script type="module">
        import { mount, unmount } from "react";
        import { useChannel } from "/hook.js";
        window.leave = unmount;
        mount(() => { window.shown = useChannel("news"); });
      </script>`;
    const page = await open(t, hub, body, { "/react.js": REACT, "/hook.js": example("React", "js") });
    await until(page, () => window.shown?.state === "open");
    await hub.publish("news", "1");
    await hub.publish("news", "2");
    await until(page, () => shown.events.map(({ data }) => data).join() === "1,2");
    await page.evaluate(() => leave());
    await retry(async () => (await hub.channel("news")).subscribers === 0);
  });

  test("both kinds of tokens are asked for as it says", async (t) => {
    const hub = await startGuardedHub(t, {
      VISNYK_AUTH__COOKIE: "session",
      VISNYK_AUTH__COOKIE_ORIGINS: "https://app.example.org",
    });
    const examples = example("Tokens", "js").split("\n\n");
    for (const [n, path] of ["/my/token", "/my/login"].entries()) {
      const page = await blankPage(await newContext(t, browser), hub.url);
      const token = mint({ subscribe: ["a"] });
      const headers = { "Set-Cookie": `session=${token}; Path=/` };
      await page.route(`**${path}`, (route) => route.fulfill(n === 0 ? { body: token } : { headers }));
      if (n === 1) {
        const expired = mint({ seconds: -60, subscribe: ["a"] });
        await page.context().addCookies([{ name: "session", value: expired, url: hub.url }]);
      }
      await page.evaluate(async (code) => {
        const { Visnyk } = await import("/visnyk.js");
        class Kept extends Visnyk {
          constructor(options) {
            super(options);
            window.hub = this;
          }
        }
        new Function("Visnyk", code)(Kept);
      }, examples[n]);
      await until(page, () => hub.state.state === "open");
    }
  });

  test("the tables name what the module has", async (t) => {
    const types = readFileSync(new URL("../../src/http/console/visnyk.d.ts", import.meta.url), "utf8");
    const options = /interface Options \{([^]*?)\n\}/.exec(types)[1].matchAll(/^ {2}(\w+)\?:/gm);
    for (const [, name] of options) assert.match(TEXT, new RegExp(`^\\| \`${name}\` \\|`, "m"));
    const reasons = /reason\?: ("closed".*);/.exec(types)[1].matchAll(/"(\w+)"/g);
    for (const [, name] of reasons) assert.match(TEXT, new RegExp(`^\\| \`${name}\` \\|`, "m"));
    const hub = await startHub(t);
    const page = await blankPage(await newContext(t, browser), hub.url);
    const members = await page.evaluate(async () => {
      const { Visnyk } = await import("/visnyk.js");
      return Object.getOwnPropertyNames(Visnyk.prototype).filter((name) => name !== "constructor");
    });
    for (const name of members) {
      assert.match(types, new RegExp(`^ {2}(get )?${name}\\(`, "m"));
      assert.match(TEXT, new RegExp(`^\\| \`${name}[(\`]`, "m"));
    }
  });
});
