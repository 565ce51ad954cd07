/**
 * The connection of a device: made, lost and made again, and renewed before it is used up.
 *
 *   start ─► open ─► adopt ─► in use ─(lost)─► retire ─► pause ─► open ─► adopt ...
 *                               └(nearly used up)─► drain ─► open beside it ─► adopt, which retires the old one
 *
 * A lost carrier is replaced after a pause; one that is nearly used up is replaced before it is. At most one carrier is
 * in use: events of another one are ignored.
 *
 * @module
 */
import { sleep, within } from "../lib/runtime/timeout.ts";
import type { Connection, ConnectionEvent } from "../sstp/index.ts";
import { DeviceError } from "./device-error.ts";
import type { Inbox } from "./inbox.ts";
import {
  BUSY_PATIENCE,
  CONNECT_TIMEOUT,
  CONTENT_RESERVE,
  DRAIN_PATIENCE,
  LONGEST_REST,
  RECONNECT_FIRST,
} from "./limits.ts";
import type { DeviceOptions, Settings } from "./options.ts";
import { type Outbox, onWire } from "./outbox.ts";
import { isForgeable, ReconnectPause, Refusals } from "./reconnect.ts";
import { closure, RelayConnection } from "./relay-connection.ts";
import { tokenFrom } from "./token-source.ts";
import { PathMtuWatch } from "./transports/path-mtu.ts";
import type { OpenTransport, TransportName } from "./transports/transport.ts";

/** A carrier and its state. */
interface Run {
  readonly carrier: RelayConnection;
  /** When it was connected. */
  readonly since: number;
  /** Whether the relay acknowledged a message on it, or the application finished one from it. */
  carried: boolean;
  /** Another carrier has taken over. Late events are ignored: the relay repeats them on the new one. */
  retired: boolean;
}

/** What a connection needs from its device. */
export interface RenewedConnectionOptions {
  readonly options: DeviceOptions;
  readonly settings: Settings;
  readonly openTransport: OpenTransport;
  readonly outbox: Outbox;
  readonly inbox: Inbox;
  /** Called when the connection is lost for good. The device must then call `end`. */
  readonly onLost: (error: DeviceError) => void;
}

export class RenewedConnection {
  readonly #options: DeviceOptions;
  readonly #settings: Settings;
  readonly #openTransport: OpenTransport;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #onLost: (error: DeviceError) => void;
  #run: Run | undefined;
  #token: string | undefined;
  #replacing = false;
  readonly #reconnectPause = new ReconnectPause();
  readonly #refusals: Refusals;
  readonly #pathMtu = new PathMtuWatch();
  #renewal: Promise<void> | undefined;
  /** Carriers being connected. */
  readonly #opening = new Set<RelayConnection>();
  /** Aborts pauses, so that a closed device holds no timer. */
  readonly #closing = new AbortController();

  constructor({ options, settings, openTransport, outbox, inbox, onLost }: RenewedConnectionOptions) {
    this.#options = options;
    this.#settings = settings;
    this.#openTransport = openTransport;
    this.#refusals = new Refusals(isForgeable(options.edge));
    this.#outbox = outbox;
    this.#inbox = inbox;
    this.#onLost = onLost;
  }

  /** Makes the first connection. Call once. */
  async start(): Promise<void> {
    this.#adopt(await this.#first());
  }

  /** The carrier in use, unless it is lost. */
  get carrier(): RelayConnection | undefined {
    return this.#run?.carrier;
  }

  /** Token of the last connection. */
  get token(): string | undefined {
    return this.#token;
  }

  /** Whether the carrier is being replaced. Then no new message begins on it. */
  get isRenewing(): boolean {
    return this.#renewal !== undefined;
  }

  /** Replaces a carrier that is nearly used up. Resolves when the replacement has succeeded or failed. */
  renew(): Promise<void> {
    return this.#run === undefined ? Promise.resolve() : this.#renew(this.#run);
  }

  /** Records that the application has finished a message from this engine. */
  finished(engine: Connection): void {
    if (this.#run?.carrier.engine === engine) this.#run.carried = true;
  }

  /** Waits, at most until the connection is ended. */
  async pause(milliseconds: number): Promise<void> {
    if (milliseconds > 0) await sleep(milliseconds, this.#closing.signal);
  }

  /** Makes no more connections. The carrier in use is left to the caller. */
  end(): void {
    this.#closing.abort();
    for (const carrier of this.#opening) carrier.abandon();
    this.#run = undefined;
  }

  get #isOver(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Makes the first connection. */
  async #first(): Promise<Run> {
    const until = performance.now() + BUSY_PATIENCE;
    for (;;) {
      try {
        return await this.#open();
      } catch (error) {
        const rest = restOf(error);
        if (rest === 0 || performance.now() + rest > until) throw error;
        this.#options.onReconnect?.(asDeviceError(error));
        await this.pause(rest + Math.random() * RECONNECT_FIRST);
        // Closing the device cuts the pause short.
        if (this.#isOver) throw error;
      }
    }
  }

  /** Connects a new carrier. Events are handled from the first one on. */
  async #open(): Promise<Run> {
    const { edge, contentLength, ca, allowPlain, receive = true } = this.#options;
    const { self: address, transport, relay } = this.#settings;
    const token = await tokenFrom(this.#options.token, this.#closing.signal);
    this.#token = token;
    let run: Run | undefined;
    const carrier = new RelayConnection(
      {
        transport,
        relay,
        edge,
        contentLength,
        ca,
        token,
        allowPlain,
        receive,
        address,
        ends: this.#options.relay === undefined,
        open: this.#openTransport,
      },
      (event, key) => run !== undefined && this.#on(run, event, key),
      () => this.#inbox.full,
    );
    run = {
      carrier,
      since: performance.now(),
      carried: false,
      retired: false,
    };
    this.#opening.add(carrier);
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      carrier.abandon();
    }, CONNECT_TIMEOUT);
    try {
      await carrier.connect();
      return run;
    } catch (error) {
      run.retired = true;
      this.#inbox.forget(carrier.engine);
      throw isLate ? unanswered(relay, transport) : error;
    } finally {
      clearTimeout(timer);
      this.#opening.delete(carrier);
    }
  }

  #adopt(run: Run): void {
    const before = this.#run;
    if (before !== undefined) this.#retire(before);
    if (this.#isOver) {
      run.carrier.abandon();
      return;
    }
    this.#run = run;
    const over = run.carrier.engine.closed;
    if (over === undefined) this.#outbox.attach(run.carrier);
    else this.#lost(run, this.#closure(over, run), over.returnTime);
  }

  /** Drops a carrier. Its unacknowledged messages are sent again, before the unsent ones. */
  #retire(run: Run): void {
    run.retired = true;
    this.#outbox.detach();
    this.#inbox.forget(run.carrier.engine);
    run.carrier.abandon();
    this.#run = undefined;
  }

  #on(run: Run, event: ConnectionEvent, key: string | undefined): void {
    if (run.retired) return;
    const { engine } = run.carrier;
    switch (event.type) {
      case "open":
        // Bytes after the Open may have ended the session already.
        if (engine.session(event.sessionId) !== undefined) engine.setAvailability(event.sessionId, "ready");
        break;
      case "acknowledged":
        run.carried = true;
        break;
      case "closed":
        if (this.#run === run) this.#lost(run, this.#closure(event, run), event.returnTime);
        return;
    }
    if (this.#run === run) this.#outbox.on(event, key);
    this.#inbox.on(run.carrier, event);
    if (event.type === "endMessage" && run.carrier.transport.remaining < bytesNeeded(this.#settings.limit))
      void this.#renew(run);
  }

  /** Replaces a carrier that is nearly used up, without a gap: the new one connects before the old one goes. */
  #renew(run: Run): Promise<void> {
    this.#renewal ??= this.#replace(run).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  /** Waits for an acknowledgement; false after DRAIN_PATIENCE (5 s) without one. */
  async #progress(): Promise<boolean> {
    return (await within(DRAIN_PATIENCE, this.#outbox.progress())) !== undefined;
  }

  async #replace(run: Run): Promise<void> {
    // The relay drops the old connection with everything in flight. Sending that again could use up the next connection
    // too, and so on; so begin nothing new until everything is acknowledged.
    while (this.#run === run && this.#outbox.isBusy) {
      const progressed = await this.#progress();
      if (!progressed && !this.#outbox.isSending) break;
    }
    if (this.#replacing || this.#run !== run) return;
    this.#replacing = true;
    try {
      const next = await this.#open();
      this.#replacing = false;
      this.#adopt(next);
    } catch (error) {
      this.#replacing = false;
      // If the old carrier has ended meanwhile, handle its loss here; no other code will.
      if (this.#run === run && run.carrier.engine.closed !== undefined) this.#lost(run, asDeviceError(error));
    }
  }

  #closure(closed: Parameters<typeof closure>[0], { carrier }: Run): DeviceError {
    const { self: address, relay: name } = this.#settings;
    return closure(closed, carrier.transport, { token: this.#token, address, name });
  }

  #lost(run: Run, why: DeviceError, returnTime = 0): void {
    // The relay closes a device's old connection when the new one arrives; here that is intended.
    if (this.#replacing) return;
    const error = this.#pathMtu.ended(this.#outbox.ending(), why) ?? why;
    this.#retire(run);
    if (this.#isOver) return;
    this.#reconnectPause.lost(run.carried, performance.now() - run.since);
    const usedUp = run.carrier.transport.remaining < bytesNeeded(this.#settings.limit);
    const rest = Math.max(Math.min(returnTime * 1000, LONGEST_REST), restOf(error));
    void this.#goOn(error, rest, usedUp);
  }

  /** Reconnects after a loss, or ends. */
  async #goOn(why: DeviceError, rest: number, usedUp: boolean): Promise<void> {
    const error = this.#refusals.judge(why, performance.now());
    if (error.retryable) return this.#reconnect(error, rest, usedUp);
    if (error.code !== "TokenRefused" || !(await this.#hasNewToken())) return this.#onLost(error);
    const { code, message } = error;
    await this.#reconnect(new DeviceError(code, `${message}; there is a new one`, { advice: "retry" }), rest, usedUp);
  }

  /** Whether the provider has another token than the one last used. */
  async #hasNewToken(): Promise<boolean> {
    const { token } = this.#options;
    if (typeof token !== "function") return false;
    try {
      return (await tokenFrom(token, this.#closing.signal)) !== this.#token;
    } catch {
      // Connecting asks again, and reports the error.
      return true;
    }
  }

  /**
   * Reconnects with full jitter, so that a restarted edge does not meet all its devices at once. A resting relay says
   * how long to stay away [MS-GRVSSTP 3.1.5.4]. A carrier that is merely used up is replaced at once.
   */
  async #reconnect(why: DeviceError, rest: number, usedUp: boolean): Promise<void> {
    if (this.#replacing || this.#isOver) return;
    this.#replacing = true;
    this.#options.onReconnect?.(why);
    await this.pause(rest);
    let busy = 0;
    let told = why.code;
    for (let atOnce = usedUp; !this.#isOver; atOnce = false) {
      await this.pause(busy + (atOnce ? 0 : Math.random() * this.#reconnectPause.next()));
      if (this.#isOver) break;
      try {
        const run = await this.#open();
        this.#refusals.admitted();
        this.#replacing = false;
        this.#adopt(run);
        return;
      } catch (cause) {
        const refused = asDeviceError(cause);
        const error = this.#refusals.judge(refused, performance.now());
        if (!error.retryable) {
          this.#onLost(error);
          break;
        }
        // A refusal that is not believed is told once, so that somebody can look at it.
        if (error !== refused && error.code !== told) this.#options.onReconnect?.(error);
        told = error.code;
        busy = restOf(error);
      }
    }
    this.#replacing = false;
  }
}

/** Bytes that a transport must have left for a message of this length and what follows it. */
export function bytesNeeded(length: number): number {
  return onWire(length) + CONTENT_RESERVE;
}

/** Connected, but the relay did not answer in time. */
function unanswered(relay: string, transport: TransportName): DeviceError {
  return new DeviceError(
    "ConnectFailed",
    `${relay} connected, but did not answer by ${transport} within ${CONNECT_TIMEOUT / 1000} s; check that it is a relay or an edge, and try again later`,
  );
}

/** How long the refusing side asks to be left alone, in milliseconds; 0 if it did not say. */
function restOf(error: unknown): number {
  const seconds = error instanceof DeviceError ? (error.retryAfter ?? 0) : 0;
  return Math.min(seconds * 1000, LONGEST_REST);
}

function asDeviceError(error: unknown): DeviceError {
  return error instanceof DeviceError ? error : new DeviceError("ConnectFailed", String(error), { cause: error });
}
