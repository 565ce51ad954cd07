/**
 * A WebSocket virtual connection: the device's own socket, which the platform holds while the object sleeps. Its
 * messages are octets of SSTP, and so are ours.
 *
 * The platform reads a WebSocket whether its messages are taken or not, and takes what is sent whether its device reads
 * or not. So both ends say in words, by text messages, what they have taken:
 *
 *   edge → device   "hold"      send nothing more: what has come is not taken yet
 *                   "go on"
 *                   "mark X"    say that you have read all that came before this
 *   device → edge   "marks"     the first word of a device that answers marks
 *                   "took X"    the answer; X is random, so nobody can say it who has not read it
 *
 * What is on its way after "hold" waits here, up to a limit for each WebSocket and one for all of the isolate (backlog.ts),
 * beyond which the virtual connection is ended. A device that answers marks has at most {@link WINDOW_OCTETS} on the way to it. One that
 * does not is bounded by its acknowledgements of messages, and may have so many octets of answers on the way before it has
 * acknowledged one.
 *
 * @module
 */
import { READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import type { SstpEndpoint } from "../endpoint/sstp-endpoint.ts";
import { logError } from "../log.ts";
import type { Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import { ANSWERS_AHEAD, HOLD_IGNORED_OCTETS, HOLD_MESSAGE, MARK_OCTETS, WINDOW_OCTETS } from "./limits.ts";
import { BacklogPool, WebSocketBacklog } from "./websocket-backlog.ts";

/** What is on its way to the device, for after sleep. */
export interface WebSocketSnapshot {
  /** The device answers marks. */
  readonly marks: boolean;
  /** Marks that are not answered, oldest first, and the octets between each and the one before. */
  readonly unanswered: readonly (readonly [string, number])[];
  /** Octets since the last mark. */
  readonly unmarked: number;
}

/** The backlogs of all WebSockets of this isolate. */
const pool = new BacklogPool();

/** An object that is thrown out of memory with a backlog does not say so. */
const forgotten = new FinalizationRegistry((backlog: WebSocketBacklog) => backlog.drop());

export class WebSocketConnection {
  readonly socket: WebSocket;
  readonly endpoint: SstpEndpoint;
  readonly #ended: (reason: Reason) => void;
  #over = false;
  readonly #backlog = new WebSocketBacklog(pool);
  #taking = false;
  #marks: boolean;
  #unanswered: (readonly [string, number])[];
  #unmarked: number;
  /** Octets that the device has not said to have read, with what each message costs beside. */
  #ahead: number;
  /** Called when it has read more. */
  #goOn: (() => void) | undefined;

  /** @param ended called once, when the endpoint has ended the virtual connection and the device has been told all */
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
    this.#unanswered = [...(snapshot?.unanswered ?? [])];
    this.#unmarked = snapshot?.unmarked ?? 0;
    this.#ahead = this.#unanswered.reduce((sum, [, octets]) => sum + octets, this.#unmarked);
    this.#speak().catch((error: unknown) => this.#fail(error));
  }

  /** A message of the device. Resolves when its octets are taken. */
  async hear(word: string | ArrayBuffer): Promise<void> {
    if (this.#over) return;
    if (typeof word === "string") {
      this.#heed(word);
      return;
    }
    const octets = new Uint8Array(word);
    const backlog = this.#backlog;
    backlog.came(octets.length, this.endpoint.principal.id);
    if (backlog.dropped) {
      this.#drop();
      return;
    }
    if (!this.#taking) {
      this.#taking = true;
      try {
        await this.#take(octets);
        await this.#takeWaiting();
      } catch (error) {
        this.#fail(error);
      }
      return;
    }
    backlog.push(octets);
    if (backlog.waitingOctets > HOLD_IGNORED_OCTETS) {
      this.#drop();
    } else if (backlog.mustHold) {
      backlog.hold();
      this.socket.send("hold");
    }
  }

  /** Too much waits: what has come is let go at once. */
  #drop(): void {
    if (this.#over) return;
    this.#forget();
    this.#ended("HoldIgnored");
  }

  #forget(): void {
    this.#over = true;
    this.#backlog.drop();
  }

  snapshot(): WebSocketSnapshot {
    return { marks: this.#marks, unanswered: this.#unanswered, unmarked: this.#unmarked };
  }

  /** A message may be of 32 MiB: in pieces, what it asks for is bounded by what the device takes. */
  async #take(octets: Uint8Array): Promise<void> {
    for (let at = 0; at < octets.length && !this.#over; at += READ_SIZE) {
      await this.endpoint.write(octets.length <= READ_SIZE ? octets : octets.subarray(at, at + READ_SIZE));
      // Another device's message may have been one too many.
      if (this.#backlog.dropped) this.#drop();
    }
    this.#backlog.taken(octets.length);
  }

  async #takeWaiting(): Promise<void> {
    const backlog = this.#backlog;
    for (let next = backlog.shift(); next !== undefined && !this.#over; next = backlog.shift()) {
      await this.#take(next);
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

  #heed(word: string): void {
    if (word === "marks") this.#marks = true;
    if (!word.startsWith("took ")) return;
    const answered = word.slice("took ".length);
    const at = this.#unanswered.findIndex(([mark]) => mark === answered);
    for (const [, octets] of this.#unanswered.splice(0, at + 1)) this.#ahead -= octets;
    if (this.#ahead < WINDOW_OCTETS) this.#goOn?.();
  }

  /** Sends the device what the endpoint makes, as it says that it reads. */
  async #speak(): Promise<void> {
    while (!this.#over) {
      await this.endpoint.ready();
      // What an endpoint has left to say at its end is little, and nobody is waited for any more.
      if (this.#ahead >= WINDOW_OCTETS && !this.endpoint.ended) await this.#room();
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
    this.#ahead += octets + HOLD_MESSAGE;
    this.#unmarked += octets + HOLD_MESSAGE;
    if (this.#unmarked < MARK_OCTETS) return;
    const mark = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.socket.send(`mark ${mark}`);
    this.#unanswered.push([mark, this.#unmarked]);
    this.#unmarked = 0;
  }
}
