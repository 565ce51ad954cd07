/**
 * The forwarded ports of a command whose list may change while it runs.
 *
 * @module
 */
import { CommandError } from "../command-error.ts";
import type { Forward } from "./connect-toml.ts";
import { type Dialer, ForwardedPort } from "./forwarded-port.ts";
import { endpointText, targetText } from "./stream-address.ts";
import type { StreamLog } from "./stream-log.ts";

export class ForwardedPorts {
  readonly #dialer: Dialer;
  readonly #log: StreamLog;
  /** By where they were to listen, which for port 0 is not where they listen. */
  readonly #ports = new Map<string, ForwardedPort>();
  #isClosed = false;

  constructor(dialer: Dialer, log: StreamLog) {
    this.#dialer = dialer;
    this.#log = log;
  }

  /**
   * Forwards these ports and no others, and says what has changed. A port that leads where it led before is not touched;
   * connections of all others end. Let a call end before the next.
   *
   * @returns the errors of ports on which it cannot listen: PortTaken, CannotListen
   */
  async set(forwards: ReadonlyMap<string, Forward>): Promise<readonly CommandError[]> {
    for (const [where, port] of [...this.#ports]) {
      const now = forwards.get(where);
      if (now !== undefined && targetText(now.target) === targetText(port.target)) continue;
      port.close();
      this.#ports.delete(where);
      if (now === undefined) this.#announce("not-forwarded", port, "forwarded no more");
    }
    const errors: CommandError[] = [];
    for (const [where, { at, target }] of forwards) {
      if (this.#ports.has(where)) continue;
      try {
        const port = await ForwardedPort.open({ at, target, dialer: this.#dialer, log: this.#log });
        if (this.#isClosed) port.close();
        else {
          this.#ports.set(where, port);
          this.#announce("forwarded", port, targetText(target));
        }
      } catch (error) {
        if (!(error instanceof CommandError)) throw error;
        errors.push(error);
      }
    }
    return errors;
  }

  #announce(event: string, port: ForwardedPort, is: string): void {
    const at = endpointText(port.at);
    this.#log.announce(event, `${at} is ${is}`, { at, service: targetText(port.target) });
  }

  /** Closes all of them for good. */
  close(): void {
    this.#isClosed = true;
    for (const port of this.#ports.values()) port.close();
    this.#ports.clear();
  }
}
