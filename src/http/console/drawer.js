/**
 * The panel beside a table, or over it on a phone: all facts of one row, and what can be done with it.
 *
 * @module
 */
import { element, setText } from "./dom.js";

/** A drawer. */
export class Drawer {
  #box;
  #close;
  #title = element("h3");
  #lead = element("p", { className: "lead" });
  #facts = element("dl", { className: "details" });
  #buttons = element("div", { className: "buttons" });

  /** `close` is called when the person closes it. */
  constructor(box, close) {
    this.#box = box;
    this.#close = close;
    const button = element("button", { type: "button", className: "close" }, "Close");
    button.addEventListener("click", () => this.close());
    box.addEventListener("keydown", ({ key }) => key === "Escape" && this.close());
    this.#title.tabIndex = -1;
    box.append(element("div", { className: "drawer-head" }, this.#title, button),
      this.#lead, this.#facts, this.#buttons);
  }

  get isOpen() {
    return !this.#box.hidden;
  }

  /** Opens it. `actions` are `{ name, danger, act(button) }`. */
  open(title, actions) {
    this.#box.hidden = false;
    setText(this.#title, title);
    this.#buttons.replaceChildren(...actions.map(({ name, danger, act }) => {
      const button = element("button", { type: "button", className: danger ? "danger" : "" }, name);
      button.addEventListener("click", () => act(button));
      return button;
    }));
    this.#title.focus({ preventScroll: true });
  }

  /** Shows what is known now: a sentence, and facts as pairs; an empty value is left out. */
  show(lead, facts, isOver = false) {
    setText(this.#lead, lead);
    const rows = facts.filter(([, value]) => value !== "" && value !== null && value !== undefined);
    this.#facts.replaceChildren(...rows.flatMap(([name, value]) =>
      [element("dt", {}, name), element("dd", {}, String(value))]));
    for (const button of this.#buttons.querySelectorAll(".danger")) button.hidden = isOver;
  }

  close() {
    if (this.#box.hidden) return;
    this.#box.hidden = true;
    this.#close();
  }
}
