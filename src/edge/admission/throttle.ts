/**
 * Throttle: a Tunnel's end of the meter. It counts what its device brings in, leases from the Meter in advance what that
 * needs, and makes the Tunnel wait with reading when it is used up. Nothing is dropped: the device is pushed back.
 *
 * A meter that fails or does not answer in time is done without: the virtual connection is let in, and held to the whole
 * rate of its principal by itself. A limit is there to share what there is among many; to have lost the object that
 * shares must not become an outage of what it is to protect, and quotas, windows and queues bound everybody all the same.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { type Bucket, bucket, charge } from "../../lib/token-bucket.ts";
import type { Env } from "../env.ts";
import { parseRate, type Rate } from "../policy/rate-setting.ts";
import type { Amount, Entrance, Lease, MeterRpc } from "../rpc/meter-rpc.ts";
import { CREDIT, FIRST_LEASE, LATE, METER_TIMEOUT, WAKES, YIELD, YIELD_MOST } from "./limits.ts";

/**
 * The throttle of a virtual connection that is metered under a name; undefined when it has none.
 *
 * @param connection the Tunnel's name
 */
export function throttleOf(
  name: string | undefined,
  connection: string,
  env: Pick<Env, "METER" | "RATE">,
): Throttle | undefined {
  if (name === undefined) return undefined;
  return new Throttle(env.METER.getByName(name), connection, parseRate(env.RATE ?? ""));
}

/** The time, for tests. */
export interface Clock {
  now(): number;
  sleep(milliseconds: number): Promise<void>;
}

const REAL: Clock = { now: Date.now, sleep: (milliseconds) => scheduler.wait(milliseconds) };

const KINDS = ["octets", "messages"] as const;

export class Throttle {
  readonly #meter: Pick<MeterRpc, "enter" | "leave" | "lease">;
  readonly #connection: string;
  readonly #rate: Rate;
  readonly #clock: Clock;
  /** What was leased and is left; below nothing when more was used. */
  readonly #left = { octets: 0, messages: 0 };
  /** What was used since the last lease began, and when that was. */
  #used = { octets: 0, messages: 0 };
  #since: number;
  /** What was leased, was not used in time, and is not given back yet. */
  #unused = { octets: 0, messages: 0 };
  /** When what is left lapses. */
  #lapses = 0;
  #filling: Promise<void> | undefined;
  readonly #own: Record<(typeof KINDS)[number], Bucket>;
  readonly #over = Promise.withResolvers<void>();
  #ended = false;

  /** @param connection the Tunnel's name */
  constructor(meter: Pick<MeterRpc, "enter" | "leave" | "lease">, connection: string, rate: Rate, clock: Clock = REAL) {
    this.#meter = meter;
    this.#connection = connection;
    this.#rate = rate;
    this.#clock = clock;
    this.#since = clock.now();
    // Used only while the meter does not answer.
    this.#own = {
      octets: bucket(rate.octets, 0, this.#since),
      messages: bucket(rate.messages, 0, this.#since),
    };
  }

  /** The virtual connection begins. */
  async enter(): Promise<Entrance> {
    const entrance = await this.#ask(() => this.#meter.enter(this.#connection));
    return entrance ?? { ok: true };
  }

  /** It is over: whoever waits here waits no longer. A meter that does not hear of it will ask. */
  async leave(): Promise<void> {
    this.#ended = true;
    this.#over.resolve();
    await this.#ask(() => this.#meter.leave(this.#connection));
  }

  /** A mailbox is woken for the device. Resolves when the next may be. */
  wake(): Promise<void> | undefined {
    return this.spend(0, Math.ceil(this.#rate.messages / WAKES));
  }

  /** Counts what the device has brought in. Resolves when it may bring more. */
  spend(octets: number, messages: number): Promise<void> | undefined {
    if (this.#clock.now() >= this.#lapses) this.#lapse();
    this.#left.octets -= octets;
    this.#left.messages -= messages;
    this.#used.octets += octets;
    this.#used.messages += messages;
    // A little is owed without asking, so that a device that says something now and then wakes no meter.
    const owes = KINDS.some((kind) => this.#left[kind] < -CREDIT[kind]);
    if (this.#ended || (!owes && this.#filling === undefined)) return undefined;
    this.#filling ??= this.#fill().finally(() => {
      this.#filling = undefined;
    });
    return this.#filling;
  }

  /** Leases until nothing is owed. */
  async #fill(): Promise<void> {
    do {
      const wanted = this.#wanted();
      const unused = this.#unused;
      this.#unused = { octets: 0, messages: 0 };
      this.#used = { octets: 0, messages: 0 };
      const asked = this.#clock.now();
      const leased = await this.#ask(() => this.#meter.lease(this.#connection, wanted, unused));
      const lease = leased ?? this.#ownLease(wanted);
      await this.#hibernation(lease.wait);
      if (leased !== undefined) await this.#yield(this.#clock.now() - asked - lease.wait);
      this.#since = this.#clock.now();
      this.#lapses = this.#since + lease.holds;
      for (const kind of KINDS) this.#left[kind] += lease[kind];
    } while (!this.#ended && KINDS.some((kind) => this.#left[kind] < 0));
  }

  /**
   * A lease that took longer than it should says that the isolate is behind with its work, and everybody waits: then
   * whoever has to ask for leases, since it sends much, waits longer still, so that others are served.
   *
   * @param late milliseconds
   */
  async #yield(late: number): Promise<void> {
    if (late > LATE) await this.#hibernation(Math.min((late - LATE) * YIELD, YIELD_MOST));
  }

  async #hibernation(milliseconds: number): Promise<void> {
    if (milliseconds > 0 && !this.#ended) await Promise.race([this.#clock.sleep(milliseconds), this.#over.promise]);
  }

  /** What is left of a lease whose time is over is given back with the next. */
  #lapse(): void {
    for (const kind of KINDS) {
      this.#unused[kind] += Math.max(0, this.#left[kind]);
      this.#left[kind] = Math.min(0, this.#left[kind]);
    }
  }

  /** What is owed, and what the device will use in a second if it goes on as it does. */
  #wanted(): Amount {
    // What comes after a pause comes at once: a moment says little of the second that follows.
    const seconds = Math.max(0.25, (this.#clock.now() - this.#since) / 1000);
    const [octets = 0, messages = 0] = KINDS.map((kind) => {
      const coming = Math.min(this.#used[kind] / seconds, this.#rate[kind]);
      return Math.ceil(Math.max(0, -this.#left[kind]) + Math.max(coming, FIRST_LEASE[kind]));
    });
    return { octets, messages };
  }

  /** Without the meter. */
  #ownLease(wanted: Amount): Lease {
    const now = this.#clock.now();
    const waits = KINDS.map((kind) => charge(this.#own[kind], wanted[kind], now));
    return { ...wanted, wait: Math.max(...waits), holds: METER_TIMEOUT };
  }

  async #ask<T>(call: () => Promise<T>): Promise<T | undefined> {
    try {
      return (await within(METER_TIMEOUT, call()))?.value;
    } catch {
      return undefined;
    }
  }
}
