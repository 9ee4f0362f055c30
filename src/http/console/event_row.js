/**
 * One event in the list: a line, and below it what it is in full, once it is opened.
 *
 * @module
 */
import { copy, element } from "./dom.js";
import { clock, format } from "./format.js";

/** A row. The list moves the focus from line to line, so only the active row is a tab stop. */
export class EventRow {
  #event;
  #line;
  #detail = null;

  constructor(event) {
    this.#event = event;
    const plain = event.type === "message";
    this.#line = element("button", { type: "button", className: "line", tabIndex: -1 },
      element("time", { dateTime: event.time, title: event.time }, clock(event.time)),
      element("span", { className: "channel", title: event.channel }, event.channel),
      element("span", { className: plain ? "type plain" : "type", title: event.type }, event.type),
      element("span", { className: "data" }, event.data.slice(0, LINE_MAX)));
    this.#line.setAttribute("aria-expanded", "false");
    this.#line.addEventListener("click", () => this.toggle());
    this.element = element("li", { className: "row" }, this.#line);
  }

  get line() {
    return this.#line;
  }

  /** Makes it the tab stop of the list, or not. */
  setActive(active) {
    this.#line.tabIndex = active ? 0 : -1;
    for (const button of this.#detail?.querySelectorAll("button") ?? []) button.tabIndex = active ? 0 : -1;
  }

  toggle() {
    const isOpen = this.#detail !== null;
    this.#line.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) this.#detail.remove();
    this.#detail = isOpen ? null : this.#full();
    if (this.#detail) this.element.append(this.#detail);
  }

  /** Copies its data. */
  copy(button = element("button")) {
    return copy(this.#event.data, button);
  }

  #full() {
    const { id, channel, type, time, data } = this.#event;
    const facts = element("dl");
    for (const [name, value] of Object.entries({ Id: id, Channel: channel, Type: type, Time: time })) {
      facts.append(element("dt", {}, name), element("dd", {}, value));
    }
    const text = element("pre", { tabIndex: -1 });
    const views = element("div", { className: "buttons segmented", role: "group", ariaLabel: "Show as" });
    const choose = (name) => {
      chosenView = name;
      for (const button of views.children) button.setAttribute("aria-pressed", String(button.textContent === name));
      text.replaceChildren(...(name === "Raw" || data.length > DETAIL_MAX
        ? [data.slice(0, DETAIL_MAX) || "(no data)"]
        : coloured(name === "JSON" ? { id, channel, type, time, data: parsed(data) } : parsed(data))));
    };
    for (const name of ["Data", "Raw", "JSON"]) {
      const button = element("button", { type: "button" }, name);
      button.addEventListener("click", () => choose(name));
      views.append(button);
    }
    const copyData = element("button", { type: "button" }, "Copy data");
    copyData.addEventListener("click", () => this.copy(copyData));
    const copyJson = element("button", { type: "button" }, "Copy as JSON");
    copyJson.addEventListener("click", () => {
      copy(JSON.stringify({ id, channel, type, time, data }, null, 2), copyJson);
    });
    const tools = element("div", { className: "detail-tools" },
      views, element("div", { className: "buttons" }, copyData, copyJson));
    const detail = element("div", { className: "detail" }, facts, tools, text);
    if (data.length > DETAIL_MAX) {
      const cut = `The first ${format(DETAIL_MAX)} of ${format(data.length)} characters.`;
      detail.append(element("p", { className: "hint" }, cut));
    }
    choose(chosenView);
    return detail;
  }
}

/** How details were last shown. */
let chosenView = "Data";

/** A value if the text is JSON of an object or a list, else the text. */
function parsed(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : text;
  } catch {
    return text;
  }
}

/** A value as indented JSON with its parts marked; a string as it is. */
function coloured(value) {
  if (typeof value === "string") return [value || "(no data)"];
  const parts = JSON.stringify(value, null, 2).split(/("(?:\\.|[^"\\])*"(?:\s*:)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*)/);
  return parts.map((part, at) => {
    if (at % 2 === 0) return part;
    const kind = part.endsWith(":") ? "key" : part.startsWith('"') ? "string" : "atom";
    return element("span", { className: `json-${kind}` }, part);
  });
}

/** Characters of data in a row's line, and in its detail. */
const LINE_MAX = 400;
const DETAIL_MAX = 64 * 1024;
