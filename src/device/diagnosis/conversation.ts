/**
 * SSTP over one transport, as far as a diagnosis needs it: says Connect, hands out what comes, and leaves.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { ConnectCloseReasonId, Connection, type ConnectionEvent, deviceURL, relayURL } from "../../sstp/index.ts";
import { DeviceError } from "../device-error.ts";
import type { Transport } from "../transports/transport.ts";
import { FAREWELL } from "./limits.ts";

export interface Speaker {
  /** The name of the relay. */
  readonly relay: string;
  readonly self: { readonly identity: string; readonly device: string };
  /** What this side says of itself. Default: nothing. */
  readonly capabilities?: string | undefined;
}

export class Conversation {
  readonly engine: Connection;
  readonly #transport: Transport;
  readonly #relay: string;
  #flushing = Promise.resolve();

  constructor(transport: Transport, { relay, self, capabilities }: Speaker) {
    this.#transport = transport;
    this.#relay = relay;
    this.engine = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: [deviceURL(self)],
      now: performance.now(),
      ...(capabilities !== undefined && { capabilities }),
    });
  }

  /** Says Connect, once the transport is established. */
  async begin(): Promise<void> {
    // Polling is established by its first data.
    if (this.#transport.name !== "polling") await this.#transport.established;
    this.engine.connect(relayURL(this.#relay), new Uint8Array());
    this.#send();
  }

  /**
   * Yields the events of the engine until the connection ends; what they cause is sent.
   *
   * @throws DeviceError NotAnEdge if what comes is no SSTP
   */
  async *events(): AsyncGenerator<ConnectionEvent, void, void> {
    for (;;) {
      const octets = await this.#transport.read();
      if (octets === undefined) return;
      for (const event of this.engine.receive(octets, performance.now())) {
        if (event.type === "closed" && event.by === "self") throw new DeviceError("NotAnEdge", "the answer is no SSTP");
        yield event;
      }
      this.#send();
    }
  }

  /** Sends without waiting. What fails ends the transport, which reading tells. */
  #send(): void {
    this.flush().catch(() => undefined);
  }

  /** Sends the engine's output. Resolves when the transport accepts more. */
  flush(): Promise<void> {
    this.#flushing = this.#flushing.then(async () => {
      for (;;) {
        const blocks = this.engine.output(performance.now());
        if (blocks.length === 0) return;
        await this.#transport.write(blocks);
      }
    });
    return this.#flushing;
  }

  /** Leaves nothing behind: says that the connection ends, and waits for the other side to end it. */
  async leave(): Promise<void> {
    if (this.engine.closed === undefined) this.engine.close(ConnectCloseReasonId.Resting);
    await within(
      FAREWELL,
      this.flush().then(() => this.#drained()),
    );
  }

  async #drained(): Promise<void> {
    while ((await this.#transport.read()) !== undefined) {
      // What comes now answers nothing.
    }
  }

  /** Why the transport has ended. */
  get loss(): DeviceError {
    const { failure } = this.#transport;
    return failure ?? new DeviceError("ConnectFailed", "the connection was closed without an answer");
  }
}
