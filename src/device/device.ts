/**
 * Device: a peer's end. It keeps what it has to send until the relay has acknowledged it, and gives what has arrived to
 * the application, over one carrier after another.
 *
 *   send() ─► outbox ─► carrier ─► relay ─(acknowledged)─► send() resolves
 *   relay ─► carrier ─► inbox ─► messages() ─► done() ─► acknowledged
 *
 * A carrier that is lost is replaced after a pause; one whose octets are nearly used up is replaced before they are. In
 * both cases what was not acknowledged goes again, on both sides, in order; ids drop what comes twice.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { guidFrom } from "../encapsulation/index.ts";
import {
  type Address,
  AddressError,
  type AddressingEntry,
  CloseReasonId,
  type ConnectionEvent,
  deviceURL,
  identityURL,
  MAX_DATA_OCTETS,
  parseAddress,
} from "../sstp/index.ts";
import { Carrier, closure } from "./carrier.ts";
import {
  CONNECT_TIMEOUT,
  CONTENT_RESERVE,
  MESSAGE_LIMIT,
  OUTBOX_OCTETS,
  RECONNECT_FIRST,
  RECONNECT_LAST,
  SLICE,
} from "./defaults.ts";
import { DeviceError } from "./error.ts";
import { Inbox } from "./inbox.ts";
import { idFor, type Message, partToWire, type SendOptions } from "./message.ts";
import type { TransportName } from "./transport.ts";

export interface DeviceOptions {
  /** This device's address: `identity/device`. */
  readonly address: string;
  /** The relay: `host` or `host:port`, as the edge knows it. */
  readonly relay: string;
  /** URL of the edge. Without it the device connects to the relay by TCP. */
  readonly edge?: string;
  /** By default `longlived` with an edge and `tcp` without. */
  readonly transport?: TransportName;
  /** LongLived: octets that each of its two sessions may carry, at least twice `messageLimit`. Default 64 MiB. */
  readonly contentLength?: number;
  /** Longest message in octets. Default 16 MiB. */
  readonly messageLimit?: number;
  /** PEM text of the certificate authorities to trust instead of the system's. */
  readonly ca?: string;
  /** Closes the device when it aborts. */
  readonly signal?: AbortSignal;
  /** Told of each carrier that is lost and will be replaced, for a log. */
  readonly onReconnect?: (error: DeviceError) => void;
}

/** A message on its way out. */
interface Outgoing {
  readonly id: string;
  readonly addressing: AddressingEntry;
  readonly options: SendOptions;
  readonly body: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: DeviceError) => void;
}

/** A carrier, and what belongs to it alone. */
interface Run {
  readonly carrier: Carrier;
  /** Sent and not acknowledged, by the engine's number, oldest first. */
  readonly sent: Map<number, Outgoing>;
}

export class Device {
  readonly address: string;
  readonly #options: DeviceOptions;
  readonly #self: Required<Pick<Address, "identity" | "device">>;
  readonly #transport: TransportName;
  readonly #limit: number;
  readonly #inbox: Inbox;
  /** Not yet sent, oldest first. */
  #outbox: Outgoing[] = [];
  #outboxOctets = 0;
  #sending: Outgoing | undefined;
  #run: Run | undefined;
  #replacing = false;
  #wake: (() => void) | undefined;
  #ended: DeviceError | undefined;
  readonly #onAbort = () => void this.close();

  private constructor(options: DeviceOptions) {
    this.#options = options;
    const address = checked("address", () => parseAddress(options.address));
    if (address.device === undefined) {
      throw new DeviceError(
        "InvalidOption",
        `address ${options.address} names no device: write ${options.address}/laptop`,
      );
    }
    this.#self = { identity: address.identity, device: address.device };
    this.address = options.address;
    this.#transport = options.transport ?? (options.edge === undefined ? "tcp" : "longlived");
    this.#limit = options.messageLimit ?? MESSAGE_LIMIT;
    if (options.contentLength !== undefined && options.contentLength < 2 * this.#limit) {
      throw new DeviceError(
        "InvalidOption",
        `contentLength ${options.contentLength} must be at least twice messageLimit (${this.#limit}), or a message may never fit`,
      );
    }
    this.#inbox = new Inbox(this.#limit);
  }

  /**
   * Connects a device to its relay.
   *
   * @throws DeviceError ConnectFailed, Refused, RelayRefused, InvalidOption, Closed
   *
   * @example
   * const device = await Device.connect({ edge: "https://edge.example.com", relay: "relay.example.com", address: "alice/laptop" });
   */
  static async connect(options: DeviceOptions): Promise<Device> {
    const device = new Device(options);
    if (options.signal?.aborted) throw closed();
    options.signal?.addEventListener("abort", device.#onAbort, { once: true });
    device.#adopt(await device.#open());
    return device;
  }

  /** The transport in use. */
  get transport(): TransportName {
    return this.#transport;
  }

  /**
   * Sends a message to `identity` or `identity/device`. Resolves when the relay has it safe, with the message's id.
   * Messages to one recipient arrive in the order of the calls.
   *
   * @throws DeviceError MessageTooLong, OutboxFull, QuotaWouldBeExceeded, RecipientRefused, InvalidOption, Closed
   */
  send(to: string, body: Uint8Array | string, options: SendOptions = {}): Promise<{ readonly id: string }> {
    try {
      return this.#enqueue(to, typeof body === "string" ? new TextEncoder().encode(body) : body, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * The messages that arrive, in order, until the device is closed. One that is not `done` is not acknowledged and comes
   * again to the next connection; nothing more is read while 32 MiB of them are not done.
   *
   * @throws DeviceError AddressInUse, RelayRefused when the connection ended for good
   */
  messages(): AsyncIterableIterator<Message> {
    return this.#inbox.messages();
  }

  /** Ends the connection. What was not acknowledged is rejected with Closed. */
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
    if (body.length > this.#limit) {
      throw new DeviceError(
        "MessageTooLong",
        `the message has ${body.length} octets: send at most ${this.#limit}, in parts if need be`,
      );
    }
    if (this.#outboxOctets + body.length > OUTBOX_OCTETS) {
      throw new DeviceError("OutboxFull", `${OUTBOX_OCTETS} octets wait to be acknowledged: await earlier sends`, {
        retryable: true,
      });
    }
    const recipient = checked("recipient", () => parseAddress(to));
    const addressing = {
      resourceURL: options.resource ?? "message",
      identityURL: identityURL(recipient),
      deviceURL: recipient.device === undefined ? "" : deviceURL(recipient),
    };
    const id = options.id ?? idFor(guidFrom(randomBytes(24)), this.#self);
    return new Promise((resolve, reject) => {
      this.#outboxOctets += body.length;
      const settle = () => {
        this.#outboxOctets -= body.length;
      };
      this.#outbox.push({
        id,
        addressing,
        options,
        body,
        resolve() {
          settle();
          resolve({ id });
        },
        reject(error) {
          settle();
          reject(error);
        },
      });
      this.#wake?.();
    });
  }

  /** A new carrier, connected; its events are followed from its first. */
  async #open(): Promise<Run> {
    const { relay, edge, contentLength, ca } = this.#options;
    let run: Run | undefined;
    const carrier = new Carrier(
      { transport: this.#transport, relay, edge, contentLength, ca, address: this.#self },
      (event) => run !== undefined && this.#on(run, event),
      () => this.#inbox.full,
    );
    run = { carrier, sent: new Map() };
    const timer = setTimeout(() => carrier.abandon(), CONNECT_TIMEOUT);
    try {
      await carrier.connect();
      return run;
    } finally {
      clearTimeout(timer);
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
    if (run.carrier.engine.closed !== undefined)
      void this.#reconnect(closure(run.carrier.engine.closed, run.carrier.transport));
    else void this.#pump(run);
  }

  /** What was sent and not acknowledged will be sent again, before what was not sent at all. */
  #retire(run: Run): void {
    const unfinished = this.#sending === undefined ? [] : [this.#sending];
    this.#outbox = [...run.sent.values(), ...unfinished, ...this.#outbox];
    this.#sending = undefined;
    run.sent.clear();
    this.#inbox.forget(run.carrier.engine);
    run.carrier.abandon();
    this.#run = undefined;
  }

  #on(run: Run, event: ConnectionEvent): void {
    switch (event.type) {
      case "open":
        run.carrier.engine.setAvailability(event.sessionId, "ready");
        break;
      case "acknowledged":
        for (const number of event.messages) this.#take(run, number)?.resolve();
        break;
      case "sessionRefused":
        this.#refused(run, event.unacknowledged, undefined);
        break;
      case "sessionClosed":
        this.#refused(run, event.unacknowledged, event.reasonId);
        break;
      case "closed":
        if (this.#run === run) this.#lost(run, closure(event, run.carrier.transport));
        break;
    }
    this.#inbox.on(run.carrier, event);
    if (event.type === "endMessage" && run.carrier.transport.remaining < this.#needed(this.#limit))
      void this.#renew(run);
  }

  #take(run: Run, number: number): Outgoing | undefined {
    const outgoing = run.sent.get(number);
    run.sent.delete(number);
    return outgoing;
  }

  /** The relay has closed a session with messages on it that it did not take. */
  #refused(run: Run, numbers: readonly number[], reasonId: number | undefined): void {
    const outgoing = numbers.flatMap((number) => this.#take(run, number) ?? []);
    if (
      reasonId === CloseReasonId.Idle ||
      reasonId === CloseReasonId.NoReason ||
      reasonId === CloseReasonId.InternalError
    ) {
      this.#outbox.unshift(...outgoing);
      this.#wake?.();
      return;
    }
    for (const { reject } of outgoing) reject(refusal(reasonId));
  }

  /** Sends what the outbox has, one message after another, as long as this carrier is the one in use. */
  async #pump(run: Run): Promise<void> {
    const { carrier } = run;
    while (this.#run === run) {
      const next = this.#outbox[0];
      if (next === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      if (carrier.transport.remaining < this.#needed(next.body.length)) {
        await this.#renew(run);
        if (this.#run === run) await pause(RECONNECT_FIRST);
        continue;
      }
      const outcome = await carrier.session(next.addressing);
      if (this.#run !== run) return;
      if (!outcome.ok) {
        // A lost connection is told of by its own event, and then this loop is over.
        if (outcome.error.retryable) await pause(RECONNECT_FIRST);
        else if (this.#outbox[0] === next) this.#outbox.shift()?.reject(outcome.error);
        continue;
      }
      this.#outbox.shift();
      this.#sending = next;
      const sent = await this.#transmit(run, next, outcome.sessionId);
      if (this.#run !== run) return;
      this.#sending = undefined;
      if (!sent) next.reject(refusal(CloseReasonId.QuotaWouldBeExceeded));
    }
  }

  /** Sends one message. False when the relay closed its session meanwhile, which it does when it will not take it. */
  async #transmit(run: Run, { id, options, body, addressing }: Outgoing, sessionId: number): Promise<boolean> {
    const { carrier, sent } = run;
    const { engine } = carrier;
    const message = this.#sending;
    engine.beginMessage(sessionId, {
      userRef: id,
      acknowledgeImmediately: true,
      doNotDeliverIfOffline: options.onlyIfOnline,
      streamSize: options.part && partToWire(options.part, body.length),
    });
    for (let at = 0; at < body.length; at += SLICE) {
      engine.data(sessionId, body.subarray(at, at + SLICE));
      if (engine.pendingOctets < SLICE) continue;
      await carrier.flush();
      if (this.#run !== run) return false;
      const outcome = await carrier.session(addressing);
      if (!outcome.ok || outcome.sessionId !== sessionId) return false;
    }
    if (message !== undefined) sent.set(engine.endMessage(sessionId), message);
    if (engine.pendingOctets < SLICE) void carrier.flush();
    else await carrier.flush();
    return true;
  }

  /** Octets that a message takes on the wire, and what must be left after it. */
  #needed(length: number): number {
    return length + Math.ceil(length / MAX_DATA_OCTETS) * 7 + CONTENT_RESERVE;
  }

  /** Replaces a carrier that is nearly used up, without a pause: the new one is connected before the old one goes. */
  async #renew(run: Run): Promise<void> {
    if (this.#replacing || this.#run !== run) return;
    this.#replacing = true;
    try {
      const next = await this.#open();
      this.#replacing = false;
      this.#adopt(next);
    } catch (error) {
      this.#replacing = false;
      // The old one may have gone meanwhile, and nobody else looks after it.
      if (this.#run === run && run.carrier.engine.closed !== undefined) this.#lost(run, asDeviceError(error));
    }
  }

  #lost(run: Run, error: DeviceError): void {
    // The relay closes the old connection of a device when the new one comes: that is what is wanted here.
    if (this.#replacing) return;
    this.#retire(run);
    if (this.#ended !== undefined) return;
    if (error.retryable) void this.#reconnect(error);
    else this.#end(error);
  }

  /** Connects again, with full jitter: a restarted edge must not be met by all its devices at once. */
  async #reconnect(why: DeviceError): Promise<void> {
    if (this.#replacing) return;
    this.#replacing = true;
    this.#options.onReconnect?.(why);
    for (let limit = RECONNECT_FIRST; this.#ended === undefined; limit = Math.min(2 * limit, RECONNECT_LAST)) {
      await pause(Math.random() * limit);
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
      }
    }
    this.#replacing = false;
  }

  #end(error: DeviceError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    const unsent = [...(this.#run?.sent.values() ?? []), ...(this.#sending ? [this.#sending] : []), ...this.#outbox];
    this.#run = undefined;
    this.#outbox = [];
    for (const { reject } of unsent) reject(error);
    this.#inbox.end(error.code === "Closed" ? undefined : error);
    this.#wake?.();
  }
}

function checked<T>(what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof AddressError) throw new DeviceError("InvalidOption", `${what}: ${error.message}`);
    throw error;
  }
}

function closed(): DeviceError {
  return new DeviceError("Closed", "the device was closed");
}

function refusal(reasonId: number | undefined): DeviceError {
  if (reasonId === CloseReasonId.QuotaWouldBeExceeded) {
    return new DeviceError(
      "QuotaWouldBeExceeded",
      "the recipient's mailbox is full, or the message is longer than the relay takes: try again when it has been read",
      { retryable: true },
    );
  }
  return new DeviceError(
    "RecipientRefused",
    `the relay takes no messages for this recipient [${reasonId ?? "refused"}]`,
  );
}

function asDeviceError(error: unknown): DeviceError {
  return error instanceof DeviceError
    ? error
    : new DeviceError("ConnectFailed", String(error), { retryable: true, cause: error });
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
