/**
 * A carrier: one transport with one SSTP connection on it. It connects, attaches the account, opens sessions, and moves
 * octets between the engine and the transport. It knows no messages: those are the device's, and outlive it.
 *
 * @module
 */
import {
  type Address,
  type AddressingEntry,
  accountURL,
  type Closed,
  CloseReasonId,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  ConnectResponseId,
  deviceURL,
  relayURL,
  SessionStatusId,
} from "../sstp/index.ts";
import { parseCapabilities } from "../store-and-forward/capabilities.ts";
import { DeviceError } from "./device-error.ts";
import {
  ACKNOWLEDGE_PAUSE,
  ANSWERS_AHEAD,
  BUSY_KEEP_ALIVE,
  CLOSE_TIMEOUT,
  KEEP_ALIVE,
  OPEN_SESSIONS,
  RECEIVE_TIMEOUT,
} from "./limits.ts";
import { tokenRefusal } from "./token-refusal.ts";
import { openTransport } from "./transports/open-transport.ts";
import type { Transport, TransportOptions } from "./transports/transport.ts";

/** What a session of ours is when it may be sent on, or why it cannot be had. */
type SessionOutcome =
  | { readonly ok: true; readonly sessionId: number }
  | { readonly ok: false; readonly error: DeviceError };

interface OutboundSession {
  readonly sessionId: number;
  readonly key: string;
  state: "opening" | "ready" | "suspended";
  /** When it was last asked for, counted in asking. */
  used: number;
  waiting: ((outcome: SessionOutcome) => void)[];
}

export interface CarrierOptions extends TransportOptions {
  readonly address: Required<Pick<Address, "identity" | "device">>;
  /** The virtual connection ends at the edge itself, and is not passed through to an origin relay. */
  readonly ends: boolean;
  /** Takes what waits for the identity as well. */
  readonly receive: boolean;
}

export class RelayConnection {
  readonly transport: Transport;
  readonly engine: Connection;
  readonly #options: CarrierOptions;
  readonly #on: (event: ConnectionEvent, key: string | undefined) => void;
  readonly #mayRead: () => Promise<void> | undefined;
  /** Open sessions by the key of their destination. */
  readonly #sessions = new Map<string, OutboundSession>();
  #uses = 0;
  readonly #failed = new Map<string, DeviceError>();
  readonly #keys = new Map<number, string>();
  #flushing: Promise<void> | undefined;
  /** Ends the wait of an acknowledgement for others. */
  #hurry: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #ready: { resolve: () => void; reject: (error: DeviceError) => void } | undefined;
  #attachId: number | undefined;
  /** The longest message that the relay takes, in octets; none is too long when it does not say. */
  messageLimit = Number.POSITIVE_INFINITY;

  /**
   * @param on told of every event of the engine, and of the destination whose session it is about, if it is one of ours
   * @param mayRead a promise while nothing more should be read, undefined otherwise
   */
  constructor(
    options: CarrierOptions,
    on: (event: ConnectionEvent, key: string | undefined) => void,
    mayRead: () => Promise<void> | undefined,
  ) {
    this.#options = options;
    this.#on = on;
    this.#mayRead = mayRead;
    this.transport = openTransport({ ...options, isBusy: () => this.engine.unprocessed > 0 });
    this.engine = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: [deviceURL(options.address)],
      now: performance.now(),
      ...(watchesItself(options)
        ? {}
        : { keepAlive: KEEP_ALIVE, busyKeepAlive: BUSY_KEEP_ALIVE, receiveTimeout: RECEIVE_TIMEOUT }),
    });
  }

  /** Resolves when the connection is established and the account attached. */
  async connect(): Promise<void> {
    const attached = new Promise<void>((resolve, reject) => {
      this.#ready = { resolve, reject };
    });
    this.transport.established.catch((error: DeviceError) => this.#ready?.reject(error));
    void this.#read();
    // Polling is established by its first octets, so they are not kept back until then.
    const { relay, transport, token = "" } = this.#options;
    // Where no header can carry it, SSTP does.
    this.engine.connect(relayURL(relay), new TextEncoder().encode(transport === "tcp" ? token : ""));
    void this.flush();
    try {
      await attached;
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** The session for a destination, when it may be sent on at this moment. */
  readySession({ key }: Destination): number | undefined {
    const session = this.#sessions.get(key);
    if (session?.state !== "ready" || this.#failed.has(key) || !this.ready(session.sessionId)) return undefined;
    session.used = ++this.#uses;
    return session.sessionId;
  }

  /** The session for a destination, when it is suspended. */
  suspendedSession({ key }: Destination): number | undefined {
    const session = this.#sessions.get(key);
    return session?.state === "suspended" ? session.sessionId : undefined;
  }

  /** The session for a destination, opened if there is none, once it may be sent on. */
  session(destination: Destination): Promise<SessionOutcome> {
    const { key } = destination;
    const failed = this.#failed.get(key);
    if (failed !== undefined) {
      this.#failed.delete(key);
      return Promise.resolve({ ok: false, error: failed });
    }
    let session = this.#sessions.get(key);
    if (session === undefined) {
      if (this.engine.closed !== undefined) return Promise.resolve({ ok: false, error: gone() });
      if (this.#sessions.size >= OPEN_SESSIONS) this.#closeOldest();
      session = { sessionId: this.#open(destination), key, state: "opening", used: 0, waiting: [] };
      this.#sessions.set(key, session);
      this.#keys.set(session.sessionId, key);
      void this.flush();
    }
    session.used = ++this.#uses;
    if (session.state === "ready") return Promise.resolve({ ok: true, sessionId: session.sessionId });
    const { waiting } = session;
    return new Promise((resolve) => waiting.push(resolve));
  }

  #open({ resourceURL, identityURL, deviceURL, relayURL }: Destination): number {
    if (relayURL === "") return this.engine.open({ resourceURL, identityURL, deviceURL });
    // Only a fanout names the recipient's relay [MS-GRVSSTP 2.2.6.1].
    return this.engine.openFanout({ resourceURL, entries: [{ identityURL, deviceURL, relayURL }] });
  }

  /** A session is of no use though it is open: the next that asks for it is told why, and the one after opens another. */
  fail(sessionId: number, error: DeviceError): void {
    const key = this.#keys.get(sessionId);
    if (key !== undefined) this.#failed.set(key, error);
  }

  /** Whether a session of ours may be sent on at this moment; what `session` told may be over when it is heard. */
  ready(sessionId: number): boolean {
    const session = this.engine.session(sessionId);
    return session?.kind === "outbound" && session.state === "ready";
  }

  /** Sends what the engine has. Resolves when the transport would take more. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flush();
    if (!this.engine.onlyAcknowledges) this.#hurry?.();
    return this.#flushing;
  }

  /** Ends the connection by ConnectClose, waiting a little for it to arrive, since it carries acknowledgements. */
  async close(): Promise<void> {
    this.engine.close(ConnectCloseReasonId.Resting);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_TIMEOUT);
    });
    // The relay ends the transport when it has read the ConnectClose. One that does not read must not hold us up.
    await Promise.race([this.flush().then(() => this.#reading), late]);
    clearTimeout(timer);
    this.abandon();
  }

  /** Ends the transport at once. */
  abandon(): void {
    clearTimeout(this.#timer);
    this.#timerAt = Number.NEGATIVE_INFINITY;
    this.transport.close();
  }

  #reading: Promise<void> = Promise.resolve();

  #read(): Promise<void> {
    this.#reading = this.#readAll();
    return this.#reading;
  }

  async #readAll(): Promise<void> {
    try {
      for (;;) {
        await this.#mayRead();
        const octets = await this.transport.read();
        if (octets === undefined) break;
        this.#handle(this.engine.receive(octets, performance.now()));
        // A relay that asks and does not read the answers is not read either.
        if (this.engine.pendingOctets > ANSWERS_AHEAD) await this.flush();
      }
      this.#handle(this.engine.transportLost());
    } catch (error) {
      this.end(error);
    }
  }

  #handle(events: readonly ConnectionEvent[]): void {
    for (const event of events) this.#tell(event);
    void this.flush();
  }

  #tell(event: ConnectionEvent): void {
    const key = "sessionId" in event ? this.#keys.get(event.sessionId) : undefined;
    this.#follow(event);
    this.#on(event, key);
  }

  /** Something has gone wrong in here. Nobody knows what it has left undone, so the connection ends, and says why. */
  end(error: unknown): void {
    if (this.engine.closed !== undefined) return;
    this.engine.close(ConnectCloseReasonId.Resting);
    const detail = `InternalError: ${error instanceof Error ? error.message : String(error)}`;
    const closed = closedOf(this.engine);
    try {
      if (closed !== undefined) this.#tell({ type: "closed", ...closed, detail });
    } finally {
      this.abandon();
    }
  }

  async #flush(): Promise<void> {
    // When this turn of the event loop is over, so that all that is sent in it goes out together.
    await new Promise((resolve) => setImmediate(resolve));
    // Its POST would be in the way of the next GET.
    if (this.#options.transport === "keepalive" && this.engine.onlyAcknowledges) await this.#gather();
    try {
      for (;;) {
        const blocks = this.engine.output(performance.now());
        this.#setTimer();
        if (blocks.length === 0) break;
        await this.transport.write(blocks);
      }
    } catch (error) {
      this.end(error);
    }
    // In the same turn as the last look: whoever has something from now on must start a new round.
    this.#flushing = undefined;
  }

  /** Lets acknowledgements come together, until there is something else to send. */
  async #gather(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ACKNOWLEDGE_PAUSE);
      this.#hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#hurry = undefined;
  }

  /** What the carrier itself has to know of an event. */
  #follow(event: ConnectionEvent): void {
    switch (event.type) {
      case "connected":
        // What came behind it, in the same octets, may have closed the connection already, and is heard next.
        if (this.engine.closed !== undefined) break;
        this.messageLimit = parseCapabilities(event.productCapabilities).longestMessage ?? Number.POSITIVE_INFINITY;
        if (this.#options.receive) {
          this.#attachId = this.engine.attach({ accountURL: accountURL(this.#options.address) });
        } else this.#ready?.resolve();
        break;
      case "attached":
        if (event.eventId === this.#attachId) this.#ready?.resolve();
        break;
      case "attachRefused":
        this.#ready?.reject(
          new DeviceError("RelayRefused", "the relay refused to attach the account: check its token"),
        );
        break;
      case "refused":
        this.#ready?.reject(refusal(event, this.#options));
        break;
      case "sessionState":
        this.#settle(event.sessionId, event.state);
        break;
      case "sessionRefused":
        this.#forget(event.sessionId, sessionRefusal(undefined));
        break;
      case "sessionClosed":
        if (event.sessionId === this.#attachId) {
          this.#ready?.reject(accountRefusal(event.reasonId, this.#options.token !== undefined));
        }
        this.#forget(event.sessionId, sessionRefusal(event.reasonId));
        break;
      case "closed":
        this.#ready?.reject(closure(event, this.transport));
        for (const sessionId of [...this.#keys.keys()]) this.#forget(sessionId, gone());
        void this.flush().then(() => event.by === "self" && this.transport.close());
        break;
    }
  }

  #settle(sessionId: number, state: "ready" | "suspended"): void {
    const session = this.#sessions.get(this.#keys.get(sessionId) ?? "");
    if (session === undefined) return;
    session.state = state;
    if (state !== "ready") return;
    const { waiting } = session;
    session.waiting = [];
    for (const resolve of waiting) resolve({ ok: true, sessionId });
  }

  /** Closes the session that was not used for the longest time, of those that nobody waits for and no message is begun on. */
  #closeOldest(): void {
    let oldest: OutboundSession | undefined;
    for (const session of this.#sessions.values()) {
      const engines = this.engine.session(session.sessionId);
      const isIdle = session.waiting.length === 0 && engines?.kind === "outbound" && engines.sending === "idle";
      if (isIdle && session.used < (oldest?.used ?? Number.POSITIVE_INFINITY)) oldest = session;
    }
    if (oldest === undefined) return;
    this.#forget(oldest.sessionId, gone());
    this.engine.closeSession(oldest.sessionId, CloseReasonId.Idle);
  }

  #forget(sessionId: number, error: DeviceError): void {
    const key = this.#keys.get(sessionId) ?? "";
    const session = this.#sessions.get(key);
    if (session === undefined) return;
    this.#keys.delete(sessionId);
    this.#sessions.delete(key);
    for (const resolve of session.waiting) resolve({ ok: false, error });
  }

  #setTimer(): void {
    const { deadline } = this.engine;
    if (this.#timerAt <= deadline) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        try {
          this.#handle(this.engine.advance(performance.now()));
        } catch (error) {
          this.end(error);
        }
      },
      Math.max(0, deadline - performance.now()),
    );
  }
}

/** How a connection has ended by now, whatever was known of it before. */
function closedOf(engine: Connection): Closed | undefined {
  return engine.closed;
}

/**
 * Whether both ends of a transport find out by themselves that the other one is gone: by pings, or by requests that are
 * answered. Then a Noop would only wake the edge, and silence is no sign.
 */
function watchesItself({ transport, ends }: CarrierOptions): boolean {
  return transport === "websocket" || (ends && (transport === "keepalive" || transport === "polling"));
}

/** Whether a session was closed for a reason that has nothing to do with what was sent on it. */
export function isPassing(reasonId: number | undefined): boolean {
  return (
    reasonId === CloseReasonId.Idle || reasonId === CloseReasonId.NoReason || reasonId === CloseReasonId.InternalError
  );
}

/** Where messages go: an addressing, and the recipient's relay when it is another than ours, else empty. */
export interface Destination extends AddressingEntry {
  /** The recipient, as the application calls it. */
  readonly to: string;
  readonly relayURL: string;
  /** Tells it from all others. */
  readonly key: string;
  /** An id for a message that goes there, another one each time. */
  readonly newId: () => string;
}

/** Why the recipient of a message by another relay is out of reach, by the StatusId of SessionStatus. */
export function statusRefusal(statusId: number): DeviceError {
  switch (statusId) {
    case SessionStatusId.QuotaWouldBeExceeded:
      return sessionRefusal(CloseReasonId.QuotaWouldBeExceeded);
    case SessionStatusId.LockedOut:
      return new DeviceError("RecipientRefused", "the recipient takes no messages from this device [LockedOut]");
    default: {
      const name = Object.entries(SessionStatusId).find(([, id]) => id === statusId)?.[0] ?? String(statusId);
      return new DeviceError(
        "RelayUnreachable",
        `the recipient's relay cannot be reached: check its name; the edge's operator finds the cause in the log and at /admin/links/RELAY [${name}]`,
        { retryable: true },
      );
    }
  }
}

/** Why messages cannot be sent on a session, by the ReasonId of its Close; undefined when OpenResponse refused it. */
export function sessionRefusal(reasonId: number | undefined): DeviceError {
  if (reasonId === CloseReasonId.QuotaWouldBeExceeded) {
    return new DeviceError(
      "QuotaWouldBeExceeded",
      "the recipient has as much waiting from this sender as it may, or the disk of the edge or relay is full: let the recipient fetch, or try again later",
      { retryable: true },
    );
  }
  if (reasonId === CloseReasonId.EmptySession) return statusRefusal(SessionStatusId.LockedOut);
  return new DeviceError(
    "RecipientRefused",
    `the relay takes no messages for this recipient [${reasonId ?? "refused"}]: check its address, and whether the token allows to send to it`,
    { retryable: isPassing(reasonId) },
  );
}

function gone(): DeviceError {
  return new DeviceError("ConnectFailed", "the connection was lost", { retryable: true });
}

function accountRefusal(reasonId: number, hasToken: boolean): DeviceError {
  if (reasonId !== CloseReasonId.UserAuthenticationFailed || !hasToken) {
    return new DeviceError("RelayRefused", `the relay refused the account [${reasonId}]`);
  }
  return new DeviceError(
    "TokenRefused",
    "the token does not allow to receive for this identity: get one with the scope receive, or connect only to send",
  );
}

function refusal(
  { responseId, retryTime, token }: Extract<ConnectionEvent, { type: "refused" }>,
  { relay, token: shown, address, transport, ends }: CarrierOptions,
): DeviceError {
  const name = Object.entries(ConnectResponseId).find(([, id]) => id === responseId)?.[0] ?? String(responseId);
  switch (responseId) {
    case ConnectResponseId.WrongDevice:
      return new DeviceError(
        "RelayRefused",
        `the relay does not go by the name ${relay}: use its own name, or start it with --name ${relay} [${name}]`,
      );
    case ConnectResponseId.TryLater:
      return new DeviceError("RelayRefused", `the relay is busy: try again in ${retryTime} s [${name}]`, {
        retryable: true,
        retryAfter: retryTime,
      });
    case ConnectResponseId.AuthenticationFailed: {
      // Edge and relay say why in place of an answer of the security protocol.
      const reason = token.length < 64 ? new TextDecoder().decode(token) : undefined;
      const by = transport !== "tcp" && ends ? "edge" : "relay";
      const refused = tokenRefusal(reason, { by, token: shown, address, name: relay });
      return refused ?? new DeviceError("RelayRefused", `the relay refused the connection [${name}]`);
    }
    default:
      return new DeviceError("RelayRefused", `the relay refused the connection [${name}]`);
  }
}

/** Why a connection ended, as an error. */
export function closure(closed: Closed, transport: Transport): DeviceError {
  if (closed.reasonId === ConnectCloseReasonId.CrossedConnections) {
    return new DeviceError(
      "AddressInUse",
      "another device has connected with the same address and taken this one's place: give each device its own",
    );
  }
  if (transport.failure !== undefined) return transport.failure;
  const code = transport.lost?.code;
  const detail = transport.lost?.detail ?? closed.detail;
  return new DeviceError(
    "ConnectFailed",
    `the connection was lost: ${detail}${code === undefined ? "" : ` [${code}]`}`,
    { retryable: true, retryAfter: transport.lost?.retryAfter },
  );
}
