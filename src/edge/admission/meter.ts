/**
 * Meter: the usage of one principal, source or sender, a Durable Object for each metered name.
 *
 *   Tunnel ── enter ─► may there be one more virtual connection? ── leave ─► there is one less
 *   Tunnel ── begin ─► may one more of this source or token be half open? ── begun ─► it is open, or has ended
 *   Tunnel ── lease, about once a second while there is traffic ─► an amount, and when it may be used
 *   Egress ── hold ─► may there be more TCP connections to destinations?
 *   Mailbox ── reserve, when what waits of this sender has doubled or shrunk ─► there is room, or none
 *
 * Bytes and messages are counted in memory only: after a silence long enough for eviction, the whole burst is available
 * again anyway. Connections may be silent for days, so each has a row in storage. Rows of connections always
 * have an alarm; those of a sender's account go when its mailboxes have emptied. Everything is deleted when nothing
 * counts any more.
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import { within } from "../../lib/runtime/timeout.ts";
import { type Bucket, bucket, charge, giveBack, levelOf, take, wait } from "../../lib/token-bucket.ts";
import type { Env } from "../env.ts";
import { parseQuota } from "../policy/quota-setting.ts";
import { parseRate, type Rate } from "../policy/rate-setting.ts";
import {
  type Amount,
  type Entrance,
  holderIn,
  type Lease,
  type MeterRpc,
  type MeterStatus,
  type Reservation,
  type Reserved,
} from "../rpc/meter-rpc.ts";
import { tunnelNamed } from "../volatile/object-named.ts";
import { type ObjectStorage, storageOf } from "../volatile/object-storage.ts";
import {
  AMPLE_OCTETS,
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
import { SenderAccount } from "./sender-account.ts";
import { StreamHolders } from "./stream-holders.ts";

/** Storage keys: one per virtual connection, this prefix and its name; and one for the bucket of connects. */
const CONNECTION = "connection:";
const CONNECTS = "connects";

export class Meter extends DurableObject<Env> implements MeterRpc {
  readonly #storage: ObjectStorage;
  readonly #rate: Rate;
  readonly #account: SenderAccount;
  readonly #holders: StreamHolders;
  readonly #connects: Bucket;
  readonly #octets: Bucket;
  readonly #messages: Bucket;
  /** Virtual connections, and when each last called; 0 if not since the object woke. */
  readonly #connections = new Map<string, number>();
  /** Half-open virtual connections, and until when each counts; oldest first. */
  readonly #halfOpen = new Map<string, number>();
  /** Virtual connections with traffic, and when each last asked for a lease. */
  readonly #active = new Map<string, number>();
  /** When the holders of TCP connections were last asked because there was no room. */
  #holdersAskedAt = 0;
  /** When the alarm checks whether the stored rows still count; infinite if that is not known. */
  #lookAt = Number.POSITIVE_INFINITY;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const now = Date.now();
    const storage = storageOf(ctx, env, "CONNECTION_METER");
    this.#storage = storage;
    const rate = parseRate(env.RATE ?? "");
    this.#rate = rate;
    this.#account = new SenderAccount(storage.kv, parseQuota(env.QUOTA ?? "").sender);
    this.#holders = new StreamHolders(storage.kv, rate.streams);
    this.#octets = bucket(rate.octets, rate.octets * BURST, now);
    // A rate of one a second needs a burst of at least one.
    this.#messages = bucket(rate.messages, Math.max(1, rate.messages * BURST), now);
    const connects = storage.kv.get<Pick<Bucket, "level" | "at">>(CONNECTS);
    this.#connects = { ...bucket(rate.connects / 60, rate.connects, now), ...connects };
    for (const [key] of storage.kv.list({ prefix: CONNECTION })) {
      this.#connections.set(key.slice(CONNECTION.length), 0);
    }
    if (connects !== undefined || this.#isHeld) ctx.waitUntil(this.#lookIfNever());
  }

  /** Sets the alarm for rows that an older version has stored without one. */
  async #lookIfNever(): Promise<void> {
    if ((await this.#storage.getAlarm()) !== null || this.#lookAt !== Number.POSITIVE_INFINITY) return;
    this.#lookAt = Date.now();
    await this.#storage.setAlarm(this.#lookAt);
  }

  /** Counts a virtual connection that begins. One that is counted already is admitted. It is no longer half open. */
  async enter(connection: string): Promise<Entrance> {
    this.#halfOpen.delete(connection);
    if (this.#connections.has(connection)) return { ok: true };
    // A refused try counts too, so that a device that retries all the time does not wake the other Tunnels each time.
    const may = take(this.#connects, 1, Date.now());
    if (!may) return { ok: false, retryAfter: this.#untilConnect(), limit: "connects" };
    const { level, at } = this.#connects;
    this.#storage.kv.put(CONNECTS, { level, at });
    if (this.#connections.size >= this.#rate.connections) await this.#askSilent();
    if (this.#connections.size >= this.#rate.connections) {
      this.#look();
      return { ok: false, retryAfter: Math.max(FULL_RETRY, this.#untilConnect()), limit: "connections" };
    }
    this.#connections.set(connection, Date.now());
    this.#storage.kv.put(CONNECTION + connection, true);
    this.#look();
    return { ok: true };
  }

  /** Uncounts a virtual connection that has ended. */
  async leave(connection: string): Promise<void> {
    this.#active.delete(connection);
    if (!this.#connections.delete(connection)) return;
    this.#storage.kv.delete(CONNECTION + connection);
    this.#look();
  }

  /** Called by the Clock of objects without storage. */
  async alarmDue(): Promise<void> {
    await this.alarm();
  }

  override async alarm(): Promise<void> {
    this.#lookAt = Number.POSITIVE_INFINITY;
    // A Tunnel that has lost its memory has not reported its end.
    await this.#ask(this.#silent(Date.now() - ASK_AFTER));
    await this.#askHolders();
    const remembered = this.#isHeld || levelOf(this.#connects, Date.now()) < this.#rate.connects;
    if (remembered) this.#look();
    else if (this.#account.total === 0) await this.#storage.deleteAll();
  }

  async hold(holder: string, streams: number): Promise<boolean> {
    let may = this.#holders.hold(holder, streams);
    if (!may && Date.now() >= this.#holdersAskedAt + ASK_AFTER) {
      this.#holdersAskedAt = Date.now();
      await this.#askHolders();
      may = this.#holders.hold(holder, streams);
    }
    this.#look();
    return may;
  }

  /** Whether there are rows of connections. */
  get #isHeld(): boolean {
    return this.#connections.size > 0 || this.#holders.total > 0;
  }

  async reserve(mailbox: string, reservation: Reservation): Promise<Reserved | undefined> {
    const octets = this.#account.reserve(mailbox, reservation);
    const isUnused = this.#account.total === 0 && !this.#isHeld;
    if (isUnused && this.#lookAt === Number.POSITIVE_INFINITY) await this.#storage.deleteAll();
    if (octets === undefined) return undefined;
    const { identity } = reservation;
    const isAmple = this.#account.left(identity) >= AMPLE_OCTETS;
    return { octets, isAmple, isSpent: this.#account.isSpent(identity) };
  }

  /**
   * Sets the alarm: once a day; after the last virtual connection has left, when the bucket of connects is full again.
   */
  #look(): void {
    const now = Date.now();
    const at = now + (this.#isHeld ? METER_LOOK : 1 + wait(this.#connects, this.#rate.connects, now));
    if (at >= this.#lookAt) return;
    this.#lookAt = at;
    this.ctx.waitUntil(this.#storage.setAlarm(at));
  }

  /**
   * Counts a half-open virtual connection of this source. It stops counting after {@link HALF_OPEN_TIME} at the latest.
   * The count is in memory only: eviction forgets what would soon be over anyway.
   */
  async begin(connection: string): Promise<Entrance> {
    const now = Date.now();
    for (const [begun, until] of this.#halfOpen) {
      // It is further off only if the clock was set back.
      if (until > now && until - now <= HALF_OPEN_TIME) break;
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

  /** Uncounts a half-open virtual connection that is open now, or has ended. */
  async begun(connection: string): Promise<void> {
    this.#halfOpen.delete(connection);
  }

  /**
   * Leases to a virtual connection the amount that it wants, or a slice of it. An amount that is not available yet is
   * granted in advance, with the time to wait for it: callers are served in turn, and none has to ask again.
   *
   * @param unused what is left of earlier leases, and is given back
   */
  async lease(connection: string, wanted: Amount, unused: Amount): Promise<Lease> {
    const now = Date.now();
    if (this.#connections.has(connection)) this.#connections.set(connection, now);
    this.#active.set(connection, now);
    for (const [other, at] of this.#active) if (Math.abs(now - at) > 2 * LEASE_TIME) this.#active.delete(other);
    giveBack(this.#octets, unused.octets, now);
    giveBack(this.#messages, unused.messages, now);
    const octets = this.#portion(this.#octets, wanted.octets);
    const messages = this.#portion(this.#messages, wanted.messages);
    const waits = [charge(this.#octets, octets, now), charge(this.#messages, messages, now)];
    return { octets, messages, wait: Math.max(...waits), holds: LEASE_TIME };
  }

  /** Status for tests and operators. */
  async status(): Promise<MeterStatus> {
    const now = Date.now();
    return {
      connections: this.#connections.size,
      halfOpen: this.#halfOpen.size,
      connects: levelOf(this.#connects, now),
      octets: levelOf(this.#octets, now),
      messages: levelOf(this.#messages, now),
      reserved: this.#account.total,
      streams: this.#holders.total,
    };
  }

  /** The wanted amount, limited to an equal part of {@link SLICE} among the active virtual connections. */
  #portion(of: Bucket, wanted: number): number {
    return Math.min(wanted, Math.ceil((of.rate * SLICE) / 1000 / this.#active.size));
  }

  #untilConnect(): number {
    return Math.max(1, Math.ceil(wait(this.#connects, 1, Date.now()) / 1000));
  }

  /**
   * Asks the virtual connections that were silent for longest whether they still exist: an object that has lost its
   * memory has not reported its end. This wakes Tunnels, so it is done only when there is no room, and for a few at a
   * time.
   */
  async #askSilent(): Promise<void> {
    await within(ASK_TIMEOUT, this.#ask(this.#silent(Date.now() - ASK_AFTER).slice(0, ASK_AT_ONCE)));
  }

  /** Virtual connections that have not called since then, the longest silence first. */
  #silent(since: number): string[] {
    return [...this.#connections]
      .filter(([, heard]) => heard < since)
      .sort(([, one], [, other]) => one - other)
      .map(([connection]) => connection);
  }

  /**
   * Asks the channels that hold TCP connections, at most as many as there may be connections, whether they still exist: an
   * object that has lost its memory has not said so.
   */
  async #askHolders(): Promise<void> {
    const asked = this.#holders.names.map(async (holder) => {
      const { device, route } = holderIn(holder);
      const held = this.env.EGRESS.getByName(device).holds(route);
      const answer = await within(ASK_TIMEOUT, held).catch(() => undefined);
      if (answer?.value === false) this.#holders.hold(holder, 0);
    });
    await Promise.all(asked);
  }

  /** Asks virtual connections whether they still exist, and uncounts those that do not. */
  async #ask(connections: readonly string[]): Promise<void> {
    const now = Date.now();
    for (const connection of connections) this.#connections.set(connection, now);
    for (let from = 0; from < connections.length; from += ASK_AT_ONCE) {
      const asked = connections.slice(from, from + ASK_AT_ONCE).map(async (connection) => {
        // One that does not answer counts as existing; otherwise the limit could be exceeded.
        const status = tunnelNamed(this.env, connection).status();
        const answer = await within(ASK_TIMEOUT, status).catch(() => undefined);
        if (answer?.value.live === false) await this.leave(connection);
      });
      await Promise.all(asked);
    }
  }
}
