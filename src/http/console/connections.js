/**
 * The connections of the hub: who they are, how far behind, and why; end one.
 *
 * @module
 */
import { get, getAll, remove, skewMs } from "./api.js";
import { confirm } from "./confirm.js";
import { announce, byId, copy } from "./dom.js";
import { bytes, clock, duration, format, plural, short, words } from "./format.js";
import { Listing, ROWS_MAX } from "./listing.js";
import { ConnectionRates } from "./rates.js";

/** The view. */
export class Connections {
  #listing;
  #rates = new ConnectionRates();
  #rateOf = new Map();

  constructor(banner) {
    this.#listing = new Listing(banner, {
      name: "connections",
      drawer: "connection-drawer",
      label: "Connections",
      ask: (signal) => this.#ask(signal),
      count: (shown, all) => `${shown === all ? format(all) : `${format(shown)} of ${format(all)}`} listed`,
      open: ({ id }) => ({
        title: `Connection ${id}`,
        actions: [
          { name: "Copy id", act: (button) => copy(id, button) },
          { name: "End connection …", danger: true, act: () => this.#end(id) },
        ],
      }),
      explain: (id, signal) => this.#explain(id, signal),
      empty: "No connections.",
      keyOf: ({ id }) => id,
      textOf: (row) => [row.id, row.peer, row.proxy, row.identity, ...selectors(row)].join(" "),
      columns: COLUMNS,
      sort: BY_LAG,
    });
    byId("connections-state").addEventListener("change", () => {
      const hasEnded = byId("connections-state").value === "closed";
      byId("connections").classList.toggle("ended", hasEnded);
      this.#listing.sortBy(hasEnded ? BY_END : BY_LAG);
      this.#listing.refresh();
    });
  }

  show() {
    this.#listing.show();
  }

  hide() {
    this.#listing.hide();
  }

  async #ask(signal) {
    const state = byId("connections-state").value;
    const [channels, found] = await Promise.all([
      // For rates alone: without them the list is shown all the same.
      getAll("./v1/channels", {}, "channels", ROWS_MAX, signal).catch(() => ({ rows: [], more: true })),
      getAll("./v1/connections", state ? { state } : {}, "connections", ROWS_MAX, signal),
    ]);
    this.#rates.update(found.rows, channels.rows, !channels.more);
    this.#rateOf = new Map(found.rows.map(({ id, rate }) => [id, rate]));
    // Only admins see those of others.
    const { totals } = found.first;
    const note = [totals ? inAll(totals) : "only your own"];
    if (found.more) note.push(`the first ${format(found.rows.length)} are shown`);
    return { rows: found.rows, note: note.join(" · ") };
  }

  async #explain(id, signal) {
    let found;
    try {
      found = await get(`./v1/connections/${encodeURIComponent(id)}`, signal);
    } catch (error) {
      if (error.status !== 404) throw error;
      const lead = "It has ended. The hub keeps only the connections that ended last, and has dropped this one.";
      return { lead, isOver: true };
    }
    return { lead: reasonOf(found), facts: factsOf(found, this.#rateOf.get(id)), isOver: found.state === "closed" };
  }

  async #end(id) {
    const isDone = await confirm({
      title: `End connection ${id}?`,
      text: "Its client may come back, and browsers do: then it goes on where it was, as far as history still reaches back.",
      yes: "End connection",
      act: () => remove(`./v1/connections/${encodeURIComponent(id)}`),
    });
    if (!isDone) return;
    announce(`Connection ${id} was ended`);
    this.#listing.refresh();
  }
}

function selectors({ channels, patterns }) {
  return [...channels, ...patterns];
}

function selectorsText(row) {
  const names = selectors(row);
  const more = row.subscriptions - names.length;
  return names.join(" ") + (more > 0 ? ` and ${format(more)} more` : "");
}

/** How many connections the hub has, and how many of them are behind. */
function inAll({ streams, polls, behind }) {
  const states = Object.entries(behind).filter(([, count]) => count > 0);
  const counts = states.map(([state, count]) => `${format(count)} ${words(state)}`);
  const all = `${plural(streams, "stream")}, ${plural(polls, "poll")} in all`;
  return counts.length > 0 ? `${all}: ${counts.join(", ")}` : all;
}

function lagOf({ lag_events, lag_events_max, lag_bytes, lag_bytes_max }) {
  return `${format(lag_events)} of ${plural(lag_events_max, "event")}, ${bytes(lag_bytes)} of ${bytes(lag_bytes_max)}`;
}

/** A time to come, by the hub's clock. */
function inTime(time) {
  return `in ${duration(Math.max(0, Date.parse(time) - Date.now() - skewMs) / 1_000)}`;
}

/** All facts of a connection, as pairs. */
function factsOf(found, rate) {
  return [
    ["State", words(found.reason ? `${found.state}: ${found.reason}` : found.state)],
    ["Lag", lagOf(found)],
    ["Events a second", short(rate)],
    ["Bytes sent", `${bytes(found.sent_bytes)}, ${bytes(found.bytes_per_s)} a second`],
    ["Unsent bytes", bytes(found.unsent_bytes)],
    ["Last byte taken", `${duration(found.idle_ms / 1_000)} ${found.ended_at ? "before its end" : "ago"}`],
    ["If it takes no byte", found.stalls_at && `it is ended ${inTime(found.stalls_at)} (write_stall_s)`],
    ["If it lags too far", found.policy === "skip" ? "it skips to the newest event" : "it is disconnected"],
    ["Subject", found.identity],
    ["Address", found.peer],
    ["By the proxy", found.proxy],
    ["Transport", found.transport === "sse" ? "SSE" : "long-poll"],
    ["Channels", selectors(found).join(" ")],
    ["Types", found.types.join(" ")],
    ["Position", found.position],
    ["Age", duration(found.age_s)],
    [ENDS[found.ends_for] ?? "Ends", found.ends_at && `${clock(found.ends_at, false)}, ${inTime(found.ends_at)}`],
    ["Ended", found.ended_at],
    ["Shard", found.shard],
  ];
}

/** Why it is as it is, in a sentence. */
function reasonOf(found) {
  const { reason, state, lag_events, lag_events_max, lag_bytes, lag_bytes_max } = found;
  if (reason !== "slow_consumer") return EXPLAINED[reason ?? state] ?? words(reason ?? state);
  const exceeded = [];
  if (lag_events > lag_events_max) exceeded.push(`${format(lag_events)} events, of at most ${format(lag_events_max)}`);
  if (lag_bytes > lag_bytes_max) exceeded.push(`${bytes(lag_bytes)}, of at most ${bytes(lag_bytes_max)}`);
  const why = exceeded.length > 0 ? `It lagged ${exceeded.join(", and ")}` : "History dropped its next event";
  return `${why}, and its policy is to disconnect.`;
}

/** What happens at its end, by why that time is set. */
const ENDS = { token: "Token expires", age: "Reaches its age", drain: "Drain ends it", deadline: "Is answered" };

/** Why a connection is as it is: its state, why it is behind, or why it ended. */
const EXPLAINED = {
  live: "It has been sent everything: what its client lacks is on the way, or in the client.",
  blocked: "Its socket takes no more bytes. The client, or the network to it, reads more slowly than events come, or has stopped.",
  replaying: "It is being sent what was in history when it came.",
  catching_up: "It reads on from history what could not be sent at once: its socket takes bytes.",
  ending: "It ends when its last bytes are out.",
  peer_closed: "Its client closed it, or went away.",
  write_stalled: "Its socket took no byte for write_stall_s: the client stopped reading, or vanished.",
  unsent_ceiling: "All unsent bytes together passed unsent_bytes_max, and this one had read nothing for longest.",
  timed_out: "Its system confirmed nothing, or left too little room for bytes, for write_stall_s and heartbeat_s together: the network is gone, or the client reads very slowly.",
  channel_closed: "All its channels were closed.",
  aged: "It reached age_max_s.",
  drained: "The hub was shutting down.",
  answered: "The poll was answered.",
  unexpected_input: "The client sent bytes after its request.",
  panicked: "A fault of the hub ended it; the log has more.",
  token_expired: "Its token expired and was not renewed.",
  token_outgrown: "A fresh token does not allow what it was subscribed to.",
  ended_by_admin: "An administrator ended it.",
  history_unreadable: "Its history on disk could not be read; the log has more.",
  history_busy: "Too many readers waited for the disk.",
  shard_ended: "The thread that served it was restarted.",
  log_changed: "The log that hubs share began anew.",
};

const COLUMNS = [
  {
    key: "client",
    title: "Client",
    hint: "The subject of its token, and its address",
    value: ({ identity, peer, id }) => identity ?? peer ?? id,
    show: ({ identity, peer, id }) => {
      const text = [identity, peer].filter(Boolean).join(" · ") || `Connection ${id}`;
      return { text, title: `${text}\nid ${id}` };
    },
  },
  {
    key: "channels",
    title: "Channels",
    className: "wide",
    value: selectorsText,
    show: (row) => ({ text: selectorsText(row), title: selectorsText(row) }),
  },
  {
    key: "transport",
    title: "By",
    className: "wide",
    value: ({ transport }) => transport,
    show: ({ transport }) => (transport === "sse" ? "SSE" : "poll"),
  },
  {
    key: "state",
    title: "State",
    value: ({ reason, state }) => reason ?? state,
    show: ({ reason, state }) => ({ text: words(reason ?? state), mark: state }),
  },
  {
    key: "lag",
    title: "Lag",
    hint: "Events not sent yet",
    className: "number lag",
    value: ({ lag_events }) => lag_events,
    show: ({ lag_events, lag_bytes }) => ({ text: short(lag_events), title: bytes(lag_bytes) }),
  },
  {
    key: "rate",
    title: "Events/s",
    hint: "Sent to it between the last two looks",
    className: "number wide",
    value: ({ rate }) => rate ?? -1,
    show: ({ rate }) => short(rate),
  },
  {
    key: "bytes",
    title: "Bytes/s",
    hint: "Taken by its socket since any client of the API listed it before",
    className: "number wide extra",
    value: ({ bytes_per_s }) => bytes_per_s,
    show: ({ bytes_per_s, sent_bytes }) => ({ text: bytes(bytes_per_s), title: `${bytes(sent_bytes)} in all` }),
  },
  {
    key: "unsent",
    title: "Unsent bytes",
    hint: "Of the event in flight; what it lags otherwise waits in history",
    className: "number wide extra",
    value: ({ unsent_bytes }) => unsent_bytes,
    show: ({ unsent_bytes }) => bytes(unsent_bytes),
  },
  {
    key: "idle",
    title: "Idle",
    hint: "Since its socket last took a byte",
    className: "number wide extra",
    value: ({ idle_ms }) => idle_ms,
    show: ({ idle_ms }) => duration(idle_ms / 1_000),
  },
  {
    key: "age",
    title: "Age",
    className: "number age",
    value: ({ age_s }) => age_s,
    show: ({ age_s }) => duration(age_s),
  },
  {
    key: "ended",
    title: "Ended",
    hint: "When it ended",
    className: "number when-ended",
    value: ({ ended_at }) => (ended_at ? Date.parse(ended_at) : 0),
    show: ({ ended_at = "" }) => (ended_at ? { text: clock(ended_at, false), title: ended_at } : ""),
  },
];
const BY_LAG = { key: "lag", down: true };
/** Those that ended last come first. */
const BY_END = { key: "ended", down: true };
