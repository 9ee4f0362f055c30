/**
 * Elements of the page: finding, making, announcing, copying.
 *
 * @module
 */

export const byId = (id) => document.getElementById(id);

/** A new element with properties and text. Nothing is ever read as markup. */
export function element(name, properties = {}, ...content) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content.filter((part) => part !== "" && part !== null && part !== undefined));
  return made;
}

/** Sets a text only where it differs, so that a refresh costs nothing where nothing changed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** What a screen reader says when it has a moment. */
export function announce(text) {
  byId("announce").textContent = text;
}

/** Copies a text; the button says so for a moment. Without a secure context it selects the text instead. */
export async function copy(text, button) {
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  announce(button.textContent);
  setTimeout(() => (button.textContent = before), COPIED_MS);
}

const COPIED_MS = 1_500;
