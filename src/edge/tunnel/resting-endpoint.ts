/**
 * The endpoint of a Tunnel that has woken. It is restored only when something is to be done with it: an idle device that
 * asks again every minute has nothing for it.
 *
 * @module
 */
import type { ByteChannel, Inflow } from "../byte-channel.ts";
import type { SstpEndpoint, SstpEndpointSnapshot } from "../endpoint/sstp-endpoint.ts";

export class RestingEndpoint implements ByteChannel {
  readonly snapshot: SstpEndpointSnapshot;
  readonly #restore: (snapshot: SstpEndpointSnapshot) => SstpEndpoint;
  readonly #woken = Promise.withResolvers<SstpEndpoint>();
  #endpoint: SstpEndpoint | undefined;

  /** @param restore may throw, if the snapshot cannot be used */
  constructor(snapshot: SstpEndpointSnapshot, restore: (snapshot: SstpEndpointSnapshot) => SstpEndpoint) {
    this.snapshot = snapshot;
    this.#restore = restore;
  }

  /** Whether it is as it was saved. */
  get rests(): boolean {
    return this.#endpoint === undefined;
  }

  /** Restores it, the first time. */
  wake(): SstpEndpoint {
    this.#endpoint ??= this.#restore(this.snapshot);
    this.#woken.resolve(this.#endpoint);
    return this.#endpoint;
  }

  write(octets: Uint8Array): Promise<void> {
    return this.wake().write(octets);
  }

  /** A saved endpoint has no output. */
  async ready(): Promise<void> {
    const endpoint = this.#endpoint ?? (await this.#woken.promise);
    return endpoint.ready();
  }

  peek(): Inflow | undefined {
    return this.#endpoint?.peek();
  }

  take(max: number): Inflow | undefined {
    return this.#endpoint?.take(max);
  }

  pipeFrom(stream: ReadableStream<Uint8Array>): Promise<void> {
    return this.wake().pipeFrom(stream);
  }

  pipeTo(stream: WritableStream<Uint8Array>): Promise<void> {
    return this.wake().pipeTo(stream);
  }

  close(): void {
    this.wake().close();
  }
}
