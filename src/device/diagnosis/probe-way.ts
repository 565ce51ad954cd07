/**
 * Tries one way: opens the device's own transport, sends Connect as a device that does not exist, and waits for the
 * answer of the relay. A refusal is an answer, too: bytes have gone there and come back. No token is sent, and no
 * running device is disturbed.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { SEND_ONLY } from "../../store-and-forward/capabilities.ts";
import { openTransport } from "../transports/open-transport.ts";
import type { Proxies } from "../transports/proxy/proxy-settings.ts";
import { CAPABILITIES, type Transport, type Way } from "../transports/transport.ts";
import { Conversation } from "./conversation.ts";
import { failureOf } from "./failure.ts";
import type { Failure, WayObservation } from "./observations.ts";

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
  readonly #conversation: Conversation;
  seen: { readonly established?: number; readonly roundTrip?: number } = {};

  constructor(transport: Transport, { self, relay }: ProbeOptions) {
    this.#transport = transport;
    // A connection that takes no messages creates no mailbox.
    this.#conversation = new Conversation(transport, { self, relay, capabilities: SEND_ONLY });
  }

  /** Resolves with the failure, or with undefined once the relay has answered. */
  async run(): Promise<Failure | undefined> {
    const start = performance.now();
    this.#transport.established.then(
      () => {
        this.seen = { ...this.seen, established: performance.now() - start };
      },
      () => undefined,
    );
    try {
      await this.#conversation.begin();
      const asked = performance.now();
      if (!(await this.#isAnswered())) throw this.#conversation.loss;
      this.seen = { ...this.seen, roundTrip: performance.now() - asked };
      await this.#conversation.leave();
      return undefined;
    } catch (error) {
      return failureOf(error);
    }
  }

  /** Whether the relay has accepted or refused; false if the transport ended before. */
  async #isAnswered(): Promise<boolean> {
    for await (const { type } of this.#conversation.events()) {
      if (type === "connected" || type === "refused") return true;
    }
    return false;
  }
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
