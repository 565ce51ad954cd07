/**
 * A Tunnel's storage. It is empty until the device is admitted, so that strangers leave nothing behind, and empty again
 * after the virtual connection ends. While it is not empty there is an alarm (alarm.ts).
 *
 * @module
 */
import type { ObjectStorage } from "../volatile/object-storage.ts";
import type { Owned } from "./owner.ts";

/** The owner of the virtual connection. An object that finds it at startup has lost its memory. */
const OWNER = "owned";
/** The saved state, if no socket's attachment can carry it. */
const REST = "rest";

/** What was in the storage when the object woke. */
interface Found {
  readonly owned: Owned | undefined;
  readonly rest: unknown;
  readonly some: boolean;
}

/** What storage and alarm need of the Tunnel. */
export interface StorageContext extends Pick<DurableObjectState, "waitUntil"> {
  readonly storage: ObjectStorage;
}

export class Kept {
  readonly #context: StorageContext;
  #found: Found | undefined;
  /** Whether storage may hold anything, of this version or an older one; undefined if it is as it was found. */
  #some: boolean | undefined;
  #resting: boolean | undefined;
  #cleared: Promise<void> = Promise.resolve();

  /** @param context Nothing is read until it is asked for: most objects wake with all that they need. */
  constructor(context: StorageContext) {
    this.#context = context;
  }

  /** Owner of the virtual connection that was here before the object woke. */
  get owned(): Owned | undefined {
    return this.#read.owned;
  }

  /** The state saved before the object woke, in any version's format. */
  get rest(): unknown {
    return this.#read.rest;
  }

  /** Whether storage held anything when the object woke. */
  get foundSome(): boolean {
    return this.#read.some;
  }

  /** Whether storage may hold anything. */
  get some(): boolean {
    return this.#some ?? this.foundSome;
  }

  /** Stores the owner when the device is admitted, so that an object that loses its memory can tell. */
  keepOwner(owned: Owned): void {
    this.#change(true);
    this.#context.storage.kv.put(OWNER, owned);
  }

  /** Stores the state of an idle Tunnel. */
  keepRest(rest: unknown): void {
    this.#change(true);
    this.#context.storage.kv.put(REST, rest);
    this.#resting = true;
  }

  /** Deletes saved state that is out of date. State that a socket has carried was not in storage. */
  dropRest(): void {
    if (this.#resting ?? this.#found?.rest !== undefined) this.#context.storage.kv.delete(REST);
    this.#resting = false;
  }

  /** Deletes everything, the alarm included, when the virtual connection ends. */
  clear(): void {
    if (!this.some) return;
    this.#change(false);
    this.#resting = false;
    this.#cleared = this.#context.storage.deleteAll();
    this.#context.waitUntil(this.#cleared.catch(() => undefined));
  }

  /** Resolves when the last `clear()` is done; rejects if it failed. */
  get cleared(): Promise<void> {
    return this.#cleared;
  }

  get #read(): Found {
    if (this.#found === undefined) {
      const found = read(this.#context.storage);
      this.#found = {
        owned: found?.get(OWNER) as Owned | undefined,
        rest: found?.get(REST),
        some: found?.size !== 0,
      };
    }
    return this.#found;
  }

  /** Reads what is there before it is changed. */
  #change(some: boolean): void {
    void this.#read;
    this.#some = some;
  }
}

/** Undefined if the storage cannot be read: another version of the platform may have written it. */
function read({ kv }: ObjectStorage): Map<string, unknown> | undefined {
  try {
    return new Map(kv.list());
  } catch {
    return undefined;
  }
}
