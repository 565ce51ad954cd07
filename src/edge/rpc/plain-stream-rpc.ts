/**
 * RPC interface of a plain stream: one that belongs to no peer, and is read and written over HTTP only.
 *
 * A read is a request to the object's `fetch`, with a {@link ReadOrder} in the header ORDER. It is answered with a
 * {@link ReadAnswer} in the header STATE and, as body, what was read. A live read at the tail of an open stream is
 * answered with a doorbell instead: a hibernatable WebSocket, so that the object may sleep while the Worker waits. The
 * object rings each doorbell for each append; what is short is in the ring itself.
 *
 *   object → Worker   binary       {@link Ring}: what was appended, or that there is more to read
 *                     close 4000   the stream was deleted; the close reason is the name of a Reason
 *   Worker → object   close 1000   the reader has its answer, or is gone
 *
 * @module
 */
import type { Principal } from "../../auth/principal.ts";
import type { ReadState, StreamState } from "../durable-streams/answers.ts";
import type { Lifetime } from "../durable-streams/expiry.ts";
import type { Lineage } from "../durable-streams/offset.ts";
import type { ProducerState } from "../durable-streams/producer.ts";
import type { AppendRequest, CreateRequest, ForkRequest } from "../durable-streams/requests.ts";
import type { Reason } from "../reasons.ts";

/** Why a stream refuses a request, and headers that say more. */
export interface StreamRefusal {
  readonly ok: false;
  readonly reason: Reason;
  readonly detail?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface CreateOrder extends Omit<CreateRequest, "fork"> {
  readonly fork: (Omit<ForkRequest, "from"> & { readonly name: string }) | undefined;
  readonly body: Uint8Array;
  /** Whose quota the stream counts against; undefined on an edge without tokens. */
  readonly owner: string | undefined;
}

export type Created = StreamRefusal | { readonly ok: true; readonly isNew: boolean; readonly state: StreamState };

export interface AppendOrder extends AppendRequest {
  readonly body: Uint8Array;
  /** Who appends. The ids of its producers are its own. */
  readonly source: string;
}

export type Stored =
  | StreamRefusal
  | {
      readonly ok: true;
      readonly isDuplicate: boolean;
      readonly next: string;
      readonly closed: boolean;
      readonly producer: ProducerState | undefined;
    };

export type Metadata = StreamRefusal | { readonly ok: true; readonly state: StreamState & { lifetime: Lifetime } };

export interface ReadOrder {
  /** As the client has written it. */
  readonly offset: string;
  /** Whether a reader that resumes there may be told to begin anew, instead of being refused. */
  readonly resumes: boolean;
  /** Whether to wait at the tail. */
  readonly live: boolean;
  /** Whether what is read becomes events, which end with a whole character. */
  readonly events: boolean;
  /** If-None-Match. */
  readonly etag: string | undefined;
}

export type ReadAnswer =
  | StreamRefusal
  | {
      readonly ok: true;
      readonly state: ReadState;
      /** What is read is of JSON or text, and needs no base64. */
      readonly isText: boolean;
      /** The offset at which the read began. */
      readonly from: string;
      /** Nothing was read. */
      readonly isEmpty: boolean;
      /** The client has what was read. */
      readonly notModified: boolean;
      /** The offset was gone, so the read began at the beginning. */
      readonly reset: boolean;
    };

/** What a fork is to be made of. */
export interface LoanWanted extends Omit<ForkRequest, "from"> {
  readonly fork: string;
  /** Content type that the fork must have; undefined for any. */
  readonly contentType: string | undefined;
}

/** What a source gives to its fork. */
export type Loan =
  | StreamRefusal
  | {
      readonly ok: true;
      readonly contentType: string;
      readonly lifetime: Lifetime;
      /** Of the fork; its last stretch is the fork's own. */
      readonly lineage: Lineage;
      /** The offset at which the fork begins. */
      readonly offset: string;
    };

/** A part of a stream, for its forks. */
export interface Piece {
  /** In order; undefined if the stream has lost it. */
  readonly runs: readonly Uint8Array[];
  readonly next: number;
}

/** A ticket: it stands for its principal, for reading this stream only. */
export type Ticket = StreamRefusal | { readonly ok: true; readonly ticket: string; readonly expires: number };

/** What gives tickets for reading itself. */
export interface TicketRpc {
  /** Issues a ticket that must be redeemed within a minute. */
  issueTicket(principal: Principal): Promise<Ticket>;
  /** Whom a ticket stands for; undefined if it is not valid. */
  redeemTicket(ticket: string): Promise<Principal | undefined>;
}

/** The object of one plain stream, named by its name. */
export interface PlainStreamRpc extends Rpc.DurableObjectBranded, TicketRpc {
  fetch(request: Request): Promise<Response>;
  create(order: CreateOrder): Promise<Created>;
  append(order: AppendOrder): Promise<Stored>;
  metadata(): Promise<Metadata>;
  remove(): Promise<StreamRefusal | { readonly ok: true }>;
  /** Makes this stream the source of a fork, which keeps its data even when it is deleted. */
  lend(wanted: LoanWanted): Promise<Loan>;
  /** A fork no longer exists, or was not created after all. */
  giveBack(fork: string, incarnation: number): Promise<void>;
  /** Whether the stream is the fork of that incarnation. */
  isFork(incarnation: number): Promise<boolean>;
  /** Reads what a fork has inherited, also of a deleted stream. Undefined if there is no such stream. */
  piece(incarnation: number, from: number, end: number, limit: number): Promise<Piece | undefined>;
}

/** Headers of a read: URL-encoded JSON. */
export const ORDER = "Stream-Order";
export const STATE = "Stream-State";

export function packHeader(value: ReadOrder | ReadAnswer): string {
  return encodeURIComponent(JSON.stringify(value));
}

export function unpackHeader<T extends ReadOrder | ReadAnswer>(text: string | null): T {
  return JSON.parse(decodeURIComponent(text ?? "null"));
}

/** What has changed at the tail. */
export interface RingHead {
  /** The offsets before and after what was appended. */
  readonly from: string;
  readonly next: string;
  readonly closed: boolean;
  /** Whether the body is in the ring. If not, it must be read. */
  readonly whole: boolean;
}

export interface Ring extends RingHead {
  /** As the body of a read. */
  readonly octets: Uint8Array;
}

const LENGTH = 4;

export function packRing(head: RingHead, octets: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(head));
  const ring = new Uint8Array(LENGTH + text.length + octets.length);
  new DataView(ring.buffer).setUint32(0, text.length);
  ring.set(text, LENGTH);
  ring.set(octets, LENGTH + text.length);
  return ring;
}

export function unpackRing(ring: ArrayBuffer): Ring {
  const end = LENGTH + new DataView(ring).getUint32(0);
  const head: RingHead = JSON.parse(new TextDecoder().decode(new Uint8Array(ring, LENGTH, end - LENGTH)));
  return { ...head, octets: new Uint8Array(ring, end) };
}
