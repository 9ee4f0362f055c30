/**
 * A view of many rows: a table, the search and the note above it, and the drawer with all that is known of the
 * chosen row. Asks again and again while it can be seen.
 *
 * @module
 */
import { titleOf } from "./banner.js";
import { byId, setText } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Poller } from "./poller.js";
import { RowTable } from "./row_table.js";

/** A view of many rows. */
export class Listing {
  #table;
  #drawer;
  #poller;
  #count;
  #open;
  #explain;
  #noteElement;
  #chosen = null;
  #note = "";
  #hasAnswer = false;

  /**
   * `name` is the id of the table; those of its search and its note begin with it. `drawer` is the id of the drawer.
   *
   * - `ask(signal)` resolves to `{ rows, note }`; the note goes behind the `count(shown, all)` of rows.
   * - `open(row)` gives the `{ title, actions }` of the drawer of a row, and `explain(key, signal)` what is known of it
   *   now: `{ lead, facts, isOver }`.
   * - `empty` is said of a hub without rows; `keyOf`, `textOf`, `columns` and `sort` are those of the table.
   */
  constructor(banner, { name, drawer, label, ask, count, open, explain, empty, keyOf, textOf, columns, sort }) {
    this.#count = count;
    this.#open = open;
    this.#explain = explain;
    this.#poller = new Poller((signal) => this.#look(ask, signal), banner, REFRESH_MS);
    this.#drawer = new Drawer(byId(drawer), () => {
      this.#chosen = null;
      this.#table.unchoose();
    });
    this.#table = new RowTable(byId(name), {
      label,
      keyOf,
      textOf,
      columns,
      sort,
      empty: () => (this.#hasAnswer ? empty : ""),
      open: (row) => this.#choose(keyOf(row), row),
    });
    this.#noteElement = byId(`${name}-note`);
    byId(`${name}-search`).addEventListener("input", ({ currentTarget: { value } }) => {
      this.#table.search(value);
      this.#showNote();
    });
  }

  show() {
    this.#poller.start();
  }

  hide() {
    this.#poller.stop();
  }

  refresh() {
    this.#poller.refresh();
  }

  /** Sorts by a column: `{ key, down }`. */
  sortBy(sort) {
    this.#table.sortBy(sort);
  }

  async #look(ask, signal) {
    const { rows, note } = await ask(signal);
    this.#hasAnswer = true;
    this.#note = note;
    this.#table.update(rows);
    this.#showNote();
    if (this.#chosen !== null) await this.#showChosen(signal);
  }

  #showNote() {
    const { shown, all } = this.#table.counts;
    setText(this.#noteElement, [this.#count(shown, all), this.#note].filter(Boolean).join(" · "));
  }

  #choose(key, row) {
    this.#chosen = key;
    const { title, actions } = this.#open(row);
    this.#drawer.open(title, actions);
    this.#drawer.show("", []);
    this.#showChosen().catch((error) => {
      if (this.#chosen === key) this.#drawer.show(`${titleOf(error.kind, error)}.`, []);
    });
  }

  async #showChosen(signal) {
    const key = this.#chosen;
    const { lead, facts = [], isOver = false } = await this.#explain(key, signal);
    // Another row may have been chosen meanwhile.
    if (this.#chosen === key) this.#drawer.show(lead, facts, isOver);
  }
}

const REFRESH_MS = 3_000;
/** A longer listing is cut. */
export const ROWS_MAX = 20_000;
