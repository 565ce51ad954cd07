/**
 * The streams of a device: which channels there are, which packet is for which, and which services are offered.
 *
 *   dial() ─► channel to the other device ─► stream ─► its handler of the service
 *   dialOrigin() ─► channel to the edge ─► stream ─► the edge's TCP connection
 *   messages on the resource `stream` ─► packets ─► channel of (sender, route)
 *
 * The sender of a packet is whom the relay vouches for, so no device can disturb the channels of others. What a packet
 * says, its channel judges.
 *
 * @module
 */

import { formatHostPort, parseHostPort } from "../../lib/host-port.ts";
import { sleep, within } from "../../lib/runtime/timeout.ts";
import {
  CloseReasonId,
  type ConnectionEvent,
  formatAddress,
  ORIGIN_RESOURCE,
  parseAddress,
  parseURL,
  STREAM_RESOURCE,
  withoutInstance,
} from "../../sstp/index.ts";
import {
  ALL_ROUTES,
  type CipherSuite,
  CreditPool,
  EDGE_ADDRESS,
  encodeNotice,
  isHello,
  isNotice,
  isSameKey,
  isServiceName,
  KeptPool,
  PACKET_HEADER,
  PacketDecoder,
  RESUME_TIME,
  type Reason,
  StreamChannel,
} from "../../streams/index.ts";
import { DeviceError } from "../device-error.ts";
import { CLOSE_TIMEOUT } from "../limits.ts";
import { validOption } from "../recipients.ts";
import { type Destination, isPassing, type RelayConnection, sessionRefusal } from "../relay-connection.ts";
import { type ChannelHost, DeviceChannel } from "./device-channel.ts";
import { type ChannelStream, type DeviceStream, StreamError } from "./device-stream.ts";
import { Flight } from "./flight.ts";
import type { Keyring } from "./keyring.ts";
import {
  ACKNOWLEDGE_OCTETS,
  CHANNELS,
  CHANNELS_OF_IDENTITY,
  DRAIN_LOOK,
  FLIGHT_IN_TURNS,
  FLIGHT_MOST,
  LAST_PACKET,
  NOTICES,
} from "./limits.ts";

/** Serves a stream that another device has opened. */
export type StreamHandler = (stream: DeviceStream) => void | Promise<void>;

export interface DialOptions {
  /** Gives up, or resets the stream that was opened. */
  readonly signal?: AbortSignal;
}

export interface StreamHostOptions {
  /** This device's address. */
  readonly address: string;
  readonly keyring: Keyring;
  /** The first is proposed to devices that are dialed. */
  readonly suites: readonly [CipherSuite, ...CipherSuite[]];
  /** Whether records may be in the clear. */
  readonly plain?: boolean | undefined;
  /** How long streams that other devices have opened outlive their path, in milliseconds. */
  readonly resumeTime?: number | undefined;
  /** Called when a device that dials this one is refused. */
  readonly onRefused?: ((address: string, reason: Reason) => void) | undefined;
  /** Called when a device that dials this one cannot be answered, because the relay refuses the session to it. */
  readonly onUnanswered?: ((address: string, error: DeviceError) => void) | undefined;
  /** Says more about why the relay refuses the session to a device. */
  readonly refusal?: ((error: DeviceError, destination: Destination) => DeviceError) | undefined;
  /** @throws DeviceError InvalidOption */
  readonly destination: (to: string, resourceURL: string) => Destination;
  readonly isRenewing: () => boolean;
  readonly renew: () => Promise<void>;
  readonly pause: (milliseconds: number) => Promise<void>;
}

/** Takes the packets of messages that arrive on one session. */
export interface PacketReceiver {
  /** @param from address of the sender, in canonical form; undefined if it is not known */
  begin(from: string | undefined): void;
  data(octets: Uint8Array): void;
  end(): void;
}

/** The other end of a channel to origins, in place of an address. No device has this one. */
const EDGE = "the edge";

/** A reason why a channel from before does not work any more, and a new one may. */
const OUTDATED: readonly Reason[] = ["ChannelUnknown", "Closed", "ResumeTimeout"];

export class StreamHost implements ChannelHost {
  readonly #options: StreamHostOptions;
  readonly #pool = new CreditPool();
  readonly #keptPool = new KeptPool();
  readonly #services = new Map<string, StreamHandler>();
  /** By the address at the other end and the route. */
  readonly #channels = new Map<string, DeviceChannel>();
  /** Channels that this device has dialed, by the address as dialed. */
  readonly #dialed = new Map<string, DeviceChannel>();
  readonly flight = new Flight();
  /** Channels with messages on their way, by the number of the message. */
  readonly #flights = new Map<number, DeviceChannel>();
  #carrier: RelayConnection | undefined;
  #notices = 0;
  #turn = 0;
  /** When bytes of a stream last came from the application or went to it. */
  #usedAt = 0;
  #ended: DeviceError | undefined;
  readonly #forget: (() => void) | undefined;

  constructor(options: StreamHostOptions) {
    this.#options = options;
    this.#forget = options.keyring.onWithdrawn?.(() => this.#judgeAgain());
  }

  // ---------------------------------------------------------------------------------------------------- application

  /**
   * Offers a service to the devices that the keyring admits. Returns a function that ends the offer; its streams go on.
   *
   * @throws DeviceError InvalidOption
   */
  serve(service: string, handler: StreamHandler): () => void {
    if (!isServiceName(service)) throw invalid(`service: ${SERVICE_NAME}`);
    if (this.#services.has(service)) throw invalid(`the service ${service} is offered already: end that offer first`);
    this.#services.set(service, handler);
    return () => {
      if (this.#services.get(service) === handler) this.#services.delete(service);
    };
  }

  /**
   * Opens a stream to a service of another device. Resolves when that has accepted it.
   *
   * @throws DeviceError StreamReset, RecipientRefused, InvalidOption, Aborted, Closed
   */
  async dial(to: string, service: string, { signal }: DialOptions = {}): Promise<DeviceStream> {
    if (!isServiceName(service)) throw invalid(`service: ${SERVICE_NAME}`);
    for (let usePin = true; ; ) {
      if (this.#ended !== undefined) throw this.#ended;
      if (signal?.aborted) throw aborted();
      const before = this.#channelTo(to);
      const channel: DeviceChannel = before ?? this.#connect(to, usePin);
      try {
        return await this.#open(channel, service, signal);
      } catch (error) {
        if (!(error instanceof StreamError)) throw error;
        // A device with another key than the pinned one cannot even read whom it refuses. This asks which key it has.
        const isMismatch = error.reason === "HandshakeFailed" && channel.channel.isPinned;
        const isOutdated = before !== undefined && OUTDATED.includes(error.reason);
        if (!isMismatch && !isOutdated) throw error;
        usePin = !isMismatch;
      }
    }
  }

  async #open(channel: DeviceChannel, service: string, signal: AbortSignal | undefined): Promise<DeviceStream> {
    const opened = channel.channel.open(service);
    if (!opened.ok) throw new StreamError(opened.problems, channel.address);
    const stream = channel.add(opened.value, service);
    channel.settle();
    const onAbort = () => stream.reset();
    signal?.addEventListener("abort", onAbort, { once: true });
    void stream.closed.catch(() => undefined).then(() => signal?.removeEventListener("abort", onAbort));
    try {
      await stream.accepted;
    } catch (error) {
      throw signal?.aborted ? aborted() : error;
    }
    return stream;
  }

  /**
   * Opens a stream to a TCP destination that the edge dials, `host:port`. Resolves when that has accepted.
   *
   * @throws DeviceError StreamReset, InvalidOption, Aborted, Closed
   */
  async dialOrigin(to: string, { signal }: DialOptions = {}): Promise<DeviceStream> {
    const origin = originName(to);
    for (;;) {
      if (this.#ended !== undefined) throw this.#ended;
      if (signal?.aborted) throw aborted();
      if (this.#carrier?.dialsOrigins === false) throw new StreamError("OriginNotAllowed", origin);
      const before = this.#live(EDGE);
      try {
        return await this.#open(before ?? this.#connectEdge(), origin, signal);
      } catch (error) {
        if (!(error instanceof StreamError)) throw error;
        if (before === undefined || !OUTDATED.includes(error.reason)) {
          throw new StreamError(error.reason, origin, { cause: error });
        }
      }
    }
  }

  #channelTo(to: string): DeviceChannel | undefined {
    return this.#live(canonical(to));
  }

  #live(dialed: string): DeviceChannel | undefined {
    const channel = this.#dialed.get(dialed);
    return channel?.channel.ended === undefined ? channel : undefined;
  }

  /** @param usePin whether only a device with the pinned key, if there is one, can answer; its key is judged anyway */
  #connect(to: string, usePin: boolean): DeviceChannel {
    if (this.#channels.size >= CHANNELS) throw new StreamError("TooManyStreams", this.#options.address);
    const { keyring, suites, plain, address: own, resumeTime = RESUME_TIME } = this.#options;
    const dialed = canonical(to);
    const destination = this.#options.destination(dialed, STREAM_RESOURCE);
    // A relay that is ours is not in the addresses of its devices.
    const address = destination.relayURL === "" ? bare(dialed) : dialed;
    const route = newRoute();
    let made: DeviceChannel | undefined;
    const channel = new StreamChannel({
      role: "initiator",
      route,
      pool: this.#pool,
      keptPool: this.#keptPool,
      peer: identityIn(address),
      copiesPackets: true,
      acknowledgeOctets: ACKNOWLEDGE_OCTETS,
      now: performance.now(),
      suites,
      plain,
      initiatorAddress: bare(own),
      responderAddress: bare(dialed),
      staticSecret: keyring.secretKey,
      ephemeralSecret: crypto.getRandomValues(new Uint8Array(32)),
      peerKey: usePin ? keyring.pinned(address) : undefined,
      judge: (key) => this.#meet(made?.answering ?? address, key),
      resumeTime,
    });
    made = new DeviceChannel({ host: this, channel, isDialer: true, destination, address });
    this.#channels.set(keyOf(address, route), made);
    this.#dialed.set(dialed, made);
    return made;
  }

  /** A channel to the edge. TLS and the token have said who both are, so its records are plain and its keys new. */
  #connectEdge(): DeviceChannel {
    const { suites, address } = this.#options;
    const route = newRoute();
    const channel = new StreamChannel({
      role: "initiator",
      route,
      pool: this.#pool,
      keptPool: this.#keptPool,
      copiesPackets: true,
      now: performance.now(),
      suites,
      peer: EDGE,
      plain: true,
      initiatorAddress: bare(canonical(address)),
      responderAddress: EDGE_ADDRESS,
      staticSecret: crypto.getRandomValues(new Uint8Array(32)),
      ephemeralSecret: crypto.getRandomValues(new Uint8Array(32)),
      judge: () => undefined,
      // The edge says how long streams outlive their path.
      resumeTime: 0,
    });
    const destination = this.#options.destination(bare(address), ORIGIN_RESOURCE);
    const made = new DeviceChannel({ host: this, channel, isDialer: true, destination, address: EDGE, isToEdge: true });
    this.#channels.set(keyOf(EDGE, route), made);
    this.#dialed.set(EDGE, made);
    return made;
  }

  /** Spoiling a handshake must not be a way around a pin. */
  #meet(address: string, key: Uint8Array): Reason | undefined {
    const { keyring } = this.#options;
    const pin = keyring.pinned(address);
    const refusal = keyring.meet(address, key);
    return pin === undefined || isSameKey(pin, key) ? refusal : "ChangedKey";
  }

  // ----------------------------------------------------------------------------------------------------- connections

  get carrier(): RelayConnection | undefined {
    return this.#carrier;
  }

  /** Lets channels send, and another one first each time. */
  #resumeAll(): void {
    const all = [...this.#channels.values()];
    this.#turn += 1;
    const first = this.#turn % Math.max(1, all.length);
    for (const channel of [...all.slice(first), ...all.slice(0, first)]) channel.resume();
  }

  get isRenewing(): () => boolean {
    return this.#options.isRenewing;
  }

  get renew(): () => Promise<void> {
    return this.#options.renew;
  }

  get pause(): (milliseconds: number) => Promise<void> {
    return this.#options.pause;
  }

  /** Sends on this connection from now on. */
  attach(carrier: RelayConnection): void {
    this.#carrier = carrier;
    this.#flights.clear();
    this.flight.restart(carrier.transport.capabilities.takesTurns ? FLIGHT_IN_TURNS : FLIGHT_MOST);
    for (const channel of [...this.#channels.values()]) {
      if (channel.isToEdge && !carrier.dialsOrigins) channel.fail(new StreamError("OriginNotAllowed", EDGE));
      else channel.attach();
    }
  }

  /** The connection is lost. */
  detach(): void {
    this.#carrier = undefined;
    this.#flights.clear();
    for (const channel of [...this.#channels.values()]) channel.detach();
  }

  /**
   * Handles an event of the connection.
   *
   * @param key the destination whose session the event concerns, if the session is ours
   */
  on(event: ConnectionEvent, key: string | undefined): void {
    switch (event.type) {
      case "acknowledged":
        if (this.#flights.size === 0) return;
        for (const number of event.messages) {
          if (this.#flights.delete(number)) this.flight.acknowledged(number, performance.now());
        }
        this.#resumeAll();
        break;
      case "sessionRefused":
        this.#sessionLost(key, event.unacknowledged, sessionRefusal(undefined));
        break;
      case "sessionClosed":
        if (event.kind !== "outbound") break;
        this.#sessionLost(
          key,
          event.unacknowledged,
          isPassing(event.reasonId) ? undefined : sessionRefusal(event.reasonId),
          event.reasonId === CloseReasonId.InternalError,
        );
        break;
    }
  }

  #sessionLost(
    key: string | undefined,
    numbers: readonly number[],
    failure: DeviceError | undefined,
    isUncertain = false,
  ): void {
    if (key === undefined) return;
    for (const channel of [...this.#channels.values()]) {
      if (channel.destinationKey !== key) continue;
      const isAnyLost = numbers.some((number) => this.#flights.get(number) === channel);
      const final = failure === undefined || failure.retryable ? undefined : this.#explained(channel, failure);
      if (final !== undefined && !channel.isDialer)
        this.#options.onUnanswered?.(withoutInstanceIn(channel.address), final);
      channel.lost(isAnyLost || isUncertain, final);
    }
    for (const number of numbers) {
      if (this.#flights.delete(number)) this.flight.lost(number);
    }
  }

  #explained({ isToEdge, destination }: DeviceChannel, failure: DeviceError): DeviceError {
    return isToEdge ? failure : (this.#options.refusal?.(failure, destination) ?? failure);
  }

  /** Resolves when the other devices have all of the streams that have ended, or after CLOSE_TIMEOUT (2 s). */
  async drained(): Promise<void> {
    const until = performance.now() + CLOSE_TIMEOUT;
    const isOwed = ({ channel }: DeviceChannel) =>
      channel.ended === undefined && channel.streams === 0 && !channel.isIdle;
    while (this.#carrier !== undefined && performance.now() < until && [...this.#channels.values()].some(isOwed)) {
      await sleep(DRAIN_LOOK);
    }
  }

  /** Ends all channels. Their last packets go out if there is a connection. */
  end(error: DeviceError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#forget?.();
    for (const channel of [...this.#channels.values()]) {
      channel.close("Closed", error.code === "Closed" ? undefined : error);
      channel.abandon();
    }
    this.#carrier = undefined;
    this.#services.clear();
  }

  // --------------------------------------------------------------------------------------------------------- packets

  /** @param recipient URL of this device or of its identity, as the sender has addressed it */
  receiver(recipient: string): PacketReceiver {
    const decoder = new PacketDecoder();
    let from: string | undefined;
    const sink = (route: number, body: Uint8Array) => {
      if (from !== undefined) this.#packet(from, recipient, route, body);
    };
    return {
      begin: (sender) => {
        from = sender;
        decoder.clear();
      },
      data: (octets) => decoder.push(octets, sink),
      end: () => decoder.clear(),
    };
  }

  /** Takes what the edge sends on the channel to origins. */
  edgeReceiver(): PacketReceiver {
    const decoder = new PacketDecoder();
    // The edge speaks under this device's own address, which it vouches for to nobody else.
    const own = canonical(this.#options.address);
    let isOurs = false;
    return {
      begin: (sender) => {
        isOurs = sender === own;
        decoder.clear();
      },
      data: (octets) =>
        decoder.push(octets, (route, body) => {
          const channel = isOurs ? this.#channels.get(keyOf(EDGE, route)) : undefined;
          channel?.receive(EDGE, body);
          channel?.settle();
        }),
      end: () => decoder.clear(),
    };
  }

  #packet(from: string, recipient: string, route: number, body: Uint8Array): void {
    if (this.#ended !== undefined) return;
    if (route === ALL_ROUTES && isNotice(body)) {
      for (const channel of [...this.#channels.values()]) {
        if (channel.address !== from) continue;
        channel.receive(from, body);
        channel.settle();
      }
      return;
    }
    const channel = this.#find(from, route) ?? this.#begin(from, recipient, route, body);
    if (channel === undefined) return;
    channel.receive(from, body);
    channel.settle();
  }

  /** A channel to an identity is answered by one of its devices. */
  #find(from: string, route: number): DeviceChannel | undefined {
    const channel = this.#channels.get(keyOf(from, route)) ?? this.#channels.get(keyOf(identityIn(from), route));
    return channel?.isEstablished === true && channel.address !== from ? undefined : channel;
  }

  /** Begins a channel that another device dials. Any other packet without a channel is answered that there is none. */
  #begin(from: string, recipient: string, route: number, body: Uint8Array): DeviceChannel | undefined {
    if (!isHello(body)) {
      if (!isNotice(body) && body.length > PACKET_HEADER) this.#notify(from, encodeNotice(route, "ChannelUnknown"));
      return undefined;
    }
    // One identity, which can invent devices, must not take the room of all others; nor all of them that of this device.
    const answered = [...this.#channels.values()].filter(({ isDialer }) => !isDialer);
    const identity = identityIn(from);
    const ofIdentity = answered.filter(({ address }) => identityIn(address) === identity).length;
    if (answered.length >= CHANNELS / 2 || ofIdentity >= CHANNELS_OF_IDENTITY) {
      this.#notify(from, encodeNotice(route, "TooManyStreams"));
      return undefined;
    }
    const destination = this.#destinationOf(from);
    const responderAddress = addressIn(recipient);
    if (destination === undefined || responderAddress === undefined) return undefined;
    const { keyring, suites, plain, resumeTime = RESUME_TIME } = this.#options;
    const channel = new StreamChannel({
      role: "responder",
      route,
      pool: this.#pool,
      keptPool: this.#keptPool,
      peer: identity,
      copiesPackets: true,
      acknowledgeOctets: ACKNOWLEDGE_OCTETS,
      now: performance.now(),
      suites,
      plain,
      initiatorAddress: bare(from),
      responderAddress,
      staticSecret: keyring.secretKey,
      ephemeralSecret: crypto.getRandomValues(new Uint8Array(32)),
      judge: (key) => keyring.admit(withoutInstanceIn(from), key),
      resumeTime,
    });
    const made = new DeviceChannel({ host: this, channel, isDialer: false, destination, address: from });
    this.#channels.set(keyOf(from, route), made);
    return made;
  }

  #destinationOf(address: string): Destination | undefined {
    try {
      return this.#options.destination(address, STREAM_RESOURCE);
    } catch (error) {
      // An address that cannot be written to.
      if (error instanceof DeviceError) return undefined;
      throw error;
    }
  }

  /** Sends a single packet, once. */
  #notify(to: string, packet: Uint8Array): void {
    const carrier = this.#carrier;
    const destination = this.#destinationOf(to);
    if (carrier === undefined || destination === undefined || this.#notices >= NOTICES) return;
    this.#notices += 1;
    void within(LAST_PACKET, carrier.session(destination))
      .then((opened) => {
        if (opened?.value.ok !== true || !carrier.ready(opened.value.sessionId)) return;
        const { sessionId } = opened.value;
        const { engine } = carrier;
        engine.beginMessage(sessionId, {
          userRef: destination.newId(),
          acknowledgeImmediately: true,
          doNotDeliverIfOffline: true,
        });
        engine.data(sessionId, packet);
        engine.endMessage(sessionId);
        void carrier.flush();
      })
      .finally(() => {
        this.#notices -= 1;
      });
  }

  // -------------------------------------------------------------------------------------------------------- channels

  /** Since when nothing has moved on any stream, on the clock of `performance.now()`; undefined if there is none. */
  get awaitedSince(): number | undefined {
    for (const { channel } of this.#channels.values()) if (channel.streams > 0) return this.#usedAt;
    return undefined;
  }

  used(): void {
    this.#usedAt = performance.now();
  }

  sent(number: number, channel: DeviceChannel): void {
    this.#flights.set(number, channel);
  }

  opened(stream: ChannelStream): void {
    const handler = this.#services.get(stream.service);
    if (handler === undefined) {
      stream.reset("ServiceUnknown");
      return;
    }
    const failed = () => stream.reset();
    try {
      void Promise.resolve(handler(stream)).catch(failed);
    } catch {
      failed();
    }
  }

  ended(channel: DeviceChannel): void {
    const { ended } = channel.channel;
    if (!channel.isDialer && !channel.isEstablished && ended?.by === "self") {
      this.#options.onRefused?.(withoutInstanceIn(channel.address), ended.reason);
    }
    for (const [key, other] of this.#channels) if (other === channel) this.#channels.delete(key);
    for (const [to, other] of this.#dialed) if (other === channel) this.#dialed.delete(to);
  }

  /** Ends the channels of keys that are not trusted any more. */
  #judgeAgain(): void {
    for (const channel of [...this.#channels.values()]) {
      const { address, key } = channel.peer;
      const reason = key && this.#distrust(channel, address, key);
      if (reason !== undefined) channel.close(reason);
    }
  }

  /** Why a channel is to end; undefined if its key is still trusted. */
  #distrust({ isDialer }: DeviceChannel, address: string, key: Uint8Array): Reason | undefined {
    const { keyring } = this.#options;
    if (!isDialer) return keyring.admit(withoutInstanceIn(address), key) === undefined ? undefined : "NotPermitted";
    const pin = keyring.pinned(address);
    if (pin === undefined) return "Closed";
    return isSameKey(pin, key) ? undefined : "ChangedKey";
  }
}

const SERVICE_NAME = "use 1 to 255 visible ASCII characters";

function invalid(message: string): DeviceError {
  return new DeviceError("InvalidOption", message);
}

function aborted(): DeviceError {
  return new DeviceError("Aborted", "the dialing was given up by its signal");
}

function newRoute(): number {
  let [route = ALL_ROUTES] = crypto.getRandomValues(new Uint32Array(1));
  while (route === ALL_ROUTES) [route = ALL_ROUTES] = crypto.getRandomValues(new Uint32Array(1));
  return route;
}

function keyOf(address: string, route: number): string {
  return `${address} ${route}`;
}

/** The canonical text of a destination. @throws DeviceError InvalidOption */
function originName(to: string): string {
  const parsed = parseHostPort(to, { finalDot: true });
  if (typeof parsed !== "string" && parsed.port !== undefined) {
    const name = formatHostPort({ host: parsed.host, port: parsed.port });
    if (isServiceName(name)) return name;
  }
  throw invalid("a destination is HOST:PORT, such as db.example.com:5432 or [2001:db8::7]:22");
}

/** The canonical text of an address. @throws DeviceError InvalidOption */
function canonical(address: string): string {
  return formatAddress(validOption("address", parseAddress(address)));
}

/** An address without its relay: how a device is named there differs between the two ends. */
function bare(address: string): string {
  return address.split("@", 1)[0] ?? "";
}

/** The address of the device, without the name of an instance: keys are the device's. */
function withoutInstanceIn(address: string): string {
  const [name = "", ...relay] = address.split("@");
  const [identity = "", ...device] = name.split("/");
  return [[identity, ...device.map(withoutInstance)].join("/"), ...relay].join("@");
}

/** The address of the identity of a device. */
function identityIn(address: string): string {
  return address.replace(/\/[^/@]*/, "");
}

/** The address of this device or of its identity, from its URL. */
function addressIn(url: string): string | undefined {
  const parsed = parseURL(url);
  if (!parsed.ok || parsed.value.kind === "relay") return undefined;
  return formatAddress(parsed.value);
}
