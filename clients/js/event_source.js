/**
 * `EventSource` over `fetch` (WHATWG HTML, section 9.2), for environments without one. It has no `onopen`,
 * `onmessage` and `onerror`: use `addEventListener`. Cookies and redirects are what `fetch` makes of them.
 */
export class EventSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;

  readyState = EventSource.CONNECTING;
  #stopping = new AbortController();
  #lastEventId = "";
  #retryMs = RETRY_MS;

  /** @param {string|URL} url */
  constructor(url) {
    super();
    this.url = String(new URL(url));
    queueMicrotask(() => this.#run());
  }

  close() {
    this.readyState = EventSource.CLOSED;
    this.#stopping.abort();
  }

  async #run() {
    while (!this.#isClosed) {
      let mayReturn = true;
      try {
        mayReturn = await this.#connect();
      } catch {
        // The connection is lost, or was never made: it is made anew.
      }
      if (this.#isClosed) return;
      this.readyState = mayReturn ? EventSource.CONNECTING : EventSource.CLOSED;
      this.dispatchEvent(new Event("error"));
      if (!this.#isClosed) await pause(this.#retryMs, this.#stopping.signal);
    }
  }

  get #isClosed() {
    return this.readyState === EventSource.CLOSED;
  }

  /** Reads one answer to its end. False if another request would be answered in the same way. */
  async #connect() {
    const headers = { Accept: "text/event-stream" };
    if (this.#lastEventId) headers["Last-Event-ID"] = this.#lastEventId;
    const init = { headers, cache: "no-store", signal: this.#stopping.signal };
    const response = await fetch(this.url, init);
    const isStream = /^text\/event-stream\s*(;|$)/i.test(response.headers.get("Content-Type") ?? "");
    if (response.status !== 200 || !isStream) {
      await response.body?.cancel();
      return false;
    }
    this.readyState = EventSource.OPEN;
    this.dispatchEvent(new Event("open"));
    const parser = new Parser({
      event: (type, data) => {
        const { origin } = new URL(this.url);
        const init = { data, origin, lastEventId: this.#lastEventId };
        if (!this.#isClosed) this.dispatchEvent(new MessageEvent(type, init));
      },
      id: (id) => (this.#lastEventId = id),
      retry: (ms) => (this.#retryMs = ms),
    });
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      if (this.#isClosed) break;
      if (!parser.push(text)) {
        this.#stopping.abort();
        return false;
      }
    }
    return true;
  }
}

/** Reads the text of a stream in pieces of any size, and holds at most one event of it. */
class Parser {
  #to;
  #rest = "";
  #afterCr = false;
  #type = "";
  #data = [];
  #chars = 0;
  #id;

  constructor(to) {
    this.#to = to;
  }

  /** False once an event or a line is longer than `EVENT_CHARS_MAX`. */
  push(text) {
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    this.#afterCr = text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop();
    for (const line of lines) this.#readLine(line);
    return this.#chars + this.#rest.length <= EVENT_CHARS_MAX;
  }

  #readLine(line) {
    if (line === "") return this.#endBlock();
    this.#chars += line.length;
    const colon = line.indexOf(":");
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.#to.retry(Math.min(value, RETRY_MAX_MS));
  }

  #endBlock() {
    const [type, data] = [this.#type || "message", this.#data];
    this.#type = "";
    this.#data = [];
    this.#chars = 0;
    if (this.#id !== undefined) this.#to.id(this.#id);
    if (data.length > 0) this.#to.event(type, data.join("\n"));
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    signal.addEventListener("abort", done);
  });
}

/** The wait before a connection is made anew, until the hub names one, and the longest. */
const RETRY_MS = 3_000;
const RETRY_MAX_MS = 3_600_000;
/** Characters of one event: eight times the largest body that a hub takes by default. */
const EVENT_CHARS_MAX = 8 * 1024 * 1024;
