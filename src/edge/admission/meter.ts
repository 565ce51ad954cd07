/**
 * Meter: what one principal has used up of what it may, an object for each name under which somebody is metered.
 *
 *   Tunnel ── enter ─► may there be one more virtual connection? ── leave ─► there is one less
 *   Tunnel ── begin ─► may one more of this source be half open? ── begun ─► it is open, or over
 *   Tunnel ── lease, about once a second while there is traffic ─► so much, and from when on
 *
 * Octets and messages are counted in memory alone: whoever has been silent for long enough that the object was thrown
 * out has his whole share again in any case. Virtual connections live for days in which nobody says a word, so which
 * there are is written down, once for each. What is written down has an alarm beside it, and all of it goes when nobody
 * counts any more.
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import { within } from "../../lib/runtime/timeout.ts";
import { type Bucket, bucket, charge, giveBack, levelOf, take, wait } from "../../lib/token-bucket.ts";
import type { Env } from "../env.ts";
import { parseRate, type Rate } from "../policy/rate-setting.ts";
import type { Amount, Entrance, Lease, MeterRpc, MeterStatus } from "../rpc/meter-rpc.ts";
import {
  ASK_AFTER,
  ASK_AT_ONCE,
  ASK_TIMEOUT,
  BURST,
  FULL_RETRY,
  HALF_OPEN,
  HALF_OPEN_TIME,
  LEASE_TIME,
  METER_LOOK,
  SLICE,
} from "./limits.ts";

/** A virtual connection is written down under this prefix and its name; the bucket of connects by its own. */
const CONNECTION = "connection:";
const CONNECTS = "connects";

export class Meter extends DurableObject<Env> implements MeterRpc {
  readonly #rate: Rate;
  readonly #connects: Bucket;
  readonly #octets: Bucket;
  readonly #messages: Bucket;
  /** Virtual connections, and when each was last heard of. */
  readonly #connections = new Map<string, number>();
  /** Virtual connections that are half open, and until when each counts; oldest first. */
  readonly #halfOpen = new Map<string, number>();
  /** Those with traffic, and when each last asked. */
  readonly #active = new Map<string, number>();
  /** When the alarm looks whether anything that is written down still counts; infinite when that is not known. */
  #lookAt = Number.POSITIVE_INFINITY;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const now = Date.now();
    const rate = parseRate(env.RATE ?? "");
    this.#rate = rate;
    this.#octets = bucket(rate.octets, rate.octets * BURST, now);
    // A limit of one a second must be able to let one through.
    this.#messages = bucket(rate.messages, Math.max(1, rate.messages * BURST), now);
    const connects = ctx.storage.kv.get<Pick<Bucket, "level" | "at">>(CONNECTS);
    this.#connects = { ...bucket(rate.connects / 60, rate.connects, now), ...connects };
    for (const [key] of ctx.storage.kv.list({ prefix: CONNECTION })) {
      this.#connections.set(key.slice(CONNECTION.length), 0);
    }
    if (connects !== undefined || this.#connections.size > 0) ctx.waitUntil(this.#lookIfNever());
  }

  /** An older version has written things down without an alarm: whether they still count is looked at now. */
  async #lookIfNever(): Promise<void> {
    if ((await this.ctx.storage.getAlarm()) !== null || this.#lookAt !== Number.POSITIVE_INFINITY) return;
    this.#lookAt = Date.now();
    await this.ctx.storage.setAlarm(this.#lookAt);
  }

  /** A virtual connection begins. One that has entered before is let in. */
  async enter(connection: string): Promise<Entrance> {
    if (this.#connections.has(connection)) return { ok: true };
    // Counted whatever comes of it: whoever is refused and tries all the time must not have the others asked each time.
    const may = take(this.#connects, 1, Date.now());
    if (!may) return { ok: false, retryAfter: this.#untilConnect(), limit: "connects" };
    const { level, at } = this.#connects;
    this.ctx.storage.kv.put(CONNECTS, { level, at });
    if (this.#connections.size >= this.#rate.connections) await this.#askSilent();
    if (this.#connections.size >= this.#rate.connections) {
      this.#look();
      return { ok: false, retryAfter: Math.max(FULL_RETRY, this.#untilConnect()), limit: "connections" };
    }
    this.#connections.set(connection, Date.now());
    this.ctx.storage.kv.put(CONNECTION + connection, true);
    this.#look();
    return { ok: true };
  }

  /** A virtual connection is over. */
  async leave(connection: string): Promise<void> {
    this.#active.delete(connection);
    if (!this.#connections.delete(connection)) return;
    this.ctx.storage.kv.delete(CONNECTION + connection);
    this.#look();
  }

  override async alarm(): Promise<void> {
    this.#lookAt = Number.POSITIVE_INFINITY;
    // A Tunnel that has lost its memory has not said goodbye.
    await this.#ask(this.#silent(Date.now() - ASK_AFTER));
    const remembered = this.#connections.size > 0 || levelOf(this.#connects, Date.now()) < this.#rate.connects;
    if (remembered) this.#look();
    else await this.ctx.storage.deleteAll();
  }

  /** Has the alarm look whether what is written down still counts: when the last has left, as soon as its connect is forgotten. */
  #look(): void {
    const now = Date.now();
    const at = now + (this.#connections.size > 0 ? METER_LOOK : 1 + wait(this.#connects, this.#rate.connects, now));
    if (at >= this.#lookAt) return;
    this.#lookAt = at;
    this.ctx.waitUntil(this.ctx.storage.setAlarm(at));
  }

  /**
   * A virtual connection is begun, and nobody knows by whom but its source. What is not heard of again stops counting by
   * itself, and nothing is written down: an object that is thrown out forgets what would soon be over.
   */
  async begin(connection: string): Promise<Entrance> {
    const now = Date.now();
    for (const [begun, until] of this.#halfOpen) {
      if (until > now) break;
      this.#halfOpen.delete(begun);
    }
    if (!this.#halfOpen.has(connection)) {
      const [oldest] = this.#halfOpen.values();
      if (this.#halfOpen.size >= HALF_OPEN && oldest !== undefined) {
        return { ok: false, retryAfter: Math.max(1, Math.ceil((oldest - now) / 1000)), limit: "halfOpen" };
      }
      this.#halfOpen.set(connection, now + HALF_OPEN_TIME);
    }
    return { ok: true };
  }

  /** It has said who it is, or is over. */
  async begun(connection: string): Promise<void> {
    this.#halfOpen.delete(connection);
  }

  /**
   * Leases to a virtual connection what it wants, or a slice of it. What is not there yet is given in advance and in
   * turn, with the time to wait for it: so everybody who asks moves on, and nobody has to ask again to be heard.
   *
   * @param unused what is left of earlier leases, and is given back
   */
  async lease(connection: string, wanted: Amount, unused: Amount): Promise<Lease> {
    const now = Date.now();
    if (this.#connections.has(connection)) this.#connections.set(connection, now);
    this.#active.set(connection, now);
    for (const [other, at] of this.#active) if (at < now - 2 * LEASE_TIME) this.#active.delete(other);
    giveBack(this.#octets, unused.octets, now);
    giveBack(this.#messages, unused.messages, now);
    const octets = this.#portion(this.#octets, wanted.octets);
    const messages = this.#portion(this.#messages, wanted.messages);
    const waits = [charge(this.#octets, octets, now), charge(this.#messages, messages, now)];
    return { octets, messages, wait: Math.max(...waits), holds: LEASE_TIME };
  }

  /** What there is, for tests and for an operator's look. */
  async status(): Promise<MeterStatus> {
    const now = Date.now();
    return {
      connections: this.#connections.size,
      halfOpen: this.#halfOpen.size,
      connects: levelOf(this.#connects, now),
      octets: levelOf(this.#octets, now),
      messages: levelOf(this.#messages, now),
    };
  }

  /** What is wanted, up to a slice, of which all who ask have a part. */
  #portion(of: Bucket, wanted: number): number {
    return Math.min(wanted, Math.ceil((of.rate * SLICE) / 1000 / this.#active.size));
  }

  #untilConnect(): number {
    return Math.max(1, Math.ceil(wait(this.#connects, 1, Date.now()) / 1000));
  }

  /**
   * Asks those that have been silent for longest whether they are still there: an object that has lost its memory has
   * not said goodbye. It is done only when there is no room, and a few at a time, since it wakes those who sleep.
   */
  async #askSilent(): Promise<void> {
    await within(ASK_TIMEOUT, this.#ask(this.#silent(Date.now() - ASK_AFTER).slice(0, ASK_AT_ONCE)));
  }

  /** Virtual connections of which nothing was heard since then, those that have been silent for longest first. */
  #silent(since: number): string[] {
    return [...this.#connections]
      .filter(([, heard]) => heard < since)
      .sort(([, one], [, other]) => one - other)
      .map(([connection]) => connection);
  }

  /** Asks whether they are still there, and forgets those that are not. */
  async #ask(connections: readonly string[]): Promise<void> {
    const now = Date.now();
    for (const connection of connections) this.#connections.set(connection, now);
    for (let from = 0; from < connections.length; from += ASK_AT_ONCE) {
      const asked = connections.slice(from, from + ASK_AT_ONCE).map(async (connection) => {
        // Who does not answer counts as there: to forget it would let in more than there may be.
        const status = this.env.TUNNEL.getByName(connection).status();
        const answer = await within(ASK_TIMEOUT, status).catch(() => undefined);
        if (answer?.value.live === false) await this.leave(connection);
      });
      await Promise.all(asked);
    }
  }
}
