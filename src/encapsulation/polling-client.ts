/** The client's end of a Polling virtual connection [MS-GRVHENC 3.5]. */

import { OctetQueue } from "../lib/octet-queue.ts";
import { joinOctets } from "../lib/octets.ts";
import type { BodySize } from "./body-size.ts";
import { bodyQuery, confirmedBody, firstSize, sizeAfter, sizeRefused } from "./body-size.ts";
import type {
  ClientOptions,
  ClientOutput,
  ClientSessionName,
  EncapsulationClient,
  Lost,
  SessionEvent,
} from "./client-session.ts";
import {
  authorityOf,
  baseOf,
  ClientSession,
  isByBody,
  lost,
  lostByStatus,
  relayOf,
  timersOf,
} from "./client-session.ts";
import type { PollParameters } from "./polling-message.ts";
import { checksumOf, formatPoll, parsePollResponse, pollRoom } from "./polling-message.ts";
import type { Timers } from "./registry.ts";
import {
  EncapsulationError,
  HELD_BODY,
  MAX_BODY,
  POLL_AWAITED,
  POLL_AWAITED_SHARE,
  POLL_EAGER,
  POLL_FLOOR,
  POLLING_PATH,
  POLLING_RETRY_DELAY,
  POLLING_TRIES,
} from "./registry.ts";

/** Statuses from a proxy that did not reach the server: the exchange failed, but the virtual connection is intact. */
const TRANSIENT: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** A request that is outstanding, waits to be repeated, or whose response waits for that of the one before. */
type Exchange = {
  readonly session: ClientSession;
  readonly data: readonly Uint8Array[];
  /** The whole request body. */
  readonly body: Uint8Array;
  readonly at: number;
  tries: number;
  /** Whether the connection carried earlier requests, and may have ended before this one arrived. */
  isReused: boolean;
  response: Uint8Array[];
  responseLength: number;
  isComplete: boolean;
  /** Why the virtual connection is lost when the exchange before this one is complete. */
  refused: Lost | undefined;
  receiveDeadline: number;
  retryDeadline: number;
};

/**
 * Sends one POST after another on the "post" session, each on its own TCP connection. A failed exchange is repeated
 * with the same bytes, which the server recognizes, {@link POLLING_TRIES} times in all. When idle it polls at intervals
 * set by the server [MS-GRVHENC 3.5.2.3]; after a response with data it polls again at once. A Grooveway server it polls
 * without pauses while there was data in the last {@link POLL_EAGER} ms, and often while a program waits for data.
 *
 * The second request establishes the virtual connection and MUST carry data: call `send` after "probed" or before.
 *
 * If a Grooveway server grants larger bodies (`body-size.ts`), TCP connections are kept between exchanges, and data that
 * finds an exchange outstanding goes in a second one, which the server takes and answers after the first.
 */
export class PollingClient implements EncapsulationClient {
  /** Requests follow each other without end. */
  readonly remaining = Number.POSITIVE_INFINITY;
  readonly #options: ClientOptions;
  readonly #timers: Timers;
  readonly #relay: string;
  readonly #sessions: readonly [ClientSession, ClientSession];
  /** Octets of a body that the probe offers. */
  readonly #offered: number | undefined;
  #queue = new OctetQueue();
  #state: "Connecting" | "Established" | "Closed" = "Connecting";
  #postState: "Probing" | "Probed" | "Connecting" | "Connected" | "Established" | "Closed" = "Probing";
  /** Oldest first: one, or two if the server grants larger bodies. */
  #exchanges: Exchange[] = [];
  #requestSequenceNum = 0;
  #responseSequenceNum = 0;
  /** Octets that a body of the server may have. More than 32768 means that the server is a Grooveway edge. */
  #bodyLimit: number = MAX_BODY;
  /** The size of bodies to the server. */
  #size: BodySize = firstSize(MAX_BODY);
  /** Whether the last response was long. Then the server has more, and may not take much before that is fetched. */
  #isFlooded = false;
  #parameters: PollParameters = { minimum: 1, maximum: 60, repetitions: 1 };
  /** Current interval in seconds, and polls made at it. */
  #interval = 1;
  #polls = 0;
  /** When data was last sent or received. */
  #activeAt = 0;
  #started = false;
  #establishmentDeadline = Number.POSITIVE_INFINITY;
  #pollDeadline = Number.POSITIVE_INFINITY;

  /** @throws EncapsulationError if an option is invalid */
  constructor(options: ClientOptions) {
    this.#options = options;
    this.#timers = timersOf(options);
    this.#relay = relayOf(options);
    this.#sessions = [
      new ClientSession("post", "Polling", options),
      new ClientSession("secondPost", "Polling", options),
    ];
    this.#offered = options.bodyLimit === undefined ? undefined : Math.min(options.bodyLimit, HELD_BODY);
    bodyQuery(this.#offered);
    authorityOf(options);
    baseOf(options);
    this.#format([]);
  }

  get state(): "Connecting" | "Established" | "Closed" {
    return this.#state;
  }

  /** PostSessionState [MS-GRVHENC 3.5.1.1]. */
  get postSessionState(): "Probing" | "Probed" | "Connecting" | "Connected" | "Established" | "Closed" {
    return this.#postState;
  }

  get pending(): number {
    return this.#queue.length;
  }

  get bodySize(): number {
    return this.#size.next;
  }

  get deadline(): number {
    const deadlines = this.#exchanges.map(({ receiveDeadline, retryDeadline }) =>
      Math.min(receiveDeadline, retryDeadline),
    );
    return Math.min(this.#establishmentDeadline, this.#pollDeadline, ...deadlines);
  }

  start(now: number): ClientOutput[] {
    if (this.#started) throw new EncapsulationError("start may be called once; make a new client");
    this.#started = true;
    this.#establishmentDeadline = now + this.#timers.establishment;
    return this.#exchange([], now);
  }

  feed(name: ClientSessionName, octets: Uint8Array, now: number): ClientOutput[] {
    if (this.#state === "Closed" || octets.length === 0) return [];
    const session = this.#sessionNamed(name);
    const exchange = this.#exchangeOf(session);
    // Some servers send a 408 before they close an idle connection; it answers no request.
    if (this.#isGrown && !session.outstanding) return session.close();
    if (exchange !== undefined) {
      exchange.receiveDeadline = now + this.#timers.receive;
      exchange.isReused = false;
    }
    return this.#handle(session, session.feed(octets), now);
  }

  ended(name: ClientSessionName, now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    const session = this.#sessionNamed(name);
    const exchange = this.#exchangeOf(session);
    const events = session.ended();
    const isWaiting = exchange !== undefined && exchange.retryDeadline === Number.POSITIVE_INFINITY;
    if (events.length > 0 || !session.outstanding || !isWaiting) return this.#handle(session, events, now);
    if (!exchange.isReused) return this.#fail(exchange, now);
    // The server has closed an idle connection while this request was under way.
    return this.#write(exchange, now);
  }

  send(octets: Uint8Array | readonly Uint8Array[], now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    this.#queue.push(octets);
    return this.#flush(now);
  }

  expire(now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    if (now >= this.#establishmentDeadline) return this.#lose(lost("EstablishmentTimeout"));
    for (const exchange of this.#exchanges) {
      if (now >= exchange.receiveDeadline) return this.#fail(exchange, now);
      if (now >= exchange.retryDeadline) return this.#write(exchange, now);
    }
    return now >= this.#pollDeadline ? this.#exchange([], now) : [];
  }

  close(): ClientOutput[] {
    const outputs = this.#sessions.flatMap((session) => session.close());
    this.#state = "Closed";
    this.#postState = "Closed";
    this.#queue.clear();
    this.#exchanges = [];
    this.#establishmentDeadline = Number.POSITIVE_INFINITY;
    this.#pollDeadline = Number.POSITIVE_INFINITY;
    return outputs;
  }

  /** Whether the server has granted larger bodies, and is a Grooveway edge. */
  get #isGrown(): boolean {
    return this.#bodyLimit > MAX_BODY;
  }

  #sessionNamed(name: ClientSessionName): ClientSession {
    const [first, second] = this.#sessions;
    return name === second.name ? second : first;
  }

  /** The exchange whose response is due on a session. */
  #exchangeOf(session: ClientSession): Exchange | undefined {
    return this.#exchanges.find((exchange) => exchange.session === session && !exchange.isComplete);
  }

  #format(data: readonly Uint8Array[]): Uint8Array {
    const { guid } = this.#options;
    const limit = this.#size.limit;
    return formatPoll({ relay: this.#relay, guid, sequence: this.#requestSequenceNum, data, limit });
  }

  /** Starts the next exchange, on a session that is free. */
  #exchange(data: readonly Uint8Array[], now: number): ClientOutput[] {
    // Both requests of the handshake carry 0 [MS-GRVHENC 3.5.4.1.1]; the next carries 1.
    if (this.#state === "Established") this.#requestSequenceNum += 1;
    if (this.#postState === "Probed") this.#postState = "Connecting";
    if (data.length > 0) this.#restartInterval(now);
    const [first, second] = this.#sessions;
    const exchange: Exchange = {
      session: this.#exchanges.some(({ session }) => session === first) ? second : first,
      data,
      body: this.#format(data),
      at: now,
      tries: 0,
      isReused: false,
      response: [],
      responseLength: 0,
      isComplete: false,
      refused: undefined,
      receiveDeadline: Number.POSITIVE_INFINITY,
      retryDeadline: Number.POSITIVE_INFINITY,
    };
    this.#exchanges.push(exchange);
    this.#pollDeadline = Number.POSITIVE_INFINITY;
    return this.#write(exchange, now);
  }

  #write(exchange: Exchange, now: number): ClientOutput[] {
    const { session, body } = exchange;
    exchange.tries += 1;
    exchange.retryDeadline = Number.POSITIVE_INFINITY;
    exchange.receiveDeadline = now + this.#timers.receive;
    exchange.response = [];
    exchange.responseLength = 0;
    exchange.isReused = session.open;
    const { origin = "", prefix } = baseOf(this.#options);
    const query = this.#postState === "Probing" ? bodyQuery(this.#offered) : "";
    const target = `${origin}${prefix}${POLLING_PATH}${query}`;
    const keepAlive = this.#isGrown;
    return session.request({ method: "POST", target, contentLength: body.length, body: [body], keepAlive });
  }

  /** Sends queued data if an exchange can begin. */
  #flush(now: number): ClientOutput[] {
    if (this.#state !== "Established" && this.#postState !== "Probed") return [];
    if (this.#queue.length === 0 || !this.#mayBegin()) return [];
    return this.#exchange(this.#queue.take(this.#room()), now);
  }

  #mayBegin(): boolean {
    const [first, second] = this.#exchanges;
    if (first === undefined) return true;
    if (first.refused !== undefined) return false;
    // A longer one is not held. It may be refused for its length and cut, which data that follows must not overtake.
    return this.#isGrown && this.#state === "Established" && second === undefined && first.body.length <= MAX_BODY;
  }

  /** Octets of data for the next exchange. */
  #room(): number {
    const most = this.#isFlooded ? MAX_BODY : this.#size.next;
    return pollRoom(this.#relay, this.#options.guid, this.#requestSequenceNum + 1, undefined, most);
  }

  #handle(session: ClientSession, events: readonly SessionEvent[], now: number): ClientOutput[] {
    const outputs: ClientOutput[] = [];
    for (const event of events) {
      const exchange = this.#exchangeOf(session);
      if (event.type === "repeated") {
        outputs.push(...event.outputs);
        if (this.#state === "Connecting") this.#establishmentDeadline = now + this.#timers.establishment;
      } else if (event.type === "lost" || exchange === undefined) {
        return [...outputs, ...this.#lose(event.type === "lost" ? event : lost("MalformedHead"))];
      } else if (event.type === "head") {
        const { status } = event.head;
        if (status !== 200) return [...outputs, ...this.#refused(exchange, lostByStatus(event.head), now)];
        // Without a proxy this state is "passed through at once" [MS-GRVHENC 3.5.1.1].
        if (this.#postState === "Connecting") this.#postState = "Connected";
      } else if (event.type === "body") {
        exchange.responseLength += event.data.length;
        if (exchange.responseLength > this.#bodyLimit) return [...outputs, ...this.#lose(lost("BodyTooLong"))];
        exchange.response.push(event.data);
      } else {
        exchange.isComplete = true;
        exchange.receiveDeadline = Number.POSITIVE_INFINITY;
        if (!this.#isGrown) outputs.push(...session.close());
        // A response waits for the one before it.
        while (this.#exchanges[0]?.isComplete) outputs.push(...this.#take(this.#exchanges[0], now));
        return outputs;
      }
    }
    return outputs;
  }

  /** Handles a complete response [MS-GRVHENC 3.5.5.1.1.1, 3.5.5.1.1.2]. */
  #take(exchange: Exchange, now: number): ClientOutput[] {
    if (exchange.refused !== undefined) return this.#lose(exchange.refused);
    this.#exchanges.shift();
    const parsed = parsePollResponse(wholeResponse(exchange), this.#bodyLimit);
    if (parsed.type === "refuse") return this.#lose(lost(parsed.reason, parsed.detail));
    const { poll, parameters } = parsed;
    if (poll.relay !== this.#relay) return this.#lose(lost("WrongRelay", `The response is from ${poll.relay}.`));
    if (poll.guid !== this.#options.guid) return this.#lose(lost("UnknownConnection"));
    const due = this.#state === "Established" ? this.#responseSequenceNum + 1 : 0;
    if (poll.sequence !== due) {
      return this.#lose(lost("BadSequence", `The response has sequence number ${poll.sequence}, not ${due}.`));
    }
    if (poll.checksum !== checksumOf([poll.data])) return this.#lose(lost("BadChecksum"));
    this.#responseSequenceNum = poll.sequence;
    this.#adopt(parameters);
    if (this.#postState === "Probing") return this.#probed(poll.data, now);

    this.#isFlooded = exchange.responseLength > this.#bodyLimit / 4 && this.#isGrown;
    // A repeated request has taken longer than the way needs.
    if (exchange.tries === 1) this.#size = sizeAfter(this.#size, exchange.body.length, now - exchange.at);
    const outputs: ClientOutput[] = [];
    if (this.#state === "Connecting") {
      this.#state = "Established";
      this.#postState = "Established";
      this.#establishmentDeadline = Number.POSITIVE_INFINITY;
      outputs.push({ type: "established" });
    }
    if (poll.data.length > 0) {
      this.#restartInterval(now);
      outputs.push({ type: "data", data: poll.data });
    }
    const next = this.#flush(now);
    if (next.length > 0) return [...outputs, ...next];
    if (this.#exchanges.length > 0) return outputs;
    if (poll.data.length > 0) return [...outputs, ...this.#exchange([], now)];
    this.#schedule(exchange, now);
    return outputs;
  }

  /** The probe is answered, with the body size that the server grants if it was offered one. */
  #probed(data: Uint8Array, now: number): ClientOutput[] {
    const isAnswer = this.#offered !== undefined || data.length === 0;
    const limit = isAnswer ? confirmedBody(data, this.#offered ?? 0) : undefined;
    if (limit === undefined) return this.#lose(lost("MalformedPoll", "The first response carries data."));
    this.#bodyLimit = limit;
    this.#size = firstSize(limit);
    this.#postState = "Probed";
    return [{ type: "probed" }, ...this.#flush(now)];
  }

  #adopt(parameters: PollParameters): void {
    this.#parameters = parameters;
    const { minimum, maximum } = parameters;
    const interval = Math.max(minimum, Math.min(this.#interval, maximum));
    if (interval !== this.#interval) this.#polls = 0;
    this.#interval = interval;
  }

  #restartInterval(now: number): void {
    this.#activeAt = now;
    this.#interval = this.#parameters.minimum;
    this.#polls = 0;
  }

  /** Sets the poll timer. After `repetitions` polls the interval doubles, up to the maximum. */
  #schedule(last: Exchange, now: number): void {
    // Two such clients would otherwise wait for each other's next poll at every round trip.
    if (this.#isGrown && now - this.#activeAt < POLL_EAGER) {
      this.#pollDeadline = Math.max(now, last.at + POLL_FLOOR);
      return;
    }
    const { minimum, maximum, repetitions } = this.#parameters;
    if (this.#polls >= Math.max(1, repetitions)) {
      this.#interval = Math.max(minimum, Math.min(this.#interval * 2, maximum));
      this.#polls = 0;
    }
    this.#polls += 1;
    this.#pollDeadline = now + Math.max(POLL_FLOOR, Math.min(this.#interval * 1000, this.#patience(now)));
  }

  /** The longest pause between polls for the sake of a program that waits for data, in milliseconds. */
  #patience(now: number): number {
    const since = this.#isGrown ? this.#options.awaitedSince?.() : undefined;
    if (since === undefined) return Number.POSITIVE_INFINITY;
    return Math.max(POLL_AWAITED, (now - since) / POLL_AWAITED_SHARE);
  }

  /** Handles a response other than 200. */
  #refused(exchange: Exchange, why: Lost, now: number): ClientOutput[] {
    const { status, code } = why;
    if (status !== undefined && TRANSIENT.has(status)) return this.#fail(exchange, now, why);
    const isGrown = exchange.body.length > MAX_BODY;
    if (isGrown && code === "GrownBodyRefused") {
      // The server lacks memory for a while.
      this.#size = { limit: this.#size.limit, next: MAX_BODY };
      return this.#cut(exchange, now, why);
    }
    if (!isGrown || status !== 413 || code !== undefined) return this.#loseInOrder(exchange, why);
    this.#size = sizeRefused(this.#size, exchange.body.length);
    return [{ type: "bodyRefused", bodyLimit: this.#size.limit }, ...this.#cut(exchange, now, why)];
  }

  /**
   * Ends the virtual connection for the refusal of an exchange. The response before it may be on its way on the other TCP
   * connection, with the last that the server has sent: why it closes.
   */
  #loseInOrder(exchange: Exchange, why: Lost): ClientOutput[] {
    if (this.#exchanges[0] === exchange) return this.#lose(why);
    exchange.refused = why;
    exchange.isComplete = true;
    exchange.receiveDeadline = Number.POSITIVE_INFINITY;
    return exchange.session.close();
  }

  /**
   * Sends the data of a refused exchange again in smaller bodies, if the server cannot have read it, so that its number
   * is free. It may have read an earlier try; and data that follows is under way already. Then it is sent unchanged.
   */
  #cut(exchange: Exchange, now: number, why: Lost): ClientOutput[] {
    if (exchange.tries > 1 || this.#exchanges.at(-1) !== exchange) return this.#fail(exchange, now, why);
    this.#exchanges.pop();
    this.#requestSequenceNum -= 1;
    const queue = new OctetQueue();
    queue.push(exchange.data);
    queue.push(this.#queue.take(this.#queue.length));
    this.#queue = queue;
    // It may still be sending the refused body.
    return [...exchange.session.close(), ...this.#exchange(this.#queue.take(this.#room()), now)];
  }

  /** Retries a failed exchange after a pause, at least as long as a proxy asks for, or gives up. */
  #fail(exchange: Exchange, now: number, why: Lost = lost("ExchangeFailed")): ClientOutput[] {
    const pause = POLLING_RETRY_DELAY * 2 ** (exchange.tries - 1);
    const wanted = (why.retryAfter ?? 0) * 1000;
    // The server waits no longer than the longest poll interval or the handshake timeout.
    const longest = Math.min(this.#parameters.maximum * 1000, this.#establishmentDeadline - now);
    if (exchange.tries >= POLLING_TRIES || wanted > longest) return this.#lose({ ...why, reason: "ExchangeFailed" });
    exchange.receiveDeadline = Number.POSITIVE_INFINITY;
    exchange.retryDeadline = now + Math.max(pause, wanted);
    return exchange.session.close();
  }

  #lose(why: Lost): ClientOutput[] {
    // A large body was on its way, and may have been too large for it.
    const largest = Math.max(
      ...this.#exchanges.flatMap(({ body, responseLength }) => [body.length, responseLength]),
      0,
    );
    const outputs = this.close();
    if (largest <= MAX_BODY || !isByBody(why)) return [...outputs, why];
    return [...outputs, { type: "bodyRefused", bodyLimit: sizeRefused(this.#size, largest).limit }, why];
  }
}

/** The body of a response. Nearly always it has come in one piece. */
function wholeResponse({ response, responseLength }: Exchange): Uint8Array {
  const [only] = response;
  return response.length === 1 && only !== undefined ? only : joinOctets(response, responseLength);
}
