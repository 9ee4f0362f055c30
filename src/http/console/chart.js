/**
 * A chart of the last 15 minutes: lines of one unit over time, as SVG. Its colours are the style
 * sheet's, so it follows light and dark by itself.
 *
 * @module
 */
import { element, setText } from "./dom.js";
import { clock } from "./format.js";

/** One chart. `series` are `{ name, value(sample) }`; a value may be null, which breaks its line. */
export class Chart {
  #series;
  #show;
  #binary;
  #least;
  #samples = [];
  #windowMs = 900_000;
  #cursor = null;
  #svg = svg("svg", { role: "img", class: "plot" });
  #values;

  /** `show` formats a value; the scale ends at 1, 2 or 5 times a power of ten, or for bytes at one of two. */
  constructor(title, hint, series, show, { binary = false, least = 0 } = {}) {
    this.#series = series;
    this.#show = show;
    this.#binary = binary;
    this.#least = least;
    this.title = title;
    this.#values = series.map(() => element("b"));
    const legend = element("p", { className: "legend" });
    series.forEach(({ name }, at) => {
      const key = element("span", { className: `key s${at}`, ariaHidden: "true" });
      legend.append(element("span", {}, key, name ? `${name} ` : "", this.#values[at]));
    });
    this.element = element("figure", { className: "panel chart" },
      element("figcaption", { title: hint }, title), legend, this.#svg);
    new ResizeObserver(() => this.#draw()).observe(this.#svg);
  }

  update(samples, windowMs) {
    this.#samples = samples;
    this.#windowMs = windowMs;
    this.#draw();
  }

  /** Shows the values of this sample, or of the newest one. */
  point(index) {
    this.#cursor = index;
    this.#draw();
  }

  /** The sample nearest to a point of the screen. */
  nearest(clientX) {
    const { left, width } = this.#svg.getBoundingClientRect();
    const end = this.#samples.at(-1)?.time ?? 0;
    const share = (clientX - left - LEFT) / Math.max(1, width - LEFT - RIGHT);
    const time = end - this.#windowMs * (1 - share);
    const distances = this.#samples.map((sample) => Math.abs(sample.time - time));
    return distances.indexOf(Math.min(...distances));
  }

  #draw() {
    const { width, height } = this.#svg.getBoundingClientRect();
    const samples = this.#samples;
    const chosen = samples[this.#cursor ?? samples.length - 1];
    this.#series.forEach(({ value }, at) => {
      setText(this.#values[at], chosen ? this.#show(value(chosen)) : "–");
    });
    if (width === 0) return;
    const values = samples.flatMap((sample) => this.#series.map(({ value }) => value(sample) ?? 0));
    const highest = Math.max(0, ...values);
    const top = roundUp(Math.max(highest, this.#least), this.#binary);
    const end = samples.at(-1)?.time ?? 0;
    const x = (time) => LEFT + (1 - (end - time) / this.#windowMs) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - value / top) * (height - TOP - BOTTOM);

    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = Math.round(y(top * share)) + 0.5;
      parts.push(svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      const label = svg("text", { class: "tick end", x: LEFT - 6, y: at + 4 });
      label.textContent = share === 0 ? "0" : this.#show(top * share);
      parts.push(label);
    }
    const minutes = this.#windowMs / 60_000;
    for (const back of [minutes, (minutes * 2) / 3, minutes / 3, 0]) {
      const edge = back === 0 ? " end" : " middle";
      const label = svg("text", { class: `tick${edge}`, x: x(end - back * 60_000), y: height - 4 });
      label.textContent = back === 0 ? "now" : `−${Math.round(back)} min`;
      parts.push(label);
    }
    this.#series.forEach(({ value }, at) => {
      const points = samples.map((sample) => [sample.time, value(sample), sample.interval_ms]);
      parts.push(svg("path", { class: `curve s${at}`, d: path(points, x, y) }));
    });
    if (this.#cursor !== null && chosen) {
      const at = Math.round(x(chosen.time)) + 0.5;
      parts.push(svg("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: height - BOTTOM }));
      const label = svg("text", { class: `tick${at > width / 2 ? " end" : ""}`, y: TOP + 10 });
      label.setAttribute("x", at + (at > width / 2 ? -6 : 6));
      label.textContent = clock(chosen.time, false);
      parts.push(label);
    }
    this.#svg.replaceChildren(...parts);
    const now = chosen ? this.#values.map((value) => value.textContent).join(", ") : "no samples yet";
    this.#svg.setAttribute("aria-label", `${this.title}: ${now}; highest ${this.#show(highest)}`);
  }
}

/** A line through the points, broken at nulls and where samples are missing. */
function path(points, x, y) {
  let d = "";
  let last = null;
  for (const [time, value, intervalMs] of points) {
    if (value === null || value === undefined) {
      last = null;
      continue;
    }
    const goesOn = last !== null && time - last < intervalMs * MISSED;
    // A point of its own is drawn as a dash as wide as the line.
    d += `${goesOn ? "L" : "M"}${x(time).toFixed(1)} ${y(value).toFixed(1)}${goesOn ? "" : "h0.1"}`;
    last = time;
  }
  return d;
}

/** The next 1, 2 or 5 times a power of ten; or a power of two. */
function roundUp(value, binary) {
  if (value <= 0) return 1;
  if (binary) return 2 ** Math.ceil(Math.log2(value));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((times) => times * power).find((mark) => mark >= value * 0.999);
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const LEFT = 56;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 20;
/** More than this many intervals between two samples is a hole. */
const MISSED = 2.5;
