/**
 * A carrier: one transport with one SSTP connection on it. It connects, attaches the account, opens sessions, and moves
 * bytes between engine and transport. Messages belong to the device and outlive the carrier.
 *
 * @module
 */

import { free } from "../lib/octets.ts";
import { atTime, endOfTurn, sleep, within } from "../lib/runtime/timeout.ts";
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
import {
  type Capabilities as PeerCapabilities,
  parseCapabilities,
  SEND_ONLY,
} from "../store-and-forward/capabilities.ts";
import { SessionPool, SessionSlot } from "../store-and-forward/session-pool.ts";
import { DeviceError } from "./device-error.ts";
import {
  ACKNOWLEDGE_PAUSE,
  ANSWERS_AHEAD,
  BUSY_KEEP_ALIVE,
  CLOSE_TIMEOUT,
  KEEP_ALIVE,
  OPEN_SESSIONS,
  READ_AHEAD,
  RECEIVE_TIMEOUT,
} from "./limits.ts";
import { type RefusedToken, tokenRefusal } from "./token-refusal.ts";
import { keptAlive } from "./transports/idle-cuts.ts";
import type { Capabilities, OpenTransport, Transport, TransportOptions } from "./transports/transport.ts";

/** A session of ours that is ready to send on, or why there is none. */
type SessionOutcome =
  | { readonly ok: true; readonly sessionId: number }
  | { readonly ok: false; readonly error: DeviceError };

/** A destination's session, and who waits until it is ready. It leaves the pool when the session is closed. */
class OutboundSession extends SessionSlot {
  waiting: ((outcome: SessionOutcome) => void)[] = [];
}

export interface CarrierOptions extends TransportOptions {
  readonly address: Required<Pick<Address, "identity" | "device">>;
  /** The virtual connection ends at the edge itself instead of going on to an origin relay. */
  readonly ends: boolean;
  /** False for a connection that takes no messages. */
  readonly receive: boolean;
  readonly open: OpenTransport;
}

export class RelayConnection {
  readonly transport: Transport;
  readonly engine: Connection;
  readonly #options: CarrierOptions;
  readonly #on: (event: ConnectionEvent, key: string | undefined) => void;
  readonly #mayRead: () => Promise<void> | undefined;
  readonly #sessions = new SessionPool<OutboundSession>(OPEN_SESSIONS);
  /** Why the next request for a destination's session fails, by destination key. */
  readonly #failed = new Map<string, DeviceError>();
  #flushing: Promise<void> | undefined;
  /** What `flushNow` has written: until the turn ends, what follows waits for that. */
  #writtenNow: Promise<void> | undefined;
  #isWriting = false;
  /** When bytes were last sent, on the clock of `performance.now()`. */
  #sentAt = 0;
  /** Cuts short the wait that batches acknowledgements. */
  #hurry: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #ready: { resolve: () => void; reject: (error: DeviceError) => void } | undefined;
  /** The relay has admitted the device, so messages may come. */
  #isAdmitted = false;
  /** Ends a pause of reading, once the transport has ended. */
  #readOn: (() => void) | undefined;
  /** Nothing is read until the application has done something. */
  #isWaitingForRoom = false;
  #attachId: number | undefined;
  readonly #ended = Promise.withResolvers<DeviceError>();
  /** The longest message that the relay accepts, in bytes. Infinity until the relay states one. */
  messageLimit = Number.POSITIVE_INFINITY;
  /** Whether the relay, an edge, dials TCP destinations for its devices. */
  dialsOrigins = false;

  /**
   * @param on called for every event of the engine, with the destination key if the event concerns a session of ours
   * @param mayRead returns a promise while reading must pause, otherwise undefined
   */
  constructor(
    options: CarrierOptions,
    on: (event: ConnectionEvent, key: string | undefined) => void,
    mayRead: () => Promise<void> | undefined,
  ) {
    this.#options = options;
    this.#on = on;
    this.#mayRead = mayRead;
    this.transport = options.open({ ...options, isBusy: () => this.engine.unprocessed > 0 });
    this.engine = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: [deviceURL(options.address)],
      now: performance.now(),
      ...(options.receive ? {} : { capabilities: SEND_ONLY }),
      ...(detectsLoss(this.transport.capabilities, options.ends)
        ? {}
        : {
            keepAlive: keptAlive(KEEP_ALIVE, options.idleLimit),
            busyKeepAlive: keptAlive(BUSY_KEEP_ALIVE, options.idleLimit),
            receiveTimeout: RECEIVE_TIMEOUT,
          }),
    });
    void this.transport.ended.then(() => this.#readOn?.());
  }

  /** Resolves when the transport has carried bytes both ways, as far as it can tell without Connect. */
  establish(): Promise<void> {
    this.#read();
    return this.transport.answered;
  }

  /** Resolves when the connection is established and, if it receives, the account attached. */
  async connect(): Promise<void> {
    const attached = new Promise<void>((resolve, reject) => {
      this.#ready = { resolve, reject };
    });
    this.transport.established.catch((error: DeviceError) => this.#ready?.reject(error));
    this.#read();
    // Do not wait for establishment: the first bytes establish a Polling transport.
    const { relay, token = "" } = this.#options;
    const { carriesToken } = this.transport.capabilities;
    this.engine.connect(relayURL(relay), new TextEncoder().encode(carriesToken ? "" : token));
    void this.flush();
    try {
      await attached;
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** When bytes last passed in either direction, on the clock of `performance.now()`. */
  get usedAt(): number {
    return Math.max(this.#sentAt, this.transport.heardAt);
  }

  /** Resolves with the reason when the connection has ended. */
  get ended(): Promise<DeviceError> {
    return this.#ended.promise;
  }

  /** The destination's session, if it can be sent on right now. */
  readySession({ key }: Destination): number | undefined {
    const session = this.#sessions.get(key);
    if (session?.sessionId === undefined || session.state !== "ready") return undefined;
    const { sessionId } = session;
    if (this.#failed.has(key) || !this.ready(sessionId)) return undefined;
    this.#sessions.use(session);
    return sessionId;
  }

  /** The destination's session, if it is suspended. */
  suspendedSession({ key }: Destination): number | undefined {
    const session = this.#sessions.get(key);
    return session?.state === "suspended" ? session.sessionId : undefined;
  }

  /** The destination's session, opened if necessary; resolves when it is ready. */
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
      if (this.#sessions.full) this.#closeIdlest();
      session = new OutboundSession(key);
      this.#sessions.add(session);
      this.#sessions.open(session, this.#open(destination));
      void this.flush();
    } else this.#sessions.use(session);
    const { state, sessionId, waiting } = session;
    if (state === "ready" && sessionId !== undefined) return Promise.resolve({ ok: true, sessionId });
    return new Promise((resolve) => waiting.push(resolve));
  }

  #open({ resourceURL, identityURL, deviceURL, relayURL }: Destination): number {
    if (relayURL === "") return this.engine.open({ resourceURL, identityURL, deviceURL });
    // Only a fanout names the recipient's relay [MS-GRVSSTP 2.2.6.1].
    return this.engine.openFanout({ resourceURL, entries: [{ identityURL, deviceURL, relayURL }] });
  }

  /**
   * Fails the next request for a session that is open but useless. The engine closes it, so a later one opens another.
   */
  fail(sessionId: number, error: DeviceError): void {
    const session = this.#sessions.of(sessionId);
    if (session !== undefined) this.#failed.set(session.key, error);
  }

  /** Whether a session of ours can be sent on right now. Check again after awaiting `session`. */
  ready(sessionId: number): boolean {
    const session = this.engine.session(sessionId);
    return session?.kind === "outbound" && session.state === "ready";
  }

  /** Sends the engine's output. Resolves when the transport accepts more. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flush();
    if (!this.engine.onlyAcknowledges) this.#hurry?.abort();
    return this.#flushing;
  }

  /**
   * The same, but what there is now is written at once: a keystroke does not wait for the end of the turn. Only once a turn;
   * what follows in it is sent together.
   */
  flushNow(): Promise<void> {
    const { requestPerWrite, takesTurns } = this.transport.capabilities;
    if (this.#isWriting || this.#writtenNow !== undefined || requestPerWrite || takesTurns) return this.flush();
    try {
      const blocks = this.#output();
      if (blocks.length > 0) this.#writtenNow = this.#write(blocks).catch((error: unknown) => this.end(error));
    } catch (error) {
      this.end(error);
    }
    return this.flush();
  }

  /** Sends ConnectClose and waits up to CLOSE_TIMEOUT (2 s) for it to arrive, since acknowledgements go with it. */
  async close(): Promise<void> {
    this.engine.close(ConnectCloseReasonId.Resting);
    // The relay ends the transport once it has read the ConnectClose. One that does not read must not delay us.
    await within(
      CLOSE_TIMEOUT,
      this.flush().then(() => this.#reading),
    );
    this.abandon();
  }

  /** Ends the transport at once. */
  abandon(): void {
    clearTimeout(this.#timer);
    this.#timerAt = Number.NEGATIVE_INFINITY;
    this.transport.close();
  }

  #reading: Promise<void> | undefined;

  #read(): void {
    this.#reading ??= this.#readAll();
  }

  async #readAll(): Promise<void> {
    /** Bytes read before admission: an honest relay sends a few hundred. */
    let early = 0;
    try {
      for (;;) {
        // A full inbox must not keep the device from connecting again.
        if (this.#isAdmitted || early >= READ_AHEAD) await this.#room();
        const octets = await this.transport.read();
        if (octets === undefined) break;
        if (!this.#isAdmitted) early += octets.length;
        this.#handle(this.engine.receive(octets, performance.now()));
        // A relay that does not read our answers is not read either.
        if (this.engine.pendingOctets > ANSWERS_AHEAD) await this.flush();
      }
      this.#handle(this.engine.transportLost());
    } catch (error) {
      this.end(error);
    }
  }

  /** Waits while the application has too much to do. What an ended transport has left to read is little. */
  async #room(): Promise<void> {
    for (let full = this.#mayRead(); full !== undefined && this.transport.lost === undefined; full = this.#mayRead()) {
      const over = Promise.withResolvers<void>();
      this.#readOn = over.resolve;
      this.#isWaitingForRoom = true;
      void full.then(over.resolve);
      await over.promise;
      this.#isWaitingForRoom = false;
      this.engine.excuseSilence(performance.now());
    }
  }

  #handle(events: readonly ConnectionEvent[]): void {
    for (const event of events) this.#tell(event);
    void this.flush();
  }

  #tell(event: ConnectionEvent): void {
    const key = "sessionId" in event ? this.#sessions.of(event.sessionId)?.key : undefined;
    this.#follow(event);
    this.#on(event, key);
  }

  /** Ends the connection after an unexpected error: the state is unknown. */
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
    // To send everything from this turn together.
    await endOfTurn();
    if (this.transport.capabilities.requestPerWrite && this.engine.onlyAcknowledges) await this.#gather();
    this.#isWriting = true;
    try {
      await this.#writtenNow;
      for (let blocks = this.#output(); blocks.length > 0; blocks = this.#output()) await this.#write(blocks);
    } catch (error) {
      this.end(error);
    }
    // Clear in the same turn as the last check, so that later output starts a new flush.
    this.#writtenNow = undefined;
    this.#isWriting = false;
    this.#flushing = undefined;
  }

  #output(): Uint8Array<ArrayBuffer>[] {
    const now = performance.now();
    const blocks = this.engine.output(now);
    if (blocks.length > 0) this.#sentAt = now;
    this.#setTimer();
    return blocks;
  }

  /** Resolves when the transport accepts more. */
  async #write(blocks: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
    await this.transport.write(blocks);
    // The garbage collector would come too often for blocks of bulk data.
    if (this.transport.capabilities.copiesWrites) for (const { buffer } of blocks) free(buffer);
  }

  /** Collects acknowledgements for a few milliseconds, or until there is other output. */
  async #gather(): Promise<void> {
    this.#hurry = new AbortController();
    await sleep(ACKNOWLEDGE_PAUSE, this.#hurry.signal);
    this.#hurry = undefined;
  }

  /** Updates the carrier's own state from an event. */
  #follow(event: ConnectionEvent): void {
    switch (event.type) {
      case "connected":
        // Later bytes of the same read may have closed the connection already; that event comes next.
        if (this.engine.closed !== undefined) break;
        this.#introduced(parseCapabilities(event.productCapabilities));
        if (this.#options.receive) {
          this.#attachId = this.engine.attach({ accountURL: accountURL(this.#options.address) });
        } else this.#admit();
        break;
      case "attached":
        if (event.eventId === this.#attachId) this.#admit();
        break;
      case "attachRefused":
        this.#ready?.reject(
          new DeviceError("RelayRefused", "the relay refused to attach the account: check the token"),
        );
        break;
      case "refused":
        this.#ready?.reject(refusal(event, this.#options));
        break;
      case "sessionState":
        this.#settle(event.sessionId, event.state);
        break;
      case "sessionRefused":
        this.#forget(this.#sessions.of(event.sessionId), sessionRefusal(undefined));
        break;
      case "sessionClosed":
        if (event.sessionId === this.#attachId) {
          this.#ready?.reject(accountRefusal(event.reasonId, this.#options.token !== undefined));
        }
        this.#forget(this.#sessions.of(event.sessionId), sessionRefusal(event.reasonId));
        break;
      case "closed":
        this.#ended.resolve(closure(event, this.transport));
        this.#ready?.reject(closure(event, this.transport));
        for (const session of [...this.#sessions]) this.#forget(session, gone());
        void this.flush().then(() => event.by === "self" && this.transport.close());
        break;
    }
  }

  #introduced({ longestMessage, origins }: PeerCapabilities): void {
    this.messageLimit = longestMessage ?? Number.POSITIVE_INFINITY;
    this.dialsOrigins = origins;
  }

  #admit(): void {
    this.#isAdmitted = true;
    this.#ready?.resolve();
  }

  #settle(sessionId: number, state: "ready" | "suspended"): void {
    const session = this.#sessions.of(sessionId);
    if (session === undefined) return;
    session.state = state;
    if (state !== "ready") return;
    const { waiting } = session;
    session.waiting = [];
    for (const resolve of waiting) resolve({ ok: true, sessionId });
  }

  /** Closes the least recently used session with no waiters and no message in progress. */
  #closeIdlest(): void {
    const idlest = this.#sessions.idlest(({ sessionId, waiting }) => {
      const session = sessionId === undefined ? undefined : this.engine.session(sessionId);
      return waiting.length === 0 && session?.kind === "outbound" && session.sending === "idle";
    });
    if (idlest?.sessionId === undefined) return;
    const { sessionId } = idlest;
    this.#forget(idlest, gone());
    this.engine.closeSession(sessionId, CloseReasonId.Idle);
  }

  #forget(session: OutboundSession | undefined, error: DeviceError): void {
    if (session === undefined) return;
    this.#sessions.delete(session);
    for (const resolve of session.waiting) resolve({ ok: false, error });
  }

  #setTimer(): void {
    const { deadline } = this.engine;
    if (this.#timerAt <= deadline) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = atTime(deadline, () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      try {
        if (this.#isWaitingForRoom) this.engine.excuseSilence(performance.now());
        this.#handle(this.engine.advance(performance.now()));
      } catch (error) {
        this.end(error);
      }
    });
  }
}

/** Reads `closed` afresh, past TypeScript's narrowing. */
function closedOf(engine: Connection): Closed | undefined {
  return engine.closed;
}

function detectsLoss({ detectsLoss: where }: Capabilities, ends: boolean): boolean {
  return where === "always" || (where === "at the edge" && ends);
}

/** Whether a session was closed for a reason unrelated to its messages. */
export function isPassing(reasonId: number | undefined): boolean {
  return (
    reasonId === CloseReasonId.Idle || reasonId === CloseReasonId.NoReason || reasonId === CloseReasonId.InternalError
  );
}

/** Where messages go: an addressing entry, with the recipient's relay, or empty if that is ours. */
export interface Destination extends AddressingEntry {
  /** The recipient, as the application wrote it. */
  readonly to: string;
  readonly relayURL: string;
  /** Identifies the destination. */
  readonly key: string;
  /** Returns a new message id for this destination on each call. */
  readonly newId: () => string;
}

/** Maps the StatusId of a SessionStatus to the error for a recipient behind another relay. */
export function statusRefusal(statusId: number): DeviceError {
  switch (statusId) {
    case SessionStatusId.QuotaWouldBeExceeded:
      return sessionRefusal(CloseReasonId.QuotaWouldBeExceeded);
    case SessionStatusId.LockedOut:
      return new DeviceError(
        "RecipientRefused",
        "the recipient's mailbox accepts no messages from this device: ask the recipient to change its rule, or the operator to unlock it [LockedOut]",
      );
    default: {
      const name = Object.entries(SessionStatusId).find(([, id]) => id === statusId)?.[0] ?? String(statusId);
      return new DeviceError(
        "RelayUnreachable",
        `the recipient's relay cannot be reached: check its name; the operator of the edge finds the cause in the log and at /admin/links/RELAY [${name}]`,
      );
    }
  }
}

/** Maps the ReasonId of a Close to an error; undefined means that OpenResponse refused the session. */
export function sessionRefusal(reasonId: number | undefined): DeviceError {
  if (reasonId === CloseReasonId.QuotaWouldBeExceeded) {
    return new DeviceError(
      "QuotaWouldBeExceeded",
      "this sender's share of the recipient's mailbox is full, or the disk of the edge or relay is: wait until the recipient has fetched some messages, or try again later",
    );
  }
  if (reasonId === CloseReasonId.EmptySession) return statusRefusal(SessionStatusId.LockedOut);
  return new DeviceError(
    "RecipientRefused",
    `the relay accepts no messages for this recipient [${reasonId ?? "refused"}]: check the address, and that the token allows sending to it`,
    { advice: isPassing(reasonId) ? "retry" : "give up" },
  );
}

function gone(): DeviceError {
  return new DeviceError("ConnectFailed", "the connection was lost");
}

function accountRefusal(reasonId: number, hasToken: boolean): DeviceError {
  if (reasonId !== CloseReasonId.UserAuthenticationFailed || !hasToken) {
    return new DeviceError("RelayRefused", `the relay refused the account [${reasonId}]`);
  }
  return new DeviceError(
    "TokenRefused",
    "the token does not allow receiving for this identity: get one with the scope receive, or connect only to send (receive: false)",
  );
}

function refusal(
  { responseId, retryTime, token }: Extract<ConnectionEvent, { type: "refused" }>,
  { relay, token: shown, address, ends }: CarrierOptions,
): DeviceError {
  const name = Object.entries(ConnectResponseId).find(([, id]) => id === responseId)?.[0] ?? String(responseId);
  switch (responseId) {
    case ConnectResponseId.WrongDevice:
      return new DeviceError(
        "RelayRefused",
        `${relay} is not one of the relay's names: use one of them, or start the relay with --name ${relay} [${name}]`,
      );
    case ConnectResponseId.TryLater:
      return new DeviceError("RelayRefused", `the relay is busy: try again in ${retryTime} s [${name}]`, {
        advice: "retry",
        retryAfter: retryTime,
      });
    case ConnectResponseId.AuthenticationFailed: {
      // Edge and relay put their reason where the security protocol's answer would be.
      const reason = token.length < 64 ? new TextDecoder().decode(token) : undefined;
      const by = ends ? "edge" : "relay";
      const refused = tokenRefusal(reason, { by, token: shown, address, name: relay });
      return refused ?? new DeviceError("RelayRefused", `the relay refused the connection [${name}]`);
    }
    default:
      return new DeviceError("RelayRefused", `the relay refused the connection [${name}]`);
  }
}

/**
 * Converts the end of a connection to an error.
 *
 * @param shown the token with which it was made, and the names that it was checked for
 */
export function closure(closed: Closed, transport: Transport, shown: RefusedToken = {}): DeviceError {
  if (closed.reasonId === ConnectCloseReasonId.CrossedConnections) {
    return new DeviceError(
      "AddressInUse",
      "another device connected with the same address and replaced this one: give each device its own address (--as)",
    );
  }
  if (transport.failure !== undefined) return transport.failure;
  const { detail = closed.detail, cure, code, retryAfter } = transport.lost ?? {};
  const refused = tokenRefusal(code, { ...shown, detail });
  if (refused !== undefined) return refused;
  const text = `the connection was lost: ${detail}${cure === undefined ? "" : ` ${cure}`}`;
  return new DeviceError("ConnectFailed", code === undefined ? text : `${text} [${code}]`, { retryAfter });
}
