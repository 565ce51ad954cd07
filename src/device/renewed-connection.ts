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
import { type Closed, ConnectCloseReasonId, type Connection, type ConnectionEvent } from "../sstp/index.ts";
import { CarrierOpener, type Run } from "./carrier-opener.ts";
import { asDeviceError } from "./climb.ts";
import { DeviceError } from "./device-error.ts";
import type { Inbox } from "./inbox.ts";
import {
  BUSY_PATIENCE,
  CONTENT_RESERVE,
  DRAIN_PATIENCE,
  GAP_PATIENCE,
  LONGEST_REST,
  PROBE_DRAIN,
  RECONNECT_FIRST,
  SURROUNDINGS_INTERVAL,
} from "./limits.ts";
import { NetworkPlace } from "./network-place.ts";
import type { ConnectionOptions, Settings } from "./options.ts";
import { type Outbox, onWire } from "./outbox.ts";
import type { Platform } from "./platform.ts";
import { isForgeable, ReconnectPause, Refusals } from "./reconnect.ts";
import { closure, type RelayConnection } from "./relay-connection.ts";
import { tokenFrom } from "./token-source.ts";
import { PathMtuWatch } from "./transports/path-mtu.ts";
import { SleepWatch } from "./transports/surroundings.ts";

/** What a connection needs of the outbox. */
export type Outlet = Pick<Outbox, "attach" | "detach" | "on" | "ending" | "isBusy" | "isSending" | "progress">;

/** What a connection needs from its device. */
export interface RenewedConnectionOptions {
  readonly options: ConnectionOptions;
  readonly settings: Settings;
  readonly platform: Platform;
  /** Names of the device's other edges: a token for one of them is not sent. Default none. */
  readonly otherEdges?: readonly string[];
  readonly outbox: Outlet;
  readonly inbox: Inbox;
  /** Since when a program waits for data of a stream; undefined if none does. Default: none does. */
  readonly awaitedSince?: (() => number | undefined) | undefined;
  /** Called when the connection is lost for good. The device must then call `end`. */
  readonly onLost: (error: DeviceError) => void;
}

export class RenewedConnection {
  readonly #options: ConnectionOptions;
  readonly #settings: Settings;
  readonly #outbox: Outlet;
  readonly #inbox: Inbox;
  readonly #onLost: (error: DeviceError) => void;
  #run: Run | undefined;
  #replacing = false;
  readonly #reconnectPause = new ReconnectPause();
  readonly #refusals: Refusals;
  readonly #pathMtu = new PathMtuWatch();
  #renewal: Promise<void> | undefined;
  /** Whether a LongLived carrier that follows a used-up one may be asked to carry more: until such a one fails. */
  #mayBeLong: boolean;
  readonly #place: NetworkPlace;
  readonly #opener: CarrierOpener;
  /** Ends the search for a better way, if there is one. */
  #search: AbortController | undefined;
  /** Aborts pauses, so that a closed device holds no timer. */
  readonly #closing = new AbortController();

  constructor({
    options,
    settings,
    platform,
    otherEdges = [],
    outbox,
    inbox,
    awaitedSince,
    onLost,
  }: RenewedConnectionOptions) {
    this.#options = options;
    this.#mayBeLong = options.contentLength === undefined;
    this.#settings = settings;
    const { network } = platform;
    this.#place = new NetworkPlace({ to: options.edge ?? settings.relay, network, memory: options.ways });
    this.#refusals = new Refusals(
      isForgeable(options.allowPlain ? options.edge?.replace(/^https:/, "http:") : options.edge),
    );
    this.#outbox = outbox;
    this.#inbox = inbox;
    this.#onLost = onLost;
    this.#opener = new CarrierOpener({
      options,
      settings,
      platform,
      place: this.#place,
      otherEdges,
      inbox,
      awaitedSince,
      closing: this.#closing.signal,
      on: (run, event, key) => this.#on(run, event, key),
    });
  }

  /** Makes the first connection. Call once. */
  async start(): Promise<void> {
    this.#adopt(await this.#first());
    void this.#watchSurroundings();
  }

  /** Goes on after `start` has failed: connects again as after a loss, unless the error is final. */
  async retry(error: DeviceError): Promise<void> {
    void this.#watchSurroundings();
    await this.#goOn(error, restOf(error), false);
  }

  /** URL of the edge; undefined without one. */
  get edge(): string | undefined {
    return this.#options.edge;
  }

  /** The carrier in use, unless it is lost. */
  get carrier(): RelayConnection | undefined {
    return this.#run?.carrier;
  }

  /** The carriers in use. */
  get carriers(): readonly RelayConnection[] {
    return this.#run === undefined ? [] : [this.#run.carrier];
  }

  /** Ends the carrier in use, and connects again. */
  giveUp(why: DeviceError): void {
    const run = this.#run;
    if (run === undefined) return;
    // What replaces it already handles its end.
    if (this.#replacing) run.carrier.abandon();
    else this.#lost(run, why);
  }

  /** Token of the last connection. */
  get token(): string | undefined {
    return this.#opener.token;
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
    this.#search?.abort();
    this.#opener.end();
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
        return await this.#opener.open();
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

  #adopt(run: Run): void {
    const before = this.#run;
    if (before !== undefined) this.#retire(before);
    if (this.#isOver) {
      run.carrier.abandon();
      return;
    }
    this.#run = run;
    // Before the outbox has the carrier: it would take it for one that could not be replaced, and pause.
    this.#renewal = undefined;
    if (run.way !== undefined) this.#place.adopted(run.way, performance.now());
    const over = run.carrier.engine.closed;
    if (over === undefined) this.#outbox.attach(run.carrier);
    else this.#lost(run, this.#closure(over, run), over.returnTime);
  }

  /** Drops a carrier. Its unacknowledged messages are sent again, before the unsent ones. */
  #retire(run: Run): void {
    run.retired = true;
    this.#search?.abort();
    const isCut = wasCut(run) && !this.#place.isCutForIdleness(run.carrier);
    if (isCut && run.isLong) this.#mayBeLong = false;
    if (run.way !== undefined) this.#place.ladder.ended(performance.now(), isCut);
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
        if (engine.session(event.sessionId) !== undefined) {
          const takesMessages = this.#options.receive !== "streams";
          engine.setAvailability(event.sessionId, this.#inbox.availabilityOf(event.resourceURL, takesMessages));
        }
        break;
      case "acknowledged":
        run.carried = true;
        break;
      case "closed":
        if (this.#run !== run) return;
        // With several edges, messages need not wait for the new carrier. One that is replaced has it in a moment.
        if (this.#replacing && event.reasonId !== ConnectCloseReasonId.CrossedConnections) this.#outbox.detach();
        this.#lost(run, this.#closure(event, run), event.returnTime);
        return;
    }
    if (this.#run === run) this.#outbox.on(event, key);
    this.#inbox.on(run.carrier, event);
    if (event.type === "endMessage" && this.#isUsedUp(run)) void this.#renew(run);
  }

  get #mayClimb(): boolean {
    return this.#run !== undefined && this.#search === undefined && !this.#replacing && this.#renewal === undefined;
  }

  /** Replaces a carrier that is nearly used up, without a gap: the new one connects before the old one goes. */
  #renew(run: Run): Promise<void> {
    if (this.#renewal !== undefined) return this.#renewal;
    const renewal = this.#replace(run).finally(() => {
      if (this.#renewal === renewal) this.#renewal = undefined;
    });
    this.#renewal = renewal;
    return renewal;
  }

  /** Waits for an acknowledgement; false after DRAIN_PATIENCE (5 s) without one. */
  async #progress(): Promise<boolean> {
    return (await within(DRAIN_PATIENCE, this.#outbox.progress())) !== undefined;
  }

  async #replace(run: Run): Promise<void> {
    // A relay keeps several connections of a device that only sends, so the next one can be opened meanwhile.
    const early = this.#options.receive === false ? this.#openNext(run) : undefined;
    early?.catch(() => undefined);
    // The relay drops the old connection with everything in flight. Sending that again could use up the next connection
    // too, and so on; so begin nothing new until everything is acknowledged.
    while (this.#run === run && this.#outbox.isBusy) {
      const progressed = await this.#progress();
      if (!progressed && !this.#outbox.isSending) break;
    }
    if (this.#replacing || this.#run !== run) {
      void early?.then((next) => this.#opener.abandon(next)).catch(() => undefined);
      return;
    }
    this.#replacing = true;
    try {
      const next = await (early ?? this.#openNext(run));
      this.#replacing = false;
      this.#adopt(next);
    } catch (error) {
      this.#replacing = false;
      // If the old carrier has ended meanwhile, handle its loss here; no other code will.
      if (this.#run === run && run.carrier.engine.closed !== undefined) this.#lost(run, asDeviceError(error));
    }
  }

  /**
   * Opens the carrier that follows one. If that is a LongLived one that is used up, there is much to carry, and the next
   * is asked to carry as much as LongLived can. The platform and some proxies refuse longer bodies than the default:
   * where it fails, it is not tried again.
   */
  async #openNext(run: Run): Promise<Run> {
    const isLong = run.carrier.transport.name === "longlived" && this.#isUsedUp(run);
    if (isLong && this.#mayBeLong) {
      try {
        return await this.#opener.openLong(run);
      } catch (error) {
        if (this.#isOver) throw error;
        this.#mayBeLong = false;
      }
    }
    return this.#opener.open();
  }

  #isUsedUp({ carrier }: Run): boolean {
    return carrier.transport.remaining < bytesNeeded(this.#settings.limit);
  }

  #closure(closed: Closed, { carrier }: Run): DeviceError {
    const { self: address, relay: name } = this.#settings;
    const shown = { token: this.#opener.token, address, name };
    return this.#opener.ownDoing(closure(closed, carrier.transport, shown));
  }

  /** Looks for sleep, other networks, and better ways, until the device is closed. */
  async #watchSurroundings(): Promise<void> {
    const watch = new SleepWatch(performance.now(), Date.now());
    let gapAt: number | undefined;
    let [movedAt, triedAt] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (;;) {
      await sleep(SURROUNDINGS_INTERVAL, this.#closing.signal);
      if (this.#isOver) return;
      const now = performance.now();
      const seen = watch.look(now, Date.now());
      const hasMoved = this.#place.look(now);
      if (seen === "gap") gapAt = now;
      if (seen === "slept" && !hasMoved) this.#place.begin(now);
      if (hasMoved || seen === "slept") movedAt = now;
      const { since = now, heardAt = now } = { since: this.#run?.since, heardAt: this.#run?.carrier.transport.heardAt };
      // A change that is noticed while connecting counts afterwards. A connection that is heard again has survived it.
      const isOutdated = since < movedAt && (triedAt < movedAt || heardAt < movedAt);
      if (isOutdated) {
        if (this.#mayClimb) {
          triedAt = now;
          void this.#climb("all");
        }
      } else if (gapAt !== undefined && now >= gapAt + GAP_PATIENCE) {
        // What is alive has shown it by now.
        if ((this.#run?.carrier.transport.heardAt ?? now) < gapAt) void this.#climb("all");
        gapAt = undefined;
      } else if (now >= this.#place.ladder.probeAt) void this.#climb("better");
    }
  }

  /**
   * Replaces the carrier by one that is made by a better way, or by any that works. The one in use stays until the new
   * one is proven.
   */
  async #climb(which: "better" | "all"): Promise<void> {
    const run = this.#run;
    if (run === undefined || !this.#mayClimb) return;
    const search = new AbortController();
    this.#search = search;
    const renewed = Promise.withResolvers<void>();
    let isReplacing = false;
    try {
      const next = await this.#opener.openBeside(which, search.signal, async () => {
        if (this.#run !== run || this.#replacing || this.#renewal !== undefined) throw superseded();
        // No message begins until the new carrier is there, and those that have begun get time to arrive.
        this.#renewal = renewed.promise;
        if (which === "better") await within(PROBE_DRAIN, this.#drained(run));
        // The search may have ended while one of its ways has waited here.
        if (this.#run !== run || search.signal.aborted) throw superseded();
        this.#replacing = true;
        isReplacing = true;
      });
      if (next === undefined) return;
      if (isReplacing) this.#replacing = false;
      if (this.#run !== run) this.#opener.abandon(next);
      else this.#adopt(next);
    } catch (error) {
      if (isReplacing) this.#replacing = false;
      this.#place.ladder.probed(performance.now());
      // If the old carrier has ended meanwhile, handle its loss here; no other code will.
      if (isReplacing && this.#run === run && run.carrier.engine.closed !== undefined) {
        this.#lost(run, asRetryable(asDeviceError(error)));
      }
    } finally {
      search.abort();
      this.#search = undefined;
      if (this.#renewal === renewed.promise) this.#renewal = undefined;
      renewed.resolve();
    }
  }

  async #drained(run: Run): Promise<void> {
    while (this.#run === run && this.#outbox.isBusy) if (!(await this.#progress())) return;
  }

  #lost(run: Run, why: DeviceError, returnTime = 0): void {
    // The relay closes a device's old connection when the new one arrives; here that is intended.
    if (this.#replacing) return;
    const error = this.#pathMtu.ended(this.#outbox.ending(), why) ?? why;
    const usedUp = this.#isUsedUp(run);
    this.#retire(run);
    if (this.#isOver) return;
    this.#reconnectPause.lost(run.carried, performance.now() - run.since);
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
      return (await tokenFrom(token, this.#closing.signal)) !== this.#opener.token;
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
        const run = await this.#opener.open();
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
        // A refusal that is not believed is reported once, so that somebody can look at it.
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

/** How long the refusing side asks to be left alone, in milliseconds; 0 if it did not say. */
function restOf(error: unknown): number {
  const seconds = error instanceof DeviceError ? (error.retryAfter ?? 0) : 0;
  return Math.min(seconds * 1000, LONGEST_REST);
}

/** Whether a connection was broken in between: neither this side nor the relay or edge has ended it. */
function wasCut({ carrier: { engine, transport } }: Run): boolean {
  const cause = engine.closed?.cause;
  if (cause !== "transport" && cause !== "timeout") return false;
  // An edge says why it ends a connection; a used up one has done its work.
  return transport.lost?.code === undefined && transport.remaining > CONTENT_RESERVE;
}

/** The connection was replaced or lost while a better one was tried. */
function superseded(): DeviceError {
  return new DeviceError("ConnectFailed", "the connection has changed meanwhile");
}

/** The old connection has worked, so what a new one met need not be the last word. */
function asRetryable(error: DeviceError): DeviceError {
  return error.retryable ? error : new DeviceError("ConnectFailed", error.message, { cause: error });
}
