/**
 * What one channel reserves at the Meter of its principal for its TCP connections. It asks in steps, and keeps the last
 * one until it ends, so that few connections cost a call. If the Meter is unreachable, a connection is admitted: the bound of
 * a device holds anyway.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import type { MeterRpc } from "../rpc/meter-rpc.ts";
import { METER_TIMEOUT, STREAM_STEP } from "./limits.ts";

export class StreamReservation {
  readonly #meter: Pick<MeterRpc, "hold"> | undefined;
  readonly #holder: string;
  #streams = 0;
  #reserved = 0;
  /** The call under way: the next waits for it, so that they arrive in order. */
  #asking: Promise<unknown> = Promise.resolve();

  /** @param meter of the principal; undefined if it has no limits */
  constructor(meter: Pick<MeterRpc, "hold"> | undefined, holder: string) {
    this.#meter = meter;
    this.#holder = holder;
  }

  /** Counts one more connection. Returns false if the principal has too many. */
  async enter(): Promise<boolean> {
    this.#streams += 1;
    if (this.#meter === undefined || this.#streams <= this.#reserved) return true;
    const wanted = Math.ceil(this.#streams / STREAM_STEP) * STREAM_STEP;
    if ((await this.#hold(wanted)) || (await this.#hold(this.#streams))) return true;
    this.#streams -= 1;
    return false;
  }

  /** Uncounts a connection. Resolves when the Meter knows, if it need know. */
  async leave(): Promise<void> {
    this.#streams -= 1;
    if (this.#reserved - this.#streams < 3 * STREAM_STEP) return;
    await this.#hold(Math.max(1, Math.ceil(this.#streams / STREAM_STEP)) * STREAM_STEP);
  }

  /** Gives everything back. */
  async end(): Promise<void> {
    if (this.#reserved > 0) await this.#hold(0);
  }

  async #hold(streams: number): Promise<boolean> {
    const asked = this.#asking.then(async () => {
      if (this.#reserved === streams) return true;
      try {
        const may = await within(METER_TIMEOUT, this.#meter?.hold(this.#holder, streams) ?? Promise.resolve(true));
        if (may?.value !== false) this.#reserved = streams;
        return may?.value !== false;
      } catch {
        return true;
      }
    });
    this.#asking = asked;
    return await asked;
  }
}
