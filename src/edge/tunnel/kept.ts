/**
 * What a Tunnel keeps in storage: nothing before its device is let in, so that strangers leave nothing behind, and nothing
 * after the end of the virtual connection. Whatever is kept has an alarm beside it. An object that a crash has taken out of
 * memory is woken by that alarm, finds its virtual connection lost, and clears up.
 *
 * @module
 */
import { LOST_LOOK } from "./limits.ts";
import type { Owned } from "./owner.ts";

/** Whose the virtual connection is: an object that has lost its memory knows by it that it has. */
const OWNER = "owned";
/** What the object left when it was put to sleep, where no socket can carry that. */
const REST = "rest";

export class Kept {
  readonly #context: Pick<DurableObjectState, "storage" | "waitUntil">;
  /** Whose the virtual connection was that was here before the object woke. */
  readonly owned: Owned | undefined;
  /** What was left then, in whatever format. */
  readonly rest: unknown;
  /** Whether something, of this version or of an older one, may be in storage. */
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

  /** Whether something may be in storage. */
  get some(): boolean {
    return this.#some;
  }

  /** The device was let in: from now on an object that loses its memory knows that it has. */
  keepOwner(owned: Owned): void {
    this.#some = true;
    this.#context.storage.kv.put(OWNER, owned);
  }

  keepRest(rest: unknown): void {
    if (!this.#some) this.setAlarm(Date.now() + LOST_LOOK);
    this.#resting = true;
    this.#context.storage.kv.put(REST, rest);
  }

  /** What was left is no longer true. */
  dropRest(): void {
    if (this.#resting) this.#context.storage.kv.delete(REST);
    this.#resting = false;
  }

  setAlarm(at: number): void {
    this.#some = true;
    this.#context.waitUntil(this.#context.storage.setAlarm(at));
  }

  /** The virtual connection is over: nothing of it stays, its alarm neither. */
  clear(): void {
    if (!this.#some) return;
    this.#some = false;
    this.#resting = false;
    this.#cleared = this.#context.storage.deleteAll();
    this.#context.waitUntil(this.#cleared.catch(() => undefined));
  }

  /** Rejects when what had to be cleared could not be. */
  get cleared(): Promise<void> {
    return this.#cleared;
  }
}

/** Undefined when what is there cannot be read: an other version of the platform may have written it. */
function read({ kv }: DurableObjectStorage): Map<string, unknown> | undefined {
  try {
    return new Map(kv.list());
  } catch {
    return undefined;
  }
}
