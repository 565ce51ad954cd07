/**
 * Passes what a device streams to other devices straight to their Tunnels.
 *
 *   device ─► InboundMessages, one batch at a time per peer ─► Tunnel of the peer (`stream`) ─► its device
 *                     └─ who is attached? asked once ─► Mailbox of the peer (`attached`)
 *
 * The mailbox only says who consumes it, with the generation that fences the answer. The answer is cached here, until
 * the Tunnel says that it no longer consumes the mailbox, or for {@link ATTACHED_TIME}, so that a lock or a rule of the
 * mailbox's owner takes effect. The bytes touch neither the mailbox nor SQLite, and are not parsed.
 *
 * A call to a Tunnel resolves when that Tunnel has room for the batch: it slows the sender down. Nothing waits for ever:
 * a call that takes longer than VOLATILE_TIMEOUT is given up, its batch is lost, and the peer is skipped for a while, so
 * that a device waits for a hung one only once. Both ends of a channel notice what is lost and send it again.
 *
 * @module
 */
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { logError } from "../log.ts";
import { HUNG_TIME } from "../mailbox/limits.ts";
import { VOLATILE_TIMEOUT } from "../rpc/deadlines.ts";
import type { Attached } from "../rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../rpc/message-batch.ts";
import type { EndpointContext } from "./endpoint-context.ts";
import { ATTACHED_TIME, STREAM_PEERS } from "./limits.ts";

/** `late`: nothing has answered in time, so what waits behind the batch is lost as well. */
export type Streamed = "passed" | "lost" | "late" | "locked";

/** What is known of a peer. */
interface Peer {
  /** The consumer of its mailbox; undefined: to be asked. */
  attached: Extract<Attached, { type: "attached" }> | undefined;
  /** From when on `attached` is out of date. */
  until: number;
  /** The peer is skipped until this time. */
  hungUntil: number;
  /** Messages lost because the peer was slow, reported to its mailbox with the next question. */
  slow: number;
}

export class StreamPeers {
  readonly #host: EndpointContext;
  readonly #calls = new DeadlinePool(VOLATILE_TIMEOUT);
  readonly #peers = new Map<string, Peer>();

  constructor(host: EndpointContext) {
    this.#host = host;
  }

  /**
   * Passes a batch to the Tunnel of a peer. Make one call at a time for each peer.
   *
   * @param peer name of its mailbox
   * @param source device URL of the sender
   * @param count messages in the batch
   */
  async pass(peer: string, source: string, bundle: MessageBatch, count: number): Promise<Streamed> {
    const known = this.#peerOf(peer);
    if (Date.now() < known.hungUntil) {
      known.slow += count;
      return "lost";
    }
    const passing = this.#pass(peer, known, source, bundle, count).catch((error: unknown): Streamed => {
      // Most likely the object was reset: the mailbox knows what came after it.
      logError(error);
      known.attached = undefined;
      return "lost";
    });
    const passed = await this.#calls.within(passing);
    if (passed !== undefined) return passed.value;
    known.hungUntil = Date.now() + HUNG_TIME;
    known.slow += count;
    void passing.then(() => {
      known.hungUntil = 0;
    });
    return "late";
  }

  async #pass(peer: string, known: Peer, source: string, bundle: MessageBatch, count: number): Promise<Streamed> {
    let gone: number | undefined;
    // A cached answer may be out of date. A new one is not: if that Tunnel is gone too, the peer is.
    for (let isNew = false; !isNew; ) {
      if (known.attached === undefined || Date.now() >= known.until) {
        const { slow } = known;
        known.slow = 0;
        const attached = await this.#host.mailbox(peer).attached(source, { messages: count, slow, gone });
        if (attached.type !== "attached") {
          known.attached = undefined;
          return attached.type === "locked" ? "locked" : "lost";
        }
        known.attached = attached;
        known.until = Date.now() + ATTACHED_TIME;
        isNew = true;
      }
      const { tunnel, generation } = known.attached;
      const taken = await this.#host.tunnel(tunnel).stream(peer, generation, bundle);
      if (taken === "taken") return "passed";
      if (taken !== "gone") {
        known.slow += taken.dropped;
        return "lost";
      }
      gone = generation;
      known.attached = undefined;
    }
    return "lost";
  }

  #peerOf(peer: string): Peer {
    let known = this.#peers.get(peer);
    if (known === undefined) {
      known = { attached: undefined, until: 0, hungUntil: 0, slow: 0 };
      const [oldest] = this.#peers.keys();
      if (oldest !== undefined && this.#peers.size >= STREAM_PEERS) this.#peers.delete(oldest);
      this.#peers.set(peer, known);
    }
    return known;
  }
}
