/**
 * Events a second, from two looks at what the hub counts anyway: the totals of channels, and what connections lag.
 *
 * @module
 */

/** The rates of channels. */
export class ChannelRates {
  #before = new Map();

  /** Sets `rate` of each channel: events published a second since the look before, null at its first. */
  update(channels) {
    const at = performance.now();
    const before = this.#before;
    this.#before = new Map();
    for (const row of channels) {
      const { channel, events_total: total } = row;
      const last = before.get(channel);
      const isSame = last !== undefined && total >= last.total;
      row.rate = isSame ? ((total - last.total) * 1_000) / (at - last.at) : null;
      this.#before.set(channel, { total, at });
    }
  }
}

/** The rates at which connections are sent events. */
export class ConnectionRates {
  #channels = new ChannelRates();
  #before = new Map();

  /**
   * Sets `rate` of each connection: what was published to its channels since the look before, less what it lags more.
   * Null where that cannot be known: at its first look, of polls, with types, with channels that are not listed, and
   * where events were skipped.
   */
  update(connections, channels, areAll) {
    const at = performance.now();
    this.#channels.update(channels);
    const published = new PublishedRates(channels, areAll);
    const before = this.#before;
    this.#before = new Map();
    for (const row of connections) {
      const last = before.get(row.id);
      this.#before.set(row.id, { lag: row.lag_events, at });
      row.rate = null;
      const isSkipping = row.policy === "skip" && last?.lag > row.lag_events;
      if (last === undefined || isSkipping || row.transport !== "sse" || row.state === "closed") continue;
      if (row.types.length > 0 || row.subscriptions > row.channels.length + row.patterns.length) continue;
      if (row.idle_ms > at - last.at) {
        // Its socket took nothing since the look before. Two answers of the hub are not of the same moment.
        row.rate = 0;
        continue;
      }
      const rate = published.of(row);
      if (rate === null) continue;
      const fellBehind = ((row.lag_events - last.lag) * 1_000) / (at - last.at);
      row.rate = Math.max(0, rate - fellBehind);
    }
  }
}

/** What is published to the channels of a subscription, each subscription computed once. */
class PublishedRates {
  #rates;
  #names;
  #areAll;
  #known = new Map();
  #matchesLeft = MATCHES_MAX;

  constructor(channels, areAll) {
    this.#rates = new Map(channels.map(({ channel, rate }) => [channel, rate]));
    this.#names = [...this.#rates.keys()].sort();
    this.#areAll = areAll;
  }

  of({ channels, patterns }) {
    const key = JSON.stringify([channels, patterns]);
    if (!this.#known.has(key)) this.#known.set(key, this.#sum(channels, patterns));
    return this.#known.get(key);
  }

  #sum(channels, patterns) {
    if (patterns.length > 0 && !this.#areAll) return null;
    const names = new Set(channels);
    for (const pattern of patterns) {
      for (const name of this.#matching(pattern)) names.add(name);
    }
    if (this.#matchesLeft <= 0) return null;
    let sum = 0;
    for (const name of names) {
      const rate = this.#rates.get(name);
      // A channel that is not listed is one without events, if all are listed.
      if (rate === null || (rate === undefined && !this.#areAll)) return null;
      sum += rate ?? 0;
    }
    return sum;
  }

  *#matching(pattern) {
    const prefix = pattern.slice(0, pattern.indexOf("*")).replace(/\/$/, "");
    for (let at = firstFrom(this.#names, prefix); this.#names[at]?.startsWith(prefix); at += 1) {
      this.#matchesLeft -= 1;
      if (this.#matchesLeft <= 0) return;
      if (matches(pattern.split("/"), this.#names[at].split("/"))) yield this.#names[at];
    }
  }
}

/** Whether a pattern matches a name: `*` is one segment, `**` any number of them. */
function matches(pattern, name) {
  const [first, ...rest] = pattern;
  if (first === undefined) return name.length === 0;
  if (first === "**") return matches(rest, name) || (name.length > 0 && matches(pattern, name.slice(1)));
  return name.length > 0 && (first === "*" || first === name[0]) && matches(rest, name.slice(1));
}

/** The index of the first of the sorted names that is not before `prefix`. */
function firstFrom(names, prefix) {
  let [low, high] = [0, names.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (names[middle] < prefix) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Names compared with patterns in one look, so that many patterns and many channels do not stop the page. */
const MATCHES_MAX = 200_000;
