/**
 * The storage of an object that has none: in the memory of the isolate, which outlives the object, with alarms that the
 * Clock rings. On a machine of its own the edge has one isolate, and what is stored here ends with the process, as the
 * virtual connections do.
 *
 * Invariant: it is bounded. Each object has few rows, and deletes them when it has no more use for them; large ones, which
 * devices could make many of, share a room. What finds none is refused, as the platform refuses a row that is too long.
 *
 * @module
 */
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import { Alarms } from "./alarms.ts";
import { nameOf } from "./object-named.ts";

/** The part of the platform's storage that these objects use. */
export interface ObjectStorage extends Pick<DurableObjectStorage, "setAlarm" | "getAlarm" | "deleteAll"> {
  readonly kv: Pick<SyncKvStorage, "get" | "put" | "delete" | "list">;
}

/** Bindings whose objects may have no storage. */
export type VolatileKind = "TUNNEL" | "CONNECTION_METER";

/**
 * Bytes of a row that need no room: the owner of a virtual connection, or a limit. There are as many as connections, and
 * their devices cannot make them longer than their tokens.
 */
export const SMALL_ROW = 8 * 1024;

/** Bytes of all longer rows: saved states of idle Tunnels that no WebSocket carries. Most are shorter than a small row. */
export const LARGE_ROWS = 64 * 1024 * 1024;

interface Row {
  readonly value: unknown;
  /** Bytes of {@link LARGE_ROWS}. */
  readonly room: number;
}

/** Rows of the objects that have some, by kind and name. */
const stored = new Map<string, Map<string, Row>>();

/** Bytes of long rows. */
let large = 0;

/** Alarms of all objects without storage, by kind and name. */
export const alarms = new Alarms();

/** The one Clock. */
export const CLOCK = "clock";

const SEPARATOR = " ";

/** The kind and the name in the key of an alarm. */
export function ownerOf(key: string): { readonly kind: string; readonly name: string } {
  const at = key.indexOf(SEPARATOR);
  return { kind: key.slice(0, at), name: key.slice(at + 1) };
}

/** The storage of an object. */
export function storageOf(
  context: Pick<DurableObjectState, "id" | "storage" | "waitUntil">,
  env: Pick<Env, "CLOCK">,
  kind: VolatileKind,
): ObjectStorage {
  const storage: DurableObjectStorage | undefined = context.storage;
  return storage ?? new VolatileStorage(context, env, `${kind}${SEPARATOR}${nameOf(context)}`);
}

class VolatileStorage implements ObjectStorage {
  readonly kv: ObjectStorage["kv"];
  readonly #context: Pick<DurableObjectState, "waitUntil">;
  readonly #env: Pick<Env, "CLOCK">;
  readonly #key: string;

  constructor(context: Pick<DurableObjectState, "waitUntil">, env: Pick<Env, "CLOCK">, key: string) {
    this.#context = context;
    this.#env = env;
    this.#key = key;
    this.kv = new VolatileRows(key);
  }

  async getAlarm(): Promise<number | null> {
    return alarms.of(this.#key) ?? null;
  }

  async setAlarm(at: number | Date): Promise<void> {
    if (!alarms.set(this.#key, Number(at), Date.now())) return;
    const looks = this.#env.CLOCK?.get(CLOCK).look();
    if (looks !== undefined) this.#context.waitUntil(looks.catch(logError));
  }

  async deleteAll(): Promise<void> {
    for (const { room } of stored.get(this.#key)?.values() ?? []) large -= room;
    stored.delete(this.#key);
    alarms.delete(this.#key);
  }
}

class VolatileRows implements Pick<SyncKvStorage, "get" | "put" | "delete" | "list"> {
  readonly #key: string;

  constructor(key: string) {
    this.#key = key;
  }

  get<T = unknown>(key: string): T | undefined {
    // Like a row from a disk it is the caller's own, who may give its memory away.
    return structuredClone(stored.get(this.#key)?.get(key)?.value) as T | undefined;
  }

  put<T>(key: string, value: T): void {
    const rows = stored.get(this.#key) ?? new Map<string, Row>();
    const size = sizeOf(value);
    const room = size > SMALL_ROW ? size : 0;
    const all = large - (rows.get(key)?.room ?? 0) + room;
    if (room > 0 && all > LARGE_ROWS) throw new Error(`there is no room for a row of ${size} bytes`);
    large = all;
    stored.set(this.#key, rows);
    // Its owner may change or give away what it has stored.
    rows.set(key, { value: structuredClone(value), room });
  }

  delete(key: string): boolean {
    const rows = stored.get(this.#key);
    large -= rows?.get(key)?.room ?? 0;
    const deleted = rows?.delete(key) ?? false;
    if (rows?.size === 0) stored.delete(this.#key);
    return deleted;
  }

  list<T = unknown>({ prefix = "" }: { readonly prefix?: string } = {}): [string, T][] {
    const keys = [...(stored.get(this.#key)?.keys() ?? [])].filter((key) => key.startsWith(prefix)).sort();
    return keys.map((key) => [key, this.get(key) as T]);
  }
}

/** About the bytes that plain data takes in memory. */
function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length + VALUE;
  if (ArrayBuffer.isView(value)) return value.byteLength + VALUE;
  if (typeof value !== "object" || value === null) return VALUE;
  return Object.entries(value).reduce((sum, [key, one]) => sum + key.length + sizeOf(one), VALUE);
}

/** Bytes of a value besides its text: a pointer and a header. */
const VALUE = 16;
