/**
 * The channels of the hub: search, sort, rates; watch one, close one.
 *
 * @module
 */
import { getAll, remove } from "./api.js";
import { confirm } from "./confirm.js";
import { announce, byId, copy, setText } from "./dom.js";
import { Drawer } from "./drawer.js";
import { bytes, format, plural, short } from "./format.js";
import { Poller } from "./poller.js";
import { ChannelRates } from "./rates.js";
import { RowTable } from "./row_table.js";

/** The view. */
export class Channels {
  #table;
  #drawer;
  #poller;
  #chosen = null;
  #rows = new Map();
  #rates = new ChannelRates();
  #note = "";
  #loaded = false;

  /** `watch(name)` shows the events of a channel. */
  constructor(banner, watch) {
    this.#poller = new Poller((signal) => this.#ask(signal), banner, REFRESH_MS);
    this.#drawer = new Drawer(byId("channel-drawer"), () => {
      this.#chosen = null;
      this.#table.unchoose();
    });
    this.#table = new RowTable(byId("channels"), {
      label: "Channels",
      keyOf: ({ channel }) => channel,
      textOf: ({ channel }) => channel,
      sort: { key: "channel", down: false },
      empty: () => (this.#loaded
        ? "No channels yet. A channel appears with its first event or subscriber."
        : ""),
      open: (row) => this.#open(row, watch),
      columns: COLUMNS,
    });
    byId("channels-search").addEventListener("input", ({ currentTarget: { value } }) => {
      this.#table.search(value);
      this.#showNote();
    });
  }

  show() {
    this.#poller.start();
  }

  hide() {
    this.#poller.stop();
  }

  refresh() {
    this.#poller.refresh();
  }

  async #ask(signal) {
    const { rows, more } = await getAll("./v1/channels", {}, "channels", ROWS_MAX, signal);
    this.#rates.update(rows);
    this.#rows = new Map(rows.map((row) => [row.channel, row]));
    this.#loaded = true;
    this.#note = more ? `the first ${format(rows.length)}; more are not shown` : "";
    this.#table.update(rows);
    this.#showNote();
    this.#showChosen();
  }

  #showNote() {
    const { shown, all } = this.#table.counts;
    const count = shown === all ? plural(all, "channel") : `${format(shown)} of ${plural(all, "channel")}`;
    setText(byId("channels-note"), [count, this.#note].filter(Boolean).join(" · "));
  }

  #open({ channel }, watch) {
    this.#chosen = channel;
    this.#drawer.open(channel, [
      { name: "Watch", act: () => watch(channel) },
      { name: "Copy name", act: (button) => copy(channel, button) },
      { name: "Close channel …", danger: true, act: () => this.#close(channel) },
    ]);
    this.#showChosen();
  }

  #showChosen() {
    if (this.#chosen === null || !this.#drawer.isOpen) return;
    const row = this.#rows.get(this.#chosen);
    if (row === undefined) {
      this.#drawer.show("The hub has no such channel any more.", [], true);
      return;
    }
    const lead = row.closed
      ? "It is closed. Its name can be used again once its tombstone expires."
      : `${plural(row.subscribers, "stream")} and ${plural(row.pollers, "waiting poll")} receive it.`;
    this.#drawer.show(lead, [
      ["Events a second", short(row.rate)],
      ["Events since the start", format(row.events_total)],
      ["Retained", `${plural(row.events_retained, "event")}, ${bytes(row.bytes_retained)}`],
      ["Oldest", row.first_id],
      ["Newest", row.last_id],
      ["Older events", row.truncated ? "are gone" : "are all there"],
    ], row.closed);
  }

  async #close(channel) {
    const isDone = await confirm({
      title: `Close ${channel}?`,
      text: "Its subscribers are sent the end and do not come back. Publishes to it are refused with 410 for an hour.",
      yes: "Close channel",
      act: () => remove(`./v1/channels/${encodeURIComponent(channel)}`),
    });
    if (!isDone) return;
    announce(`${channel} is closed`);
    this.refresh();
  }
}

const COLUMNS = [
  {
    key: "channel",
    title: "Channel",
    value: ({ channel }) => channel,
    show: ({ channel, closed }) => ({ text: channel, title: channel, mark: closed ? "over" : "" }),
  },
  {
    key: "streams",
    title: "Streams",
    hint: "Streams that receive it, by its name or a pattern",
    className: "number",
    value: ({ subscribers }) => subscribers,
    show: ({ subscribers }) => format(subscribers),
  },
  {
    key: "polls",
    title: "Polls",
    hint: "Waiting long-polls",
    className: "number wide",
    value: ({ pollers }) => pollers,
    show: ({ pollers }) => format(pollers),
  },
  {
    key: "rate",
    title: "Events/s",
    hint: "Between the last two looks",
    className: "number",
    value: ({ rate }) => rate ?? -1,
    show: ({ rate }) => short(rate),
  },
  {
    key: "retained",
    title: "Retained",
    hint: "Events in its history",
    className: "number",
    value: ({ events_retained }) => events_retained,
    show: ({ events_retained }) => format(events_retained),
  },
  {
    key: "bytes",
    title: "Size",
    hint: "Of its history",
    className: "number wide",
    value: ({ bytes_retained }) => bytes_retained,
    show: ({ bytes_retained }) => bytes(bytes_retained),
  },
];
const ROWS_MAX = 20_000;
const REFRESH_MS = 3_000;
