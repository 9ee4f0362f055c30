/**
 * The hub at one look: facts, charts of the last 15 minutes, what was rejected and why.
 *
 * @module
 */
import { get } from "./api.js";
import { Chart } from "./chart.js";
import { byId, element, setText } from "./dom.js";
import { bytes, duration, format, milliseconds, plural, short, words } from "./format.js";
import { Poller } from "./poller.js";

/** The view. */
export class Overview {
  #samples = [];
  #max = 180;
  #intervalMs = 5_000;
  #charts = CHARTS.map((chart) => new Chart(...chart));
  #facts = new Map();
  #cursor = null;
  #poller;

  constructor(banner) {
    this.#poller = new Poller((signal) => this.#ask(signal), banner, REFRESH_MS);
    const box = byId("charts");
    box.prepend(...this.#charts.map((chart) => chart.element));
    box.addEventListener("pointermove", ({ clientX, target }) => {
      const chart = this.#charts.find(({ element }) => element.contains(target));
      if (chart) this.#point(chart.nearest(clientX));
    });
    box.addEventListener("pointerleave", () => this.#point(null));
    box.addEventListener("blur", () => this.#point(null));
    box.addEventListener("keydown", (press) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12 }[press.key];
      if (press.key === "Escape") this.#point(null);
      if (step === undefined) return;
      press.preventDefault();
      this.#point((this.#cursor ?? this.#samples.length - 1) + step);
    });
  }

  show() {
    this.#poller.start();
  }

  hide() {
    this.#poller.stop();
  }

  async #ask(signal) {
    const status = await get("./v1/status", signal);
    // The clock of the hub was set back: new samples would look older than those that this page has.
    if (this.#samples.at(-1)?.time > Date.parse(status.now)) this.#samples = [];
    const missing = (Date.parse(status.now) - (this.#samples.at(-1)?.time ?? 0)) / this.#intervalMs;
    const last = Math.min(this.#max, Math.max(1, Math.ceil(missing) + 1));
    const { samples, samples_max, interval_ms } = await get(`./v1/samples?last=${last}`, signal);
    const known = this.#samples.at(-1)?.time ?? 0;
    const timed = samples.map((sample) => ({ ...sample, time: Date.parse(sample.at) }));
    // A hub that was started anew has none of the samples that this page has seen.
    const fresh = timed.filter(({ time }) => time > known);
    this.#max = samples_max;
    this.#intervalMs = interval_ms;
    const windowMs = samples_max * interval_ms;
    const newest = fresh.at(-1)?.time ?? known;
    const kept = [...this.#samples, ...fresh].filter(({ time }) => time > newest - windowMs);
    this.#cursor = null;
    this.#samples = kept;
    this.#charts.forEach((chart) => chart.update(kept, windowMs));
    this.#showFacts(status);
    const rejected = kept.flatMap(({ rejections }) => Object.entries(rejections).flatMap(
      ([kind, reasons]) => Object.entries(reasons).map(([reason, count]) => [`${kind}: ${words(reason)}`, count]),
    ));
    showReasons("rejections", rejected);
    showReasons("gaps", kept.flatMap(({ gaps }) => Object.entries(gaps).map(([r, n]) => [words(r), n])));
  }

  #point(index) {
    const last = this.#samples.length - 1;
    if (last < 0) return;
    this.#cursor = index === null ? null : Math.max(0, Math.min(last, index));
    this.#charts.forEach((chart) => chart.point(this.#cursor));
  }

  #showFacts(status) {
    const { connections, channels, memory } = status;
    this.#fact("State", words(status.state), "ready: it takes clients");
    this.#fact("Version", status.version);
    this.#fact("Engine", status.history, ENGINES[status.history]);
    this.#fact("Uptime", duration(status.uptime_ms / 1_000), `since ${status.started_at}`);
    this.#fact("Connections", short(connections.streams + connections.polls),
      `${plural(connections.streams, "stream")}, ${plural(connections.polls, "poll")}, at most ${format(connections.max)}`);
    const throttled = channels.throttled > 0 ? `, ${format(channels.throttled)} throttled` : "";
    this.#fact("Channels", short(channels.open) + throttled, `at most ${format(channels.max)}`);
    this.#fact("History", bytes(memory.history_bytes), `at most ${bytes(memory.history_bytes_max)} in memory`);
    this.#fact("Threads", format(status.shards), "that serve connections");
  }

  #fact(name, value, title = "") {
    if (!this.#facts.has(name)) {
      const dd = element("dd");
      byId("overview-facts").append(element("div", {}, element("dt", {}, name), dd));
      this.#facts.set(name, dd);
    }
    setText(this.#facts.get(name), value);
    this.#facts.get(name).title = title;
  }
}

/** Reasons with their sums, the most frequent first. */
function showReasons(id, counts) {
  const sums = new Map();
  for (const [reason, count] of counts) sums.set(reason, (sums.get(reason) ?? 0) + count);
  const sorted = [...sums].sort(([, a], [, b]) => b - a);
  byId(id).replaceChildren(...sorted.map(([reason, count]) =>
    element("li", {}, element("span", {}, reason), element("b", {}, format(count)))));
  byId(`${id}-empty`).hidden = sorted.length > 0;
}

/** All rejections of a sample. `tokens` says why a token was refused, and is in `auth` too. */
function rejected({ rejections }) {
  const kinds = Object.entries(rejections).filter(([kind]) => kind !== "tokens");
  return kinds.flatMap(([, reasons]) => Object.values(reasons)).reduce((sum, count) => sum + count, 0);
}

const ENGINES = {
  memory: "Events are in memory, and gone with the process",
  disk: "Events are on this machine's disk",
  redis: "Events are in a log that hubs share",
};

/** A scale of whole numbers. */
const COUNTS = { least: 2 };
const one = (value) => [{ name: "", value }];
const CHARTS = [
  ["Events a second", "Events accepted from publishers", one((s) => s.events_per_s), short],
  ["Deliveries a second", "Events handed to connections: one event to a thousand is a thousand",
    one((s) => s.deliveries_per_s), short],
  ["Connections", "Streams, waiting polls, and connections on which requests are answered", [
    { name: "streams", value: (s) => s.streams },
    { name: "polls", value: (s) => s.polls },
    { name: "HTTP", value: (s) => s.http_connections },
  ], short, COUNTS],
  ["Show to socket", "From when events were shown until the last send of their round", [
    { name: "p50", value: (s) => s.fan_out_ms?.p50 },
    { name: "p99", value: (s) => s.fan_out_ms?.p99 },
  ], milliseconds],
  ["Publish to answer", "From a publish to its 201", [
    { name: "p50", value: (s) => s.publish_ms?.p50 },
    { name: "p99", value: (s) => s.publish_ms?.p99 },
  ], milliseconds],
  ["Behind", "Connections that have not been sent everything: blocked ones take no more bytes, others catch up or replay history", [
    { name: "blocked", value: (s) => s.behind.blocked },
    { name: "catching up", value: (s) => s.behind.catching_up },
    { name: "replaying", value: (s) => s.behind.replaying },
  ], short, COUNTS],
  ["Lag", "Events that connections have not been sent, all together", one((s) => s.lag_events), short, COUNTS],
  ["Unsent bytes", "Bytes in memory for connections whose sockets have not taken them; what they lag otherwise waits in history", one((s) => s.unsent_bytes), bytes, { binary: true, least: 1024 }],
  ["Fell behind", "Times that a connection took less than was to be sent, each five seconds",
    one((s) => s.fell_behind), short, COUNTS],
  ["Rejected and gaps", "Requests, publishes and connections rejected, and gaps sent, each five seconds", [
    { name: "rejected", value: rejected },
    { name: "gaps", value: (s) => Object.values(s.gaps).reduce((sum, count) => sum + count, 0) },
  ], short, COUNTS],
  ["Memory", "Resident memory of the process, and bytes in histories", [
    { name: "process", value: (s) => s.resident_bytes },
    { name: "history", value: (s) => s.history_bytes },
  ], bytes, { binary: true, least: 2 ** 20 }],
  ["Processors in use", "On average over five seconds; 1 is one processor all the time", one((s) => s.cpus), short],
];
const REFRESH_MS = 5_000;
