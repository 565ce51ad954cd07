/** Requests by curl, which show that a network is what it is meant to be. */
import { spawnSync } from "node:child_process";
import type { Namespace } from "../support/namespaces.ts";
import type { Internet } from "./internet.ts";

/** The status of the answer, or why there was none. */
export type CurlResult = number | "refused" | "lost" | "cut" | "distrusted" | "proxy refuses" | "name unknown";

/** How long curl tries, in seconds: a lost SYN costs one. */
const CURL_TIME = "4";

/** Exit codes [curl.se/docs/manpage.html]. */
const FAILURES: Readonly<Record<number, CurlResult>> = {
  // HTTP/0.9, an empty answer, a reset.
  1: "cut",
  52: "cut",
  56: "cut",
  // Of the proxy, of the server.
  5: "name unknown",
  6: "name unknown",
  7: "refused",
  28: "lost",
  60: "distrusted",
  // By SOCKS.
  97: "proxy refuses",
};

/** Runs curl on a machine, without the proxies that the environment of the tests may name. */
export function curl(internet: Internet, from: Namespace, ...args: readonly string[]): CurlResult {
  const always = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code} %{http_connect}"];
  const settings = ["--cacert", "ca.pem", "--max-time", CURL_TIME];
  const [ip, ...command] = from.command("curl", ...always, ...settings, ...args);
  const { status, stdout, error } = spawnSync(ip, command, {
    encoding: "utf8",
    env: { PATH: process.env.PATH },
    // Where the certificates are.
    cwd: internet.folder,
  });
  if (error !== undefined || status === null) throw new Error("curl did not run", { cause: error });
  const [, code = "", connect = ""] = /^(\d+) (\d+)$/.exec(stdout) ?? [];
  if (status === 0) return Number(code);
  if (Number(connect) >= 400) return "proxy refuses";
  const failure = FAILURES[status];
  if (failure === undefined) throw new Error(`curl ${args.join(" ")} ended with ${status}`);
  return failure;
}
