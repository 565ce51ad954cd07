/** Edges, origin relays that come and go, and devices on both sides, for the tests of links. */

import type { LocalEdge, LocalEdgeOptions } from "../../../src/cli/local-edge/local-edge.ts";
import { freePort } from "../../../src/cli/local-edge/workerd-socket.ts";
import { Device, type DeviceOptions, type TransportName } from "../../../src/device/index.ts";
import type { LinkStatus } from "../../../src/edge/rpc/link-rpc.ts";
import { type Relay, startRelay } from "../../../src/relay/index.ts";
import { startEdge } from "../mailbox/support.ts";

export interface Context {
  after(run: () => Promise<unknown>): void;
}

/**
 * An origin relay; the name that it goes by is its address and port. While it is away nobody is likely to take the port,
 * so that it can come back, and whoever still looks for it disturbs no other test.
 */
export async function originRelay(t: Context, options: { store?: string; port?: number } = {}): Promise<Relay> {
  const relay = await startRelay({ port: await freePort("127.0.0.1", 0), names: ["127.0.0.1"], ...options });
  t.after(() => relay.close());
  return relay;
}

/** An edge by the name localhost, which may link to relays by `127.0.0.1:port`. */
export async function edgeFor(
  t: Context,
  ports: readonly number[],
  options: Partial<LocalEdgeOptions> = {},
): Promise<LocalEdge> {
  const relayAllow = ports.map((port) => `127.0.0.1:${port}`);
  const edge = await startEdge(t, { relayAllow, relayName: "localhost", ...options });
  return { ...edge, url: edge.url.replace("127.0.0.1", "localhost") };
}

export async function atEdge(
  t: Context,
  edge: LocalEdge,
  address: string,
  transport: TransportName = "websocket",
  options: Partial<DeviceOptions> = {},
): Promise<Device> {
  const device = await Device.connect({ edge: edge.url, address, transport, ...options });
  t.after(() => device.close());
  return device;
}

export async function atRelay(t: Context, port: number, address: string): Promise<Device> {
  const device = await Device.connect({ relay: `127.0.0.1:${port}`, address, transport: "tcp" });
  t.after(() => device.close());
  return device;
}

export interface LinkStub {
  status(): Promise<LinkStatus>;
  renew(): Promise<unknown>;
}

/** The Link to a relay on a port of this machine. */
export async function linkOf(edge: LocalEdge, port: number): Promise<LinkStub> {
  const namespace = await edge.miniflare.getDurableObjectNamespace("LINK");
  return namespace.get(namespace.idFromName(`grooveDNS://127.0.0.1:${port}`)) as unknown as LinkStub;
}
