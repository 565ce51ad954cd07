/** `grooveway edge`: runs the edge on this machine. */

import { jsonLine, printable } from "../../lib/printable.ts";
import { backUp } from "../backup/back-up.ts";
import { restore } from "../backup/restore.ts";
import { unlessInterrupted, untilInterrupted } from "../interrupt.ts";
import { edgeArguments } from "../local-edge/edge-arguments.ts";
import type { EdgeValues } from "../local-edge/edge-options.ts";
import { startLocalEdge } from "../local-edge/local-edge.ts";
import { startSettingsServer } from "../local-edge/settings-server.ts";
import { LEVELS, type Level, logLine } from "../local-edge/worker-log.ts";
import { alertRules } from "../monitoring/alert-rules.ts";
import { dashboard } from "../monitoring/dashboard.ts";
import { size } from "../output.ts";
import { type Command, minFreeOf, port, readText, unexpected, usage } from "../parse-arguments.ts";
import { renewedKeyPair } from "../renewed-key-pair.ts";

/** What the command prints instead of running an edge. */
const PRINTED: Readonly<Partial<Record<string, () => string>>> = { rules: alertRules, dashboard };

const DEFAULT_PORT = "8787";

export const edgeCommand: Command = {
  help: `Usage: grooveway edge [options]
       grooveway edge backup|restore FILE --state DIR
       grooveway edge rules|dashboard

Runs the edge on this machine: the same worker that is deployed to Cloudflare, under workerd. It keeps a mailbox for every
device, and passes devices through to the origin relays that it allows.

  backup         copy the mailboxes of --state into FILE, while the edge runs or not
  restore        put them into a new --state, which no edge has used. What happened after the backup is lost
  rules          print alert rules for a Prometheus that scrapes the edge's /metrics
  dashboard      print a dashboard for Grafana, as JSON

  --config FILE              options by their names, in TOML (port = 443); paths in it are relative to it. The command line
                             wins over the file

Listening
  --host HOST                address to listen on; default 127.0.0.1. Use 0.0.0.0 to accept other machines
  --port N                   port to listen on; default 8787, 0 for any free port
  --name NAME                host name by which devices reach this edge, which is the aud of their tokens; repeatable. The
                             address listened on is always a name
  --tls-key FILE, --tls-cert FILE
                             serve HTTPS with this key and certificate (PEM). A new pair in these files is served within a
                             minute; devices connect again then
  --prefix PATH              path of this edge behind a reverse proxy that does not remove it, such as /groove
  --trusted-proxy ADDRESS    reverse proxy whose X-Forwarded-For is believed, or a network of them such as 10.0.0.0/24;
                             repeatable. Default: those on this machine

Access
  --keys FILE                keys that verify tokens: a JSON Web Key Set, as printed by grooveway token keygen
  --jwks-url URL             fetch the key set from this URL instead
  --revoked FILE             ids of revoked tokens, one per line or a JSON array
  --revoked-url URL          fetch the ids from this URL instead, as a JSON array
  --auth-origin              require no token for pass-through: the origin relay authenticates devices itself
  --admin-token TOKEN|@FILE  admin token for grooveway mailbox; default the environment variable GROOVEWAY_ADMIN_TOKEN.
                             Without one, only tokens with the scope admin are accepted
  --dev-private              for a test on private addresses: permit relays there, and nothing else that is insecure
  --dev                      for development: permit private relays, any allow list, no keys and all else that is insecure

Mailboxes
  --state DIR                keep the mailboxes in this folder; without it they are lost when the edge stops
  --quota TEXT               limits of what may wait for one device or identity; default "octets=256MiB messages=100000
                             share=0.5 sender=4GiB". share is the part that one sender may fill; a sender that has filled
                             it is suspended until half of it is free again. sender is what one sender may have waiting
                             for all absent recipients together
  --rate TEXT                limits of one token; default "connections=200 connects=120 octets=20000000 messages=5000
                             recipients=1000 streams=1000": virtual connections at a time, new ones per minute, bytes and
                             messages sent per second, recipients per session, TCP connections to services. With --dev: limits of one address, only if given
  --acknowledge-time SECONDS how long a device may acknowledge nothing while another device of its identity waits;
                             default 120
  --keep-time SECONDS        how long a mailbox that is read over HTTP keeps messages that a device has acknowledged;
                             default 86400, a day
  --min-free MIB             refuse new messages when less is free on the disk; default 64, or an eighth of a small disk

Origin relays and links
  --relay-allow ENTRY        origin relay that may be reached; repeatable. A name, a pattern such as *.relays.example.com,
                             an address, or a range such as 63.209.254.*, each with :PORT, or for the ports 2492, 443 and
                             80. !ENTRY denies, and overrides all others
  --resolver URL             resolve the names of origin relays by this DNS over HTTPS, with JSON answers; default this
                             machine's resolver
  --link RELAY               stay connected to this origin relay, so that what waits there arrives at once; repeatable.
                             Other relays are connected to when there is something for them
  --link-ways WAYS           how to connect to origin relays, in order; default "sstp:2492 sstp:443 http:80". tls:PORT is
                             SSTP over TLS, and cannot be combined with the others. --relay-allow must allow the port
  --link-secret FILE         secrets shared with relays, NAME=SECRET on each line (see grooveway token secret): this edge
                             and that relay must prove to each other that they have the secret. NAME=none requires no
                             proof and no TLS, even across the public internet
  --link-plain RELAY         allow a proved link to this relay without TLS across the public internet; repeatable

Connections to services
  --stream-allow ENTRY       TCP destination that devices may reach with grooveway forward --to, if their token has the
                             scope origin:HOST:PORT; repeatable. HOST:PORT, *.DOMAIN:PORT or ADDRESS/BITS:PORT, with
                             several ports as 80,443 or 8000-8099
  --stream-resume SECONDS    how long such a connection outlives that of its device; default 600, at most 86400

Output
  --json                     print one JSON object when listening
  --log-level LEVEL          off, error, warn, info, debug; what the worker and the runtime log is printed to standard
                             error from this level, a line of JSON each; default warn
  -v, --verbose              print the worker's log; the same as --log-level debug

Example: grooveway edge --host 0.0.0.0 --port 443 --tls-key key.pem --tls-cert cert.pem --name edge.example.com --keys keys.json --state /var/lib/grooveway`,

  async run(args) {
    const { values, positionals, said } = edgeArguments(args);
    const [action, ...more] = positionals;
    if (action !== undefined) return act(action, more, values);
    const { "tls-key": key, "tls-cert": cert, "relay-allow": relayAllow = [] } = values;
    const pair = key === undefined || cert === undefined ? undefined : renewedKeyPair(key, cert);
    const least = leastOf(values["log-level"], values.verbose === true, said("log-level"));
    const adminToken = adminTokenOf(values["admin-token"] ?? "");
    const { keys, revoked } = values;
    const settings = keys === undefined && revoked === undefined ? undefined : await startSettingsServer(keys, revoked);
    const { keysURL = values["jwks-url"], revokedURL = values["revoked-url"] } = settings ?? {};
    const notice = (line: string) => console.error(`grooveway: ${line}`);
    // Options are validated in here too. If one is invalid, the settings server must not keep the process alive.
    const starting = async () =>
      startLocalEdge({
        port: port("edge", values.port ?? DEFAULT_PORT),
        host: values.host ?? "127.0.0.1",
        relayAllow,
        dev: devOf(values.dev === true, values["dev-private"] === true),
        links: values.link ?? [],
        linkWays: values["link-ways"] ?? "",
        ...(values["link-secret"] !== undefined && { linkSecrets: readText(values["link-secret"]) }),
        linkPlain: values["link-plain"] ?? [],
        ...(values.resolver !== undefined && { resolver: values.resolver }),
        ...(keysURL !== undefined && { keysURL }),
        ...(revokedURL !== undefined && { revokedURL }),
        ...(values["auth-origin"] === true && { authOrigin: "origin" }),
        relayName: values.name ?? [],
        trustedProxies: values["trusted-proxy"] ?? [],
        prefix: values.prefix ?? "",
        ...(values.state !== undefined && { state: values.state }),
        adminToken,
        rate: values.rate ?? "",
        quota: values.quota ?? "",
        streamAllow: values["stream-allow"] ?? [],
        streamResume: values["stream-resume"] ?? "",
        acknowledgeTime: values["acknowledge-time"] ?? "",
        keepTime: values["keep-time"] ?? "",
        ...(values["min-free"] !== undefined && { minFree: minFreeOf("edge", values["min-free"]) }),
        onNotice: notice,
        ...(pair !== undefined && { tls: { key: pair.key, cert: pair.cert } }),
        log: (level, line) => {
          const printed = logLine(least, level, line, Date.now());
          if (printed !== undefined) console.error(printed);
        },
      });
    const interrupted = untilInterrupted();
    const edge = await unlessInterrupted(interrupted, starting()).catch(async (error: unknown) => {
      await settings?.close();
      throw error;
    });
    if (values.json) console.log(JSON.stringify({ event: "listening", url: edge.url, names: edge.names }));
    else {
      console.log(`edge listens on ${edge.url}`);
      if (values.dev) console.log("for development only: --dev permits what is unsafe where strangers can connect");
      if (values.state === undefined) console.log("mailboxes are lost when it stops: give --state DIR to keep them");
      console.log(`its names are ${edge.names.join(", ")}`);
    }
    for (const name of edge.relayNames) {
      console.error(
        `grooveway: --relay-allow makes ${name} the name of an origin relay, not of this edge: write its port (${name}:PORT), or add --name ${name}`,
      );
    }
    pair?.follow((tls) => edge.renew(tls), notice);
    const failure = await Promise.race([edge.failed, interrupted.then(() => undefined)]);
    pair?.close();
    if (failure === undefined) await edge.rest();
    await edge.close();
    await settings?.close();
    if (failure !== undefined) throw failure;
    return 0;
  },
};

/** Does something else than running an edge. */
async function act(
  action: string,
  [file, ...more]: readonly string[],
  { state, json = false }: EdgeValues,
): Promise<number> {
  const prints = PRINTED[action];
  if (prints !== undefined) {
    if (file !== undefined) throw unexpected("edge", file);
    console.log(prints().trimEnd());
    return 0;
  }
  if (action !== "backup" && action !== "restore") throw unexpected("edge", action);
  if (more.length > 0) throw unexpected("edge", more[0]);
  if (file === undefined || file === "") throw usage("edge", `${action} needs a FILE`);
  if (state === undefined || state === "") throw usage("edge", `${action} needs --state DIR`);
  if (action === "backup") {
    const { mailboxes, bytes } = backUp(state, file);
    if (json) console.log(jsonLine({ event: "backedUp", file, mailboxes, bytes }));
    else console.log(`${mailboxes} mailboxes, ${size(bytes)}: ${printable(file)}`);
    return 0;
  }
  const { mailboxes, time } = await restore(file, state);
  if (json) console.log(jsonLine({ event: "restored", state, mailboxes, time }));
  else console.log(`${mailboxes} mailboxes of ${new Date(time).toISOString()}: ${printable(state)}`);
  return 0;
}

/** The least level that is printed. */
function leastOf(given: string | undefined, verbose: boolean, said: string): Level {
  const level = given ?? (verbose ? "debug" : "warn");
  const known = LEVELS.find((one) => one === level);
  if (known === undefined) throw usage("edge", `${said} ${printable(level)} is not one of ${LEVELS.join(", ")}`);
  return known;
}

/** The admin token, or that in a file. */
function adminTokenOf(given: string): string {
  return given.startsWith("@") ? readText(given.slice(1)).trim() : given;
}

/** The setting DEV that the options stand for. */
function devOf(everything: boolean, onlyPrivate: boolean): string {
  if (everything) return "1";
  return onlyPrivate ? "private" : "";
}
