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
import { setTimeout as sleep } from "node:timers/promises";
import { Queue } from "../lib/queue.ts";
import { type ConnectionEvent, deviceURL, MAX_DATA_OCTETS, type MessageFields } from "../sstp/index.ts";
import { Voucher } from "../store-and-forward/vouch.ts";
import { Carrier, closure, type Destination, isPassing, sessionRefusal, statusRefusal } from "./carrier.ts";
import {
  BUSY_PATIENCE,
  CONNECT_TIMEOUT,
  CONTENT_RESERVE,
  DRAIN_PATIENCE,
  LONGEST_REST,
  OPEN_SESSIONS,
  OUTBOX_OCTETS,
  RECONNECT_FIRST,
  SLICE,
} from "./defaults.ts";
import { DeviceError } from "./error.ts";
import { Inbox } from "./inbox.ts";
import { idFor, idSuffix, type Message, partToWire, type SendOptions } from "./message.ts";
import { type DeviceOptions, type Settings, settingsOf } from "./options.ts";
import { assertSayable, Recipients } from "./recipients.ts";
import { ReconnectPause } from "./reconnect.ts";
import { tokenFrom } from "./token.ts";
import type { TransportName } from "./transport.ts";

/** A message on its way out; userRef is its id. */
interface Outgoing extends MessageFields {
  readonly userRef: string;
  readonly destination: Destination;
  readonly body: Uint8Array;
  readonly resolve: (sent: { readonly id: string }) => void;
  readonly reject: (error: DeviceError) => void;
  /** On which it was sent last. */
  sessionId: number;
}

/** A carrier, and what belongs to it alone. */
interface Run {
  readonly carrier: Carrier;
  /** Sent and not acknowledged, by the engine's number, oldest first. */
  readonly sent: Map<number, Outgoing>;
  /** Those that are being sent, until they are whole or their sessions are gone: more than one when some are suspended. */
  readonly sending: Set<Outgoing>;
  /** What waits for a session, by the key of its destination, in order. */
  readonly waiting: Map<string, Outgoing[]>;
  /** When it was connected. */
  readonly since: number;
  /** The relay has acknowledged a message on it, or the application has taken one for good. */
  carried: boolean;
  /** Another carrier has taken over: what still comes on this one will come again on that. */
  retired: boolean;
  /** Called when a message was acknowledged, or nothing more will be. */
  progress: () => void;
}

const NO_OPTIONS: SendOptions = {};

export class Device {
  readonly address: string;
  readonly #options: DeviceOptions;
  readonly #settings: Settings;
  /** What ids end with. */
  readonly #idSuffix: string;
  /** Tells how a relay writes the ids. */
  readonly #voucher: Voucher;
  readonly #inbox: Inbox;
  readonly #recipients: Recipients;
  /** Not yet sent, oldest first. */
  readonly #outbox = new Queue<Outgoing>();
  /** Of all that is not acknowledged. */
  #outboxOctets = 0;
  #run: Run | undefined;
  #replacing = false;
  readonly #reconnectPause = new ReconnectPause();
  #renewal: Promise<void> | undefined;
  /** Carriers that are being connected. */
  readonly #opening = new Set<Carrier>();
  /** Aborts pauses, so that a closed device holds no timer. */
  readonly #closing = new AbortController();
  #wake: (() => void) | undefined;
  #ended: DeviceError | undefined;
  readonly #onAbort = () => void this.close();

  private constructor(options: DeviceOptions) {
    this.#options = options;
    this.#settings = settingsOf(options);
    this.address = options.address;
    const { self, relay, limit } = this.#settings;
    this.#idSuffix = idSuffix(self);
    this.#voucher = new Voucher(deviceURL(self), false);
    this.#recipients = new Recipients(this.#idSuffix, relay);
    this.#inbox = new Inbox(limit, (engine) => {
      if (this.#run?.carrier.engine === engine) this.#run.carried = true;
    });
  }

  /**
   * Connects a device to its relay. One that is busy and says when to come again is asked again then, for half a minute.
   *
   * @throws DeviceError ConnectFailed, Refused, TokenRefused, RelayRefused, InvalidOption, Closed
   *
   * @example
   * const device = await Device.connect({ edge: "https://edge.example.com", relay: "relay.example.com", address: "alice/laptop" });
   */
  static async connect(options: DeviceOptions): Promise<Device> {
    const device = new Device(options);
    if (options.signal?.aborted) throw closed();
    options.signal?.addEventListener("abort", device.#onAbort, { once: true });
    try {
      device.#adopt(await device.#first());
    } catch (error) {
      const why = device.#ended ?? error;
      device.#end(closed());
      throw why;
    }
    if (device.#ended !== undefined) throw device.#ended;
    return device;
  }

  /** The transport in use. */
  get transport(): TransportName {
    return this.#settings.transport;
  }

  /**
   * Sends a message to `identity` or `identity/device`. Resolves when the relay has it safe, with the id by which
   * its recipient sees it.
   * Messages to one recipient arrive in the order of the calls; those with `onlyIfOnline` have an order of their own.
   *
   * @throws DeviceError MessageTooLong, OutboxFull, QuotaWouldBeExceeded, RecipientRefused, InvalidOption, Closed
   */
  send(to: string, body: Uint8Array | string, options: SendOptions = NO_OPTIONS): Promise<{ readonly id: string }> {
    try {
      return this.#enqueue(to, typeof body === "string" ? Buffer.from(body) : body, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * The messages that arrive, in order, until the device is closed. One that is not `done` is not acknowledged and comes
   * again to the next connection; nothing more is read while 32 MiB of them are not done.
   *
   * @throws DeviceError AddressInUse, RelayRefused, TokenRefused when the connection ended for good
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
    const { limit } = this.#settings;
    if (body.length > limit) {
      throw new DeviceError(
        "MessageTooLong",
        `the message has ${body.length} octets: send at most ${limit}, in parts if need be`,
      );
    }
    if (this.#outboxOctets + body.length > OUTBOX_OCTETS) {
      throw new DeviceError("OutboxFull", `${OUTBOX_OCTETS} octets wait to be acknowledged: await earlier sends`, {
        retryable: true,
      });
    }
    const destination = this.#recipients.destination(to, options.resource ?? "message");
    const userRef = options.id === undefined ? destination.newId() : idFor(options.id, this.#idSuffix);
    const streamSize = options.part && partToWire(options.part, body.length);
    // An id of ours can be said, and so can an addressing that could be before.
    if (options.id !== undefined || options.part !== undefined) assertSayable(destination, { userRef, streamSize });
    return new Promise((resolve, reject) => {
      this.#outboxOctets += body.length;
      this.#outbox.push({
        userRef,
        acknowledgeImmediately: true,
        doNotDeliverIfOffline: options.onlyIfOnline,
        streamSize,
        destination,
        body,
        resolve,
        reject,
        sessionId: 0,
      });
      this.#rouse();
    });
  }

  /** The relay has the message safe. */
  #settle(outgoing: Outgoing): void {
    this.#outboxOctets -= outgoing.body.length;
    outgoing.resolve({ id: this.#voucher.id(outgoing.userRef) });
  }

  #reject(messages: Iterable<Outgoing>, error: DeviceError): void {
    for (const { body, reject } of messages) {
      this.#outboxOctets -= body.length;
      reject(error);
    }
  }

  /** Has the pump look again, if it waits for something to send. */
  #rouse(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** The first connection. */
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
        // A pause is over at once when the device is closed.
        if (this.#ended !== undefined) throw error;
      }
    }
  }

  /** A new carrier, connected; its events are followed from its first. */
  async #open(): Promise<Run> {
    const { edge, contentLength, ca, allowPlain, receive = true } = this.#options;
    const { self: address, transport, relay } = this.#settings;
    const token = await tokenFrom(this.#options.token, this.#closing.signal);
    let run: Run | undefined;
    const carrier = new Carrier(
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
      },
      (event) => run !== undefined && this.#on(run, event),
      () => this.#inbox.full,
    );
    run = {
      carrier,
      sent: new Map(),
      sending: new Set(),
      waiting: new Map(),
      since: performance.now(),
      carried: false,
      retired: false,
      progress: () => undefined,
    };
    this.#opening.add(carrier);
    const timer = setTimeout(() => carrier.abandon(), CONNECT_TIMEOUT);
    try {
      await carrier.connect();
      return run;
    } catch (error) {
      run.retired = true;
      this.#inbox.forget(carrier.engine);
      throw error;
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
    if (over === undefined) this.#pump(run).catch((error: unknown) => run.carrier.end(error));
    else this.#lost(run, closure(over, run.carrier.transport), over.returnTime);
  }

  /** What was sent and not acknowledged will be sent again, before what was not sent at all. */
  #retire(run: Run): void {
    this.#outbox.putBack([...run.sent.values(), ...run.sending, ...[...run.waiting.values()].flat()]);
    run.sent.clear();
    run.sending.clear();
    run.waiting.clear();
    run.retired = true;
    run.progress();
    this.#inbox.forget(run.carrier.engine);
    run.carrier.abandon();
    this.#run = undefined;
  }

  #on(run: Run, event: ConnectionEvent): void {
    if (run.retired) return;
    const { engine } = run.carrier;
    switch (event.type) {
      case "open":
        // Octets behind the Open may have ended the session already.
        if (engine.session(event.sessionId) !== undefined) engine.setAvailability(event.sessionId, "ready");
        break;
      case "acknowledged":
        run.carried = true;
        for (const number of event.messages) {
          const outgoing = this.#take(run, number);
          if (outgoing !== undefined) this.#settle(outgoing);
        }
        run.progress();
        break;
      case "sessionRefused":
        this.#refused(run, event.sessionId, event.unacknowledged, undefined);
        break;
      case "sessionStatus": {
        // The only recipient: what is on its way on that session is not delivered, though it will be acknowledged.
        const numbers = [...run.sent].filter(([, { sessionId }]) => sessionId === event.sessionId).map(([n]) => n);
        const outgoing = numbers.flatMap((number) => this.#take(run, number) ?? []);
        outgoing.push(...this.#takeSending(run, event.sessionId));
        const error = statusRefusal(event.statusId);
        this.#reject(outgoing, error);
        // Whoever is about to send on it must not open it anew for ever.
        if (outgoing.length === 0) run.carrier.fail(event.sessionId, error);
        break;
      }
      case "sessionClosed":
        if (event.kind === "outbound") this.#refused(run, event.sessionId, event.unacknowledged, event.reasonId);
        break;
      case "closed":
        if (this.#run === run) this.#lost(run, closure(event, run.carrier.transport), event.returnTime);
        return;
    }
    this.#inbox.on(run.carrier, event);
    if (event.type === "endMessage" && run.carrier.transport.remaining < this.#needed(this.#settings.limit))
      void this.#renew(run);
  }

  #take(run: Run, number: number): Outgoing | undefined {
    const outgoing = run.sent.get(number);
    run.sent.delete(number);
    return outgoing;
  }

  /** What is being sent on a session, if anything: it is not sent to its end. */
  #takeSending(run: Run, sessionId: number): Outgoing[] {
    const sending = [...run.sending].filter((outgoing) => outgoing.sessionId === sessionId);
    for (const outgoing of sending) run.sending.delete(outgoing);
    return sending;
  }

  /** The relay has closed a session: the messages on it that it did not take go again, or nowhere. */
  #refused(run: Run, sessionId: number, numbers: readonly number[], reasonId: number | undefined): void {
    const outgoing = numbers.flatMap((number) => this.#take(run, number) ?? []);
    outgoing.push(...this.#takeSending(run, sessionId));
    if (isPassing(reasonId)) {
      const behind = run.waiting.get(outgoing[0]?.destination.key ?? "");
      if (behind === undefined) this.#outbox.putBack(outgoing);
      else behind.unshift(...outgoing);
      this.#rouse();
    } else if (outgoing.length > 0) this.#reject(outgoing, sessionRefusal(reasonId));
  }

  /**
   * Sends what the outbox has, one message after another, as long as this carrier is the one in use. A message whose session
   * is not ready waits aside with those behind it for the same destination; the others go on. It waits only for
   * what is not so yet: between messages that can go at once nothing else happens.
   */
  async #pump(run: Run): Promise<void> {
    const { carrier } = run;
    const { engine } = carrier;
    // When the connection is over the messages go to the next carrier, which has a pump of its own.
    while (this.#run === run && engine.closed === undefined) {
      const next = this.#outbox.first;
      if (next === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      const { key } = next.destination;
      const behind = run.waiting.size > 0 ? run.waiting.get(key) : undefined;
      if (behind !== undefined) {
        this.#outbox.shift();
        behind.push(next);
        continue;
      }
      const short = carrier.transport.remaining - engine.pendingOctets < this.#needed(next.body.length);
      if (short || this.#renewal !== undefined) {
        await this.#renew(run);
        if (this.#run === run && short) await this.#pause(RECONNECT_FIRST);
        continue;
      }
      const sessionId = carrier.readySession(next.destination);
      if (sessionId === undefined) {
        if (run.waiting.size >= OPEN_SESSIONS) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          continue;
        }
        this.#outbox.shift();
        run.waiting.set(key, [next]);
        this.#prepare(run, next).catch((error: unknown) => carrier.end(error));
        continue;
      }
      this.#outbox.shift();
      next.sessionId = sessionId;
      try {
        if (next.body.length > SLICE) await this.#transmitLong(run, next);
        else this.#transmit(run, next);
      } catch (error) {
        // It is on no list now. The next connection would fail by it as well.
        run.sending.delete(next);
        this.#reject([next], unexpected(error));
        throw error;
      }
      if (engine.pendingOctets < SLICE) void carrier.flush();
      else await carrier.flush();
    }
  }

  /** Waits for a session to send a message on; when there can be none the message is given up, or waits a little. */
  async #prepare(run: Run, next: Outgoing): Promise<void> {
    const { carrier, waiting } = run;
    const { key } = next.destination;
    const outcome = await carrier.session(next.destination);
    // What was awaited may be over by now; then the next carrier is asked.
    if (run.retired || carrier.engine.closed !== undefined) return;
    if (!outcome.ok) {
      const { retryable, code } = outcome.error;
      if (retryable && code !== "QuotaWouldBeExceeded" && code !== "RelayUnreachable") {
        await this.#pause(RECONNECT_FIRST);
      } else {
        const all = waiting.get(key) ?? [];
        const at = all.indexOf(next);
        if (at >= 0) all.splice(at, 1);
        if (at >= 0) this.#reject([next], outcome.error);
      }
    }
    this.#goOn(run, key);
  }

  /** What waited for a destination may be sent. */
  #goOn(run: Run, key: string): void {
    const waiting = run.waiting.get(key);
    if (waiting === undefined) return;
    run.waiting.delete(key);
    this.#outbox.putBack(waiting);
    this.#rouse();
  }

  #transmit({ carrier: { engine }, sent }: Run, outgoing: Outgoing): void {
    const { sessionId } = outgoing;
    engine.beginMessage(sessionId, outgoing);
    engine.data(sessionId, outgoing.body);
    sent.set(engine.endMessage(sessionId), outgoing);
  }

  /**
   * Sends a message slice by slice. When its session or its carrier goes meanwhile, what ends them decides about the
   * message. Resolves when it is whole, or cannot go on for now: the rest is sent when its session is ready again.
   */
  async #transmitLong(run: Run, outgoing: Outgoing, from = 0): Promise<void> {
    const { carrier, sent, sending, waiting } = run;
    const { engine } = carrier;
    const { sessionId, body, destination } = outgoing;
    if (from === 0) {
      sending.add(outgoing);
      engine.beginMessage(sessionId, outgoing);
    }
    const goesOn = () => !run.retired && sending.has(outgoing) && engine.closed === undefined;
    for (let at = from; at < body.length; at += SLICE) {
      engine.data(sessionId, body.subarray(at, at + SLICE));
      if (engine.pendingOctets < SLICE) continue;
      await carrier.flush();
      if (!goesOn()) return;
      if (carrier.ready(sessionId)) continue;
      if (!waiting.has(destination.key)) waiting.set(destination.key, []);
      this.#resume(run, outgoing, at + SLICE, goesOn).catch((error: unknown) => carrier.end(error));
      return;
    }
    sent.set(engine.endMessage(sessionId), outgoing);
    sending.delete(outgoing);
  }

  /** Sends the rest of a message when its session is ready again, and then what waits behind it. */
  async #resume(run: Run, outgoing: Outgoing, from: number, goesOn: () => boolean): Promise<void> {
    const { carrier } = run;
    const { sessionId, destination } = outgoing;
    while (goesOn() && !carrier.ready(sessionId)) await carrier.session(destination);
    if (goesOn()) await this.#transmitLong(run, outgoing, from);
    // It may wait once more.
    if (!run.retired && !run.sending.has(outgoing)) this.#goOn(run, destination.key);
    void carrier.flush();
  }

  /** Octets that a message takes on the wire, and what must be left after it. */
  #needed(length: number): number {
    return length + Math.ceil(length / MAX_DATA_OCTETS) * 7 + CONTENT_RESERVE;
  }

  /** Replaces a carrier that is nearly used up, without a pause: the new one is connected before the old one goes. */
  #renew(run: Run): Promise<void> {
    this.#renewal ??= this.#replace(run).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  /** Waits for an acknowledgement. False when none came for a while. */
  async #progress(run: Run): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const progressed = await new Promise<boolean>((resolve) => {
      run.progress = () => resolve(true);
      timer = setTimeout(() => resolve(false), DRAIN_PATIENCE);
    });
    clearTimeout(timer);
    return progressed;
  }

  async #replace(run: Run): Promise<void> {
    // The relay gives up the old connection with all that is under way on it. Sent again, that could use up the next one
    // as well, and the one after it, so nothing new is sent until all is acknowledged.
    while (this.#run === run && (run.sent.size > 0 || run.sending.size > 0)) {
      const progressed = await this.#progress(run);
      if (!progressed && run.sending.size === 0) break;
    }
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

  #lost(run: Run, error: DeviceError, returnTime = 0): void {
    // The relay closes the old connection of a device when the new one comes: that is what is wanted here.
    if (this.#replacing) return;
    this.#retire(run);
    if (this.#ended !== undefined) return;
    this.#reconnectPause.lost(run.carried, performance.now() - run.since);
    const usedUp = run.carrier.transport.remaining < this.#needed(this.#settings.limit);
    if (error.retryable)
      void this.#reconnect(error, Math.max(Math.min(returnTime * 1000, LONGEST_REST), restOf(error)), usedUp);
    else this.#end(error);
  }

  /**
   * Connects again, with full jitter: a restarted edge must not be met by all its devices at once. A relay that rests
   * says for how long it wants to be left alone [MS-GRVSSTP 3.1.5.4]. One that was of use and is merely used up is replaced
   * at once.
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

  /** Waits, but not longer than the device lives. */
  async #pause(milliseconds: number): Promise<void> {
    if (milliseconds <= 0) return;
    await sleep(milliseconds, undefined, { signal: this.#closing.signal }).catch(() => undefined);
  }

  #end(error: DeviceError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#closing.abort();
    for (const carrier of this.#opening) carrier.abandon();
    const { sent, sending, waiting } = this.#run ?? {};
    const aside = [...(waiting?.values() ?? [])].flat();
    const unsent = [...(sent?.values() ?? []), ...(sending ?? []), ...aside, ...this.#outbox];
    this.#run?.progress();
    this.#run = undefined;
    this.#outbox.clear();
    this.#reject(unsent, error);
    this.#inbox.end(error.code === "Closed" ? undefined : error);
    this.#rouse();
  }
}

function closed(): DeviceError {
  return new DeviceError("Closed", "the device was closed");
}

/** Milliseconds for which whoever refused a connection wants to be left alone; 0 when that was not said. */
function restOf(error: unknown): number {
  const seconds = error instanceof DeviceError ? (error.retryAfter ?? 0) : 0;
  return Math.min(seconds * 1000, LONGEST_REST);
}

function unexpected(cause: unknown): DeviceError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new DeviceError("InternalError", `something unexpected happened in this library: ${message}`, { cause });
}

function asDeviceError(error: unknown): DeviceError {
  return error instanceof DeviceError
    ? error
    : new DeviceError("ConnectFailed", String(error), { retryable: true, cause: error });
}
