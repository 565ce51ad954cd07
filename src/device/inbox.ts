/**
 * The inbox assembles messages from their parts, delivers each id to the application once, and acknowledges it when the
 * application calls `done`. Acknowledge only then: the relay deletes a message it sees acknowledged.
 *
 * @module
 */

import { Condition } from "../lib/condition.ts";
import { Queue } from "../lib/queue.ts";
import { RecentSet } from "../lib/recent-set.ts";
import type { Availability, Connection, ConnectionEvent, ReceivedMessageFields } from "../sstp/index.ts";
import { CloseReasonId, isOriginResource, isStreamResource } from "../sstp/index.ts";
import { parseCapabilities } from "../store-and-forward/capabilities.ts";
import { Arena, MessageBody } from "../store-and-forward/message-body.ts";
import { claimIn, senderIn } from "../store-and-forward/vouched-id.ts";
import type { DeviceError } from "./device-error.ts";
import { INBOX_MESSAGE, INBOX_OCTETS, UNFINISHED_MESSAGES } from "./limits.ts";
import { isRecipient, type Message, partFromWire, sourceOf } from "./message.ts";
import type { RelayConnection } from "./relay-connection.ts";
import type { Requests } from "./requests.ts";
import type { PacketReceiver, StreamHost } from "./streams/stream-host.ts";

/** A message arriving on one session of one carrier. */
interface Arriving {
  readonly fields: ReceivedMessageFields;
  readonly body: MessageBody;
}

/** A session opened by the peer, and the message arriving on it. */
interface PeerSession {
  readonly resource: string;
  /** URL of this device or of its identity. */
  readonly recipient: string;
  /** Takes what arrives, if the session carries streams. */
  readonly packets: PacketReceiver | undefined;
  arriving: Arriving | undefined;
}

/** What arrives on one connection. */
interface Arrivals {
  readonly carrier: RelayConnection;
  readonly sessions: Map<number, PeerSession>;
  /** Bytes of messages that have arrived in part. */
  unfinished: number;
}

/** A message delivered but not done. It may have come several times, and each copy is acknowledged where it came. */
interface Waiting {
  acknowledge: { readonly carrier: RelayConnection; readonly number: number }[];
}

const { NoReason, QuotaWouldBeExceeded } = CloseReasonId;

const decoder = new TextDecoder();

export class Inbox {
  readonly #limit: number;
  readonly #unfinishedLimit: number;
  readonly #taken: (engine: Connection) => void;
  readonly #streams: StreamHost | undefined;
  readonly #requests: Requests | undefined;
  readonly #arrivals = new Map<Connection, Arrivals>();
  readonly #waiting = new Map<string, Waiting>();
  /** Recipients and ids of finished messages. */
  readonly #done = new RecentSet();
  readonly #arena = new Arena();
  /** Connections to a relay that vouches for senders. */
  readonly #vouched = new WeakSet<Connection>();
  /** Caches the check of the last sender's address; consecutive messages often share it. */
  #lastSender = { address: "", good: false };
  readonly #messages = new Queue<Message>();
  /** Each resource whose messages wait in the mailbox, once for each call that said so. */
  readonly #suspensions = new Set<{ readonly resource: string }>();
  /** Bytes of messages that are not done, and of messages that have arrived in part, from all relays together. */
  #octets = 0;
  #unfinished = 0;
  /** Notified when there is a message, or the end. */
  readonly #readable = new Condition();
  #drained: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;
  #ended = false;
  #error: DeviceError | undefined;

  /**
   * @param taken called with the connection when the application is done with a message from it
   * @param streams takes what arrives for streams
   * @param requests takes requests and answers
   */
  constructor(
    messageLimit: number,
    taken: (engine: Connection) => void = () => undefined,
    streams?: StreamHost,
    requests?: Requests,
  ) {
    this.#limit = messageLimit;
    this.#unfinishedLimit = Math.max(INBOX_OCTETS, UNFINISHED_MESSAGES * messageLimit);
    this.#taken = taken;
    this.#streams = streams;
    this.#requests = requests;
  }

  /**
   * Whether messages of a resource may come. What is refused, or has to wait, stays in the mailbox.
   *
   * @param takesMessages whether the application takes messages
   */
  availabilityOf(resource: string, takesMessages: boolean): Availability {
    if (isStreamResource(resource)) return "ready";
    if (this.#isSuspended(resource)) return "notReady";
    return this.#requests?.availabilityOf(resource) ?? (takesMessages ? "ready" : "fault");
  }

  /**
   * Leaves messages of a resource in the mailbox until the returned function is called. Their sessions are closed, so that
   * those that came and are not done hold up no others: the relay sends them again, and they are not given out twice.
   */
  suspend(resource: string): () => void {
    const suspension = { resource };
    this.#suspensions.add(suspension);
    for (const [arrivals, sessionId] of this.#sessionsFor(resource)) {
      this.#refuse(arrivals, sessionId, NoReason);
      void arrivals.carrier.flush();
    }
    return () => {
      if (!this.#suspensions.delete(suspension) || this.#isSuspended(resource)) return;
      for (const [{ carrier }, sessionId] of this.#sessionsFor(resource)) {
        if (carrier.engine.session(sessionId) === undefined) continue;
        carrier.engine.setAvailability(sessionId, "ready");
        void carrier.flush();
      }
    };
  }

  #isSuspended(resource: string): boolean {
    for (const suspension of this.#suspensions) if (suspension.resource === resource) return true;
    return false;
  }

  /** The sessions of a resource, on all connections. */
  #sessionsFor(resource: string): [Arrivals, sessionId: number][] {
    return [...this.#arrivals.values()].flatMap((arrivals) =>
      [...arrivals.sessions]
        .filter(([, session]) => session.resource === resource)
        .map(([sessionId]): [Arrivals, number] => [arrivals, sessionId]),
    );
  }

  /** A promise while too many messages are not done; undefined when more may be read. */
  get full(): Promise<void> | undefined {
    return this.#drained?.promise;
  }

  on(carrier: RelayConnection, event: ConnectionEvent): void {
    const { engine } = carrier;
    switch (event.type) {
      case "connected":
        if (parseCapabilities(event.productCapabilities).vouched) this.#vouched.add(engine);
        break;
      case "open": {
        const recipient = event.deviceURL === "" ? event.identityURL : event.deviceURL;
        this.#arrivalsOn(carrier).sessions.set(event.sessionId, {
          resource: event.resourceURL,
          recipient,
          packets: this.#receiver(event.resourceURL, recipient),
          arriving: undefined,
        });
        this.#requests?.opened(carrier, event.sessionId, event.resourceURL);
        break;
      }
      case "message": {
        const session = this.#arrivals.get(engine)?.sessions.get(event.sessionId);
        if (session === undefined) break;
        if (session.packets !== undefined) {
          const address = this.#senderOf(engine, event.fields.userRef);
          session.packets.begin(this.#checked(address));
          break;
        }
        session.arriving = { fields: event.fields, body: new MessageBody(this.#arena) };
        break;
      }
      case "data": {
        const arrivals = this.#arrivals.get(engine);
        const session = arrivals?.sessions.get(event.sessionId);
        session?.packets?.data(event.octets);
        const arriving = session?.arriving;
        if (arrivals === undefined || arriving === undefined) break;
        arriving.body.add(event.octets);
        arrivals.unfinished += event.octets.length;
        this.#unfinished += event.octets.length;
        // The message is too long to hold. Closing the session keeps the relay from sending it forever.
        if (arriving.body.length > this.#limit) this.#refuse(arrivals, event.sessionId, QuotaWouldBeExceeded);
        else if (this.#unfinished > this.#unfinishedLimit) this.#makeRoom(arrivals, event.sessionId);
        break;
      }
      case "endMessage":
        if (this.#packetsEnded(carrier, event.sessionId, event.message)) break;
        this.#arrived(carrier, event.sessionId, event.message);
        break;
      case "sessionClosed":
        this.#requests?.closed(engine, event.sessionId);
        this.#drop(engine, event.sessionId);
        break;
    }
  }

  /** What takes packets of streams; undefined for other messages. */
  #receiver(resourceURL: string, recipient: string): PacketReceiver | undefined {
    if (isOriginResource(resourceURL)) return this.#streams?.edgeReceiver();
    return isStreamResource(resourceURL) ? this.#streams?.receiver(recipient) : undefined;
  }

  /** Acknowledges a message with packets. Returns false if the message has none. */
  #packetsEnded({ engine }: RelayConnection, sessionId: number, number: number): boolean {
    const packets = this.#arrivals.get(engine)?.sessions.get(sessionId)?.packets;
    if (packets === undefined) return false;
    packets.end();
    if (!this.#ended) this.#taken(engine);
    engine.complete(number, performance.now());
    return true;
  }

  /** The sender's address, whether vouched for or claimed: the key of a channel proves the rest. */
  #senderOf(engine: Connection, id: string): string {
    return this.#vouched.has(engine) ? senderIn(id).address : claimIn(id);
  }

  /**
   * Refuses a message of the relay that has begun most, so that it cannot keep others from delivering: the one that is
   * growing, or else its last. Nothing is wrong with the message, so it may come again.
   */
  #makeRoom(growing: Arrivals, sessionId: number): void {
    let most = growing;
    for (const other of this.#arrivals.values()) if (other.unfinished > most.unfinished) most = other;
    const begun = [...most.sessions].filter(([, { arriving }]) => arriving !== undefined);
    const [last = sessionId] = begun.at(-1) ?? [];
    this.#refuse(most, most === growing ? sessionId : last, NoReason);
    if (most !== growing) void most.carrier.flush();
  }

  /** Ends a session with the message that is arriving on it. */
  #refuse({ carrier: { engine } }: Arrivals, sessionId: number, reasonId: number): void {
    this.#drop(engine, sessionId);
    if (engine.session(sessionId) !== undefined) engine.closeSession(sessionId, reasonId);
  }

  #drop(engine: Connection, sessionId: number): void {
    const arrivals = this.#arrivals.get(engine);
    const arriving = arrivals?.sessions.get(sessionId)?.arriving;
    arrivals?.sessions.delete(sessionId);
    if (arrivals === undefined || arriving === undefined) return;
    this.#finished(arrivals, arriving);
    arriving.body.take();
  }

  /** A message no longer arrives. */
  #finished(arrivals: Arrivals, { body }: Arriving): void {
    arrivals.unfinished -= body.length;
    this.#unfinished -= body.length;
  }

  #arrivalsOn(carrier: RelayConnection): Arrivals {
    let arrivals = this.#arrivals.get(carrier.engine);
    if (arrivals === undefined) {
      arrivals = { carrier, sessions: new Map(), unfinished: 0 };
      this.#arrivals.set(carrier.engine, arrivals);
    }
    return arrivals;
  }

  /** A carrier is gone, and nothing can be acknowledged on it. The relay sends its messages again. */
  forget(engine: Connection): void {
    for (const sessionId of [...(this.#arrivals.get(engine)?.sessions.keys() ?? [])]) this.#drop(engine, sessionId);
    this.#arrivals.delete(engine);
    this.#requests?.closed(engine);
    for (const waiting of this.#waiting.values()) {
      waiting.acknowledge = waiting.acknowledge.filter(({ carrier }) => carrier.engine !== engine);
    }
  }

  /**
   * Ends the inbox and discards unread messages, which can no longer be acknowledged. Readers throw `error` if given.
   */
  end(error: DeviceError | undefined): void {
    this.#ended = true;
    this.#error = error;
    this.#messages.clear();
    this.#readable.notifyAll();
    this.#drained?.resolve();
    this.#drained = undefined;
  }

  async *messages(): AsyncIterableIterator<Message> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined) {
        yield message;
        continue;
      }
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) return;
      await this.#readable.wait();
    }
  }

  #arrived(carrier: RelayConnection, sessionId: number, number: number): void {
    const arrivals = this.#arrivals.get(carrier.engine);
    const session = arrivals?.sessions.get(sessionId);
    const arriving = session?.arriving;
    if (arrivals === undefined || session === undefined || arriving === undefined) return;
    session.arriving = undefined;
    this.#finished(arrivals, arriving);
    if (this.#ended) return;
    const { resource, recipient } = session;
    const id = arriving.fields.userRef;
    // Unvouched senders could claim any address, so their ids are remembered apart and share one source.
    const written = this.#vouched.has(carrier.engine);
    const { address, vouched } = written ? senderIn(id) : { address: claimIn(id), vouched: false };
    const source = written ? sourceOf(address) : "";
    // The same id sent to this device and to its identity is two messages.
    const key = id === "" ? "" : `${written ? "" : "claimed "}${recipient}\n${id}`;
    if (this.#done.has(source, key)) {
      carrier.engine.complete(number);
      return;
    }
    const before = key === "" ? undefined : this.#waiting.get(key);
    if (before !== undefined) {
      before.acknowledge.push({ carrier, number });
      return;
    }
    const waiting: Waiting = { acknowledge: [{ carrier, number }] };
    if (key !== "") this.#waiting.set(key, waiting);
    // The application's body must not share memory with other messages.
    const taken = arriving.body.take();
    const body = taken.length === taken.buffer.byteLength ? taken : taken.slice();
    const size = body.length + id.length + INBOX_MESSAGE;
    this.#octets += size;
    if (this.#octets > INBOX_OCTETS) this.#drained ??= Promise.withResolvers<void>();
    let done = false;
    const message: Message = {
      id,
      from: this.#checked(address),
      vouched,
      resource,
      part: partFromWire(arriving.fields.streamSize),
      body,
      text: () => decoder.decode(body),
      done: () => {
        if (done) return;
        done = true;
        this.#finish(source, key, waiting, size);
      },
    };
    if (this.#requests?.take(message) === true) return;
    this.#messages.push(message);
    this.#readable.notifyAll();
  }

  #checked(address: string): string | undefined {
    if (address !== this.#lastSender.address) this.#lastSender = { address, good: isRecipient(address) };
    return this.#lastSender.good ? address : undefined;
  }

  #finish(source: string, key: string, waiting: Waiting, size: number): void {
    this.#octets -= size;
    if (this.#octets <= INBOX_OCTETS) {
      this.#drained?.resolve();
      this.#drained = undefined;
    }
    if (key !== "") {
      this.#waiting.delete(key);
      this.#done.add(source, key);
    }
    for (const { carrier, number } of waiting.acknowledge) {
      this.#taken(carrier.engine);
      carrier.engine.complete(number, performance.now());
      void carrier.flush();
    }
  }
}
