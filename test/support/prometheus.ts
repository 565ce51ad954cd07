/** A real Prometheus and its promtool, from the Debian package. Tests that need them are skipped without. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../src/cli/local-edge/listening-address.ts";
import { temporaryFolder } from "./temporary-folder.ts";

/** Why a test that needs Prometheus is skipped; false if it is not. */
export const NO_PROMETHEUS =
  spawnSync("promtool", ["--version"]).status === 0 && spawnSync("prometheus", ["--version"]).status === 0
    ? false
    : "SKIPPED: the Debian package prometheus is not installed";

/** What promtool says of something, with its exit code. */
export function promtool(args: readonly string[], input = ""): { readonly code: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync("promtool", args, { input, encoding: "utf8", timeout: 60_000 });
  return { code: status, said: `${stdout}${stderr}` };
}

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [time: number, value: string];
}

export interface Prometheus {
  /** The result of an expression now. */
  query(expression: string): Promise<readonly Sample[]>;
  /** Why the scrapes fail; empty if they do not, undefined before the first. */
  lastError(): Promise<string | undefined>;
  close(): Promise<void>;
}

/**
 * Starts a Prometheus that scrapes an edge each second.
 *
 * @param token what it shows
 */
export async function startPrometheus(edge: string, token: string): Promise<Prometheus> {
  const folder = temporaryFolder();
  const { host, pathname } = new URL(`${edge}/metrics`);
  const config = join(folder, "prometheus.yml");
  writeFileSync(join(folder, "token"), token);
  writeFileSync(
    config,
    `scrape_configs:
  - job_name: grooveway
    scrape_interval: 1s
    metrics_path: ${pathname}
    authorization: { credentials_file: ${join(folder, "token")} }
    static_configs: [{ targets: ["${host}"] }]
`,
  );
  const port = await freePort("127.0.0.1", 0);
  const child = spawn(
    "prometheus",
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=error",
    ],
    { stdio: "ignore" },
  );
  const gone = once(child, "exit");
  const ask = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`);
    if (!answer.ok) throw new Error(`Prometheus: ${path}: ${await answer.text()}`);
    return ((await answer.json()) as { data: unknown }).data;
  };
  for (let tries = 0; tries < 300; tries += 1) {
    const ready = await fetch(`http://127.0.0.1:${port}/-/ready`).catch(() => undefined);
    if (ready?.ok) break;
    await sleep(100);
  }
  return {
    async query(expression) {
      const { result } = (await ask(`query?query=${encodeURIComponent(expression)}`)) as { result: readonly Sample[] };
      return result;
    },
    async lastError() {
      const { activeTargets } = (await ask("targets")) as { activeTargets: { lastError: string; health: string }[] };
      const [target] = activeTargets;
      return target === undefined || target.health === "unknown" ? undefined : target.lastError;
    },
    async close() {
      child.kill();
      await gone;
    },
  };
}
