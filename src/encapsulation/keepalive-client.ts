/** The client's end of a KeepAlive virtual connection [MS-GRVHENC 3.3]. */

import { OctetQueue } from "../lib/octet-queue.ts";
import type { BodySize } from "./body-size.ts";
import { CONFIRMATION_LIMIT, confirmedBody, firstSize, sizeAfter, sizeRefused } from "./body-size.ts";
import type {
  ClientOptions,
  ClientOutput,
  ClientSessionName,
  EncapsulationClient,
  Lost,
  SessionEvent,
} from "./client-session.ts";
import { baseOf, ClientSession, isByBody, lost, lostByStatus, relayOf, timersOf } from "./client-session.ts";
import { FIRST_HOLD, firstHold, type HoldTime, holdAfter, holdCut } from "./hold-time.ts";
import { framingOf } from "./http-body.ts";
import type { Timers } from "./registry.ts";
import { ECHO_STRING, EncapsulationError, HELD_BODY, MAX_BODY } from "./registry.ts";
import { countedId, formatTarget } from "./target.ts";
import type { ConnectionState, Session } from "./virtual-connection-server.ts";

/** Statuses of proxies that have waited too long: 408 of some, and 504 [RFC 9110 15.5.9, 15.6.5]. */
const CUT_STATUS: readonly number[] = [408, 504];

/**
 * Sends one GET, which the server holds until it has data, and one POST at a time of up to 32768 octets, or more if a
 * Grooveway server grants it (`body-size.ts`). A connection that ends between requests is reopened for the next. One
 * that ends during an exchange loses the virtual connection, because it is unknown what arrived.
 *
 * Requests of each session are numbered in their IDs, so that a Grooveway server recognizes one that a proxy repeats, or
 * that is sent again because the server or a proxy was closing the connection that it had kept.
 */
export class KeepAliveClient implements EncapsulationClient {
  /** Requests follow each other without end. */
  readonly remaining = Number.POSITIVE_INFINITY;
  readonly #options: ClientOptions;
  readonly #timers: Timers;
  readonly #get: ClientSession;
  readonly #post: ClientSession;
  #queue = new OctetQueue();
  #state: ConnectionState = "Connecting";
  #started = false;
  /** Requests sent on each session. */
  readonly #sent = { get: 0, post: 0 };
  #echoed = 0;
  /** What follows the echo string: the server's answer to the body size offered. */
  readonly #confirmation: number[] = [];
  /** Octets that a body of the server may have. */
  #bodyLimit: number = MAX_BODY;
  /** The size of bodies to the server. */
  #size: BodySize = firstSize(MAX_BODY);
  /** The body of the outstanding POST, its length, and when it was sent. */
  #posted: { readonly body: readonly Uint8Array[]; readonly length: number; readonly at: number } | undefined;
  #getEstablished = false;
  #postEstablished = false;
  /** For how long GETs may be held, and when the outstanding one was sent. */
  #hold: HoldTime;
  #getAt = 0;
  /** Octets of the current response's body on the GET session. */
  #bodyLength = 0;
  #establishmentDeadline = Number.POSITIVE_INFINITY;
  #getDeadline = Number.POSITIVE_INFINITY;
  #postDeadline = Number.POSITIVE_INFINITY;
  #keepAliveDeadline = Number.POSITIVE_INFINITY;

  /** @throws EncapsulationError if an option is invalid */
  constructor(options: ClientOptions) {
    this.#options = options;
    this.#timers = timersOf(options);
    this.#hold = firstHold(options.hold);
    this.#get = new ClientSession("get", "KeepAlive", options);
    this.#post = new ClientSession("post", "KeepAlive", options);
    this.#target("get");
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get pending(): number {
    return this.#queue.length;
  }

  get bodySize(): number {
    return this.#size.next;
  }

  get deadline(): number {
    return Math.min(this.#establishmentDeadline, this.#getDeadline, this.#postDeadline, this.#keepAliveDeadline);
  }

  start(now: number): ClientOutput[] {
    if (this.#started) throw new EncapsulationError("start may be called once; make a new client");
    this.#started = true;
    this.#establishmentDeadline = now + this.#timers.establishment;
    return [...this.#sendGet(now), ...this.#sendPost([ECHO_STRING], now)];
  }

  feed(session: ClientSessionName, octets: Uint8Array, now: number): ClientOutput[] {
    if (this.#state === "Closed" || octets.length === 0) return [];
    if (session === "get") {
      this.#getDeadline = now + this.#timers.receive;
      return this.#handle(session, this.#get.feed(octets), now);
    }
    // Some proxies send a 408 before they close an idle connection; it answers no request.
    if (!this.#post.outstanding) return this.#post.close();
    this.#postDeadline = now + this.#timers.receive;
    return this.#handle(session, this.#post.feed(octets), now);
  }

  ended(session: ClientSessionName, now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    const which = session === "get" ? this.#get : this.#post;
    const events = which.ended();
    if (events.length === 0 && which.outstanding) {
      const cut = session === "get" ? this.#cut(now) : [];
      return [...cut, ...(this.#again(which, now) ?? this.#lose(lost("SessionEnded")))];
    }
    return this.#handle(session, events, now);
  }

  send(octets: Uint8Array | readonly Uint8Array[], now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    this.#queue.push(octets);
    return this.#flush(now);
  }

  expire(now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    if (now >= this.#establishmentDeadline) return this.#lose(lost("EstablishmentTimeout"));
    if (now >= Math.min(this.#getDeadline, this.#postDeadline)) return this.#lose(lost("ReceiveTimeout"));
    if (now < this.#keepAliveDeadline) return [];
    this.#keepAliveDeadline = now + this.#timers.keepAlive;
    return [{ type: "keepAlive" }];
  }

  close(): ClientOutput[] {
    const outputs = [...this.#get.close(), ...this.#post.close()];
    this.#state = "Closed";
    this.#queue.clear();
    this.#establishmentDeadline = Number.POSITIVE_INFINITY;
    this.#getDeadline = Number.POSITIVE_INFINITY;
    this.#postDeadline = Number.POSITIVE_INFINITY;
    this.#keepAliveDeadline = Number.POSITIVE_INFINITY;
    return outputs;
  }

  #target(session: Session): string {
    const requestId = this.#options.requestId?.() ?? countedId(this.#sent[session]);
    const isFirst = session === "get" && !this.#getEstablished;
    return formatTarget({
      encapsulation: "KeepAlive",
      bodyLimit: isFirst ? this.#options.bodyLimit : undefined,
      hold: session === "get" ? this.#askedHold : undefined,
      relay: relayOf(this.#options),
      guid: this.#options.guid,
      requestId,
      ...baseOf(this.#options),
    });
  }

  /** Seconds to ask for; undefined to leave it to the server. */
  get #askedHold(): number | undefined {
    return this.#options.hold === undefined && this.#hold.next <= FIRST_HOLD ? undefined : this.#hold.next;
  }

  #sendGet(now: number): ClientOutput[] {
    this.#bodyLength = 0;
    this.#getAt = now;
    this.#expectAnswer(now);
    this.#sent.get += 1;
    // The length of a streamed response is not known when it begins.
    const chunks = this.#bodyLimit > HELD_BODY;
    return this.#get.request({ method: "GET", target: this.#target("get"), contentLength: 0, body: [], chunks });
  }

  /** The server is gone when it is silent for the receive timer beyond what it usually holds a GET for. */
  #expectAnswer(now: number): void {
    const longer = Math.max(0, (this.#askedHold ?? FIRST_HOLD) - FIRST_HOLD);
    this.#getDeadline = now + this.#timers.receive + longer * 1000;
  }

  #sendPost(body: readonly Uint8Array[], now: number): ClientOutput[] {
    const contentLength = body.reduce((sum, octets) => sum + octets.length, 0);
    this.#postDeadline = now + this.#timers.receive;
    this.#posted = { body, length: contentLength, at: now };
    this.#sent.post += 1;
    return this.#post.request({ method: "POST", target: this.#target("post"), contentLength, body });
  }

  /** Sends the next POST, as full as possible, if none is outstanding. */
  #flush(now: number): ClientOutput[] {
    if (this.#state !== "Established" || this.#post.outstanding || this.#queue.length === 0) return [];
    this.#keepAliveDeadline = now + this.#timers.keepAlive;
    return this.#sendPost(this.#queue.take(this.#size.next), now);
  }

  #handle(session: ClientSessionName, events: readonly SessionEvent[], now: number): ClientOutput[] {
    const outputs: ClientOutput[] = [];
    for (const event of events) {
      if (event.type === "repeated") {
        outputs.push(...event.outputs);
        if (this.#state !== "Established") this.#establishmentDeadline = now + this.#timers.establishment;
      } else if (event.type === "lost") {
        return [...outputs, ...this.#lose(event)];
      } else if (event.type === "head") {
        if (event.head.status === 200) {
          // A response that ends with its connection may have been cut off, and a streamed one is not sent again.
          const isStreamed = this.#bodyLimit > HELD_BODY && framingOf(event.head).type === "close";
          if (session === "post" || !isStreamed) continue;
          return [...outputs, { type: "bodyRefused", bodyLimit: HELD_BODY }, ...this.#lose(lost("MalformedBody"))];
        }
        const why = lostByStatus(event.head);
        const again = session === "post" ? this.#postAgain(why, now) : undefined;
        // A proxy that waits for an answer in vain says so.
        const cut = session === "get" && CUT_STATUS.includes(event.head.status) ? this.#cut(now) : [];
        return [...outputs, ...cut, ...(again ?? this.#lose(why))];
      } else if (session === "post") {
        if (event.type === "end") outputs.push(...this.#endPost(now));
      } else if (event.type === "end") {
        if (!this.#getEstablished && !this.#confirm()) return [...outputs, ...this.#lose(lost("BadEcho"))];
        outputs.push(...this.#endGet(now));
      } else {
        const why = this.#take(event.data, outputs);
        if (why !== undefined) return [...outputs, ...this.#lose(why)];
      }
    }
    return outputs;
  }

  #take(data: Uint8Array, outputs: ClientOutput[]): Lost | undefined {
    this.#bodyLength += data.length;
    if (this.#bodyLength > this.#bodyLimit) return lost("BodyTooLong");
    if (this.#getEstablished) {
      outputs.push({ type: "data", data });
      return undefined;
    }
    for (const octet of data) {
      if (this.#echoed < ECHO_STRING.length) {
        if (octet !== ECHO_STRING[this.#echoed]) return lost("BadEcho");
        this.#echoed += 1;
      } else if (this.#options.bodyLimit === undefined || this.#confirmation.length === CONFIRMATION_LIMIT) {
        return lost("BadEcho");
      } else this.#confirmation.push(octet);
    }
    return undefined;
  }

  /** Takes over the body size that the server has granted. Returns false if the handshake's answer is not valid. */
  #confirm(): boolean {
    if (this.#echoed < ECHO_STRING.length) return false;
    const limit = confirmedBody(Uint8Array.from(this.#confirmation), this.#options.bodyLimit ?? 0);
    if (limit === undefined) return false;
    this.#bodyLimit = limit;
    this.#size = firstSize(limit);
    return true;
  }

  /**
   * Sends the data of a POST again in smaller bodies, if a proxy has refused it for its length; undefined if it was
   * refused for something else. The POST keeps its number, since the server has not read all of it.
   */
  #postAgain({ status, code }: Lost, now: number): ClientOutput[] | undefined {
    const posted = this.#posted;
    if (posted === undefined || posted.length <= MAX_BODY || status !== 413 || code !== undefined) return undefined;
    this.#size = sizeRefused(this.#size, posted.length);
    const queue = new OctetQueue();
    queue.push(posted.body);
    queue.push(this.#queue.take(this.#queue.length));
    this.#queue = queue;
    this.#sent.post -= 1;
    return [
      { type: "bodyRefused", bodyLimit: this.#size.limit },
      // It may still be sending the refused body.
      ...this.#post.close(),
      ...this.#sendPost(this.#queue.take(this.#size.next), now),
    ];
  }

  /** Sends a request again that a kept connection has not carried; undefined if it cannot be known to arrive once. */
  #again(which: ClientSession, now: number): ClientOutput[] | undefined {
    // What answers an offer is a Grooveway server. A long body may have ended the connection itself.
    const isKnown = this.#confirmation.length > 0 && this.#options.requestId === undefined;
    if (!isKnown || (which === this.#post && (this.#posted?.length ?? 0) > MAX_BODY)) return undefined;
    const outputs = which.again(this.#target(which === this.#get ? "get" : "post"));
    if (outputs === undefined) return undefined;
    if (which === this.#get) {
      this.#expectAnswer(now);
      this.#getAt = now;
    } else this.#postDeadline = now + this.#timers.receive;
    return outputs;
  }

  /** A GET has ended without its answer. */
  #cut(now: number): ClientOutput[] {
    const shorter = holdCut(this.#hold, (now - this.#getAt) / 1000);
    if (shorter === undefined) return [];
    this.#hold = shorter;
    return [{ type: "holdCut", hold: shorter.limit }];
  }

  #endGet(now: number): ClientOutput[] {
    // Others than Grooveway servers hold it as long as they like. Data says nothing of how long it might have been held.
    const isHeld = this.#getEstablished && this.#bodyLength === 0 && this.#confirmation.length > 0;
    if (isHeld) this.#hold = holdAfter(this.#hold, (now - this.#getAt) / 1000);
    this.#getEstablished = true;
    const next = this.#sendGet(now);
    return [...next, ...this.#establish(now)];
  }

  #endPost(now: number): ClientOutput[] {
    this.#postEstablished = true;
    this.#postDeadline = Number.POSITIVE_INFINITY;
    if (this.#posted !== undefined) {
      this.#size = sizeAfter(this.#size, this.#posted.length, now - this.#posted.at);
      this.#posted = undefined;
    }
    return [...this.#establish(now), ...this.#flush(now)];
  }

  /** The virtual connection is 'Established' once both sessions are. */
  #establish(now: number): ClientOutput[] {
    if (this.#state === "Established" || !this.#getEstablished || !this.#postEstablished) return [];
    this.#state = "Established";
    this.#establishmentDeadline = Number.POSITIVE_INFINITY;
    this.#keepAliveDeadline = now + this.#timers.keepAlive;
    return [{ type: "established" }, ...this.#flush(now)];
  }

  #lose(why: Lost): ClientOutput[] {
    // A large body was on its way, and may have been too large for it.
    const largest = Math.max(this.#posted?.length ?? 0, this.#bodyLength);
    const outputs = this.close();
    if (largest <= MAX_BODY || !isByBody(why)) return [...outputs, why];
    return [...outputs, { type: "bodyRefused", bodyLimit: sizeRefused(this.#size, largest).limit }, why];
  }
}
