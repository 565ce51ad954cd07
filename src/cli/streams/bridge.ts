/**
 * Joins a stream to a TCP or unix socket, so that each end learns of half-close and reset as if they were one connection.
 * Neither side is read faster than the other takes.
 *
 * @module
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import type { DeviceStream } from "../../device/index.ts";
import { givenAway, isAlone } from "../../device/streams/device-stream.ts";
import { free } from "../../lib/octets.ts";
import type { Traffic } from "./stream-log.ts";

/**
 * Resolves when both are over. The socket must allow half-open connections.
 *
 * @param traffic counts what is carried
 */
export async function bridge(stream: DeviceStream, socket: Socket, traffic?: Traffic): Promise<void> {
  socket.setNoDelay(true);
  const lost = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  // Whichever side fails takes the other with it.
  socket.on("error", () => stream.reset());
  stream.closed.catch(() => resetSocket(socket));
  const counted: Traffic = traffic ?? { streams: 0, sent: 0, received: 0 };
  counted.streams += 1;
  await Promise.all([up(stream, socket, counted), down(stream, socket, counted)]);
  socket.destroySoon();
  await lost;
  counted.streams -= 1;
}

/** Ends a connection at once, so that its program sees an error. A unix socket has no reset: it sees the end. */
export function resetSocket(socket: Socket): void {
  if (isTcp(socket)) socket.resetAndDestroy();
  else socket.destroy();
}

function isTcp({ remoteFamily }: Socket): boolean {
  return remoteFamily !== undefined;
}

async function up(stream: DeviceStream, socket: Socket, traffic: Traffic): Promise<void> {
  const writer = stream.writable.getWriter();
  try {
    for await (const octets of socket.iterator({ destroyOnReturn: false })) {
      // Read before the bytes are given away.
      const { length } = octets as Uint8Array;
      await writer.write(givenAway(octets as Uint8Array));
      traffic.sent += length;
    }
    await writer.close();
  } catch {
    // The stream or the socket has failed, and the listeners above know.
    stream.reset();
    socket.destroy();
  }
}

async function down(stream: DeviceStream, socket: Socket, traffic: Traffic): Promise<void> {
  try {
    for await (const octets of stream.readable) {
      if (socket.destroyed) break;
      traffic.received += octets.length;
      if (!written(socket, octets)) await Promise.race([once(socket, "drain"), once(socket, "close")]);
    }
    socket.end();
  } catch {
    stream.reset();
    socket.destroy();
  }
}

/** Writes, and frees the memory when the system has it: the garbage collector would come too often for it. */
function written(socket: Socket, octets: Uint8Array): boolean {
  if (!isAlone(octets)) return socket.write(octets);
  return socket.write(octets, (error) => {
    if (error === undefined || error === null) free(octets.buffer);
  });
}
