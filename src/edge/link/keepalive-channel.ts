/**
 * Carries a link in KeepAlive, for origin relays that only HTTP reaches: runs the encapsulation's client over the
 * platform's sockets.
 *
 * @module
 */

import type { ClientOutput, ClientSessionName, EncapsulationClient } from "../../encapsulation/index.ts";
import { Condition } from "../../lib/condition.ts";
import { OctetQueue } from "../../lib/octet-queue.ts";
import { READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import type { ByteChannel, Inflow } from "../byte-channel.ts";
import { ENCAPSULATED_AHEAD } from "./limits.ts";

/** The byte channel of a link to its relay. */
export type Wire = Pick<ByteChannel, "write" | "ready" | "take" | "close"> & {
  /** Retry-After of a refusal by the relay or a proxy, in seconds. */
  readonly retryAfter?: number;
};

export class KeepAliveChannel implements Wire {
  readonly #client: EncapsulationClient;
  readonly #dial: () => Promise<Wire | undefined>;
  /** The sockets of the two requests. Writes wait until their socket is dialled. */
  readonly #sockets = new Map<ClientSessionName, Promise<Wire | undefined>>();
  readonly #inbox = new OctetQueue();
  #over = false;
  #retryAfter = 0;
  readonly #changed = new Condition();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param dial connects to the relay's HTTP port; resolves to undefined if that fails */
  constructor(client: EncapsulationClient, dial: () => Promise<Wire | undefined>) {
    this.#client = client;
    this.#dial = dial;
    this.#apply(client.start(Date.now()));
  }

  get retryAfter(): number {
    return this.#retryAfter;
  }

  async write(octets: Uint8Array): Promise<void> {
    if (!this.#over) this.#apply(this.#client.send(octets, Date.now()));
    while (!this.#over && this.#client.pending > ENCAPSULATED_AHEAD) await this.#changed.wait();
    if (this.#over) throw new Error("the virtual connection to the relay is over");
  }

  async ready(): Promise<void> {
    while (this.#inbox.length === 0 && !this.#over) await this.#changed.wait();
  }

  take(max: number): Inflow | undefined {
    const octets = this.#inbox.takePiece(max);
    if (octets === undefined) return this.#over ? { kind: "ended", reason: "OriginClosed" } : undefined;
    this.#changed.notifyAll();
    return { kind: "octets", octets };
  }

  close(): void {
    if (!this.#over) this.#apply(this.#client.close());
    this.#end();
  }

  #apply(outputs: readonly ClientOutput[]): void {
    for (const output of outputs) {
      switch (output.type) {
        case "open": {
          const socket = this.#dial();
          this.#sockets.set(output.session, socket);
          void this.#read(output.session, socket);
          break;
        }
        case "write": {
          const { session, octets } = output;
          void this.#sockets
            .get(session)
            ?.then(async (socket) => {
              for (const piece of octets) await socket?.write(piece);
            })
            .catch(() => undefined);
          break;
        }
        case "close": {
          const socket = this.#sockets.get(output.session);
          this.#sockets.delete(output.session);
          void socket?.then((open) => open?.close());
          break;
        }
        case "data":
          this.#inbox.push(output.data.slice());
          break;
        case "lost":
          this.#retryAfter = output.retryAfter ?? 0;
          this.#end();
          break;
      }
    }
    this.#changed.notifyAll();
    this.#setTimer();
  }

  /** Reads a request's socket to its end, no faster than the link takes the data. */
  async #read(session: ClientSessionName, dialling: Promise<Wire | undefined>): Promise<void> {
    const socket = await dialling.catch(() => undefined);
    const current = () => this.#sockets.get(session) === dialling;
    while (socket !== undefined && current()) {
      await socket.ready();
      while (this.#inbox.length > ENCAPSULATED_AHEAD && current()) await this.#changed.wait();
      const waiting = socket.take(READ_SIZE);
      if (waiting?.kind === "ended") break;
      if (waiting !== undefined && current()) this.#apply(this.#client.feed(session, waiting.octets, Date.now()));
    }
    if (!current()) return;
    this.#sockets.delete(session);
    this.#apply(this.#client.ended(session, Date.now()));
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    for (const socket of this.#sockets.values()) void socket.then((open) => open?.close());
    this.#sockets.clear();
    this.#changed.notifyAll();
  }

  #setTimer(): void {
    clearTimeout(this.#timer);
    const { deadline } = this.#client;
    if (this.#over || deadline === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(() => this.#apply(this.#client.expire(Date.now())), Math.max(0, deadline - Date.now()));
  }
}
