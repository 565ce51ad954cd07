/**
 * Runs the edge on this machine: the same worker and Durable Objects that are deployed, in workerd through Miniflare.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Miniflare, MiniflareOptions } from "miniflare";
import { forbidden } from "../../edge/policy/check-settings.ts";
import { readPrefix } from "../../edge/policy/prefix-setting.ts";
import type { GivenSettings } from "../../edge/policy/settings.ts";
import { EARLY_END } from "../../lib/early-end.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { checked, problemText } from "../../lib/setting.ts";
import { CommandError } from "../command-error.ts";
import { DiskTeller } from "./disk-report.ts";
import { type LocalResolver, startLocalResolver } from "./dns-over-https.ts";
import { edgeNames } from "./edge-names.ts";
import { beginRun } from "./edge-run.ts";
import { sweepEmptyDatabases } from "./empty-databases.ts";
import { loadMiniflare } from "./miniflare.ts";
import { type Front, freePort, frontBinding, urlOf } from "./workerd-socket.ts";
import { objectsOf, wranglerConfig } from "./wrangler-config.ts";

/** Options of a local edge. Names in capitals are settings of the worker. */
export interface LocalEdgeOptions {
  /** Address to listen on. Default 127.0.0.1, which other machines cannot reach. */
  readonly host?: string;
  /** Port to listen on; 0 for any free one. */
  readonly port: number;
  /** Origin relays that devices may be passed through to: ORIGIN_RELAYS. */
  readonly relayAllow: readonly string[];
  /** What is permitted for development: DEV. Default nothing, so that no relay on this machine is dialled. */
  readonly dev?: string;
  /** URL of the DNS-over-HTTPS server that resolves relays: RESOLVER. Default: this machine's own resolver. */
  readonly resolver?: string;
  /** Origin relays to stay connected to: LINKS. */
  readonly links?: readonly string[];
  /** How to connect to origin relays: LINK_WAYS. */
  readonly linkWays?: string;
  /** Relay-Server-Names of this edge, its own name first: RELAY_NAME. Those of the listening address are added. */
  readonly relayName?: string | readonly string[];
  /** Reverse proxies trusted to report the client address: TRUSTED_PROXIES. */
  readonly trustedProxies?: readonly string[];
  /** Path under which the edge is served, if no proxy strips it: PREFIX. */
  readonly prefix?: string;
  /** Secrets shared with other relays: LINK_SECRETS. */
  readonly linkSecrets?: string;
  /** Relays with a secret that may be linked without TLS across the internet: LINK_PLAIN. */
  readonly linkPlain?: readonly string[];
  /** JSON Web Key Set that tokens are verified with, as text: KEYS. */
  readonly keys?: string;
  /** URL of such a key set: JWKS_URL. */
  readonly keysURL?: string;
  /** Ids of revoked tokens: REVOKED. */
  readonly revoked?: readonly string[];
  /** URL of a JSON array of such ids: REVOKED_URL. */
  readonly revokedURL?: string;
  /** Seconds a device may hold messages unacknowledged while another waits: ACKNOWLEDGE_TIME. */
  readonly acknowledgeTime?: string;
  /** `origin`: devices passed through need no token here, the origin relay authenticates them: AUTH_ORIGIN. */
  readonly authOrigin?: string;
  /** Token for /admin: ADMIN_TOKEN. */
  readonly adminToken?: string;
  /** What one address may do: RATE. Default no limits. */
  readonly rate?: string;
  /** What may wait for one peer: QUOTA. */
  readonly quota?: string;
  /** Folder for the mailboxes; without one they are lost when the edge stops. */
  readonly state?: string;
  /**
   * Bytes to keep free on the disk; with less, new messages are refused. Default 64 MiB, or an eighth of a small disk.
   */
  readonly minFree?: number;
  /** Called with a line for the operator when the disk becomes full, and when it has room again. */
  readonly onDisk?: (line: string) => void;
  /** PEM texts. If given, the edge speaks HTTPS. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Called for each line that the worker or workerd logs. */
  readonly log?: (level: string, line: string) => void;
  /** The worker as one module, instead of the edge's own. For tests that wrap the edge. */
  readonly code?: string;
}

export interface LocalEdge {
  /** Where it listens, without a trailing slash. */
  readonly url: string;
  /** The names by which devices address it. */
  readonly names: readonly string[];
  /** Names of its listening address that mean an origin relay instead, because the allow list has them. */
  readonly relayNames: readonly string[];
  readonly miniflare: Miniflare;
  close(): Promise<void>;
}

/** How many ports to try if any will do. */
const ANY_PORT_TRIES = 3;

/** Startup takes one second, or ten on a busy machine. After this many milliseconds workerd will not start any more. */
const START_TIMEOUT = 60_000;

/**
 * Starts the edge.
 *
 * @throws CommandError StateInUse, CannotWrite, PortTaken, CannotListen, EdgeFailed (a bad certificate, for instance),
 * or InsecureEdge for a malformed or insecure setting
 */
export async function startLocalEdge(options: LocalEdgeOptions): Promise<LocalEdge> {
  assertSecure(options);
  const code = options.code ?? (await workerCode());
  const run = await beginRun(options.state);
  let resolver: LocalResolver | undefined;
  // Other processes on this machine must not report the disk state to the worker.
  const secret = randomBytes(16).toString("hex");
  let heed: DiskTeller | undefined;
  const host = options.host ?? "127.0.0.1";
  const prefix = checked(readPrefix(options.prefix ?? ""));
  try {
    if (options.state !== undefined) sweepEmptyDatabases(options.state);
    if (options.resolver === undefined) resolver = await startLocalResolver();
    for (let tries = ANY_PORT_TRIES; ; tries -= 1) {
      const front = { worker: wranglerConfig().name, host, port: await portOf(host, options.port), tls: options.tls };
      const heard = (level: string, line: string) => {
        heed?.hear(line);
        options.log?.(level, line);
      };
      const settings = configuration(code, front, secret, { resolver: resolver?.url ?? "", ...options, log: heard });
      const { Miniflare, NoOpLog } = loadMiniflare();
      const miniflare = run.start(() => new Miniflare({ ...settings, log: new NoOpLog() }));
      try {
        await inTime(miniflare.ready);
      } catch (cause) {
        // A workerd that did not start may not stop either. It ends with this process.
        await inTime(miniflare.dispose()).catch(() => undefined);
        // Another program may have taken the free port first.
        if (options.port === 0 && tries > 1) continue;
        throw new CommandError(
          "EdgeFailed",
          `the edge did not start: ${cause instanceof Error ? cause.message : cause}`,
        );
      }
      // Before the command announces the edge: with a full disk, even the first message is refused.
      const disk = new DiskTeller(miniflare, secret, { ...options, prefix }, run);
      await disk.tell();
      heed = disk;
      const close = async () => {
        await disk.close();
        await miniflare.dispose();
        await resolver?.close();
        run.close();
      };
      const url = `${urlOf(front)}${prefix}`;
      return { url, names: namesOf(options), relayNames: relayNamesOf(options), miniflare, close };
    }
  } catch (error) {
    await resolver?.close();
    run.close();
    throw error;
  }
}

/** Awaits a promise, for at most START_TIMEOUT. */
async function inTime<T>(promise: Promise<T>): Promise<T> {
  const got = await within(START_TIMEOUT, promise);
  if (got === undefined) throw new Error(`the runtime did not start within ${START_TIMEOUT / 1000} s: try again`);
  return got.value;
}

function namesOf({ host = "127.0.0.1", relayName = [], relayAllow }: LocalEdgeOptions): string[] {
  return edgeNames(host, [relayName].flat(), relayAllow);
}

function relayNamesOf(options: LocalEdgeOptions): string[] {
  const names = namesOf(options);
  return namesOf({ ...options, relayAllow: [] }).filter((name) => !names.includes(name));
}

/** policy/check-settings.ts decides which findings prevent a start. */
function assertSecure(options: LocalEdgeOptions): void {
  const found = forbidden(settingsOf(options));
  if (found.length > 0) throw new CommandError("InsecureEdge", found.map(problemText).join("; "));
}

/** The settings that these options stand for; undefined for the default. */
export function settingsOf(options: LocalEdgeOptions): Required<GivenSettings> {
  return {
    RELAY_NAME: namesOf(options).join(","),
    KEYS: options.keys,
    JWKS_URL: options.keysURL,
    REVOKED: options.revoked?.join(","),
    REVOKED_URL: options.revokedURL,
    AUTH_ORIGIN: options.authOrigin,
    ADMIN_TOKEN: options.adminToken,
    ORIGIN_RELAYS: options.relayAllow.join(","),
    RESOLVER: options.resolver,
    LINKS: options.links?.join(","),
    LINK_WAYS: options.linkWays,
    LINK_SECRETS: options.linkSecrets,
    LINK_PLAIN: options.linkPlain?.join(","),
    RATE: options.rate,
    QUOTA: options.quota,
    ACKNOWLEDGE_TIME: options.acknowledgeTime,
    TRUSTED_PROXIES: options.trustedProxies?.join(","),
    PREFIX: options.prefix,
    DEV: options.dev,
  };
}

function configuration(code: string, front: Front, secret: string, options: LocalEdgeOptions): MiniflareOptions {
  const config = wranglerConfig();
  const objects = objectsOf(config);
  const given = Object.entries(settingsOf(options)).filter(([, value]) => value !== undefined);
  const unset = Object.fromEntries(config.variables.map((name) => [name, ""]));
  const texts = { ...unset, ...Object.fromEntries(given), LOCAL_SECRET: secret };
  const variables = Object.entries(texts).map(([name, value]) => [name, { type: "text", value } as const] as const);
  return {
    // Miniflare's own listener, which must not be reachable from outside.
    host: "127.0.0.1",
    port: 0,
    // Otherwise Miniflare downloads sample request metadata and reports usage.
    cf: false,
    // Otherwise it announces itself to other programs of this user through files in the home folder.
    enableDevRegistry: false,
    telemetry: { enabled: false },
    ...(options.state !== undefined && { resourcePersistencePath: options.state }),
    handleStructuredLogs: (entry: { level: string; message: string }) => {
      if (!entry.message.includes(EARLY_END)) options.log?.(entry.level, entry.message);
    },
    workers: [
      {
        config: {
          name: config.name,
          compatibilityDate: config.compatibilityDate,
          compatibilityFlags: config.compatibilityFlags,
          manifest: { mainModule: "worker.js", modules: { "worker.js": { type: "esm", contents: code } } },
          exports: objects.exports,
          env: { ...objects.env, ...Object.fromEntries(variables), FRONT: frontBinding(front) },
        },
      },
    ],
  };
}

/** Returns the worker as one module: from the published package, or bundled from source in the repository. */
async function workerCode(): Promise<string> {
  if (!import.meta.url.endsWith(".ts"))
    return readFile(new URL("../../edge/worker.bundle.js", import.meta.url), "utf8");
  const { bundleWorker } = await import("./bundle-worker.ts");
  return bundleWorker();
}

async function portOf(host: string, wanted: number): Promise<number> {
  try {
    return await freePort(host, wanted);
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code;
    throw new CommandError(
      why === "EADDRINUSE" ? "PortTaken" : "CannotListen",
      why === "EADDRINUSE"
        ? `port ${wanted} on ${host} is taken by another program: stop it, or choose another port with --port`
        : `cannot listen on ${host}:${wanted} (${why}): choose another address or port`,
    );
  }
}
