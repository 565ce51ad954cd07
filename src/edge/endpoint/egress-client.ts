/**
 * Passes what a device sends on its channel to destinations to its Egress, the object that holds its TCP connections.
 * The bytes touch no mailbox. A call that takes longer than VOLATILE_TIMEOUT is given up, its batch is lost, and both ends
 * of the channel send it again.
 *
 * @module
 */
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { logError } from "../log.ts";
import { VOLATILE_TIMEOUT } from "../rpc/deadlines.ts";
import type { DevicePath, EgressRpc } from "../rpc/egress-rpc.ts";
import type { MessageBatch } from "../rpc/message-batch.ts";
import type { EndpointContext } from "./endpoint-context.ts";
import type { Streamed } from "./stream-peers.ts";

export class EgressClient {
  readonly #host: EndpointContext;
  readonly #generationOf: (peer: string) => Promise<number | undefined>;
  readonly #calls = new DeadlinePool(VOLATILE_TIMEOUT);
  /** The device's Egress, until a call fails: a new stub for each call costs as much as half a call. */
  #stub: DurableObjectStub<EgressRpc> | undefined;
  #path: DevicePath | undefined;

  /** @param generationOf of this connection's attachment to a mailbox; undefined if it does not consume it */
  constructor(host: EndpointContext, generationOf: (peer: string) => Promise<number | undefined>) {
    this.#host = host;
    this.#generationOf = generationOf;
  }

  /** Passes a batch of a device, given by its URL. Make one call at a time. */
  async pass(device: string, bundle: MessageBatch): Promise<Streamed> {
    const passing = this.#pass(device, bundle).catch((error: unknown): Streamed => {
      // Most likely the object was reset: the next one tells the device that its channel is unknown.
      logError(error);
      this.#stub = undefined;
      return "lost";
    });
    return (await this.#calls.within(passing))?.value ?? "late";
  }

  async #pass(device: string, bundle: MessageBatch): Promise<Streamed> {
    const { egress, name } = this.#host;
    const generation = await this.#generationOf(device);
    if (egress === undefined || generation === undefined) return "lost";
    const path = this.#pathOf({ tunnel: name, generation, principal: egress.bearer() });
    // It opens the WebSocket with the first batch. What is not answered when that ends is sent once more.
    if ((await egress.socket()?.pass(path, bundle)) !== undefined) return "passed";
    // Everything that one connection brings has one source.
    this.#stub ??= egress.object(device);
    await this.#stub.stream(path, bundle);
    return "passed";
  }

  /** The same object as long as nothing changes. */
  #pathOf(path: DevicePath): DevicePath {
    const last = this.#path;
    if (last?.generation === path.generation && last.principal === path.principal) return last;
    this.#path = path;
    return path;
  }
}
