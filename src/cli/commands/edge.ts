/** `grooveway edge`: runs the edge on this machine. */

import { readAcknowledgeTime } from "../../edge/policy/acknowledge-time.ts";
import { readQuota } from "../../edge/policy/quota-setting.ts";
import { readRate } from "../../edge/policy/rate-setting.ts";
import { unlessInterrupted, untilInterrupted } from "../interrupt.ts";
import { startLocalEdge } from "../local-edge/local-edge.ts";
import { startSettingsServer } from "../local-edge/settings-server.ts";
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
import { readKeyPair } from "../tls.ts";

export const edgeCommand: Command = {
  help: `Usage: grooveway edge [options]

Runs the edge on this machine: the same worker that is deployed to Cloudflare, under workerd. It keeps a mailbox for every
device, and passes devices through to the origin relays that it allows.

Listening
  --host HOST                address to listen on; default 127.0.0.1. Use 0.0.0.0 to accept other machines
  --port N                   port to listen on; default 8787, 0 for any free port
  --name NAME                host name by which devices reach this edge, which is the aud of their tokens; repeatable. The
                             address listened on is always a name
  --tls-key FILE, --tls-cert FILE
                             serve HTTPS with this key and certificate (PEM)
  --prefix PATH              path of this edge behind a reverse proxy that does not remove it, such as /groove
  --trusted-proxy ADDRESS    reverse proxy whose X-Forwarded-For is believed, or a network of them such as 10.0.0.0/24;
                             repeatable. Default: those on this machine

Access
  --keys FILE                keys that verify tokens: a JSON Web Key Set, as printed by grooveway token keygen
  --revoked FILE             ids of revoked tokens, one per line or a JSON array
  --auth-origin              require no token for pass-through: the origin relay authenticates devices itself
  --admin-token TOKEN        admin token for grooveway mailbox; default the environment variable GROOVEWAY_ADMIN_TOKEN.
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
                             recipients=1000": virtual connections at a time, new ones per minute, bytes and messages sent
                             per second, recipients per session. With --dev: limits of one address, only if given
  --acknowledge-time SECONDS how long a device may acknowledge nothing while another device of its identity waits;
                             default 120
  --min-free MIB             refuse new messages when less is free on the disk; default 64, or an eighth of a small disk

Origin relays and links
  --relay-allow ENTRY        origin relay that may be reached; repeatable. A name, a pattern such as *.relays.example.com,
                             an address, or a range such as 63.209.254.*, each with :PORT, or for the ports 2492, 443 and
                             80. !ENTRY denies, and overrides all others
  --link RELAY               stay connected to this origin relay, so that what waits there arrives at once; repeatable.
                             Other relays are connected to when there is something for them
  --link-ways WAYS           how to connect to origin relays, in order; default "sstp:2492 sstp:443 http:80". tls:PORT is
                             SSTP over TLS, and cannot be combined with the others. --relay-allow must allow the port
  --link-secret FILE         secrets shared with relays, NAME=SECRET on each line (see grooveway token secret): this edge
                             and that relay must prove to each other that they have the secret. NAME=none requires no
                             proof and no TLS, even across the public internet
  --link-plain RELAY         allow a proved link to this relay without TLS across the public internet; repeatable

Output
  --json                     print one JSON object when listening
  -v, --verbose              print the worker's log

Example: grooveway edge --host 0.0.0.0 --port 443 --tls-key key.pem --tls-cert cert.pem --name edge.example.com --keys keys.json --state /var/lib/grooveway`,

  async run(args) {
    const { values, positionals } = parse("edge", args, {
      "relay-allow": { type: "string", multiple: true, default: [] },
      dev: { type: "boolean", default: false },
      "dev-private": { type: "boolean", default: false },
      link: { type: "string", multiple: true, default: [] },
      "link-ways": { type: "string", default: "" },
      "link-secret": { type: "string" },
      "link-plain": { type: "string", multiple: true, default: [] },
      keys: { type: "string" },
      revoked: { type: "string" },
      "auth-origin": { type: "boolean", default: false },
      port: { type: "string", default: "8787" },
      host: { type: "string", default: "127.0.0.1" },
      name: { type: "string", multiple: true, default: [] },
      "trusted-proxy": { type: "string", multiple: true, default: [] },
      prefix: { type: "string", default: "" },
      state: { type: "string" },
      "admin-token": { type: "string", default: process.env.GROOVEWAY_ADMIN_TOKEN ?? "" },
      rate: { type: "string", default: "" },
      quota: { type: "string", default: "" },
      "acknowledge-time": { type: "string", default: "" },
      "min-free": { type: "string" },
      "tls-key": { type: "string" },
      "tls-cert": { type: "string" },
      json: { type: "boolean", default: false },
      verbose: { type: "boolean", short: "v", default: false },
    });
    if (positionals.length > 0) throw unexpected("edge", positionals[0]);
    const { "tls-key": key, "tls-cert": cert, "relay-allow": relayAllow } = values;
    if ((key === undefined) !== (cert === undefined))
      throw usage("edge", "--tls-key and --tls-cert must be given together");
    const tls = key === undefined || cert === undefined ? undefined : readKeyPair(key, cert);
    if (values.state === "") throw usage("edge", "--state is empty: name a folder");
    if (values.revoked !== undefined && values.keys === undefined) throw usage("edge", "--revoked needs --keys");
    settingOption("edge", "acknowledge-time", readAcknowledgeTime(values["acknowledge-time"]));
    settingOption("edge", "rate", readRate(values.rate));
    settingOption("edge", "quota", readQuota(values.quota));
    const settings = values.keys === undefined ? undefined : await startSettingsServer(values.keys, values.revoked);
    // Options are validated in here too. If one is invalid, the settings server must not keep the process alive.
    const starting = async () =>
      startLocalEdge({
        port: port("edge", values.port),
        host: values.host,
        relayAllow,
        dev: devOf(values.dev, values["dev-private"]),
        links: values.link,
        linkWays: values["link-ways"],
        ...(values["link-secret"] !== undefined && { linkSecrets: readText(values["link-secret"]) }),
        linkPlain: values["link-plain"],
        ...(settings?.keysURL !== undefined && { keysURL: settings.keysURL }),
        ...(settings?.revokedURL !== undefined && { revokedURL: settings.revokedURL }),
        ...(values["auth-origin"] && { authOrigin: "origin" }),
        relayName: values.name,
        trustedProxies: values["trusted-proxy"],
        prefix: values.prefix,
        ...(values.state !== undefined && { state: values.state }),
        adminToken: values["admin-token"],
        rate: values.rate,
        quota: values.quota,
        acknowledgeTime: values["acknowledge-time"],
        ...(values["min-free"] !== undefined && { minFree: minFreeOf("edge", values["min-free"]) }),
        onDisk: (line) => console.error(`grooveway: ${line}`),
        ...(tls !== undefined && { tls }),
        log: (level, line) => {
          if (values.verbose) console.error(`${level}: ${line}`);
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
    await interrupted;
    await edge.close();
    await settings?.close();
    return 0;
  },
};

/** The setting DEV that the options stand for. */
function devOf(everything: boolean, onlyPrivate: boolean): string {
  if (everything) return "1";
  return onlyPrivate ? "private" : "";
}
