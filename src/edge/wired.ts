/**
 * A WebSocket virtual connection: the device's own socket, which the platform holds while the object sleeps. Its
 * messages are octets of SSTP, and so are ours.
 *
 * @module
 */
import { READ_SIZE } from "./defaults.ts";
import { BELL_CLOSE } from "./doorbell.ts";
import type { Reason } from "./reasons.ts";
import type { Terminal } from "./terminal.ts";

export class Wired {
  readonly socket: WebSocket;
  readonly terminal: Terminal;
  #over = false;

  /** @param ended called once, when the terminal has ended the virtual connection and the device has been told all */
  constructor(socket: WebSocket, terminal: Terminal, ended: (reason: Reason) => void) {
    this.socket = socket;
    this.terminal = terminal;
    void this.#speak(ended);
  }

  /** Octets of the device. Resolves when more are wanted. */
  async hear(word: string | ArrayBuffer): Promise<void> {
    if (typeof word !== "string") await this.terminal.write(new Uint8Array(word));
  }

  close(reason: Reason): void {
    this.#over = true;
    this.socket.close(BELL_CLOSE.refused, reason);
  }

  /** Sends the device what the terminal makes. What is not acknowledged is bounded by the mailboxes' windows. */
  async #speak(ended: (reason: Reason) => void): Promise<void> {
    while (!this.#over) {
      await this.terminal.ready();
      if (this.#over) return;
      const waiting = this.terminal.take(READ_SIZE);
      if (waiting?.kind === "octets") this.socket.send(waiting.octets);
      else if (waiting?.kind === "ended") {
        ended(waiting.reason);
        return;
      }
    }
  }
}
