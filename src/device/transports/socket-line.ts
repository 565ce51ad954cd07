/**
 * A line of a transport over a socket of Node.
 *
 * @module
 */
import type { Socket } from "node:net";
import { CLOSE_TIMEOUT } from "../limits.ts";
import type { LineEvents, OpenLine } from "./client-transport.ts";
import { type Dialler, dial } from "./dial.ts";
import type { Route } from "./route.ts";

/** How lines connect. */
export interface SocketWay {
  readonly route: Route;
  readonly ca: string | undefined;
  readonly dialler: Dialler;
}

/** Opens lines over sockets. */
export function socketLines({ route, ca, dialler }: SocketWay): OpenLine {
  return (events) => {
    const dialling = new AbortController();
    let socket: Socket | undefined;
    let isClosed = false;
    /** Output that waits for the connection. */
    let waiting: Uint8Array[] = [];
    let waitingOctets = 0;
    dial({ ...route, ca, dialler, signal: dialling.signal }).then(
      (connected) => {
        if (isClosed) {
          connected.on("error", () => undefined).destroy();
          return;
        }
        socket = connected;
        listen(socket, events);
        writeAll(socket, waiting);
        waiting = [];
        waitingOctets = 0;
        events.onConnected();
      },
      (error) => events.onEnd(error),
    );
    return {
      get queued() {
        return socket?.writableLength ?? waitingOctets;
      },
      write(octets) {
        if (socket !== undefined) {
          writeAll(socket, octets);
          return;
        }
        waiting.push(...octets);
        for (const piece of octets) waitingOctets += piece.length;
      },
      pause: () => void socket?.pause(),
      resume: () => void socket?.resume(),
      close() {
        isClosed = true;
        if (socket === undefined) dialling.abort();
        else endSoon(socket);
      },
    };
  };
}

function listen(socket: Socket, events: LineEvents): void {
  let failure: Error | undefined;
  socket.on("data", (octets: Buffer) => events.onData(octets));
  socket.on("drain", () => events.onDrain());
  socket.on("error", (error) => {
    failure = error;
  });
  socket.on("end", () => events.onEnd(failure));
  socket.on("close", () => events.onEnd(failure));
}

function writeAll(socket: Socket, octets: readonly Uint8Array[]): void {
  socket.cork();
  for (const piece of octets) socket.write(piece);
  socket.uncork();
}

/** Closes a socket once its output is sent, or after CLOSE_TIMEOUT (2 s) if the peer does not read. */
function endSoon(socket: Socket): void {
  socket.destroySoon();
  if (socket.destroyed) return;
  const timer = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT);
  timer.unref();
  socket.once("close", () => clearTimeout(timer));
}
