/**
 * The channels of the hub: search, sort, rates; watch one, close one.
 *
 * @module
 */
import { getAll, remove } from "./api.js";
import { confirm } from "./confirm.js";
import { announce, copy } from "./dom.js";
import { bytes, format, plural, short } from "./format.js";
import { Listing, ROWS_MAX } from "./listing.js";
import { ChannelRates } from "./rates.js";

/** The view. */
export class Channels {
  #listing;
  #rows = new Map();
  #rates = new ChannelRates();

  /** `watch(name)` shows the events of a channel. */
  constructor(banner, watch) {
    this.#listing = new Listing(banner, {
      name: "channels",
      drawer: "channel-drawer",
      label: "Channels",
      ask: (signal) => this.#ask(signal),
      count: (shown, all) => (shown === all ? plural(all, "channel") : `${format(shown)} of ${plural(all, "channel")}`),
      open: ({ channel }) => ({
        title: channel,
        actions: [
          { name: "Watch", act: () => watch(channel) },
          { name: "Copy name", act: (button) => copy(channel, button) },
          { name: "Close channel …", danger: true, act: () => this.#close(channel) },
        ],
      }),
      explain: (channel) => explain(this.#rows.get(channel)),
      empty: "No channels yet. A channel appears with its first event or subscriber.",
      keyOf: ({ channel }) => channel,
      textOf: ({ channel }) => channel,
      columns: COLUMNS,
      sort: { key: "channel", down: false },
    });
  }

  show() {
    this.#listing.show();
  }

  hide() {
    this.#listing.hide();
  }

  async #ask(signal) {
    const { rows, more } = await getAll("./v1/channels", {}, "channels", ROWS_MAX, signal);
    this.#rates.update(rows);
    this.#rows = new Map(rows.map((row) => [row.channel, row]));
    return { rows, note: more ? `the first ${format(rows.length)}; more are not shown` : "" };
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
    this.#listing.refresh();
  }
}

/** What is known of a channel; `undefined` for one that is not there any more. */
function explain(row) {
  if (row === undefined) return { lead: "The hub has no such channel any more.", isOver: true };
  const lead = row.closed
    ? "It is closed. Its name can be used again once its tombstone expires."
    : `${plural(row.subscribers, "stream")} and ${plural(row.pollers, "waiting poll")} receive it.`;
  const facts = [
    ["Events a second", short(row.rate)],
    ["Events since the start", format(row.events_total)],
    ["Retained", `${plural(row.events_retained, "event")}, ${bytes(row.bytes_retained)}`],
    ["Oldest", row.first_id],
    ["Newest", row.last_id],
    ["Older events", row.truncated ? "are gone" : "are all there"],
  ];
  return { lead, facts, isOver: row.closed };
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
