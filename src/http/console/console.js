/**
 * The console page: its views, the form that says what is watched, the form that publishes.
 *
 * @module
 */
import { token } from "./api.js";
import { Banner, showTokenField } from "./banner.js";
import { Channels } from "./channels.js";
import { Connections } from "./connections.js";
import { byId, copy, setText } from "./dom.js";
import { EventList } from "./event_list.js";
import { Overview } from "./overview.js";
import { Watch } from "./watch.js";
import { Visnyk } from "../visnyk.js";

/** What a subscription may name, as the hub has it by default. */
const CHANNELS_MAX = 100;
const NARROW = matchMedia("(max-width: 860px)");

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

/** The plan and the view in the page's address, so that it can be reloaded and passed on. */
function readAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  const channels = query.getAll("channel").slice(0, CHANNELS_MAX);
  return {
    view: query.get("view") ?? (channels.length > 0 ? "events" : null),
    plan: channels.length === 0 ? null : {
      channels,
      from: query.get("from") ?? "now",
      transport: query.get("transport") ?? "auto",
    },
  };
}

function addressOf(view, plan) {
  const query = new URLSearchParams(plan?.channels.map((name) => ["channel", name]));
  if (view !== "events" || plan === null) query.set("view", view);
  if (plan && plan.from !== "now") query.set("from", plan.from);
  if (plan && plan.transport !== "auto") query.set("transport", plan.transport);
  return `#${query}`;
}

function writeAddress(plan) {
  history.replaceState(null, "", addressOf(document.body.dataset.view, plan));
}

/** A link to a view keeps what is watched in the address. */
function linkViews(plan) {
  for (const link of document.querySelectorAll(".views a")) link.href = addressOf(link.dataset.view, plan);
}

/** What the watch has to say about itself. */
function planOnPage(banner) {
  return {
    opened() {
      banner.forgetRefusal();
      if (document.body.dataset.view === "events") banner.clear();
    },
    askForToken: (detail) => banner.askForToken(detail),
    showError: showWatchError,
    showPlan(plan) {
      showWatchButton(plan);
      const names = plan?.channels.join(" ") ?? "";
      document.title = plan ? `${names} · Visnyk console` : "Visnyk console";
      setText(byId("watch-summary"), plan ? `Watching ${names}` : "Watch channels");
      setText(byId("empty-title"), plan ? `Waiting for events on ${names}` : "No channel is being watched");
      const target = plan?.channels.find((name) => !name.includes("*"));
      byId("empty-command").hidden = target === undefined;
      setText(byId("empty-text"), !plan
        ? "Name one above, or choose one from the list of channels."
        : `They appear here as they are published.${target === undefined ? "" : " Try it:"}`);
      if (target === undefined) return;
      const path = `v1/channels/${encodeURIComponent(target).replaceAll("'", "%27")}/events`;
      const shown = token() ? '-H "Authorization: Bearer $TOKEN" ' : "";
      setText(byId("empty-code"), `curl -d hello ${shown}${new URL(path, location.href).href}`);
      const channel = byId("publish-channel");
      if (!channel.dataset.edited) channel.value = target;
    },
  };
}

function showWatchButton(active) {
  const same = active !== null && JSON.stringify(active) === JSON.stringify(readForm());
  byId("watch-button").textContent = same ? "Stop" : "Watch";
  byId("watch-button").classList.toggle("stop", same);
}

function showWatchError(text) {
  byId("watch-error").textContent = text;
  byId("watch-error").hidden = text === "";
  byId("watch-channels").setAttribute("aria-invalid", String(text !== ""));
  if (text) byId("watch-fold").open = true;
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
    linkViews(plan);
    watch.start(plan);
    if (NARROW.matches) byId("watch-fold").open = false;
  }
}

async function submitPublish(hub) {
  const result = byId("publish-result");
  const button = byId("publish-button");
  if (button.disabled) return;
  button.disabled = true;
  result.textContent = "";
  try {
    const type = byId("publish-type").value || undefined;
    const { id } = await hub.publish(byId("publish-channel").value, byId("publish-data").value, { type });
    result.dataset.outcome = "done";
    result.textContent = `Published as ${id}`;
  } catch (error) {
    result.dataset.outcome = "failed";
    result.textContent = `Not published: ${error.message}`;
  } finally {
    button.disabled = false;
  }
}

/** Shows one view; only that one asks the hub. */
class Views {
  #views;
  #banner;
  #shown = null;

  constructor(views, banner) {
    this.#views = views;
    this.#banner = banner;
  }

  show(name) {
    const known = name === "events" || name in this.#views ? name : "overview";
    if (known === this.#shown) return;
    this.#views[this.#shown]?.hide();
    this.#shown = known;
    document.body.dataset.view = known;
    for (const link of document.querySelectorAll(".views a")) {
      if (link.dataset.view === known) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.#banner.reset(known);
    this.#views[known]?.show();
  }

  /** Asks anew, with another token. */
  restart() {
    this.#views[this.#shown]?.hide();
    this.#views[this.#shown]?.show();
  }
}

function main() {
  const banner = new Banner();
  const events = new EventList();
  const watch = new Watch(events, planOnPage(banner));
  const publisher = new Visnyk({ url: new URL(".", location.href), token });
  const watchChannel = (name) => {
    location.hash = addressOf("events", { ...readForm(), channels: [name] });
  };
  const views = new Views({
    overview: new Overview(banner),
    channels: new Channels(banner, watchChannel),
    connections: new Connections(banner),
  }, banner);

  /** Whether the stream is to be opened when the events are shown next. */
  let isDue = true;

  byId("hub-address").textContent = location.host;
  const fold = () => {
    for (const id of ["watch-fold", "publish-fold"]) byId(id).open = !NARROW.matches;
  };
  NARROW.addEventListener("change", fold);
  fold();
  byId("token-toggle").addEventListener("click", () => {
    showTokenField(!document.body.hasAttribute("data-token"));
  });
  byId("token").addEventListener("change", () => {
    showWatchError("");
    banner.forgetRefusal();
    banner.clear();
    const plan = watch.active ?? readForm();
    const isSeen = watch.active !== null || document.body.dataset.view === "events";
    isDue = !isSeen;
    if (isSeen && plan.channels.length > 0) watch.goOn(plan);
    views.restart();
    if (token()) showTokenField(false);
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
    submitPublish(publisher);
  });
  byId("publish-data").addEventListener("keydown", (press) => {
    if (press.key !== "Enter" || !(press.ctrlKey || press.metaKey)) return;
    press.preventDefault();
    byId("publish-form").requestSubmit();
  });
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", () => copy(byId(button.dataset.copies).textContent, button));
  }
  const follow = () => {
    const { view, plan } = readAddress();
    views.show(view);
    linkViews(plan);
    const isOther = plan !== null && JSON.stringify(plan) !== JSON.stringify(readForm());
    if (isOther) showForm(plan);
    isDue ||= isOther;
    // A page that shows no events opens no stream; one that is open stays.
    if (!isDue || (watch.active === null && document.body.dataset.view !== "events")) return;
    isDue = false;
    if (isOther) watch.start(readForm());
    else watch.goOn(readForm());
  };
  addEventListener("hashchange", follow);
  showForm(readAddress().plan ?? { channels: ["default"], from: "now", transport: "auto" });
  follow();
}

main();
