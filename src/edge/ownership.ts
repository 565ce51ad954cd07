/**
 * Whose a virtual connection is: that of the principal who has sent its first request. To everybody else it is as if it
 * were not there. Nobody stays in it for longer than his token is good.
 *
 * @module
 */
import { ANYBODY, isExpired, isSame, NOBODY, type Principal } from "../auth/principal.ts";
import { current } from "../auth/verify-token.ts";
import { AUDIT_INTERVAL } from "./defaults.ts";
import type { Env } from "./env.ts";
import type { Reason } from "./reasons.ts";

export class Ownership {
  readonly #env: Env;
  readonly #context: Pick<DurableObjectState, "waitUntil">;
  readonly #inside: () => Principal | undefined;
  readonly #evict: (reason: Reason) => void;
  #owner: Principal | undefined;
  #audited: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param inside who has shown a token inside the virtual connection, when its first request had none
   * @param evict ends the virtual connection: the token is no longer good
   */
  constructor(
    env: Env,
    context: Pick<DurableObjectState, "waitUntil">,
    inside: () => Principal | undefined,
    evict: (reason: Reason) => void,
    owner?: Principal,
  ) {
    this.#env = env;
    this.#context = context;
    this.#inside = inside;
    this.#evict = evict;
    this.#owner = owner;
    // Of somebody who was let in before the object woke nobody knows how long ago that was.
    this.#audited = owner === undefined ? Date.now() : 0;
  }

  /** Undefined before the first request. It stays after the end, which strangers are not told of. */
  get owner(): Principal | undefined {
    return this.#owner;
  }

  /** Whether somebody else has opened the virtual connection. */
  isStranger(principal: Principal): boolean {
    return this.#owner !== undefined && !isSame(this.#owner, principal);
  }

  claim(principal: Principal): void {
    this.#owner ??= principal;
  }

  /**
   * Something happens: a token that has expired ends the virtual connection now, one that was revoked soon. False when it
   * has ended.
   */
  audit(): boolean {
    const who = this.#who();
    if (who === undefined) return true;
    const now = Date.now();
    if (isExpired(who, now)) {
      this.#evict("TokenExpired");
      return false;
    }
    if (now - this.#audited >= AUDIT_INTERVAL) {
      this.#audited = now;
      this.#context.waitUntil(this.#inquire(who, now));
    }
    return true;
  }

  /** Looks from time to time, for what is copied through no code of ours. It keeps the object in memory. */
  patrol(): void {
    const who = this.#who();
    if (who === undefined) return;
    const pause = Math.min(AUDIT_INTERVAL, Math.max(0, who.expires - Date.now()));
    this.#timer = setTimeout(() => this.audit() && this.patrol(), pause);
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  async #inquire(who: Principal, now: number): Promise<void> {
    const answer = await current(who, this.#env, now);
    // When nobody can say, who is in may stay: it is the new ones who must show that they are not on the list.
    if (answer.type === "refused" && answer.reason !== "KeysUnavailable") this.#evict(answer.reason);
  }

  /** Whose token it is; undefined when there is none. */
  #who(): Principal | undefined {
    const who = this.#inside() ?? this.#owner;
    return who === undefined || isSame(who, ANYBODY) || isSame(who, NOBODY) ? undefined : who;
  }
}
