/**
 * A channel of a device: joins the engine (`streams/channel.ts`) to the connections of the device on one side, and to the
 * application's streams on the other. It outlives any number of connections.
 *
 * Packets go in messages with flag D. How many are on their way is bounded by their acknowledgements (`limits.ts`). What
 * is lost on the way the engine sends again.
 *
 * @module
 */
import { atTime, endOfTurn } from "../../lib/runtime/timeout.ts";
import type { ChannelEvent, Reason, StreamChannel } from "../../streams/index.ts";
import { asDeviceError } from "../climb.ts";
import type { DeviceError } from "../device-error.ts";
import { CONTENT_RESERVE, RECONNECT_FIRST } from "../limits.ts";
import type { Destination, RelayConnection } from "../relay-connection.ts";
import { ChannelStream, StreamError, type StreamOwner, type StreamPeer } from "./device-stream.ts";
import {
  BATCH,
  FLIGHT_FIRST,
  FLIGHT_LEAST,
  FLIGHT_MOST,
  FLIGHT_OF_DEVICE,
  IDLE_ANSWERED,
  IDLE_CHANNEL,
  SLOW_ACKNOWLEDGEMENT,
} from "./limits.ts";

/** What a channel needs of its device. */
export interface ChannelHost {
  /** The connection in use. */
  readonly carrier: RelayConnection | undefined;
  /** Whether no new message may begin on the connection, because it is being replaced. */
  readonly isRenewing: () => boolean;
  /** Replaces a connection that is nearly used up. */
  readonly renew: () => Promise<void>;
  readonly pause: (milliseconds: number) => Promise<void>;
  /** Bytes of all channels that are on their way. */
  readonly inFlight: number;
  /** A message of this channel is on its way. */
  sent(number: number, channel: DeviceChannel): void;
  /** The other end opens a stream. */
  opened(stream: ChannelStream): void;
  /** The channel has ended, and said so. */
  ended(channel: DeviceChannel): void;
}

/** A message on its way. */
interface Batch {
  readonly octets: number;
  readonly at: number;
}

export interface DeviceChannelOptions {
  readonly host: ChannelHost;
  readonly channel: StreamChannel;
  /** Whether this device has dialed. */
  readonly isDialer: boolean;
  /** Where its packets go. */
  readonly destination: Destination;
  /** The address at the other end. */
  readonly address: string;
}

export class DeviceChannel implements StreamOwner {
  readonly channel: StreamChannel;
  readonly isDialer: boolean;
  /** As it was dialed, or as the edge vouches for it. An identity becomes the device that answers. */
  address: string;
  /** The answer whose key is being judged came from this address. */
  answering: string;
  readonly #host: ChannelHost;
  readonly #destination: Destination;
  readonly #streams = new Map<number, ChannelStream>();
  readonly #flight = new Map<number, Batch>();
  #inFlight = 0;
  #window = FLIGHT_FIRST;
  #pumping = false;
  #isSettling = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  /** Since when there is no stream. */
  #idleSince: number | undefined;
  #isEstablished = false;
  #isGone = false;
  /** Why the way to the other end is closed for good. */
  #failure: DeviceError | undefined;

  constructor({ host, channel, isDialer, destination, address }: DeviceChannelOptions) {
    this.#host = host;
    this.channel = channel;
    this.isDialer = isDialer;
    this.#destination = destination;
    this.address = address;
    this.answering = address;
    if (host.carrier !== undefined) channel.attach(performance.now());
  }

  get peer(): StreamPeer {
    return { address: this.address, key: this.channel.peerKey };
  }

  /** Key of the sessions on which its packets go. */
  get destinationKey(): string {
    return this.#destination.key;
  }

  /** Bytes that the edge has not acknowledged. */
  get inFlight(): number {
    return this.#inFlight;
  }

  get isEstablished(): boolean {
    return this.#isEstablished;
  }

  /** A stream that this side has opened. */
  add(id: number, service: string): ChannelStream {
    const stream = new ChannelStream(this, id, service, true);
    this.#streams.set(id, stream);
    return stream;
  }

  /** There is a connection, or a new one. */
  attach(): void {
    this.#forgetFlight();
    this.channel.attach(performance.now());
    this.settle();
  }

  /** The connection is lost. */
  detach(): void {
    this.#forgetFlight();
    this.channel.detach(performance.now());
    this.settle();
  }

  /** Handles the body of a packet. Call `settle` afterwards. */
  receive(from: string, body: Uint8Array): void {
    this.answering = from;
    this.channel.receive(body, performance.now());
  }

  /** The edge has acknowledged a message. */
  acknowledged(number: number): void {
    const batch = this.#flight.get(number);
    if (batch === undefined) return;
    this.#flight.delete(number);
    this.#inFlight -= batch.octets;
    if (performance.now() - batch.at > SLOW_ACKNOWLEDGEMENT) this.#window = Math.max(FLIGHT_LEAST, this.#window / 2);
    else this.#window = Math.min(FLIGHT_MOST, this.#window + batch.octets);
  }

  /** There may be room for more on the way. */
  resume(): void {
    this.#pumpSoon();
  }

  /**
   * The session is closed, with what was on its way.
   *
   * @param failure why the other end cannot be reached, unless that may pass
   */
  lost(numbers: readonly number[], failure: DeviceError | undefined): void {
    for (const number of numbers) {
      this.#inFlight -= this.#flight.get(number)?.octets ?? 0;
      this.#flight.delete(number);
    }
    if (failure !== undefined) this.fail(failure);
    else if (numbers.length > 0) this.channel.attach(performance.now());
    this.settle();
  }

  /** Ends the channel because the other end cannot be reached. */
  fail(failure: DeviceError): void {
    this.#failure ??= failure;
    this.channel.close();
    this.settle();
    this.#gone();
  }

  /** Ends the channel, and sends the reason at once if that is possible. */
  close(reason: Reason): void {
    this.channel.close(reason);
    const { carrier } = this.#host;
    const sessionId = carrier?.readySession(this.#destination);
    if (carrier !== undefined && sessionId !== undefined) this.#send(carrier, sessionId);
    this.settle();
  }

  /** Sends nothing more, not even why it has ended. */
  abandon(): void {
    this.#gone();
  }

  /** To be called after every call of the engine: hands on its events, sends what there is to send, sets the timer. */
  settle(): void {
    // An event handler calls this again; the outer call goes on with what that has caused.
    if (this.#isSettling) return;
    this.#isSettling = true;
    try {
      for (let events = this.channel.events(); events.length > 0; events = this.channel.events()) {
        for (const event of events) this.#on(event);
      }
    } finally {
      this.#isSettling = false;
    }
    if (this.channel.streams > 0 || !this.#isEstablished) this.#idleSince = undefined;
    else this.#idleSince ??= performance.now();
    this.#pumpSoon();
    if (this.channel.ended !== undefined && !this.channel.isPending) this.#gone();
    else this.#setTimer();
  }

  #on(event: ChannelEvent): void {
    switch (event.type) {
      case "established":
        this.#isEstablished = true;
        this.address = this.answering;
        break;
      case "opened": {
        const stream = new ChannelStream(this, event.stream, event.service, false);
        this.#streams.set(event.stream, stream);
        this.#host.opened(stream);
        break;
      }
      case "accepted":
        this.#streams.get(event.stream)?.wasAccepted();
        break;
      case "readable":
      case "writable":
        this.#streams.get(event.stream)?.move();
        break;
      case "finished":
        this.#streams.get(event.stream)?.finish();
        this.#streams.delete(event.stream);
        break;
      case "reset":
        this.#streams.get(event.stream)?.fail(this.#failure ?? new StreamError(event.reason, this.address));
        this.#streams.delete(event.stream);
        break;
      case "ended":
        break;
    }
  }

  #forgetFlight(): void {
    this.#flight.clear();
    this.#inFlight = 0;
  }

  #gone(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    clearTimeout(this.#timer);
    this.#host.ended(this);
  }

  /** The connection in use, unless it has ended. One that is being replaced may be in use until then. */
  get #usable(): RelayConnection | undefined {
    const { carrier } = this.#host;
    return carrier?.engine.closed === undefined ? carrier : undefined;
  }

  get #isFull(): boolean {
    return this.#inFlight >= this.#window || this.#host.inFlight >= FLIGHT_OF_DEVICE;
  }

  #pumpSoon(): void {
    if (this.#pumping || this.#isGone || !this.channel.isPending || this.#isFull) return;
    // The next connection brings it forward.
    if (this.#usable === undefined) return;
    this.#pumping = true;
    void this.#pump();
  }

  async #pump(): Promise<void> {
    try {
      // What is written in this turn goes together.
      await Promise.resolve();
      while (this.channel.isPending && !this.#isFull && !this.#isGone) {
        const carrier = this.#usable;
        if (carrier === undefined) break;
        if (this.#isUsedUp(carrier)) {
          await this.#host.renew();
          // A replacement that has failed is tried again.
          if (this.#host.carrier === carrier && this.#isUsedUp(carrier)) await this.#host.pause(RECONNECT_FIRST);
          continue;
        }
        const sessionId = carrier.readySession(this.#destination) ?? (await this.#session(carrier));
        if (sessionId === undefined || this.#host.carrier !== carrier || !carrier.ready(sessionId)) {
          // The change is reported in a later turn.
          await endOfTurn();
          continue;
        }
        this.#send(carrier, sessionId);
        await carrier.flush();
      }
    } catch (error) {
      this.fail(asDeviceError(error));
    } finally {
      this.#pumping = false;
    }
    this.settle();
  }

  /** Whether the connection has no room for a batch, or is being replaced. */
  #isUsedUp({ transport, engine }: RelayConnection): boolean {
    return this.#host.isRenewing() || transport.remaining - engine.pendingOctets < 2 * BATCH + CONTENT_RESERVE;
  }

  /** A session that is ready; undefined if there is none now. */
  async #session(carrier: RelayConnection): Promise<number | undefined> {
    const outcome = await carrier.session(this.#destination);
    if (outcome.ok) return outcome.sessionId;
    if (this.#host.carrier !== carrier) return undefined;
    if (!outcome.error.retryable) this.fail(outcome.error);
    else await this.#host.pause(RECONNECT_FIRST);
    return undefined;
  }

  #send(carrier: RelayConnection, sessionId: number): void {
    const now = performance.now();
    const packets = this.channel.output(Math.min(BATCH, this.#window), now);
    if (packets.length === 0) return;
    const { engine } = carrier;
    engine.beginMessage(sessionId, {
      userRef: this.#destination.newId(),
      acknowledgeImmediately: true,
      doNotDeliverIfOffline: true,
    });
    let octets = 0;
    for (const packet of packets) {
      engine.data(sessionId, packet);
      octets += packet.length;
    }
    const number = engine.endMessage(sessionId);
    this.#flight.set(number, { octets, at: now });
    this.#inFlight += octets;
    this.#host.sent(number, this);
  }

  /** When a channel without streams is closed. */
  get #idleDeadline(): number {
    if (this.#idleSince === undefined) return Number.POSITIVE_INFINITY;
    return this.#idleSince + (this.isDialer ? IDLE_CHANNEL : IDLE_ANSWERED);
  }

  #setTimer(): void {
    const deadline = Math.min(this.channel.deadline, this.#idleDeadline);
    if (deadline === this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    if (deadline === Number.POSITIVE_INFINITY) return;
    this.#timer = atTime(deadline, () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      const now = performance.now();
      this.channel.advance(now);
      if (now >= this.#idleDeadline) this.channel.close();
      this.settle();
    });
  }
}
