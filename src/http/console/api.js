/**
 * Requests to the hub, with the token that is in its field, and what went wrong with them.
 *
 * @module
 */
import { byId } from "./dom.js";

/** The token that was pasted in. It is kept nowhere but in its field. */
export const token = () => byId("token").value.trim() || undefined;

/** A request that did not do what it should. `kind` is what the page says of it. */
export class ApiError extends Error {
  constructor(kind, message, status = 0) {
    super(message);
    /** `away`: no answer, or of a gateway; `token`, `admin`: another token is needed; `refused`: all else. */
    this.kind = kind;
    this.status = status;
  }
}

/** Gets JSON. A path is relative to the page, so that a proxy may put the hub below a prefix. */
export async function get(path, signal) {
  return (await send("GET", path, signal)).json();
}

export async function remove(path) {
  await send("DELETE", path);
}

/** All pages of a listing, up to `max` rows; `more` says that there would have been others. */
export async function getAll(path, query, member, max, signal) {
  const rows = [];
  let first;
  let after;
  do {
    const search = new URLSearchParams({ ...query, limit: PAGE_ROWS });
    if (after !== undefined) search.set("after", after);
    const page = await get(`${path}?${search}`, signal);
    first ??= page;
    rows.push(...page[member]);
    after = page.next;
  } while (after !== undefined && rows.length < max);
  return { rows: rows.slice(0, max), more: after !== undefined || rows.length > max, first };
}

/** How far the hub's clock is ahead of this machine's, by its last answer; exact to a second. */
export let skewMs = 0;

async function send(method, path, signal) {
  const timeout = AbortSignal.timeout(WAIT_MS);
  let response;
  try {
    response = await fetch(path, {
      method,
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      headers: token() ? { Authorization: `Bearer ${token()}` } : {},
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("away", "The hub does not answer");
  }
  const date = Date.parse(response.headers.get("date") ?? "");
  if (Number.isFinite(date)) skewMs = Math.abs(date - Date.now()) < 2_000 ? 0 : date - Date.now();
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? `the hub answered ${response.status}`;
  throw new ApiError(kindOf(response.status, problem), detail, response.status);
}

function kindOf(status, { reason }) {
  if (status === 401) return "token";
  if (status === 403 && reason === "permissions") return "admin";
  return status === 502 || status === 503 || status === 504 ? "away" : "refused";
}

const PAGE_ROWS = 1_000;
const WAIT_MS = 10_000;
