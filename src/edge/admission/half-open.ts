/**
 * Limits half-open virtual connections: those whose device has not identified itself yet. They are counted in the Meter of
 * the token that their first request has shown, or else of their source, since nothing else is known of them.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import type { Env } from "../env.ts";
import type { Entrance, MeterRpc } from "../rpc/meter-rpc.ts";
import { meterNamed, nameOf } from "../volatile/object-named.ts";
import { METER_TIMEOUT } from "./limits.ts";

export class HalfOpen {
  readonly #env: Pick<Env, "METER" | "CONNECTION_METER">;
  readonly #context: Pick<DurableObjectState, "id" | "waitUntil">;
  #meter: DurableObjectStub<MeterRpc> | undefined;
  #name = "";

  /** @param context of the Tunnel */
  constructor(env: Pick<Env, "METER" | "CONNECTION_METER">, context: Pick<DurableObjectState, "id" | "waitUntil">) {
    this.#env = env;
    this.#context = context;
  }

  /**
   * Begins a half-open virtual connection. If the meter is unreachable, it is admitted: it ends soon anyway, unless its
   * device identifies itself.
   *
   * @param name of the Meter; "" for one that is not counted
   * @returns if it has too many, in how many seconds another try may succeed
   */
  async begin(name: string): Promise<number | undefined> {
    if (name === "") return undefined;
    const meter = meterNamed(this.#env, name);
    const beginning: Promise<Entrance> = meter.begin(nameOf(this.#context));
    const answer = await within(METER_TIMEOUT, beginning).catch(() => undefined);
    if (answer?.value.ok === false) return answer.value.retryAfter;
    this.#meter = meter;
    this.#name = name;
    return undefined;
  }

  /**
   * The virtual connection is open, or has ended. If a crash prevents this call, the Meter uncounts it by a timeout.
   *
   * @param entered name of the Meter that it has entered, which has uncounted it
   */
  end(entered = ""): void {
    const ended = entered === this.#name ? undefined : this.#meter?.begun(nameOf(this.#context));
    this.#meter = undefined;
    if (ended !== undefined) this.#context.waitUntil(ended.catch(() => undefined));
  }
}
