/**
 * Carries out a race between ways to the relay: opens connections as it asks, and tells it what becomes of them.
 *
 * @module
 */
import { afterInput } from "../lib/runtime/timeout.ts";
import { DeviceError, type DeviceErrorCode } from "./device-error.ts";
import { isRefusal } from "./reconnect.ts";
import type { RelayConnection } from "./relay-connection.ts";
import { hasProxy } from "./transports/candidates.ts";
import { Race, type RaceCommand, type RaceFailure, type Runner } from "./transports/race.ts";

export interface ClimbOptions {
  /** Best first. */
  readonly runners: readonly Runner[];
  /** Whether the first has worked in this network before. */
  readonly isFirstKnown: boolean;
  /** Opens the way of that id; `onConnected` is called when its first connection is made. */
  readonly open: (id: string, onConnected: () => void) => RelayConnection;
  /** Awaited before each Connect. */
  readonly beforeConnect?: (() => Promise<void>) | undefined;
  /** Called when nothing has come back on any way for RACE_PATIENCE (5.5 s), with what they have met. */
  readonly onSlow?: ((error: DeviceError) => void) | undefined;
  /** Whether a refusal that came by the way of that id proves nothing: another way cannot be forged, and may work. */
  readonly isForgeable: (id: string) => boolean;
  /** Called with the error of each way; returns what it means. */
  readonly onFailed: (error: DeviceError) => DeviceError;
  /** Called for a connection that is no longer needed, before it is closed. */
  readonly onClosed: (carrier: RelayConnection) => void;
  /** Called when a way was given up after its Connect, which may still arrive. */
  readonly onStray: () => void;
  readonly signal: AbortSignal;
}

/** The way that has won, connected. */
export interface Climbed {
  readonly id: string;
  readonly carrier: RelayConnection;
}

/**
 * Finds a way that works, and connects by it. All other connections are closed.
 *
 * @throws DeviceError the reason of the relay, or of the way whose error says most; Closed if the signal aborts
 */
export function climb(options: ClimbOptions): Promise<Climbed> {
  return new Climb(options).won;
}

class Climb {
  readonly won: Promise<Climbed>;
  readonly #settle: { readonly resolve: (won: Climbed) => void; readonly reject: (why: DeviceError) => void };
  readonly #options: ClimbOptions;
  readonly #race: Race<DeviceError>;
  readonly #carriers = new Map<string, RelayConnection>();
  readonly #connecting = new Set<string>();
  /** The error that has ended the race, whatever else was tried. */
  #refusal: DeviceError | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ClimbOptions) {
    this.#options = options;
    const { promise, resolve, reject } = Promise.withResolvers<Climbed>();
    this.won = promise;
    this.#settle = { resolve, reject };
    const { runners, isFirstKnown, signal } = options;
    this.#race = new Race({ runners, isFirstKnown, now: performance.now() });
    signal.addEventListener("abort", this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
    else this.#obey(this.#race.advance(performance.now()));
  }

  readonly #onAbort = () => {
    this.#obey(this.#race.abandon());
    this.#settle.reject(new DeviceError("Closed", "the device was closed"));
  };

  #obey(commands: readonly RaceCommand[]): void {
    for (const command of commands) {
      switch (command.type) {
        case "start":
          this.#start(command.id);
          break;
        case "connect":
          void this.#connect(command.id);
          break;
        case "close":
          if (command.connecting) this.#options.onStray();
          this.#close(command.id);
          break;
        case "slow":
          this.#options.onSlow?.(noWay([...this.#race.failures, ...this.#race.pending]));
          break;
        case "won":
          this.#win(command.id);
          break;
        case "lost":
          this.#settle.reject(this.#refusal ?? noWay(this.#race.failures));
          break;
      }
    }
    clearTimeout(this.#timer);
    const { deadline } = this.#race;
    if (this.#race.isOver) this.#options.signal.removeEventListener("abort", this.#onAbort);
    else if (deadline !== Number.POSITIVE_INFINITY) {
      const wait = Math.max(0, deadline - performance.now());
      // What has arrived meanwhile comes first, or a busy machine would find every way too slow.
      this.#timer = setTimeout(() => afterInput(() => this.#obey(this.#race.advance(performance.now()))), wait);
    }
  }

  #start(id: string): void {
    let carrier: RelayConnection;
    try {
      carrier = this.#options.open(id, () => this.#obey(this.#race.connected(id, performance.now())));
    } catch (error) {
      this.#fail(id, error);
      return;
    }
    this.#carriers.set(id, carrier);
    carrier.establish().then(
      () => this.#obey(this.#race.echoed(id, performance.now())),
      (error: unknown) => this.#fail(id, error),
    );
    // From its Connect on, that says more.
    void carrier.ended.then((error) => {
      if (!this.#connecting.has(id)) this.#fail(id, error);
    });
  }

  async #connect(id: string): Promise<void> {
    try {
      await this.#options.beforeConnect?.();
      const carrier = this.#carriers.get(id);
      if (carrier === undefined) return;
      this.#connecting.add(id);
      this.#obey(this.#race.connecting(id, performance.now()));
      await carrier.connect();
      this.#obey(this.#race.proven(id));
    } catch (error) {
      this.#fail(id, error);
    }
  }

  #fail(id: string, cause: unknown): void {
    const error = this.#options.onFailed(asDeviceError(cause));
    // Its Connect is on its way, and nobody has answered it.
    if (this.#connecting.has(id) && !isForAll(error)) this.#options.onStray();
    this.#close(id);
    if (isForAll(error) && !(isRefusal(error) && this.#options.isForgeable(id))) {
      const commands = this.#race.refused(id, error);
      if (commands.length > 0) this.#refusal = error;
      this.#obey(commands);
    } else this.#obey(this.#race.failed(id, error, performance.now()));
  }

  #close(id: string): void {
    const carrier = this.#carriers.get(id);
    this.#carriers.delete(id);
    if (carrier === undefined) return;
    this.#options.onClosed(carrier);
    carrier.abandon();
  }

  #win(id: string): void {
    const carrier = this.#carriers.get(id);
    this.#carriers.delete(id);
    if (carrier !== undefined) this.#settle.resolve({ id, carrier });
  }
}

/** Whether an edge or relay has refused the device itself, so that no other way would help. */
function isForAll({ code, advice }: DeviceError): boolean {
  switch (code) {
    case "TokenRefused":
    case "RelayRefused":
    case "AddressInUse":
    case "InvalidOption":
    case "MixedContent":
    case "InternalError":
    case "Closed":
      return true;
    case "Refused":
      return advice !== "another transport";
    default:
      return false;
  }
}

/** Codes that say most about the network, the most telling first. */
const TELLING: readonly DeviceErrorCode[] = [
  "CertificateRefused",
  "TokenRefused",
  "TokenInClear",
  "NotAnEdge",
  "ProxyRefusesCredentials",
  "ProxyNeedsCredentials",
  "Refused",
];

/** The error of a race that nobody has won: that of the way that says most, and what else was tried. */
export function noWay(failures: readonly RaceFailure<DeviceError>[]): DeviceError {
  const errors = failures.flatMap(({ error }) => (error === undefined ? [] : [error]));
  // One connection that could not be made has failed them all.
  if (errors.length === failures.length && errors.every((error) => error === errors[0]) && errors[0]) return errors[0];
  const rank = ({ code }: DeviceError) => TELLING.indexOf(code) >>> 0;
  const [told] = errors.toSorted((one, other) => rank(one) - rank(other));
  const tried = `tried: ${failures.map(({ id }) => id).join(", ")}`;
  if (told === undefined) {
    const connected = failures.some(({ stage }) => stage !== "started");
    const met = connected
      ? "connections are made, but nothing comes back on them: a proxy or firewall in between holds the traffic"
      : unconnected(failures.filter(({ id }) => hasProxy(id)).length, failures.length);
    return new DeviceError("ConnectFailed", `found no way that works: ${met} (${tried})`);
  }
  const isRetryable = failures.some(({ error }) => error === undefined || error.retryable);
  return new DeviceError(told.code, `${told.message} (${tried})`, {
    // A refusal that is doubtful is doubted by who reconnects.
    advice: told.retryable || isRefusal(told) || !isRetryable ? told.advice : "retry",
    retryAfter: told.retryAfter,
    cause: new AggregateError(errors),
  });
}

/** @param proxied how many of the ways went through proxies */
function unconnected(proxied: number, all: number): string {
  const kinds = "(http, https, socks5, socks4)";
  if (proxied === all) {
    return `no connection came through the proxy: check its host, port and kind ${kinds}, and that it reaches the destination`;
  }
  const proxies = proxied === 0 ? "" : "; check the proxy, too";
  return `no connection could be made: check the address, that DNS answers, and that no firewall blocks the port${proxies}`;
}

export function asDeviceError(error: unknown): DeviceError {
  return error instanceof DeviceError ? error : new DeviceError("ConnectFailed", String(error), { cause: error });
}
