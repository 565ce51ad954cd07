/**
 * What a device knows of the network that it is in, on the way to one edge or relay: which ways work there, and how soon
 * idle connections are cut. In another network it is recalled, or learned anew.
 *
 * @module
 */
import type { RelayConnection } from "./relay-connection.ts";
import { IdleCuts } from "./transports/idle-cuts.ts";
import { Ladder } from "./transports/ladder.ts";
import { NetworkMemory, type WayMemory } from "./transports/network-memory.ts";

export interface NetworkPlaceOptions {
  /** The edge or relay. */
  readonly to: string;
  /** Returns the key of the network that this machine is in; empty without one. */
  readonly network: () => string;
  /** What is remembered of networks. Default: nothing. */
  readonly memory?: WayMemory | undefined;
}

export class NetworkPlace {
  readonly ladder: Ladder;
  readonly #to: string;
  readonly #networkNow: () => string;
  readonly #memory: WayMemory;
  #network: string;
  #idleCuts: IdleCuts;

  constructor({ to, network, memory = new NetworkMemory() }: NetworkPlaceOptions) {
    this.#to = to;
    this.#networkNow = network;
    this.#memory = memory;
    this.#network = network();
    this.ladder = new Ladder(memory.recall(this.#name));
    this.#idleCuts = this.#idleCutsHere();
  }

  /** After how many milliseconds idle connections are cut; undefined if they are not. */
  get idleLimit(): number | undefined {
    const { limit } = this.#idleCuts;
    return Number.isFinite(limit) ? limit : undefined;
  }

  /** Looks whether the device is in another network, and recalls what is known of that. */
  look(now: number): boolean {
    const network = this.#networkNow();
    if (network === "" || network === this.#network) return false;
    this.#network = network;
    this.begin(now);
    return true;
  }

  /** Begins anew with what is remembered of this network, as after sleep. */
  begin(now: number): void {
    this.ladder.moved(this.#memory.recall(this.#name), now);
    this.#idleCuts = this.#idleCutsHere();
  }

  /** A way has worked. */
  adopted(way: string, now: number): void {
    this.ladder.adopted(way, now);
    this.#memory.remember(this.#name, way);
  }

  /** Whether a connection was cut while it was idle, as others before it: the next ones are kept from being idle. */
  isCutForIdleness({ transport, usedAt }: RelayConnection): boolean {
    const { reason, status = 0 } = transport.lost ?? {};
    // A proxy that waits for an answer in vain says so.
    if (reason !== "SessionEnded" && status !== 408 && status !== 504) return false;
    if (!this.#idleCuts.cut(performance.now() - usedAt)) return false;
    this.#memory.rememberIdle?.(this.#name, this.#idleCuts.limit);
    return true;
  }

  /** Names this network, and the relay that is reached from it. */
  get #name(): string {
    return `${this.#to} from ${this.#network}`;
  }

  #idleCutsHere(): IdleCuts {
    return new IdleCuts(this.#memory.recallIdle?.(this.#name));
  }
}
