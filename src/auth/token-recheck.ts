/**
 * Standing: whether an admitted principal may still be served. A judgement holds for a while; see limits.ts. While it
 * is fresh, `fresh` returns true at once. When it is not, `judge` must make another before anything is handed over. No
 * timer runs here unless `patrol` is called: an idle principal is judged on its next activity.
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
  /**
   * Makes another judgement. Resolves to false if the bearer may no longer be served; its connection has then ended.
   */
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
  /** When the judgement is renewed, and when it stops holding. */
  #renewAt = Number.POSITIVE_INFINITY;
  #holdsUntil = Number.POSITIVE_INFINITY;
  #judging: Promise<boolean> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param waitUntil keeps the host alive until a promise settles
   * @param refused called when the token is no longer valid; must end the connection
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

  /** The bearer of the token; undefined until one was presented. */
  get bearer(): Principal | undefined {
    return this.#bearer;
  }

  /**
   * When the last judgement stops holding, in milliseconds since 1970; infinite if nothing can change it: no token was
   * presented, or neither keys nor revoked tokens are fetched from anywhere.
   */
  get holdsUntil(): number {
    const { JWKS_URL = "", REVOKED_URL = "" } = this.#settings;
    return JWKS_URL === "" && REVOKED_URL === "" ? Number.POSITIVE_INFINITY : this.#holdsUntil;
  }

  /**
   * Records the token that its bearer has presented. Of several, the one that expires last counts.
   *
   * @param asOf the time of the data that its judgement rests on; 0 if unknown
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

  /** Marks the end of the handshake: from now on a judgement holds for longer. */
  connected(): void {
    this.#connected = true;
    this.#judged(this.#asOf);
  }

  fresh(): boolean {
    const now = Date.now();
    // After a clock is set back, a judgement may seem to come from the future. Its age is then unknown.
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

  /** Renews judgements on a timer from now on, even without activity. */
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

  /** Stops when the connection has ended. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  async #judge(): Promise<boolean> {
    for (;;) {
      const bearer = this.#bearer;
      if (bearer === undefined) return true;
      const answer = await current(bearer, this.#settings, Date.now());
      // Another token was presented meanwhile.
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
