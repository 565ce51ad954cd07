/**
 * What a device offers: services of this machine, each stream to which becomes a connection to it; what SOCKS reaches;
 * and the list of both.
 *
 * @module
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { type Device, type DeviceStream, formatFingerprint } from "../../device/index.ts";
import { bridge } from "./bridge.ts";
import { type Exposed, formatListing } from "./exposed.ts";
import { SocksService } from "./socks-service.ts";
import { type Endpoint, endpointText, LISTING, SOCKS } from "./stream-address.ts";
import type { StreamLog } from "./stream-log.ts";

/** How long a service may take to accept a connection, in milliseconds: it is on this machine or near it. */
const SERVICE_TIMEOUT = 10_000;

interface Offer {
  readonly to: Endpoint;
  /** Ends the offer and its connections. */
  readonly end: () => void;
}

export class ExposedServices {
  readonly #device: Pick<Device, "address" | "serve">;
  readonly #log: StreamLog;
  readonly #offers = new Map<string, Offer>();
  readonly #socks: SocksService;
  #exposed: Exposed = { services: new Map(), destinations: [] };
  /** Ends the offer of SOCKS, if there is one. */
  #withdrawSocks: (() => void) | undefined;

  /** Offers the list of what is exposed. */
  constructor(device: Pick<Device, "address" | "serve">, log: StreamLog) {
    this.#device = device;
    this.#log = log;
    const refused = (stream: DeviceStream, why: string) =>
      log.tell(`SOCKS: refused ${peerText(stream)}: ${why}`, "refused");
    this.#socks = new SocksService({ refused, traffic: log.traffic });
    device.serve(LISTING, async ({ writable }) => {
      const writer = writable.getWriter();
      await writer.write(new TextEncoder().encode(formatListing(this.#exposed)));
      await writer.close();
    });
  }

  /**
   * Offers these services and destinations and no others, and says what has changed. What leads where it led before is
   * not touched; connections to all others end.
   */
  set(exposed: Exposed): void {
    const { destinations } = this.#exposed;
    this.#exposed = exposed;
    this.#setServices(exposed.services);
    this.#setDestinations(
      destinations.map(({ text }) => text),
      exposed.destinations.map(({ text }) => text),
    );
  }

  #setDestinations(before: readonly string[], now: readonly string[]): void {
    this.#socks.setDestinations(this.#exposed.destinations);
    if (now.length > 0) {
      this.#withdrawSocks ??= this.#device.serve(SOCKS, (stream) => {
        void this.#log.tellReset("SOCKS", stream, ["Closed"]);
        return this.#socks.serve(stream);
      });
    } else {
      this.#withdrawSocks?.();
      this.#withdrawSocks = undefined;
    }
    const announce = (event: string, text: string, more = "") =>
      this.#log.announce(event, `SOCKS at ${this.#device.address} reaches ${text}${more}`, { destination: text });
    for (const text of before) if (!now.includes(text)) announce("withdrawn", text, " no more");
    for (const text of now) if (!before.includes(text)) announce("exposed", text);
  }

  #setServices(services: ReadonlyMap<string, Endpoint>): void {
    for (const [name, { to, end }] of [...this.#offers]) {
      const now = services.get(name);
      if (now !== undefined && endpointText(now) === endpointText(to)) continue;
      this.#offers.delete(name);
      end();
      if (now === undefined) this.#announce("withdrawn", name, "exposed no more");
    }
    for (const [name, to] of services) {
      if (this.#offers.has(name)) continue;
      this.#offer(name, to);
      this.#announce("exposed", name, endpointText(to));
    }
  }

  #announce(event: string, name: string, is: string): void {
    const service = `${this.#device.address}:${name}`;
    this.#log.announce(event, `${service} is ${is}`, { service });
  }

  #offer(name: string, to: Endpoint): void {
    const streams = new Set<DeviceStream>();
    const withdraw = this.#device.serve(name, async (stream) => {
      streams.add(stream);
      try {
        await serve(stream, to, this.#log);
      } finally {
        streams.delete(stream);
      }
    });
    const end = () => {
      withdraw();
      for (const stream of streams) stream.reset();
    };
    this.#offers.set(name, { to, end });
  }
}

/** Connects a stream to its service, and only then accepts it. */
async function serve(stream: DeviceStream, to: Endpoint, log: StreamLog): Promise<void> {
  const socket = connect({ ...to, allowHalfOpen: true });
  try {
    await connected(stream, socket);
  } catch (error) {
    socket.destroy();
    const why = error instanceof Error ? error.message : String(error);
    log.tell(`${stream.service}: ${endpointText(to)} refused ${peerText(stream)}: ${why}`, "unreachable");
    stream.reset("ServiceUnreachable");
    return;
  }
  stream.accept();
  // That the other program has ended is its own business.
  void log.tellReset(stream.service, stream, ["Closed"]);
  await bridge(stream, socket, log.traffic);
}

/** The device that opened a stream. */
export function peerText({ peer: { address, key } }: DeviceStream): string {
  return `${address} (${key === undefined ? "no key" : formatFingerprint(key)})`;
}

async function connected(stream: DeviceStream, socket: Socket): Promise<void> {
  const timeout = AbortSignal.timeout(SERVICE_TIMEOUT);
  await Promise.race([once(socket, "connect", { signal: timeout }), stream.closed]);
  if (socket.connecting) throw new Error("the other device has given up");
}
