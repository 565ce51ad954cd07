/**
 * Tickets: each stands for a principal, for reading one stream or mailbox. It must be used within a minute, and is good
 * for an hour.
 *
 * @module
 */
import type { Principal } from "../../auth/principal.ts";
import { encodeBase64url } from "../../lib/base64url.ts";
import { sha256 } from "../../lib/sha256.ts";
import { OWNERS_TICKETS, TICKET_OCTETS, TICKET_REDEEM_TIME, TICKET_TIME } from "./limits.ts";

/** What is kept of a ticket. Times are milliseconds since 1970. */
export interface KeptTicket {
  /** What is stored opens nothing. */
  readonly hash: string;
  readonly principal: Principal;
  readonly issued: number;
  /** When it was used first; undefined if it was not. */
  readonly redeemed?: number | undefined;
}

/** Makes a ticket that cannot be guessed. */
export function newTicket(): string {
  return encodeBase64url(crypto.getRandomValues(new Uint8Array(TICKET_OCTETS)));
}

export function hashOfTicket(ticket: string): string {
  return encodeBase64url(sha256(new TextEncoder().encode(ticket)));
}

/** Whether a ticket is good at a time. */
export function isGood({ issued, redeemed }: Pick<KeptTicket, "issued" | "redeemed">, now: number): boolean {
  return now - issued < (redeemed === undefined ? TICKET_REDEEM_TIME : TICKET_TIME);
}

/** The tickets of a peer's mailbox: few, so that they are kept as one value. Nothing is changed in place. */
export class OwnersTickets {
  readonly kept: readonly KeptTicket[];

  constructor(kept: readonly KeptTicket[] = []) {
    this.kept = kept;
  }

  /** With another one, and without those that are no longer good. Undefined if there are too many. */
  with(ticket: KeptTicket, now: number): OwnersTickets | undefined {
    const good = this.kept.filter((one) => isGood(one, now));
    return good.length < OWNERS_TICKETS ? new OwnersTickets([...good, ticket]) : undefined;
  }

  /** The good ticket of a hash. */
  find(hash: string, now: number): KeptTicket | undefined {
    return this.kept.find((one) => one.hash === hash && isGood(one, now));
  }

  /** With a ticket noted as used. */
  redeemed(ticket: KeptTicket, now: number): OwnersTickets {
    return new OwnersTickets(this.kept.map((one) => (one === ticket ? { ...one, redeemed: now } : one)));
  }

  /** When the last one ends that is good now; undefined if none is. */
  end(now: number): number | undefined {
    const ends = this.kept.filter((one) => isGood(one, now)).map(({ issued }) => issued + TICKET_TIME);
    return ends.length === 0 ? undefined : Math.max(...ends);
  }
}
