/**
 * A table of any number of rows, of which only those in sight are in the page. One tab stop; the
 * arrow keys move from row to row, Enter opens one.
 *
 * @module
 */
import { announce, element, setText } from "./dom.js";

/** A sorted and searched table. */
export class RowTable {
  #columns;
  #keyOf;
  #textOf;
  #open;
  #empty;
  #rows = [];
  #shown = [];
  #search = "";
  #sort;
  #drawn = new Map();
  #active = 0;
  #chosen = null;
  #frame = 0;
  #rowPx = 36;
  #head = element("div", { className: "r head", role: "row" });
  #sizer = element("div", { className: "sizer", role: "rowgroup" });
  #scroller = element("div", { className: "scroller", role: "presentation" });
  #note = element("p", { className: "empty-text" });

  /**
   * `columns`: `{ key, title, hint, className, value(row), show(row) }`; `textOf(row)` is what the search
   * looks at; `open(row)` is called for a row that is clicked or entered.
   */
  constructor(root, { label, columns, keyOf, textOf, open, empty, sort }) {
    Object.assign(root, { role: "grid" });
    root.setAttribute("aria-label", label);
    this.root = root;
    this.#columns = columns;
    this.#keyOf = keyOf;
    this.#textOf = textOf;
    this.#open = open;
    this.#empty = empty;
    this.#sort = sort;
    columns.forEach((column) => this.#head.append(this.#heading(column)));
    this.#head.setAttribute("aria-rowindex", "1");
    this.#scroller.append(this.#sizer);
    root.append(element("div", { role: "rowgroup" }, this.#head), this.#scroller, this.#note);
    this.#scroller.addEventListener("scroll", () => this.#schedule(), { passive: true });
    new ResizeObserver(() => this.#schedule()).observe(this.#scroller);
    this.#sizer.addEventListener("keydown", (press) => this.#press(press));
    this.#sizer.addEventListener("focusin", ({ target }) => {
      const index = Number(target.dataset.index);
      if (index === this.#active) return;
      this.#active = index;
      this.#schedule();
    });
    this.#sizer.addEventListener("click", ({ target }) => {
      const index = Number(target.closest(".r")?.dataset.index ?? -1);
      if (index >= 0) this.#choose(index);
    });
    this.#showSort();
  }

  /** Replaces the rows. The row that has the focus keeps it, wherever it moves. */
  update(rows) {
    this.#rows = rows;
    this.#arrange();
  }

  search(text) {
    this.#search = text.trim().toLowerCase();
    this.#scroller.scrollTop = 0;
    this.#active = 0;
    this.#arrange();
  }

  /** Takes the mark from the chosen row, and gives it the focus. */
  unchoose() {
    const at = this.#shown.findIndex((row) => this.#keyOf(row) === this.#chosen);
    this.#chosen = null;
    this.#draw();
    if (at >= 0) this.#activate(at);
  }

  get counts() {
    return { shown: this.#shown.length, all: this.#rows.length };
  }

  #arrange() {
    const activeKey = this.#shown[this.#active] && this.#keyOf(this.#shown[this.#active]);
    const { key, down } = this.#sort;
    const { value } = this.#columns.find((column) => column.key === key);
    const found = this.#search
      ? this.#rows.filter((row) => this.#textOf(row).toLowerCase().includes(this.#search))
      : [...this.#rows];
    const sign = down ? -1 : 1;
    found.sort((left, right) => {
      const [a, b] = [value(left), value(right)];
      const order = typeof a === "string" ? (a < b ? -1 : Number(a > b)) : a - b;
      return order === 0 ? (this.#keyOf(left) < this.#keyOf(right) ? -1 : 1) : order * sign;
    });
    this.#shown = found;
    const at = found.findIndex((row) => this.#keyOf(row) === activeKey);
    this.#active = Math.max(0, at >= 0 ? at : Math.min(this.#active, found.length - 1));
    this.root.setAttribute("aria-rowcount", String(found.length + 1));
    setText(this.#note, this.#search && this.#rows.length > 0 ? "Nothing fits the search." : this.#empty());
    this.#note.hidden = found.length > 0;
    this.#draw();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    this.#rowPx = parseFloat(getComputedStyle(this.root).getPropertyValue("--row")) || this.#rowPx;
    const { scrollTop, clientHeight } = this.#scroller;
    const first = Math.max(0, Math.floor(scrollTop / this.#rowPx) - SPARE_ROWS);
    const last = Math.min(this.#shown.length, Math.ceil((scrollTop + clientHeight) / this.#rowPx) + SPARE_ROWS);
    this.#sizer.style.height = `${this.#shown.length * this.#rowPx}px`;
    const wanted = new Map();
    const want = (index) => wanted.set(this.#keyOf(this.#shown[index]), index);
    for (let index = first; index < last; index += 1) want(index);
    // The row with the focus stays in the page, or the focus would be lost.
    if (this.#shown[this.#active]) want(this.#active);
    for (const [key, drawn] of this.#drawn) {
      if (wanted.has(key)) continue;
      drawn.element.remove();
      this.#drawn.delete(key);
    }
    for (const [key, index] of wanted) {
      if (!this.#drawn.has(key)) this.#drawn.set(key, this.#row());
      this.#fill(this.#drawn.get(key), key, index);
    }
  }

  #row() {
    const made = element("div", { className: "r", role: "row" });
    const cells = this.#columns.map(({ className = "" }) =>
      element("div", { className, role: "gridcell" }));
    made.append(...cells);
    this.#sizer.append(made);
    return { element: made, cells };
  }

  #fill({ element: row, cells }, key, index) {
    row.style.transform = `translateY(${index * this.#rowPx}px)`;
    row.dataset.index = index;
    row.setAttribute("aria-rowindex", String(index + 2));
    row.tabIndex = index === this.#active ? 0 : -1;
    row.setAttribute("aria-selected", String(key === this.#chosen));
    this.#columns.forEach(({ show }, at) => {
      const shown = show(this.#shown[index]);
      const { text, title = "", mark = "" } = typeof shown === "string" ? { text: shown } : shown;
      setText(cells[at], text);
      if (cells[at].title !== title) cells[at].title = title;
      if (cells[at].dataset.mark !== mark) cells[at].dataset.mark = mark;
    });
  }

  #press(press) {
    const page = Math.max(1, Math.floor(this.#scroller.clientHeight / this.#rowPx) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (press.key === "Enter" || press.key === " ") {
      press.preventDefault();
      this.#choose(this.#active);
    } else if (press.key in steps) {
      press.preventDefault();
      const last = this.#shown.length - 1;
      this.#activate(Math.max(0, Math.min(last, this.#active + steps[press.key])));
    }
  }

  #activate(index) {
    this.#active = index;
    const top = index * this.#rowPx;
    const { scrollTop, clientHeight } = this.#scroller;
    if (top < scrollTop) this.#scroller.scrollTop = top;
    else if (top + this.#rowPx > scrollTop + clientHeight) {
      this.#scroller.scrollTop = top + this.#rowPx - clientHeight;
    }
    this.#draw();
    this.#drawn.get(this.#keyOf(this.#shown[index]))?.element.focus({ preventScroll: true });
  }

  #choose(index) {
    const row = this.#shown[index];
    if (row === undefined) return;
    this.#active = index;
    this.#chosen = this.#keyOf(row);
    this.#draw();
    this.#open(row);
  }

  #heading({ key, title, hint = "", className = "" }) {
    const button = element("button", { type: "button", title: hint }, title);
    button.addEventListener("click", () => {
      const numbers = className.includes("number");
      this.#sort = this.#sort.key === key ? { key, down: !this.#sort.down } : { key, down: numbers };
      this.#showSort();
      this.#scroller.scrollTop = 0;
      this.#arrange();
      announce(`Sorted by ${title}, ${this.#sort.down ? "descending" : "ascending"}`);
    });
    const cell = element("div", { className, role: "columnheader" }, button);
    cell.dataset.key = key;
    return cell;
  }

  /** Sorts by a column: `{ key, down }`. */
  sortBy(sort) {
    this.#sort = sort;
    this.#showSort();
    this.#scroller.scrollTop = 0;
    this.#arrange();
  }

  #showSort() {
    for (const cell of this.#head.children) {
      const isKey = cell.dataset.key === this.#sort.key;
      cell.setAttribute("aria-sort", !isKey ? "none" : this.#sort.down ? "descending" : "ascending");
    }
  }
}

/** Rows drawn above and below those in sight. */
const SPARE_ROWS = 10;
