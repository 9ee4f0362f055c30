// The browser, and pages in it that collect what they hear.
import { chromium } from "playwright-core";

export const WAIT_MS = 20_000;

const EXECUTABLE = "/usr/bin/chromium";
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-component-update",
  "--no-first-run",
  "--disable-sync",
  "--disable-gpu",
  "--disable-quic",
  "--no-proxy-server",
];

/** Starts a browser, for a suite to share. */
export function startBrowser(more = []) {
  return chromium.launch({ executablePath: EXECUTABLE, args: [...ARGUMENTS, ...more] });
}

/** A fresh profile, closed with the test. Its pages share an origin's locks and broadcasts. */
export async function newContext(test, browser, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(WAIT_MS);
  test.after(() => context.close());
  return context;
}

/** A page of the hub's origin that loads nothing, with `window.heard` for a test to fill. */
export async function blankPage(context, origin) {
  const page = await context.newPage();
  await page.goto(`${origin}/healthz`);
  await page.evaluate(() => (window.heard = []));
  return page;
}

/** Waits until `condition(argument)` holds in the page; says what was heard if it never does. */
export async function until(page, condition, argument) {
  try {
    await page.waitForFunction(condition, argument, { polling: 50, timeout: WAIT_MS });
  } catch (error) {
    const heard = await page.evaluate(() => JSON.stringify(window.heard ?? null));
    throw new Error(`${condition} never held; heard ${heard?.slice(0, 2_000)}`, { cause: error });
  }
}

/** What the page collected so far. */
export function heard(page) {
  return page.evaluate(() => window.heard);
}

/** Opens a client in the page: events go to `heard`, states to `states`, notices to `notices`. */
export async function openClient(page, options) {
  await page.evaluate(async (settings) => {
    const { Visnyk } = await import("/visnyk.js");
    window.states = [];
    window.notices = [];
    window.hub = new Visnyk(settings);
    window.hub.on("*", ({ data }) => window.heard.push(data));
    window.hub.on("visnyk.state", (state) => window.states.push(state));
    window.hub.on("visnyk.gap", (gap) => window.notices.push(gap));
    window.hub.on("visnyk.closed", (closed) => window.notices.push(closed));
  }, options);
}

/** Waits until the page's client is open, over a transport if one is named. */
export function untilOpen(page, transport) {
  return until(
    page,
    (name) => hub.state.state === "open" && (!name || hub.state.transport === name),
    transport,
  );
}

/** The numbers from `first` to `last`, as the text that events carry. */
export function numbers(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => String(first + index));
}

/** Waits until `condition()` holds outside of a page. */
export async function retry(condition) {
  const deadline = performance.now() + WAIT_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${condition} never held`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
