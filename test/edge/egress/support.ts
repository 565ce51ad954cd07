/** Devices and TCP services at both ends of an edge that dials. */
import type { Socket } from "node:net";
import type { TestContext } from "node:test";
import type { LocalEdgeOptions } from "../../../src/cli/local-edge/local-edge.ts";
import {
  type Device,
  type DeviceOptions,
  type DeviceStream,
  MemoryKeyring,
  StreamError,
  type TransportName,
} from "../../../src/device/index.ts";
import type { EgressStatus } from "../../../src/edge/rpc/egress-rpc.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { listen, RawSocket } from "../../support/sockets.ts";
import { connect, startEdge } from "../mailbox/support.ts";

/** Every port of this address, and of no other. */
export const LISTED = "127.0.0.1:1024-65535";

export function startDialling(
  context: { after(run: () => Promise<unknown>): void },
  options: Partial<LocalEdgeOptions> = {},
): Promise<InspectedEdge> {
  return startEdge(context, { streamAllow: [LISTED], ...options });
}

export function dialler(
  edge: InspectedEdge,
  address: string,
  transport: TransportName = "websocket",
  options: Partial<DeviceOptions> = {},
): Promise<Device> {
  return connect(edge, address, transport, { keyring: new MemoryKeyring(), receive: "streams", ...options });
}

export interface Service {
  /** `host:port`. */
  readonly at: string;
  /** The next connection that comes. */
  next(): Promise<Socket>;
}

/** A TCP service. Without `serve` its connections are only kept. */
export async function service(t: TestContext, serve: (socket: Socket) => void = () => undefined): Promise<Service> {
  const came: Socket[] = [];
  let wake: (() => void) | undefined;
  const server = await listen((socket) => {
    serve(socket);
    came.push(socket);
    wake?.();
  });
  t.after(() => server.close());
  return {
    at: `127.0.0.1:${server.port}`,
    async next() {
      for (;;) {
        const socket = came.shift();
        if (socket !== undefined) return socket;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

export function echo(socket: Socket): void {
  socket.pipe(socket);
}

/** A stream to a service of its own, and the connection that has come there. */
export async function joined(
  t: TestContext,
  device: Device,
): Promise<{ readonly stream: DeviceStream; readonly socket: Socket; readonly raw: RawSocket }> {
  const { at, next } = await service(t);
  const [stream, socket] = await Promise.all([device.dialOrigin(at), next()]);
  return { stream, socket, raw: new RawSocket(socket) };
}

/** The error of a stream that was reset for a reason. */
export function isReset(reason: string): (error: unknown) => boolean {
  return (error) => error instanceof StreamError && error.reason === reason;
}

export interface EgressStub {
  status(): Promise<EgressStatus>;
}

/** Writes a text to a stream, and resolves when its echo is complete. */
export async function isEchoed(stream: DeviceStream, text: string): Promise<boolean> {
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  await writer.write(Buffer.from(text));
  let got = "";
  while (got.length < text.length) {
    const { value, done } = await reader.read();
    if (done) break;
    got += Buffer.from(value).toString();
  }
  writer.releaseLock();
  reader.releaseLock();
  return got === text;
}
