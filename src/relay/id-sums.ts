/**
 * How many bytes of a peer's remembered ids are each sender's: the sums that decide whose oldest ids are forgotten. They
 * are read from the store on demand, and kept for the peers that received messages last.
 *
 * @module
 */
import { isWithinRelaysShare, isWithinShare, relayBehind } from "../store-and-forward/sender-share.ts";
import { ID_OCTETS, KNOWN_ID_SENDERS, KNOWN_IDS } from "./limits.ts";

/** Bytes of a peer's ids, in all, per sender, and per relay of all senders behind it. */
interface Sums {
  all: number;
  readonly senders: Map<string, number>;
  readonly relays: Map<string, number>;
}

/** Bytes of one sender's ids. */
export interface SenderOctets {
  readonly sender: string;
  readonly octets: number;
}

export class IdSums {
  readonly #read: (peer: string) => Iterable<SenderOctets>;
  readonly #mostSenders: number;
  /** The longest known first. */
  readonly #known = new Map<string, Sums>();
  #senders = 0;

  /**
   * @param read reads the bytes of a peer's ids, per sender, from the store
   * @param mostSenders how many senders are known at most, of all peers; one peer may have more
   */
  constructor(read: (peer: string) => Iterable<SenderOctets>, mostSenders = KNOWN_ID_SENDERS) {
    this.#read = read;
    this.#mostSenders = mostSenders;
  }

  /** Number of senders that are known, of all peers. */
  get senders(): number {
    return this.#senders;
  }

  clear(): void {
    this.#known.clear();
    this.#senders = 0;
  }

  /** Bytes of a sender's ids. */
  of(peer: string, sender: string): number {
    return this.#sumsOf(peer).senders.get(sender) ?? 0;
  }

  /** Adjusts the sums; negative if ids are forgotten. */
  add(peer: string, sender: string, octets: number): void {
    this.#add(this.#sumsOf(peer), sender, octets);
    this.#limit(peer);
  }

  /** Whether a sender may add an id. One that has none cannot give up an older one. */
  hasRoom(peer: string, sender: string, octets: number): boolean {
    const { all, senders, relays } = this.#sumsOf(peer);
    if (senders.has(sender)) return true;
    const relay = relayBehind(sender);
    if (relay === undefined) return all + octets <= ID_OCTETS;
    return isWithinShare((relays.get(relay) ?? 0) + octets, all + octets, ID_OCTETS);
  }

  /** Whether a sender has no more than its share, and neither has the relay that speaks for it. */
  isWithinShare(peer: string, sender: string): boolean {
    const { all, senders, relays } = this.#sumsOf(peer);
    const own = senders.get(sender) ?? 0;
    const relay = relayBehind(sender);
    const ofRelay = relay === undefined ? own : (relays.get(relay) ?? 0);
    if (!isWithinShare(ofRelay, all, ID_OCTETS)) return false;
    return relay === undefined || relay === sender || isWithinRelaysShare(own, ofRelay, all, ID_OCTETS);
  }

  #sumsOf(peer: string): Sums {
    const known = this.#known.get(peer);
    if (known !== undefined) return known;
    const sums: Sums = { all: 0, senders: new Map(), relays: new Map() };
    for (const { sender, octets } of this.#read(peer)) this.#add(sums, sender, octets);
    this.#known.set(peer, sums);
    this.#limit(peer);
    return sums;
  }

  #add(sums: Sums, sender: string, octets: number): void {
    this.#senders += Number(!sums.senders.has(sender));
    sums.all += octets;
    sums.senders.set(sender, (sums.senders.get(sender) ?? 0) + octets);
    const relay = relayBehind(sender);
    if (relay !== undefined) sums.relays.set(relay, (sums.relays.get(relay) ?? 0) + octets);
  }

  /** Forgets sums while too many are known: a relay can make up any number of senders. */
  #limit(inUse: string): void {
    for (const [peer, { senders }] of this.#known) {
      if (this.#known.size <= KNOWN_IDS && this.#senders <= this.#mostSenders) return;
      if (peer === inUse) continue;
      this.#known.delete(peer);
      this.#senders -= senders.size;
    }
  }
}
