/**
 * The state of the page that needs words: a token is needed, or the hub is away.
 *
 * @module
 */
import { token } from "./api.js";
import { byId, setText } from "./dom.js";

/** The strip above a view. */
export class Banner {
  #box = byId("banner");
  #kind = null;
  #ticking;
  #retry = () => {};
  /** Why the subscription of the page was refused for its token. */
  #refusal = null;

  constructor() {
    byId("banner-retry").addEventListener("click", () => this.#retry());
  }

  /** Says what is wrong, and when the page tries again. */
  explain(error, retryMs, retry) {
    const kind = error.kind ?? "refused";
    this.#retry = retry;
    clearInterval(this.#ticking);
    const title = titleOf(kind, error);
    this.#show(kind, title, TEXTS[kind] ?? "");
    byId("banner-retry").hidden = kind !== "away";
    if (kind === "away") {
      const until = performance.now() + retryMs;
      const tick = () => {
        const s = Math.max(0, Math.ceil((until - performance.now()) / 1_000));
        setText(byId("banner-text"), s > 0 ? `Trying again in ${s} s.` : "Trying again …");
      };
      tick();
      this.#ticking = setInterval(tick, TICK_MS);
    }
  }

  /** The hub wants a token, or another one, for what is being watched. */
  askForToken(detail) {
    this.#refusal = detail;
    clearInterval(this.#ticking);
    this.#show("token", titleOf("token", { message: detail }), TEXTS.token);
    byId("banner-retry").hidden = true;
  }

  /** The subscription goes on, or is about to be tried again. */
  forgetRefusal() {
    this.#refusal = null;
  }

  /** What a view begins with: nothing, or for the events that their subscription needs a token. */
  reset(view) {
    this.clear();
    if (view === "events" && this.#refusal !== null) this.askForToken(this.#refusal);
  }

  clear() {
    clearInterval(this.#ticking);
    this.#kind = null;
    this.#box.hidden = true;
    byId("token").setAttribute("aria-invalid", "false");
  }

  #show(kind, title, text) {
    this.#box.hidden = false;
    this.#box.dataset.kind = kind;
    // An alert is read out when its text changes.
    setText(byId("banner-title"), title);
    if (kind !== "away") setText(byId("banner-text"), text);
    const wantsToken = kind === "token" || kind === "admin";
    byId("banner-command").hidden = !wantsToken;
    setText(byId("banner-code"), COMMAND);
    byId("token").setAttribute("aria-invalid", String(wantsToken));
    if (wantsToken && this.#kind !== kind) showTokenField(true);
    this.#kind = kind;
  }
}

/** Opens or closes the field on a phone, where it is folded away. */
export function showTokenField(shown) {
  document.body.toggleAttribute("data-token", shown);
  byId("token-toggle").setAttribute("aria-expanded", String(shown));
}

/** What is said of a request that failed, by the `kind` of its error. */
export function titleOf(kind, { message }) {
  if (kind === "away") return "The hub does not answer";
  if (kind === "token") return token() ? `The hub refuses the token: ${message}` : "This hub needs a token";
  if (kind === "admin") return "This view needs a token with admin";
  return `The hub refuses this: ${message}`;
}

const TEXTS = {
  token: "Make one where the hub's secret is set, or with --jwt-secret-file FILE, and paste it into the field above.",
  admin: "It shows figures of all clients. Make one where the hub's secret is set, and paste it above.",
};
const COMMAND = "visnyk token --admin --subscribe '**' --publish '**' --ttl 1h";
const TICK_MS = 250;
