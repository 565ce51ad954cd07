/**
 * Passes what a device or relay streams to devices straight to their Tunnels, or to the Link of their relay.
 *
 *   device ─► InboundMessages, one batch at a time per destination ─► Tunnel of the peer (consumer-path.ts) ─► its device
 *                  └─ who is attached? asked once ─► Mailbox of the peer (`attached`)
 *
 *   device ─► InboundMessages ─► Link of the other relay (`stream`) ─► relay ─► device there
 *                  └─ asked once ─► Mailbox of the relay, which has the Link connected
 *
 * The mailbox only says who consumes it, with the generation that fences the answer. The answer is cached here, until
 * the consumer says that it no longer consumes the mailbox, or for {@link ATTACHED_TIME}, so that a lock or a rule of the
 * mailbox's owner takes effect. The bytes touch neither the mailbox nor SQLite, and are not parsed.
 *
 * A call to a consumer resolves when that has room for the batch: it slows the sender down. Nothing waits for ever: a
 * call that takes longer than VOLATILE_TIMEOUT is given up, its batch is lost, and the destination is skipped for a
 * while, so that a device waits for a hung one only once. Both ends of a channel notice what is lost and send it again.
 *
 * @module
 */
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { logError } from "../log.ts";
import { HUNG_TIME } from "../mailbox/limits.ts";
import { VOLATILE_TIMEOUT } from "../rpc/deadlines.ts";
import type { Unreachable } from "../rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../rpc/message-batch.ts";
import { ConsumerPath } from "./consumer-path.ts";
import type { EndpointContext } from "./endpoint-context.ts";
import { ATTACHED_TIME, LINK_SESSIONS, STALLED_PAUSE, STREAM_PEERS } from "./limits.ts";

/** `late`: nothing has answered in time, so what waits behind the batch is lost as well. */
export type Streamed = "passed" | "lost" | "late" | "locked" | Unreachable;

/** Where a batch goes. */
export interface StreamDestination {
  /** Identifies it: the mailbox of a device here, or a device behind a relay. */
  readonly key: string;
  /** Name of the mailbox whose consumer takes it. */
  readonly peer: string;
  /** Device URL of the sender. */
  readonly source: string;
}

/** The object that consumes a mailbox. */
interface Consumer {
  readonly generation: number;
  readonly path: ConsumerPath;
}

/** What is known of a destination. */
interface Known {
  /** The consumer of its mailbox; undefined: to be asked. */
  attached: Consumer | undefined;
  /** The object to which streams last went, by name. */
  path: { readonly name: string; readonly to: ConsumerPath } | undefined;
  /** From when on `attached` is out of date. */
  until: number;
  /** The destination is skipped until this time. */
  skippedUntil: number;
  /** Messages lost because it was slow, reported to its mailbox with the next question. */
  slow: number;
}

export class StreamPeers {
  readonly #host: EndpointContext;
  readonly #calls = new DeadlinePool(VOLATILE_TIMEOUT);
  readonly #known = new Map<string, Known>();
  #isClosed = false;
  /** Whether a relay sends: it has more destinations than a device. */
  ofRelay = false;

  constructor(host: EndpointContext) {
    this.#host = host;
  }

  /**
   * Passes a batch to the consumer of a destination. Make one call at a time for each destination.
   *
   * @param count messages in the batch
   */
  async pass(destination: StreamDestination, bundle: MessageBatch, count: number): Promise<Streamed> {
    const known = this.#knownOf(destination.key);
    if (Date.now() < known.skippedUntil) {
      known.slow += count;
      return "lost";
    }
    const passing = this.#pass(destination, known, bundle, count).catch((error: unknown): Streamed => {
      // Most likely the object was reset: the mailbox knows what came after it.
      logError(error);
      known.attached = undefined;
      leave(known);
      return "lost";
    });
    const passed = await this.#calls.within(passing);
    if (passed !== undefined) return passed.value;
    known.skippedUntil = Date.now() + HUNG_TIME;
    known.slow += count;
    void passing.then(() => {
      known.skippedUntil = 0;
    });
    return "late";
  }

  /** Passes a small batch to a consumer that is known and has a WebSocket. Returns false if `pass` is to be called. */
  passNow({ key, peer }: StreamDestination, bundle: MessageBatch): boolean {
    const known = this.#known.get(key);
    if (known?.attached === undefined) return false;
    const now = Date.now();
    if (now < known.skippedUntil || now >= known.until) return false;
    const { path, generation } = known.attached;
    return path.streamNow(peer, generation, bundle);
  }

  /** Counts messages that were dropped before they were passed. */
  dropped(key: string, count: number): void {
    this.#knownOf(key).slow += count;
  }

  async #pass(
    { peer, source }: StreamDestination,
    known: Known,
    bundle: MessageBatch,
    count: number,
  ): Promise<Streamed> {
    let gone: number | undefined;
    // A cached answer may be out of date. A new one is not: if that consumer is gone too, the peer is.
    for (let isNew = false; !isNew; ) {
      if (known.attached === undefined || Date.now() >= known.until) {
        const { slow } = known;
        known.slow = 0;
        const attached = await this.#host.mailbox(peer).attached(source, { messages: count, slow, gone });
        if (attached.type !== "attached") {
          known.attached = undefined;
          if (attached.type === "unreachable") return attached.outcome;
          return attached.type === "locked" ? "locked" : "lost";
        }
        const { tunnel, generation } = attached;
        known.attached = { generation, path: this.#pathTo(tunnel, known) };
        known.until = Date.now() + ATTACHED_TIME;
        isNew = true;
      }
      const { path, generation } = known.attached;
      const taken = await path.stream(peer, generation, bundle);
      if (taken === "taken") return "passed";
      if (taken !== "gone") {
        if (taken.refused !== undefined) return taken.refused;
        known.slow += taken.dropped;
        known.skippedUntil = Date.now() + STALLED_PAUSE;
        return "lost";
      }
      gone = generation;
      known.attached = undefined;
    }
    return "lost";
  }

  /** Closes the WebSockets to consumers: the connection has ended. Streams can still be passed. */
  close(): void {
    this.#isClosed = true;
    for (const known of this.#known.values()) leave(known);
  }

  #pathTo(name: string, known: Known): ConsumerPath {
    if (known.path?.name === name) return known.path.to;
    leave(known);
    const to = new ConsumerPath(this.#host.consumer(name));
    if (this.#isClosed) to.close();
    known.path = { name, to };
    return to;
  }

  #knownOf(key: string): Known {
    let known = this.#known.get(key);
    if (known === undefined) {
      known = { attached: undefined, path: undefined, until: 0, skippedUntil: 0, slow: 0 };
      const [oldest] = this.#known;
      const most = this.ofRelay ? LINK_SESSIONS : STREAM_PEERS;
      if (oldest !== undefined && this.#known.size >= most) {
        this.#known.delete(oldest[0]);
        leave(oldest[1]);
      }
      this.#known.set(key, known);
    }
    return known;
  }
}

/** Gives up the way to a consumer. What is on it is answered nevertheless. */
function leave(known: Known): void {
  known.path?.to.close();
  known.path = undefined;
}
