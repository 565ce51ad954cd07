/**
 * Limits a virtual connection until its device has identified itself. Until then all state is in memory, kept there by
 * a timer: nothing is stored for an unknown device.
 *
 *   crowded() ─► first request ─► ... ─► expectConnect() ─► arrived()
 *                                        passed through to a relay ─┘
 *
 * @module
 */
import { hasToken, NOBODY, type Principal } from "../../auth/principal.ts";
import { HalfOpen } from "../admission/half-open.ts";
import { CONNECT_TIMEOUT } from "../admission/limits.ts";
import type { Env } from "../env.ts";
import { meteredName } from "../policy/rate-setting.ts";
import type { Reason } from "../reasons.ts";
import { type Caller, type Refused, refused } from "../rpc/tunnel-rpc.ts";
import type { Alarm } from "./alarm.ts";
import type { Owner } from "./owner.ts";

export class Opening {
  readonly #env: Env;
  readonly #alarm: Alarm;
  readonly #owner: Owner;
  readonly #halfOpen: HalfOpen;

  /** @param context of the Tunnel */
  constructor(
    env: Env,
    context: DurableObjectState,
    { alarm, owner }: { readonly alarm: Alarm; readonly owner: Owner },
  ) {
    this.#env = env;
    this.#alarm = alarm;
    this.#owner = owner;
    this.#halfOpen = new HalfOpen(env, context);
  }

  /** Why this caller may not begin a virtual connection here; undefined if it may, or if there is or was one. */
  async crowded({ principal, source }: Caller): Promise<Refused | undefined> {
    if (this.#owner.owner !== undefined) return undefined;
    const retryAfter = await this.#halfOpen.begin(this.#meterOf(principal) ?? (source === "" ? "" : `from:${source}`));
    // Another principal may have begun the virtual connection meanwhile, and owns it then.
    if (this.#owner.isStranger(principal)) return refused("UnknownConnection");
    return retryAfter === undefined ? undefined : { ...refused("TooManyHalfOpen"), retryAfter };
  }

  /** Name of the Meter of a token. */
  #meterOf(principal: Principal): string | undefined {
    return hasToken(principal) ? meteredName("", principal.id, this.#env) : undefined;
  }

  /** Starts the wait for the device's Connect. It replaces the encapsulation's timers until the device has arrived. */
  expectConnect(): void {
    this.#alarm.set("device", Number.POSITIVE_INFINITY);
    this.#alarm.set("connect", Date.now() + CONNECT_TIMEOUT);
  }

  /** Why the virtual connection ends when its Connect is late; undefined before the deadline. */
  get late(): Reason | undefined {
    if (!this.#alarm.isDue("connect")) return undefined;
    return this.#owner.owner?.id === NOBODY.id ? "TokenNeeded" : "ConnectTimeout";
  }

  /** The device is admitted, or the origin relay authenticates it. */
  arrived(): void {
    const { standing } = this.#owner;
    standing.connected();
    this.#halfOpen.end(standing.bearer && this.#meterOf(standing.bearer));
    this.#alarm.set("connect", Number.POSITIVE_INFINITY);
  }

  /** The virtual connection has ended, in any state. */
  over(): void {
    this.#halfOpen.end();
  }
}
