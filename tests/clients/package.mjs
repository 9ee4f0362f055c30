// clients/js, packed by npm and installed from what it packed.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const PACKAGE = fileURLToPath(new URL("../../clients/js", import.meta.url));
const WAIT_MS = 20_000;

/** Installs it into `node_modules` of a directory; returns what npm says of it. */
export function installPackage(directory) {
  const args = ["pack", "--json", "--pack-destination", directory];
  const [packed] = JSON.parse(execFileSync("npm", args, { cwd: PACKAGE, stdio: ["ignore", "pipe", "ignore"] }));
  const unpack = `mkdir -p node_modules && tar xzf ${packed.filename} && mv package node_modules/visnyk`;
  execFileSync("sh", ["-c", unpack], { cwd: directory });
  return packed;
}

/** What npm would pack, as it says without doing it. */
export function listPackage() {
  const args = ["pack", "--json", "--dry-run"];
  const [packed] = JSON.parse(execFileSync("npm", args, { cwd: PACKAGE, stdio: ["ignore", "pipe", "ignore"] }));
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
