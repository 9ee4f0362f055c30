// clients/js as npm packs it, on Node against real hubs.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { QUICK_RETRY, mint, startGuardedHub, startHub } from "../browser/hub.mjs";
import { installPackage, until } from "./package.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const FILES = [
  "LICENSE-APACHE",
  "LICENSE-MIT",
  "README.md",
  "event_source.js",
  "node.js",
  "package.json",
  "visnyk.d.ts",
  "visnyk.js",
];

describe("the npm package", { concurrency: 4, timeout: 120_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "visnyk-package-"));
  const installed = join(directory, "node_modules", "visnyk");
  let packed;
  let Visnyk;
  let VisnykError;

  before(async () => {
    packed = installPackage(directory);
    ({ Visnyk, VisnykError } = await import(pathToFileURL(join(installed, "node.js"))));
  });
  after(() => rmSync(directory, { recursive: true }));

  /** A client whose events are in `heard` and whose notices are in `notices`. */
  function open(t, hub, options) {
    const client = new Visnyk({ url: hub.url, channels: "a", ...options });
    t.after(() => client.close());
    client.heard = [];
    client.notices = [];
    client.on("*", ({ data }) => client.heard.push(data));
    for (const type of ["visnyk.gap", "visnyk.closed"]) client.on(type, (it) => client.notices.push(it));
    return client;
  }

  test("it has these files, the hub's own client, and the hub's version", async (t) => {
    assert.deepEqual(packed.files.map(({ path }) => path).sort(), FILES);
    const hub = await startHub(t);
    for (const file of ["visnyk.js", "visnyk.d.ts"]) {
      const served = await (await fetch(`${hub.url}/${file}`)).text();
      assert.equal(readFileSync(join(installed, file), "utf8"), served, file);
    }
    const [, version] = /^version = "(.*)"$/m.exec(readFileSync(`${ROOT}Cargo.toml`, "utf8"));
    assert.equal(packed.version, version);
  });

  test("its types take what the README does, and refuse what the client refuses", async () => {
    const [, program] = /```js\n([^]*?)```/.exec(readFileSync(join(installed, "README.md"), "utf8"));
    writeFileSync(join(directory, "good.ts"), program);
    const bad = program.replace('channels: "orders/**"', "channels: 7").replace("reason })", "cause })");
    writeFileSync(join(directory, "bad.ts"), bad);
    const tsc = join(process.env.NODE_DIR, "node_modules", "typescript", "bin", "tsc");
    const flags = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"];
    writeFileSync(join(directory, "package.json"), '{"type":"module"}');
    // Not the synchronous one: it would stop the tests beside this one, and let their timers pass.
    const compile = (file) => promisify(execFile)("node", [tsc, ...flags, file], { cwd: directory });
    await compile("good.ts");
    await assert.rejects(
      compile("bad.ts"),
      ({ stdout }) => /'number' is not assignable/.test(stdout) && /'cause' does not exist/.test(stdout),
    );
  });

  test("the program of the README prints what it publishes", async (t) => {
    const hub = await startHub(t);
    const [, program] = /```js\n([^]*?)```/.exec(readFileSync(join(installed, "README.md"), "utf8"));
    writeFileSync(join(directory, "readme.mjs"), program.replace("http://127.0.0.1:3000", hub.url));
    const child = spawn("node", ["readme.mjs"], { cwd: directory, stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill());
    let printed = "";
    child.stdout.on("data", (bytes) => (printed += bytes));
    await until(() => /^orders\/7 { total: 12 }$/m.test(printed) && /^open $/m.test(printed));
  });

  test("events come over a stream, with type, channel and id", async (t) => {
    const hub = await startHub(t);
    const client = open(t, hub, { channels: ["orders/**", "news"] });
    const paid = [];
    client.on("paid", (event) => paid.push(event));
    await until(() => client.state.state === "open");
    assert.equal(client.state.transport, "sse");
    const published = await client.publish("orders/7", { text: "zwölf\r\nlines" }, { type: "paid" });
    await hub.publish("news", "one\ntwo\n");
    await until(() => client.heard.length === 2);
    assert.deepEqual(client.heard, ['{"text":"zwölf\\r\\nlines"}', "one\ntwo\n"]);
    const [{ id, channel, type }] = paid;
    assert.deepEqual({ id, channel, type }, { ...published, type: "paid" });
  });

  for (const transport of ["sse", "poll"]) {
    test(`no event is lost or repeated over kill -9, ${transport}`, async (t) => {
      const env = { ...QUICK_RETRY, VISNYK_DATA_DIR: join(directory, `log-${transport}`) };
      const first = await startHub(t, { env });
      const client = open(t, first, { transport });
      await until(() => client.state.state === "open" && client.position !== null);
      await first.publishNumbers("a", 1, 100);
      await until(() => client.heard.length === 100);
      const publishing = first.publishNumbers("a", 101, 200).catch(() => {});
      await first.crash();
      await publishing;
      await until(() => client.state.state === "reconnecting");
      const second = await startHub(t, { env, listen: new URL(first.url).host });
      await second.publish("a", "end");
      await until(() => client.heard.at(-1) === "end");
      const stored = [];
      const whole = open(t, second, { from: "earliest" });
      await until(() => whole.heard.at(-1) === "end");
      stored.push(...whole.heard);
      assert.deepEqual(client.heard, stored);
      assert.deepEqual(client.notices, []);
      assert.ok([101, 201].includes(stored.length), "a batch is whole or not there");
      // A program that was restarted goes on where it stored its position.
      const later = open(t, second, { from: client.position, transport });
      await second.publish("a", "later");
      await until(() => later.heard.length === 1);
      assert.deepEqual(later.heard, ["later"]);
    });
  }

  test("a client that is far behind catches up in large polls", async (t) => {
    const env = { VISNYK_LIMITS__HISTORY__EVENTS_MAX: "10000" };
    const hub = await startHub(t, { env });
    for (const first of [1, 1_001, 2_001, 3_001]) await hub.publishNumbers("a", first, first + 999);
    const { fetch } = globalThis;
    t.after(() => (globalThis.fetch = fetch));
    let polls = 0;
    globalThis.fetch = (url, init) => {
      polls += String(url).startsWith(`${hub.url}/v1/poll?`);
      return fetch(url, init);
    };
    const client = open(t, hub, { from: "earliest", transport: "poll" });
    await until(() => client.heard.at(-1) === "4000");
    assert.equal(client.heard.length, 4_000);
    // Four answers, and the poll that waits.
    assert.ok(polls <= 5, `${polls} polls`);
  });

  test("a stream outlives its tokens, and ends without a further one", async (t) => {
    const hub = await startGuardedHub(t, QUICK_RETRY);
    const asked = [];
    const token = async () => {
      asked.push(Date.now());
      return mint({ seconds: 3, subscribe: ["a"] });
    };
    const client = open(t, hub, { token });
    const held = open(t, hub, { token: mint({ seconds: 2, subscribe: ["a"] }) });
    await until(() => client.state.state === "open");
    await until(() => held.state.state === "closed");
    assert.equal(held.state.reason, "expired");
    await until(() => asked.length >= 4);
    await hub.publish("a", "still there");
    await until(() => client.heard.length === 1);
    assert.equal(client.state.reconnects, 0);
  });

  test("refusals have a reason, a status and the hub's words", async (t) => {
    const hub = await startGuardedHub(t);
    for (const [token, status] of [[undefined, 401], [mint({ subscribe: ["b"] }), 403]]) {
      const client = open(t, hub, { token });
      await until(() => client.state.state === "closed");
      assert.equal(client.state.reason, "refused");
      assert.equal(client.state.status, status);
      assert.ok(client.state.detail.length > 10, client.state.detail);
    }
    const publisher = new Visnyk({ url: hub.url, token: mint({ publish: ["a"] }) });
    await assert.rejects(publisher.publish("b", "x"), ({ name, status, problem }) => {
      assert.deepEqual([name, status, problem.channel], ["VisnykError", 403, "b"]);
      return true;
    });
    await assert.rejects(publisher.publish("a", "x", { type: "visnyk.own" }), VisnykError);
    await hub.crash();
    await assert.rejects(publisher.publish("a", "x", { attempts: 1 }), ({ status }) => status === 0);
    assert.throws(() => new Visnyk({ channels: "a" }), /url names the hub's root/);
  });

  test("a deleted channel and close() end it, and the program can exit", async (t) => {
    const hub = await startHub(t);
    const gone = open(t, hub, {});
    await until(() => gone.state.state === "open");
    await hub.closeChannel("a");
    await until(() => gone.state.state === "closed");
    assert.equal(gone.state.reason, "gone");
    assert.deepEqual(gone.notices.map(({ channel }) => channel), ["a"]);

    writeFileSync(
      join(directory, "exits.mjs"),
      `import { Visnyk } from "visnyk";
      process.on("uncaughtException", ({ message }) => console.log("uncaught", message));
      const hub = new Visnyk({ url: process.argv[2], channels: "b", from: "earliest" });
      hub.on("*", () => { throw new Error("a handler's"); });
      hub.on("*", ({ data }) => { console.log(data); hub.close(); });`,
    );
    // fetch may take the socket of the ended stream, which the hub closes, once more; publish() tries again.
    await new Visnyk({ url: hub.url }).publish("b", "last");
    const child = spawn("node", ["exits.mjs", hub.url], { cwd: directory, stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill());
    let printed = "";
    child.stdout.on("data", (bytes) => (printed += bytes));
    const code = await new Promise((resolve) => child.once("exit", resolve));
    assert.deepEqual([code, printed], [0, "last\nuncaught a handler's\n"]);
    await until(async () => (await hub.channel("b")).subscribers === 0);
  });
});
