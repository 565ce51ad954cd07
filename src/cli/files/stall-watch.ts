/**
 * Watches whether sending gets on. It does not while the recipient is held back, or while there is no connection; every
 * message that the relay takes meanwhile begins the wait anew.
 *
 * @module
 */

/** What sending waits for: the recipient has to make room, or the connection is to be made again. */
export type WaitingFor = "recipient" | "connection";

export interface StallWatchOptions {
  /** Milliseconds after which waiting is given up; below 2^31. */
  readonly wait: number;
  /** Milliseconds after which it is worth a word. */
  readonly silence: number;
  /** A wait is longer than `silence`. */
  readonly onWaiting: (reason: WaitingFor) => void;
  /** A wait of which `onWaiting` was told is over. */
  readonly onGoingOn: () => void;
  /** A wait is longer than `wait`: told once. */
  readonly onGivenUp: (reason: WaitingFor) => void;
}

export class StallWatch {
  readonly #options: StallWatchOptions;
  #isHeld = false;
  #isLost = false;
  #isTold = false;
  #silence: NodeJS.Timeout | undefined;
  #wait: NodeJS.Timeout | undefined;

  constructor(options: StallWatchOptions) {
    this.#options = options;
  }

  /** The recipient takes no more for now. */
  held(): void {
    this.#isHeld = true;
    this.#start();
  }

  /** The recipient takes more. */
  released(): void {
    this.#isHeld = false;
    this.#restart();
  }

  /** The connection was lost. */
  lost(): void {
    this.#isLost = true;
    this.#start();
  }

  /** The relay has taken a message. */
  progress(): void {
    this.#isLost = false;
    this.#restart();
  }

  /** Nothing is waited for any more. */
  stop(): void {
    clearTimeout(this.#silence);
    clearTimeout(this.#wait);
    this.#silence = undefined;
    this.#wait = undefined;
  }

  get #reason(): WaitingFor | undefined {
    if (this.#isLost) return "connection";
    return this.#isHeld ? "recipient" : undefined;
  }

  #restart(): void {
    this.stop();
    if (this.#isTold) this.#options.onGoingOn();
    this.#isTold = false;
    if (this.#reason !== undefined) this.#start();
  }

  #start(): void {
    if (this.#wait !== undefined) return;
    const { silence, wait, onWaiting, onGivenUp } = this.#options;
    this.#silence = setTimeout(() => {
      this.#isTold = true;
      if (this.#reason !== undefined) onWaiting(this.#reason);
    }, silence);
    this.#wait = setTimeout(() => {
      const reason = this.#reason;
      this.stop();
      if (reason !== undefined) onGivenUp(reason);
    }, wait);
  }
}
