/** The types of visnyk.js, the browser client of a Visnyk hub. */

/** An event as a handler sees it. */
export interface HubEvent {
  /** Its position. */
  id: string;
  /** The channel it was published to. */
  channel: string;
  /** Its type, `message` if it was published without one. */
  type: string;
  /** When the hub took it: RFC 3339, UTC. */
  time: string;
  /** Always a string; use `JSON.parse` if you publish JSON. */
  data: string;
}

/** Events that this client should have had are no longer in history. */
export interface Gap {
  type: "visnyk.gap";
  reason: "evicted" | "epoch" | "unknown_position" | "slow" | "search_limit";
  /** The position that was asked for. */
  requested?: string;
  /** Where the stream goes on. */
  oldest?: string;
  /** The channel that lost events, if it is only one. */
  channel?: string;
}

/** A channel was deleted. The subscription ends with its last one. */
export interface ChannelClosed {
  type: "visnyk.closed";
  channel: string;
}

export interface State {
  state: "connecting" | "open" | "reconnecting" | "closed";
  /** What carries events now. */
  transport: "sse" | "poll" | null;
  /** Whose connection it is; a follower uses another tab's. */
  role: "own" | "leader" | "follower";
  /** How often the connection was made anew. */
  reconnects: number;
  /** While reconnecting: how long until the next try, if it is known. */
  retryMs?: number;
  /** The HTTP status that led here, if there was one. */
  status?: number;
  /** Why it is closed. */
  reason?: "closed" | "gone" | "refused" | "expired" | "origin";
  /** The hub's own words about it, or what to do. */
  detail?: string;
}

export interface Options {
  /** Channels or patterns (`*` one segment, `**` any number). None: a client that only publishes. */
  channels?: string | string[];
  /** The hub's root; by default where the module came from, if a hub served it. */
  url?: string | URL;
  /** Only events of these types are sent. */
  types?: string | string[];
  /** `now` (default), `earliest`, or a position. */
  from?: string;
  /** Begins with so many of the latest events of each channel, 1 to 1,000; a position wins. */
  last?: number;
  /** `auto` (default) begins with SSE and polls where that fails. */
  transport?: "auto" | "sse" | "poll";
  /**
   * A token, or a function that is asked for one before each connection and each expiry, and again
   * after a pause if it throws or rejects.
   */
  token?: string | (() => string | Promise<string>);
  /** Gets a new cookie, or whatever the token is in, once it has expired. */
  refresh?: () => unknown;
  /** Send cookies to another origin. */
  withCredentials?: boolean;
  /** One connection for all tabs of this origin; a string separates groups. */
  shared?: boolean | string;
  /** What streams are opened with, by default the environment's own; without one it polls. */
  EventSource?: new (url: string | URL, init?: { withCredentials?: boolean }) => EventSourceLike;
}

/** What a client needs of an `EventSource`. */
export interface EventSourceLike {
  readonly readyState: number;
  addEventListener(type: string, listener: (event: any) => void): void;
  close(): void;
}

export interface PublishOptions {
  type?: string;
  /** The reconnection time to send along to subscribers. */
  retryMs?: number;
  /** By default a random one. */
  idempotencyKey?: string;
  /** How often to try in all (3). */
  attempts?: number;
  signal?: AbortSignal;
}

/** A refused or failed publish. */
export class VisnykError extends Error {
  constructor(
    message: string,
    about?: { status?: number; problem?: Record<string, unknown> | null; cause?: unknown },
  );
  /** The HTTP status; 0 if there was no answer. */
  status: number;
  /** The hub's problem document (RFC 9457), or null. */
  problem: Record<string, unknown> | null;
}

/** A client of one hub. It connects as soon as it is made and stays until `close()`. */
export class Visnyk {
  constructor(options?: Options);
  get state(): State;
  /** Everything up to here was handed to handlers; null as long as that is not known. */
  get position(): string | null;
  /** Calls `handler` for events of a type; `*` is every published event. Returns what takes it off. */
  on(type: "visnyk.gap", handler: (gap: Gap) => void): () => void;
  on(type: "visnyk.closed", handler: (closed: ChannelClosed) => void): () => void;
  on(type: "visnyk.state", handler: (state: State) => void): () => void;
  on(type: string, handler: (event: HubEvent) => void): () => void;
  off(type: string, handler: (event: any) => void): void;
  /** Ends the subscription for good. Publishing still works. */
  close(): void;
  /** Publishes one event; rejects with a `VisnykError`. */
  publish(
    channel: string,
    data: unknown,
    options?: PublishOptions,
  ): Promise<{ id: string; channel: string }>;
}
