/** An edge in memory, which does to the messages between devices what a test wants. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Destination, RelayConnection } from "../../src/device/relay-connection.ts";
import type { Keyring } from "../../src/device/streams/keyring.ts";
import { StreamHost } from "../../src/device/streams/stream-host.ts";
import { CAPABILITIES } from "../../src/device/transports/transport.ts";
import { CHACHA_POLY, PacketDecoder } from "../../src/streams/index.ts";
import { encodePacket } from "../../src/streams/packet.ts";

/** A message, as the edge sees it. */
export interface Parcel {
  /** For whom the edge vouches as its sender. */
  readonly from: string;
  readonly to: string;
  readonly octets: Uint8Array;
}

/** A packet of a message. */
export interface Packet {
  readonly from: string;
  readonly to: string;
  readonly route: number;
  readonly body: Uint8Array;
}

export function packetsOf({ from, to, octets }: Parcel): Packet[] {
  const packets: Packet[] = [];
  new PacketDecoder().push(octets, (route, body) => packets.push({ from, to, route, body: body.slice() }));
  return packets;
}

export function parcelOf({ from, to, route, body }: Packet): Parcel {
  return { from, to, octets: encodePacket(route, body) };
}

export class HostileEdge {
  /** What it delivers instead of a message. */
  treat: (parcel: Parcel) => readonly Parcel[] = (parcel) => [parcel];
  /** Whether it acknowledges messages. */
  acknowledges = true;
  /** Every message that was sent, in order. */
  readonly seen: Parcel[] = [];
  readonly #hosts = new Map<string, StreamHost>();
  #messages = 0;

  /** A device with streams, connected. One with the same address is replaced. */
  join(address: string, keyring: Keyring): StreamHost {
    const host = new StreamHost({
      address,
      keyring,
      suites: [CHACHA_POLY],
      destination: (to) => ({ to, key: to, relayURL: "", newId: () => "" }) as Destination,
      isRenewing: () => false,
      renew: async () => undefined,
      pause: (milliseconds) => sleep(milliseconds),
    });
    this.#hosts.set(address, host);
    host.attach(this.#connection(address));
    return host;
  }

  deliver({ from, to, octets }: Parcel): void {
    const packets = this.#hosts.get(to)?.receiver(`grooveDevice://${to}`);
    packets?.begin(from);
    packets?.data(octets);
    packets?.end();
  }

  #connection(from: string): RelayConnection {
    const recipients: string[] = [];
    const sessionTo = ({ to }: Destination) => {
      if (!recipients.includes(to)) recipients.push(to);
      return recipients.indexOf(to);
    };
    let pieces: Uint8Array[] = [];
    const engine = {
      closed: undefined,
      pendingOctets: 0,
      expectMessage: () => undefined,
      beginMessage: () => {
        pieces = [];
      },
      data: (_session: number, octets: Uint8Array) => pieces.push(octets),
      endMessage: (session: number) => {
        this.#messages += 1;
        const number = this.#messages;
        const parcel = { from, to: recipients[session] ?? "", octets: Buffer.concat(pieces) };
        setImmediate(() => {
          this.seen.push(parcel);
          for (const other of this.treat(parcel)) this.deliver(other);
          if (this.acknowledges) this.#hosts.get(from)?.on({ type: "acknowledged", messages: [number] }, undefined);
        });
        return number;
      },
    };
    const connection = {
      engine,
      transport: { remaining: Number.MAX_SAFE_INTEGER, capabilities: CAPABILITIES.websocket },
      session: async (destination: Destination) => ({ ok: true, sessionId: sessionTo(destination) }),
      readySession: sessionTo,
      ready: () => true,
      flush: async () => undefined,
      flushNow: async () => undefined,
    };
    return connection as unknown as RelayConnection;
  }
}
