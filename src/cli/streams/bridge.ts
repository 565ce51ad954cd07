/**
 * Joins a stream to a TCP or unix socket, so that each end learns of half-close and reset as if they were one connection.
 * Neither side is read faster than the other takes.
 *
 * @module
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import type { DeviceStream } from "../../device/index.ts";

/** Resolves when both are over. The socket must allow half-open connections. */
export async function bridge(stream: DeviceStream, socket: Socket): Promise<void> {
  socket.setNoDelay(true);
  const lost = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  // Whichever side fails takes the other with it.
  socket.on("error", () => stream.reset());
  stream.closed.catch(() => socket.resetAndDestroy());
  await Promise.all([up(stream, socket), down(stream, socket)]);
  socket.destroySoon();
  await lost;
}

async function up(stream: DeviceStream, socket: Socket): Promise<void> {
  const writer = stream.writable.getWriter();
  try {
    for await (const octets of socket.iterator({ destroyOnReturn: false })) await writer.write(octets as Uint8Array);
    await writer.close();
  } catch {
    // The stream or the socket has failed, and the listeners above know.
    stream.reset();
    socket.destroy();
  }
}

async function down(stream: DeviceStream, socket: Socket): Promise<void> {
  try {
    for await (const octets of stream.readable) {
      if (socket.destroyed) break;
      if (!socket.write(octets)) await Promise.race([once(socket, "drain"), once(socket, "close")]);
    }
    socket.end();
  } catch {
    stream.reset();
    socket.destroy();
  }
}
