/**
 * How long a device waits before it reconnects. The pause grows with each failed connection, even one that started
 * well: a proxy may break every connection after its beginning. A useful connection resets the pause.
 *
 * A refusal ends the device, unless the way to the edge is plain HTTP: there anybody on the way may have written it.
 *
 * @module
 */
import { DeviceError } from "./device-error.ts";
import { RECONNECT_FIRST, RECONNECT_LAST, REFUSED_IN_CLEAR, STOOD } from "./limits.ts";

export class ReconnectPause {
  #failures = 0;

  /**
   * Records that a connection was lost.
   *
   * @param carried whether the relay acknowledged a message on it, or the application finished one
   * @param stood how long it lasted, in milliseconds
   */
  lost(carried: boolean, stood: number): void {
    if (carried || stood >= STOOD) this.#failures = 0;
  }

  /** The longest pause before the next attempt, in milliseconds. The caller picks a random value below it. */
  next(): number {
    const limit = Math.min(RECONNECT_FIRST * 2 ** this.#failures, RECONNECT_LAST);
    this.#failures += 1;
    return limit;
  }
}

/** Whether someone else than the edge could have written its answers: plain HTTP that leaves this machine. */
export function isForgeable(edge: string | undefined): boolean {
  if (edge === undefined || !URL.canParse(edge)) return false;
  const { protocol, hostname } = new URL(edge);
  return protocol === "http:" && !/^(localhost|127\.[0-9.]+|\[::1\])$/.test(hostname);
}

/** Decides whether a refusal is final. */
export class Refusals {
  readonly #forgeable: boolean;
  /** When the first of the refusals in a row came. */
  #since: number | undefined;

  constructor(forgeable: boolean) {
    this.#forgeable = forgeable;
  }

  /** Records that the edge admitted the device. */
  admitted(): void {
    this.#since = undefined;
  }

  /**
   * Judges an error at a time in milliseconds.
   *
   * @returns the error; one that is not to be believed yet becomes retryable
   */
  judge(error: DeviceError, now: number): DeviceError {
    if (error.retryable || !this.#forgeable || !isRefusal(error)) return error;
    this.#since ??= now;
    if (now - this.#since >= REFUSED_IN_CLEAR) return error;
    const doubt = `over plain HTTP anyone on the way could have written this, so it is believed after ${REFUSED_IN_CLEAR / 60_000} minutes: use https`;
    return new DeviceError(error.code, `${error.message}; ${doubt}`, { advice: "retry", cause: error });
  }
}

/** Whether an error may be an HTTP answer with a reason. */
export function isRefusal({ code }: DeviceError): boolean {
  return code === "TokenRefused" || code === "Refused";
}
