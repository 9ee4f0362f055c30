/**
 * Asks before something is done that cannot be undone.
 *
 * @module
 */
import { byId, setText } from "./dom.js";

/** Opens the dialog. If `act` fails, the dialog stays and says why;
 * what is there no more cannot be tried again. Resolves to whether it was done. */
export function confirm({ title, text, yes, act }) {
  const dialog = byId("confirm");
  const [button, cancel, error] = [byId("confirm-yes"), byId("confirm-no"), byId("confirm-error")];
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(button, yes);
  error.hidden = true;
  button.disabled = false;
  return new Promise((resolve) => {
    let isDone = false;
    button.onclick = async () => {
      button.disabled = true;
      try {
        await act();
        isDone = true;
        dialog.close();
      } catch (failure) {
        error.hidden = false;
        setText(error, `Not done: ${failure.message}`);
        button.disabled = failure.status === 404;
      }
    };
    cancel.onclick = () => dialog.close();
    dialog.onclose = () => resolve(isDone);
    dialog.showModal();
    // What cannot be undone is not what Enter does.
    cancel.focus();
  });
}
