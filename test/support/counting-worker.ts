/**
 * The edge's worker, with a clock that can be driven, and a count of all that Cloudflare would bill.
 *
 *   PUT /counting/{speed}   from now on time passes so many times as fast, and counting begins anew
 *   GET /counting           what was counted since: a Bill
 *
 * Everything else is the edge's own code.
 *
 * @module
 */
import "./driven-clock.ts";
import type { Env } from "../../src/edge/env.ts";
import worker, * as edge from "../../src/edge/worker.ts";
import { realTime, setSpeed } from "./driven-clock.ts";

/** What was counted. */
export interface Bill {
  /** Driven seconds. */
  readonly seconds: number;
  /** Requests to the Worker. */
  readonly requests: number;
  /** Calls of objects, requests to them, and alarms, by class and method. */
  readonly calls: Record<string, number>;
  /** WebSocket messages that objects have received, by class. */
  readonly messages: Record<string, number>;
  /** How often an object was active, by class: events of one object within a driven second are once. */
  readonly wakes: Record<string, number>;
  readonly rowsWritten: number;
}

/** An object is in memory for so long after an event, in milliseconds: until its Tunnel has saved its state. */
const ACTIVE = 1000;

let began = Date.now();
let bill = emptyBill();
let active = new Map<string, number>();

function emptyBill() {
  const counts = () => ({}) as Record<string, number>;
  return { requests: 0, calls: counts(), messages: counts(), wakes: counts(), rowsWritten: 0 };
}

function add(to: Record<string, number>, key: string): void {
  to[key] = (to[key] ?? 0) + 1;
}

export default {
  async fetch(request, env, context) {
    const [, speed] = /^\/counting(?:\/(\d+))?$/.exec(new URL(request.url).pathname) ?? [];
    if (request.method === "PUT" && speed !== undefined) {
      setSpeed(Number(speed));
      [began, bill, active] = [Date.now(), emptyBill(), new Map()];
      return new Response();
    }
    if (new URL(request.url).pathname === "/counting") {
      return Response.json({ ...bill, seconds: (Date.now() - began) / 1000 } satisfies Bill);
    }
    bill.requests += 1;
    return worker.fetch(request, env, context);
  },
} satisfies typeof worker;

/** Counts the events of an object. */
function event(kind: string, name: string, method: string): void {
  if (method === "webSocketMessage") add(bill.messages, kind);
  else add(bill.calls, `${kind}.${method}`);
  const key = `${kind} ${name}`;
  const now = Date.now();
  if ((active.get(key) ?? Number.NEGATIVE_INFINITY) < now) add(bill.wakes, kind);
  active.set(key, now + ACTIVE);
}

/** Methods of a prototype, with a count of their calls. */
function countCalls(kind: string, counting: object, real: object): void {
  for (const [method, { value }] of Object.entries(Object.getOwnPropertyDescriptors(real))) {
    if (method === "constructor" || typeof value !== "function") continue;
    Object.defineProperty(counting, method, {
      value(this: { ctx: DurableObjectState }, ...args: unknown[]): unknown {
        event(kind, this.ctx.id.name ?? "", method);
        return Reflect.apply(value, this, args);
      },
    });
  }
}

let isCounting = false;

/** Counts the rows that all objects write, and makes their alarms follow the driven clock. */
function countRows({ storage }: DurableObjectState): void {
  if (isCounting) return;
  isCounting = true;
  const sql = Object.getPrototypeOf(storage.sql) as SqlStorage;
  const { exec } = sql;
  sql.exec = function (this: SqlStorage, ...args: Parameters<typeof exec>) {
    const cursor = Reflect.apply(exec, this, args);
    bill.rowsWritten += cursor.rowsWritten;
    return cursor;
  } as typeof exec;
  const kv = Object.getPrototypeOf(storage.kv) as SyncKvStorage;
  const { put, delete: remove } = kv;
  kv.put = function (this: SyncKvStorage, ...args: Parameters<typeof put>) {
    bill.rowsWritten += 1;
    return Reflect.apply(put, this, args);
  } as typeof put;
  kv.delete = function (this: SyncKvStorage, key: string) {
    const was = Reflect.apply(remove, this, [key]);
    if (was) bill.rowsWritten += 1;
    return was;
  };
  const all = Object.getPrototypeOf(storage) as DurableObjectStorage;
  const { setAlarm } = all;
  all.setAlarm = function (this: DurableObjectStorage, time: number | Date) {
    bill.rowsWritten += 1;
    return Reflect.apply(setAlarm, this, [realTime(Number(time))]);
  } as typeof setAlarm;
}

export class Collector extends edge.Collector {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class Directory extends edge.Directory {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class Egress extends edge.Egress {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class Inboxes extends edge.Inboxes {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class Link extends edge.Link {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class Mailbox extends edge.Mailbox {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class Meter extends edge.Meter {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class OperatorSessions extends edge.OperatorSessions {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class PlainStream extends edge.PlainStream {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

export class Tunnel extends edge.Tunnel {
  constructor(ctx: DurableObjectState, env: Env) {
    countRows(ctx);
    super(ctx, env);
  }
}

for (const [kind, counting, real] of [
  ["Collector", Collector, edge.Collector],
  ["Directory", Directory, edge.Directory],
  ["Egress", Egress, edge.Egress],
  ["Inboxes", Inboxes, edge.Inboxes],
  ["Link", Link, edge.Link],
  ["Mailbox", Mailbox, edge.Mailbox],
  ["Meter", Meter, edge.Meter],
  ["OperatorSessions", OperatorSessions, edge.OperatorSessions],
  ["PlainStream", PlainStream, edge.PlainStream],
  ["Tunnel", Tunnel, edge.Tunnel],
] as const) {
  countCalls(kind, counting.prototype, real.prototype);
}
