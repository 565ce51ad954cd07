/**
 * Detects stalled sending: the recipient is full, or the connection is lost. Each message that the relay accepts
 * restarts the timers.
 *
 * @module
 */

/** What sending waits for: room at the recipient, or the connection. */
export type WaitingFor = "recipient" | "connection";

export interface StallWatchOptions {
  /** Milliseconds after which to give up; below 2^31. */
  readonly wait: number;
  /** Milliseconds after which a wait is reported. */
  readonly silence: number;
  /** Called when a wait exceeds `silence`. */
  readonly onWaiting: (reason: WaitingFor) => void;
  /** Called when a wait reported by `onWaiting` ends. */
  readonly onGoingOn: () => void;
  /** Called once, when a wait exceeds `wait`. */
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

  /** The recipient takes messages again. */
  released(): void {
    this.#isHeld = false;
    this.#restart();
  }

  /** The connection was lost. */
  lost(): void {
    this.#isLost = true;
    this.#start();
  }

  /** The relay has accepted a message. */
  progress(): void {
    this.#isLost = false;
    this.#restart();
  }

  /** Stops the timers. */
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
