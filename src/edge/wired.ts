/**
 * A WebSocket virtual connection: the device's own socket, which the platform holds while the object sleeps. Its
 * messages are octets of SSTP, and so are ours.
 *
 * The platform reads a WebSocket whether its messages are taken or not. So the device is told in words, by text messages:
 *
 *   edge → device   "hold"    send nothing more: what has come is not taken yet
 *                   "go on"
 *
 * What is on its way when it says so waits here, up to a limit, beyond which the virtual connection is ended.
 *
 * @module
 */
import { READ_SIZE } from "../lib/runtime/byte-reader.ts";
import { GO_ON_OCTETS, HOLD_IGNORED_OCTETS, HOLD_MESSAGE, HOLD_OCTETS } from "./defaults.ts";
import { BELL_CLOSE } from "./doorbell.ts";
import type { Reason } from "./reasons.ts";
import type { Terminal } from "./terminal.ts";

export class Wired {
  readonly socket: WebSocket;
  readonly terminal: Terminal;
  readonly #ended: (reason: Reason) => void;
  #over = false;
  /** What has come and is not taken, in order, and its octets with what each message costs beside. */
  #waiting: Uint8Array[] = [];
  #waitingOctets = 0;
  #taking = false;
  #held = false;

  /** @param ended called once, when the terminal has ended the virtual connection and the device has been told all */
  constructor(socket: WebSocket, terminal: Terminal, ended: (reason: Reason) => void) {
    this.socket = socket;
    this.terminal = terminal;
    this.#ended = ended;
    void this.#speak();
  }

  /** Octets of the device. Resolves when they are taken. */
  async hear(word: string | ArrayBuffer): Promise<void> {
    if (typeof word === "string" || this.#over) return;
    const octets = new Uint8Array(word);
    if (!this.#taking) {
      this.#taking = true;
      await this.terminal.write(octets);
      return this.#takeWaiting();
    }
    this.#waiting.push(octets);
    this.#waitingOctets += octets.length + HOLD_MESSAGE;
    if (this.#waitingOctets > HOLD_IGNORED_OCTETS) {
      this.#waiting = [];
      this.#ended("HoldIgnored");
    } else if (this.#waitingOctets > HOLD_OCTETS && !this.#held) {
      this.#held = true;
      this.socket.send("hold");
    }
  }

  async #takeWaiting(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined && !this.#over; next = this.#waiting.shift()) {
      this.#waitingOctets -= next.length + HOLD_MESSAGE;
      await this.terminal.write(next);
      if (this.#over || !this.#held || this.#waitingOctets > GO_ON_OCTETS) continue;
      this.#held = false;
      this.socket.send("go on");
    }
    this.#taking = false;
  }

  close(reason: Reason): void {
    this.#over = true;
    this.socket.close(BELL_CLOSE.refused, reason);
  }

  /** Sends the device what the terminal makes. What is not acknowledged is bounded by the mailboxes' windows. */
  async #speak(): Promise<void> {
    while (!this.#over) {
      await this.terminal.ready();
      if (this.#over) return;
      const waiting = this.terminal.take(READ_SIZE);
      if (waiting?.kind === "octets") this.socket.send(waiting.octets);
      else if (waiting?.kind === "ended") {
        this.#ended(waiting.reason);
        return;
      }
    }
  }
}
