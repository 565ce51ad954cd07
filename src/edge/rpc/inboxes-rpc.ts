/**
 * RPC interface of an Inboxes object: the inboxes of one peer.
 *
 * @module
 */
import type { Reason } from "../reasons.ts";

/** What an inbox answers to a request that it has stored. */
export interface ChosenAnswer {
  /** 200 to 299. */
  readonly status: number;
  readonly type: "text/plain" | "application/json";
  readonly body: string;
}

/** An inbox that is to be made. What can be wrong with its parts has been checked. */
export interface NewInbox {
  readonly name: string;
  /** The verification of its requests, as text. */
  readonly verify: string;
  readonly secret: string | undefined;
  /** Bytes of the longest body. */
  readonly largest: number;
  /** Requests a second. */
  readonly rate: number;
  /** Undefined for 202 without a body. */
  readonly answer: ChosenAnswer | undefined;
}

/** What is kept of a capability: its hash, and its last characters, to tell it from others. */
export interface CapabilityTrace {
  readonly hash: string;
  readonly last: string;
}

/** An inbox, without its secrets. */
export interface InboxStatus {
  readonly name: string;
  readonly verify: string;
  /** The last characters of its URL. */
  readonly last: string;
  /** How many secrets are accepted: two for a while after a rotation. */
  readonly secrets: number;
  readonly largest: number;
  readonly rate: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  /** Requests that it has stored. */
  readonly stored: number;
  /** When it has stored the last one, in milliseconds since 1970. */
  readonly latest: number | undefined;
  /** Requests that it has refused since its object woke. */
  readonly refused: number;
  /** Why it has refused the last of them. */
  readonly refusal: Reason | undefined;
}

export interface InboxRefusal {
  readonly type: "refused";
  readonly reason: Reason;
  readonly detail: string;
  /** Seconds. */
  readonly retryAfter?: number;
}

/** What was done to an inbox, or why not. */
export type InboxChange = { readonly type: "done"; readonly inbox: InboxStatus } | InboxRefusal;

/** Whether a request to a capability may come: its body then has at most so many bytes. */
export type InboxOpened = { readonly type: "open"; readonly largest: number } | InboxRefusal;

/** What became of a request. */
export type InboxPosted =
  | { readonly type: "stored"; readonly answer: ChosenAnswer | undefined }
  /** To be answered, not stored. */
  | { readonly type: "challenge"; readonly challenge: string }
  | InboxRefusal;

/** Why a request was set aside. */
export interface SetAside {
  /** Name of its inbox. */
  readonly inbox: string;
  /** Id of its message. */
  readonly id: string;
  readonly reason: string;
  readonly detail: string;
  readonly tries: number;
}

/** A request that was set aside. */
export interface FailedRequest extends SetAside {
  readonly number: number;
  /** Method and path. */
  readonly target: string;
  /** When it was set aside, in milliseconds since 1970. */
  readonly at: number;
  readonly octets: number;
}

/** The object of one peer; see `inboxes/capability.ts` for its name. */
export interface InboxesRpc extends Rpc.DurableObjectBranded {
  create(peer: string, inbox: NewInbox, capability: CapabilityTrace): Promise<InboxChange>;
  list(): Promise<InboxStatus[]>;
  remove(name: string): Promise<boolean>;
  /** The former secret is accepted until then, in milliseconds since 1970. */
  setSecret(name: string, secret: string, until: number): Promise<InboxChange>;
  setCapability(name: string, capability: CapabilityTrace): Promise<InboxChange>;
  open(hash: string): Promise<InboxOpened>;
  /** @param message the request as `encodeRequest` writes it */
  post(hash: string, message: Uint8Array): Promise<InboxPosted>;
  setAside(peer: string, why: SetAside, message: Uint8Array): Promise<InboxRefusal | undefined>;
  /** Requests set aside, in order, after the one of that number. */
  failed(after: number): Promise<FailedRequest[]>;
  /** Puts requests back into the mailbox, all or those of some numbers. Returns how many, and why no more. */
  replay(
    numbers: readonly number[] | undefined,
  ): Promise<{ readonly replayed: number; readonly refusal?: InboxRefusal }>;
  /** Removes requests that were set aside. Returns how many. */
  discard(numbers: readonly number[] | undefined): Promise<number>;
}
