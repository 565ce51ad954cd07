/**
 * A transport whose way is still to be found: asks for the ways, and opens the next one while none is established. What
 * is written meanwhile goes to each anew.
 *
 * @module
 */
import type { Lost } from "../../encapsulation/index.ts";
import { DeviceError } from "../device-error.ts";
import { type FailedWay, mayFollow, tellingError } from "./candidates.ts";
import { CAPABILITIES, type Capabilities, type Transport, type TransportName, type Way } from "./transport.ts";

export interface Attempts {
  /** Resolves with the ways to try, best first, at least one. */
  readonly find: () => Promise<readonly Way[]>;
  readonly open: (way: Way, signal: AbortSignal) => Promise<Transport>;
}

export class PendingTransport implements Transport {
  readonly name: TransportName;
  readonly capabilities: Capabilities;
  readonly established: Promise<void>;
  readonly answered: Promise<void>;
  readonly ended: Promise<void>;
  readonly #answer = Promise.withResolvers<void>();
  readonly #closing = new AbortController();
  /** Rejects when it is closed: what is asked for the ways may not answer. */
  readonly #closed = Promise.withResolvers<never>();
  /** What was written before a way was established. */
  #written: Uint8Array[] = [];
  /** The transport that is tried, and finally the one in use. */
  #current: Transport | undefined;
  #isEstablished = false;
  /** Settles when the transport has taken what was written before it was established. */
  #handed = Promise.resolve();
  #lost: Lost | undefined;
  #failure: DeviceError | undefined;

  constructor(name: TransportName, attempts: Attempts) {
    this.name = name;
    this.capabilities = CAPABILITIES[name];
    this.established = Promise.race([this.#establish(attempts), this.#closed.promise]);
    this.answered = this.#answer.promise;
    this.answered.catch(() => undefined);
    this.established.then(this.#answer.resolve, this.#answer.reject);
    this.ended = this.established.then(
      () => this.#current?.ended,
      () => undefined,
    );
  }

  get lost(): Lost | undefined {
    return this.#lost ?? (this.#isEstablished ? this.#current?.lost : undefined);
  }

  get failure(): DeviceError | undefined {
    return this.#failure ?? (this.#isEstablished ? this.#current?.failure : undefined);
  }

  get heardAt(): number {
    return this.#current?.heardAt ?? 0;
  }

  get remaining(): number {
    return this.#current?.remaining ?? Number.POSITIVE_INFINITY;
  }

  async read(): Promise<Uint8Array | undefined> {
    await this.established.catch(() => undefined);
    return this.#lost === undefined ? this.#current?.read() : undefined;
  }

  async write(octets: readonly Uint8Array[]): Promise<void> {
    if (this.#isEstablished) {
      await this.#current?.write(octets);
      return;
    }
    this.#written.push(...octets);
    // Some accept nothing before they are established, and some need data to establish.
    if (this.#current !== undefined) this.#hand(this.#current, octets);
    await this.established.catch(() => undefined);
    // Until the transport has taken them, the bytes must stay as they are.
    if (this.#isEstablished) await this.#handed;
  }

  close(): void {
    this.#closing.abort(closed());
    this.#closed.promise.catch(() => undefined);
    this.#closed.reject(closed());
    this.#current?.close();
    this.#lost ??= { type: "lost", reason: "ConnectionClosed", detail: "This side has closed the connection." };
  }

  #hand(transport: Transport, octets: readonly Uint8Array[]): void {
    const before = this.#handed;
    const handing = transport.write(octets).catch(() => undefined);
    this.#handed = before.then(() => handing);
  }

  async #establish({ find, open }: Attempts): Promise<void> {
    const failed: FailedWay[] = [];
    try {
      for (const way of await find()) {
        if (this.#closing.signal.aborted) throw closed();
        if (!mayFollow(failed, way)) continue;
        try {
          await this.#try(await open(way, this.#closing.signal));
          return;
        } catch (error) {
          failed.push({ error, way });
          if (this.#closing.signal.aborted) break;
        }
      }
      throw tellingError(failed);
    } catch (error) {
      const why =
        error instanceof DeviceError ? error : new DeviceError("ConnectFailed", String(error), { cause: error });
      this.#failure = why;
      this.#lost ??= { type: "lost", reason: "SessionEnded", detail: why.message };
      throw why;
    } finally {
      this.#written = [];
    }
  }

  async #try(transport: Transport): Promise<void> {
    if (this.#closing.signal.aborted) {
      transport.close();
      throw closed();
    }
    this.#current = transport;
    // What an earlier way has not taken goes to this one.
    this.#handed = Promise.resolve();
    if (this.#written.length > 0) this.#hand(transport, this.#written.slice());
    transport.answered.then(this.#answer.resolve, () => undefined);
    await transport.established;
    this.#isEstablished = true;
  }
}

function closed(): DeviceError {
  return new DeviceError("Closed", "the device was closed");
}
