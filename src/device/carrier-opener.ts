/**
 * Opens carriers for a device: by the transport of its options, or by the best way that works in this network, each with
 * a fresh token.
 *
 *   token ─► ways ─► race ─► the carrier that has connected first; the others are dismissed
 *
 * A carrier's events are handed on from its first one.
 *
 * @module
 */
import { MAX_CONTENT_LENGTH } from "../encapsulation/index.ts";
import { bracketed } from "../lib/host-port.ts";
import type { ConnectionEvent } from "../sstp/index.ts";
import { asDeviceError, type ClimbOptions, climb } from "./climb.ts";
import { DeviceError } from "./device-error.ts";
import type { Inbox } from "./inbox.ts";
import { CONNECT_TIMEOUT, STRAY_TIME } from "./limits.ts";
import type { NetworkPlace } from "./network-place.ts";
import { type ConnectionOptions, isUsable, type Settings } from "./options.ts";
import type { Platform } from "./platform.ts";
import { isForgeable } from "./reconnect.ts";
import { type CarrierOptions, RelayConnection } from "./relay-connection.ts";
import { otherAudience } from "./token-refusal.ts";
import { tokenFrom } from "./token-source.ts";
import { pathText, wayText } from "./transports/candidates.ts";
import type { Probe } from "./transports/ladder.ts";
import { CAPABILITIES, type TransportName, type Way } from "./transports/transport.ts";

/** A carrier and its state. */
export interface Run {
  readonly carrier: RelayConnection;
  /** Its way, where the ladder has chosen it. */
  readonly way: string | undefined;
  /** Whether it was asked to carry as much as LongLived can. */
  readonly isLong: boolean;
  /** When it was connected. */
  readonly since: number;
  /** Whether the relay acknowledged a message on it, or the application finished one from it. */
  carried: boolean;
  /** Another carrier has taken over. Late events are ignored: the relay repeats them on the new one. */
  retired: boolean;
}

export interface CarrierOpenerOptions {
  readonly options: ConnectionOptions;
  readonly settings: Settings;
  readonly platform: Platform;
  readonly place: NetworkPlace;
  /** Names of the device's other edges: a token for one of them is not sent. */
  readonly otherEdges: readonly string[];
  readonly inbox: Inbox;
  /** Since when a program waits for data of a stream; undefined if none does. Default: none does. */
  readonly awaitedSince?: (() => number | undefined) | undefined;
  /** Aborted when the device makes no more connections. */
  readonly closing: AbortSignal;
  /** Handles an event of a carrier. */
  readonly on: (run: Run, event: ConnectionEvent, key: string | undefined) => void;
}

export class CarrierOpener {
  readonly #its: CarrierOpenerOptions;
  /** Carriers being connected. */
  readonly #opening = new Set<RelayConnection>();
  #token: string | undefined;
  /** Until when a Connect that was given up may arrive, and replace the connection in use. */
  #strayUntil = 0;

  constructor(options: CarrierOpenerOptions) {
    this.#its = options;
  }

  /** Token of the last connection. */
  get token(): string | undefined {
    return this.#token;
  }

  /** Connects a new carrier, by the transport of the options or by the best way that works. */
  async open(): Promise<Run> {
    const { options, settings, place, closing } = this.#its;
    const token = await this.#freshToken();
    if (settings.transport !== undefined) return this.#openBy(settings.transport, token);
    const ways = await this.#ways();
    const { ids, isFirstKnown } = place.ladder.order([...ways.keys()], performance.now());
    return this.#race(
      ways,
      ids.map((id) => ({ id, trial: 0 })),
      token,
      { isFirstKnown, onSlow: options.onReconnect, signal: closing },
    );
  }

  /** Connects the same way again by LongLived, to carry as much as it can. */
  async openLong({ way }: Run): Promise<Run> {
    const token = await this.#freshToken();
    const contentLength = MAX_CONTENT_LENGTH;
    if (way === undefined) return this.#openBy("longlived", token, contentLength);
    const race = { isFirstKnown: true, signal: this.#its.closing, contentLength };
    return this.#race(await this.#ways(), [{ id: way, trial: 0 }], token, race);
  }

  /**
   * Connects a carrier while another is in use; undefined if there is no better way.
   *
   * @param once called before the first Connect, and awaited before each
   */
  async openBeside(which: "better" | "all", signal: AbortSignal, once: () => Promise<void>): Promise<Run | undefined> {
    const { settings, place } = this.#its;
    let isReady: Promise<void> | undefined;
    const beforeConnect = () => {
      isReady ??= once();
      return isReady;
    };
    const token = await this.#freshToken();
    if (settings.transport !== undefined) {
      await beforeConnect();
      return this.#openBy(settings.transport, token);
    }
    const ways = await this.#ways();
    const now = performance.now();
    const ids = [...ways.keys()];
    if (which === "all") {
      const { ids: ordered, isFirstKnown } = place.ladder.order(ids, now);
      const probes = ordered.map((id) => ({ id, trial: 0 }));
      return this.#race(ways, probes, token, { isFirstKnown, beforeConnect, signal });
    }
    const probes = place.ladder.probes(ids, now);
    if (probes.length > 0) return this.#race(ways, probes, token, { isFirstKnown: false, beforeConnect, signal });
    place.ladder.probed(now);
    return undefined;
  }

  /** Ends a carrier that is not needed. */
  abandon(run: Run): void {
    this.#dismiss(run);
    run.carrier.abandon();
  }

  /** A connection that this device's own late Connect has replaced was not replaced by another device. */
  ownDoing(why: DeviceError): DeviceError {
    if (why.code !== "AddressInUse" || performance.now() > this.#strayUntil) return why;
    const text = "the connection was lost: an earlier attempt of this device to connect arrived late, and replaced it";
    return new DeviceError("ConnectFailed", text, { cause: why });
  }

  /** Ends what is being connected. */
  end(): void {
    for (const carrier of this.#opening) carrier.abandon();
  }

  async #freshToken(): Promise<string | undefined> {
    const { options, settings, otherEdges, closing } = this.#its;
    this.#token = await tokenFrom(options.token, closing);
    const refusal = otherAudience(this.#token, { name: settings.relay, others: otherEdges });
    if (refusal !== undefined) throw refusal;
    return this.#token;
  }

  async #openBy(transport: TransportName, token: string | undefined, contentLength?: number): Promise<Run> {
    if (this.#its.closing.aborted) throw new DeviceError("Closed", "the device was closed");
    const run = this.#begin({ transport, contentLength }, token);
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
      throw isLate ? unanswered(this.#its.settings.relay, transport) : error;
    } finally {
      clearTimeout(timer);
      this.#opening.delete(carrier);
    }
  }

  /** Opens a carrier. Its events are handled from the first one on. */
  #begin(
    way: Pick<CarrierOptions, "transport" | "way" | "onConnected" | "contentLength">,
    token: string | undefined,
  ): Run {
    const { options, settings, platform, place, inbox, awaitedSince, on } = this.#its;
    const { edge, ca, allowPlain, receive = true } = options;
    const { contentLength = options.contentLength } = way;
    const { self: address, relay } = settings;
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
        idleLimit: place.idleLimit,
        awaitedSince,
        receive: receive !== false,
        address,
        ends: options.relay === undefined,
        open: platform.open,
      },
      (event, key) => run !== undefined && on(run, event, key),
      () => inbox.full,
    );
    run = {
      carrier,
      way: way.way && wayText(way.way),
      isLong: way.contentLength !== undefined,
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
    this.#its.inbox.forget(run.carrier.engine);
  }

  /** The ways of this moment by their names, best first. */
  async #ways(): Promise<Map<string, Way>> {
    const { options, platform } = this.#its;
    const ways = await platform.ways(options);
    return new Map(ways.filter((way) => isUsable(way, options)).map((way) => [wayText(way), way]));
  }

  /** Connects by the first of some ways that works. */
  async #race(
    ways: ReadonlyMap<string, Way>,
    probes: readonly Probe[],
    token: string | undefined,
    {
      contentLength,
      ...options
    }: Pick<ClimbOptions, "isFirstKnown" | "beforeConnect" | "onSlow" | "signal"> & { readonly contentLength?: number },
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
        const run = this.#begin({ transport: way.transport, way, onConnected, contentLength }, token);
        runs.set(run.carrier, run);
        return run.carrier;
      },
      onFailed: (error) => this.ownDoing(error),
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
}

/** Whether anybody on the way could write an edge's answer. */
function isForgeableWay({ transport, host, secure }: Way): boolean {
  return !secure && CAPABILITIES[transport].carriesToken && isForgeable(`http://${bracketed(host)}/`);
}

/** Connected, but the relay did not answer in time. */
function unanswered(relay: string, transport: TransportName): DeviceError {
  return new DeviceError(
    "ConnectFailed",
    `${relay} connected, but did not answer by ${transport} within ${CONNECT_TIMEOUT / 1000} s; check that it is a relay or an edge, and try again later`,
  );
}
