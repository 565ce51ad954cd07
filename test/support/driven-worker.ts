/**
 * The edge's worker as driven by tests: time advances and objects fail on command, and their storage can be inspected.
 * Everything else is the edge's own code.
 *
 *   GET  /clock/{milliseconds}   sets the clock of all objects this far ahead
 *   POST /plan/{name}            what the object of that name finds when it next wakes: JSON of a Plan
 *
 * @module
 */
import type { Env } from "../../src/edge/env.ts";
import worker, * as edge from "../../src/edge/worker.ts";

/** What an object has left in its storage. */
export interface Left {
  readonly keys: string[];
  /** Tables, except those of the platform. */
  readonly tables: number;
  readonly alarm: boolean;
}

const real = Date.now.bind(Date);
let ahead = 0;
Date.now = () => real() + ahead;

/** The attachment of a Tunnel's socket, and stored values: the rest of a Tunnel, or values of a Meter by key. */
export type Plan = readonly [attachment: unknown, stored: unknown];

const planned = new Map<string, Plan>();
let waking: Plan | undefined;

const readAttachment = WebSocket.prototype.deserializeAttachment;
WebSocket.prototype.deserializeAttachment = function (this: WebSocket): unknown {
  if (waking?.[0] === "unreadable") throw new Error("it cannot be read");
  return waking === undefined ? readAttachment.call(this) : waking[0];
};

export default {
  async fetch(request, env, context) {
    const [, drive, what = ""] = /^\/(clock|plan)\/(.*)$/.exec(new URL(request.url).pathname) ?? [];
    if (drive === undefined) return worker.fetch(request, env, context);
    if (drive === "clock") ahead = Number(what);
    else planned.set(what, await request.json());
    return new Response();
  },
} satisfies typeof worker;

async function leftOf(storage: DurableObjectStorage): Promise<Left> {
  const keys = [...storage.kv.list()].map(([key]) => key);
  const names = "SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_%' ESCAPE '\\'";
  const tables = storage.sql.exec(names).toArray().length;
  return { keys, tables, alarm: (await storage.getAlarm()) !== null };
}

/** Whether an alarm is due, which the caller then runs. */
async function takeAlarm(storage: DurableObjectStorage, now: number): Promise<boolean> {
  const due = await storage.getAlarm();
  if (due === null || due > now) return false;
  await storage.deleteAlarm();
  return true;
}

export class Tunnel extends edge.Tunnel {
  #failing = false;

  constructor(ctx: DurableObjectState, env: Env) {
    const name = ctx.id.name ?? "";
    waking = planned.get(name);
    planned.delete(name);
    const stored = waking?.[1] ?? undefined;
    if (stored !== undefined) ctx.storage.kv.put("rest", stored);
    super(ctx, env);
    waking = undefined;
  }

  /** Drops its memory. Rejects. */
  async crash(): Promise<void> {
    this.ctx.abort("told to crash");
  }

  /** Advances time for all objects; this object's alarm runs if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    if (await takeAlarm(this.ctx.storage, Date.now())) await this.alarm();
  }

  /** Milliseconds until the alarm; infinite if there is none. */
  async alarmIn(): Promise<number> {
    return ((await this.ctx.storage.getAlarm()) ?? Number.POSITIVE_INFINITY) - Date.now();
  }

  /** From now on every read of octets in here throws. */
  async fail(): Promise<void> {
    this.#failing = true;
  }

  async left(): Promise<Left> {
    return leftOf(this.ctx.storage);
  }

  override push(...[caller, octets]: Parameters<edge.Tunnel["push"]>): ReturnType<edge.Tunnel["push"]> {
    return super.push(caller, this.#faulty(octets));
  }

  override exchange(
    ...[caller, target, body]: Parameters<edge.Tunnel["exchange"]>
  ): ReturnType<edge.Tunnel["exchange"]> {
    return super.exchange(caller, target, this.#faulty(body));
  }

  override poll(...[caller, poll, offered]: Parameters<edge.Tunnel["poll"]>): ReturnType<edge.Tunnel["poll"]> {
    return super.poll(caller, { ...poll, data: this.#faulty(poll.data) }, offered);
  }

  #faulty(octets: Uint8Array): Uint8Array {
    if (!this.#failing) return octets;
    return new Proxy(octets, {
      get: () => {
        throw new Error("told to fail");
      },
    });
  }
}

export class Directory extends edge.Directory {
  #hanging: Promise<void> | undefined;
  #goOn: (() => void) | undefined;

  /** From now on mailboxes do not answer, until this is called with false. */
  async hang(hangs = true): Promise<void> {
    this.#goOn?.();
    this.#hanging = hangs ? new Promise((resolve) => (this.#goOn = resolve)) : undefined;
  }

  override async enter(...call: Parameters<edge.Directory["enter"]>): Promise<number> {
    await this.#hanging;
    return super.enter(...call);
  }

  override async leave(...call: Parameters<edge.Directory["leave"]>): Promise<void> {
    await this.#hanging;
    return super.leave(...call);
  }

  override async keepUsed(...call: Parameters<edge.Directory["keepUsed"]>): Promise<void> {
    await this.#hanging;
    return super.keepUsed(...call);
  }
}

export class Mailbox extends edge.Mailbox {
  /** Advances time for all objects, and runs this object's alarm. */
  async elapse(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    await this.alarm();
  }

  /** Advances time for all objects; this object's alarm runs if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    if (await takeAlarm(this.ctx.storage, Date.now())) await this.alarm();
  }

  async left(): Promise<Left> {
    return leftOf(this.ctx.storage);
  }

  /** Milliseconds until the alarm; infinite if there is none. */
  async alarmIn(): Promise<number> {
    return ((await this.ctx.storage.getAlarm()) ?? Number.POSITIVE_INFINITY) - Date.now();
  }

  /** The number of the next message. */
  async next(): Promise<number> {
    const [row] = this.ctx.storage.sql.exec("SELECT value FROM facts WHERE name = 'next'").toArray();
    return Number(row?.value);
  }
}

export class PlainStream extends edge.PlainStream {
  /** What a query finds. */
  async rows(query: string): Promise<Record<string, SqlStorageValue>[]> {
    return this.ctx.storage.sql.exec(query).toArray();
  }

  /** Readers that wait. */
  async readers(): Promise<number> {
    return this.ctx.getWebSockets().length;
  }

  /** Advances time for all objects; this object's alarm runs if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    if (await takeAlarm(this.ctx.storage, Date.now())) await this.alarm();
  }

  async left(): Promise<Left> {
    return leftOf(this.ctx.storage);
  }
}

export class Inboxes extends edge.Inboxes {
  /** Advances time for all objects; this object's alarm runs if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    if (await takeAlarm(this.ctx.storage, Date.now())) await this.alarm();
  }

  async left(): Promise<Left> {
    return leftOf(this.ctx.storage);
  }
}

export class Link extends edge.Link {
  /** For this link only: no time passes for its connection, or the relay would appear silent. */
  #ahead = 0;

  protected override now(): number {
    return Date.now() + this.#ahead;
  }

  /** Advances time; the alarm runs if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    this.#ahead += milliseconds;
    if (await takeAlarm(this.ctx.storage, this.now())) await this.alarm();
  }

  /** Writes a fact as another release may have. */
  async write(key: string, value: unknown): Promise<void> {
    this.ctx.storage.kv.put(key, value);
  }

  async left(): Promise<Left> {
    return leftOf(this.ctx.storage);
  }
}

export class Egress extends edge.Egress {
  /** Drops its memory. Rejects. */
  async crash(): Promise<void> {
    this.ctx.abort("told to crash");
  }

  /** Advances time for all objects; this object's alarm runs if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    if (await takeAlarm(this.ctx.storage, Date.now())) await this.alarm();
  }

  /** Milliseconds until the alarm; infinite if there is none. */
  async alarmIn(): Promise<number> {
    return ((await this.ctx.storage.getAlarm()) ?? Number.POSITIVE_INFINITY) - Date.now();
  }

  async left(): Promise<Left> {
    return leftOf(this.ctx.storage);
  }
}

export class Collector extends edge.Collector {
  #calls = 0;
  #deaf = false;

  override async add(...call: Parameters<edge.Collector["add"]>): Promise<void> {
    this.#calls += 1;
    await super.add(...call);
    // It has the batch, and its answer is lost.
    if (this.#deaf) throw new Error("told to fail");
  }

  /** From now on its answers are lost. */
  async fail(fails: boolean): Promise<void> {
    this.#deaf = fails;
  }

  /** Advances time for all objects. */
  async pass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
  }

  /** Adds these one after another, and this time passes after each. */
  async addEach(batches: readonly Parameters<edge.Collector["add"]>[0][], milliseconds: number): Promise<void> {
    for (const batch of batches) {
      await this.add(batch);
      ahead += milliseconds;
    }
  }

  /** Rows of the history. */
  async historyRows(): Promise<number> {
    return Number(this.ctx.storage.sql.exec("SELECT COUNT(*) AS rows FROM history").one().rows);
  }

  /** Leaves its table as earlier releases made it. */
  async forgetWho(): Promise<void> {
    this.ctx.storage.sql.exec("ALTER TABLE objects DROP COLUMN who");
  }

  /** Drops its memory. Rejects. */
  async crash(): Promise<void> {
    this.ctx.abort("told to crash");
  }

  /** How often it was called since it woke. */
  async calls(): Promise<number> {
    return this.#calls;
  }

  async left(): Promise<Left> {
    return leftOf(this.ctx.storage);
  }
}

export class OperatorSessions extends edge.OperatorSessions {
  /** Advances time for all objects; this object's alarm runs if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    if (await takeAlarm(this.ctx.storage, Date.now())) await this.alarm();
  }

  async left(): Promise<Left> {
    return leftOf(this.ctx.storage);
  }
}

export class Meter extends edge.Meter {
  /** The number of values it found when it woke. */
  readonly #found = [...this.ctx.storage.kv.list()].length;

  constructor(ctx: DurableObjectState, env: Env) {
    const [, stored] = planned.get(ctx.id.name ?? "") ?? [];
    for (const [key, value] of Object.entries(stored ?? {})) ctx.storage.kv.put(key, value);
    planned.delete(ctx.id.name ?? "");
    super(ctx, env);
  }

  /** Advances time for all objects; this object's alarm runs if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    if (await takeAlarm(this.ctx.storage, Date.now())) await this.alarm();
  }

  async left(): Promise<Left & { readonly found: number }> {
    return { ...(await leftOf(this.ctx.storage)), found: this.#found };
  }
}
