/**
 * A WebSocket virtual connection: SSTP in binary messages on the device's own socket, which the platform holds while
 * the object hibernates.
 *
 * The platform gives a WebSocket no backpressure in either direction: it reads on while messages wait, and accepts what
 * is sent while the device does not read. So both ends control the flow by text messages:
 *
 *   edge → device   "hold"      stop sending: the backlog is long
 *                   "go on"
 *                   "mark X"    asks the device to confirm that it has read everything before this
 *   device → edge   "marks"     the first word of a device that answers marks
 *                   "took X"    the answer; X is random, so only a device that has read it can send it
 *
 * What is in flight after "hold" waits here, up to one limit per WebSocket and one per isolate (websocket-backlog.ts);
 * beyond them the virtual connection is ended. What is in flight to a device that answers marks is bounded by a window
 * (websocket-window.ts). One that does not is bounded by its acknowledgements of messages, and by {@link ANSWERS_AHEAD}
 * until it acknowledges one.
 *
 * Each message costs time, whatever it says. So messages without data, and words that are not due, are charged and held
 * like data, and a device that goes on with them is ended.
 *
 * @module
 */
import { release } from "../../lib/octets.ts";
import { READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import type { SstpEndpoint } from "../endpoint/sstp-endpoint.ts";
import { logError } from "../log.ts";
import type { Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import type { SignsOfLife, SocketConnection } from "./device-connection.ts";
import type { SavedConnection, WebSocketSnapshot } from "./hibernation.ts";
import {
  ANSWERS_AHEAD,
  EARLY_MESSAGES,
  HOLD_IGNORED_OCTETS,
  HOLD_MESSAGE,
  PING_SILENCE,
  UNKNOWN_WORDS,
} from "./limits.ts";
import { BacklogPool, WebSocketBacklog } from "./websocket-backlog.ts";
import { WebSocketWindow } from "./websocket-window.ts";

/** Backlogs of all WebSockets of this isolate. */
const pool = new BacklogPool();

/** Eviction calls no handler, so a backlog leaves the pool when its connection is collected. */
const forgotten = new FinalizationRegistry((backlog: WebSocketBacklog) => backlog.drop());

const NOTHING = new Uint8Array(0);

export class WebSocketConnection implements SocketConnection {
  readonly encapsulation = "WebSocket";
  readonly singleRequests = false;
  readonly deadline = Number.POSITIVE_INFINITY;
  readonly socket: WebSocket;
  readonly endpoint: SstpEndpoint;
  readonly #ended: (reason: Reason) => void;
  #over = false;
  readonly #backlog = new WebSocketBacklog(pool);
  #taking = false;
  #marks: boolean;
  /** Messages before Connect was accepted. */
  #early = 0;
  /** Words that were not due. */
  #unknownWords = 0;
  readonly #window: WebSocketWindow;
  /** Called when the device has confirmed more. */
  #goOn: (() => void) | undefined;

  /**
   * @param ended called when the endpoint has ended and all of its output is sent, when the device is gone, or on
   *   failure
   */
  constructor(
    socket: WebSocket,
    endpoint: SstpEndpoint,
    ended: (reason: Reason) => void,
    snapshot?: WebSocketSnapshot,
  ) {
    this.socket = socket;
    this.endpoint = endpoint;
    this.#ended = ended;
    forgotten.register(this, this.#backlog);
    this.#marks = snapshot?.marks ?? false;
    this.#window = new WebSocketWindow(snapshot?.unanswered, snapshot?.unmarked);
    endpoint.paced = this.#marks;
    this.#speak().catch((error: unknown) => this.#fail(error));
  }

  /**
   * Handles a message of the device. Resolves when its bytes are taken, or wait in the backlog; undefined: they are. What
   * the platform has to await costs it as much as a keystroke.
   */
  hear(word: string | ArrayBuffer): Promise<void> | undefined {
    if (typeof word === "string" && (this.#over || this.#heed(word))) return undefined;
    const octets = typeof word === "string" ? NOTHING : new Uint8Array(word);
    if (this.#over) {
      release(octets);
      return undefined;
    }
    const backlog = this.#backlog;
    if (this.#isFlood(octets)) {
      release(octets);
      this.#drop();
      return undefined;
    }
    backlog.came(octets.length, this.endpoint.principal.id);
    if (backlog.dropped) {
      release(octets);
      this.#drop();
      return undefined;
    }
    if (!this.#taking) return this.#takeFirst(octets);
    backlog.push(octets);
    if (backlog.waitingOctets > HOLD_IGNORED_OCTETS) {
      this.#drop();
    } else if (backlog.mustHold) {
      backlog.hold();
      this.socket.send("hold");
    }
    return undefined;
  }

  /** Whether a message is one of more than any device has a use for. */
  #isFlood({ length }: Uint8Array): boolean {
    if (this.endpoint.connected) return length === 0 && this.#backlog.held;
    this.#early += 1;
    return length === 0 || this.#early > EARLY_MESSAGES;
  }

  /** The backlog is too long: discards it, and ends the connection. */
  #drop(): void {
    if (this.#over) return;
    this.#forget();
    this.#ended("HoldIgnored");
  }

  #forget(): void {
    this.#over = true;
    this.#backlog.drop();
    this.#window.close();
  }

  socketClosed(): void {
    this.#ended("DeviceGone");
  }

  /** The socket reports the end of the device. */
  expire(): number {
    return Number.POSITIVE_INFINITY;
  }

  lastSign({ now, heardAt, pingedAt }: SignsOfLife): number {
    const pinged = pingedAt(this.socket);
    // A device that never pings counts as present.
    if (pinged === undefined) return now;
    const sign = Math.max(pinged, heardAt);
    return now - sign < PING_SILENCE ? sign : 0;
  }

  save(): SavedConnection {
    return { wired: this.snapshot() };
  }

  snapshot(): WebSocketSnapshot {
    const { unanswered, unmarked } = this.#window;
    return { marks: this.#marks, unanswered, unmarked };
  }

  /** Takes a message before which none waits, and then those that have come meanwhile. */
  #takeFirst(octets: Uint8Array): Promise<void> | undefined {
    try {
      const taking = octets.length <= READ_SIZE ? this.endpoint.writeNow(octets, HOLD_MESSAGE) : this.#take(octets);
      if (taking !== undefined) {
        this.#taking = true;
        return this.#takeAfter(taking, octets);
      }
      this.#wasTaken(octets);
    } catch (error) {
      this.#fail(error);
    }
    return undefined;
  }

  async #takeAfter(taking: Promise<void>, octets: Uint8Array): Promise<void> {
    try {
      await taking;
      this.#wasTaken(octets);
      await this.#takeWaiting();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Writes a message of up to 32 MiB in pieces, so that output it causes cannot outrun the device. */
  async #take(octets: Uint8Array): Promise<void> {
    for (let at = 0; (at === 0 || at < octets.length) && !this.#over; at += READ_SIZE) {
      const piece = octets.length <= READ_SIZE ? octets : octets.subarray(at, at + READ_SIZE);
      await this.endpoint.write(piece, HOLD_MESSAGE);
      // A message of another device may have caused the pool to drop this backlog.
      if (this.#backlog.dropped) this.#drop();
    }
  }

  #wasTaken(octets: Uint8Array): void {
    if (this.#backlog.dropped) this.#drop();
    this.#backlog.taken(octets.length);
    release(octets);
  }

  async #takeWaiting(): Promise<void> {
    const backlog = this.#backlog;
    for (let next = backlog.shift(); next !== undefined && !this.#over; next = backlog.shift()) {
      await this.#take(next);
      this.#wasTaken(next);
      if (this.#over || !backlog.mayGoOn) continue;
      backlog.goOn();
      this.socket.send("go on");
    }
    this.#taking = false;
  }

  close(reason: Reason): void {
    this.#forget();
    this.socket.close(BELL_CLOSE.refused, reason);
  }

  #fail(error: unknown): void {
    logError(error);
    if (!this.#over) this.#ended("InternalError");
  }

  /** Returns false for a word that is not due, and is to be charged. */
  #heed(word: string): boolean {
    if (word === "marks" && !this.#marks) {
      this.#marks = true;
      this.endpoint.paced = true;
      return true;
    }
    if (!word.startsWith("took ") || !this.#window.answered(word.slice("took ".length), Date.now())) {
      this.#unknownWords += 1;
      return this.#unknownWords <= UNKNOWN_WORDS;
    }
    if (!this.#window.isFull) this.#goOn?.();
    return true;
  }

  /** Sends the endpoint's output to the device, as fast as the device confirms it. */
  async #speak(): Promise<void> {
    while (!this.#over) {
      await this.endpoint.ready();
      // The last output of an ended endpoint is short, and is sent without waiting for the device.
      if (this.#window.isFull && !this.endpoint.ended) await this.#room();
      if (this.#over) return;
      const waiting = this.endpoint.take(READ_SIZE);
      if (waiting?.kind === "octets") {
        this.socket.send(waiting.octets);
        this.#count(waiting.octets.length);
      } else if (waiting?.kind === "ended") {
        this.#ended(waiting.reason);
        return;
      }
    }
  }

  async #room(): Promise<void> {
    const more = new Promise<void>((resolve) => {
      this.#goOn = resolve;
    });
    await Promise.race([more, this.endpoint.over]);
    this.#goOn = undefined;
  }

  #count(octets: number): void {
    if (!this.#marks) {
      if (this.endpoint.answersUnread > ANSWERS_AHEAD) this.endpoint.abort("OutputNotTaken");
      return;
    }
    if (!this.#window.sent(octets)) return;
    const mark = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.socket.send(`mark ${mark}`);
    this.#window.marked(mark, Date.now());
  }
}
