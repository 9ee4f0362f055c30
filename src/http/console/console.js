/**
 * The console page: what is watched, the list of events, publishing, the list of channels. It keeps
 * at most `ROWS_MAX` events and `TEXT_MAX` characters of their data, shown and held back alike.
 *
 * @module
 */
import { Visnyk } from "./visnyk.js";

const byId = (id) => document.getElementById(id);

/** The token that was pasted in. It is kept nowhere but in its field. */
const token = () => byId("token").value.trim() || undefined;

/** Events kept in the page, and how many more a pause holds back. */
const ROWS_MAX = 500;
/** Characters of event data kept among them. */
const TEXT_MAX = 8 * 1024 * 1024;
/** Characters of data in a row's line, and in its opened detail. */
const LINE_MAX = 400;
const DETAIL_MAX = 64 * 1024;
/** What a subscription may name, as the hub has it by default. */
const CHANNELS_MAX = 100;
/** Channels on a page of the list, the time between its refreshes, and after a failure. */
const PAGE_CHANNELS = 100;
const REFRESH_MS = 3_000;
const REFRESH_FAILED_MS = 10_000;
const REFRESH_WAIT_MS = 10_000;
/** Connections shown. */
const PAGE_CONNECTIONS = 50;
/** How often a screen reader announces new events. */
const ANNOUNCE_MS = 5_000;

const GAPS = {
  evicted: "Events are missing: history no longer held them.",
  epoch: "Events may be missing: the hub began a new history.",
  unknown_position: "Events may be missing: the hub does not know the position it was asked for.",
  slow: "Events were skipped: this page read too slowly.",
};

const STATES = {
  idle: "Not pattern_subscribers",
  connecting: "Connecting",
  open: "Connected",
  reconnecting: "Reconnecting",
  gone: "Channel closed",
  refused: "Refused",
  expired: "Token expired",
};

/** Events in order of arrival, the oldest dropped past either bound. */
class Backlog {
  entries = [];
  #text = 0;

  add(entry) {
    this.entries.push(entry);
    this.#text += size(entry);
    const dropped = [];
    while (this.entries.length > ROWS_MAX || (this.#text > TEXT_MAX && this.entries.length > 1)) {
      const [oldest] = this.entries.splice(0, 1);
      this.#text -= size(oldest);
      dropped.push(oldest);
    }
    return dropped;
  }

  takeAll() {
    const { entries } = this;
    this.entries = [];
    this.#text = 0;
    return entries;
  }
}

/** The list of events: newest first, drawn at most once a frame. */
class EventList {
  #rows = byId("rows");
  #waiting = new Backlog();
  #shown = new Backlog();
  #elements = new Map();
  #frame = 0;
  #paused = false;
  total = 0;

  get isEmpty() {
    return this.#shown.entries.length === 0 && this.#waiting.entries.length === 0;
  }

  add(entry) {
    if (!entry.notice) this.total += 1;
    this.#waiting.add(entry);
    this.#schedule();
  }

  pause(paused) {
    this.#paused = paused;
    this.#schedule();
  }

  clear() {
    this.total = 0;
    this.#waiting.takeAll();
    this.#shown.takeAll();
    this.#elements.clear();
    this.#rows.replaceChildren();
    this.#schedule();
  }

  #schedule() {
    // A hidden tab draws no frames; what it holds meanwhile is bounded all the same.
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (!this.#paused) this.#draw();
      this.#count();
    });
  }

  #draw() {
    const fresh = document.createDocumentFragment();
    for (const entry of this.#waiting.takeAll()) {
      const row = entry.notice ? noticeRow(entry) : eventRow(entry);
      this.#elements.set(entry, row);
      fresh.prepend(row);
      for (const old of this.#shown.add(entry)) {
        this.#elements.get(old).remove();
        this.#elements.delete(old);
      }
    }
    this.#rows.prepend(fresh);
  }

  #count() {
    const shown = this.#shown.entries.filter((entry) => !entry.notice).length;
    const held = this.#waiting.entries.length;
    const parts = [];
    if (this.total > shown + held) parts.push(`Newest ${shown} of ${format(this.total)} events`);
    else if (this.total > 0) parts.push(plural(shown, "event"));
    if (this.#paused) parts.push(held > 0 ? `paused, ${held} held back` : "paused");
    byId("count").textContent = parts.join(" · ");
    byId("fact-events").textContent = format(this.total);
    byId("clear").disabled = this.isEmpty;
    byId("empty").hidden = this.#shown.entries.length > 0;
  }
}

/** What is being watched, and the connection that does it. */
class Watch {
  #events;
  #hub = null;
  #position = null;
  active = null;
  /** Called when the subscription is in place, and so its channels exist. */
  onOpen = () => {};

  constructor(events) {
    this.#events = events;
  }

  start(plan) {
    this.#events.clear();
    this.#begin(plan, plan.from);
  }

  /** Goes on, or tries again, with the token that is in its field now; what was seen stays. */
  goOn(plan) {
    this.#begin(plan, this.#hub?.position ?? this.#position ?? plan.from);
  }

  #begin(plan, from) {
    this.stop();
    this.active = plan;
    const { channels, transport } = plan;
    const hub = new Visnyk({ channels, from, transport, token, shared: true });
    this.#hub = hub;
    hub.on("*", (event) => this.#events.add(event));
    hub.on("visnyk.gap", ({ reason, channel }) => {
      const where = channel ? ` (${channel})` : "";
      this.#note(`${GAPS[reason] ?? "Events are missing."}${where}`, false);
    });
    hub.on("visnyk.closed", ({ channel }) => this.#note(`Channel closed: ${channel}`, true));
    hub.on("visnyk.state", (state) => this.#enter(state));
    this.#enter(hub.state);
    showPlan(plan);
  }

  stop() {
    this.active = null;
    this.#hub?.close();
    this.#hub = null;
    this.#position = null;
    this.#enter(null);
    showPlan(null);
  }

  #note(text, bad) {
    this.#events.add({ notice: true, text, bad, time: new Date().toISOString() });
  }

  #enter(state) {
    if (state?.state === "closed") {
      if (state.reason === "closed") return;
      // The hub ended it. What was seen stays on the page.
      this.active = null;
      this.#position = this.#hub?.position ?? null;
      this.#hub = null;
      const detail = state.detail ?? `The hub answered ${state.status}.`;
      if (state.status === 401) askForToken(detail);
      else if (state.reason === "refused") showWatchError(detail);
      else this.#note("Every watched channel was closed. The subscription has ended.", true);
      showPlan(null);
    }
    const name = state === null ? "idle" : (state.reason ?? state.state);
    if (name === "open" && byId("state").dataset.state !== "open") this.onOpen();
    byId("state").dataset.state = name;
    const text = STATES[name];
    if (byId("state-text").textContent !== text) {
      byId("state-text").textContent = text;
      announce(text);
    }
    byId("state").title = state?.retryMs ? `Next try in ${seconds(state.retryMs)}` : "";
    byId("fact-reconnects").textContent = format(state?.reconnects ?? 0);
    byId("fact-transport").textContent = transportText(state);
  }
}

/** The table of channels: one page at a time, refreshed while it can be seen. */
class ChannelTable {
  #watch;
  #body = byId("channels");
  #rows = new Map();
  #after = null;
  #next = null;
  #timer;
  #asking = null;

  constructor(watch) {
    this.#watch = watch;
    byId("pager-first").addEventListener("click", () => this.#turn(null));
    byId("pager-next").addEventListener("click", () => this.#turn(this.#next));
    document.addEventListener("visibilitychange", () => this.refresh());
    this.refresh();
  }

  /** Asks now and from then on at intervals; not at all while the tab is hidden. */
  async refresh() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    if (document.hidden) return;
    const asking = new AbortController();
    this.#asking = asking;
    const timer = setTimeout(() => asking.abort(), REFRESH_WAIT_MS);
    let pauseMs = REFRESH_MS;
    try {
      const query = new URLSearchParams({ limit: PAGE_CHANNELS });
      if (this.#after !== null) query.set("after", this.#after);
      const response = await fetch(`./v1/channels?${query}`, {
        signal: asking.signal,
        cache: "no-store",
        headers: token() ? { Authorization: `Bearer ${token()}` } : {},
      });
      if (response.status === 401) byId("token").placeholder = "needed by this hub";
      if (!response.ok) throw new Error(`the hub answered ${response.status}`);
      this.#show(await response.json());
    } catch {
      if (this.#asking !== asking) return;
      byId("channels-note").textContent = "Not up to date";
      pauseMs = REFRESH_FAILED_MS;
    } finally {
      clearTimeout(timer);
    }
    if (this.#asking === asking) this.#timer = setTimeout(() => this.refresh(), pauseMs);
  }

  #turn(after) {
    this.#after = after;
    byId("channels").closest(".table").scrollTop = 0;
    this.refresh();
  }

  #show({ channels, next }) {
    const page = channels.slice(0, PAGE_CHANNELS);
    this.#next = next ?? null;
    const names = new Set(page.map(({ channel }) => channel));
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue;
      row.element.remove();
      this.#rows.delete(name);
    }
    // Rows stay the same elements, so that a refresh takes no one's focus away.
    page.forEach((info, index) => {
      if (!this.#rows.has(info.channel)) this.#rows.set(info.channel, this.#row(info.channel));
      const { element, button, cells } = this.#rows.get(info.channel);
      button.disabled = info.closed === true;
      button.title = info.closed ? `${info.channel} is closed` : `Watch ${info.channel}`;
      const figures = [info.subscribers, info.pollers, info.events_retained];
      figures.forEach((figure, at) => (cells[at].textContent = format(figure)));
      const there = this.#body.children[index];
      if (there !== element) this.#body.insertBefore(element, there ?? null);
    });
    const paged = this.#next !== null || this.#after !== null;
    byId("channels-empty").hidden = page.length > 0 || this.#after !== null;
    byId("channels-note").textContent = paged ? `${page.length} on this page` : "";
    byId("pager").hidden = !paged;
    byId("pager-first").disabled = this.#after === null;
    byId("pager-next").disabled = this.#next === null;
  }

  #row(name) {
    const button = element("button", { type: "button" }, name);
    button.setAttribute("aria-label", `Watch ${name}`);
    button.addEventListener("click", () => {
      showForm({ ...readForm(), channels: [name] });
      this.#watch.start(readForm());
      showView("events");
    });
    const cells = Array.from({ length: 3 }, () => element("td", { className: "number" }));
    const first = element("td");
    first.append(button);
    const row = element("tr");
    row.append(first, ...cells);
    return { element: row, button, cells };
  }
}

/** The table of connections: asked for only while it is open and can be seen. */
class ConnectionTable {
  #details = byId("connections-details");
  #state = byId("connections-state");
  #timer;
  #asking = null;

  constructor() {
    this.#details.addEventListener("toggle", () => this.refresh());
    this.#state.addEventListener("change", () => this.refresh());
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  open() {
    this.#details.open = true;
  }

  async refresh() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    if (document.hidden || !this.#details.open) return;
    const asking = new AbortController();
    this.#asking = asking;
    const timer = setTimeout(() => asking.abort(), REFRESH_WAIT_MS);
    let pauseMs = REFRESH_MS;
    try {
      const query = new URLSearchParams({ limit: PAGE_CONNECTIONS });
      if (this.#state.value) query.set("state", this.#state.value);
      const response = await fetch(`./v1/connections?${query}`, {
        signal: asking.signal,
        cache: "no-store",
        headers: token() ? { Authorization: `Bearer ${token()}` } : {},
      });
      if (!response.ok) throw new Error(`the hub answered ${response.status}`);
      this.#show(await response.json());
    } catch {
      if (this.#asking !== asking) return;
      byId("connections-note").textContent = "Not up to date";
      pauseMs = REFRESH_FAILED_MS;
    } finally {
      clearTimeout(timer);
    }
    if (this.#asking === asking) this.#timer = setTimeout(() => this.refresh(), pauseMs);
  }

  #show({ totals, connections, next }) {
    // Only admins see default_identity's.
    const counts = totals
      ? `${plural(totals.streams, "stream")}, ${plural(totals.polls, "poll")}`
      : "Your own";
    const more = next === undefined ? "" : ` · first ${connections.length} shown`;
    byId("connections-note").textContent = counts + more;
    byId("connections").replaceChildren(...connections.map(connectionRow));
    byId("connections-empty").hidden = connections.length > 0;
  }
}

function connectionRow(connection) {
  const { id, transport, state, reason, peer, channels, patterns } = connection;
  const selectors = [...channels, ...patterns];
  const more = connection.subscriptions - selectors.length;
  const names = selectors.join(" ") + (more > 0 ? ` and ${more} more` : "");
  const client = element("td", { title: `${names}\nid ${id}, at ${connection.position}` });
  client.append(
    element("span", { className: "peer" }, peer ?? `Connection ${id}`),
    element("span", { className: "names" }, `${transport === "sse" ? "SSE" : "Poll"} · ${names}`),
  );
  const word = (reason ?? state).replaceAll("_", " ");
  const mark = element("span", { className: `mark ${state}` }, word);
  const status = element("td");
  status.append(mark);
  const lag = element("td", { className: "number" }, format(connection.lag_events));
  lag.title = `${format(connection.lag_bytes)} bytes, ${format(connection.unsent_bytes)} in flight`;
  const age = element("td", { className: "number" }, duration(connection.age_s));
  age.title = `last byte taken ${duration(Math.floor(connection.idle_ms / 1000))} before`;
  const row = element("tr");
  row.append(client, status, lag, age);
  return row;
}

function eventRow(event) {
  const row = element("details", { className: "row" });
  const summary = element("summary");
  const plain = event.type === "message";
  summary.append(
    element("time", { dateTime: event.time, title: event.time }, clock(event.time)),
    element("span", { className: "channel", title: event.channel }, event.channel),
    element("span", { className: plain ? "type plain" : "type", title: event.type }, event.type),
    element("span", { className: "data" }, event.data.slice(0, LINE_MAX)),
  );
  row.append(summary);
  row.addEventListener("toggle", () => {
    if (row.open && row.children.length === 1) row.append(eventDetail(event));
  });
  const item = element("li");
  item.append(row);
  return item;
}

function eventDetail(event) {
  const facts = element("dl");
  const lines = { Id: event.id, Channel: event.channel, Type: event.type, Time: event.time };
  for (const [name, value] of Object.entries(lines)) {
    facts.append(element("dt", {}, name), element("dd", {}, value));
  }
  const text = event.data.length > DETAIL_MAX ? event.data.slice(0, DETAIL_MAX) : pretty(event.data);
  const detail = element("div", { className: "detail" });
  detail.append(facts, element("pre", {}, text || "(no data)"));
  if (event.data.length > DETAIL_MAX) {
    const cut = `The first ${format(DETAIL_MAX)} of ${format(event.data.length)} characters.`;
    detail.append(element("p", { className: "hint" }, cut));
  }
  return detail;
}

function noticeRow({ text, bad, time }) {
  const row = element("li", { className: bad ? "notice bad" : "notice" });
  row.append(element("time", { dateTime: time }, clock(time)), text);
  return row;
}

/** Shows what is watched: the button, the empty list, the title, the address of the page. */
function showPlan(plan) {
  showWatchButton(plan);
  const names = plan?.channels.join(" ") ?? "";
  document.title = plan ? `${names} · Visnyk console` : "Visnyk console";
  byId("empty-title").textContent = plan
    ? `Waiting for events on ${names}`
    : "No channel is being watched";
  byId("empty-text").textContent = plan
    ? "They appear here as they are published. Try it:"
    : "Name one above, or choose one from the list of channels.";
  const target = plan?.channels.find((name) => !name.includes("*"));
  byId("empty-command").hidden = target === undefined;
  if (target === undefined) {
    if (plan) byId("empty-text").textContent = "They appear here as they are published.";
    return;
  }
  const path = `v1/channels/${encodeURIComponent(target).replaceAll("'", "%27")}/events`;
  const shown = token() ? '-H "Authorization: Bearer $TOKEN" ' : "";
  byId("empty-code").textContent = `curl -d hello ${shown}${new URL(path, location.href).href}`;
  const channel = byId("publish-channel");
  if (!channel.dataset.edited) channel.value = target;
}

function showWatchButton(active) {
  const same = active !== null && JSON.stringify(active) === JSON.stringify(readForm());
  byId("watch-button").textContent = same ? "Stop" : "Watch";
  byId("watch-button").classList.toggle("stop", same);
}

function showWatchError(text, field = "watch-channels") {
  byId("watch-error").textContent = text;
  byId("watch-error").hidden = text === "";
  for (const id of ["watch-channels", "token"]) {
    byId(id).setAttribute("aria-invalid", String(text !== "" && id === field));
  }
}

/** The hub wants a token, or another one. */
function askForToken(detail) {
  byId("token").placeholder = "needed by this hub";
  showWatchError(token() ? detail : "This hub needs a token: paste one above.", "token");
}

/** Names are separated by blanks; a blank or percent sign in a name is written `%20`, `%25`. */
function readForm() {
  const names = byId("watch-channels").value.split(/\s+/).filter(Boolean);
  const decode = (name) => name.replace(/%(20|25)/g, (_, code) => (code === "20" ? " " : "%"));
  return {
    channels: [...new Set(names.map(decode))],
    from: byId("watch-from").value,
    transport: byId("watch-transport").value,
  };
}

function showForm({ channels, from, transport }) {
  const encode = (name) => name.replaceAll("%", "%25").replaceAll(" ", "%20");
  byId("watch-channels").value = channels.map(encode).join(" ");
  for (const [id, value] of [["watch-from", from], ["watch-transport", transport]]) {
    const select = byId(id);
    if ([...select.options].some((option) => option.value === value)) select.value = value;
  }
}

/** The plan in the page's address, so that it can be reloaded and passed on. */
function readAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  const channels = query.getAll("channel").slice(0, CHANNELS_MAX);
  return {
    channels: channels.length > 0 ? channels : ["default"],
    from: query.get("from") ?? "now",
    transport: query.get("transport") ?? "auto",
  };
}

function writeAddress({ channels, from, transport }) {
  const query = new URLSearchParams(channels.map((name) => ["channel", name]));
  if (from !== "now") query.set("from", from);
  if (transport !== "auto") query.set("transport", transport);
  history.replaceState(null, "", `#${query}`);
}

function showView(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll(".views button")) {
    if (button.dataset.view === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
}

function submitWatch(watch) {
  const plan = readForm();
  showWatchError("");
  if (watch.active !== null && JSON.stringify(watch.active) === JSON.stringify(plan)) {
    watch.stop();
  } else if (plan.channels.length === 0) {
    showWatchError("Name at least one channel.");
    byId("watch-channels").focus();
  } else if (plan.channels.length > CHANNELS_MAX) {
    showWatchError(`Name at most ${CHANNELS_MAX} channels; a pattern may stand for many.`);
  } else {
    writeAddress(plan);
    watch.start(plan);
  }
}

async function submitPublish(hub, table) {
  const result = byId("publish-result");
  const button = byId("publish-button");
  if (button.disabled) return;
  button.disabled = true;
  result.textContent = "";
  try {
    const type = byId("publish-type").value || undefined;
    const { id } = await hub.publish(byId("publish-channel").value, byId("publish-data").value, {
      type,
    });
    result.dataset.outcome = "done";
    result.textContent = `Published as ${id}`;
    table.refresh();
  } catch (error) {
    result.dataset.outcome = "failed";
    result.textContent = `Not published: ${error.message}`;
  } finally {
    button.disabled = false;
  }
}

function announce(text) {
  byId("announce").textContent = text;
}

/** Sums up what came, throttle enough to be listened to. */
function announceEvents(events) {
  let announced = 0;
  setInterval(() => {
    if (events.total > announced && !document.hidden) {
      announce(plural(events.total - announced, "new event"));
    }
    announced = events.total;
  }, ANNOUNCE_MS);
}

function transportText(state) {
  if (!state?.transport || state.state === "closed") return "–";
  const name = state.transport === "sse" ? "SSE" : "Long-poll";
  return state.role === "follower" ? `${name}, by another tab` : name;
}

function element(name, properties = {}, text = "") {
  const made = Object.assign(document.createElement(name), properties);
  if (text) made.textContent = text;
  return made;
}

function size({ data, text }) {
  return (data ?? text).length;
}

function pretty(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}

function clock(time) {
  const date = new Date(time);
  const two = (number) => String(number).padStart(2, "0");
  const ms = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}

function format(number) {
  return Number(number ?? 0).toLocaleString("en");
}

function plural(number, noun) {
  return `${format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

function duration(s) {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86_400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} d`;
}

function seconds(ms) {
  return `${Math.max(1, Math.round(ms / 1000))} s`;
}

function main() {
  const events = new EventList();
  const watch = new Watch(events);
  const table = new ChannelTable(watch);
  watch.onOpen = () => table.refresh();
  const connections = new ConnectionTable();
  const publisher = new Visnyk({ url: new URL(".", location.href), token });

  byId("hub-address").textContent = location.host;
  byId("token").addEventListener("change", () => {
    showWatchError("");
    const plan = watch.active ?? readForm();
    if (plan.channels.length > 0) watch.goOn(plan);
    table.refresh();
    connections.refresh();
  });
  byId("watch-form").addEventListener("submit", (submit) => {
    submit.preventDefault();
    submitWatch(watch);
  });
  byId("watch-form").addEventListener("input", () => {
    showWatchError("");
    showWatchButton(watch.active);
  });
  byId("pause").addEventListener("click", ({ currentTarget: button }) => {
    const paused = button.classList.toggle("on");
    button.textContent = paused ? "Resume" : "Pause";
    events.pause(paused);
  });
  byId("clear").addEventListener("click", () => events.clear());
  byId("publish-channel").addEventListener("input", ({ currentTarget: input }) => {
    input.dataset.edited = "yes";
  });
  byId("publish-form").addEventListener("submit", (submit) => {
    submit.preventDefault();
    submitPublish(publisher, table);
  });
  byId("publish-data").addEventListener("keydown", (press) => {
    if (press.key !== "Enter" || !(press.ctrlKey || press.metaKey)) return;
    press.preventDefault();
    byId("publish-form").requestSubmit();
  });
  for (const button of document.querySelectorAll(".views button")) {
    button.addEventListener("click", () => {
      showView(button.dataset.view);
      if (button.dataset.view === "connections") connections.open();
    });
  }
  byId("empty-copy").hidden = !navigator.clipboard;
  byId("empty-copy").addEventListener("click", async ({ currentTarget: button }) => {
    await navigator.clipboard.writeText(byId("empty-code").textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1_500);
  });
  addEventListener("hashchange", () => {
    showForm(readAddress());
    watch.start(readForm());
  });

  announceEvents(events);
  showForm(readAddress());
  watch.start(readForm());
}

main();
