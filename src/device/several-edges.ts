/**
 * The connections of a device with several edges: one to each, all kept up.
 *
 *   outbox ─► the edge in use ─(lost, or nothing moves)─► the next that is connected
 *   inbox ◄─ every edge
 *
 * One outbox goes from edge to edge as it otherwise goes from carrier to carrier: what was not acknowledged is sent again
 * with the same id. One inbox takes from all edges, so it knows an id that came from another, and acknowledges each copy
 * where it came. Both belong to the device; here is only which edge is in use.
 *
 * The first edge in the list is preferred. After it has failed, it must stand for a while before it is used again, and
 * then what is in flight is finished first. So its copies are few, and a flapping edge does not slow the others.
 *
 * @module
 */
import { sleep, within } from "../lib/runtime/timeout.ts";
import type { Connection, ConnectionEvent } from "../sstp/index.ts";
import { asDeviceError } from "./climb.ts";
import { DeviceError } from "./device-error.ts";
import type { Inbox } from "./inbox.ts";
import {
  BUFFER_SECOND,
  BUFFERED,
  DRAIN_PATIENCE,
  EDGE_HEAD_START,
  EDGE_LOOK,
  EDGE_PATIENCE,
  EDGE_RETURN_FIRST,
  EDGE_RETURN_LAST,
} from "./limits.ts";
import type { ConnectionOptions, DeviceOptions, Settings } from "./options.ts";
import type { Outbox } from "./outbox.ts";
import type { Platform } from "./platform.ts";
import type { RelayConnection } from "./relay-connection.ts";
import { type Outlet, RenewedConnection, type RenewedConnectionOptions } from "./renewed-connection.ts";

/** What a device needs of its connection, or of its connections. */
export type DeviceConnections = Pick<
  RenewedConnection,
  "start" | "edge" | "carrier" | "carriers" | "token" | "isRenewing" | "renew" | "finished" | "pause" | "end"
>;

/** What is used of the connection to one edge. */
export type EdgeLink = Pick<
  RenewedConnection,
  "start" | "retry" | "carriers" | "token" | "isRenewing" | "renew" | "finished" | "giveUp" | "end"
>;

/** Options for one edge, and the settings derived from them. */
export interface EdgeConnection {
  readonly options: ConnectionOptions;
  readonly settings: Settings;
}

export interface SeveralEdgesOptions {
  /** The preferred first. */
  readonly edges: readonly EdgeConnection[];
  readonly options: Pick<DeviceOptions, "onReconnect" | "onEdgeLost">;
  readonly platform: Platform;
  readonly outbox: Outbox;
  readonly inbox: Inbox;
  /** Since when a program waits for data of a stream; undefined if none does. Default: none does. */
  readonly awaitedSince?: (() => number | undefined) | undefined;
  /** Called when all edges are lost for good. The device must then call `end`. */
  readonly onLost: (error: DeviceError) => void;
  /** Makes the connection to one edge. Default: a {@link RenewedConnection}. */
  readonly link?: ((options: RenewedConnectionOptions) => EdgeLink) | undefined;
}

/** An edge and its state. */
interface Edge {
  readonly url: string;
  readonly connection: EdgeLink;
  /** Undefined while the edge is not connected, or its connection is given up. */
  carrier: RelayConnection | undefined;
  /** How often it has failed in a row while it was in use. */
  failures: number;
  /** From when on it may take the place of another. */
  usableAt: number;
  /** Why it is lost for good. */
  gone: DeviceError | undefined;
}

export class SeveralEdges implements DeviceConnections {
  readonly #edges: readonly Edge[];
  readonly #options: SeveralEdgesOptions["options"];
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #onLost: (error: DeviceError) => void;
  /** The edge that the outbox sends to, or waits for. */
  #current: Edge | undefined;
  /** Resolves when the outbox has gone to a better edge, or stays. */
  #moving: Promise<void> | undefined;
  /** The outbox's count of moves at the last look, and for how many milliseconds of looks it has not changed. */
  #seen = { moves: 0, still: 0 };
  /** How often an edge was given up since the last acknowledgement. */
  #givenUp = 0;
  /** Aborts pauses, so that a closed device holds no timer. */
  readonly #closing = new AbortController();

  constructor({ edges, options, platform, outbox, inbox, awaitedSince, onLost, link = renewed }: SeveralEdgesOptions) {
    this.#options = options;
    this.#outbox = outbox;
    this.#inbox = inbox;
    this.#onLost = onLost;
    this.#edges = edges.map(({ options: own, settings }, index) => {
      const { edge: url = "" } = own;
      const edge: Edge = {
        url,
        connection: link({
          options: { ...own, onReconnect: (error) => options.onReconnect?.(named(url, error)) },
          settings,
          platform,
          otherEdges: edges.filter((_, other) => other !== index).map((other) => other.settings.relay),
          outbox: this.#outletOf(() => edge),
          inbox,
          awaitedSince,
          onLost: (error) => this.#gone(edge, error),
        }),
        carrier: undefined,
        failures: 0,
        usableAt: 0,
        gone: undefined,
      };
      return edge;
    });
  }

  /**
   * Connects to all edges. Resolves when the first in the list is connected, or another and the first got a head start.
   */
  async start(): Promise<void> {
    const starts = this.#edges.map(({ connection }) => connection.start());
    try {
      await Promise.any(starts);
    } catch (error) {
      const { errors } = error as AggregateError;
      throw noEdge(this.#edges.map(({ url }, index) => named(url, asDeviceError(errors[index]))));
    }
    await within(EDGE_HEAD_START, firstOf(starts));
    for (const [index, { connection }] of this.#edges.entries()) {
      starts[index]?.catch((error: unknown) => (this.#isOver ? undefined : connection.retry(asDeviceError(error))));
    }
    void this.#watch();
  }

  /** URL of the edge in use. */
  get edge(): string | undefined {
    return this.#current?.url;
  }

  /** The carrier that is sent on, unless it is lost. */
  get carrier(): RelayConnection | undefined {
    return this.#current?.carrier;
  }

  get carriers(): readonly RelayConnection[] {
    return this.#edges.flatMap(({ connection }) => connection.carriers);
  }

  /** Token of the last connection to the edge in use. */
  get token(): string | undefined {
    return this.#current?.connection.token;
  }

  /** Whether the outbox goes to another carrier or edge. Then no new message begins. */
  get isRenewing(): boolean {
    return this.#moving !== undefined || this.#current?.connection.isRenewing === true;
  }

  /** Resolves when the carrier in use has been replaced, or the edge, or that has failed. */
  renew(): Promise<void> {
    return this.#moving ?? this.#current?.connection.renew() ?? Promise.resolve();
  }

  finished(engine: Connection): void {
    for (const { connection } of this.#edges) connection.finished(engine);
  }

  async pause(milliseconds: number): Promise<void> {
    if (milliseconds > 0) await sleep(milliseconds, this.#closing.signal);
  }

  end(): void {
    this.#closing.abort();
    for (const { connection } of this.#edges) connection.end();
  }

  /** Whether an edge is lost for good. */
  isGone(url: string): boolean {
    return this.#edges.find((edge) => edge.url === url)?.gone !== undefined;
  }

  get #isOver(): boolean {
    return this.#closing.signal.aborted;
  }

  /** The outbox as the connection to one edge sees it: its own while that edge is in use. */
  #outletOf(edgeOf: () => Edge): Outlet {
    const outbox = this.#outbox;
    const isCurrent = () => this.#current === edgeOf() && edgeOf().carrier !== undefined;
    return {
      attach: (carrier) => this.#attached(edgeOf(), carrier),
      detach: () => this.#detached(edgeOf()),
      on: (event, key) => this.#on(edgeOf(), event, key),
      ending: () => (isCurrent() ? outbox.ending() : NOTHING_BEGUN),
      get isBusy() {
        return isCurrent() && outbox.isBusy;
      },
      get isSending() {
        return isCurrent() && outbox.isSending;
      },
      progress: () => outbox.progress(),
    };
  }

  #on(edge: Edge, event: ConnectionEvent, key: string | undefined): void {
    if (this.#current !== edge || edge.carrier === undefined) return;
    if (event.type === "acknowledged") {
      edge.failures = 0;
      this.#givenUp = 0;
    }
    this.#outbox.on(event, key);
  }

  #attached(edge: Edge, carrier: RelayConnection): void {
    edge.carrier = carrier;
    const pause = Math.min(EDGE_RETURN_FIRST * 2 ** (edge.failures - 1), EDGE_RETURN_LAST);
    edge.usableAt = performance.now() + (edge.failures === 0 ? 0 : pause);
    // The edge has replaced its carrier, or was waited for.
    if (this.#current === edge) this.#outbox.attach(carrier, edge.url);
    else this.#choose();
  }

  #detached(edge: Edge): void {
    if (edge.carrier === undefined) return;
    edge.carrier = undefined;
    if (this.#current !== edge) return;
    this.#outbox.detach();
    // A carrier that is merely replaced gets its successor in this turn.
    queueMicrotask(() => this.#choose());
  }

  /** Sends to the edge that suits best now. */
  #choose(): void {
    if (this.#isOver) return;
    const from = this.#current;
    const now = performance.now();
    const live = this.#edges.filter(({ carrier }) => carrier !== undefined);
    const usable = live.find(({ usableAt }) => usableAt <= now);
    if (from?.carrier === undefined) {
      const next = usable ?? live[0];
      if (next === undefined) return;
      if (from !== undefined) from.failures += 1;
      this.#use(next);
    } else if (usable !== undefined && this.#edges.indexOf(usable) < this.#edges.indexOf(from)) {
      this.#moveTo(usable);
    }
  }

  #use(edge: Edge): void {
    const { carrier, url } = edge;
    this.#current = edge;
    this.#seen.still = 0;
    if (carrier !== undefined) this.#outbox.attach(carrier, url);
  }

  /** Goes to a better edge once nothing is in flight to the one in use. */
  #moveTo(edge: Edge): void {
    const from = this.#current;
    if (this.#moving !== undefined) return;
    this.#moving = this.#drained(from).then((isDrained) => {
      this.#moving = undefined;
      if (this.#isOver || this.#current !== from || from?.carrier === undefined || edge.carrier === undefined) return;
      if (isDrained) {
        this.#outbox.detach();
        this.#use(edge);
        return;
      }
      // A message is held at the edge in use. It can stay there, and the others with it.
      edge.usableAt = performance.now() + EDGE_RETURN_LAST;
    });
  }

  /** Waits until nothing is in flight to the edge in use; false after DRAIN_PATIENCE (5 s) without an acknowledgement. */
  async #drained(from: Edge | undefined): Promise<boolean> {
    while (this.#current === from && this.#outbox.hasBegun) {
      if ((await within(DRAIN_PATIENCE, this.#outbox.progress())) === undefined) return false;
    }
    return true;
  }

  /** Looks for messages that stand still, and for edges that have stood long enough, until the device is closed. */
  async #watch(): Promise<void> {
    for (;;) {
      await sleep(EDGE_LOOK, this.#closing.signal);
      if (this.#isOver) return;
      this.#look();
      this.#choose();
    }
  }

  /**
   * Gives up the edge in use if nothing has moved for too long and another is connected. Counts looks, not time: a
   * process that was stopped has not waited.
   */
  #look(): void {
    const { moves, isWaiting, begunOctets } = this.#outbox;
    const edge = this.#current;
    // Acknowledgements are not read while the inbox is full.
    const isStill = isWaiting && moves === this.#seen.moves && this.#inbox.full === undefined;
    this.#seen = { moves, still: isStill ? this.#seen.still + EDGE_LOOK : 0 };
    const buffered = (Math.min(begunOctets, BUFFERED) / BUFFER_SECOND) * 1000;
    const most = EDGE_PATIENCE * 2 ** this.#givenUp + buffered;
    if (edge?.carrier === undefined || this.#seen.still < Math.min(most, EDGE_RETURN_LAST)) return;
    if (!this.#edges.some((other) => other !== edge && other.carrier !== undefined)) return;
    this.#givenUp += 1;
    const seconds = this.#seen.still / 1000;
    const text = `nothing has moved for ${seconds} s although messages wait, so they go to another edge`;
    edge.connection.giveUp(new DeviceError("ConnectFailed", text));
    // A connection that is being replaced detaches the outbox only when it has succeeded.
    this.#detached(edge);
  }

  /** An edge is lost for good. The others go on. */
  #gone(edge: Edge, error: DeviceError): void {
    edge.gone = error;
    edge.connection.end();
    this.#detached(edge);
    if (this.#edges.every(({ gone }) => gone !== undefined)) this.#onLost(named(edge.url, error));
    else {
      this.#options.onEdgeLost?.(edge.url, error);
      this.#outbox.rouse();
    }
  }
}

const renewed = (options: RenewedConnectionOptions) => new RenewedConnection(options);

const NOTHING_BEGUN = { stuck: 0, arrived: 0, still: 0 };

/** Resolves when the first of some attempts that has not failed has succeeded. */
async function firstOf(attempts: readonly Promise<void>[]): Promise<void> {
  for (const attempt of attempts) if (await attempt.then(isDone, isNotDone)) return;
}

const isDone = () => true;
const isNotDone = () => false;

/** The error with the name of its edge. The URL may contain more than others should read. */
function named(url: string, error: DeviceError): DeviceError {
  const { code, message, advice, retryAfter } = error;
  return new DeviceError(code, `${hostOf(url)}: ${message}`, { advice, retryAfter, cause: error });
}

function hostOf(url: string): string {
  return new URL(url).host;
}

/** The error when no edge can be connected to: the first that may pass, or the first. */
function noEdge(errors: readonly DeviceError[]): DeviceError {
  const told = errors.find(({ retryable }) => retryable) ?? errors[0];
  return new DeviceError(told?.code ?? "ConnectFailed", errors.map(({ message }) => message).join("; "), {
    ...(told && { advice: told.advice, retryAfter: told.retryAfter }),
    cause: new AggregateError(errors),
  });
}
