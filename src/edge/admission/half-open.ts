/**
 * Half open: a virtual connection whose device has not said who it is. Where it comes from is all that is known of it, so
 * that is what they are counted by, in the Meter of the source.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import type { Env } from "../env.ts";
import type { Entrance, MeterRpc } from "../rpc/meter-rpc.ts";
import { CONNECT_TIMEOUT, METER_TIMEOUT } from "./limits.ts";

export class HalfOpen {
  readonly #env: Pick<Env, "METER">;
  readonly #context: Pick<DurableObjectState, "id" | "waitUntil">;
  #meter: DurableObjectStub<MeterRpc> | undefined;
  /** By when the device has to have said Connect. */
  #connectBy = Number.POSITIVE_INFINITY;

  /** @param context of the Tunnel */
  constructor(env: Pick<Env, "METER">, context: Pick<DurableObjectState, "id" | "waitUntil">) {
    this.#env = env;
    this.#context = context;
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
    const beginning: Promise<Entrance> = meter.begin(this.#context.id.name ?? "");
    const answer = await within(METER_TIMEOUT, beginning).catch(() => undefined);
    if (answer?.value.ok === false) return answer.value.retryAfter;
    this.#meter = meter;
    return undefined;
  }

  /** It ends at this edge: its device has to say Connect before long. Returns by when. */
  expect(): number {
    this.#connectBy = Date.now() + CONNECT_TIMEOUT;
    return this.#connectBy;
  }

  /** By when the device has to have said Connect. */
  get connectBy(): number {
    return this.#connectBy;
  }

  /** Whether the time for a Connect is over. */
  get late(): boolean {
    return Date.now() >= this.#connectBy;
  }

  /** It is open, or over. An object that has lost its memory meanwhile says nothing: then its time runs out. */
  end(): void {
    this.#connectBy = Number.POSITIVE_INFINITY;
    const ended = this.#meter?.begun(this.#context.id.name ?? "");
    this.#meter = undefined;
    if (ended !== undefined) this.#context.waitUntil(ended.catch(() => undefined));
  }
}
