/**
 * What is watched, and the connection that does it.
 *
 * @module
 */
import { skewMs, token } from "./api.js";
import { announce, byId, setText } from "./dom.js";
import { format, plural } from "./format.js";
import { Visnyk } from "../visnyk.js";

/** The subscription of the page. */
export class Watch {
  #events;
  #page;
  #hub = null;
  #position = null;
  /** When the connection was made; what is older comes out of history. */
  #openedMs = Infinity;
  #caughtUp = 0;
  #catching;
  #ticking;
  active = null;

  /** `page` shows the plan, its errors, and that a token is needed. */
  constructor(events, page) {
    this.#events = events;
    this.#page = page;
  }

  start(plan) {
    this.#events.clear();
    this.#begin(plan, plan.from);
  }

  /** Goes on, or tries again, with the token that is in its field now; what was seen stays. */
  goOn(plan) {
    this.#begin(plan, this.#hub?.position ?? this.#position ?? plan.from);
  }

  stop() {
    this.active = null;
    this.#hub?.close();
    this.#hub = null;
    this.#position = null;
    this.#enter(null);
    this.#page.showPlan(null);
  }

  #begin(plan, from) {
    this.stop();
    this.active = plan;
    const { channels, transport } = plan;
    const hub = new Visnyk({ channels, from, transport, token, shared: true });
    this.#hub = hub;
    hub.on("*", (event) => this.#take(event));
    hub.on("visnyk.gap", ({ reason, channel }) => {
      const where = channel ? ` (${channel})` : "";
      this.#note(`${GAPS[reason] ?? "Events are missing."}${where}`, false);
    });
    hub.on("visnyk.closed", ({ channel }) => this.#note(`Channel closed: ${channel}`, true));
    hub.on("visnyk.state", (state) => this.#enter(state));
    this.#enter(hub.state);
    this.#page.showPlan(plan);
  }

  #take(event) {
    this.#events.add(event);
    const newMs = Math.min(this.#openedMs, Date.now()) + skewMs - OLD_MS;
    if (Date.parse(event.time) > newMs) return;
    this.#caughtUp += 1;
    clearTimeout(this.#catching);
    setState("catching", `Catching up: ${plural(this.#caughtUp, "event")}`);
    this.#catching = setTimeout(() => {
      this.#caughtUp = 0;
      this.#catching = undefined;
      if (this.#hub?.state.state === "open") setState("open", STATES.open);
    }, CAUGHT_UP_MS);
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
      if (state.status === 401) this.#page.askForToken(detail);
      else if (state.reason === "refused") this.#page.showError(detail);
      else this.#note("Every watched channel was closed. The subscription has ended.", true);
      this.#page.showPlan(null);
    }
    const name = state === null ? "idle" : (state.reason ?? state.state);
    clearInterval(this.#ticking);
    if (name === "open") {
      this.#openedMs = Date.now();
      this.#page.opened();
    } else {
      this.#openedMs = Infinity;
      clearTimeout(this.#catching);
      this.#catching = undefined;
      this.#caughtUp = 0;
    }
    if (this.#catching === undefined) setState(name, STATES[name]);
    if (name === "reconnecting" && state.retryMs) this.#countDown(state.retryMs);
    setText(byId("fact-reconnects"), format(state?.reconnects ?? 0));
    setText(byId("fact-transport"), transportText(state));
  }

  #countDown(retryMs) {
    const until = performance.now() + retryMs;
    const tick = () => {
      const s = Math.ceil((until - performance.now()) / 1_000);
      setState("reconnecting", s > 0 ? `${STATES.reconnecting} in ${s} s` : STATES.reconnecting);
    };
    tick();
    this.#ticking = setInterval(tick, TICK_MS);
  }
}

/** Shows the state; a change of its name is read out, a count is not. */
function setState(name, text) {
  const box = byId("state");
  if (box.dataset.state !== name) announce(text);
  box.dataset.state = name;
  setText(byId("state-text"), text);
}

function transportText(state) {
  if (!state?.transport || state.state === "closed") return "–";
  const name = state.transport === "sse" ? "SSE" : "Long-poll";
  return state.role === "follower" ? `${name}, by another tab` : name;
}

const GAPS = {
  evicted: "Events are missing: history no longer held them.",
  epoch: "Events may be missing: the hub began a new history.",
  unknown_position: "Events may be missing: the hub does not know the position it was asked for.",
  slow: "Events were skipped: this page read too slowly.",
  search_limit: "Older events may be there: the hub ended its search for them.",
};
const STATES = {
  idle: "Not watching",
  connecting: "Connecting",
  open: "Connected",
  reconnecting: "Reconnecting",
  gone: "Channel closed",
  refused: "Refused",
  expired: "Token expired",
};
/** Clocks may differ by this much. */
const OLD_MS = 2_000;
/** Without an old event for this long, it has caught up. */
const CAUGHT_UP_MS = 700;
const TICK_MS = 250;
