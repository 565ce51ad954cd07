/**
 * The edge's TCP connection to an origin relay: dialled with a deadline, read one chunk ahead, never buffered beyond it.
 *
 * @module
 */

import { connect } from "cloudflare:sockets";
import type { ByteChannel, Inflow } from "../byte-channel.ts";
import type { RelayEndpoint } from "../policy/relay-allow-list.ts";
import { DIAL_TIMEOUT } from "./limits.ts";

/**
 * Dials an origin relay.
 *
 * @param readSize the most that is read ahead, in octets: the bound of what is kept for a device that does not read
 * @param patience milliseconds until it counts as not answering
 * @param secure speaks TLS with the relay, whose certificate must be for `relay.hostname`
 * @returns undefined when the relay refuses, cannot be reached, or does not answer in time
 */
export async function dial(
  relay: RelayEndpoint,
  readSize: number,
  patience: number = DIAL_TIMEOUT,
  secure = false,
): Promise<ByteChannel | undefined> {
  // The relay's half-close must not cut what the device still has on its way to it. TLS has no half-close.
  const socket = connect(
    { hostname: relay.hostname, port: relay.port },
    { secureTransport: secure ? "on" : "off", allowHalfOpen: !secure },
  );
  socket.closed.catch(() => undefined);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), patience);
  });
  try {
    if ((await Promise.race([socket.opened, late])) === "late") {
      abandon(socket);
      return undefined;
    }
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
  return originOf(socket, readSize);
}

function originOf(socket: Socket, readSize: number): ByteChannel {
  const writer = socket.writable.getWriter();
  writer.closed.catch(() => undefined);
  const reader = socket.readable.getReader({ mode: "byob" });
  reader.closed.catch(() => undefined);
  const over = new AbortController();
  let piped: Promise<void> = Promise.resolve();
  let ahead: Inflow | undefined;
  let reading: Promise<void> | undefined;

  async function read(): Promise<void> {
    try {
      const { value, done } = await reader.read(new Uint8Array(readSize));
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
      // Nobody takes from here any more.
      ahead = undefined;
      reading = new Promise(() => undefined);
      reader.releaseLock();
      await socket.readable.pipeTo(stream);
    },
    close() {
      // A stream that is being written has to let go of the socket first; one that is being read ends with it.
      over.abort();
      void piped.then(() => {
        // With its writing side closing, the socket does not wait until a relay that has stopped reading takes the rest.
        const last = socket.writable.locked ? writer : socket.writable.getWriter();
        last.close().catch(() => undefined);
        abandon(socket);
      });
    },
  };
}

/** Nobody waits for the end of a socket. */
function abandon(socket: Socket): void {
  socket.close().catch(() => undefined);
}
