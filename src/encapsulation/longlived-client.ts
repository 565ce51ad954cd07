/** The client's end of a LongLived virtual connection [MS-GRVHENC 3.1]. */

import { OctetQueue } from "../lib/octet-queue.ts";
import type { ClientOptions, ClientOutput, EncapsulationClient, Lost } from "./client-session.ts";
import { baseOf, ClientSession, lost, lostByStatus, piecesOf, relayOf, timersOf } from "./client-session.ts";
import type { Timers } from "./registry.ts";
import { DEFAULT_CONTENT_LENGTH, ECHO_STRING, EncapsulationError } from "./registry.ts";
import { formatTarget } from "./target.ts";
import type { ConnectionState, Session } from "./virtual-connection-server.ts";

export type LongLivedOptions = ClientOptions & {
  /**
   * ConnectionContentLength: octets each session may carry, echo string included, 22 to 2147479552. Default 90 MiB,
   * less than the products' 0x7ffff000, because the platform refuses request bodies over 100 MB.
   */
  readonly contentLength?: number;
};

/**
 * Sends one endless GET and one endless POST. Data is written to the POST's body at once and read from the GET's
 * response. When a session is used up, the connection is lost with ContentLengthReached and the caller makes a new
 * client at once [MS-GRVHENC 3.1.4.3].
 */
export class LongLivedClient implements EncapsulationClient {
  readonly #options: ClientOptions;
  readonly #contentLength: number;
  readonly #timers: Timers;
  readonly #get: ClientSession;
  readonly #post: ClientSession;
  readonly #queue = new OctetQueue();
  #state: ConnectionState = "Connecting";
  #started = false;
  #echoed = 0;
  /** GetContentLength and PostContentLength. The latter includes queued data. */
  #received = 0;
  #sent = ECHO_STRING.length;
  #establishmentDeadline = Number.POSITIVE_INFINITY;
  #receiveDeadline = Number.POSITIVE_INFINITY;
  #keepAliveDeadline = Number.POSITIVE_INFINITY;

  /** @throws EncapsulationError if an option is invalid */
  constructor(options: LongLivedOptions) {
    this.#options = options;
    this.#contentLength = options.contentLength ?? DEFAULT_CONTENT_LENGTH;
    if (this.#contentLength < ECHO_STRING.length) {
      throw new EncapsulationError(`contentLength must be at least ${ECHO_STRING.length}: the echo string counts`);
    }
    this.#timers = timersOf(options);
    this.#get = new ClientSession("get", "LongLived", options);
    this.#post = new ClientSession("post", "LongLived", options);
    this.#target();
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get pending(): number {
    return this.#queue.length;
  }

  /** Octets that can still be sent on the POST; `remainingDown` is the same for the GET. */
  get remainingUp(): number {
    return this.#contentLength - this.#sent;
  }

  get remainingDown(): number {
    return this.#contentLength - this.#received;
  }

  get remaining(): number {
    return Math.min(this.remainingUp, this.remainingDown);
  }

  get deadline(): number {
    return Math.min(this.#establishmentDeadline, this.#receiveDeadline, this.#keepAliveDeadline);
  }

  start(now: number): ClientOutput[] {
    if (this.#started) throw new EncapsulationError("start may be called once; make a new client");
    this.#started = true;
    this.#establishmentDeadline = now + this.#timers.establishment;
    this.#receiveDeadline = now + this.#timers.receive;
    const post = { method: "POST" as const, contentLength: this.#contentLength, body: [ECHO_STRING] };
    return [
      ...this.#get.request({ method: "GET", target: this.#target(), contentLength: 0, body: [] }),
      ...this.#post.request({ ...post, target: this.#target() }),
    ];
  }

  feed(session: Session, octets: Uint8Array, now: number): ClientOutput[] {
    if (this.#state === "Closed" || octets.length === 0) return [];
    return session === "get" ? this.#feedGet(octets, now) : this.#feedPost(octets, now);
  }

  ended(session: Session, now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    const events = session === "get" ? this.#get.ended() : this.#post.ended();
    const outputs: ClientOutput[] = [];
    for (const event of events) {
      if (event.type === "lost") return [...outputs, ...this.#lose(event)];
      if (event.type === "repeated") outputs.push(...this.#repeated(event.outputs, now));
    }
    return outputs.length > 0 ? outputs : this.#lose(this.#usedUp(session));
  }

  send(octets: Uint8Array | readonly Uint8Array[], now: number): ClientOutput[] {
    const pieces = piecesOf(octets);
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (this.#state === "Closed" || length === 0) return [];
    if (length > this.remainingUp) return this.#lose(lost("ContentLengthReached"));
    this.#sent += length;
    if (this.#state !== "Established") {
      this.#queue.push(octets);
      return [];
    }
    this.#keepAliveDeadline = now + this.#timers.keepAlive;
    return [{ type: "write", session: "post", octets: pieces }];
  }

  expire(now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    if (now >= this.#establishmentDeadline) return this.#lose(lost("EstablishmentTimeout"));
    if (now >= this.#receiveDeadline) return this.#lose(lost("ReceiveTimeout"));
    if (now < this.#keepAliveDeadline) return [];
    this.#keepAliveDeadline = now + this.#timers.keepAlive;
    return [{ type: "keepAlive" }];
  }

  close(): ClientOutput[] {
    const outputs = [...this.#get.close(), ...this.#post.close()];
    this.#state = "Closed";
    this.#queue.clear();
    this.#establishmentDeadline = Number.POSITIVE_INFINITY;
    this.#receiveDeadline = Number.POSITIVE_INFINITY;
    this.#keepAliveDeadline = Number.POSITIVE_INFINITY;
    return outputs;
  }

  #target(): string {
    const requestId = this.#options.requestId?.();
    return formatTarget({
      encapsulation: "LongLived",
      relay: relayOf(this.#options),
      guid: this.#options.guid,
      contentLength: this.#contentLength,
      ...(requestId === undefined ? {} : { requestId }),
      ...baseOf(this.#options),
    });
  }

  #feedGet(octets: Uint8Array, now: number): ClientOutput[] {
    const outputs: ClientOutput[] = [];
    this.#receiveDeadline = now + this.#timers.receive;
    for (const event of this.#get.feed(octets)) {
      if (event.type === "lost") return [...outputs, ...this.#lose(event)];
      if (event.type === "repeated") {
        outputs.push(...this.#repeated(event.outputs, now));
      } else if (event.type === "head") {
        if (event.head.status !== 200) return [...outputs, ...this.#lose(lostByStatus(event.head))];
      } else if (event.type === "end") {
        return [...outputs, ...this.#lose(this.#usedUp("get"))];
      } else {
        this.#received += event.data.length;
        if (this.#received > this.#contentLength) {
          return [...outputs, ...this.#lose(lost("ContentLengthExceeded"))];
        }
        let from = 0;
        while (this.#echoed < ECHO_STRING.length && from < event.data.length) {
          if (event.data[from] !== ECHO_STRING[this.#echoed]) return [...outputs, ...this.#lose(lost("BadEcho"))];
          this.#echoed += 1;
          from += 1;
          if (this.#echoed === ECHO_STRING.length) outputs.push(...this.#establish(now));
        }
        if (from < event.data.length) {
          outputs.push({ type: "data", data: from === 0 ? event.data : event.data.subarray(from) });
        }
      }
    }
    return outputs;
  }

  /** The only response to the POST is a refusal or the end. */
  #feedPost(octets: Uint8Array, now: number): ClientOutput[] {
    const outputs: ClientOutput[] = [];
    for (const event of this.#post.feed(octets)) {
      if (event.type === "lost") return [...outputs, ...this.#lose(event)];
      if (event.type === "repeated") outputs.push(...this.#repeated(event.outputs, now));
      else if (event.type === "head") {
        const why = event.head.status === 200 ? this.#usedUp("post") : lostByStatus(event.head);
        return [...outputs, ...this.#lose(why)];
      }
    }
    return outputs;
  }

  #establish(now: number): ClientOutput[] {
    this.#state = "Established";
    this.#establishmentDeadline = Number.POSITIVE_INFINITY;
    this.#keepAliveDeadline = now + this.#timers.keepAlive;
    const octets = this.#queue.take(Number.POSITIVE_INFINITY);
    // Write queued data first, so that a `send` on "established" does not overtake it.
    const write: ClientOutput[] = octets.length === 0 ? [] : [{ type: "write", session: "post", octets }];
    return [...write, { type: "established" }];
  }

  #repeated(outputs: readonly ClientOutput[], now: number): readonly ClientOutput[] {
    if (this.#state === "Established") return outputs;
    this.#establishmentDeadline = now + this.#timers.establishment;
    return outputs;
  }

  #usedUp(session: Session): Lost {
    const left = session === "get" ? this.remainingDown : this.remainingUp - this.pending;
    return lost(left <= 0 ? "ContentLengthReached" : "SessionEnded");
  }

  #lose(why: Lost): ClientOutput[] {
    return [...this.close(), why];
  }
}
