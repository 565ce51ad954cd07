/**
 * What a command of streams says while it runs: lines for people, or with --json an object for each event on standard
 * output. In a terminal, the last line on standard error shows how it is.
 *
 * @module
 */
import { DeviceError, type DeviceStream, StreamError, type StreamReason } from "../../device/index.ts";
import { fitted, jsonLine, visible } from "../../lib/printable.ts";
import { rate } from "../device-options.ts";
import { withCode } from "../error-line.ts";

export const LOG_OPTIONS = { json: { type: "boolean", default: false } } as const;

export const LOG_HELP = `  --json                print what happens as JSON objects, one on each line`;

/** How often the status line is drawn, in milliseconds: often enough to see a rate, and calm. */
const REDRAW = 1000;

/** For how long the reasons of resets are not repeated, in milliseconds: all connections end by the same one at a time. */
const REPEATED = 1000;

/** Assumed width of a terminal that does not report one. */
const COLUMNS = 80;

/** What streams carry, in bytes. */
export interface Traffic {
  streams: number;
  sent: number;
  received: number;
}

/** What the status line shows of a device. */
export interface Shown {
  readonly isConnected: boolean;
  readonly transport: string | undefined;
}

type Fields = Readonly<Record<string, string | number | undefined>>;

export class StreamLog {
  readonly traffic: Traffic = { streams: 0, sent: 0, received: 0 };
  readonly #isJson: boolean;
  readonly #terminal: NodeJS.WriteStream | undefined;
  readonly #told = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #line = "";
  #isEnded = false;

  constructor({
    json = false,
    stderr = process.stderr,
  }: { readonly json?: boolean; readonly stderr?: NodeJS.WriteStream } = {}) {
    this.#isJson = json;
    this.#terminal = stderr.isTTY && !json ? stderr : undefined;
  }

  /** Says what the command does: on standard output. */
  announce(event: string, line: string, fields: Fields = {}): void {
    this.#say(event, line, fields, (text) => console.log(text));
  }

  /** Says what has happened: on standard error. */
  tell(line: string, event = "note", fields: Fields = {}): void {
    this.#say(event, line, fields, (text) => console.error(`grooveway: ${text}`));
  }

  /**
   * Says why a connection is reset, unless a program does it or the command ends: once for all connections to a service
   * that end together.
   *
   * @param service the service, as this device names it
   * @param ordinary reasons that are not worth a line here
   */
  async tellReset(service: string, { closed }: DeviceStream, ordinary: readonly StreamReason[] = []): Promise<void> {
    const error = await closed.catch((reason: unknown) => reason);
    if (!(error instanceof DeviceError) || this.#isEnded) return;
    if (error instanceof StreamError && ["ConnectionReset", ...ordinary].includes(error.reason)) return;
    const line = `${service}: connections are reset: ${withCode(error.message, error.code)}`;
    if (this.#told.has(line)) return;
    this.#told.add(line);
    setTimeout(() => this.#told.delete(line), REPEATED).unref();
    this.tell(line, "reset");
  }

  /** Reports that the device is connected. Without `--json`, only after a report that it was not. */
  connected({ transport }: Shown, wasAway: boolean): void {
    if (wasAway || this.#isJson) this.tell("connected", "connected", { transport });
  }

  #say(event: string, line: string, fields: Fields, print: (text: string) => void): void {
    if (this.#isJson) {
      console.log(jsonLine({ time: new Date().toISOString(), event, message: line, ...fields }));
      return;
    }
    const shown = this.#line;
    this.#draw("");
    print(visible(line));
    this.#draw(shown);
  }

  /** Keeps the status line until `end`. */
  watch(device: Shown): void {
    if (this.#terminal === undefined) return;
    let before = { ...this.traffic, at: performance.now() };
    const draw = () => {
      const now = { ...this.traffic, at: performance.now() };
      this.#draw(statusText(device, now, before));
      before = now;
    };
    draw();
    this.#timer = setInterval(draw, REDRAW).unref();
  }

  /** Takes the status line away. What is reset from now on, the command ends. */
  end(): void {
    this.#isEnded = true;
    clearInterval(this.#timer);
    this.#draw("");
  }

  #draw(line: string): void {
    if (line === this.#line) return;
    // A longer line would wrap, and the wrapped part would stay.
    const shown = fitted(line, (this.#terminal?.columns ?? COLUMNS) - 1);
    this.#terminal?.write(`\r\x1b[K${shown}`);
    this.#line = line;
  }
}

interface Sample extends Traffic {
  /** A time of `performance.now()`. */
  readonly at: number;
}

/** Such as `connected by websocket, 3 connections, 1.2 MiB/s sent, 0 B/s received`. */
export function statusText({ isConnected, transport }: Shown, now: Sample, before: Sample): string {
  const state = isConnected ? `connected by ${transport ?? "an unknown transport"}` : "not connected, trying again";
  const streams = `${now.streams} ${now.streams === 1 ? "connection" : "connections"}`;
  const [sent, received] = (["sent", "received"] as const).map((way) =>
    rate(now[way] - before[way], now.at - before.at),
  );
  return `${state}, ${streams}, ${sent} sent, ${received} received`;
}
