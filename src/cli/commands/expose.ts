/** `grooveway expose`: offers TCP services of this machine to other devices. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { type Device, type DeviceStream, formatFingerprint, parseFingerprint } from "../../device/index.ts";
import { visible } from "../../lib/printable.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "../device-options.ts";
import { secondsIn } from "../duration.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { untilInterrupted } from "../interrupt.ts";
import { isPattern, type TrustLine } from "../keyring/trust-text.ts";
import { type Command, parse, usage } from "../parse-arguments.ts";
import { bridge } from "../streams/bridge.ts";
import { type Destination, parseDestination } from "../streams/socks-destinations.ts";
import { SocksService } from "../streams/socks-service.ts";
import { type Endpoint, endpointText, LISTING, parseExposed, SOCKS } from "../streams/stream-address.ts";
import { tell, withStreamDevice } from "../streams/stream-device.ts";

/** How long a service may take to accept a connection, in milliseconds: it is on this machine or near it. */
const SERVICE_TIMEOUT = 10_000;

/** The longest time for which streams outlive their connections, in seconds. */
const LONGEST_RESUME = 24 * 3600;

export const exposeCommand: Command = {
  help: `Usage: grooveway expose [options] NAME=HOST:PORT...
       grooveway expose [options] --socks DESTINATION... [NAME=HOST:PORT...]

Offers TCP services to other devices until it is interrupted. Who may connect is said by grooveway trust: an address and a
key; others are refused before a socket is opened. NAME=unix:PATH offers a unix socket. Messages for this device wait in
its mailbox meanwhile.

With --socks, grooveway forward --socks there is a SOCKS proxy to these destinations, and to no others: HOST:PORT,
*.DOMAIN:PORT with a domain of at least two labels, or ADDRESS/BITS:PORT, at most /16 (IPv6: /48). Several ports are
80,443 or 8000-8099. Names are resolved here. Loopback, link-local and metadata addresses must be listed themselves.

${CONNECTION_HELP}
  --trust ADDRESS=FINGERPRINT
                        also admit this address or pattern with this key, in this run; repeatable
  --accept-new          admit the first key of each address that connects, and keep it: whoever has a token for an address
                        gets in
  --resume TIME         how long connections outlive the loss of the network: 90s, 10m, up to 24h; default 10m
  --socks               connect to the destinations that are listed, besides services

Example: grooveway expose --edge https://edge.example.com --as office/desk ssh=127.0.0.1:22
         grooveway expose --as office/desk --socks git.example.com:22,443 10.1.0.0/16:5432`,

  async run(args) {
    const { values, positionals } = parse("expose", args, {
      ...CONNECTION_OPTIONS,
      trust: { type: "string", multiple: true },
      "accept-new": { type: "boolean", default: false },
      resume: { type: "string", default: "10m" },
      socks: { type: "boolean", default: false },
    });
    const services = new Map<string, Endpoint>();
    const destinations: Destination[] = [];
    for (const text of positionals) {
      // No host has an equals sign.
      if (values.socks && !text.includes("=")) {
        destinations.push(destinationIn(text));
        continue;
      }
      const parsed = parseExposed(text);
      if (!parsed.ok) throw usage("expose", parsed.problems);
      const { name, to } = parsed.value;
      if (services.has(name)) throw usage("expose", `the name ${name} is given twice: choose another`);
      services.set(name, to);
    }
    if (values.socks && destinations.length === 0) {
      throw usage("expose", "--socks lists no destination: give HOST:PORT, *.DOMAIN:PORT or ADDRESS/BITS:PORT");
    }
    if (services.size === 0 && destinations.length === 0)
      throw usage("expose", "there is nothing to expose: give NAME=HOST:PORT");
    const seconds = secondsIn(values.resume);
    if (seconds === undefined || seconds > LONGEST_RESUME) {
      throw usage("expose", `--resume ${values.resume} is not a time of up to 24h, such as 90s or 10m`);
    }
    const beside = (values.trust ?? []).map(trusted);
    const acceptNew = values["accept-new"];
    const options = { ...deviceOptions("expose", values), resumeTime: seconds * 1000 };
    if (acceptNew) tell("--accept-new: the first key of every address that connects is accepted");
    const interrupted = untilInterrupted();
    const keyring = { beside, acceptNew };
    return withStreamDevice({ options, keyring, interrupted, isEndless: true }, async ({ device, signal }) => {
      for (const [name, to] of services) device.serve(name, (stream) => serve(stream, to));
      if (destinations.length > 0) offerSocks(device, destinations);
      const listing = new TextEncoder().encode(JSON.stringify([...services.keys()]));
      device.serve(LISTING, async ({ writable }) => {
        const writer = writable.getWriter();
        await writer.write(listing);
        await writer.close();
      });
      for (const [name, to] of services) console.log(visible(`${device.address}:${name} is ${endpointText(to)}`));
      for (const { text } of destinations) console.log(visible(`SOCKS at ${device.address} reaches ${text}`));
      if (!signal.aborted) await once(signal, "abort");
      return EXIT_CODES.Done.status;
    });
  },
};

function trusted(text: string): TrustLine {
  const at = text.indexOf("=");
  const [address, key] = [text.slice(0, Math.max(0, at)), parseFingerprint(text.slice(at + 1))];
  if (isPattern(address) && key !== undefined) return { kind: "accept", address, key };
  throw usage("expose", `--trust ${visible(text)} is not ADDRESS=FINGERPRINT, with the fingerprint of grooveway id`);
}

function destinationIn(text: string): Destination {
  const parsed = parseDestination(text);
  if (!parsed.ok) throw usage("expose", parsed.problems);
  return parsed.value;
}

function offerSocks(device: Device, destinations: readonly Destination[]): void {
  const refused = (stream: DeviceStream, why: string) => tell(`SOCKS: refused ${peerText(stream)}: ${why}`);
  const service = new SocksService({ destinations, refused });
  device.serve(SOCKS, (stream) => service.serve(stream));
}

/** Connects a stream to its service, and only then accepts it. */
async function serve(stream: DeviceStream, to: Endpoint): Promise<void> {
  const socket = connect({ ...to, allowHalfOpen: true });
  try {
    await connected(stream, socket);
  } catch (error) {
    socket.destroy();
    const why = error instanceof Error ? error.message : error;
    tell(`${stream.service}: ${endpointText(to)} refused ${peerText(stream)}: ${why}`);
    stream.reset("ServiceUnreachable");
    return;
  }
  stream.accept();
  await bridge(stream, socket);
}

function peerText({ peer: { address, key } }: DeviceStream): string {
  return `${address} (${key === undefined ? "no key" : formatFingerprint(key)})`;
}

async function connected(stream: DeviceStream, socket: Socket): Promise<void> {
  const timeout = AbortSignal.timeout(SERVICE_TIMEOUT);
  await Promise.race([once(socket, "connect", { signal: timeout }), stream.closed]);
  if (socket.connecting) throw new Error("the other device has given up");
}
