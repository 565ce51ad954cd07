/**
 * Whether somebody who was let in may still be served. A judgement holds for a while, see limits.ts: as long as it is
 * fresh, `fresh` says so at once, and before anything is handed over on one that is not, `judge` makes another. Nothing
 * keeps time here unless `patrol` is asked for: who is idle is judged when next something happens.
 *
 * @module
 */
import { CONNECTED_AGE, CONNECTING_AGE, RENEWAL_AGE } from "./limits.ts";
import { hasToken, isSame, type Principal } from "./principal.ts";
import type { TokenProblem } from "./token-problems.ts";
import { current, type TokenSettings } from "./verify-token.ts";

/** What an endpoint asks before it takes or hands over anything. */
export interface Judge {
  /** Whether the last judgement still holds. */
  fresh(): boolean;
  /** Makes another; resolves with false when the bearer may not be served any more, and its connection has been ended. */
  judge(): Promise<boolean>;
}

/** For principals that need no token. */
export const UNQUESTIONED: Judge = { fresh: () => true, judge: () => Promise.resolve(true) };

export class Standing implements Judge {
  readonly #settings: TokenSettings;
  readonly #waitUntil: (promise: Promise<unknown>) => void;
  readonly #refused: (reason: TokenProblem) => void;
  #bearer: Principal | undefined;
  #connected = false;
  #asOf = 0;
  /** From when on the judgement is renewed, and from when on it does not hold. */
  #renewAt = Number.POSITIVE_INFINITY;
  #holdsUntil = Number.POSITIVE_INFINITY;
  #judging: Promise<boolean> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param waitUntil keeps the surroundings alive until a promise settles
   * @param refused called when the token is no longer good: ends the connection
   */
  constructor(
    settings: TokenSettings,
    waitUntil: (promise: Promise<unknown>) => void,
    refused: (reason: TokenProblem) => void,
  ) {
    this.#settings = settings;
    this.#waitUntil = waitUntil;
    this.#refused = refused;
  }

  /** Whose token it is; undefined while none was shown. */
  get bearer(): Principal | undefined {
    return this.#bearer;
  }

  /**
   * Its bearer has shown a token. Of several the one that expires last counts.
   *
   * @param asOf the moment that the judgement about it dates from; 0 when nobody knows
   */
  show(principal: Principal, asOf: number): void {
    if (!hasToken(principal)) return;
    const before = this.#bearer;
    if (before !== undefined && isSame(before, principal)) {
      if (asOf > this.#asOf) this.#judged(asOf);
    } else if (before === undefined || principal.expires > before.expires) {
      this.#bearer = principal;
      this.#judged(asOf);
    }
  }

  /** The handshake is over: from now on a judgement holds for longer. */
  connected(): void {
    this.#connected = true;
    this.#judged(this.#asOf);
  }

  fresh(): boolean {
    const now = Date.now();
    // A clock that was ahead and has been set right makes a judgement seem to come from the future: it says nothing.
    const sound = now >= this.#asOf;
    if (sound && now < this.#renewAt) return true;
    if (!sound || now >= this.#holdsUntil) return false;
    this.#waitUntil(this.judge());
    return true;
  }

  judge(): Promise<boolean> {
    this.#judging ??= this.#judge().finally(() => {
      this.#judging = undefined;
    });
    return this.#judging;
  }

  /** Judges from now on as often as a judgement is to be renewed, also while nothing happens. */
  patrol(): void {
    const pause = this.#renewAt - Date.now();
    if (pause === Number.POSITIVE_INFINITY) return;
    const due = () => {
      if (Date.now() < this.#renewAt) this.patrol();
      else {
        const judged = this.judge().catch(() => false);
        void judged.then((may) => may && this.#timer !== undefined && this.patrol());
      }
    };
    this.#timer = setTimeout(due, Math.max(0, pause));
  }

  /** The connection is over. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  async #judge(): Promise<boolean> {
    for (;;) {
      const bearer = this.#bearer;
      if (bearer === undefined) return true;
      const answer = await current(bearer, this.#settings, Date.now());
      // Another token has been shown meanwhile.
      if (bearer !== this.#bearer) continue;
      if (answer.type === "ok") {
        this.#judged(answer.asOf);
        return true;
      }
      this.#refused(answer.reason);
      return false;
    }
  }

  #judged(asOf: number): void {
    const expires = this.#bearer?.expires;
    if (expires === undefined) return;
    // The clock of another machine may be ahead.
    this.#asOf = Math.min(asOf, Date.now());
    this.#holdsUntil = Math.min(this.#asOf + (this.#connected ? CONNECTED_AGE : CONNECTING_AGE), expires);
    this.#renewAt = this.#connected ? Math.min(this.#asOf + RENEWAL_AGE, expires) : this.#holdsUntil;
  }
}
