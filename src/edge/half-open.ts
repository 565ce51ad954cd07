/**
 * Half open: a virtual connection whose device has not said who it is. Where it comes from is all that is known of it, so
 * that is what they are counted by, in the Meter of the source.
 *
 * @module
 */
import { METER_TIMEOUT } from "./defaults.ts";
import type { Env } from "./env.ts";
import type { Entrance, Meter } from "./meter.ts";
import { within } from "./streams.ts";

export class HalfOpen {
  readonly #env: Pick<Env, "METER">;
  readonly #connection: string;
  #meter: DurableObjectStub<Meter> | undefined;

  /** @param connection the Tunnel's name */
  constructor(env: Pick<Env, "METER">, connection: string) {
    this.#env = env;
    this.#connection = connection;
  }

  /**
   * It begins. Returns in how many seconds another try may be worth it when its source has too many; undefined when it may
   * begin. A meter that does not answer lets it: whoever is half open is ended before long in any case.
   *
   * @param source as sourceOf tells it; what comes from nowhere known is not counted
   */
  async begin(source: string): Promise<number | undefined> {
    if (source === "") return undefined;
    const meter = this.#env.METER.getByName(`from:${source}`);
    const beginning: Promise<Entrance> = meter.begin(this.#connection);
    const answer = await within(METER_TIMEOUT, beginning).catch(() => undefined);
    if (answer?.value.ok === false) return answer.value.retryAfter;
    this.#meter = meter;
    return undefined;
  }

  /** It is open, or over. An object that has lost its memory meanwhile says nothing: then its time runs out. */
  async end(): Promise<void> {
    const meter = this.#meter;
    this.#meter = undefined;
    await meter?.begun(this.#connection).catch(() => undefined);
  }
}
