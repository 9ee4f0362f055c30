// clients/js as `run` has packed it by npm, installed from what it packed.
// It packs once: `prepack` copies files into clients/js, and a second `npm pack` would read them half written.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const WAIT_MS = 20_000;

/** Installs it into `node_modules` of a directory; returns what npm says of it. */
export function installPackage(directory) {
  const [packed] = JSON.parse(readFileSync(join(process.env.NPM_PACKED, "packed.json"), "utf8"));
  const archive = join(process.env.NPM_PACKED, packed.filename);
  const unpack = 'mkdir -p node_modules && tar xzf "$0" && mv package node_modules/visnyk';
  execFileSync("sh", ["-c", unpack, archive], { cwd: directory });
  return packed;
}

/** Waits until `condition()` holds. */
export async function until(condition) {
  const end = Date.now() + WAIT_MS;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`never: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
