/**
 * The sessions that one side keeps open towards a peer, one for each destination. Edge, relay and device share it: each
 * derives its own slot, with what it has to send there.
 *
 *   closed ─ open() ─► opening ─► ready ◄─► suspended        over() and a refusal lead back to closed
 *
 * A slot stays while its session is closed, so that what waits for the destination keeps its place. The pool does not
 * touch the engine: its owner opens and closes the sessions.
 *
 * @module
 */

/** Whether a session may send. `opening` waits for the peer's answer, `suspended` until the peer resumes it. */
export type SlotState = "closed" | "opening" | "ready" | "suspended";

/** A destination and its session. */
export class SessionSlot {
  readonly key: string;
  /** The engine's number; undefined while the session is closed. */
  sessionId: number | undefined;
  state: SlotState = "closed";

  constructor(key: string) {
    this.key = key;
  }
}

export class SessionPool<S extends SessionSlot> {
  #limit: number;
  /** Least recently used first. */
  readonly #slots = new Map<string, S>();
  readonly #byId = new Map<number, S>();
  #newest: S | undefined;

  /** @param limit maximum number of slots */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Allows more slots. */
  widen(limit: number): void {
    this.#limit = Math.max(this.#limit, limit);
  }

  get size(): number {
    return this.#slots.size;
  }

  /** Whether a new slot would have to replace another one. */
  get full(): boolean {
    return this.#slots.size >= this.#limit;
  }

  get(key: string): S | undefined {
    return this.#slots.get(key);
  }

  /** The slot of a session; undefined if the session is not, or no longer, one of the pool's. */
  of(sessionId: number): S | undefined {
    return this.#byId.get(sessionId);
  }

  add(slot: S): void {
    this.#slots.set(slot.key, slot);
    this.#newest = slot;
    if (slot.sessionId !== undefined) this.#byId.set(slot.sessionId, slot);
  }

  /** Marks a slot as used, so that it is the last to be replaced. */
  use(slot: S): void {
    // Nearly always the same as the last one.
    if (slot === this.#newest) return;
    this.#slots.delete(slot.key);
    this.#slots.set(slot.key, slot);
    this.#newest = slot;
  }

  /** Records that the session was opened; the peer has yet to answer. */
  open(slot: S, sessionId: number): void {
    slot.sessionId = sessionId;
    slot.state = "opening";
    this.#byId.set(sessionId, slot);
  }

  /** Records that the session has ended. The slot stays. */
  over(slot: S): void {
    if (slot.sessionId !== undefined) this.#byId.delete(slot.sessionId);
    slot.sessionId = undefined;
    slot.state = "closed";
  }

  /** Removes a slot and its session. */
  delete(slot: S): void {
    this.over(slot);
    if (this.#slots.get(slot.key) === slot) this.#slots.delete(slot.key);
    if (this.#newest === slot) this.#newest = undefined;
  }

  /** Returns the least recently used of the slots that may go. */
  idlest(mayGo: (slot: S) => boolean): S | undefined {
    for (const slot of this.#slots.values()) if (mayGo(slot)) return slot;
    return undefined;
  }

  clear(): void {
    this.#slots.clear();
    this.#byId.clear();
    this.#newest = undefined;
  }

  [Symbol.iterator](): Iterator<S> {
    return this.#slots.values();
  }
}
