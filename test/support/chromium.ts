/** Chromium without a window, for tests of pages. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { folder } from "../cli/support.ts";

export const CHROMIUM = "/usr/bin/chromium";

/** Why tests in Chromium are skipped, if they are. */
export const NO_CHROMIUM = !existsSync(CHROMIUM) && "SKIPPED: apt-get install chromium";

export const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
];

/** Opens a URL until the test is over. */
export async function browse(t: TestContext, url: string): Promise<void> {
  const profile = await folder(t);
  const args = [...FLAGS, "--remote-debugging-port=0", `--user-data-dir=${profile}`, url];
  const browser = spawn(CHROMIUM, args, { stdio: "ignore" });
  t.after(async () => {
    const gone = once(browser, "exit");
    if (browser.kill("SIGTERM")) await gone;
  });
}

/**
 * Loads a URL, lets its page do what it does for some seconds of its own time, and returns the document as it is then.
 */
export async function loaded(t: TestContext, url: string): Promise<string> {
  const args = [...FLAGS, `--user-data-dir=${await folder(t)}`, "--virtual-time-budget=5000", "--dump-dom", url];
  const { stdout } = await promisify(execFile)(CHROMIUM, args, { timeout: 60_000 });
  return stdout;
}
