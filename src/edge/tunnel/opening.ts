/**
 * Opens a virtual connection, and limits it until its device has identified itself. Until then all state is in memory,
 * kept there by a timer: nothing is stored for an unknown device.
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

  /** Why this caller may not begin a virtual connection here; undefined if it may, or if there is or was one. */
  async crowded({ principal, source }: Caller): Promise<Refused | undefined> {
    if (this.#owner.owner !== undefined) return undefined;
    const retryAfter = await this.#halfOpen.begin(source);
    // Another principal may have begun the virtual connection meanwhile, and owns it then.
    if (this.#owner.isStranger(principal)) return refused("UnknownConnection");
    return retryAfter === undefined ? undefined : { ...refused("TooManyHalfOpen"), retryAfter };
  }

  /** Opens a LongLived or KeepAlive virtual connection at its first request. */
  begin(caller: Caller, target: LongLivedTarget | KeepAliveTarget): Live {
    this.#owner.claim(caller);
    return liveOf(openVirtualConnection(target, Date.now()));
  }

  /** Opens a Polling virtual connection at its first request. */
  beginPolling(caller: Caller, poll: Poll): Polling {
    this.#owner.claim(caller);
    return pollingOf(openPolling(poll, Date.now(), { receive: POLL_RECEIVE_TIMEOUT }));
  }

  /**
   * Starts the wait for the device's Connect, if the virtual connection ends at this edge.
   *
   * @returns the deadline, in milliseconds since 1970
   */
  expectConnect(): number {
    return this.#halfOpen.expect();
  }

  /** Deadline of the device's Connect, in milliseconds since 1970. */
  get connectBy(): number {
    return this.#halfOpen.connectBy;
  }

  /** Why the virtual connection ends when its Connect is late; undefined before the deadline. */
  get late(): Reason | undefined {
    if (!this.#halfOpen.late) return undefined;
    return this.#owner.owner?.id === NOBODY.id ? "TokenNeeded" : "ConnectTimeout";
  }

  /** The device is admitted, or the origin relay authenticates it. */
  arrived(): void {
    this.#owner.standing.connected();
    this.#halfOpen.end();
  }

  /** The virtual connection has ended, in any state. */
  over(): void {
    this.#halfOpen.end();
  }
}
