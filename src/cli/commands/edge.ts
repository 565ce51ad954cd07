/** `grooveway edge`: runs the edge on this machine. */

import { parseAcknowledgeTime } from "../../edge/policy/acknowledge-time.ts";
import { parseRate, RateError } from "../../edge/policy/rate-setting.ts";
import { unlessInterrupted, untilInterrupted } from "../interrupt.ts";
import { startLocalEdge } from "../local-edge/local-edge.ts";
import { startSettingsServer } from "../local-edge/settings-server.ts";
import { type Command, mebibytes, parse, port, readText, unexpected, usage } from "../parse-arguments.ts";
import { quotaOf } from "../quota-option.ts";
import { readKeyPair } from "../tls.ts";

export const edgeCommand: Command = {
  help: `Usage: grooveway edge [options]

Runs the edge on this machine: the same worker that is deployed to Cloudflare, under workerd. It keeps a mailbox for every
device that connects to it, and passes devices through to the origin relays that are allowed.

  --state DIR                keep the mailboxes in this folder; without it a restart forgets them
  --relay-allow ENTRY        origin relay that devices may be passed through to; may be given more than once. A name, a
                             glob such as *.relays.example.com, an address or a range such as 63.209.254.*, each with
                             :PORT or for 2492, 443 and 80; !ENTRY denies, and wins
  --keys FILE                the keys that tokens are verified by: a JSON Web Key Set, as grooveway token keygen makes it
  --revoked FILE             ids of tokens that are no longer let in, one on each line or a JSON array
  --acknowledge-time SECONDS a device may keep messages of its identity so long without acknowledging any while another
                             device of the identity waits (default: 120)
  --auth-origin              who is passed through needs no token here: the origin relay authenticates by itself
  --dev                      for development: permits relays at loopback and private addresses, and all else that is
                             insecure
  --link RELAY               stay connected to this origin relay, so that what waits there for devices here comes; may be
                             given more than once. Others are connected to when there is something for them
  --link-ways WAYS           how origin relays are connected to, in order; default "sstp:2492 sstp:443 http:80", and
                             tls:PORT for SSTP over TLS, which nothing else may stand beside
  --link-secret FILE         secrets shared with relays, NAME=SECRET on each line (see grooveway token secret): a relay that
                             is named there must prove that it has the secret, as this edge does to it. NAME=none: it
                             need not, even across the internet without TLS
  --link-plain RELAY         this relay, which has a secret, may be linked without TLS across the internet; may be given
                             more than once
  --port N                   port to listen on; default 8787, 0 for any free one
  --host HOST                address to listen on; default 127.0.0.1, use 0.0.0.0 to be reached from elsewhere
  --name NAME                a host name by which devices reach this edge, which is the aud of their tokens; may be given
                             more than once. The address listened on is always one
  --trusted-proxy ADDRESS    a reverse proxy that says in X-Forwarded-For where a request comes from, or a network of
                             them such as 10.0.0.0/24; may be given more than once. Default those of this machine
  --prefix PATH              the path under which this edge stands behind a reverse proxy that does not take it away, such
                             as /groove
  --admin-token TOKEN        opens the mailboxes to grooveway mailbox; default the environment variable
                             GROOVEWAY_ADMIN_TOKEN, without either nobody may look
  --rate TEXT                what may be done with one token; default "connections=200 connects=120 octets=20000000
                             messages=5000 recipients=1000": virtual connections at a time, new ones a minute, octets and messages sent
                             a second. With --dev it holds for each address, and only when it is given
  --quota TEXT               what may wait for one device or identity; default "octets=256MiB messages=100000 share=0.5":
                             share is the part of it that one sender alone may fill. A sender that has filled it is
                             suspended until half of it is free again
  --min-free MIB             refuse new messages when less is free on the disk; default 64, or an eighth of a small disk.
                             What waits can be read and purged meanwhile
  --tls-key FILE             with --tls-cert: speak HTTPS (PEM)
  --tls-cert FILE
  --json                     print one JSON object when it listens
  -v, --verbose              print what the worker logs

Example: grooveway edge --host 0.0.0.0 --port 443 --tls-key key.pem --tls-cert cert.pem --name edge.example.com --keys keys.json --state /var/lib/grooveway`,

  async run(args) {
    const { values, positionals } = parse("edge", args, {
      "relay-allow": { type: "string", multiple: true, default: [] },
      dev: { type: "boolean", default: false },
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
    if ((key === undefined) !== (cert === undefined)) throw usage("edge", "--tls-key and --tls-cert go together");
    const tls = key === undefined || cert === undefined ? undefined : readKeyPair(key, cert);
    if (values.state === "") throw usage("edge", "--state is empty: name a folder");
    if (values.revoked !== undefined && values.keys === undefined) throw usage("edge", "--revoked needs --keys");
    if (parseAcknowledgeTime(values["acknowledge-time"]) === undefined) {
      throw usage("edge", "--acknowledge-time is a number of seconds from 15 to 86400");
    }
    const settings = values.keys === undefined ? undefined : await startSettingsServer(values.keys, values.revoked);
    // Options are validated in here too. If one is invalid, the settings server must not keep the process alive.
    const starting = async () =>
      startLocalEdge({
        port: port("edge", values.port),
        host: values.host,
        relayAllow,
        dev: values.dev ? "1" : "",
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
        rate: rateText(values.rate),
        quota: quotaOf("edge", values.quota).text,
        acknowledgeTime: values["acknowledge-time"],
        ...(values["min-free"] !== undefined && { minFree: mebibytes("edge", values["min-free"]) }),
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
      if (values.dev) console.log("it is for development: --dev permits what is not safe where strangers reach it");
      if (values.state === undefined)
        console.log("it forgets its mailboxes when it stops: give --state DIR to keep them");
      console.log(`devices name it ${edge.names.join(" or ")}`);
    }
    await interrupted;
    await edge.close();
    await settings?.close();
    return 0;
  },
};

/**
 * Validates the value of --rate.
 *
 * @throws CommandError Usage
 */
function rateText(text: string): string {
  try {
    parseRate(text);
    return text;
  } catch (error) {
    if (error instanceof RateError) throw usage("edge", error.message);
    throw error;
  }
}
