/**
 * Throttle: a Tunnel's client of the Meter. It counts what its device sends, leases the amount from the Meter, and
 * delays the Tunnel's reading while the lease is used up. A device that sends too fast is slowed by backpressure;
 * nothing is lost.
 *
 * If the Meter is unreachable, the virtual connection is admitted, and the principal's rate applies per connection
 * instead. An outage of the Meter must not become an outage of the edge, and quotas, windows and queues still bound
 * every device.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { type Bucket, bucket, charge } from "../../lib/token-bucket.ts";
import type { Env } from "../env.ts";
import { counters } from "../metrics/counters.ts";
import { parseRate, type Rate } from "../policy/rate-setting.ts";
import type { Amount, Entrance, Lease, MeterRpc } from "../rpc/meter-rpc.ts";
import { meterNamed } from "../volatile/object-named.ts";
import { CREDIT, FIRST_LEASE, LATE, METER_TIMEOUT, WAKES, YIELD, YIELD_MOST } from "./limits.ts";

/**
 * The throttle of a virtual connection; undefined if it is not metered.
 *
 * @param name the metered name, as `meteredName` returns it
 * @param connection the Tunnel's name
 */
export function throttleOf(
  name: string | undefined,
  connection: string,
  env: Pick<Env, "METER" | "CONNECTION_METER" | "RATE">,
): Throttle | undefined {
  if (name === undefined) return undefined;
  return new Throttle(meterNamed(env, name), connection, parseRate(env.RATE ?? ""));
}

/** The clock, replaceable by tests. */
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
  /** What is left of the lease; negative if more was used. */
  readonly #left = { octets: 0, messages: 0 };
  /** What was used since the last request for a lease, and when that lease began. */
  #used = { octets: 0, messages: 0 };
  #since: number;
  /** What was left of expired leases, and is not given back yet. */
  #unused = { octets: 0, messages: 0 };
  /** When the lease expires. */
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
    // Used only while the Meter is unreachable.
    this.#own = {
      octets: bucket(rate.octets, 0, this.#since),
      messages: bucket(rate.messages, 0, this.#since),
    };
  }

  /** Asks the Meter to admit the virtual connection. If the Meter is unreachable, it is admitted. */
  async enter(): Promise<Entrance> {
    const entrance = await this.#ask(() => this.#meter.enter(this.#connection));
    return entrance ?? { ok: true };
  }

  /**
   * Reports the end of the virtual connection, and ends all waits here. If the Meter misses this, it will ask the
   * Tunnel.
   */
  async leave(): Promise<void> {
    this.#ended = true;
    this.#over.resolve();
    await this.#ask(() => this.#meter.leave(this.#connection));
  }

  /** Charges the waking of a mailbox. Resolves when the device may go on; undefined: at once. */
  wake(): Promise<void> | undefined {
    return this.spend(0, Math.ceil(this.#rate.messages / WAKES));
  }

  /** Charges what the device has sent. Resolves when it may send more; undefined: at once. */
  spend(octets: number, messages: number): Promise<void> | undefined {
    if (this.#clock.now() >= this.#lapses) this.#lapse();
    this.#left.octets -= octets;
    this.#left.messages -= messages;
    this.#used.octets += octets;
    this.#used.messages += messages;
    // A small debt is allowed, so that a device that sends little does not wake the Meter.
    const owes = KINDS.some((kind) => this.#left[kind] < -CREDIT[kind]);
    if (this.#ended || (!owes && this.#filling === undefined)) return undefined;
    this.#filling ??= this.#fill().finally(() => {
      this.#filling = undefined;
    });
    return this.#filling;
  }

  /** Leases until the debt is paid. */
  async #fill(): Promise<void> {
    do {
      const wanted = this.#wanted();
      const unused = this.#unused;
      this.#unused = { octets: 0, messages: 0 };
      this.#used = { octets: 0, messages: 0 };
      const asked = this.#clock.now();
      const leased = await this.#ask(() => this.#meter.lease(this.#connection, wanted, unused));
      const lease = leased ?? this.#ownLease(wanted);
      await this.#pause(lease.wait);
      await this.#yield(this.#clock.now() - asked - lease.wait);
      this.#since = this.#clock.now();
      this.#lapses = this.#since + lease.holds;
      for (const kind of KINDS) this.#left[kind] += lease[kind];
    } while (!this.#ended && KINDS.some((kind) => this.#left[kind] < 0));
  }

  /**
   * A late lease means that the isolate is behind with its work. Devices that need leases are those that send much, so
   * they wait longer, and the others are served.
   *
   * @param late delay of the lease in milliseconds
   */
  async #yield(late: number): Promise<void> {
    if (late > LATE) await this.#pause(Math.min((late - LATE) * YIELD, YIELD_MOST));
  }

  async #pause(milliseconds: number): Promise<void> {
    if (milliseconds <= 0 || this.#ended) return;
    counters.count("throttleWaits", "");
    counters.count("throttledSeconds", "", milliseconds / 1000);
    await Promise.race([this.#clock.sleep(milliseconds), this.#over.promise]);
  }

  /** Expires the lease. What is left of it is given back with the next one. */
  #lapse(): void {
    for (const kind of KINDS) {
      this.#unused[kind] += Math.max(0, this.#left[kind]);
      this.#left[kind] = Math.min(0, this.#left[kind]);
    }
  }

  /** The debt, plus what the device will use in a second at its current rate. */
  #wanted(): Amount {
    // Data after a pause arrives in a burst, so a rate over less than 0.25 s says little.
    const seconds = Math.max(0.25, (this.#clock.now() - this.#since) / 1000);
    const [octets = 0, messages = 0] = KINDS.map((kind) => {
      const coming = Math.min(this.#used[kind] / seconds, this.#rate[kind]);
      return Math.ceil(Math.max(0, -this.#left[kind]) + Math.max(coming, FIRST_LEASE[kind]));
    });
    return { octets, messages };
  }

  /** A lease without the Meter, from the connection's own buckets. */
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
