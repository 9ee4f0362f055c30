// The programs of docs/examples/clients that run in a terminal, and examples/follow.rs: each follows over kill -9 of
// its hub and a restart of its own, publishes, and says why it is refused.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { QUICK_RETRY, mint, startGuardedHub, startHub } from "../browser/hub.mjs";
import { installPackage, until } from "./package.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const EXAMPLES = `${ROOT}docs/examples/clients/`;
const PROGRAMS = {
  Python: ["python3", `${EXAMPLES}orders.py`],
  curl: [`${EXAMPLES}orders.sh`],
  Node: ["node", "orders.mjs"],
};

describe("programs", { concurrency: 3, timeout: 120_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "visnyk-programs-"));
  before(() => {
    installPackage(directory);
    // Beside the package, where Node looks for it.
    symlinkSync(`${EXAMPLES}orders.mjs`, join(directory, "orders.mjs"));
  });
  after(() => rmSync(directory, { recursive: true }));

  /** Runs a program in a directory of its own; `printed` and `errors` grow. */
  function run(t, name, command, hub, args = [], token) {
    const cwd = join(directory, name);
    mkdirSync(cwd, { recursive: true });
    const [program, ...first] = command.map((part) => (part === "orders.mjs" ? join(directory, part) : part));
    const env = { ...process.env, VISNYK_URL: hub.url };
    if (token) env.VISNYK_TOKEN = token;
    // In a group of its own: a shell script has children.
    const flags = program === "node" ? ["--preserve-symlinks", "--preserve-symlinks-main"] : [];
    const child = spawn(program, [...flags, ...first, ...args], { cwd, env, detached: true });
    const it = { printed: "", errors: "" };
    child.stdout.on("data", (bytes) => (it.printed += bytes));
    child.stderr.on("data", (bytes) => (it.errors += bytes));
    it.over = new Promise((resolve) => child.once("close", resolve));
    it.stop = async () => {
      if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, "SIGTERM");
      await it.over;
    };
    t.after(it.stop);
    return it;
  }

  const paid = (hub, total) => hub.publish("orders/7", JSON.stringify({ total }), "paid");

  for (const [name, command] of Object.entries(PROGRAMS)) {
    test(`${name} follows over kill -9 and its own restart, and publishes`, async (t) => {
      const env = { ...QUICK_RETRY, VISNYK_DATA_DIR: join(directory, `log-${name}`) };
      const first = await startHub(t, { env });
      await paid(first, 1);
      await first.publish("orders/7", "something else", "note");
      const program = run(t, name, command, first);
      await until(() => program.printed === "paid 1\n");
      await paid(first, 2);
      await until(() => program.printed === "paid 1\npaid 2\n");
      await first.crash();
      await until(() => program.errors.includes("trying again"));
      const second = await startHub(t, { env, listen: new URL(first.url).host });
      const publishing = run(t, name, command, second, ["paid", "3"]);
      assert.equal(await publishing.over, 0, publishing.errors);
      await until(() => program.printed === "paid 1\npaid 2\npaid 3\n");
      // It stores the position after it has printed: killed in between it would print once more.
      const { last_id } = await second.channel("orders/7");
      await until(() => readFileSync(join(directory, name, "orders.position"), "utf8").trim() === last_id);
      await program.stop();
      await paid(second, 4.5);
      const later = run(t, name, command, second);
      await until(() => later.printed === "paid 4.5\n");
      assert.doesNotMatch(program.errors + later.errors, /missing/);

      // A log that does not know the position.
      await second.crash();
      const other = await startHub(t, { env: QUICK_RETRY, listen: new URL(first.url).host });
      await paid(other, 5);
      await until(() => later.printed === "paid 4.5\npaid 5\n");
      assert.match(later.errors, /events are missing: .*unknown_position|events are missing: .*epoch/);
      await other.closeChannel("orders/7");
      assert.notEqual(await later.over, 0);
      assert.match(later.errors, /the channel was deleted/);
    });

    test(`${name} says why it is refused, and ends`, async (t) => {
      const hub = await startGuardedHub(t);
      const token = mint({ subscribe: ["orders/*"], publish: ["orders/*"] });
      for (const [args, shown, words] of [
        [[], undefined, /refused: .*token/],
        [[], mint({ subscribe: ["other"] }), /refused: .*orders\/7/],
        [["paid", "1"], mint({ subscribe: ["**"] }), /refused: .*orders\/7|orders\/7.* may not be published/],
      ]) {
        const program = run(t, `${name}-guarded`, command, hub, args, shown);
        assert.notEqual(await program.over, 0);
        assert.match(program.errors + program.printed, words);
      }
      const publishing = run(t, `${name}-guarded`, command, hub, ["paid", "1"], token);
      assert.equal(await publishing.over, 0, publishing.errors);
      const program = run(t, `${name}-guarded`, command, hub, [], token);
      await until(() => program.printed === "paid 1\n");
    });
  }

  test("examples/follow.rs follows over kill -9", async (t) => {
    const profile = existsSync(`${ROOT}target/debug/examples/follow`) ? `${ROOT}target/debug` : dirname(process.env.VISNYK_BIN);
    const env = { ...QUICK_RETRY, VISNYK_DATA_DIR: join(directory, "log-rust") };
    const first = await startHub(t, { env });
    const program = run(t, "rust", [`${profile}/examples/follow`], first);
    await until(() => /^from .* on$/m.test(program.errors));
    await paid(first, 1);
    await until(() => program.printed === 'orders/7 {"total":1}\n');
    await first.crash();
    await until(() => program.errors.includes("again in"));
    const second = await startHub(t, { env, listen: new URL(first.url).host });
    await paid(second, 2);
    await until(() => program.printed.endsWith('\norders/7 {"total":2}\n'));
    await second.closeChannel("orders/7");
    assert.doesNotMatch(program.errors, /missing/);
  });
});
