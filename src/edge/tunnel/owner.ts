/**
 * Whose a virtual connection is: that of the principal who has sent its first request. To everybody else it is as if it
 * were not there. Whoever has no headers to show a token in shows it in Connect, and then a request may show it as
 * well.
 *
 * @module
 */
import { hasToken, isSame, isSameBearer, NOBODY, type Principal } from "../../auth/principal.ts";
import { Standing } from "../../auth/standing.ts";
import type { Env } from "../env.ts";
import type { Reason } from "../reasons.ts";
import type { Caller } from "../rpc/tunnel-rpc.ts";

/** Whose a virtual connection is, as plain data. */
export interface Owned {
  readonly owner: Principal;
  /** Whose token counts, when it is another than the owner's own. */
  readonly bearer?: Principal;
}

export class Owner {
  /** Whether its bearer may still be served. */
  readonly standing: Standing;
  #owner: Principal | undefined;

  /**
   * @param evict ends the virtual connection: the token is no longer good
   * @param owned whose it was before the object woke; nobody knows how long ago that was judged
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

  /** Undefined before the first request. It stays after the end, which strangers are not told of. */
  get owner(): Principal | undefined {
    return this.#owner;
  }

  /** What is to be left for after sleep. */
  get owned(): Owned {
    const { bearer } = this.standing;
    return { owner: this.#owner ?? NOBODY, ...(bearer !== undefined && bearer !== this.#owner && { bearer }) };
  }

  /** Whether somebody else has opened the virtual connection. */
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

  /** A request of the virtual connection shows its token, which may be a newer one than before. */
  show({ principal, asOf }: Caller): void {
    if (this.#owner === undefined) return;
    this.standing.show(principal, asOf);
    const { bearer } = this.standing;
    if (hasToken(this.#owner) && bearer !== undefined) this.#owner = bearer;
  }
}
