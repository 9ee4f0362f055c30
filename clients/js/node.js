/** Visnyk on Node: the client of visnyk.js, with the `EventSource` that Node lacks. */
import { EventSource } from "./event_source.js";
import { Visnyk as Client } from "./visnyk.js";

export { VisnykError } from "./visnyk.js";

export class Visnyk extends Client {
  constructor(options = {}) {
    super({ EventSource, ...options });
  }
}
