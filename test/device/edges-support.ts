/** Scripted relays in the place of edges, for devices with several of them. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { PortableDevice } from "../../src/device/device.ts";
import type { DeviceOptions, EdgeOption, TransportOptions } from "../../src/device/index.ts";
import { openTransport } from "../../src/device/index.ts";
import type { Platform } from "../../src/device/platform.ts";
import type { Transport, Way } from "../../src/device/transports/transport.ts";
import { type Link, type Script, ScriptedRelay } from "./support.ts";

/** A device whose edges are relays on this machine, reached by TCP. */
class DeviceOfEdges extends PortableDevice {
  static async connect(options: DeviceOptions, platform: Platform): Promise<DeviceOfEdges> {
    const device = new DeviceOfEdges(options, platform);
    await device.start();
    return device;
  }
}

export class Edges {
  readonly relays: readonly ScriptedRelay[];
  /** How each connection was opened, in order. */
  readonly opened: TransportOptions[] = [];
  /** What the device has reported about edges: `lost 0`, `gone 1 AddressInUse`. */
  readonly told: string[] = [];
  /** Key of the network that the device is in. */
  network = "";
  /** The ways of a device that chooses its transport. */
  ways: readonly Way[] = [];
  /** Opens a transport in place of the relay's; undefined for that. */
  onOpen: (options: TransportOptions) => Transport | undefined = () => undefined;
  readonly #t: TestContext;

  private constructor(t: TestContext, relays: readonly ScriptedRelay[]) {
    this.#t = t;
    this.relays = relays;
  }

  static async start(t: TestContext, count: number, script: Partial<Script> = {}): Promise<Edges> {
    return new Edges(t, await Promise.all(Array.from({ length: count }, () => ScriptedRelay.start(t, script))));
  }

  relay(index: number): ScriptedRelay {
    const relay = this.relays[index];
    if (relay === undefined) throw new Error(`there is no relay ${index}`);
    return relay;
  }

  url(index: number): string {
    return `http://127.0.0.1:${this.relay(index).port}`;
  }

  /** The connection to an edge, the n-th from 0, once its account is attached. */
  link(index: number, n = 0): Promise<Link> {
    return this.relay(index).link(n);
  }

  /** Refuses connections to an edge from now on, and cuts those that there are. */
  close(index: number): void {
    const relay = this.relay(index);
    relay.onLink = ({ socket }) => socket.destroy();
    for (const { socket } of relay.links) socket.destroy();
  }

  open(index: number): void {
    this.relay(index).onLink = () => undefined;
  }

  /** A device of all edges, closed at the end of the test. */
  async device(address: string, options: Partial<DeviceOptions> = {}): Promise<DeviceOfEdges> {
    const edge: readonly EdgeOption[] = this.relays.map((_, index) => this.url(index));
    const indexOf = (url: string) => this.relays.findIndex(({ port }) => url.includes(String(port)));
    const device = await DeviceOfEdges.connect(
      {
        address,
        edge,
        transport: "tcp",
        onReconnect: ({ message }) => this.told.push(`lost ${indexOf(message.split(": ")[0] ?? "")}`),
        onEdgeLost: (url, { code }) => this.told.push(`gone ${indexOf(url)} ${code}`),
        ...options,
      },
      {
        open: (transport) => {
          this.opened.push(transport);
          const scripted = this.onOpen(transport);
          if (scripted !== undefined) return scripted;
          const { port } = new URL(transport.edge ?? "");
          return openTransport({ ...transport, edge: undefined, relay: `127.0.0.1:${port}` });
        },
        ways: () => Promise.resolve(this.ways),
        network: () => this.network,
        streams: () => assert.fail("these devices have no keyring"),
      },
    );
    this.#t.after(() => device.close());
    return device;
  }
}

export const textsOf = (messages: readonly { readonly body: Uint8Array }[]) =>
  messages.map(({ body }) => new TextDecoder().decode(body));
