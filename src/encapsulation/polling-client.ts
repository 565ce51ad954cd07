/** The client's end of a Polling virtual connection [MS-GRVHENC 3.5]. */

import { OctetQueue } from "../lib/octet-queue.ts";
import { joinOctets } from "../lib/octets.ts";
import type { ClientOptions, ClientOutput, EncapsulationClient, Lost, SessionEvent } from "./client-session.ts";
import { authorityOf, baseOf, ClientSession, lost, lostByStatus, relayOf, timersOf } from "./client-session.ts";
import type { PollParameters } from "./polling-message.ts";
import { checksumOf, formatPoll, parsePollResponse, pollRoom } from "./polling-message.ts";
import type { Timers } from "./registry.ts";
import {
  EncapsulationError,
  MAX_BODY,
  POLL_FLOOR,
  POLLING_PATH,
  POLLING_RETRY_DELAY,
  POLLING_TRIES,
} from "./registry.ts";
import type { Session } from "./virtual-connection-server.ts";

/** Statuses from a proxy that did not reach the server: the exchange failed, but the virtual connection is intact. */
const TRANSIENT: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/**
 * Sends one POST after another on the "post" session, each on its own TCP connection. A failed exchange is repeated
 * with the same bytes, which the server recognizes, {@link POLLING_TRIES} times in all. When idle it polls at intervals
 * set by the server [MS-GRVHENC 3.5.2.3]; after a response with data it polls again at once.
 *
 * The second request establishes the virtual connection and MUST carry data: call `send` after "probed" or before.
 */
export class PollingClient implements EncapsulationClient {
  /** Requests follow each other without end. */
  readonly remaining = Number.POSITIVE_INFINITY;
  readonly #options: ClientOptions;
  readonly #timers: Timers;
  readonly #relay: string;
  readonly #session: ClientSession;
  readonly #queue = new OctetQueue();
  #state: "Connecting" | "Established" | "Closed" = "Connecting";
  #postState: "Probing" | "Probed" | "Connecting" | "Connected" | "Established" | "Closed" = "Probing";
  /** Body of the exchange that is outstanding or waits to be repeated. */
  #body: Uint8Array | undefined;
  #tries = 0;
  #requestSequenceNum = 0;
  #responseSequenceNum = 0;
  #response: Uint8Array[] = [];
  #responseLength = 0;
  #parameters: PollParameters = { minimum: 1, maximum: 60, repetitions: 1 };
  /** Current interval in seconds, and polls made at it. */
  #interval = 1;
  #polls = 0;
  #started = false;
  #establishmentDeadline = Number.POSITIVE_INFINITY;
  #receiveDeadline = Number.POSITIVE_INFINITY;
  #pollDeadline = Number.POSITIVE_INFINITY;
  #retryDeadline = Number.POSITIVE_INFINITY;

  /** @throws EncapsulationError if an option is invalid */
  constructor(options: ClientOptions) {
    this.#options = options;
    this.#timers = timersOf(options);
    this.#relay = relayOf(options);
    this.#session = new ClientSession("post", "Polling", options);
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

  get deadline(): number {
    return Math.min(this.#establishmentDeadline, this.#receiveDeadline, this.#pollDeadline, this.#retryDeadline);
  }

  start(now: number): ClientOutput[] {
    if (this.#started) throw new EncapsulationError("start may be called once; make a new client");
    this.#started = true;
    this.#establishmentDeadline = now + this.#timers.establishment;
    return this.#exchange([], now);
  }

  feed(_session: Session, octets: Uint8Array, now: number): ClientOutput[] {
    if (this.#state === "Closed" || octets.length === 0) return [];
    this.#receiveDeadline = now + this.#timers.receive;
    return this.#handle(this.#session.feed(octets), now);
  }

  ended(_session: Session, now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    const events = this.#session.ended();
    if (events.length === 0 && this.#session.outstanding && this.#retryDeadline === Number.POSITIVE_INFINITY) {
      return this.#fail(now);
    }
    return this.#handle(events, now);
  }

  send(octets: Uint8Array | readonly Uint8Array[], now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    this.#queue.push(octets);
    return this.#flush(now);
  }

  expire(now: number): ClientOutput[] {
    if (this.#state === "Closed") return [];
    if (now >= this.#establishmentDeadline) return this.#lose(lost("EstablishmentTimeout"));
    if (now >= this.#receiveDeadline) return this.#fail(now);
    if (now >= this.#retryDeadline) return this.#write(now);
    return now >= this.#pollDeadline ? this.#exchange([], now) : [];
  }

  close(): ClientOutput[] {
    const outputs = this.#session.close();
    this.#state = "Closed";
    this.#postState = "Closed";
    this.#queue.clear();
    this.#body = undefined;
    this.#response = [];
    this.#establishmentDeadline = Number.POSITIVE_INFINITY;
    this.#receiveDeadline = Number.POSITIVE_INFINITY;
    this.#pollDeadline = Number.POSITIVE_INFINITY;
    this.#retryDeadline = Number.POSITIVE_INFINITY;
    return outputs;
  }

  #format(data: readonly Uint8Array[]): Uint8Array {
    return formatPoll({ relay: this.#relay, guid: this.#options.guid, sequence: this.#requestSequenceNum, data });
  }

  /** Starts the next exchange. None may be outstanding. */
  #exchange(data: readonly Uint8Array[], now: number): ClientOutput[] {
    // Both requests of the handshake carry 0 [MS-GRVHENC 3.5.4.1.1]; the next carries 1.
    if (this.#state === "Established") this.#requestSequenceNum += 1;
    if (this.#postState === "Probed") this.#postState = "Connecting";
    if (data.length > 0) this.#restartInterval();
    this.#body = this.#format(data);
    this.#tries = 0;
    this.#pollDeadline = Number.POSITIVE_INFINITY;
    return this.#write(now);
  }

  #write(now: number): ClientOutput[] {
    const body = this.#body as Uint8Array;
    this.#tries += 1;
    this.#retryDeadline = Number.POSITIVE_INFINITY;
    this.#receiveDeadline = now + this.#timers.receive;
    this.#response = [];
    this.#responseLength = 0;
    const { origin = "", prefix } = baseOf(this.#options);
    const target = `${origin}${prefix}${POLLING_PATH}`;
    return this.#session.request({ method: "POST", target, contentLength: body.length, body: [body] });
  }

  /** Sends queued data if no exchange is outstanding. */
  #flush(now: number): ClientOutput[] {
    const may = this.#state === "Established" || this.#postState === "Probed";
    if (!may || this.#body !== undefined || this.#queue.length === 0) return [];
    const sequence = this.#requestSequenceNum + 1;
    return this.#exchange(this.#queue.take(pollRoom(this.#relay, this.#options.guid, sequence)), now);
  }

  #handle(events: readonly SessionEvent[], now: number): ClientOutput[] {
    const outputs: ClientOutput[] = [];
    for (const event of events) {
      if (event.type === "repeated") {
        outputs.push(...event.outputs);
        if (this.#state === "Connecting") this.#establishmentDeadline = now + this.#timers.establishment;
      } else if (event.type === "lost") {
        return [...outputs, ...this.#lose(event)];
      } else if (event.type === "head") {
        if (TRANSIENT.has(event.head.status)) return [...outputs, ...this.#fail(now, lostByStatus(event.head))];
        if (event.head.status !== 200) return [...outputs, ...this.#lose(lostByStatus(event.head))];
        // Without a proxy this state is "passed through at once" [MS-GRVHENC 3.5.1.1].
        if (this.#postState === "Connecting") this.#postState = "Connected";
      } else if (event.type === "body") {
        this.#responseLength += event.data.length;
        if (this.#responseLength > MAX_BODY) return [...outputs, ...this.#lose(lost("BodyTooLong"))];
        this.#response.push(event.data);
      } else {
        outputs.push(...this.#session.close(), ...this.#take(now));
        return outputs;
      }
    }
    return outputs;
  }

  /** Handles a complete response [MS-GRVHENC 3.5.5.1.1.1, 3.5.5.1.1.2]. */
  #take(now: number): ClientOutput[] {
    const parsed = parsePollResponse(this.#wholeResponse());
    this.#response = [];
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
    this.#body = undefined;
    this.#receiveDeadline = Number.POSITIVE_INFINITY;
    this.#adopt(parameters);

    if (this.#postState === "Probing") {
      if (poll.data.length > 0) return this.#lose(lost("MalformedPoll", "The first response carries data."));
      this.#postState = "Probed";
      return [{ type: "probed" }, ...this.#flush(now)];
    }
    const outputs: ClientOutput[] = [];
    if (this.#state === "Connecting") {
      this.#state = "Established";
      this.#postState = "Established";
      this.#establishmentDeadline = Number.POSITIVE_INFINITY;
      outputs.push({ type: "established" });
    }
    if (poll.data.length > 0) {
      this.#restartInterval();
      outputs.push({ type: "data", data: poll.data });
    }
    const next = this.#flush(now);
    if (next.length > 0) return [...outputs, ...next];
    if (poll.data.length > 0) return [...outputs, ...this.#exchange([], now)];
    this.#schedule(now);
    return outputs;
  }

  #adopt(parameters: PollParameters): void {
    this.#parameters = parameters;
    const { minimum, maximum } = parameters;
    const interval = Math.max(minimum, Math.min(this.#interval, maximum));
    if (interval !== this.#interval) this.#polls = 0;
    this.#interval = interval;
  }

  #restartInterval(): void {
    this.#interval = this.#parameters.minimum;
    this.#polls = 0;
  }

  /** Sets the poll timer. After `repetitions` polls the interval doubles, up to the maximum. */
  #schedule(now: number): void {
    const { minimum, maximum, repetitions } = this.#parameters;
    if (this.#polls >= Math.max(1, repetitions)) {
      this.#interval = Math.max(minimum, Math.min(this.#interval * 2, maximum));
      this.#polls = 0;
    }
    this.#polls += 1;
    this.#pollDeadline = now + Math.max(POLL_FLOOR, this.#interval * 1000);
  }

  /** Retries a failed exchange after a pause, at least as long as a proxy asks for, or gives up. */
  #fail(now: number, why: Lost = lost("ExchangeFailed")): ClientOutput[] {
    const pause = POLLING_RETRY_DELAY * 2 ** (this.#tries - 1);
    const wanted = (why.retryAfter ?? 0) * 1000;
    // The server waits no longer than the longest poll interval or the handshake timeout.
    const longest = Math.min(this.#parameters.maximum * 1000, this.#establishmentDeadline - now);
    if (this.#tries >= POLLING_TRIES || wanted > longest) return this.#lose({ ...why, reason: "ExchangeFailed" });
    this.#receiveDeadline = Number.POSITIVE_INFINITY;
    this.#retryDeadline = now + Math.max(pause, wanted);
    return this.#session.close();
  }

  /** The body of the response. Nearly always it has come in one piece. */
  #wholeResponse(): Uint8Array {
    const [only] = this.#response;
    return this.#response.length === 1 && only !== undefined ? only : joinOctets(this.#response, this.#responseLength);
  }

  #lose(why: Lost): ClientOutput[] {
    return [...this.close(), why];
  }
}
