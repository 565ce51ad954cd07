/**
 * What waits in the relay's queues, and of whom: the sums that decide who may add something. They are kept in memory and
 * follow the store's rows.
 *
 * A sender is an identity. Of an edge or relay that vouches for its devices, each identity is one as well, and all of them
 * share what that relay alone may have.
 *
 * @module
 */
import {
  type Amount,
  type Held,
  hasRoom,
  isAtMark,
  isSpent,
  isWithinRelaysShare,
  isWithinShare,
  mayGoOn,
  RESERVE,
  relayBehind,
  relayOfSender,
  type StorageQuota,
} from "../store-and-forward/sender-share.ts";

/** What waits for a peer, in all, per sender, and per relay: of all senders behind it, and of the relay as a sender. */
interface Queue extends Sum {
  readonly senders: Map<string, Sender>;
  readonly relays: Map<string, Sum>;
}

interface Sum {
  octets: number;
  messages: number;
}

interface Sender extends Sum {
  /** Larger for each later message. */
  arrival: number;
}

/** A message that wants to wait. */
export interface Addition {
  readonly peer: string;
  /** As `senderOfMessage` returns it. */
  readonly sender: string;
  /** Bytes that it takes, with its envelope. */
  readonly octets: number;
  /** Whether its sender can be suspended, and so may use the reserve beyond its share. */
  readonly reserve: boolean;
  /** Whether a consumer of the queue is connected. */
  readonly awaited: boolean;
}

export class WaitingSums {
  readonly #quota: StorageQuota;
  readonly #mostQueues: number;
  readonly #queues = new Map<string, Queue>();
  /** Of each sender, and of each relay that speaks for senders: in how many queues it has messages, and their bytes. */
  readonly #everywhere = new Map<string, { queues: number; octets: number }>();
  #allQueues = 0;
  #arrivals = 0;

  /** @param mostQueues in how many peers' queues messages of all senders may wait, counted once per sender */
  constructor(quota: StorageQuota, mostQueues: number) {
    this.#quota = quota;
    this.#mostQueues = mostQueues;
  }

  clear(): void {
    this.#queues.clear();
    this.#everywhere.clear();
    this.#allQueues = 0;
  }

  /** Adjusts the sums; removals are negative. */
  add(peer: string, sender: string, messages: number, octets: number): void {
    const queue = this.#queues.get(peer) ?? { ...nothing(), senders: new Map(), relays: new Map() };
    const own = queue.senders.get(sender) ?? { ...nothing(), arrival: 0 };
    const isFirst = own.messages === 0;
    if (messages > 0) {
      this.#arrivals += 1;
      own.arrival = this.#arrivals;
    }
    for (const sum of [queue, own]) change(sum, messages, octets);
    keep(this.#queues, peer, queue);
    keep(queue.senders, sender, own);
    const queues = Number(own.messages > 0) - Number(!isFirst);
    this.#allQueues += queues;
    this.#count(sender, queues, octets);
    const relay = relayBehind(sender);
    if (relay === undefined) return;
    const ofRelay = queue.relays.get(relay) ?? nothing();
    change(ofRelay, messages, octets);
    keep(queue.relays, relay, ofRelay);
    if (relay !== sender) this.#count(relay, queues, octets);
  }

  #count(name: string, queues: number, octets: number): void {
    const sum = this.#everywhere.get(name) ?? { queues: 0, octets: 0 };
    sum.queues += queues;
    sum.octets += octets;
    if (sum.queues === 0) this.#everywhere.delete(name);
    else this.#everywhere.set(name, sum);
  }

  /** Whether there is room for a message. */
  hasRoom({ peer, sender, octets, reserve, awaited }: Addition): boolean {
    const relay = relayOfSender(sender);
    const { own, ofRelay, all } = this.#held(peer, sender, relay);
    if (this.#queues.get(peer)?.senders.has(sender) !== true && !this.#mayBegin(sender, relay)) return false;
    // What a connected consumer drains is never so much.
    const passes = awaited && all.octets + octets <= RESERVE.octets && !this.#isSpent(sender, relay, octets);
    if (!passes && this.#isOver(sender, relay, octets)) return false;
    const after = {
      own: added(own, octets),
      ofRelay: ofRelay && added(ofRelay, octets),
      all: added(all, octets),
    };
    return hasRoom(after, this.#quota, reserve);
  }

  /** Whether a sender has used up its share of a peer's queue. */
  isAtMark(peer: string, sender: string): boolean {
    return isAtMark(this.#held(peer, sender), this.#quota);
  }

  /** Whether a sender that used up its share may resume. */
  mayGoOn(peer: string, sender: string): boolean {
    return mayGoOn(this.#held(peer, sender), this.#quota);
  }

  #held(peer: string, sender: string, relay = relayOfSender(sender)): Held {
    const queue = this.#queues.get(peer);
    return {
      own: queue?.relays.get(sender) ?? queue?.senders.get(sender) ?? NOTHING,
      ofRelay: relay === undefined ? undefined : (queue?.relays.get(relay) ?? NOTHING),
      all: queue ?? NOTHING,
    };
  }

  /**
   * Whether messages of a sender may wait in one more peer's queue. Without this limit a sender could name any number of
   * peers, each of which has a quota of its own.
   */
  #mayBegin(sender: string, relay: string | undefined): boolean {
    const all = this.#allQueues + 1;
    const after = (name: string) => (this.#everywhere.get(name)?.queues ?? 0) + 1;
    if (!isWithinShare(after(relay ?? sender), all, this.#mostQueues)) return false;
    return relay === undefined || isWithinRelaysShare(after(sender), after(relay), all, this.#mostQueues);
  }

  /** Whether a sender would have more in all queues together than it may leave for absent peers. */
  #isOver(sender: string, relay: string | undefined, octets: number): boolean {
    const after = (name: string) => (this.#everywhere.get(name)?.octets ?? 0) + octets;
    const most = this.#quota.sender;
    return relay === undefined ? after(sender) > most : !isWithinShare(after(sender), after(relay), most);
  }

  /** Whether so much of a sender would wait that connected peers are no longer exempt. */
  #isSpent(sender: string, relay: string | undefined, octets: number): boolean {
    const after = (name: string) => (this.#everywhere.get(name)?.octets ?? 0) + octets;
    const most = this.#quota.sender;
    return isSpent(after(relay ?? sender), most) || (relay !== undefined && isSpent(after(sender), most / 2));
  }

  /** Senders with messages in a peer's queue. */
  senders(peer: string): Iterable<string> {
    return this.#queues.get(peer)?.senders.keys() ?? [];
  }

  /** Increases with each message from a sender to a peer; 0 if none waits. */
  arrival(peer: string, sender: string): number {
    return this.#queues.get(peer)?.senders.get(sender)?.arrival ?? 0;
  }

  /** What waits for a peer. */
  of(peer: string): Amount {
    const { octets, messages } = this.#queues.get(peer) ?? NOTHING;
    return { octets, messages };
  }
}

const NOTHING: Amount = { messages: 0, octets: 0 };

function nothing(): Sum {
  return { ...NOTHING };
}

function change(sum: Sum, messages: number, octets: number): void {
  sum.messages += messages;
  sum.octets += octets;
}

/** Keeps a sum while there is something in it. */
function keep<S extends Sum>(sums: Map<string, S>, name: string, sum: S): void {
  if (sum.messages === 0) sums.delete(name);
  else sums.set(name, sum);
}

function added(amount: Amount, octets: number): Amount {
  return { messages: amount.messages + 1, octets: amount.octets + octets };
}
