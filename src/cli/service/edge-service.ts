/**
 * The command line of `grooveway edge` as a service, checked, with absolute paths, and without secrets.
 *
 * A service of the system has a user of its own. A file that everybody or a group may read is named by its path, so that
 * its changes count at once; the service belongs to that group. Of another file it gets a copy (LoadCredential), which
 * changes with the next start.
 *
 * @module
 */
import { statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { visible } from "../../lib/printable.ts";
import { edgeArguments } from "../local-edge/edge-arguments.ts";
import { EDGE_FILES, EDGE_OPTIONS, type EdgeOption } from "../local-edge/edge-options.ts";
import { parse, port, unexpected, unreadable, usage } from "../parse-arguments.ts";
import type { Argument } from "./service-files.ts";

/** Ports below need a right of their own. */
const FIRST_FREE_PORT = 1024;

/** Seconds to stop in: the edge tells its devices first, which takes it ten at most. */
const STOP_TIME = 20;

export interface EdgeService {
  readonly parts: readonly Argument[];
  /** Lines of a unit of systemd. */
  readonly lines: readonly string[];
  /** Files of which the service has a copy. */
  readonly copied: readonly string[];
}

/**
 * Returns what the service needs.
 *
 * @param isSystem whether a user of its own runs it
 * @throws CommandError Usage, CannotRead, ConfigUnusable
 */
export function edgeService(
  args: readonly string[],
  isSystem: boolean,
  env: Readonly<Record<string, string | undefined>> = process.env,
): EdgeService {
  const { values, positionals } = edgeArguments(args, {});
  if (positionals.length > 0) throw unexpected("edge", positionals[0]);
  const { config, ...given } = parse("edge", args, { ...EDGE_OPTIONS, config: { type: "string" } }).values;
  const token = values["admin-token"];
  if (env.GROOVEWAY_ADMIN_TOKEN && token === undefined)
    throw usage("service", "a service does not get GROOVEWAY_ADMIN_TOKEN: give --admin-token @FILE");
  if (given["admin-token"] !== undefined && !given["admin-token"].startsWith("@")) {
    const cure = "put the token in a file, --admin-token @FILE";
    throw usage("service", `others can read a service's command line: ${cure}`);
  }
  if (isSystem && values.state !== undefined) {
    throw usage("service", "--system keeps the mailboxes in a state folder of its own, in /var/lib: leave out --state");
  }
  if (!isSystem && values.state === undefined)
    throw usage("service", "without --state the mailboxes are lost at each start: give --state DIR");
  const copied: string[] = [];
  const groups = new Set<number>();
  const fileAt = (option: string, path: string, prefix = ""): Argument => {
    const absolute = resolve(path);
    const readers = readersOf(absolute);
    if (typeof readers === "number" && isSystem) groups.add(readers);
    if (!isSystem || readers !== undefined) return prefix + absolute;
    if (option === "revoked") {
      throw usage(
        "service",
        `${visible(path)} is read again and again, and the user of the service cannot: run chmod o+r`,
      );
    }
    copied.push(absolute);
    return { credential: option, path: absolute, prefix };
  };
  const parts: Argument[] = [];
  if (config !== undefined) parts.push("--config", fileAt("config", config));
  for (const option of Object.keys(EDGE_OPTIONS) as EdgeOption[]) {
    if (option === "state") continue;
    // Paths in the file are relative to it, and it may be a copy.
    const value =
      EDGE_FILES.some((name) => name === option) || option === "admin-token" ? values[option] : given[option];
    if (value === undefined || value === false) continue;
    const isText = option === "admin-token";
    if (isText && typeof value === "string" && !value.startsWith("@")) continue;
    if (value === true) parts.push(`--${option}`);
    else if (isText) parts.push(`--${option}`, fileAt(option, String(value).slice(1), "@"));
    else if (EDGE_FILES.some((name) => name === option)) parts.push(`--${option}`, fileAt(option, String(value)));
    else for (const text of [value].flat()) parts.push(`--${option}=${text}`);
  }
  parts.push("--state", isSystem ? { stateFolder: "mailboxes" } : resolve(values.state ?? ""));
  const needsRight = isSystem && isPrivileged(port("edge", values.port ?? "8787"));
  return {
    parts,
    copied,
    lines: [
      // The command tells its devices before it ends workerd, which must not get the signal itself.
      "KillMode=mixed",
      `TimeoutStopSec=${STOP_TIME}`,
      ...(groups.size > 0 ? [`SupplementaryGroups=${[...groups].join(" ")}`] : []),
      ...(needsRight ? ["AmbientCapabilities=CAP_NET_BIND_SERVICE"] : []),
    ],
  };
}

function isPrivileged(number: number): boolean {
  return number > 0 && number < FIRST_FREE_PORT;
}

/** Who may read a file, and reach it: everybody, one group by its number, or undefined: neither. */
function readersOf(path: string): "everybody" | number | undefined {
  let readers: "everybody" | number | undefined = "everybody";
  for (let [at, right] = [path, 4]; readers !== undefined; [at, right] = [dirname(at), 1]) {
    const { mode, gid } = statsOf(at);
    // The group of root is no group of others.
    const isForGroup: boolean =
      gid !== 0 && (mode & (right << 3)) !== 0 && (readers === "everybody" || readers === gid);
    if ((mode & right) === 0) readers = isForGroup ? gid : undefined;
    if (at === dirname(at)) return readers;
  }
  return undefined;
}

function statsOf(path: string) {
  try {
    return statSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}
