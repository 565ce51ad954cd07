/**
 * Device: the peer's end. It keeps outgoing messages until the relay acknowledges them and hands incoming messages to
 * the application, across any number of carriers (`renewed-connection.ts`).
 *
 *   send() ─► outbox ─► carrier ─► relay ─(acknowledged)─► send() resolves
 *   relay ─► carrier ─► inbox ─► messages() ─► done() ─► acknowledged
 *
 * On a new carrier both sides resend unacknowledged messages in order, and ids remove duplicates.
 *
 * @module
 */
import { encodeText } from "../lib/text-buffer.ts";
import { deviceURL, type StreamSize } from "../sstp/index.ts";
import { Voucher } from "../store-and-forward/vouched-id.ts";
import { DeviceError } from "./device-error.ts";
import { Inbox } from "./inbox.ts";
import { idFor, idSuffix, type Message, partToWire, type SendOptions } from "./message.ts";
import { type ConnectionOptions, connectionOptions, type DeviceOptions, type Settings, settingsOf } from "./options.ts";
import { Outbox, type Outgoing, tooLong } from "./outbox.ts";
import type { Platform } from "./platform.ts";
import { assertSayable, Recipients } from "./recipients.ts";
import type { Destination } from "./relay-connection.ts";
import { bytesNeeded, RenewedConnection } from "./renewed-connection.ts";
import { type RequestHandler, type RequestOptions, Requests, type ServiceAnswer } from "./requests.ts";
import { type DeviceConnections, SeveralEdges } from "./several-edges.ts";
import type { DeviceStream } from "./streams/device-stream.ts";
import type { DialOptions, StreamHandler, StreamHost } from "./streams/stream-host.ts";
import { sendRefusal } from "./token-refusal.ts";
import { CAPABILITIES, type TransportName } from "./transports/transport.ts";

const NO_OPTIONS: SendOptions = {};

/**
 * A device: sends and receives messages through its relay, and reconnects by itself. This file and what it imports run
 * in any runtime with timers; `node-device.ts` adds the transports over Node's sockets.
 */
export abstract class PortableDevice {
  readonly address: string;
  readonly #options: DeviceOptions;
  readonly #settings: Settings;
  /** Suffix of message ids. */
  readonly #idSuffix: string;
  /** Gives message ids as the relay rewrites them. */
  readonly #voucher: Voucher;
  readonly #inbox: Inbox;
  readonly #recipients: Recipients;
  readonly #outbox: Outbox;
  readonly #streams: StreamHost | undefined;
  readonly #requests: Requests;
  readonly #connection: DeviceConnections;
  readonly #answers: Answers = {
    stored: (userRef) => ({ id: this.#voucher.id(userRef) }),
    refusal: (error, destination) =>
      this.#meetsToken ? sendRefusal(error, this.#connection.token, destination) : error,
  };
  #ended: DeviceError | undefined;
  readonly #onAbort = () => void this.close();

  protected constructor(options: DeviceOptions, platform: Platform) {
    this.#options = options;
    const withSettings = (each: ConnectionOptions) => ({ options: each, settings: settingsOf(each) });
    const [own, ...others] = connectionOptions(options);
    const first = withSettings(own);
    const connections = [first, ...others.map(withSettings)];
    const isAlone = others.length === 0;
    this.#settings = first.settings;
    this.address = options.address;
    const { self, relay, limit } = first.settings;
    this.#idSuffix = idSuffix(self);
    this.#voucher = new Voucher(deviceURL(self), false);
    this.#recipients = new Recipients(this.#idSuffix, isAlone ? relay : undefined);
    this.#streams =
      options.keyring &&
      platform.streams({
        address: options.address,
        keyring: options.keyring,
        plain: options.plain,
        resumeTime: options.resumeTime,
        onRefused: options.onStreamsRefused,
        onUnanswered: options.onUnanswered,
        refusal: (error, destination) =>
          this.#meetsToken ? sendRefusal(error, this.#connection.token, destination, "stream") : error,
        destination: (to, resourceURL) => this.#recipients.destination(to, resourceURL),
        renew: () => this.#connection.renew(),
        isRenewing: () => this.#connection.isRenewing,
        pause: (milliseconds) => this.#connection.pause(milliseconds),
      });
    this.#outbox = new Outbox({
      beside: this.#streams,
      needed: bytesNeeded,
      renew: () => this.#connection.renew(),
      isRenewing: () => this.#connection.isRenewing,
      pause: (milliseconds) => this.#connection.pause(milliseconds),
      isGone: (edge) => several?.isGone(edge) === true,
      onHeld: options.onHeld,
      onReleased: options.onReleased,
    });
    this.#requests = new Requests({
      send: (to, body, sent) => this.send(to, body, sent),
      onUnanswered: options.onUnanswered,
      relay: isAlone ? relay : undefined,
      receives: options.receive !== false,
    });
    this.#inbox = new Inbox(limit, (engine) => this.#connection.finished(engine), this.#streams, this.#requests);
    const shared = {
      platform,
      outbox: this.#outbox,
      inbox: this.#inbox,
      awaitedSince: () => this.#streams?.awaitedSince,
      onLost: (error: DeviceError) => this.#end(error),
    };
    const several = isAlone ? undefined : new SeveralEdges({ ...shared, edges: connections, options });
    this.#connection = several ?? new RenewedConnection({ ...shared, ...first });
  }

  /** Makes the first connection. Call once. */
  protected async start(): Promise<void> {
    const { signal } = this.#options;
    if (signal?.aborted) throw closed();
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    try {
      await this.#connection.start();
    } catch (error) {
      const why = this.#ended ?? error;
      this.#end(closed());
      throw why;
    }
    if (this.#ended !== undefined) throw this.#ended;
  }

  /** The transport in use; undefined while there is none. */
  get transport(): TransportName | undefined {
    return this.#connection.carrier?.transport.name ?? this.#settings.transport;
  }

  /** Whether there is a connection now. */
  get isConnected(): boolean {
    return this.#connection.carrier !== undefined;
  }

  /** URL of the edge that messages are sent to; undefined while none is connected, and without an edge. */
  get edge(): string | undefined {
    return this.#connection.carrier === undefined ? undefined : this.#connection.edge;
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
      return this.#enqueue(to, typeof body === "string" ? encodeText(body) : body, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Incoming messages in order, until the device is closed. A message is acknowledged by its `done()`; otherwise it
   * comes again on the next connection. Reading stops while more than 32 MiB of messages are not done. With
   * `receive: false` there are none.
   *
   * @throws DeviceError AddressInUse, RelayRefused, TokenRefused when the connection ended for good
   */
  messages(): AsyncIterableIterator<Message> {
    return this.#inbox.messages();
  }

  /**
   * Leaves messages of a resource in the mailbox until the returned function is called, because the application can do
   * nothing with them now. Messages of other resources go on. Those that `messages()` has given, and that are not done,
   * may be done at any time.
   *
   * @example
   * const resume = device.suspend("orders");
   */
  suspend(resource: string): () => void {
    return this.#inbox.suspend(resource);
  }

  /**
   * Offers a service, under a name of visible ASCII characters, to devices whose address and key the keyring admits.
   * Returns a function that ends the offer. Streams that were opened go on.
   *
   * @throws DeviceError InvalidOption
   *
   * @example
   * device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
   */
  serve(service: string, handler: StreamHandler): () => void {
    return this.#hosted.serve(service, handler);
  }

  /**
   * Opens a stream to a service of another device, `identity/device` or one of the devices of an `identity`. Resolves
   * when that device has accepted it. A stream outlives the connections of both devices, for the resume time of the
   * other one.
   *
   * @throws DeviceError StreamReset, RecipientRefused, InvalidOption, Aborted, Closed
   */
  dial(to: string, service: string, options?: DialOptions): Promise<DeviceStream> {
    try {
      return this.#hosted.dial(to, service, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Asks a service of another device, `identity/device` or one of the devices of an `identity`, by an HTTP request.
   * Resolves with its answer, whatever its status. Request and answer are messages: they wait in mailboxes while either
   * device is away, until the deadline. A service may get the request twice, with the same id.
   *
   * @throws DeviceError NoAnswer, those of `send`
   *
   * @example
   * const { status, text } = await device.request("bob/pc", "api", { path: "/status" });
   */
  request(to: string, service: string, options: RequestOptions = {}): Promise<ServiceAnswer> {
    return this.#requests.request(to, service, options);
  }

  /**
   * Serves requests of other devices to a service, under a name of letters, digits and `. _ -`. Those who may send to this
   * device, or its identity, may ask: `request.from` is who does. Returns a function that ends it. Requests to services
   * that nobody serves wait in the mailbox.
   *
   * @throws DeviceError InvalidOption
   *
   * @example
   * device.respond("api", (request) => ({ body: `hello ${request.from}` }));
   */
  respond(service: string, handler: RequestHandler): () => void {
    return this.#requests.respond(service, handler);
  }

  /**
   * Opens a stream to a TCP destination that the edge dials, `host:port`, for services beside the relay. The edge's
   * operator lists them, and the token needs the scope `origin:HOST:PORT`. Resolves when the destination has accepted.
   * Octets are protected up to the edge, by its TLS. The stream outlives the connections of this device for the resume
   * time of the edge, default 10 minutes, but no restart of the edge.
   *
   * @throws DeviceError StreamReset, InvalidOption, Aborted, Closed
   *
   * @example
   * const stream = await device.dialOrigin("db.example.com:5432");
   */
  dialOrigin(to: string, options?: DialOptions): Promise<DeviceStream> {
    try {
      if (this.#options.receive === false) {
        throw new DeviceError("InvalidOption", 'the device takes nothing: give it the option receive: "streams"');
      }
      return this.#hosted.dialOrigin(to, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  get #hosted(): StreamHost {
    if (this.#streams !== undefined) return this.#streams;
    throw new DeviceError("InvalidOption", "the device has no keyring, which streams need: give it the option keyring");
  }

  /**
   * Ends the connection. Unacknowledged sends reject with Closed, and streams are reset, but those that have ended arrive
   * whole, if that takes no longer than 2 s.
   */
  async close(): Promise<void> {
    const { carriers } = this.#connection;
    if (this.#streams !== undefined) await this.#streams.drained();
    this.#end(closed());
    await Promise.all(carriers.map((carrier) => carrier.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #enqueue(to: string, body: Uint8Array, options: SendOptions): Promise<{ readonly id: string }> {
    if (this.#ended !== undefined) throw this.#ended;
    const limit = Math.min(this.#settings.limit, this.#connection.carrier?.messageLimit ?? Number.POSITIVE_INFINITY);
    if (body.length > limit) throw tooLong(body.length, limit);
    const destination = this.#recipients.destination(to, options.resource ?? "message");
    const userRef = options.id === undefined ? destination.newId() : idFor(options.id, this.#idSuffix);
    const streamSize = options.part && partToWire(options.part, body.length);
    // Generated ids and known destinations have been checked before.
    if (options.id !== undefined || options.part !== undefined) assertSayable(destination, { userRef, streamSize });
    return new Promise((resolve, reject) => {
      const settle = { resolve, reject };
      this.#outbox.add(new Sending(this.#answers, settle, { userRef, destination, body, streamSize }, options));
    });
  }

  /**
   * Whether the token is checked by the relay that accepts the messages. With an origin relay behind an edge, only the
   * edge checks it.
   */
  get #meetsToken(): boolean {
    return (
      this.#options.relay === undefined || (this.transport !== undefined && !CAPABILITIES[this.transport].carriesToken)
    );
  }

  #end(error: DeviceError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#streams?.end(error);
    this.#requests.end(error);
    this.#connection.end();
    this.#outbox.end(error);
    this.#inbox.end(error.code === "Closed" ? undefined : error);
  }
}

/** What `send` answers for a message. */
interface Answers {
  stored(userRef: string): { readonly id: string };
  refusal(error: DeviceError, destination: Destination): DeviceError;
}

interface Settle {
  readonly resolve: (stored: { readonly id: string }) => void;
  readonly reject: (error: DeviceError) => void;
}

/**
 * A message in the outbox. It is an instance of a class because a closure for each outcome would make it 830 bytes, not
 * 600, beside its body.
 */
class Sending implements Outgoing {
  readonly userRef: string;
  readonly acknowledgeImmediately = true;
  readonly doNotDeliverIfOffline: boolean | undefined;
  readonly streamSize: StreamSize | undefined;
  readonly destination: Destination;
  readonly body: Uint8Array;
  readonly signal: AbortSignal | undefined;
  readonly #answers: Answers;
  readonly #resolve: (stored: { readonly id: string }) => void;
  readonly #reject: (error: DeviceError) => void;

  constructor(
    answers: Answers,
    { resolve, reject }: Settle,
    { userRef, destination, body, streamSize }: Pick<Outgoing, "userRef" | "destination" | "body" | "streamSize">,
    { onlyIfOnline, signal }: SendOptions,
  ) {
    this.userRef = userRef;
    this.doNotDeliverIfOffline = onlyIfOnline;
    this.streamSize = streamSize;
    this.destination = destination;
    this.body = body;
    this.signal = signal;
    this.#answers = answers;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  resolve(): void {
    this.#resolve(this.#answers.stored(this.userRef));
  }

  reject(error: DeviceError): void {
    this.#reject(this.#answers.refusal(error, this.destination));
  }
}

function closed(): DeviceError {
  return new DeviceError("Closed", "the device was closed");
}
