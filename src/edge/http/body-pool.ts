/**
 * Memory for bodies that are being received or used: a total for this isolate, and within it a share for each sender.
 *
 * @module
 */
import { NOBODY, type Principal } from "../../auth/principal.ts";
import { type Amount, roomFor } from "../../store-and-forward/sender-share.ts";
import { BODIES_OCTETS, SHORT_BODY } from "./limits.ts";

/** The part of what is free that one sender alone may fill: half, as in a mailbox. */
const SHARE = 0.5;

/**
 * The same for all senders of a group: more, so that one of them does not keep the others out, and not all, since a group
 * may have a hundred.
 */
const GROUP_SHARE = 0.75;

/** Bytes by sender, or by group. */
class Sums {
  readonly #bySender = new Map<string, number>();
  all = 0;

  of(sender: string): number {
    return this.#bySender.get(sender) ?? 0;
  }

  add(sender: string, octets: number): void {
    const sum = this.of(sender) + octets;
    this.all += octets;
    if (sum > 0) this.#bySender.set(sender, sum);
    else this.#bySender.delete(sender);
  }
}

/**
 * How much memory bodies may take. A long body needs room in what all share. A short one needs room only in what its
 * sender may have of short ones, so neither other senders nor its own long bodies keep it out.
 */
export class BodyPool {
  readonly #most: number;
  readonly #long = { bySender: new Sums(), byGroup: new Sums() };
  readonly #short = { bySender: new Sums(), byGroup: new Sums() };

  /** @param most bytes of long bodies at the same time; a sender may have half as many of short ones */
  constructor(most: number) {
    this.#most = most;
  }

  /** Bytes of all long bodies. */
  get held(): number {
    return this.#long.bySender.all;
  }

  /** Bytes of all short bodies. */
  get heldByShort(): number {
    return this.#short.bySender.all;
  }

  /**
   * Begins a body that holds nothing yet.
   *
   * @param group senders that one party may have made, and that have a share together
   */
  begin(sender: string, group?: string): HeldBody {
    let own = 0;
    let isOver = false;
    const add = ({ bySender, byGroup }: Counted, octets: number) => {
      bySender.add(sender, octets);
      if (group !== undefined) byGroup.add(group, octets);
    };
    const change = (octets: number) => {
      add(this.#countedWith(own), -own);
      add(this.#countedWith(octets), octets);
      own = octets;
    };
    return {
      hold: (octets) => {
        if (isOver || !this.#mayHold(sender, group, own, octets)) return false;
        change(octets);
        return true;
      },
      release: () => {
        isOver = true;
        change(0);
      },
    };
  }

  #countedWith(octets: number): Counted {
    return octets <= SHORT_BODY ? this.#short : this.#long;
  }

  /** Whether a body may have so many bytes. @param before how many it has */
  #mayHold(sender: string, group: string | undefined, before: number, octets: number): boolean {
    if (octets <= before) return true;
    const sums = this.#countedWith(octets);
    const counted = this.#countedWith(before) === sums ? before : 0;
    const all = sums.bySender.all - counted;
    const isWithin = (others: number, share: number) => {
      if (sums === this.#short) return others + octets <= this.#most * share;
      const quota = { octets: this.#most, messages: 0, share };
      return octets <= roomFor(amountOf(others), amountOf(all), quota).octets;
    };
    if (!isWithin(sums.bySender.of(sender) - counted, SHARE)) return false;
    return group === undefined || isWithin(sums.byGroup.of(group) - counted, GROUP_SHARE);
  }
}

/** What bodies of one kind have. */
interface Counted {
  readonly bySender: Sums;
  readonly byGroup: Sums;
}

/** The memory of one body. */
export interface HeldBody {
  /** Whether the body may have so many bytes in all. If not, it keeps what it had. */
  hold(octets: number): boolean;
  /** Gives all of it back, for good. It may be called more than once. */
  release(): void;
}

/** The pool of this isolate, for all bodies but those of virtual connections. */
export const bodies = new BodyPool(BODIES_OCTETS);

/**
 * Whom the bodies of a request count for. Those of one subject count together, since it may have many tokens.
 *
 * @param source network that the request comes from; it counts where no token tells senders apart
 */
export function senderOfBodies({ id, subject, key }: Principal, source: string): string {
  if (key === "") return id === NOBODY.id ? "operator" : `source:${source}`;
  return subject === "" ? `token:${id}` : `subject:${subject}`;
}

function amountOf(octets: number): Amount {
  return { octets, messages: 0 };
}
