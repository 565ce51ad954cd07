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
import { bracketed } from "../lib/host-port.ts";
import { sleep, within } from "../lib/runtime/timeout.ts";
import {
  type Closed,
  ConnectCloseReasonId,
  type Connection,
  type ConnectionEvent,
  isStreamResource,
} from "../sstp/index.ts";
import { asDeviceError, type ClimbOptions, climb } from "./climb.ts";
import { DeviceError } from "./device-error.ts";
import type { Inbox } from "./inbox.ts";
import {
  BUSY_PATIENCE,
  CONNECT_TIMEOUT,
  CONTENT_RESERVE,
  DRAIN_PATIENCE,
  GAP_PATIENCE,
  LONGEST_REST,
  PROBE_DRAIN,
  RECONNECT_FIRST,
  STRAY_TIME,
  SURROUNDINGS_INTERVAL,
} from "./limits.ts";
import { type ConnectionOptions, isUsable, type Settings } from "./options.ts";
import { type Outbox, onWire } from "./outbox.ts";
import { isForgeable, ReconnectPause, Refusals } from "./reconnect.ts";
import { type CarrierOptions, closure, RelayConnection } from "./relay-connection.ts";
import type { StreamHost, StreamHostOptions } from "./streams/stream-host.ts";
import { otherAudience } from "./token-refusal.ts";
import { tokenFrom } from "./token-source.ts";
import { pathText, wayText } from "./transports/candidates.ts";
import { IdleCuts } from "./transports/idle-cuts.ts";
import { Ladder, type Probe } from "./transports/ladder.ts";
import { NetworkMemory, type WayMemory } from "./transports/network-memory.ts";
import { PathMtuWatch } from "./transports/path-mtu.ts";
import { SleepWatch } from "./transports/surroundings.ts";
import { CAPABILITIES, type OpenTransport, type TransportName, type Way } from "./transports/transport.ts";

/** A carrier and its state. */
interface Run {
  readonly carrier: RelayConnection;
  /** Its way, where the ladder has chosen it. */
  readonly way: string | undefined;
  /** When it was connected. */
  readonly since: number;
  /** Whether the relay acknowledged a message on it, or the application finished one from it. */
  carried: boolean;
  /** Another carrier has taken over. Late events are ignored: the relay repeats them on the new one. */
  retired: boolean;
}

/** What a device needs of the platform that it runs on. */
export interface Platform {
  /** How to open each transport. */
  readonly open: OpenTransport;
  /** The ways that the options and the proxies of this moment allow, best first. */
  readonly ways: (options: ConnectionOptions) => Promise<readonly Way[]>;
  /** The key of the network that this machine is in; see `networkKey`. Empty without one. */
  readonly network: () => string;
  /** Makes what carries streams; absent where the platform has none. */
  readonly streams?: (options: Omit<StreamHostOptions, "suites">) => StreamHost;
}

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
  /** Called when the connection is lost for good. The device must then call `end`. */
  readonly onLost: (error: DeviceError) => void;
}

export class RenewedConnection {
  readonly #options: ConnectionOptions;
  readonly #settings: Settings;
  readonly #platform: Platform;
  readonly #otherEdges: readonly string[];
  readonly #outbox: Outlet;
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
  readonly #memory: WayMemory;
  readonly #ladder: Ladder;
  #idleCuts: IdleCuts;
  /** Key of the network in which the ladder stands. */
  #network: string;
  /** Ends the search for a better way, if there is one. */
  #search: AbortController | undefined;
  /** Until when a Connect that was given up may arrive, and replace the connection in use. */
  #strayUntil = 0;
  /** Aborts pauses, so that a closed device holds no timer. */
  readonly #closing = new AbortController();

  constructor({ options, settings, platform, otherEdges = [], outbox, inbox, onLost }: RenewedConnectionOptions) {
    this.#options = options;
    this.#settings = settings;
    this.#platform = platform;
    this.#network = platform.network();
    this.#memory = options.ways ?? new NetworkMemory();
    this.#ladder = new Ladder(this.#memory.recall(this.#place));
    this.#idleCuts = this.#idleCutsHere();
    this.#refusals = new Refusals(
      isForgeable(options.allowPlain ? options.edge?.replace(/^https:/, "http:") : options.edge),
    );
    this.#otherEdges = otherEdges;
    this.#outbox = outbox;
    this.#inbox = inbox;
    this.#onLost = onLost;
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
    this.#search?.abort();
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

  /** Connects a new carrier, by the transport of the options or by the best way that works. */
  async #open(): Promise<Run> {
    const { transport } = this.#settings;
    const token = await this.#freshToken();
    if (transport !== undefined) return this.#openBy(transport, token);
    const ways = await this.#ways();
    const { ids, isFirstKnown } = this.#ladder.order([...ways.keys()], performance.now());
    return this.#race(
      ways,
      ids.map((id) => ({ id, trial: 0 })),
      token,
      { isFirstKnown, onSlow: this.#options.onReconnect, signal: this.#closing.signal },
    );
  }

  async #freshToken(): Promise<string | undefined> {
    this.#token = await tokenFrom(this.#options.token, this.#closing.signal);
    const refusal = otherAudience(this.#token, { name: this.#settings.relay, others: this.#otherEdges });
    if (refusal !== undefined) throw refusal;
    return this.#token;
  }

  async #openBy(transport: TransportName, token: string | undefined): Promise<Run> {
    if (this.#isOver) throw new DeviceError("Closed", "the device was closed");
    const run = this.#begin({ transport }, token);
    const { carrier } = run;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      carrier.abandon();
    }, CONNECT_TIMEOUT);
    try {
      await carrier.connect();
      return run;
    } catch (error) {
      this.#dismiss(run);
      // Its Connect may still arrive, unless the relay has answered it.
      if (isLate || asDeviceError(error).code === "ConnectFailed") this.#strayUntil = performance.now() + STRAY_TIME;
      throw isLate ? unanswered(this.#settings.relay, transport) : error;
    } finally {
      clearTimeout(timer);
      this.#opening.delete(carrier);
    }
  }

  /** Opens a carrier. Its events are handled from the first one on. */
  #begin(way: Pick<CarrierOptions, "transport" | "way" | "onConnected">, token: string | undefined): Run {
    const { edge, contentLength, ca, allowPlain, receive = true } = this.#options;
    const { self: address, relay } = this.#settings;
    const { limit } = this.#idleCuts;
    let run: Run | undefined;
    const carrier = new RelayConnection(
      {
        ...way,
        relay,
        edge,
        contentLength,
        ca,
        token,
        allowPlain,
        idleLimit: Number.isFinite(limit) ? limit : undefined,
        receive: receive !== false,
        address,
        ends: this.#options.relay === undefined,
        open: this.#platform.open,
      },
      (event, key) => run !== undefined && this.#on(run, event, key),
      () => this.#inbox.full,
    );
    run = {
      carrier,
      way: way.way && wayText(way.way),
      since: performance.now(),
      carried: false,
      retired: false,
    };
    this.#opening.add(carrier);
    return run;
  }

  /** Forgets a carrier that was not needed, or did not connect. */
  #dismiss(run: Run): void {
    run.retired = true;
    this.#opening.delete(run.carrier);
    this.#inbox.forget(run.carrier.engine);
  }

  /** The ways of this moment by their names, best first. */
  async #ways(): Promise<Map<string, Way>> {
    const ways = await this.#platform.ways(this.#options);
    return new Map(ways.filter((way) => isUsable(way, this.#options)).map((way) => [wayText(way), way]));
  }

  /** Connects by the first of some ways that works. */
  async #race(
    ways: ReadonlyMap<string, Way>,
    probes: readonly Probe[],
    token: string | undefined,
    options: Pick<ClimbOptions, "isFirstKnown" | "beforeConnect" | "onSlow" | "signal">,
  ): Promise<Run> {
    const runs = new Map<RelayConnection, Run>();
    const wayOf = (id: string): Way => {
      const way = ways.get(id);
      if (way === undefined) throw new Error(`unknown way ${id}`);
      return way;
    };
    const forgeable = new Set(probes.filter(({ id }) => isForgeableWay(wayOf(id))).map(({ id }) => id));
    const { carrier } = await climb({
      ...options,
      isForgeable: (id) => forgeable.has(id) && forgeable.size < probes.length,
      runners: probes.map(({ id, trial }) => {
        const way = wayOf(id);
        return { id, trial, path: pathText(way), echoes: CAPABILITIES[way.transport].carriesToken };
      }),
      open: (id, onConnected) => {
        const way = wayOf(id);
        const run = this.#begin({ transport: way.transport, way, onConnected }, token);
        runs.set(run.carrier, run);
        return run.carrier;
      },
      onFailed: (error) => this.#ownDoing(error),
      onClosed: (closed) => {
        const run = runs.get(closed);
        if (run !== undefined) this.#dismiss(run);
      },
      onStray: () => {
        this.#strayUntil = performance.now() + STRAY_TIME;
      },
    });
    this.#opening.delete(carrier);
    const won = runs.get(carrier);
    if (won === undefined) throw new Error("the winner of a race was not opened for it");
    return won;
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
    if (run.way !== undefined) {
      this.#ladder.adopted(run.way, performance.now());
      this.#memory.remember(this.#place, run.way);
    }
    const over = run.carrier.engine.closed;
    if (over === undefined) this.#outbox.attach(run.carrier);
    else this.#lost(run, this.#closure(over, run), over.returnTime);
  }

  /** Drops a carrier. Its unacknowledged messages are sent again, before the unsent ones. */
  #retire(run: Run): void {
    run.retired = true;
    this.#search?.abort();
    const isCut = wasCut(run) && !this.#isCutForIdleness(run);
    if (run.way !== undefined) this.#ladder.ended(performance.now(), isCut);
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
          // What is refused stays in the mailbox.
          const isTaken = this.#options.receive !== "streams" || isStreamResource(event.resourceURL);
          engine.setAvailability(event.sessionId, isTaken ? "ready" : "fault");
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
    if (event.type === "endMessage" && run.carrier.transport.remaining < bytesNeeded(this.#settings.limit))
      void this.#renew(run);
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

  #closure(closed: Closed, { carrier }: Run): DeviceError {
    const { self: address, relay: name } = this.#settings;
    return this.#ownDoing(closure(closed, carrier.transport, { token: this.#token, address, name }));
  }

  /** A connection that this device's own late Connect has replaced was not replaced by another device. */
  #ownDoing(why: DeviceError): DeviceError {
    if (why.code !== "AddressInUse" || performance.now() > this.#strayUntil) return why;
    const text = "the connection was lost: an earlier attempt of this device to connect arrived late, and replaced it";
    return new DeviceError("ConnectFailed", text, { cause: why });
  }

  /** Names this network, and the relay that is reached from it. */
  get #place(): string {
    return `${this.#options.edge ?? this.#settings.relay} from ${this.#network}`;
  }

  #idleCutsHere(): IdleCuts {
    return new IdleCuts(this.#memory.recallIdle?.(this.#place));
  }

  /** Whether the connection was cut while it was idle, as others before it: the next ones are kept from being idle. */
  #isCutForIdleness({ carrier }: Run): boolean {
    const { reason, status = 0 } = carrier.transport.lost ?? {};
    // A proxy that waits for an answer in vain says so.
    if (reason !== "SessionEnded" && status !== 408 && status !== 504) return false;
    if (!this.#idleCuts.cut(performance.now() - carrier.usedAt)) return false;
    this.#memory.rememberIdle?.(this.#place, this.#idleCuts.limit);
    return true;
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
      const network = this.#platform.network();
      const hasMoved = network !== "" && network !== this.#network;
      if (seen === "gap") gapAt = now;
      if (hasMoved || seen === "slept") {
        if (hasMoved) this.#network = network;
        movedAt = now;
        this.#ladder.moved(this.#memory.recall(this.#place), now);
        this.#idleCuts = this.#idleCutsHere();
      }
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
      } else if (now >= this.#ladder.probeAt) void this.#climb("better");
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
      const next = await this.#openBeside(which, search.signal, async () => {
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
      if (this.#run !== run) this.#abandon(next);
      else this.#adopt(next);
    } catch (error) {
      if (isReplacing) this.#replacing = false;
      this.#ladder.probed(performance.now());
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

  /** Opens a carrier while another is in use; undefined if there is no better way. */
  async #openBeside(which: "better" | "all", signal: AbortSignal, once: () => Promise<void>): Promise<Run | undefined> {
    const { transport } = this.#settings;
    let isReady: Promise<void> | undefined;
    const beforeConnect = () => {
      isReady ??= once();
      return isReady;
    };
    const token = await this.#freshToken();
    if (transport !== undefined) {
      await beforeConnect();
      return this.#openBy(transport, token);
    }
    const ways = await this.#ways();
    const now = performance.now();
    const ids = [...ways.keys()];
    if (which === "all") {
      const { ids: ordered, isFirstKnown } = this.#ladder.order(ids, now);
      const probes = ordered.map((id) => ({ id, trial: 0 }));
      return this.#race(ways, probes, token, { isFirstKnown, beforeConnect, signal });
    }
    const probes = this.#ladder.probes(ids, now);
    if (probes.length > 0) return this.#race(ways, probes, token, { isFirstKnown: false, beforeConnect, signal });
    this.#ladder.probed(now);
    return undefined;
  }

  async #drained(run: Run): Promise<void> {
    while (this.#run === run && this.#outbox.isBusy) if (!(await this.#progress())) return;
  }

  #abandon(run: Run): void {
    this.#dismiss(run);
    run.carrier.abandon();
  }

  #lost(run: Run, why: DeviceError, returnTime = 0): void {
    // The relay closes a device's old connection when the new one arrives; here that is intended.
    if (this.#replacing) return;
    const error = this.#pathMtu.ended(this.#outbox.ending(), why) ?? why;
    const usedUp = run.carrier.transport.remaining < bytesNeeded(this.#settings.limit);
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

/** Whether anybody on the way could write an edge's answer. */
function isForgeableWay({ transport, host, secure }: Way): boolean {
  return !secure && CAPABILITIES[transport].carriesToken && isForgeable(`http://${bracketed(host)}/`);
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
