// Opens each page of the built site that has pictures, and fails for one that is not drawn.
// `node site.mjs SITE [SCREENSHOT]`
import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { WAIT_MS, startBrowser } from "./browser.mjs";

const [, , site, screenshot] = process.argv;
const pages = readdirSync(site, { recursive: true })
  .filter((name) => name.endsWith(".html"))
  .map((name) => join(resolve(site), name))
  .map((path) => ({ path, text: readFileSync(path, "utf8") }));
const raw = pages.filter(({ text }) => text.includes("language-mermaid"));
if (raw.length > 0) throw new Error(`pictures as code: ${raw.map(({ path }) => path)}`);
const drawn = pages.filter(({ text }) => text.includes('<pre class="mermaid">'));

const browser = await startBrowser(["--allow-file-access-from-files"]);
try {
  let pictures = 0;
  for (const { path } of drawn) {
    const page = await browser.newPage();
    await page.goto(pathToFileURL(path).href);
    await page.waitForFunction(
      () => [...document.querySelectorAll(".mermaid")].every((it) => it.querySelector("svg")),
      undefined,
      { timeout: WAIT_MS },
    );
    const found = await page.locator(".mermaid svg").evaluateAll((all) =>
      all.map((svg) => ({ role: svg.getAttribute("aria-roledescription"), width: svg.getBoundingClientRect().width })));
    for (const { role, width } of found) {
      if (role === "error" || width < 100) throw new Error(`${path}: a picture is not drawn: ${role}, ${width} px wide`);
    }
    pictures += found.length;
    if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
    await page.close();
  }
  if (pictures < 4) throw new Error(`only ${pictures} pictures are there`);
  console.log(`${pictures} pictures on ${drawn.length} pages are drawn`);
} finally {
  await browser.close();
}
