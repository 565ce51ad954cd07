/**
 * The owner of a virtual connection: the principal of its first request. Other principals get `UnknownConnection`. A
 * device that cannot set headers shows its token in Connect; after that, requests may show the same token too.
 *
 * @module
 */
import { hasToken, isSame, isSameBearer, NOBODY, type Principal } from "../../auth/principal.ts";
import { Standing } from "../../auth/token-recheck.ts";
import type { Env } from "../env.ts";
import type { Reason } from "../reasons.ts";
import type { Caller } from "../rpc/tunnel-rpc.ts";

/** The owner of a virtual connection, as plain data. */
export interface Owned {
  readonly owner: Principal;
  /** The principal whose token is judged, if it is not the owner. */
  readonly bearer?: Principal;
}

export class Owner {
  /** Judges whether the bearer may still be served. */
  readonly standing: Standing;
  #owner: Principal | undefined;

  /**
   * @param evict ends the virtual connection when its token is no longer valid
   * @param owned the owner before the object woke; it is judged anew, since its last judgement is of unknown age
   */
  constructor(
    env: Env,
    context: Pick<DurableObjectState, "waitUntil">,
    evict: (reason: Reason) => void,
    { owner, bearer }: Partial<Owned> = {},
  ) {
    this.standing = new Standing(env, (promise) => context.waitUntil(promise), evict);
    this.#owner = owner;
    for (const shown of [owner, bearer]) if (shown !== undefined) this.standing.show(shown, 0);
  }

  /** Undefined before the first request. It stays after the end, so that strangers do not learn of it. */
  get owner(): Principal | undefined {
    return this.#owner;
  }

  /** The part that is saved across eviction. */
  get owned(): Owned {
    const { bearer } = this.standing;
    return { owner: this.#owner ?? NOBODY, ...(bearer !== undefined && bearer !== this.#owner && { bearer }) };
  }

  /** Whether another principal owns the virtual connection. */
  isStranger(principal: Principal): boolean {
    if (this.#owner === undefined || isSame(this.#owner, principal)) return false;
    const { bearer } = this.standing;
    return bearer === undefined || !isSameBearer(bearer, principal);
  }

  claim({ principal, asOf }: Caller): void {
    if (this.#owner !== undefined) return;
    this.#owner = principal;
    this.standing.show(principal, asOf);
  }

  /** Takes over the token that a request shows, which may be newer than the one before. */
  show({ principal, asOf }: Caller): void {
    if (this.#owner === undefined) return;
    this.standing.show(principal, asOf);
    const { bearer } = this.standing;
    if (hasToken(this.#owner) && bearer !== undefined) this.#owner = bearer;
  }
}
