/**
 * Visnyk in the browser: watch channels, publish events. An ES module without dependencies.
 *
 * ```js
 * import { Visnyk } from "http://localhost:3000/visnyk.js";
 *
 * const hub = new Visnyk({ channels: ["orders/**"] });
 * hub.on("paid", (event) => console.log(event.channel, JSON.parse(event.data)));
 * hub.on("*", (event) => console.log(event.id, event.type));       // every type
 * hub.on("visnyk.state", ({ state, transport }) => console.log(state, transport));
 * hub.on("visnyk.gap", ({ reason }) => reloadEverything(reason));  // history did not reach back
 * await hub.publish("orders/7", { total: 12 }, { type: "paid" });
 * hub.close();
 * ```
 *
 * It opens an `EventSource` and turns to long-polling where streams do not come through. Both share
 * one position, so a change between them, a dropped connection or a restarted proxy neither loses
 * nor repeats an event. With `shared: true` all tabs of an origin share one connection.
 *
 * It does not store the position: keep `hub.position` yourself and hand it back as `from` if a
 * subscription should outlive the page. It does not hide gaps: each one is a `visnyk.gap`.
 *
 * docs/browser.md has examples; `visnyk.d.ts`, beside this file, has the types.
 *
 * @module
 */

/**
 * An event as a handler sees it. Names that begin with `visnyk.` are the hub's own notices and
 * never those of a published event.
 *
 * @typedef {object} HubEvent
 * @property {string} id       Its position.
 * @property {string} channel  The channel it was published to.
 * @property {string} type     Its type, `message` if it was published without one.
 * @property {string} time     When the hub took it: RFC 3339, UTC.
 * @property {string} data     Always a string; use `JSON.parse` if you publish JSON.
 */

/**
 * Notice `visnyk.gap`: events that this client should have had are no longer in history. What
 * follows goes on from the oldest retained event.
 *
 * @typedef {object} Gap
 * @property {"evicted"|"epoch"|"unknown_position"|"slow"|"search_limit"} reason
 * @property {string} [requested]  The position that was asked for.
 * @property {string} [oldest]     Where the stream goes on.
 * @property {string} [channel]    The channel that lost events, if it is only one.
 */

/**
 * Notice `visnyk.closed`: a channel was deleted. The subscription ends with its last one.
 *
 * @typedef {object} ChannelClosed
 * @property {string} channel
 */

/**
 * Notice `visnyk.state`.
 *
 * @typedef {object} State
 * @property {"connecting"|"open"|"reconnecting"|"closed"} state
 * @property {"sse"|"poll"|null} transport  What carries events now.
 * @property {"own"|"leader"|"follower"} role  Whose connection it is; a follower uses another tab's.
 * @property {number} reconnects  How often the connection was made anew.
 * @property {number} [retryMs]   While reconnecting: how long until the next try, if it is known.
 * @property {number} [status]    The HTTP status that led here, if there was one.
 * @property {"closed"|"gone"|"refused"|"expired"|"origin"} [reason]  Why it is closed: `close()`; all
 *   channels were deleted; the hub refused the subscription for good; the token has expired and there
 *   is no other; pages of this origin may not read from the hub.
 * @property {string} [detail]    The hub's own words about it, why the token function failed, or what to do.
 */

/**
 * @typedef {object} Options
 * @property {string|string[]} [channels]  Channels or patterns (`*` one segment, `**` any number).
 *   None at all makes a client that only publishes.
 * @property {string|URL} [url]  The hub's root; by default where this module came from.
 * @property {string|string[]} [types]  Only events of these types are sent.
 * @property {string} [from]  `now` (default), `earliest`, or a position.
 * @property {number} [last]  Begins with so many of the latest events of each channel, 1 to 1,000, of
 *   those types that it watches. Whatever `from` says but `now` wins.
 * @property {"auto"|"sse"|"poll"} [transport]  `auto` (default) begins with SSE, polls where that
 *   fails, and returns to SSE when it works again.
 * @property {string|(() => string|Promise<string>)} [token]  Sent as `Authorization: Bearer`, and
 *   in the query of streams, since `EventSource` cannot send headers. A function is asked anew for
 *   every connection, and again before the token of a stream expires: a fresh one is handed to the
 *   living stream, which goes on with it. If it throws or rejects, it is asked again after a pause; if it
 *   gives an empty string, the request goes without a token, and the hub may refuse it for good.
 * @property {() => unknown} [refresh]  Called when the token has expired that a cookie or a string in
 *   `token` holds: gets a new cookie, say. The client goes on when the promise that it returns is
 *   fulfilled, tries again later if it is rejected, and is closed if the hub refuses the new one too.
 *   Without it the client is closed with the reason `expired`.
 * @property {boolean} [withCredentials]  Send cookies to another origin.
 * @property {boolean|string} [shared]  One connection for all tabs of this origin that watch the
 *   same channels with the same settings; others have their own, of which browsers allow six to
 *   one origin over HTTP/1.1. A string separates groups: use the user's id if tabs may be logged
 *   in as different users. Needs Web Locks and BroadcastChannel (a secure context); without them
 *   the client has a connection of its own.
 * @property {new (url: string|URL, init?: object) => EventTarget} [EventSource]  What streams are
 *   opened with, by default the environment's own. Without one the client polls.
 */

/** A refused or failed publish. */
export class VisnykError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, problem?: object, cause?: unknown}} [about]
   */
  constructor(message, { status = 0, problem = null, cause } = {}) {
    super(message, { cause });
    this.name = "VisnykError";
    /** The HTTP status; 0 if there was no answer. */
    this.status = status;
    /** The hub's problem document (RFC 9457), or null. */
    this.problem = problem;
  }
}

/** A client of one hub. It connects as soon as it is made and stays until `close()`. */
export class Visnyk {
  #settings;
  #handlers = new Map();
  #state;
  #position = null;
  #connection = null;
  #group = null;
  #publishes = 0;

  /** @param {Options} [options] */
  constructor(options = {}) {
    this.#settings = parseOptions(options);
    const { channels, from, shared } = this.#settings;
    if (from !== "now") this.#position = from;
    this.#state = { state: "connecting", transport: null, role: "own", reconnects: 0 };
    if (channels.length === 0) {
      this.#state.state = "closed";
      return;
    }
    // Handlers added right after the constructor see the first state too.
    queueMicrotask(() => {
      if (this.#state.state === "closed") return;
      if (shared && Group.isPossible()) this.#join();
      else this.#connect("own");
    });
  }

  /** The last known state. @returns {State} */
  get state() {
    return { ...this.#state };
  }

  /**
   * Where this client stands: everything up to here was handed to its handlers. Null as long as it
   * began with `now` and has heard nothing from the hub.
   * @returns {string|null}
   */
  get position() {
    return this.#position;
  }

  /**
   * Calls `handler` for events of a type. `*` is every published event; `visnyk.gap`,
   * `visnyk.closed` and `visnyk.state` are notices. A handler that throws is reported like any
   * uncaught error and disturbs nothing else.
   * @param {string} type
   * @param {(event: any) => void} handler
   * @returns {() => void} takes the handler off again
   */
  on(type, handler) {
    if (!this.#handlers.has(type)) this.#handlers.set(type, new Set());
    this.#handlers.get(type).add(handler);
    return () => this.off(type, handler);
  }

  /**
   * @param {string} type
   * @param {(event: any) => void} handler
   */
  off(type, handler) {
    const handlers = this.#handlers.get(type);
    handlers?.delete(handler);
    if (handlers?.size === 0) this.#handlers.delete(type);
  }

  /** Ends the subscription for good. Publishing still works. */
  close() {
    this.#end({ reason: "closed" });
  }

  /**
   * Publishes one event. A lost answer, 429, 502, 503 and 504 are tried again under the same
   * idempotency key, so the event is published once.
   * @param {string} channel
   * @param {unknown} data  A string is sent as it is, anything else as JSON.
   * @param {object} [options]
   * @param {string} [options.type]
   * @param {number} [options.retryMs]  The reconnection time to send along to subscribers.
   * @param {string} [options.idempotencyKey]  By default a random one.
   * @param {number} [options.attempts]  How often to try in all (3).
   * @param {AbortSignal} [options.signal]
   * @returns {Promise<{id: string, channel: string}>} once the hub acknowledged it
   * @throws {VisnykError} if it was refused, or not acknowledged after the last attempt; in the
   *   latter case it may still have been published
   */
  async publish(channel, data, options = {}) {
    const { type, retryMs, idempotencyKey = randomKey(), attempts = 3, signal } = options;
    if (this.#publishes >= PUBLISHES_MAX) {
      throw new VisnykError(`more than ${PUBLISHES_MAX} publishes are waiting for their answer`);
    }
    const text = typeof data === "string";
    const body = text ? data : JSON.stringify(data);
    if (body === undefined) throw new VisnykError("the data has no JSON form");
    const path = `v1/channels/${encodeURIComponent(channel)}/events`;
    const url = hubUrl(this.#settings, path, { type, retry: retryMs });
    const headers = {
      "Content-Type": text ? "text/plain; charset=utf-8" : "application/json",
      "Idempotency-Key": idempotencyKey,
    };
    this.#publishes += 1;
    try {
      for (let attempt = 1; ; attempt += 1) {
        const answer = await publishOnce(this.#settings, url, headers, body, signal);
        if (answer.receipt) return answer.receipt;
        if (!answer.temporary || attempt >= attempts) throw answer.error;
        await pause(delay(attempt, answer.retryAfterMs), signal);
        signal?.throwIfAborted();
      }
    } finally {
      this.#publishes -= 1;
    }
  }

  /** Opens a connection of this client's own, or for its whole group. */
  #connect(role) {
    this.#connection = new Connection(this.#settings, this.#position, {
      batch: (items, position) => {
        this.#group?.share(items, position);
        this.#deliver(items, position);
      },
      state: (state) => {
        const full = { role, ...state };
        this.#group?.tell(full, this.#position);
        if (state.state === "closed") this.#end(state);
        else this.#enter(full);
      },
    });
  }

  /** Uses the connection of a group of tabs, or makes it if this tab is elected. */
  #join() {
    this.#state.role = "follower";
    this.#group = new Group(this.#settings, {
      lead: () => this.#connect("leader"),
      deliver: (items, position) => this.#deliver(items, position),
      adopt: (position) => (this.#position ??= position),
      position: () => this.#position,
      state: (state) => {
        if (state.state !== "closed") this.#enter({ ...state, role: "follower" });
        // Another tab's token may be refused where ours is not: then the lock passes on, and the
        // next leader finds out for itself.
        else if (state.reason === "gone") this.#end(state);
      },
      alone: () => {
        this.#group = null;
        this.#connect("own");
      },
    });
  }

  #deliver(items, position) {
    for (const item of items) {
      if (item.id) this.#position = item.id;
      this.#emit(item.type, item);
      if (!item.type.startsWith(NOTICE)) this.#emit("*", item);
      if (this.#state.state === "closed") return;
    }
    if (position) this.#position = position;
  }

  #enter(state) {
    this.#state = state;
    this.#emit("visnyk.state", { ...state });
  }

  #end({ reason, status, detail }) {
    if (this.#state.state === "closed") return;
    this.#connection?.stop();
    this.#group?.leave();
    const { role, reconnects } = this.#state;
    this.#enter({ state: "closed", transport: null, role, reconnects, reason, status, detail });
  }

  #emit(type, value) {
    for (const handler of [...(this.#handlers.get(type) ?? [])]) {
      try {
        handler(value);
      } catch (error) {
        report(error);
      }
    }
  }
}

/**
 * One subscription over one transport at a time. Tells its owner of batches (items in log order
 * and the position after them) and of states; the last state is `closed` unless it was stopped.
 *
 * `EventSource` hides the status of an answer that it does not like, so 204 (stop), 401 (give up)
 * and 502 (try again) look the same. A poll that returns at once asks what it was.
 */
class Connection {
  #settings;
  #position;
  #owner;
  #stopping = new AbortController();
  #transport;
  #openOn = null;
  #lost = false;
  #reconnects = 0;
  #wasAnswered = false;
  #wasRefreshed = false;

  constructor(settings, position, owner) {
    this.#settings = settings;
    this.#position = position;
    this.#owner = owner;
    this.#run();
  }

  stop() {
    this.#stopping.abort();
  }

  get #stopped() {
    return this.#stopping.signal.aborted;
  }

  async #run() {
    const { transport, EventSource } = this.#settings;
    const canStream = transport !== "poll" && typeof EventSource === "function";
    this.#transport = canStream ? "sse" : "poll";
    this.#report({ state: "connecting" });
    while (!this.#stopped) {
      if (this.#transport === "poll") await this.#pollUntilStreamsWork(canStream);
      else await this.#streamUntilItFails(transport === "auto");
    }
  }

  /** Ends with the transport changed, or stopped. */
  async #streamUntilItFails(mayPoll) {
    for (let failures = 0, blocked = 0; !this.#stopped; ) {
      const { opened, silent, expired, token, lacksToken, detail } = await this.#stream();
      if (this.#stopped) return;
      if (lacksToken) {
        await this.#wait((failures += 1), { detail });
        continue;
      }
      // Within its leeway the hub would take an expired token again and again.
      if (expired && !(await this.#renew(EXPIRED, token))) {
        if (this.#stopped) return;
        await this.#wait((failures += 1), {});
        continue;
      }
      const answer = await this.#poll(0);
      if (this.#stopped) return;
      failures = opened ? 1 : failures + 1;
      if (opened || !answer.ok) blocked = 0;
      else blocked = silent ? STREAM_FAILURES_MAX : blocked + 1;
      if (mayPoll && blocked >= STREAM_FAILURES_MAX) {
        this.#transport = "poll";
        this.#open();
        return;
      }
      await this.#wait(failures, answer);
    }
  }

  /** One `EventSource`, which reconnects by itself until it gives up or is of no use. */
  async #stream() {
    const stream = await streamToOpen(this.#settings, this.#position);
    if (this.#stopped || stream.lacksToken) return stream;
    const { withCredentials, EventSource } = this.#settings;
    return new Promise((resolve) => {
      const source = new EventSource(stream.url, { withCredentials });
      const lease = new Lease(this.#settings, stream.token);
      const { signal } = this.#stopping;
      let opened = false;
      let misses = 0;
      let timer;
      const finish = (silent, expired = false) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
        lease.end();
        source.close();
        resolve({ opened, silent, expired, token: stream.token });
      };
      const stop = () => finish(false);
      const expectHello = (ms, silent) => {
        clearTimeout(timer);
        timer = setTimeout(finish, ms, silent);
      };
      const take = (message) => {
        const item = parseItem(message);
        if (item) this.#take([item], message.lastEventId);
        if (item?.type === "visnyk.closed") this.#dropChannel(item.channel);
      };

      signal.addEventListener("abort", stop);
      expectHello(HELLO_WAIT_MS, true);
      // The hello carries the position at which the stream starts; without it a stream that fails
      // before its first event could not be resumed.
      source.addEventListener("visnyk.hello", ({ lastEventId, data }) => {
        clearTimeout(timer);
        lease.begin(parseJson(data)?.connection);
        opened = true;
        misses = 0;
        this.#take([], lastEventId);
        this.#open();
      });
      source.addEventListener("message", take);
      source.addEventListener("visnyk.gap", take);
      source.addEventListener("visnyk.closed", take);
      // Its own reconnection would show the same token again; the next stream asks for a fresh one.
      source.addEventListener("visnyk.token_expired", ({ data }) => {
        finish(false, parseJson(data)?.reason === "expired");
      });
      source.addEventListener("error", () => {
        misses += 1;
        // Its own reconnection would show the token of its address again, though it may have expired.
        const leftMs = lifetimeMs(stream.token);
        const isExpired = leftMs !== null && leftMs <= 0;
        if (source.readyState === CLOSED || misses > STREAM_MISSES_MAX) {
          finish(false);
        } else if (isExpired) {
          // Not at once: the others whose streams broke off with this one come back too.
          source.close();
          this.#report({ state: "reconnecting" });
          expectHello(delay(1), false);
        } else {
          // It comes back by itself after the time that the hub named, at the position it knows.
          this.#report({ state: "reconnecting" });
          expectHello(STREAM_RETRY_WAIT_MS, false);
        }
      });
    });
  }

  /** Ends with the transport changed, or stopped. */
  async #pollUntilStreamsWork(canStream) {
    const probes = canStream ? new Probes(this.#settings) : null;
    try {
      for (let failures = 0; !this.#stopped && !probes?.succeeded; ) {
        // The first poll only asks where "now" is, so that an answer lost later loses no event.
        const answer = await this.#poll(this.#position === null ? 0 : POLL_WAIT_S, probes?.signal);
        if (this.#stopped || probes?.succeeded) break;
        if (answer.ok) {
          failures = 0;
          this.#open();
        } else {
          failures += 1;
          await this.#wait(failures, answer);
        }
      }
    } finally {
      probes?.stop();
    }
    if (!this.#stopped) this.#transport = "sse";
  }

  async #poll(waitS, signal) {
    const signals = signal ? [this.#stopping.signal, signal] : [this.#stopping.signal];
    const answer = await poll(this.#settings, this.#position, waitS, signals);
    if (this.#stopped) return answer;
    if (answer.ok) {
      this.#wasRefreshed = false;
      this.#take(answer.items, answer.position);
    } else if (answer.final === "expired" && this.#settings.refresh && !this.#wasRefreshed) {
      if (await this.#renew(answer)) return this.#poll(waitS, signal);
      return {};
    } else if (answer.final) {
      this.#finish(answer);
    } else if (isSilent(answer) && !this.#wasAnswered && (await this.#isForeign(signals))) {
      this.#finish({ final: "origin", detail: foreign(this.#settings) });
    }
    this.#wasAnswered ||= Boolean(answer.status);
    return answer;
  }

  /**
   * Gets another token in place of the one that was `used` and has expired; false if it cannot be had
   * yet, or not at all: then this is closed.
   */
  async #renew(expired, used) {
    const { token, refresh } = this.#settings;
    try {
      if (refresh) {
        await refresh();
        this.#wasRefreshed = true;
        return true;
      }
      if (typeof token === "function" && (await readToken(this.#settings)) !== used) return true;
    } catch {
      return false;
    }
    this.#finish(expired);
    return false;
  }

  /** Whether the hub is there and pages of this origin are not to read from it. */
  async #isForeign(signals) {
    const { base } = this.#settings;
    if (!globalThis.location || base.origin === location.origin) return false;
    // Every page may read this file. What was not answered is asked once more: the hub may have come
    // in between.
    try {
      await fetch(new URL("visnyk.js", base), { method: "HEAD", cache: "no-store" });
    } catch {
      return false;
    }
    const again = await poll(this.#settings, this.#position, 0, signals);
    return !this.#stopped && isSilent(again);
  }

  async #wait(failures, { status, retryAfterMs, detail }) {
    const retryMs = delay(failures, retryAfterMs);
    this.#report({ state: "reconnecting", retryMs, status, detail });
    await pause(retryMs, this.#stopping.signal);
  }

  #take(items, position) {
    if (position) this.#position = position;
    if (!this.#stopped && (items.length > 0 || position)) this.#owner.batch(items, position);
  }

  /** The hub ends a stream with its last named channel; no need to reconnect to find out. */
  #dropChannel(name) {
    const { channels } = this.#settings;
    this.#settings = { ...this.#settings, channels: channels.filter((other) => other !== name) };
    if (this.#settings.channels.length === 0) this.#finish({ final: "gone" });
  }

  #finish({ final, status, detail }) {
    if (this.#stopped) return;
    this.#report({ state: "closed", reason: final, status, detail });
    this.stop();
  }

  #open() {
    if (this.#lost) this.#reconnects += 1;
    this.#lost = false;
    const changed = this.#openOn !== this.#transport;
    this.#openOn = this.#transport;
    if (changed) this.#report({ state: "open" });
  }

  #report(state) {
    if (this.#stopped) return;
    if (state.state === "reconnecting") {
      this.#lost ||= this.#openOn !== null;
      this.#openOn = null;
    }
    this.#owner.state({ transport: this.#transport, reconnects: this.#reconnects, ...state });
  }
}

/** Looks now and then whether streams come through again, while the client is polling. */
class Probes {
  #settings;
  #found = new AbortController();
  #source = null;
  #timer;
  #intervalMs = PROBE_MIN_MS;

  constructor(settings) {
    this.#settings = settings;
    this.#schedule();
  }

  /** Aborts the poll in flight when a stream was seen to work. */
  get signal() {
    return this.#found.signal;
  }

  get succeeded() {
    return this.#found.signal.aborted;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.#settings = null;
  }

  #schedule() {
    this.#timer = setTimeout(() => this.#probe(), jitter(this.#intervalMs));
    this.#intervalMs = Math.min(this.#intervalMs * 2, PROBE_MAX_MS);
  }

  async #probe() {
    const settings = this.#settings;
    const stream = await streamToOpen({ ...settings, last: undefined }, null);
    if (this.#settings === null) return;
    if (stream.lacksToken) return this.#schedule();
    const { withCredentials, EventSource } = settings;
    const source = new EventSource(stream.url, { withCredentials });
    this.#source = source;
    const fail = () => {
      clearTimeout(this.#timer);
      source.close();
      this.#schedule();
    };
    this.#timer = setTimeout(fail, HELLO_WAIT_MS);
    source.addEventListener("error", fail);
    source.addEventListener("visnyk.hello", () => {
      source.close();
      this.#found.abort();
    });
  }
}

/**
 * How long a stream may go on: as long as its token, or the next one. It is kept up where tokens come
 * from a function and say when they expire. An error here does no harm: the stream then ends
 * with its token, and the next one asks for a fresh one.
 */
class Lease {
  #settings;
  #token;
  #timer;
  #ended = false;

  constructor(settings, token) {
    this.#settings = settings;
    this.#token = token;
  }

  /** The hub named the connection. */
  begin(connection) {
    clearTimeout(this.#timer);
    const leftMs = lifetimeMs(this.#token);
    if (this.#ended || typeof this.#settings.token !== "function") return;
    if (connection === undefined || leftMs === null || leftMs < RENEW_MIN_MS) return;
    const waitMs = Math.min(leftMs * RENEW_AFTER, TIMER_MAX_MS);
    this.#timer = setTimeout(() => this.#renew(connection), waitMs);
  }

  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  async #renew(connection) {
    try {
      const token = await readToken(this.#settings);
      if (this.#ended) return;
      if (token && token !== this.#token) {
        const url = hubUrl(this.#settings, `v1/connections/${connection}/token`, {});
        const signal = AbortSignal.timeout(RENEW_WAIT_MS);
        const { ok } = await send(this.#settings, token, url, { method: "POST", signal });
        if (ok) this.#token = token;
      }
    } catch {
      // It is tried again while there is time.
    }
    this.begin(connection);
  }
}

/**
 * The tabs of an origin that share a connection. The tab that holds the lock leads: it connects and
 * broadcasts what comes. The others follow, and one of them inherits the lock when it is let go,
 * with its own position, which is as far as its own handlers have come.
 *
 * A leader numbers its batches. A follower that misses a number, or whose position is not the new
 * leader's, asks the hub itself for what it lacks, with polls, and holds back what is broadcast
 * meanwhile; since events have unique ids, what both bring is delivered once.
 */
class Group {
  #settings;
  #owner;
  #channel;
  #leaving = new AbortController();
  #leading = false;
  #term = null;
  #number = 0;
  #state = null;
  #recent = new RecentIds();
  #held = null;
  #caughtUp = null;
  #release = null;

  static isPossible() {
    return typeof BroadcastChannel === "function" && Boolean(globalThis.navigator?.locks);
  }

  constructor(settings, owner) {
    this.#settings = settings;
    this.#owner = owner;
    const name = groupName(settings);
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#channel.postMessage({ join: true });
    navigator.locks
      .request(name, { signal: this.#leaving.signal }, () => this.#lead())
      .catch(() => {
        if (this.#leaving.signal.aborted) return;
        this.leave();
        owner.alone();
      });
  }

  /** Gives the lock and the channel up; another tab takes over. */
  leave() {
    this.#leaving.abort();
    this.#channel.close();
    this.#release?.();
  }

  /** Leader: passes a batch on. */
  share(items, position) {
    if (items.length === 0) return;
    this.#number += 1;
    this.#post({ items, position });
  }

  /** Leader: passes a state on, with the position at which new tabs begin. */
  tell(state, position) {
    this.#state = state;
    this.#post({ state, start: position });
  }

  async #lead() {
    this.#leading = true;
    // What only this tab asked for, such as `earliest` or `last`, it fetches before it leads: the
    // others are not to be sent it.
    const asks = this.#owner.position() !== null || this.#settings.last !== undefined;
    if (this.#term === null && asks) this.#catchUp();
    await this.#caughtUp;
    if (this.#leaving.signal.aborted) return;
    this.#term = randomKey();
    this.#number = 0;
    await new Promise((release) => {
      this.#release = release;
      this.#owner.lead();
    });
  }

  #post(message) {
    if (this.#leaving.signal.aborted) return;
    this.#channel.postMessage({ ...message, term: this.#term, number: this.#number });
  }

  #hear(message) {
    if (this.#leaving.signal.aborted) return;
    if (this.#leading) {
      if (message.join && this.#state) this.tell(this.#state, this.#owner.position());
      return;
    }
    if (message.state) this.#hearState(message);
    else if (message.items) this.#hearBatch(message);
  }

  #hearState({ term, number, state, start }) {
    // A leader that does not know its position yet says so again when it does.
    if (start !== null) {
      const position = this.#owner.position();
      const inStep = term === this.#term ? number === this.#number : start === position;
      this.#term = term;
      this.#number = number;
      if (position === null && this.#settings.last === undefined) this.#owner.adopt(start);
      else if (!inStep) this.#catchUp();
    }
    this.#owner.state(state);
  }

  #hearBatch({ term, number, items, position }) {
    if (term !== this.#term) return; // Of a leader that is gone, or not heard of yet.
    const inStep = number === this.#number + 1;
    this.#number = number;
    if (!inStep) this.#catchUp();
    if (this.#held) this.#held.add(items);
    else this.#deliverFresh(items, position);
  }

  /** Asks the hub for what this tab lacks; broadcasts are held until it has it. */
  #catchUp() {
    if (this.#held) {
      this.#held.restart();
      return;
    }
    this.#held = new Held();
    this.#caughtUp = this.#pollToTheEnd(this.#held).then(() => {
      const { items } = this.#held;
      this.#held = null;
      if (!this.#leaving.signal.aborted) this.#deliverFresh(items, null);
    });
  }

  async #pollToTheEnd(held) {
    const { signal } = this.#leaving;
    for (let failures = 0; !signal.aborted; ) {
      held.startRound();
      const answer = await poll(this.#settings, this.#owner.position(), 0, [signal]);
      if (signal.aborted || answer.final) return; // The leader will hear the same and say it.
      if (answer.ok) {
        failures = 0;
        this.#owner.deliver(this.#fresh(answer.items), answer.position);
        if (answer.items.length === 0 && held.isWhole) return;
      } else {
        failures += 1;
        await pause(delay(failures, answer.retryAfterMs), signal);
      }
    }
  }

  /** A batch that brings nothing new may be older than where this tab stands. */
  #deliverFresh(items, position) {
    const fresh = this.#fresh(items);
    if (fresh.length > 0) this.#owner.deliver(fresh, position);
  }

  #fresh(items) {
    return items.filter(({ id, type }) => type.startsWith(NOTICE) || this.#recent.add(id));
  }
}

/** The ids delivered last. Holds at most `RECENT_MAX`, more than can arrive twice. */
class RecentIds {
  #ids = new Set();

  /** Returns whether it is new. */
  add(id) {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > RECENT_MAX) this.#ids.delete(this.#ids.values().next().value);
    return true;
  }
}

/**
 * What was broadcast while a follower was catching up. Past `RECENT_MAX` events it begins anew, and
 * the follower must have asked once more after that before it may rely on it.
 */
class Held {
  items = [];
  isWhole = true;

  startRound() {
    this.isWhole = true;
  }

  restart() {
    this.items = [];
    this.isWhole = false;
  }

  add(items) {
    if (this.items.length + items.length > RECENT_MAX) this.restart();
    this.items.push(...items);
  }
}

function parseOptions(options) {
  const { url, channels, types, from = "now", last, transport = "auto" } = options;
  const { token, refresh, withCredentials = false, shared = false } = options;
  const { EventSource = globalThis.EventSource } = options;
  if (!["auto", "sse", "poll"].includes(transport)) {
    throw new TypeError(`transport is "auto", "sse" or "poll", not ${JSON.stringify(transport)}`);
  }
  if (last !== undefined && !(Number.isInteger(last) && last >= 1 && last <= LAST_MAX)) {
    throw new TypeError(`last is a whole number from 1 to ${LAST_MAX}, not ${JSON.stringify(last)}`);
  }
  const base = new URL(url ?? servedFrom(), globalThis.location?.href);
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return {
    base,
    channels: [...new Set([channels ?? []].flat())],
    types: [...new Set([types ?? []].flat())],
    from,
    last,
    transport,
    token,
    refresh,
    withCredentials,
    shared,
    EventSource,
  };
}

/** The root of the hub that served this module. A copy of it, as in a bundle, knows none. */
function servedFrom() {
  const own = new URL(import.meta.url);
  if (!/^https?:$/.test(own.protocol) || !/^(?!.*\/node_modules\/).*\/visnyk\.js$/.test(own.pathname)) {
    throw new TypeError('url names the hub\'s root, such as "https://hub.example"');
  }
  return new URL(".", own);
}

function groupName({ base, channels, types, transport, withCredentials, shared }) {
  const subscription = [[...channels].sort(), [...types].sort(), transport, withCredentials];
  return `visnyk:1:${JSON.stringify([base.href, shared, ...subscription])}`;
}

/** Where to go on from `position`, or to begin: what says it in a query. */
function whereFrom({ last }, position) {
  if (position !== null) return { last_event_id: position };
  return last === undefined ? { last_event_id: "now" } : { last };
}

/** Leaves out what is undefined; repeats the name for each value of a list. */
function hubUrl({ base }, path, query) {
  const url = new URL(path, base);
  for (const [name, values] of Object.entries(query)) {
    for (const value of [values].flat()) {
      if (value !== undefined) url.searchParams.append(name, value);
    }
  }
  return url;
}

/**
 * `lacksToken` if the token could not be had. The format is the envelope without an `event` field: an
 * `EventSource` dispatches by event name, so each name needs a listener of its own.
 */
async function streamToOpen(settings, position) {
  const { channels, types } = settings;
  const query = { channel: channels, type: types, format: "message", hello: 1 };
  try {
    const token = await readToken(settings);
    const url = hubUrl(settings, "v1/events", { ...query, ...whereFrom(settings, position), token });
    return { url, token };
  } catch (error) {
    return { lacksToken: true, detail: withoutToken(error) };
  }
}

/** Why a page cannot read from its hub. */
function foreign({ base }) {
  const { origin } = location;
  return (
    `${base.origin} is not open to pages of ${origin}: start it with --cors-origin ${origin}, ` +
    "or, if that is done, see the browser's console for what it blocks"
  );
}

/** Whether a poll was sent, and there was no answer that this page may read. */
function isSilent({ ok, status, lacksToken }) {
  return !ok && !status && !lacksToken;
}

/** How long a token is good for; null if it has no expiry, or cannot be read. */
function lifetimeMs(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(claims));
    return Number.isFinite(exp) ? exp * 1000 - Date.now() : null;
  } catch {
    return null;
  }
}

/** Rejects if the function takes longer than `TOKEN_WAIT_MS`, or a signal is aborted. */
async function readToken({ token }, signals = []) {
  if (typeof token !== "function") return token;
  const end = anySignal([...signals, AbortSignal.timeout(TOKEN_WAIT_MS)]);
  return new Promise((resolve, reject) => {
    const stop = () => reject(end.reason);
    end.addEventListener("abort", stop, { once: true });
    if (end.aborted) stop();
    Promise.resolve()
      .then(token)
      .then(resolve, reject)
      .finally(() => end.removeEventListener("abort", stop));
  });
}

/** What is said where a function that was asked for a token failed. */
function withoutToken(error) {
  return `the function that gives the token failed: ${error?.message ?? error}`;
}

function send(settings, token, url, { headers, ...init }) {
  return fetch(url, {
    ...init,
    headers: token ? { ...headers, Authorization: `Bearer ${token}` } : headers,
    credentials: settings.withCredentials ? "include" : "same-origin",
    cache: "no-store",
  });
}

/**
 * One long-poll. `ok` with items and position; or `final` (`gone`, `expired`, `refused`); or neither,
 * and it may be tried again: `lacksToken` if it was not sent. The position travels in the query, which needs no preflight.
 */
async function poll(settings, position, waitS, signals) {
  const { channels, types } = settings;
  const query = { channel: channels, type: types, limit: POLL_LIMIT, timeout: waitS };
  const url = hubUrl(settings, "v1/poll", { ...query, ...whereFrom(settings, position) });
  let token;
  try {
    token = await readToken(settings, signals);
  } catch (error) {
    return { lacksToken: true, detail: withoutToken(error) };
  }
  const timeout = AbortSignal.timeout((waitS + POLL_GRACE_S) * 1000);
  try {
    const signal = anySignal([...signals, timeout]);
    const response = await send(settings, token, url, { signal });
    const { status } = response;
    if (status === 204) {
      const reached = response.headers.get("Last-Event-ID") ?? position;
      return { ok: true, status, items: [], position: reached };
    }
    if (status === 200) {
      const { events, position: reached, gap } = await response.json();
      const items = events.map(normalize);
      if (gap) items.unshift({ ...gap, type: "visnyk.gap" });
      return { ok: true, status, items, position: reached };
    }
    const problem = await readProblem(response);
    const detail = problem?.detail ?? problem?.title;
    if (status === 410) return { final: "gone", status, detail };
    if (status === 401 && /expired/.test(detail)) return { final: "expired", status, detail };
    if (isPermanent(status)) return { final: "refused", status, detail };
    return { status, retryAfterMs: readRetryAfter(response) };
  } catch {
    return {}; // No answer, or not the hub's.
  }
}

async function publishOnce(settings, url, headers, body, signal) {
  let token;
  try {
    token = await readToken(settings, signal ? [signal] : []);
  } catch (cause) {
    signal?.throwIfAborted();
    return { error: new VisnykError(withoutToken(cause), { cause }), temporary: true };
  }
  const timeout = AbortSignal.timeout(PUBLISH_WAIT_MS);
  const signals = signal ? [signal, timeout] : [timeout];
  try {
    const init = { method: "POST", headers, body, signal: anySignal(signals) };
    const response = await send(settings, token, url, init);
    const { status } = response;
    if (status === 201 || status === 200) return { receipt: await response.json() };
    const problem = await readProblem(response);
    const message = problem?.detail ?? problem?.title ?? `the hub answered ${status}`;
    return {
      error: new VisnykError(message, { status, problem }),
      temporary: [429, 502, 503, 504].includes(status),
      retryAfterMs: readRetryAfter(response),
    };
  } catch (cause) {
    signal?.throwIfAborted();
    return { error: new VisnykError("the hub did not answer", { cause }), temporary: true };
  }
}

/** 404 is not among them: it is what a proxy says whose hub is being replaced. */
function isPermanent(status) {
  return status >= 400 && status < 500 && ![404, 408, 425, 429].includes(status);
}

async function readProblem(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

/** Seconds or a date; at most `RETRY_AFTER_MAX_MS`. */
function readRetryAfter(response) {
  const value = response.headers.get("Retry-After");
  if (value === null) return 0;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), RETRY_AFTER_MAX_MS) : 0;
}

/** An event or notice of a stream; null if it is not one of ours. */
function parseItem({ type, data, lastEventId }) {
  const value = parseJson(data);
  const isObject = typeof value === "object" && value !== null;
  if (type === "visnyk.gap") return { ...(isObject ? value : {}), type, id: lastEventId };
  if (type === "visnyk.closed") {
    return { channel: isObject ? value.channel : (value ?? data), type, id: lastEventId };
  }
  return typeof value?.data === "string" ? normalize(value) : null;
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function normalize(envelope) {
  return { ...envelope, type: envelope.type ?? "message" };
}

/** The wait before a further attempt: exponential, jittered, never less than the hub asked for. */
function delay(failures, retryAfterMs = 0) {
  const ms = Math.min(BACKOFF_MIN_MS * 2 ** Math.min(failures - 1, 16), BACKOFF_MAX_MS);
  return Math.max(jitter(ms), retryAfterMs + Math.random() * BACKOFF_MIN_MS);
}

/** Between a half and the whole. */
function jitter(ms) {
  return ms * (0.5 + Math.random() / 2);
}

/** Ends early when aborted, or when the browser finds that it is online again. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      globalThis.removeEventListener?.("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted) done();
    signal?.addEventListener("abort", done);
    globalThis.addEventListener?.("online", done);
  });
}

/** `AbortSignal.any`, also where it does not exist. */
function anySignal(signals) {
  if (AbortSignal.any) return AbortSignal.any(signals);
  const controller = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) controller.abort(signal.reason);
    signal.addEventListener("abort", () => controller.abort(signal.reason), {
      signal: controller.signal,
    });
  }
  return controller.signal;
}

/** As an uncaught error, where `reportError` does not exist too. */
function report(error) {
  if (globalThis.reportError) return reportError(error);
  queueMicrotask(() => {
    throw error;
  });
}

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The `readyState` of a stream that does not come back by itself. */
const CLOSED = 2;

/** What the names of the hub's own notices begin with. */
const NOTICE = "visnyk.";

/** How long a new stream may stay silent before polls take over: something buffers it. */
const HELLO_WAIT_MS = 10_000;
/** How long a stream may take to come back by itself: the hub's own delay and the connection. */
const STREAM_RETRY_WAIT_MS = 40_000;
/** How often it may fail to come back by itself before a poll asks why. */
const STREAM_MISSES_MAX = 3;
/** How many streams may fail while polls work before polls take over. */
const STREAM_FAILURES_MAX = 2;
/** How soon, and later how throttle, a polling client looks whether streams work again. */
const PROBE_MIN_MS = 30_000;
const PROBE_MAX_MS = 900_000;

/** After which part of a token's life a fresh one is handed in; how soon before its end not any more. */
const RENEW_AFTER = 0.75;
const RENEW_MIN_MS = 500;
/** How long that may take. */
const RENEW_WAIT_MS = 10_000;
/** The longest that a timer can wait, almost 25 days. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** How long a function may take to give a token. */
const TOKEN_WAIT_MS = 30_000;

/** How long a poll may wait for events, and how much longer for its answer. */
const POLL_WAIT_S = 20;
const POLL_GRACE_S = 10;
/** Events in the answer to a poll: the most that the hub gives, for a client that catches up. */
const POLL_LIMIT = 1_000;
/** Events of each channel that a client may begin with. */
const LAST_MAX = 1_000;

/** What is said of a token that has expired where the hub's words are not at hand. */
const EXPIRED = { final: "expired", status: 401, detail: "the token has expired" };

/** The wait after a first failure, and the longest. */
const BACKOFF_MIN_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;
/** The longest that a hub may send a client away for. */
const RETRY_AFTER_MAX_MS = 300_000;

/** How long a publish waits for its answer, and how many may wait. */
const PUBLISH_WAIT_MS = 30_000;
const PUBLISHES_MAX = 256;

/** Ids remembered, and events held back, by a tab that shares another one's connection. */
const RECENT_MAX = 5_000;
