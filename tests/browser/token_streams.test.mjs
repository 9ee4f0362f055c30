// docs/guides/token-streams.md: an answer that is written while it is read, over a reload of its page, in a second
// tab, and over kill -9 of the hub.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { newContext, startBrowser, until } from "./browser.mjs";
import { QUICK_RETRY, startHub } from "./hub.mjs";

const EXAMPLES = new URL("../../docs/examples/token-stream/", import.meta.url);
const read = (name) => readFileSync(new URL(name, EXAMPLES), "utf8");

describe("docs/guides/token-streams.md", { timeout: 120_000 }, () => {
  let browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());

  test("the guide shows the files that are tested here", () => {
    const guide = readFileSync(new URL("../../guides/token-streams.md", EXAMPLES), "utf8");
    for (const [name, language] of [["visnyk.toml", "toml"], ["answer.py", "python"], ["index.html", "html"]]) {
      assert.ok(guide.includes(`\`\`\`${language}\n${read(name)}\`\`\``), name);
    }
  });

  /** The example's page on a server of its own, the hub of its settings, and what they are restarted with. */
  async function start(t) {
    const directory = mkdtempSync(join(tmpdir(), "visnyk-answers-"));
    t.after(() => rmSync(directory, { recursive: true }));
    let html;
    const pages = createServer((_, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end(html);
    });
    t.after(() => pages.close());
    await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
    const origin = `http://127.0.0.1:${pages.address().port}`;
    const settings = join(directory, "visnyk.toml");
    writeFileSync(
      settings,
      read("visnyk.toml").replace("./events", join(directory, "events")).replace("http://127.0.0.1:8000", origin),
    );
    const env = { ...QUICK_RETRY, VISNYK_CONFIG: settings };
    const hub = await startHub(t, { env });
    html = read("index.html").replace("http://127.0.0.1:3000", hub.url);
    const context = await newContext(t, browser);
    return {
      hub,
      again: () => startHub(t, { env, listen: new URL(hub.url).host }),
      tab: async (id) => {
        const page = await context.newPage();
        await page.goto(`${origin}/?id=${id}`);
        return page;
      },
    };
  }

  /** The example's program, whose input the test writes. */
  function startProgram(t, hub, id) {
    const env = { ...process.env, VISNYK_URL: hub.url };
    const program = spawn("python3", [new URL("answer.py", EXAMPLES).pathname, id], { env });
    t.after(() => program.kill());
    const all = { position: "", errors: "" };
    program.stdout.on("data", (bytes) => (all.position += bytes));
    program.stderr.on("data", (bytes) => (all.errors += bytes));
    all.over = new Promise((resolve) => program.once("exit", resolve));
    all.write = (text) => program.stdin.write(text);
    all.end = () => program.stdin.end();
    return all;
  }

  const shows = (text) => document.getElementById("answer").textContent === text;
  const says = (text) => document.getElementById("status").textContent === text;

  test("a reload, a second tab and kill -9 of the hub leave each text whole", async (t) => {
    const { hub, again, tab } = await start(t);
    const program = startProgram(t, hub, "42");
    let written = "";
    /** Writes tokens as a model does: with blanks and line ends before and after, in pieces of any bytes. */
    async function write(count) {
      for (let number = 0; number < count; number += 1) {
        const token = [" wörd", "\n\n", "  <b>&amp;", "…🙂", "\t-", " ", `${number}`][number % 7];
        written += token;
        for (const byte of Buffer.from(token)) program.write(Buffer.of(byte));
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }

    const first = await tab("42");
    await until(first, says, "Waiting …");
    await write(80);
    await until(first, shows, written);
    assert.ok(await first.evaluate(says, "Answering …"));
    await Promise.all([write(80), first.reload()]);
    const second = await tab("42");
    await write(40);
    for (const page of [first, second]) await until(page, shows, written);

    // Killed while the program goes on.
    const writing = write(200);
    await hub.crash();
    for (const page of [first, second]) await until(page, says, "Connecting …");
    await writing;
    assert.ok(!(await first.evaluate(shows, written)), "the hub was away while tokens came");
    await again();
    for (const page of [first, second]) await until(page, shows, written);
    await write(20);
    program.end();
    assert.equal(await program.over, 0, program.errors);
    assert.match(program.errors, /trying again/);
    const third = await tab("42");
    for (const page of [first, second, third]) {
      await until(page, says, "Complete.");
      assert.equal(await page.locator("#answer").evaluate((node) => node.textContent), written);
    }

    // An application that has the text so far goes on from the position that the program printed.
    const url = `${hub.url}/v1/channels/answers%2F42/poll?timeout=0&last_event_id=${program.position.trim()}`;
    assert.equal((await fetch(url)).status, 204);
  });

  test("an answer that broke off, and one whose beginning is gone, say so", async (t) => {
    const { hub, tab } = await start(t);
    const say = (id, type, value) => hub.publish(`answers/${id}`, JSON.stringify(value), type);
    await say("1", "tokens", { n: 0, text: "Half an" });
    await say("1", "end", { chunks: 1, reason: "error" });
    await until(await tab("1"), says, "The answer broke off.");
    await say("2", "tokens", { n: 3, text: "the end" });
    await until(await tab("2"), says, "Parts of the answer are missing.");
    await say("3", "end", { chunks: 2, reason: "stop" });
    await until(await tab("3"), says, "Parts of the answer are missing.");
  });
});
