/**
 * Numbers, bytes and times as people read them.
 *
 * @module
 */

export function format(number) {
  return Number(number ?? 0).toLocaleString("en");
}

/** Three digits are enough to compare: 0.12, 4.7, 38, 12.4 k, 3.1 M. */
export function short(number) {
  if (number === null || number === undefined) return "–";
  const [divisor, unit] = [[1e9, " G"], [1e6, " M"], [1e4, " k"]].find(([at]) => number >= at) ?? [1, ""];
  const value = number / (unit === " k" ? 1e3 : divisor);
  return digits(value) + unit;
}

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const at = BYTES.findLastIndex(([size]) => number >= size);
  return at < 0 ? `${format(number)} B` : `${digits(number / BYTES[at][0])} ${BYTES[at][1]}`;
}

/** Milliseconds, or seconds where those are many. */
export function milliseconds(number) {
  if (number === null || number === undefined) return "–";
  return number >= 1_000 ? `${digits(number / 1_000)} s` : `${digits(number)} ms`;
}

export function plural(number, noun) {
  return `${format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function duration(s) {
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** Of this day, with milliseconds. */
export function clock(time, withMs = true) {
  const date = new Date(time);
  const two = (number) => String(number).padStart(2, "0");
  const ms = withMs ? `.${String(date.getMilliseconds()).padStart(3, "0")}` : "";
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${ms}`;
}

/** A word of the API as one of a sentence. */
export function words(name) {
  return name.replaceAll("_", " ");
}

function digits(value) {
  return value.toLocaleString("en", value < 1
    ? { maximumSignificantDigits: 2, maximumFractionDigits: 3 }
    : { maximumFractionDigits: value < 100 ? 1 : 0 });
}

const BYTES = [[1024, "KiB"], [1024 ** 2, "MiB"], [1024 ** 3, "GiB"], [1024 ** 4, "TiB"]];
