/**
 * TCP connections to origin relays, dialled with a deadline. A channel reads one chunk ahead, and buffers no more.
 *
 * @module
 */

import { connect } from "cloudflare:sockets";
import { readSizes } from "../../lib/runtime/byte-reader.ts";
import { within } from "../../lib/runtime/timeout.ts";
import type { ByteChannel, Inflow } from "../byte-channel.ts";
import type { RelayEndpoint } from "../policy/relay-allow-list.ts";
import { DIAL_TIMEOUT } from "./limits.ts";

/**
 * Dials an origin relay.
 *
 * @param readSize the most that is read ahead, in bytes: the buffer for a slow device
 * @param patience time for the connection in milliseconds
 * @param secure uses TLS; the relay's certificate must be for `relay.hostname`
 * @returns undefined if the relay refuses, is unreachable, or does not answer in time
 */
export async function dial(
  relay: RelayEndpoint,
  readSize: number,
  patience: number = DIAL_TIMEOUT,
  secure = false,
): Promise<ByteChannel | undefined> {
  const socket = await connectWithin(relay, patience, secure);
  return socket && originOf(socket, readSize);
}

/**
 * Connects a socket whose two directions end by themselves, unless it uses TLS.
 *
 * @param patience time for the connection in milliseconds
 * @returns undefined if the other end refuses, is unreachable, or does not answer in time
 */
export async function connectWithin(
  { hostname, port }: RelayEndpoint,
  patience: number,
  secure = false,
): Promise<Socket | undefined> {
  // The relay's half-close must not cut off bytes of the device that are still in flight to it. TLS has no half-close.
  const socket = connect({ hostname, port }, { secureTransport: secure ? "on" : "off", allowHalfOpen: !secure });
  socket.closed.catch(() => undefined);
  try {
    if ((await within(patience, socket.opened)) === undefined) {
      abandon(socket);
      return undefined;
    }
  } catch {
    return undefined;
  }
  return socket;
}

function originOf(socket: Socket, readSize: number): ByteChannel {
  const writer = socket.writable.getWriter();
  writer.closed.catch(() => undefined);
  const reader = socket.readable.getReader({ mode: "byob" });
  reader.closed.catch(() => undefined);
  const over = new AbortController();
  let piped: Promise<void> = Promise.resolve();
  // Most channels are idle, and each holds a buffer.
  const sizes = readSizes(readSize);
  let ahead: Inflow | undefined;
  let reading: Promise<void> | undefined;

  async function read(): Promise<void> {
    try {
      const { value, done } = await reader.read(new Uint8Array(sizes.next));
      sizes.came(value?.length ?? 0);
      ahead =
        done || value === undefined ? { kind: "ended", reason: "OriginClosed" } : { kind: "octets", octets: value };
    } catch {
      ahead = { kind: "ended", reason: "OriginReset" };
    }
  }

  return {
    write: (octets) => writer.write(octets),
    ready() {
      if (ahead !== undefined) return Promise.resolve();
      reading ??= read().finally(() => {
        reading = undefined;
      });
      return reading;
    },
    peek: () => ahead,
    take(max) {
      const taken = ahead;
      if (taken?.kind !== "octets") return taken;
      if (taken.octets.length <= max) {
        ahead = undefined;
        return taken;
      }
      ahead = { kind: "octets", octets: taken.octets.subarray(max) };
      return { kind: "octets", octets: taken.octets.subarray(0, max) };
    },
    async pipeFrom(stream) {
      writer.releaseLock();
      const piping = stream.pipeTo(socket.writable, { preventClose: true, preventAbort: true, signal: over.signal });
      piped = piping.catch(() => undefined);
      await piping;
    },
    async pipeTo(stream) {
      await reading;
      if (ahead?.kind === "octets") {
        const first = stream.getWriter();
        await first.write(ahead.octets);
        first.releaseLock();
      }
      // From now on `take` returns nothing, and `ready` never resolves: the stream carries everything.
      ahead = undefined;
      reading = new Promise(() => undefined);
      reader.releaseLock();
      await socket.readable.pipeTo(stream);
    },
    close() {
      // A pipe into the socket must release it first; a pipe from the socket ends with it.
      over.abort();
      void piped.then(() => {
        // Closing the writable side first keeps close() from waiting for a relay that has stopped reading.
        const last = socket.writable.locked ? writer : socket.writable.getWriter();
        last.close().catch(() => undefined);
        abandon(socket);
      });
    },
  };
}

/** Closes a socket without waiting for it. */
function abandon(socket: Socket): void {
  socket.close().catch(() => undefined);
}
