/** `grooveway relay`: runs an origin relay. */
import { readLinkSecrets } from "../../auth/relay-proof.ts";
import { forbidden } from "../../edge/policy/check-settings.ts";
import { readQuota } from "../../edge/policy/quota-setting.ts";
import { describe, LockHeld } from "../../lib/node/file-lock.ts";
import { problemText } from "../../lib/setting.ts";
import { type Relay, startRelay, TLS_PORT } from "../../relay/index.ts";
import { parseRelayName, SSTP_PORT } from "../../sstp/index.ts";
import { CommandError } from "../command-error.ts";
import { cannotUseStore, checkStore, isCannotOpen, OTHER_STORE, wordsOf } from "../files/path-problem.ts";
import { unlessInterrupted, untilInterrupted } from "../interrupt.ts";
import { type SettingsServer, startSettingsServer } from "../local-edge/settings-server.ts";
import { size } from "../output.ts";
import {
  type Command,
  minFreeOf,
  parse,
  port,
  readText,
  settingOption,
  unexpected,
  usage,
} from "../parse-arguments.ts";
import { renewedKeyPair } from "../renewed-key-pair.ts";

export const relayCommand: Command = {
  help: `Usage: grooveway relay [options]

Runs an origin relay: SSTP over TCP, with a queue for every device and identity.

  --host HOST    address to listen on; default 127.0.0.1. Use 0.0.0.0 or :: to accept other machines
  --port N       TCP port; default ${SSTP_PORT}, 0 for any free port
  --name NAME    name by which clients know this relay; repeatable. Default: this host's name, localhost and the
                 address listened on
  --store FILE   keep waiting messages in this file; without it they are lost when the relay stops
  --quota TEXT   limits of what may wait for one device or identity; default "octets=256MiB messages=100000 share=0.5
                 sender=4GiB". share is the part that one sender may fill; a sender that has filled it is suspended until
                 half of it is free again. sender is what one sender may have waiting for all absent recipients
  --min-free MIB refuse new messages when less is free on the disk of the store; default 64, or an eighth of a small disk
  --tls-key FILE, --tls-cert FILE
                 also accept SSTP over TLS, with this key and certificate (PEM). A new pair in these files is served within
                 a minute
  --tls-port N   port for TLS; default ${TLS_PORT}
  --tls-only     accept TLS only: do not listen on --port
  --keys FILE    keys that verify the tokens of devices: a JSON Web Key Set, as printed by grooveway token keygen. The aud
                 of a token is one of the relay's names. Without keys anyone may use the relay
  --jwks-url URL fetch the key set from this URL instead
  --revoked FILE ids of revoked tokens, one per line or a JSON array
  --revoked-url URL
                 fetch the ids from this URL instead, as a JSON array
  --link-secret FILE
                 secrets shared with edges, NAME=SECRET on each line (see grooveway token secret): only the edges named
                 there are admitted, and they must prove that they have the secret. NAME=none requires no proof. Without
                 this file and without --keys, edges are believed if they connect from a loopback or private address
  --json         print one JSON object when listening
  -v, --verbose  print a line for each connection

Example: grooveway relay --host 0.0.0.0 --name relay.example.com --store /var/lib/grooveway/relay.db`,

  async run(args) {
    const { values, positionals } = parse("relay", args, {
      port: { type: "string", default: String(SSTP_PORT) },
      host: { type: "string", default: "127.0.0.1" },
      store: { type: "string" },
      "min-free": { type: "string" },
      name: { type: "string", multiple: true },
      quota: { type: "string", default: "" },
      "tls-key": { type: "string" },
      "tls-cert": { type: "string" },
      "tls-port": { type: "string", default: String(TLS_PORT) },
      "tls-only": { type: "boolean", default: false },
      "link-secret": { type: "string" },
      keys: { type: "string" },
      "jwks-url": { type: "string" },
      revoked: { type: "string" },
      "revoked-url": { type: "string" },
      json: { type: "boolean", default: false },
      verbose: { type: "boolean", short: "v", default: false },
    });
    if (positionals.length > 0) throw unexpected("relay", positionals[0]);
    const { "tls-key": key, "tls-cert": cert, "link-secret": secrets } = values;
    if ((key === undefined) !== (cert === undefined))
      throw usage("relay", "--tls-key and --tls-cert must be given together");
    if (values.store === "") throw usage("relay", "--store is empty: name a file");
    if (values["tls-only"] && key === undefined) throw usage("relay", "--tls-only needs --tls-key and --tls-cert");
    const pair = key === undefined || cert === undefined ? undefined : renewedKeyPair(key, cert);
    const settings = await tokenSettings(values);
    // Options are validated in here too. If one is invalid, the settings server must not keep the process alive.
    const starting = async () =>
      startRelayHere({
        port: port("relay", values.port),
        host: values.host,
        ...(values.store !== undefined && { store: values.store }),
        ...(values["min-free"] !== undefined && { minFree: minFreeOf("relay", values["min-free"]) }),
        onDisk: (full, minFree) =>
          console.error(
            full
              ? `grooveway: less than ${size(minFree)} is free on the disk of ${values.store} (--min-free): new messages are refused [StorageFull]`
              : `grooveway: there is room again on the disk of ${values.store}: new messages are accepted`,
          ),
        ...(values.name !== undefined && { names: values.name }),
        quota: settingOption("relay", "--quota", readQuota(values.quota)),
        ...(pair !== undefined && {
          tls: { key: pair.key, cert: pair.cert, port: port("relay", values["tls-port"]) },
        }),
        tlsOnly: values["tls-only"],
        ...(secrets !== undefined && { linkSecrets: readText(secrets) }),
        ...(settings.keysURL !== undefined && { keysURL: settings.keysURL }),
        ...(settings.revokedURL !== undefined && { revokedURL: settings.revokedURL }),
        ...(values.verbose && { log: (line: string) => console.error(line) }),
      });
    const interrupted = untilInterrupted();
    const relay = await unlessInterrupted(interrupted, starting()).catch(async (error: unknown) => {
      await settings.close();
      throw error;
    });
    pair?.follow(
      async (tls) => relay.renew(tls),
      (line) => console.error(`grooveway: ${line}`),
    );
    const { host, tlsPort } = relay;
    if (values.json) console.log(JSON.stringify({ event: "listening", host, port: relay.port, tlsPort }));
    else {
      if (!values["tls-only"]) console.log(`relay listens on ${host}:${relay.port}`);
      if (tlsPort !== undefined) console.log(`relay listens on ${host}:${tlsPort} with TLS`);
      if (settings.keysURL === undefined) console.log("anyone may use it: give --keys FILE to require tokens");
      if (values.store === undefined)
        console.log("waiting messages are lost when it stops: give --store FILE to keep them");
    }
    await interrupted;
    pair?.close();
    await relay.close();
    await settings.close();
    return 0;
  },
};

/**
 * Returns the URLs of the key set and the list of revoked tokens. Files are served to the relay by a local server, so
 * that a changed file takes effect without a restart.
 *
 * @throws CommandError Usage, KeysUnusable, CannotRead, InsecureRelay
 */
async function tokenSettings(values: {
  readonly keys?: string | undefined;
  readonly "jwks-url"?: string | undefined;
  readonly revoked?: string | undefined;
  readonly "revoked-url"?: string | undefined;
}): Promise<Partial<Omit<SettingsServer, "close">> & Pick<SettingsServer, "close">> {
  const { keys, "jwks-url": jwksURL, revoked, "revoked-url": revokedURL } = values;
  if (keys !== undefined && jwksURL !== undefined)
    throw usage("relay", "--keys and --jwks-url exclude each other: give one");
  if (revoked !== undefined && revokedURL !== undefined) {
    throw usage("relay", "--revoked and --revoked-url exclude each other: give one");
  }
  if ((revoked ?? revokedURL) !== undefined && (keys ?? jwksURL) === undefined) {
    throw usage("relay", "a list of revoked tokens needs --keys or --jwks-url");
  }
  const insecure = forbidden({ KEYS: "", JWKS_URL: jwksURL, REVOKED_URL: revokedURL, DEV: "open" });
  if (insecure.length > 0) {
    const all = insecure.map((finding) =>
      problemText({ ...finding, setting: OPTIONS[finding.setting] ?? finding.setting }),
    );
    throw new CommandError("InsecureRelay", all.join("; "));
  }
  const served = keys === undefined && revoked === undefined ? undefined : await startSettingsServer(keys, revoked);
  return {
    keysURL: served?.keysURL ?? jwksURL,
    revokedURL: served?.revokedURL ?? revokedURL,
    close: async () => served?.close(),
  };
}

const OPTIONS: Readonly<Record<string, string>> = { JWKS_URL: "--jwks-url", REVOKED_URL: "--revoked-url" };

/**
 * Starts a relay and converts errors to ones that the user can fix.
 *
 * @throws CommandError Usage, PortTaken, CannotListen, CannotWrite, LinkSecretsUnusable, StoreFailed, StoreInUse,
 * TlsUnusable
 */
export async function startRelayHere(options: Parameters<typeof startRelay>[0] & object): Promise<Relay> {
  for (const name of options.names ?? []) {
    const parsed = parseRelayName(name);
    if (!parsed.ok) throw usage("relay", `--name: ${parsed.problems}`);
  }
  const secrets = readLinkSecrets(options.linkSecrets ?? "");
  if (!secrets.ok) {
    const all = secrets.problems.map((problem) => problemText({ ...problem, setting: "--link-secret" }));
    throw new CommandError("LinkSecretsUnusable", all.join("; "));
  }
  try {
    if (options.store !== undefined) await checkStore(options.store);
    return await startRelay(options);
  } catch (error) {
    if (error instanceof CommandError) throw error;
    if (error instanceof LockHeld) {
      const who = describe(error.holder);
      throw new CommandError("StoreInUse", `${options.store} is in use by ${who}: stop it, or choose another --store`);
    }
    const { code, message } = error as NodeJS.ErrnoException;
    const where = `${options.host ?? "127.0.0.1"}:${options.port ?? SSTP_PORT}`;
    if (code === "EADDRINUSE") {
      throw new CommandError(
        "PortTaken",
        `${where} is taken by another program: stop it, or choose another port with --port`,
      );
    }
    if (code?.startsWith("ERR_OSSL") || code?.startsWith("ERR_SSL")) {
      throw new CommandError(
        "TlsUnusable",
        `--tls-key and --tls-cert are not a key and its certificate in PEM (${code}): check both files`,
      );
    }
    if (isCannotOpen(error)) throw cannotUseStore(`${options.store}`, `${wordsOf(error)}: ${OTHER_STORE}`);
    if (code === "ERR_SQLITE_ERROR") {
      throw new CommandError("StoreFailed", `cannot use ${options.store} as the store (${message}): ${OTHER_STORE}`);
    }
    if (code === "EACCES" || code === "EADDRNOTAVAIL" || code === "ENOTFOUND") {
      throw new CommandError("CannotListen", `cannot listen on ${where} (${code}): choose another --host or --port`);
    }
    throw error;
  }
}
