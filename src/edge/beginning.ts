/**
 * Beginning: a virtual connection until its device has said who it is. It decides who may begin one here, makes it, and
 * writes down how far it has come, since nothing keeps its object in memory until the handshake is complete.
 *
 *   crowded() ─► begin() ─► remember() ... ─► establish() ─► expectConnect() ─► arrived()
 *                                                            passed through to a relay ─┘
 *
 * @module
 */
import { NOBODY, type Principal } from "../auth/principal.ts";
import {
  type KeepAliveTarget,
  type LongLivedTarget,
  openPolling,
  openVirtualConnection,
  type Poll,
  type PollingConnection,
  type VirtualConnection,
} from "../encapsulation/index.ts";
import { POLL_RECEIVE_TIMEOUT } from "./defaults.ts";
import type { Env } from "./env.ts";
import { HalfOpen } from "./half-open.ts";
import { deadlineOf, type Live, liveOf, type Refused, refused } from "./live.ts";
import type { Ownership } from "./ownership.ts";
import type { Caller } from "./parking.ts";
import { type Polling, pollingOf } from "./polling.ts";
import type { Reason } from "./reasons.ts";

/**
 * What is written down of a beginning. After the handshake only that it was, so that an object which has lost its memory
 * knows that it has.
 */
export interface Opening {
  readonly live?: VirtualConnection;
  readonly polling?: PollingConnection;
  readonly established?: true;
  /** Who has opened it. */
  readonly owner: Principal;
}

const OPENING = "opening";

/** What was written down before the object woke; nothing when no virtual connection was begun, or it is over. */
export function openingOf(storage: DurableObjectStorage): Partial<Opening> {
  return storage.kv.get<Opening>(OPENING) ?? {};
}

export class Beginning {
  readonly #context: DurableObjectState;
  readonly #ownership: Ownership;
  readonly #halfOpen: HalfOpen;

  /** @param context of the Tunnel */
  constructor(env: Env, context: DurableObjectState, ownership: Ownership) {
    this.#context = context;
    this.#ownership = ownership;
    this.#halfOpen = new HalfOpen(env, context);
  }

  /** Why no virtual connection may be begun here by this caller; undefined when it may, or when there is or was one. */
  async crowded({ principal, source }: Caller): Promise<Refused | undefined> {
    if (this.#ownership.owner !== undefined) return undefined;
    const retryAfter = await this.#halfOpen.begin(source);
    // Somebody else may have begun it meanwhile, and it is his then.
    if (this.#ownership.isStranger(principal)) return refused("UnknownConnection");
    return retryAfter === undefined ? undefined : { ...refused("TooManyHalfOpen"), retryAfter };
  }

  /** The first request of a LongLived or KeepAlive virtual connection. */
  begin(caller: Caller, target: LongLivedTarget | KeepAliveTarget): Live {
    const state = openVirtualConnection(target, Date.now());
    this.#claim(caller, state);
    return liveOf(state);
  }

  /** The first request of a Polling one. */
  beginPolling(caller: Caller, poll: Poll): Polling {
    const state = openPolling(poll, Date.now(), { receive: POLL_RECEIVE_TIMEOUT });
    this.#claim(caller, state);
    return pollingOf(state);
  }

  /** Writes down a virtual connection that is still being opened. */
  remember(connection: Live | Polling): void {
    if (connection.origin !== undefined) return;
    this.#write("bell" in connection ? { live: connection.state } : { polling: connection.state });
  }

  /** The handshake is complete. */
  establish(): void {
    this.#write({ established: true });
  }

  /** It ends at this edge: its device has to say Connect before long. */
  expectConnect(): void {
    this.#halfOpen.expect();
  }

  /** What became of a Connect that has not come; undefined while there is time for one. */
  get late(): Reason | undefined {
    if (!this.#halfOpen.late) return undefined;
    return this.#ownership.owner?.id === NOBODY.id ? "TokenNeeded" : "ConnectTimeout";
  }

  /** Who its device is has been settled, or is the origin relay's to ask. */
  arrived(): void {
    this.#ownership.standing.connected();
    this.#halfOpen.end();
  }

  /** The virtual connection is over, however far it had come. */
  over(): void {
    this.#halfOpen.end();
    this.#context.storage.kv.delete(OPENING);
  }

  #claim(caller: Caller, state: VirtualConnection | PollingConnection): void {
    this.#ownership.claim(caller);
    this.#context.waitUntil(this.#context.storage.setAlarm(deadlineOf(state)));
  }

  #write(opening: Omit<Opening, "owner">): void {
    const owner = this.#ownership.owner ?? NOBODY;
    this.#context.storage.kv.put(OPENING, { ...opening, owner } satisfies Opening);
  }
}
