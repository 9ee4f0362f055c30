// One client library on Node, as an application uses it: prints what it hands over, a line of JSON each.
// Usage: node clients.mjs LIBRARY URL
//
// Libraries that reconnect are left alone. Those that do not get the loop that their users write: wait,
// and ask again from the last id.

const [library, url] = process.argv.slice(2);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const event = ({ data, id, type }) => say({ is: "event", data, id, type });
const TYPES = ["message", "visnyk.hello", "visnyk.gap", "visnyk.closed", "visnyk.token_expired"];
const RETRY_MS = 300;

/** An object with the interface of EventSource. */
function watch(source, closed = 2) {
  for (const type of TYPES) {
    source.addEventListener(type, ({ data, lastEventId }) => {
      // event-source-polyfill and eventsource 2 take one that has no data for one of theirs.
      if (data !== undefined) event({ data, id: lastEventId, type });
    });
  }
  source.addEventListener("error", () => {
    say(source.readyState === closed ? { is: "gave up" } : { is: "lost" });
  });
}

/** A stream that is read to its end, and asked for again. */
async function loop(read) {
  let last;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream" };
      if (last) headers["Last-Event-ID"] = last;
      await read(headers, (received) => {
        if (received.id) last = received.id;
        event(received);
      });
      say({ is: "end" });
    } catch (error) {
      if (error === GONE) return say({ is: "gave up" });
      say({ is: "lost", error: error.name });
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

const GONE = new Error("204");

const libraries = {
  async "eventsource 2"() {
    const { default: EventSource } = await import("eventsource2");
    watch(new EventSource(url));
  },

  async "eventsource 4"() {
    const { EventSource } = await import("eventsource4");
    watch(new EventSource(url));
  },

  async "event-source-polyfill"() {
    const { EventSourcePolyfill } = await import("event-source-polyfill");
    watch(new EventSourcePolyfill(url));
  },

  async "launchdarkly-eventsource"() {
    const { EventSource } = await import("launchdarkly-eventsource");
    watch(new EventSource(url, { initialRetryDelayMillis: RETRY_MS }));
  },

  async "undici EventSource"() {
    const { EventSource } = await import("undici");
    watch(new EventSource(url));
  },

  // In its default form: without `onclose` and `onerror`. It is for pages, so it has a page here.
  async "@microsoft/fetch-event-source"() {
    globalThis.window = globalThis;
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    const { fetchEventSource } = await import("@microsoft/fetch-event-source");
    try {
      await fetchEventSource(url, {
        onmessage: ({ data, id, event: type }) => event({ data, id, type }),
      });
      say({ is: "gave up" });
    } catch (error) {
      say({ is: "gave up", error: error.message });
    }
  },

  async "eventsource-parser"() {
    const { EventSourceParserStream } = await import("eventsource-parser/stream");
    await loop(async (headers, received) => {
      const answer = await fetch(url, { headers });
      if (answer.status === 204) throw GONE;
      const events = answer.body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream());
      for await (const { data, id, event: type } of events) received({ data, id, type });
    });
  },
};

if (!url) {
  say(Object.keys(libraries));
} else {
  process.on("uncaughtException", (error) => {
    say({ is: "crashed", error: String(error) });
    process.exit(1);
  });
  await libraries[library]();
  // Some keep no timer or socket open while they wait to reconnect.
  setInterval(() => {}, 60_000);
}
