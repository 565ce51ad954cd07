/** A Mailbox in this process, with the objects that it calls. They fail as the test says, and time is the test's. */
import { registerHooks } from "node:module";
import type { TestContext } from "node:test";
import { AMPLE_OCTETS } from "../../../src/edge/admission/limits.ts";
import { SenderAccount } from "../../../src/edge/admission/sender-account.ts";
import type { Env } from "../../../src/edge/env.ts";
import type { Mailbox } from "../../../src/edge/mailbox/mailbox.ts";
import type { Delivery, Taken } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { contentsOf, type MessageBatch, pack } from "../../../src/edge/rpc/message-batch.ts";
import type { Reservation, Reserved } from "../../../src/edge/rpc/meter-rpc.ts";
import { database, type TestDatabase } from "./sqlite.ts";

/** What the platform provides. */
const PLATFORM = "export class DurableObject { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }";

registerHooks({
  resolve(specifier, context, next) {
    if (specifier !== "cloudflare:workers") return next(specifier, context);
    return { url: `data:text/javascript,${encodeURIComponent(PLATFORM)}`, shortCircuit: true };
  },
});
Object.assign(globalThis, {
  scheduler: { wait: (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds)) },
});
const { Mailbox: Real } = await import("../../../src/edge/mailbox/mailbox.ts");

/** How a Meter treats calls: it answers, does what it is told and does not answer, or never gets the call. */
type Manner = "answers" | "loses answers" | "hangs";

/** The account of one sender. */
export class FakeMeter {
  manner: Manner = "answers";
  /** Calls so far. */
  calls = 0;
  readonly account: SenderAccount;

  constructor(limit: number) {
    const kept = new Map<string, unknown>();
    const storage = {
      get: <T>(key: string) => kept.get(key) as T | undefined,
      put: (key: string, value: unknown) => void kept.set(key, value),
      delete: (key: string) => kept.delete(key),
    };
    this.account = new SenderAccount(storage, limit);
  }

  async reserve(mailbox: string, reservation: Reservation): Promise<Reserved | undefined> {
    this.calls += 1;
    if (this.manner === "hangs") return new Promise(() => undefined);
    const octets = this.account.reserve(mailbox, reservation);
    if (this.manner !== "answers") return new Promise(() => undefined);
    if (octets === undefined) return undefined;
    const { identity } = reservation;
    const isAmple = this.account.left(identity) >= AMPLE_OCTETS;
    return { octets, isAmple, isSpent: this.account.isSpent(identity) };
  }
}

/** A Tunnel that consumes the mailbox or sends to it. */
export class FakeTunnel {
  /** What it answers to deliveries. */
  taken: Taken = "taken";
  /** The number of the first message that was delivered. */
  first = 0;
  /** How many messages were delivered. */
  delivered = 0;
  /** Whether it does not answer when it is asked to come back. */
  hangs = false;
  /** How often it was asked for a sign of life, told of room, and asked to come back. */
  asked = 0;
  rooms = 0;
  recalls = 0;

  async deliver(_peer: string, _generation: number, deliveries: readonly Delivery[]): Promise<Taken> {
    this.first ||= deliveries[0]?.first ?? 0;
    for (const { bundle } of deliveries) this.delivered += contentsOf(bundle.octets).sizes.length;
    return this.taken;
  }

  async lastSign(): Promise<number> {
    this.asked += 1;
    return Date.now();
  }

  async recall(): Promise<boolean> {
    this.recalls += 1;
    return this.hangs ? new Promise(() => undefined) : false;
  }

  async fenced(): Promise<boolean> {
    return true;
  }

  async room(): Promise<void> {
    this.rooms += 1;
  }
}

const PEER = "grooveDevice://bob/pc";

export interface Driven {
  readonly mailbox: Mailbox;
  readonly db: TestDatabase;
  /** The account of an identity, or of a relay: `@relay`. */
  meter(sender: string): FakeMeter;
  tunnel(name: string): FakeTunnel;
  /** When the alarm is set for; undefined if it is not. */
  readonly alarmAt: number | undefined;
  /** Lets time pass, and the alarm run if it is due. */
  letPass(milliseconds: number): Promise<void>;
  /** The object loses its memory. */
  wake(): void;
  /** The object loses its memory, its tables and its alarm. */
  begin(): Promise<void>;
}

/**
 * @param limits bytes that may wait of a sender in all mailboxes, by default too few for an ample account; and what QUOTA
 *   and KEEP_TIME
 *   say of one mailbox
 */
export function drive(t: TestContext, { sender = AMPLE_OCTETS - 1, quota = "", keepTime = "" } = {}): Driven {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.UTC(2026, 10, 1) });
  const db = database();
  const meters = new Map<string, FakeMeter>();
  const tunnels = new Map<string, FakeTunnel>();
  const named = <T>(all: Map<string, T>, name: string, make: () => T): T => {
    const one = all.get(name) ?? make();
    all.set(name, one);
    return one;
  };
  const account = (name: string) => named(meters, name, () => new FakeMeter(sender));
  const meter = (name: string) => account(`sender:${sourceOf(name)}`);
  const tunnel = (name: string) => named(tunnels, name, () => new FakeTunnel());
  let alarmAt: number | undefined;
  const storage = {
    sql: db.sql,
    transactionSync: db.transaction,
    async getAlarm() {
      const at = alarmAt ?? null;
      // Other calls may go on meanwhile.
      await new Promise(setImmediate);
      return at;
    },
    async setAlarm(at: number) {
      alarmAt = at;
    },
    async deleteAll() {
      alarmAt = undefined;
      for (const { name } of db.sql.exec("SELECT name FROM sqlite_master WHERE type = 'table'").toArray()) {
        db.sql.exec(`DROP TABLE ${String(name)}`);
      }
    },
  };
  const directory = { enter: async () => 0, leave: async () => undefined, keepUsed: async () => undefined };
  const env = {
    QUOTA: quota,
    METER: { getByName: account },
    KEEP_TIME: keepTime,
    TUNNEL: { getByName: tunnel },
    DIRECTORY: { getByName: () => directory },
  } as unknown as Env;
  const context = {
    storage,
    id: { name: PEER },
    waitUntil: () => undefined,
    getWebSockets: () => [],
  } as unknown as DurableObjectState;
  let mailbox = new Real(context, env);
  const step = async (milliseconds: number) => {
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    t.mock.timers.tick(milliseconds);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  };
  return {
    get mailbox() {
      return mailbox;
    },
    db,
    meter,
    tunnel,
    get alarmAt() {
      return alarmAt;
    },
    async letPass(milliseconds) {
      for (let left = milliseconds; left > 0; left -= 1000) await step(Math.min(1000, left));
      if (alarmAt === undefined || alarmAt > Date.now()) return;
      alarmAt = undefined;
      // Not awaited: it may wait for time itself.
      void mailbox.alarm();
      await step(0);
    },
    wake() {
      mailbox = new Real(context, env);
    },
    async begin() {
      await storage.deleteAll();
      mailbox = new Real(context, env);
    },
  };
}

let ids = 0;

/** A message of a sender's device to the mailbox. */
export function messageOf(sender: string, length: number): MessageBatch {
  ids += 1;
  const [, relay = ""] = sender.split("@");
  const envelope = {
    source: relay === "" ? `grooveDevice://${sender}/pc` : sourceOf(`@${relay}`),
    resourceURL: "message",
    identityURL: "grooveIdentity://bob",
    deviceURL: PEER,
  };
  const userRef = `t.${ids}@${relay === "" ? `${sender}/pc` : sender}`;
  return pack([{ envelope, fields: { userRef, track: false }, body: new Uint8Array(length) }]);
}

/** The source of an identity's messages, without its device; `@relay` is that relay. */
function sourceOf(name: string): string {
  return name.startsWith("@") ? `grooveDNS://${name.slice(1)}` : `grooveDevice://${name}`;
}
