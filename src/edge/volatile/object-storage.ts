/**
 * The storage of an object that has none: in the memory of the isolate, which outlives the object, with alarms that the
 * Clock rings. On a machine of its own the edge has one isolate, and what is stored here ends with the process, as the
 * virtual connections do.
 *
 * Invariant: what is here is as small as what is on disk elsewhere. Each object deletes its own when it has no more use
 * for it.
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

/** Rows of the objects that have some, by kind and name. */
const stored = new Map<string, Map<string, unknown>>();

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
    return stored.get(this.#key)?.get(key) as T | undefined;
  }

  put<T>(key: string, value: T): void {
    const rows = stored.get(this.#key) ?? new Map<string, unknown>();
    stored.set(this.#key, rows);
    // Its owner may change or give away what it has stored.
    rows.set(key, structuredClone(value));
  }

  delete(key: string): boolean {
    const rows = stored.get(this.#key);
    const deleted = rows?.delete(key) ?? false;
    if (rows?.size === 0) stored.delete(this.#key);
    return deleted;
  }

  list<T = unknown>({ prefix = "" }: { readonly prefix?: string } = {}): [string, T][] {
    const rows = [...(stored.get(this.#key) ?? [])] as [string, T][];
    return rows.filter(([key]) => key.startsWith(prefix)).sort(([one], [other]) => (one < other ? -1 : 1));
  }
}
