/**
 * A Tunnel's storage. It is empty until the device is admitted, so that strangers leave nothing behind, and empty again
 * after the virtual connection ends. While it is not empty there is an alarm (alarm.ts).
 *
 * @module
 */
import type { Owned } from "./owner.ts";

/** The owner of the virtual connection. An object that finds it at startup has lost its memory. */
const OWNER = "owned";
/** The saved state, if no socket's attachment can carry it. */
const REST = "rest";

export class Kept {
  readonly #context: Pick<DurableObjectState, "storage" | "waitUntil">;
  /** Owner of the virtual connection that was here before the object woke. */
  readonly owned: Owned | undefined;
  /** The state saved before the object woke, in any version's format. */
  readonly rest: unknown;
  /** Whether storage may hold anything, of this version or an older one. */
  #some: boolean;
  #resting: boolean;
  #cleared: Promise<void> = Promise.resolve();

  /** @param context of the Tunnel */
  constructor(context: Pick<DurableObjectState, "storage" | "waitUntil">) {
    this.#context = context;
    const found = read(context.storage);
    this.owned = found?.get(OWNER) as Owned | undefined;
    this.rest = found?.get(REST);
    this.#some = found?.size !== 0;
    this.#resting = this.rest !== undefined;
  }

  /** Whether storage may hold anything. */
  get some(): boolean {
    return this.#some;
  }

  /** Stores the owner when the device is admitted, so that an object that loses its memory can tell. */
  keepOwner(owned: Owned): void {
    this.#some = true;
    this.#context.storage.kv.put(OWNER, owned);
  }

  /** Stores the state of an idle Tunnel. */
  keepRest(rest: unknown): void {
    this.#context.storage.kv.put(REST, rest);
    this.#some = true;
    this.#resting = true;
  }

  /** Deletes saved state that is out of date. */
  dropRest(): void {
    if (this.#resting) this.#context.storage.kv.delete(REST);
    this.#resting = false;
  }

  /** Deletes everything, the alarm included, when the virtual connection ends. */
  clear(): void {
    if (!this.#some) return;
    this.#some = false;
    this.#resting = false;
    this.#cleared = this.#context.storage.deleteAll();
    this.#context.waitUntil(this.#cleared.catch(() => undefined));
  }

  /** Resolves when the last `clear()` is done; rejects if it failed. */
  get cleared(): Promise<void> {
    return this.#cleared;
  }
}

/** Undefined if the storage cannot be read: another version of the platform may have written it. */
function read({ kv }: DurableObjectStorage): Map<string, unknown> | undefined {
  try {
    return new Map(kv.list());
  } catch {
    return undefined;
  }
}
