/**
 * Tries one way: opens the device's own transport, sends Connect as a device that does not exist, and waits for the
 * answer of the relay. A refusal is an answer, too: bytes have gone there and come back. No token is sent, and no
 * running device is disturbed.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { ConnectCloseReasonId, Connection, deviceURL, relayURL } from "../../sstp/index.ts";
import { DeviceError } from "../device-error.ts";
import { openTransport } from "../transports/open-transport.ts";
import type { Proxies } from "../transports/proxy/proxy-settings.ts";
import { CAPABILITIES, type Transport, type Way } from "../transports/transport.ts";
import { failureOf } from "./failure.ts";
import { FAREWELL } from "./limits.ts";
import type { WayObservation } from "./observations.ts";

export interface ProbeOptions {
  readonly edge: string | undefined;
  /** The relay that the way leads to, as it is named there. */
  readonly relay: string;
  readonly ca: string | undefined;
  readonly proxies: Proxies;
  /** The device that asks. */
  readonly self: { readonly identity: string; readonly device: string };
  /** Milliseconds. */
  readonly timeout: number;
  readonly signal: AbortSignal;
}

/**
 * Tries a way.
 *
 * @throws the reason of an aborted signal, and nothing else
 */
export async function probeWay(way: Way, options: ProbeOptions): Promise<WayObservation> {
  const { signal, timeout } = options;
  signal.throwIfAborted();
  let transport: Transport;
  try {
    const { edge, relay, ca, proxies } = options;
    transport = openTransport({ transport: way.transport, way, relay, edge, ca, proxies });
  } catch (error) {
    return { way, failure: failureOf(error) };
  }
  const probe = new Probe(transport, options);
  const stop = () => transport.close();
  signal.addEventListener("abort", stop, { once: true });
  try {
    const ended = await within(timeout, probe.run());
    // Silence is no failure of the transport, whose own deadlines are longer.
    return { way, ...probe.seen, ...(ended !== undefined && { failure: ended.value }) };
  } finally {
    signal.removeEventListener("abort", stop);
    transport.close();
    signal.throwIfAborted();
  }
}

class Probe {
  readonly #transport: Transport;
  readonly #engine: Connection;
  readonly #relay: string;
  seen: { readonly established?: number; readonly roundTrip?: number } = {};

  constructor(transport: Transport, { self, relay }: ProbeOptions) {
    this.#transport = transport;
    this.#relay = relay;
    const now = performance.now();
    this.#engine = new Connection({ role: "client", outbound: true, localDeviceURLs: [deviceURL(self)], now });
  }

  /** Resolves with the failure, or with undefined once the relay has answered. */
  async run() {
    const start = performance.now();
    const { established } = this.#transport;
    const isEstablished = established.then(() => {
      this.seen = { ...this.seen, established: performance.now() - start };
    });
    isEstablished.catch(() => undefined);
    try {
      // Polling is established by its first data.
      if (this.#transport.name !== "polling") await isEstablished;
      this.#engine.connect(relayURL(this.#relay), new Uint8Array());
      const asked = performance.now();
      await this.#flush();
      if (!(await this.#answered())) throw this.#transport.failure ?? closed();
      this.seen = { ...this.seen, roundTrip: performance.now() - asked };
      await this.#leave();
      return undefined;
    } catch (error) {
      return failureOf(error);
    }
  }

  async #flush(): Promise<void> {
    const blocks = this.#engine.output(performance.now());
    if (blocks.length > 0) await this.#transport.write(blocks);
  }

  /** Whether the relay has accepted or refused; false if the transport ended, or what came is no SSTP. */
  async #answered(): Promise<boolean> {
    for (;;) {
      const octets = await this.#transport.read();
      if (octets === undefined) return false;
      const events = this.#engine.receive(octets, performance.now());
      if (events.some(({ type }) => type === "connected" || type === "refused")) return true;
      if (this.#engine.closed !== undefined) throw new DeviceError("NotAnEdge", "the answer is no SSTP");
    }
  }

  /** Leaves nothing behind at the edge: says that the connection ends, and waits for the other side to end it. */
  async #leave(): Promise<void> {
    if (this.#engine.closed === undefined) this.#engine.close(ConnectCloseReasonId.Resting);
    await within(
      FAREWELL,
      this.#flush().then(() => this.#drained()),
    );
  }

  async #drained(): Promise<void> {
    while ((await this.#transport.read()) !== undefined) {
      // What comes now answers nothing.
    }
  }
}

function closed(): DeviceError {
  return new DeviceError("ConnectFailed", "the connection was closed without an answer");
}

/** The name of the relay at the end of a way. */
export function relayOf(
  way: Way,
  { edge, relay }: { readonly edge: string | undefined; readonly relay: string | undefined },
): string {
  // The edge itself is the relay of its own ways.
  const own = edge === undefined ? undefined : new URL(edge).hostname;
  return (CAPABILITIES[way.transport].carriesToken ? own : relay) ?? "";
}
