/**
 * Asks again and again while its view can be seen; waits longer while the hub is away.
 *
 * @module
 */

/** One question of a view. */
export class Poller {
  #ask;
  #banner;
  #intervalMs;
  #timer;
  #asking = null;
  #failures = 0;
  #runs = false;

  /** `ask(signal)` shows what it gets; what it throws is explained by the banner. */
  constructor(ask, banner, intervalMs) {
    this.#ask = ask;
    this.#banner = banner;
    this.#intervalMs = intervalMs;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#runs) this.refresh();
    });
  }

  start() {
    this.#runs = true;
    this.#failures = 0;
    this.refresh();
  }

  stop() {
    this.#runs = false;
    this.#asking?.abort();
    this.#asking = null;
    clearTimeout(this.#timer);
  }

  /** Asks now, and from then on at intervals. A question under way is given up. */
  async refresh() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    if (!this.#runs || document.hidden) return;
    const asking = new AbortController();
    this.#asking = asking;
    const began = performance.now();
    let pauseMs;
    try {
      await this.#ask(asking.signal);
      if (this.#asking !== asking) return;
      this.#failures = 0;
      this.#banner.clear();
      // A listing of many pages is asked for less often: the hub is to serve others too.
      pauseMs = Math.max(this.#intervalMs, (performance.now() - began) * BUSY_SHARE);
    } catch (error) {
      if (this.#asking !== asking) return;
      this.#failures += 1;
      pauseMs = Math.min(AWAY_MAX_MS, AWAY_MIN_MS * 2 ** (this.#failures - 1));
      this.#banner.explain(error, pauseMs, () => this.refresh());
    }
    this.#timer = setTimeout(() => this.refresh(), pauseMs);
  }
}

/** At most one part in so many of the time is spent asking. */
const BUSY_SHARE = 10;
const AWAY_MIN_MS = 2_000;
const AWAY_MAX_MS = 16_000;
