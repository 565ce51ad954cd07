/** Edges, origin relays that stop and restart, and devices on both sides, for the tests of links. */

import { freePort } from "../../../src/cli/local-edge/listening-address.ts";
import type { LocalEdgeOptions } from "../../../src/cli/local-edge/local-edge.ts";
import { Device, type DeviceOptions, type TransportName } from "../../../src/device/index.ts";
import type { LinkStatus } from "../../../src/edge/rpc/link-rpc.ts";
import { type Relay, type RelayOptions, startRelay } from "../../../src/relay/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { startEdge, until } from "../mailbox/support.ts";

export interface Context {
  after(run: () => Promise<unknown>): void;
}

/**
 * An origin relay named by its address and port. The port is unlikely to be taken while the relay is down, so that it
 * can restart, and clients that still look for it disturb no other test.
 */
export async function originRelay(
  t: Context,
  options: Pick<RelayOptions, "store" | "port" | "quota"> = {},
): Promise<Relay> {
  const relay = await startRelay({ port: await freePort("127.0.0.1", 0), names: ["127.0.0.1"], ...options });
  t.after(() => relay.close());
  return relay;
}

/** An edge named localhost that may link to relays at `127.0.0.1:port`. */
export async function edgeFor(
  t: Context,
  ports: readonly number[],
  options: Partial<LocalEdgeOptions> = {},
): Promise<InspectedEdge> {
  const relayAllow = ports.map((port) => `127.0.0.1:${port}`);
  const edge = await startEdge(t, { relayAllow, relayName: "localhost", ...options });
  return { ...edge, url: edge.url.replace("127.0.0.1", "localhost") };
}

export async function atEdge(
  t: Context,
  edge: InspectedEdge,
  address: string,
  transport: TransportName = "websocket",
  options: Partial<DeviceOptions> = {},
): Promise<Device> {
  const device = await Device.connect({ edge: edge.url, address, transport, ...options });
  t.after(() => device.close());
  return device;
}

export async function atRelay(
  t: Context,
  port: number,
  address: string,
  options: Partial<DeviceOptions> = {},
): Promise<Device> {
  const device = await Device.connect({ relay: `127.0.0.1:${port}`, address, transport: "tcp", ...options });
  t.after(() => device.close());
  return device;
}

export interface LinkStub {
  status(): Promise<LinkStatus>;
  renew(): Promise<unknown>;
}

/** As soon as the Link to a relay on a port of this machine is up: before that the relay does not know the edge. */
export function linked(edge: InspectedEdge, port: number): Promise<void> {
  return until("the link is up", async () => (await (await linkOf(edge, port)).status()).connected);
}

/** The Link to a relay on a port of this machine. */
export function linkOf(edge: InspectedEdge, port: number): Promise<LinkStub> {
  return objectOf(edge.miniflare, "LINK", `grooveDNS://127.0.0.1:${port}`);
}
