/**
 * The inbox: messages put together from their parts, each id given to the application once, acknowledged when it is done.
 *
 * @module
 */

import { Queue } from "../lib/queue.ts";
import { RecentSet } from "../lib/recent-set.ts";
import type { Connection, ConnectionEvent, ReceivedMessageFields } from "../sstp/index.ts";
import { CloseReasonId } from "../sstp/index.ts";
import { parseCapabilities } from "../store-and-forward/capabilities.ts";
import { Arena, MessageBody } from "../store-and-forward/message-body.ts";
import { claimIn, senderIn } from "../store-and-forward/vouch.ts";
import type { DeviceError } from "./device-error.ts";
import { INBOX_OCTETS } from "./limits.ts";
import { isRecipient, type Message, partFromWire, sourceOf } from "./message.ts";
import type { RelayConnection } from "./relay-connection.ts";

/** A message that is arriving on one session of one carrier. */
interface Arriving {
  readonly fields: ReceivedMessageFields;
  readonly body: MessageBody;
}

/** A session of the peer: what it was opened for, and the message that is arriving on it. */
interface PeerSession {
  readonly resource: string;
  /** URL of this device, or of its identity. */
  readonly recipient: string;
  arriving: Arriving | undefined;
}

/** A message that has arrived and is not done: where it is to be acknowledged, since it may have come more than once. */
interface Waiting {
  readonly acknowledge: { readonly carrier: RelayConnection; readonly number: number }[];
}

const decoder = new TextDecoder();

export class Inbox {
  readonly #limit: number;
  readonly #taken: (engine: Connection) => void;
  readonly #sessions = new Map<Connection, Map<number, PeerSession>>();
  readonly #waiting = new Map<string, Waiting>();
  /** Recipients and ids of messages that are done. */
  readonly #done = new RecentSet();
  readonly #arena = new Arena();
  /** Connections to a relay that vouches for the senders of its messages. */
  readonly #vouched = new WeakSet<Connection>();
  /** Many messages come from one sender, whose address is looked at once. */
  #lastSender = { address: "", good: false };
  readonly #messages = new Queue<Message>();
  #octets = 0;
  /** Readers that wait for a message. */
  #readers: (() => void)[] = [];
  #drained: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;
  #ended = false;
  #error: DeviceError | undefined;

  /** @param taken called when the application has taken a message for good that a connection has brought */
  constructor(messageLimit: number, taken: (engine: Connection) => void = () => undefined) {
    this.#limit = messageLimit;
    this.#taken = taken;
  }

  /** A promise while the application has too much that is not done; undefined when more may be read. */
  get full(): Promise<void> | undefined {
    return this.#drained?.promise;
  }

  on(carrier: RelayConnection, event: ConnectionEvent): void {
    const { engine } = carrier;
    switch (event.type) {
      case "connected":
        if (parseCapabilities(event.productCapabilities).vouched) this.#vouched.add(engine);
        break;
      case "open":
        this.#sessionsOf(engine).set(event.sessionId, {
          resource: event.resourceURL,
          recipient: event.deviceURL === "" ? event.identityURL : event.deviceURL,
          arriving: undefined,
        });
        break;
      case "message": {
        const session = this.#sessions.get(engine)?.get(event.sessionId);
        if (session === undefined) break;
        session.arriving = { fields: event.fields, body: new MessageBody(this.#arena) };
        break;
      }
      case "data": {
        const session = this.#sessions.get(engine)?.get(event.sessionId);
        const arriving = session?.arriving;
        if (session === undefined || arriving === undefined) break;
        arriving.body.add(event.octets);
        if (arriving.body.length <= this.#limit) break;
        // Nobody here could hold it; the relay must not send it again and again.
        session.arriving = undefined;
        if (engine.session(event.sessionId) !== undefined) {
          engine.closeSession(event.sessionId, CloseReasonId.QuotaWouldBeExceeded);
        }
        break;
      }
      case "endMessage":
        this.#arrived(carrier, event.sessionId, event.message);
        break;
      case "sessionClosed":
        this.#sessions.get(engine)?.delete(event.sessionId);
        break;
    }
  }

  #sessionsOf(engine: Connection): Map<number, PeerSession> {
    let sessions = this.#sessions.get(engine);
    if (sessions === undefined) {
      sessions = new Map();
      this.#sessions.set(engine, sessions);
    }
    return sessions;
  }

  /** A carrier is gone: what was arriving on it will come again. */
  forget(engine: Connection): void {
    this.#sessions.delete(engine);
  }

  /** No more will come, and what nobody has read can no longer be acknowledged; `error` tells the reader why, if it should know. */
  end(error: DeviceError | undefined): void {
    this.#ended = true;
    this.#error = error;
    this.#messages.clear();
    this.#wake();
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
      await new Promise<void>((resolve) => {
        this.#readers.push(resolve);
      });
    }
  }

  #arrived(carrier: RelayConnection, sessionId: number, number: number): void {
    const session = this.#sessions.get(carrier.engine)?.get(sessionId);
    const arriving = session?.arriving;
    if (session === undefined || arriving === undefined) return;
    session.arriving = undefined;
    if (this.#ended) return;
    const { resource, recipient } = session;
    const id = arriving.fields.userRef;
    // What nobody vouches for is remembered apart, and shares one place.
    const written = this.#vouched.has(carrier.engine);
    const { address, vouched } = written ? senderIn(id) : { address: claimIn(id), vouched: false };
    const source = written ? sourceOf(address) : "";
    // The same id to this device and to its identity is two messages.
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
    // What is given away shares its memory with nothing.
    const taken = arriving.body.take();
    const body = taken.length === taken.buffer.byteLength ? taken : taken.slice();
    this.#octets += body.length;
    if (this.#octets > INBOX_OCTETS) this.#drained ??= Promise.withResolvers<void>();
    let done = false;
    this.#messages.push({
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
        this.#finish(source, key, waiting, body.length);
      },
    });
    this.#wake();
  }

  #checked(address: string): string | undefined {
    if (address !== this.#lastSender.address) this.#lastSender = { address, good: isRecipient(address) };
    return this.#lastSender.good ? address : undefined;
  }

  #wake(): void {
    const readers = this.#readers;
    this.#readers = [];
    for (const resolve of readers) resolve();
  }

  #finish(source: string, key: string, waiting: Waiting, length: number): void {
    this.#octets -= length;
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
