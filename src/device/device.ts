/**
 * Device: the peer's end. It keeps outgoing messages until the relay acknowledges them and hands incoming messages to
 * the application, across any number of carriers.
 *
 *   send() ─► outbox ─► carrier ─► relay ─(acknowledged)─► send() resolves
 *   relay ─► carrier ─► inbox ─► messages() ─► done() ─► acknowledged
 *
 * A lost carrier is replaced after a pause; one that is nearly used up is replaced before it is. Either way both sides
 * resend unacknowledged messages in order, and ids remove duplicates.
 *
 * @module
 */
import { sleep, within } from "../lib/runtime/timeout.ts";
import { type ConnectionEvent, deviceURL } from "../sstp/index.ts";
import { Voucher } from "../store-and-forward/vouched-id.ts";
import { DeviceError } from "./device-error.ts";
import { Inbox } from "./inbox.ts";
import {
  BUSY_PATIENCE,
  CONNECT_TIMEOUT,
  CONTENT_RESERVE,
  DRAIN_PATIENCE,
  LONGEST_REST,
  RECONNECT_FIRST,
} from "./limits.ts";
import { idFor, idSuffix, type Message, partToWire, type SendOptions } from "./message.ts";
import { type DeviceOptions, type Settings, settingsOf } from "./options.ts";
import { Outbox, onWire, tooLong } from "./outbox.ts";
import { assertSayable, Recipients } from "./recipients.ts";
import { ReconnectPause } from "./reconnect-pause.ts";
import { closure, RelayConnection } from "./relay-connection.ts";
import { sendRefusal } from "./token-refusal.ts";
import { tokenFrom } from "./token-source.ts";
import { PathMtuWatch } from "./transports/path-mtu.ts";
import { CAPABILITIES, type OpenTransport, type TransportName } from "./transports/transport.ts";

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

const NO_OPTIONS: SendOptions = {};
const encoder = new TextEncoder();

/**
 * A device: sends and receives messages through its relay, and reconnects by itself. This file and what it imports run
 * in any runtime with timers; `node-device.ts` adds the transports over Node's sockets.
 */
export abstract class PortableDevice {
  readonly address: string;
  readonly #options: DeviceOptions;
  readonly #settings: Settings;
  readonly #openTransport: OpenTransport;
  /** Suffix of message ids. */
  readonly #idSuffix: string;
  /** Gives message ids as the relay rewrites them. */
  readonly #voucher: Voucher;
  readonly #inbox: Inbox;
  readonly #recipients: Recipients;
  readonly #outbox: Outbox;
  #run: Run | undefined;
  /** Token of the last connection. */
  #token: string | undefined;
  #replacing = false;
  readonly #reconnectPause = new ReconnectPause();
  readonly #pathMtu = new PathMtuWatch();
  #renewal: Promise<void> | undefined;
  /** Carriers being connected. */
  readonly #opening = new Set<RelayConnection>();
  /** Aborts pauses, so that a closed device holds no timer. */
  readonly #closing = new AbortController();
  #ended: DeviceError | undefined;
  readonly #onAbort = () => void this.close();

  /** @param openTransport how to open each transport */
  protected constructor(options: DeviceOptions, openTransport: OpenTransport) {
    this.#options = options;
    this.#openTransport = openTransport;
    this.#settings = settingsOf(options);
    this.address = options.address;
    const { self, relay, limit } = this.#settings;
    this.#idSuffix = idSuffix(self);
    this.#voucher = new Voucher(deviceURL(self), false);
    this.#recipients = new Recipients(this.#idSuffix, relay);
    this.#outbox = new Outbox({
      needed: (length) => this.#needed(length),
      renew: () => (this.#run === undefined ? Promise.resolve() : this.#renew(this.#run)),
      isRenewing: () => this.#renewal !== undefined,
      pause: (milliseconds) => this.#pause(milliseconds),
      onHeld: options.onHeld,
      onReleased: options.onReleased,
    });
    this.#inbox = new Inbox(limit, (engine) => {
      if (this.#run?.carrier.engine === engine) this.#run.carried = true;
    });
  }

  /** Makes the first connection. Call once. */
  protected async start(): Promise<void> {
    const { signal } = this.#options;
    if (signal?.aborted) throw closed();
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    try {
      this.#adopt(await this.#first());
    } catch (error) {
      const why = this.#ended ?? error;
      this.#end(closed());
      throw why;
    }
    if (this.#ended !== undefined) throw this.#ended;
  }

  /** The transport in use. */
  get transport(): TransportName {
    return this.#run?.carrier.transport.name ?? this.#settings.transport;
  }

  /**
   * Sends a message to `identity` or `identity/device`. Resolves when the relay has stored it, with the id that the
   * recipient sees.
   *
   * Messages to one recipient arrive in call order; those with `onlyIfOnline` are ordered separately.
   *
   * If the recipient's queue for this sender is full, its messages are held here until there is room, and `onHeld` is
   * called. Messages to other recipients continue.
   *
   * @throws DeviceError MessageTooLong, OutboxFull, QuotaWouldBeExceeded, RecipientRefused, InvalidOption, Aborted,
   * Closed
   */
  send(to: string, body: Uint8Array | string, options: SendOptions = NO_OPTIONS): Promise<{ readonly id: string }> {
    try {
      return this.#enqueue(to, typeof body === "string" ? encoder.encode(body) : body, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Incoming messages in order, until the device is closed. A message is acknowledged by its `done()`; otherwise it
   * comes again on the next connection. Reading stops while more than 32 MiB of messages are not done.
   *
   * @throws DeviceError AddressInUse, RelayRefused, TokenRefused when the connection ended for good
   */
  messages(): AsyncIterableIterator<Message> {
    return this.#inbox.messages();
  }

  /** Ends the connection. Unacknowledged sends reject with Closed. */
  async close(): Promise<void> {
    const carrier = this.#run?.carrier;
    this.#end(closed());
    await carrier?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #enqueue(to: string, body: Uint8Array, options: SendOptions): Promise<{ readonly id: string }> {
    if (this.#ended !== undefined) throw this.#ended;
    const limit = Math.min(this.#settings.limit, this.#run?.carrier.messageLimit ?? Number.POSITIVE_INFINITY);
    if (body.length > limit) throw tooLong(body.length, limit);
    const destination = this.#recipients.destination(to, options.resource ?? "message");
    const userRef = options.id === undefined ? destination.newId() : idFor(options.id, this.#idSuffix);
    const streamSize = options.part && partToWire(options.part, body.length);
    // Generated ids and known destinations have been checked before.
    if (options.id !== undefined || options.part !== undefined) assertSayable(destination, { userRef, streamSize });
    return new Promise((resolve, reject) => {
      this.#outbox.add({
        userRef,
        acknowledgeImmediately: true,
        doNotDeliverIfOffline: options.onlyIfOnline,
        streamSize,
        destination,
        body,
        signal: options.signal,
        resolve: () => resolve({ id: this.#voucher.id(userRef) }),
        reject: (error) => reject(this.#meetsToken ? sendRefusal(error, this.#token, destination) : error),
      });
    });
  }

  /**
   * Whether the token is checked by the relay that accepts the messages. With an origin relay behind an edge, only the
   * edge checks it.
   */
  get #meetsToken(): boolean {
    return this.#options.relay === undefined || !CAPABILITIES[this.transport].carriesToken;
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
        await this.#pause(rest + Math.random() * RECONNECT_FIRST);
        // Closing the device cuts the pause short.
        if (this.#ended !== undefined) throw error;
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
    if (this.#ended !== undefined) {
      run.carrier.abandon();
      return;
    }
    this.#run = run;
    const over = run.carrier.engine.closed;
    if (over === undefined) this.#outbox.attach(run.carrier);
    else this.#lost(run, closure(over, run.carrier.transport), over.returnTime);
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
        if (this.#run === run) this.#lost(run, closure(event, run.carrier.transport), event.returnTime);
        return;
    }
    if (this.#run === run) this.#outbox.on(event, key);
    this.#inbox.on(run.carrier, event);
    if (event.type === "endMessage" && run.carrier.transport.remaining < this.#needed(this.#settings.limit))
      void this.#renew(run);
  }

  /** Bytes that the transport must have left for a message of this length and what follows it. */
  #needed(length: number): number {
    return onWire(length) + CONTENT_RESERVE;
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

  #lost(run: Run, why: DeviceError, returnTime = 0): void {
    // The relay closes a device's old connection when the new one arrives; here that is intended.
    if (this.#replacing) return;
    const error = this.#pathMtu.ended(this.#outbox.ending(), why) ?? why;
    this.#retire(run);
    if (this.#ended !== undefined) return;
    this.#reconnectPause.lost(run.carried, performance.now() - run.since);
    const usedUp = run.carrier.transport.remaining < this.#needed(this.#settings.limit);
    if (error.retryable)
      void this.#reconnect(error, Math.max(Math.min(returnTime * 1000, LONGEST_REST), restOf(error)), usedUp);
    else this.#end(error);
  }

  /**
   * Reconnects with full jitter, so that a restarted edge does not meet all its devices at once. A resting relay says
   * how long to stay away [MS-GRVSSTP 3.1.5.4]. A carrier that is merely used up is replaced at once.
   */
  async #reconnect(why: DeviceError, rest: number, usedUp: boolean): Promise<void> {
    if (this.#replacing) return;
    this.#replacing = true;
    this.#options.onReconnect?.(why);
    await this.#pause(rest);
    let busy = 0;
    for (let atOnce = usedUp; this.#ended === undefined; atOnce = false) {
      await this.#pause(busy + (atOnce ? 0 : Math.random() * this.#reconnectPause.next()));
      if (this.#ended !== undefined) break;
      try {
        const run = await this.#open();
        this.#replacing = false;
        this.#adopt(run);
        return;
      } catch (cause) {
        const error = asDeviceError(cause);
        if (!error.retryable) {
          this.#end(error);
          break;
        }
        busy = restOf(error);
      }
    }
    this.#replacing = false;
  }

  /** Waits, at most until the device closes. */
  async #pause(milliseconds: number): Promise<void> {
    if (milliseconds > 0) await sleep(milliseconds, this.#closing.signal);
  }

  #end(error: DeviceError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#closing.abort();
    for (const carrier of this.#opening) carrier.abandon();
    this.#run = undefined;
    this.#outbox.end(error);
    this.#inbox.end(error.code === "Closed" ? undefined : error);
  }
}

function closed(): DeviceError {
  return new DeviceError("Closed", "the device was closed");
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
