// A hub of its own for a test: the real binary on a port that the system chooses.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const START_MS = 15_000;
const LOG_MAX = 16_384;

/** Short reconnection times, so that tests of reconnecting do not wait for seconds. */
export const QUICK_RETRY = {
  VISNYK_LIMITS__CONNECTIONS__RETRY_MIN_MS: "100",
  VISNYK_LIMITS__CONNECTIONS__RETRY_MAX_MS: "200",
};

/** The secret of hubs that ask for tokens. */
export const SECRET = "a-secret-of-these-tests-and-of-no-hub";

/** A token of that secret, for so many seconds. */
export function mint({ seconds = 600, sub = "ann", subscribe = ["**"], publish = [], admin = false } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signed = `${part({ alg: "HS256" })}.${part({ sub, exp, visnyk: { subscribe, publish, admin } })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** Starts a hub that asks for tokens; `hub` itself has one that allows everything. */
export async function startGuardedHub(test, env = {}) {
  const hub = await startHub(test, { env: { VISNYK_JWT_SECRET: SECRET, ...env } });
  hub.token = mint({ sub: "tests", publish: ["**"], admin: true });
  return hub;
}

/** Starts a hub; `test.after` ends it. `listen` names the port of an earlier hub. */
export async function startHub(test, { env = {}, listen = "127.0.0.1:0" } = {}) {
  const child = spawn(binary(), ["serve", "--listen", listen], {
    env: { ...surroundings(), ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = new Promise((resolve) => child.once("exit", resolve).once("error", resolve));
  // Before its start is waited for: a hub that does not start in time would keep this process from ending.
  test.after(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  return new Hub(await address(child), child, exited);
}

class Hub {
  #child;
  #exited;
  /** Shown with what the tests themselves ask. */
  token = null;

  constructor(url, child, exited) {
    this.url = url;
    this.#child = child;
    this.#exited = exited;
  }

  /** Publishes one event and returns its id. */
  async publish(channel, data, type) {
    const query = type ? `?type=${encodeURIComponent(type)}` : "";
    const receipt = await this.#post(`${this.channelUrl(channel)}/events${query}`, data);
    return receipt.id;
  }

  /** Publishes the numbers from `first` to `last`, each as an event, in one batch. */
  async publishNumbers(channel, first, last) {
    let lines = "";
    for (let number = first; number <= last; number += 1) lines += `{"data":"${number}"}\n`;
    const type = { "Content-Type": "application/x-ndjson" };
    return this.#post(`${this.channelUrl(channel)}/events`, lines, type);
  }

  async closeChannel(channel) {
    const init = { method: "DELETE", headers: this.#shown() };
    const response = await fetch(this.channelUrl(channel), init);
    if (response.status !== 204) throw new Error(`DELETE answered ${response.status}`);
  }

  async channel(name) {
    const response = await fetch(this.channelUrl(name), { headers: this.#shown() });
    return response.ok ? response.json() : null;
  }

  channelUrl(name) {
    return `${this.url}/v1/channels/${encodeURIComponent(name)}`;
  }

  /** Ends the hub without a drain, as a crash would; once it has ended, does nothing. */
  async crash() {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  #shown(headers = {}) {
    return this.token ? { ...headers, Authorization: `Bearer ${this.token}` } : headers;
  }

  async #post(url, body, headers = {}) {
    const response = await fetch(url, { method: "POST", body, headers: this.#shown(headers) });
    const text = await response.text();
    if (response.status !== 201) throw new Error(`POST answered ${response.status}: ${text}`);
    return JSON.parse(text);
  }
}

/** The environment without settings that someone may have made for a hub of their own. */
function surroundings() {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith("VISNYK_"));
  return Object.fromEntries(entries);
}

function binary() {
  if (process.env.VISNYK_BIN) return process.env.VISNYK_BIN;
  const built = ["release", "debug"]
    .map((profile) => `${ROOT}target/${profile}/visnyk`)
    .filter(existsSync)
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  if (built.length === 0) throw new Error("no hub to test: build it, or name it in VISNYK_BIN");
  return built[0];
}

/** The address on the line that the hub writes once it accepts connections. */
function address(child) {
  return new Promise((resolve, reject) => {
    let log = "";
    const fail = (why) => reject(new Error(`the hub ${why}: ${log}`));
    const timer = setTimeout(fail, START_MS, "did not start in time");
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`exited with ${code}`));
    child.stderr.on("data", (bytes) => {
      log = (log + bytes).slice(-LOG_MAX);
      const line = /listening on (https?:\/\/\S+)\s/.exec(log);
      if (!line) return;
      clearTimeout(timer);
      resolve(line[1].replace(/\/$/, ""));
    });
  });
}
