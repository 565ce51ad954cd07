/**
 * A channel of a device: joins the engine (`streams/channel.ts`) to the connections of the device on one side, and to the
 * application's streams on the other. It outlives any number of connections.
 *
 * Packets go in messages with flag D. How many are on their way is bounded for the device (flight.ts). What is lost on
 * the way the engine sends again.
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
import type { Flight } from "./flight.ts";
import { BATCH, IDLE_ANSWERED, IDLE_CHANNEL, LAST_PACKET } from "./limits.ts";

/** What a channel needs of its device. */
export interface ChannelHost {
  /** The connection in use. */
  readonly carrier: RelayConnection | undefined;
  /** Whether no new message may begin on the connection, because it is being replaced. */
  readonly isRenewing: () => boolean;
  /** Replaces a connection that is nearly used up. */
  readonly renew: () => Promise<void>;
  readonly pause: (milliseconds: number) => Promise<void>;
  /** What all channels have on their way. */
  readonly flight: Flight;
  /** A stream is used. */
  used(): void;
  /** A message of this channel is on its way. */
  sent(number: number, channel: DeviceChannel): void;
  /** The other end opens a stream. */
  opened(stream: ChannelStream): void;
  /** The channel has ended, and said so. */
  ended(channel: DeviceChannel): void;
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
  /** Whether the other end is the edge, whose key means nothing. Default false. */
  readonly isToEdge?: boolean;
}

export class DeviceChannel implements StreamOwner {
  readonly channel: StreamChannel;
  readonly isDialer: boolean;
  readonly isToEdge: boolean;
  /** As it was dialed, or as the edge vouches for it. An identity becomes the device that answers. */
  address: string;
  /** The answer whose key is being judged came from this address. */
  answering: string;
  readonly #host: ChannelHost;
  readonly #destination: Destination;
  readonly #streams = new Map<number, ChannelStream>();
  #pumping = false;
  #isSettling = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  /** Since when there is no stream. */
  #idleSince: number | undefined;
  /** When the channel has ended; undefined while it has not. */
  #endedAt: number | undefined;
  #isEstablished = false;
  #isGone = false;
  /** Why the way to the other end is closed for good. */
  #failure: DeviceError | undefined;

  constructor({ host, channel, isDialer, destination, address, isToEdge = false }: DeviceChannelOptions) {
    this.#host = host;
    this.channel = channel;
    this.isDialer = isDialer;
    this.isToEdge = isToEdge;
    this.#destination = destination;
    this.address = address;
    this.answering = address;
    if (host.carrier !== undefined) channel.attach(performance.now());
  }

  get peer(): StreamPeer {
    return { address: this.address, key: this.isToEdge ? undefined : this.channel.peerKey };
  }

  /** Key of the sessions on which its packets go. */
  get destination(): Destination {
    return this.#destination;
  }

  get destinationKey(): string {
    return this.#destination.key;
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
    this.channel.attach(performance.now());
    this.settle();
  }

  /** The connection is lost. */
  detach(): void {
    this.channel.detach(performance.now());
    this.settle();
  }

  /** Handles the body of a packet. Call `settle` afterwards. */
  receive(from: string, body: Uint8Array): void {
    this.answering = from;
    this.channel.receive(body, performance.now());
  }

  /** There may be room for more on the way. */
  resume(): void {
    this.#pumpSoon();
  }

  /**
   * The session is closed.
   *
   * @param isAnyLost whether messages were on their way, or the relay has lost some
   * @param failure why the other end cannot be reached, unless that may pass
   */
  lost(isAnyLost: boolean, failure: DeviceError | undefined): void {
    if (failure !== undefined) this.fail(failure);
    else if (isAnyLost) this.channel.attach(performance.now());
    this.settle();
  }

  /** Ends the channel because the other end cannot be reached. */
  fail(failure: DeviceError): void {
    // The edge refuses the session of a device whose token allows no destinations.
    const isScope = this.isToEdge && failure.code === "RecipientRefused";
    this.#failure ??= isScope ? new StreamError("OriginScopeMissing", this.address) : failure;
    this.channel.close();
    this.settle();
    this.#gone();
  }

  /**
   * Ends the channel, and sends the reason at once if that is possible.
   *
   * @param failure what the streams here end with instead
   */
  close(reason: Reason, failure?: DeviceError): void {
    this.#failure ??= failure;
    this.channel.close(reason);
    const { carrier } = this.#host;
    const sessionId = carrier?.readySession(this.#destination);
    if (carrier !== undefined && sessionId !== undefined) {
      this.#send(carrier, sessionId);
      void carrier.flush();
    }
    this.settle();
  }

  /** Sends nothing more, not even why it has ended. */
  abandon(): void {
    this.#gone();
  }

  used(): void {
    this.#host.used();
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
        this.#endedAt = performance.now();
        break;
    }
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

  #pumpSoon(): void {
    if (this.#pumping || this.#isGone || !this.channel.isPending || this.#host.flight.isFull) return;
    // The next connection brings it forward.
    if (this.#usable === undefined) return;
    this.#pumping = true;
    void this.#pump();
  }

  async #pump(): Promise<void> {
    try {
      // What is written in this turn goes together.
      await Promise.resolve();
      while (this.channel.isPending && !this.#host.flight.isFull && !this.#isGone) {
        const carrier = this.#usable;
        if (carrier === undefined) break;
        if (this.#isUsedUp(carrier)) {
          await this.#host.renew();
          // A replacement that has failed is tried again.
          if (this.#host.carrier === carrier && this.#isUsedUp(carrier)) await this.#host.pause(RECONNECT_FIRST);
          continue;
        }
        // What other channels have sent in this turn. Above ANSWERS_AHEAD the device would stop reading.
        if (carrier.engine.pendingOctets > BATCH) {
          await carrier.flush();
          continue;
        }
        const sessionId = carrier.readySession(this.#destination) ?? (await this.#session(carrier));
        if (sessionId === undefined || this.#host.carrier !== carrier || !carrier.ready(sessionId)) {
          // The change is reported in a later turn.
          await endOfTurn();
          continue;
        }
        this.#send(carrier, sessionId);
        await carrier.flushNow();
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
    // The relay of the other end is away. Streams outlive that, and a person who dials wants to know.
    const isNew = this.isDialer && !this.#isEstablished && outcome.error.code === "RelayUnreachable";
    if (isNew || !outcome.error.retryable) this.fail(outcome.error);
    else await this.#host.pause(RECONNECT_FIRST);
    return undefined;
  }

  #send(carrier: RelayConnection, sessionId: number): void {
    const now = performance.now();
    const { flight } = this.#host;
    const packets = this.channel.output(Math.min(BATCH, flight.window), now);
    if (packets.length === 0) return;
    const { engine } = carrier;
    const octets = packets.reduce((sum, { length }) => sum + length, 0);
    const isUrgent = flight.isUrgent(octets);
    engine.expectMessage(octets);
    engine.beginMessage(sessionId, {
      userRef: this.#destination.newId(),
      acknowledgeImmediately: isUrgent,
      doNotDeliverIfOffline: true,
    });
    for (const packet of packets) engine.data(sessionId, packet);
    const number = engine.endMessage(sessionId);
    flight.sent(number, octets, now, isUrgent);
    this.#host.sent(number, this);
  }

  /** When a channel without streams is closed. */
  get #idleDeadline(): number {
    if (this.#idleSince === undefined) return Number.POSITIVE_INFINITY;
    return this.#idleSince + (this.isDialer ? IDLE_CHANNEL : IDLE_ANSWERED);
  }

  /** When a channel that has ended is forgotten, though it could not say so. */
  get #goneDeadline(): number {
    return this.#endedAt === undefined ? Number.POSITIVE_INFINITY : this.#endedAt + LAST_PACKET;
  }

  /** A timer that fires early just sets another. That is cheaper than a new one for every packet. */
  #setTimer(): void {
    const deadline = Math.min(this.channel.deadline, this.#idleDeadline, this.#goneDeadline);
    if (this.#timerAt <= deadline) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = atTime(deadline, () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      const now = performance.now();
      this.channel.advance(now);
      if (now >= this.#idleDeadline) this.channel.close();
      if (now >= this.#goneDeadline) this.#gone();
      else this.settle();
    });
  }
}
