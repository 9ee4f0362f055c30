/**
 * The list of events, newest first. It keeps at most `ROWS_MAX` events and `TEXT_MAX` characters of
 * their data, shown and held back alike, and is drawn at most once a frame.
 *
 * @module
 */
import { announce, byId, element, setText } from "./dom.js";
import { clock, format, plural } from "./format.js";
import { EventRow } from "./event_row.js";

/** Entries in order of arrival, the oldest dropped past either bound. */
class Backlog {
  entries = [];
  #text = 0;

  add(entry) {
    this.entries.push(entry);
    this.#text += size(entry);
    const dropped = [];
    while (this.entries.length > ROWS_MAX || (this.#text > TEXT_MAX && this.entries.length > 1)) {
      const [oldest] = this.entries.splice(0, 1);
      this.#text -= size(oldest);
      dropped.push(oldest);
    }
    return dropped;
  }

  takeAll() {
    const { entries } = this;
    this.entries = [];
    this.#text = 0;
    return entries;
  }
}

/** The list. New events wait while it is paused, and while a person reads: further down, or an opened event. */
export class EventList {
  #box = byId("rows");
  #pill = byId("pill");
  #waiting = new Backlog();
  #shown = new Backlog();
  #rows = new Map();
  #frame = 0;
  #paused = false;
  #filter = "";
  #active = null;
  total = 0;

  constructor() {
    this.#box.addEventListener("scroll", () => this.#schedule(), { passive: true });
    this.#box.addEventListener("keydown", (press) => this.#press(press));
    this.#box.addEventListener("focusin", ({ target }) => {
      const found = [...this.#rows.values()].find(({ element: row }) => row.contains(target));
      if (found?.setActive) this.#activate(found, false);
    });
    // A row that is closed lets new events in again.
    this.#box.addEventListener("click", () => this.#schedule());
    this.#pill.addEventListener("click", () => this.#showNewest());
    byId("filter").addEventListener("input", ({ currentTarget: { value } }) => {
      this.#filter = value.trim().toLowerCase();
      for (const [entry, row] of this.#rows) row.element.hidden = !this.#fits(entry);
      this.#schedule();
    });
    setInterval(() => this.#announce(), ANNOUNCE_MS);
  }

  get isEmpty() {
    return this.#shown.entries.length === 0 && this.#waiting.entries.length === 0;
  }

  add(entry) {
    if (!entry.notice) this.total += 1;
    this.#waiting.add(entry);
    this.#schedule();
  }

  pause(paused) {
    this.#paused = paused;
    this.#schedule();
  }

  clear() {
    this.total = 0;
    this.#announced = 0;
    this.#waiting.takeAll();
    this.#shown.takeAll();
    this.#rows.clear();
    this.#active = null;
    this.#box.replaceChildren();
    this.#schedule();
  }

  #announced = 0;

  /** Whether a person reads further down, or has opened an event. */
  get #isRead() {
    return this.#box.scrollTop > READ_PX || this.#box.querySelector(".detail") !== null;
  }

  #schedule() {
    // A hidden tab draws no frames; what it holds meanwhile is bounded all the same.
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (!this.#paused && !this.#isRead) this.#draw();
      this.#count();
    });
  }

  #showNewest() {
    this.#draw();
    this.#box.scrollTop = 0;
    this.#count();
    const first = [...this.#rows.values()].reverse().find((row) => row.setActive && !row.element.hidden);
    if (first) this.#activate(first, true);
  }

  #draw() {
    const fresh = document.createDocumentFragment();
    for (const entry of this.#waiting.takeAll()) {
      const row = entry.notice ? { element: noticeRow(entry) } : new EventRow(entry);
      row.element.hidden = !this.#fits(entry);
      this.#rows.set(entry, row);
      fresh.prepend(row.element);
      for (const old of this.#shown.add(entry)) {
        const gone = this.#rows.get(old);
        if (gone === this.#active) this.#active = null;
        gone.element.remove();
        this.#rows.delete(old);
      }
    }
    this.#box.prepend(fresh);
    // The list has one tab stop: the newest event until another one has the focus.
    if (!this.#box.contains(document.activeElement) || this.#active === null) {
      const newest = [...this.#rows.values()].reverse().find((row) => row.setActive);
      if (newest) this.#activate(newest, false);
    }
  }

  #fits(entry) {
    if (!this.#filter || entry.notice) return true;
    const { channel, type, data } = entry;
    return [channel, type, data].some((text) => text.toLowerCase().includes(this.#filter));
  }

  #count() {
    const events = this.#shown.entries.filter((entry) => !entry.notice);
    const shown = events.length;
    const held = this.#waiting.entries.length;
    const parts = [];
    if (this.#filter) {
      parts.push(`${format(events.filter((entry) => this.#fits(entry)).length)} of ${plural(shown, "event")} match`);
    } else if (this.total > shown + held) {
      parts.push(`Newest ${shown} of ${format(this.total)} events`);
    } else if (this.total > 0) {
      parts.push(plural(shown, "event"));
    }
    if (this.#paused) parts.push(held > 0 ? `paused, ${held} held back` : "paused");
    setText(byId("count"), parts.join(" · "));
    setText(byId("fact-events"), format(this.total));
    this.#pill.hidden = held === 0;
    setText(this.#pill, `${held >= ROWS_MAX ? `${ROWS_MAX}+` : held} new`);
    byId("clear").disabled = this.isEmpty;
    byId("empty").hidden = this.#shown.entries.length > 0;
  }

  #activate(row, focus) {
    if (row !== this.#active) {
      this.#active?.setActive(false);
      this.#active = row;
      row.setActive(true);
    }
    if (focus) row.line.focus();
  }

  #press(press) {
    if (press.target.tagName === "PRE" || press.ctrlKey || press.metaKey || press.altKey) return;
    // Newest first, as they are seen.
    const rows = [...this.#rows.values()].filter((row) => row.setActive && !row.element.hidden).reverse();
    const at = rows.indexOf(this.#active);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    if (press.key in steps && rows.length > 0) {
      press.preventDefault();
      this.#activate(rows[Math.max(0, Math.min(rows.length - 1, at + steps[press.key]))], true);
    } else if (press.key === "c") {
      this.#active?.copy();
    }
  }

  /** Sums up what came, seldom enough to be listened to. */
  #announce() {
    if (this.total > this.#announced && !document.hidden) {
      announce(plural(this.total - this.#announced, "new event"));
    }
    this.#announced = this.total;
  }
}

function noticeRow({ text, bad, time }) {
  return element("li", { className: bad ? "notice bad" : "notice" },
    element("time", { dateTime: time }, clock(time)), text);
}

function size({ data, text }) {
  return (data ?? text).length;
}

/** Events kept in the page, and how many more a pause holds back. */
const ROWS_MAX = 500;
/** Characters of event data kept among them. */
const TEXT_MAX = 8 * 1024 * 1024;
/** Further down than this, a person reads. */
const READ_PX = 8;
/** How often a screen reader announces new events. */
const ANNOUNCE_MS = 5_000;
