/**
 * Runs the edge on this machine: the same worker and Durable Objects that are deployed, in workerd.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { forbidden } from "../../edge/policy/check-settings.ts";
import { readPrefix } from "../../edge/policy/prefix-setting.ts";
import type { GivenSettings } from "../../edge/policy/settings.ts";
import { EARLY_END } from "../../lib/early-end.ts";
import { checked, problemText } from "../../lib/setting.ts";
import { CommandError } from "../command-error.ts";
import { isMissingPackage } from "../error-line.ts";
import { DiskTeller } from "./disk-report.ts";
import { type LocalResolver, startLocalResolver } from "./dns-over-https.ts";
import { edgeNames } from "./edge-names.ts";
import { beginRun } from "./edge-run.ts";
import { sweepEmptyDatabases } from "./empty-databases.ts";
import { freePort, urlOf } from "./listening-address.ts";
import { OpenFilesTeller } from "./open-files.ts";
import { superviseWorkerd } from "./supervise-workerd.ts";
import type { KeyPair, StartRuntime, WorkerDefinition, WorkerRuntime } from "./worker-runtime.ts";
import { wranglerConfig } from "./wrangler-config.ts";

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
  /** Seconds for which a mailbox that is read over HTTP keeps what was acknowledged: KEEP_TIME. */
  readonly keepTime?: string;
  /** `origin`: devices passed through need no token here, the origin relay authenticates them: AUTH_ORIGIN. */
  readonly authOrigin?: string;
  /** TCP destinations that devices may reach: STREAM_ORIGINS. */
  readonly streamAllow?: readonly string[];
  /** Seconds for which these connections outlive those of their devices: STREAM_RESUME. */
  readonly streamResume?: string;
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
  /**
   * Called with a line for the operator: the disk has become full, or has room again; the runtime has crashed, and is
   * started again.
   */
  readonly onNotice?: (line: string) => void;
  /** If given, the edge speaks HTTPS. */
  readonly tls?: KeyPair;
  /** Called for each line that the worker or workerd logs. */
  readonly log?: (level: string, line: string) => void;
  /** The worker as one module, instead of the edge's own. For tests that wrap the edge. */
  readonly code?: string;
  /** What runs the worker. Default workerd, with a supervisor. */
  readonly start?: StartRuntime;
}

export interface LocalEdge {
  /** Where it listens, without a trailing slash. */
  readonly url: string;
  /** The names by which devices address it. */
  readonly names: readonly string[];
  /** Names of its listening address that mean an origin relay instead, because the allow list has them. */
  readonly relayNames: readonly string[];
  /** Resolves with the error when the edge has crashed too often to be started again. {@link close} it then. */
  readonly failed: Promise<CommandError>;
  /**
   * Serves another certificate. Those that wait are answered, and workerd starts again: connections are cut off, and new
   * ones are refused for less than two seconds.
   */
  renew(tls: KeyPair): Promise<void>;
  /** Tells devices when to come back, and admits nothing more. Call {@link close} after it. */
  rest(): Promise<void>;
  close(): Promise<void>;
}

/** How many ports to try if any will do. */
const ANY_PORT_TRIES = 3;

/** Time for the edge to answer those that wait, in milliseconds: it takes half a second for it, and two on a busy machine. */
const STOP_TIMEOUT = 3000;

/** The same before another certificate is served: new connections are refused meanwhile. */
const RENEW_TIMEOUT = 1000;

/** Time for it to tell its devices, which takes it 5 s at most, and to write what it has counted. */
const REST_TIMEOUT = 8_000;

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
  let heed: { readonly disk: DiskTeller; readonly files: OpenFilesTeller } | undefined;
  const host = options.host ?? "127.0.0.1";
  const prefix = checked(readPrefix(options.prefix ?? ""));
  try {
    if (options.state !== undefined) sweepEmptyDatabases(options.state);
    if (options.resolver === undefined) resolver = await startLocalResolver();
    const start = options.start ?? superviseWorkerd;
    const log = (level: string, line: string) => {
      if (line.includes(EARLY_END)) return;
      heed?.disk.hear(line);
      options.log?.(level, line);
    };
    const worker = definition(code, secret, { resolver: resolver?.url ?? "", ...options });
    for (let tries = ANY_PORT_TRIES; ; tries -= 1) {
      const front = { host, port: await portOf(host, options.port), tls: options.tls };
      let runtime: WorkerRuntime;
      try {
        runtime = await start({
          worker,
          front,
          run,
          state: options.state,
          log,
          notice: (line) => options.onNotice?.(line),
          restarted: () => {
            void heed?.disk.tell();
            heed?.files.restarted();
          },
        });
      } catch (cause) {
        // Another program may have taken the free port first.
        if (options.port === 0 && tries > 1 && !isMissingPackage(cause)) continue;
        // That has an error of its own.
        if (isMissingPackage(cause)) throw cause;
        throw new CommandError(
          "EdgeFailed",
          `the edge did not start: ${cause instanceof Error ? cause.message : cause}`,
        );
      }
      // Before the command announces the edge: with a full disk, even the first message is refused.
      const disk = new DiskTeller(runtime, secret, { ...options, prefix }, run);
      await disk.tell();
      const files = new OpenFilesTeller({ runtime, secret, prefix, onNotice: options.onNotice });
      heed = { disk, files };
      const order = async (name: string, patience: number) => {
        await runtime.tell({ path: `${prefix}/local/${name}`, secret, patience });
      };
      const close = async () => {
        await Promise.all([disk.close(), files.close()]);
        // Those that wait for something get an answer.
        await order("stop", STOP_TIMEOUT);
        await runtime.dispose();
        await resolver?.close();
        run.close();
      };
      return {
        url: `${urlOf(front)}${prefix}`,
        names: namesOf(options),
        relayNames: relayNamesOf(options),
        failed: runtime.failed,
        renew: async (tls) => {
          await order("stop", RENEW_TIMEOUT);
          await runtime.renew(tls);
        },
        rest: () => order("rest", REST_TIMEOUT),
        close,
      };
    }
  } catch (error) {
    await resolver?.close();
    run.close();
    throw error;
  }
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
    STREAM_ORIGINS: options.streamAllow?.join(" "),
    STREAM_RESUME: options.streamResume,
    RATE: options.rate,
    QUOTA: options.quota,
    ACKNOWLEDGE_TIME: options.acknowledgeTime,
    KEEP_TIME: options.keepTime,
    TRUSTED_PROXIES: options.trustedProxies?.join(","),
    PREFIX: options.prefix,
    DEV: options.dev,
  };
}

/** Classes of objects without storage, by the names of their bindings; see edge/volatile/object-named.ts. */
const VOLATILE = { TUNNEL: "Tunnel", CONNECTION_METER: "ConnectionMeter", CLOCK: "Clock" };

function definition(code: string, secret: string, options: LocalEdgeOptions): WorkerDefinition {
  const { name, compatibilityDate, compatibilityFlags, objects, variables } = wranglerConfig();
  const given = Object.entries(settingsOf(options)).filter((pair): pair is [string, string] => pair[1] !== undefined);
  const unset = Object.fromEntries(variables.map((variable) => [variable, ""]));
  const texts = { ...unset, ...Object.fromEntries(given), LOCAL_SECRET: secret };
  // Other code may not have these classes.
  const volatile = options.code === undefined ? VOLATILE : {};
  return { name, code, compatibilityDate, compatibilityFlags, objects, volatile, texts };
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
