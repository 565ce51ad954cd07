/**
 * Opening: a virtual connection until its device has said who it is. It decides who may begin one here, and makes it.
 * All that is known of it meanwhile is in memory, which a timer keeps: nothing is written for somebody whom nobody
 * knows.
 *
 *   crowded() ─► begin() ─► ... ─► expectConnect() ─► arrived()
 *                                  passed through to a relay ─┘
 *
 * @module
 */
import { NOBODY } from "../../auth/principal.ts";
import {
  type KeepAliveTarget,
  type LongLivedTarget,
  openPolling,
  openVirtualConnection,
  type Poll,
} from "../../encapsulation/index.ts";
import { HalfOpen } from "../admission/half-open.ts";
import type { Env } from "../env.ts";
import type { Reason } from "../reasons.ts";
import { type Caller, type Refused, refused } from "../rpc/tunnel-rpc.ts";
import { type Live, liveOf } from "./http-connection.ts";
import { POLL_RECEIVE_TIMEOUT } from "./limits.ts";
import type { Owner } from "./owner.ts";
import { type Polling, pollingOf } from "./polling-connection.ts";

export class Opening {
  readonly #owner: Owner;
  readonly #halfOpen: HalfOpen;

  /** @param context of the Tunnel */
  constructor(env: Env, context: DurableObjectState, ownership: Owner) {
    this.#owner = ownership;
    this.#halfOpen = new HalfOpen(env, context);
  }

  /** Why no virtual connection may be begun here by this caller; undefined when it may, or when there is or was one. */
  async crowded({ principal, source }: Caller): Promise<Refused | undefined> {
    if (this.#owner.owner !== undefined) return undefined;
    const retryAfter = await this.#halfOpen.begin(source);
    // Somebody else may have begun it meanwhile, and it is his then.
    if (this.#owner.isStranger(principal)) return refused("UnknownConnection");
    return retryAfter === undefined ? undefined : { ...refused("TooManyHalfOpen"), retryAfter };
  }

  /** The first request of a LongLived or KeepAlive virtual connection. */
  begin(caller: Caller, target: LongLivedTarget | KeepAliveTarget): Live {
    this.#owner.claim(caller);
    return liveOf(openVirtualConnection(target, Date.now()));
  }

  /** The first request of a Polling one. */
  beginPolling(caller: Caller, poll: Poll): Polling {
    this.#owner.claim(caller);
    return pollingOf(openPolling(poll, Date.now(), { receive: POLL_RECEIVE_TIMEOUT }));
  }

  /** It ends at this edge: its device has to say Connect before long. Returns by when. */
  expectConnect(): number {
    return this.#halfOpen.expect();
  }

  /** By when the device has to say Connect. */
  get connectBy(): number {
    return this.#halfOpen.connectBy;
  }

  /** What became of a Connect that has not come; undefined while there is time for one. */
  get late(): Reason | undefined {
    if (!this.#halfOpen.late) return undefined;
    return this.#owner.owner?.id === NOBODY.id ? "TokenNeeded" : "ConnectTimeout";
  }

  /** Who its device is has been settled, or is the origin relay's to ask. */
  arrived(): void {
    this.#owner.standing.connected();
    this.#halfOpen.end();
  }

  /** The virtual connection is over, however far it had come. */
  over(): void {
    this.#halfOpen.end();
  }
}
