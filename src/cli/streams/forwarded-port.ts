/**
 * Ports of this machine at which programs reach services of other devices.
 *
 * @module
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { type Device, DeviceError, type DeviceStream } from "../../device/index.ts";
import { visible } from "../../lib/printable.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { CommandError } from "../command-error.ts";
import { withCode } from "../error-line.ts";
import { codeOf } from "../files/file-system.ts";
import { bridge, resetSocket } from "./bridge.ts";
import { type Endpoint, endpointText, type ForwardTarget, targetText } from "./stream-address.ts";
import type { StreamLog } from "./stream-log.ts";

/**
 * How long a new connection waits for the other device, in milliseconds: longer than the handshake of their channel, 45 s,
 * which says why it failed.
 */
const DIAL_TIMEOUT = 50_000;

/** How long it waits while this device is not connected, in milliseconds: programs get a reset within 5 s. */
export const OFFLINE_TIMEOUT = 4_000;

/** How often it is looked whether this device is connected, in milliseconds. */
const LOOK = 250;

/** Programs that are connected at a time: as many as a device has streams. */
const CONNECTIONS = 1024;

/** Dials services, also before the device has connected for the first time. */
export class Dialer {
  readonly #connected = Promise.withResolvers<Device>();

  /** Dials with this device from now on. */
  attach(device: Device): void {
    this.#connected.resolve(device);
  }

  /** @throws DeviceError */
  async dial(target: ForwardTarget, signal: AbortSignal): Promise<DeviceStream> {
    const first = await within(OFFLINE_TIMEOUT, this.#connected.promise);
    if (first === undefined) throw notConnected(target);
    const device = first.value;
    // The signal ends with the dialing: the stream goes on.
    const dialing = new AbortController();
    let failure: DeviceError | undefined;
    const giveUp = (error?: DeviceError) => {
      failure = error;
      dialing.abort();
    };
    const onAbort = () => giveUp();
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    const began = performance.now();
    let connectedAt = began;
    const looking = setInterval(() => {
      const now = performance.now();
      if (device.isConnected) connectedAt = now;
      if (now - connectedAt >= OFFLINE_TIMEOUT) giveUp(notConnected(target));
      else if (now - began >= DIAL_TIMEOUT) {
        const who = "origin" in target ? "the edge" : target.address;
        const cure = "origin" in target ? "try again later" : "see what grooveway expose prints there";
        const text = `${targetText(target)}: ${who} has not answered: ${cure}`;
        giveUp(new DeviceError("ConnectFailed", text));
      }
    }, LOOK);
    try {
      const { signal } = dialing;
      if ("origin" in target) return await device.dialOrigin(target.origin, { signal });
      return await device.dial(target.address, target.service, { signal });
    } catch (error) {
      throw failure ?? error;
    } finally {
      clearInterval(looking);
      signal.removeEventListener("abort", onAbort);
    }
  }
}

interface PortOptions {
  readonly at: Endpoint;
  readonly target: ForwardTarget;
  readonly dialer: Dialer;
  readonly log: StreamLog;
}

export class ForwardedPort {
  /** Where it listens; the port is never 0. */
  readonly at: Endpoint;
  readonly target: ForwardTarget;
  readonly #server: Server;
  readonly #sockets: ReadonlySet<Socket>;

  private constructor(at: Endpoint, target: ForwardTarget, server: Server, sockets: ReadonlySet<Socket>) {
    this.at = at;
    this.target = target;
    this.#server = server;
    this.#sockets = sockets;
  }

  /**
   * Listens, and connects each program that comes to the service.
   *
   * @throws CommandError PortTaken, CannotListen
   */
  static async open({ at, target, dialer, log }: PortOptions): Promise<ForwardedPort> {
    const sockets = new Set<Socket>();
    // Nothing is read before the other device has accepted.
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      void forward(socket, { target, dialer, log });
    });
    server.maxConnections = CONNECTIONS;
    await listen(server, at);
    const bound = server.address();
    const isTcp = !("path" in at) && bound !== null && typeof bound !== "string";
    return new ForwardedPort(isTcp ? { host: at.host, port: bound.port } : at, target, server, sockets);
  }

  /** Listens no more, and resets its connections. */
  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) resetSocket(socket);
  }
}

async function listen(server: Server, at: Endpoint): Promise<void> {
  try {
    if ("path" in at) listenOnPath(server, at.path);
    else server.listen({ host: at.host, port: at.port });
    await once(server, "listening");
  } catch (error) {
    const code = codeOf(error);
    const where = visible(endpointText(at));
    if (code === "EADDRINUSE")
      throw new CommandError("PortTaken", `${where} is taken by another program: choose another`);
    throw new CommandError("CannotListen", `cannot listen on ${where} (${code ?? error}): choose another`);
  }
}

/** Only this user may use the socket. */
function listenOnPath(server: Server, path: string): void {
  // The file is made within the call. The mask is the whole process's, which must not keep it.
  const mask = process.umask(0o177);
  try {
    server.listen({ path });
  } finally {
    process.umask(mask);
  }
}

async function forward(socket: Socket, { target, dialer, log }: Omit<PortOptions, "at">): Promise<void> {
  const gone = new AbortController();
  const onGone = () => gone.abort();
  socket.once("close", onGone);
  socket.on("error", onGone);
  let stream: DeviceStream;
  try {
    stream = await dialer.dial(target, gone.signal);
  } catch (error) {
    if (!gone.signal.aborted) {
      log.tell(error instanceof DeviceError ? withCode(error.message, error.code) : String(error), "not-connected");
    }
    resetSocket(socket);
    return;
  }
  void log.tellReset(targetText(target), stream);
  if (socket.destroyed) stream.reset();
  else await bridge(stream, socket, log.traffic);
}

function notConnected(target: ForwardTarget): DeviceError {
  const text = `${targetText(target)}: this device is not connected to its edge: try again when it is`;
  return new DeviceError("ConnectFailed", text);
}
