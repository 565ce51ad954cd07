/**
 * Readers of a mailbox over HTTP: what waits and what is kept, as a stream of envelopes of the Durable Streams protocol.
 * They remove nothing.
 *
 * @module
 */
import { addressOf, formatAddress, parseURL } from "../../sstp/index.ts";
import type { Recipient } from "../../store-and-forward/envelope.ts";
import { StoredIds } from "../../store-and-forward/vouched-id.ts";
import { isStorageFull, noticeStorageFull } from "../disk-full.ts";
import { entityTag, type StreamState } from "../durable-streams/answers.ts";
import { asArray } from "../durable-streams/json-mode.ts";
import { EVENTS_OCTETS, READ_OCTETS, RING_OCTETS } from "../durable-streams/limits.ts";
import { formatPlace, placeAfter, placeOf } from "../durable-streams/mailbox-offset.ts";
import { formatEnvelope } from "../durable-streams/message-envelope.ts";
import { offsetOf } from "../durable-streams/requests.ts";
import { packRing, type ReadAnswer, type ReadOrder } from "../rpc/plain-stream-rpc.ts";
import { answer, parked } from "../rpc/read-answers.ts";
import type { MailboxStore } from "./mailbox-store.ts";
import type { StreamTerms } from "./stream-terms.ts";

/** The doorbells of readers that wait. */
type Sockets = Pick<DurableObjectState, "acceptWebSocket" | "getWebSockets">;

/** Content type of every mailbox as a stream. */
const JSON_TYPE = "application/json";

const ENCODER = new TextEncoder();

export class HttpReaders {
  readonly #peer: string;
  readonly #store: MailboxStore;
  readonly #terms: StreamTerms;
  readonly #sockets: Sockets;

  /** @param peer its URL */
  constructor(peer: string, store: MailboxStore, terms: StreamTerms, sockets: Sockets) {
    this.#peer = peer;
    this.#store = store;
    this.#terms = terms;
    this.#sockets = sockets;
  }

  get state(): StreamState {
    return { contentType: JSON_TYPE, next: this.tail, closed: this.#terms.closed };
  }

  /** The offset after the last message. */
  get tail(): string {
    const { losses, last } = this.#store;
    return formatPlace({ position: last, epoch: losses.epoch });
  }

  /** Notes that the mailbox is read over HTTP. A mailbox that does not exist is not created by that. */
  note(now: number): void {
    this.noteUse(now);
    if (!this.#store.exists || isStorageFull()) return;
    try {
      this.#store.noteRead(now);
    } catch (error) {
      if (!noticeStorageFull(error)) throw error;
    }
  }

  /** Notes that the mailbox is used in any way. A full disk does not prevent that. */
  noteUse(now: number): void {
    try {
      this.#terms.use(now);
    } catch (error) {
      if (!noticeStorageFull(error)) throw error;
    }
  }

  /** Answers a read with what there is, or with a doorbell. */
  answer(order: ReadOrder): Response {
    const { last, losses } = this.#store;
    const named = placeOf(offsetOf(order.offset), losses, last);
    const found = named === undefined || this.#store.isLost(named.position) ? undefined : named;
    const isGone = found === undefined;
    if (isGone && !order.resumes) return answer({ ok: false, reason: "OffsetGone" });
    const place = found ?? { position: 0, epoch: losses.epoch };
    const { runs, next } = this.#envelopesAfter(place.position, order.events ? EVENTS_OCTETS : READ_OCTETS);
    const upToDate = next === last;
    const [from, reached] = [formatPlace(place), formatPlace(placeAfter(place, next, losses))];
    const { closed } = this.#terms;
    const etag = order.offset === "now" ? undefined : entityTag(from, reached, closed && upToDate);
    const answered: ReadAnswer = {
      ok: true,
      state: { contentType: JSON_TYPE, next: reached, closed, upToDate, etag },
      isText: true,
      from,
      isEmpty: runs.length === 0,
      notModified: etag !== undefined && order.etag === etag,
      reset: isGone,
    };
    if (answered.notModified) return answer(answered);
    if (order.live && answered.isEmpty && !closed) return parked(this.#sockets, answered);
    return answer(answered, asArray(runs));
  }

  /** Tells all readers that wait what was appended, or that the mailbox was closed. */
  ring(before: number): void {
    const sockets = this.#sockets.getWebSockets();
    if (sockets.length === 0) return;
    // They have come before the mailbox, which then had nothing to note it in.
    this.note(Date.now());
    const { runs, next } = this.#envelopesAfter(before, RING_OCTETS);
    const whole = next === this.#store.last;
    const from = formatPlace({ position: before, epoch: this.#store.losses.epoch });
    const body = whole ? asArray(runs) : new Uint8Array(0);
    const ring = packRing({ from, next: this.tail, closed: this.#terms.closed, whole }, body);
    for (const socket of sockets) socket.send(ring);
  }

  /** The envelopes of messages, oldest first, up to the limit or one more. */
  #envelopesAfter(after: number, limit: number): { runs: Uint8Array[]; next: number } {
    const runs: Uint8Array[] = [];
    const ids = new StoredIds();
    let [octets, next] = [0, after];
    for (const { number, time, mail } of this.#store.log(after)) {
      const { envelope, fields, body } = mail;
      const { source, resourceURL, contentType, entries } = envelope;
      // In the mailbox of a relay, the recipients are at that relay.
      const to = (entries ?? [{ identityURL: this.#peer, deviceURL: "" }]).map(addressOfRecipient).join(" ");
      const id = ids.id(fields.userRef, source, number);
      const parts = { id, from: addressOf(source), to, resource: resourceURL, time, contentType, body };
      const run = ENCODER.encode(formatEnvelope(parts));
      runs.push(run);
      octets += run.length;
      next = number;
      if (octets >= limit) return { runs, next };
    }
    return { runs, next: Math.max(next, this.#store.last) };
  }
}

/** The address of a device or identity. */
function addressOfRecipient({ identityURL, deviceURL }: Recipient): string {
  const named = parseURL(deviceURL || identityURL);
  if (named.ok && named.value.kind === "identity") return formatAddress(named.value);
  return addressOf(deviceURL || identityURL);
}
