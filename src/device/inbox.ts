/**
 * The inbox: messages put together from their parts, each id given to the application once, acknowledged when it is done.
 *
 * @module
 */
import type { Connection, ConnectionEvent, ReceivedMessageFields } from "../sstp/index.ts";
import { CloseReasonId } from "../sstp/index.ts";
import type { Carrier } from "./carrier.ts";
import { INBOX_OCTETS, REMEMBERED_IDS } from "./defaults.ts";
import type { DeviceError } from "./error.ts";
import { fromOf, type Message, partFromWire } from "./message.ts";

/** A message that is arriving on one session of one carrier. */
interface Arriving {
  readonly fields: ReceivedMessageFields;
  readonly parts: Uint8Array[];
  length: number;
}

/** A message that has arrived and is not done: where it is to be acknowledged, since it may have come more than once. */
interface Waiting {
  readonly acknowledge: { readonly carrier: Carrier; readonly number: number }[];
}

export class Inbox {
  readonly #limit: number;
  readonly #arriving = new Map<Connection, Map<number, Arriving>>();
  readonly #resources = new Map<Connection, Map<number, string>>();
  readonly #waiting = new Map<string, Waiting>();
  /** Ids of messages that are done, oldest first. */
  readonly #done = new Set<string>();
  readonly #messages: Message[] = [];
  #octets = 0;
  #take: (() => void) | undefined;
  #drained: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;
  #ended = false;
  #error: DeviceError | undefined;

  constructor(messageLimit: number) {
    this.#limit = messageLimit;
  }

  /** A promise while the application has too much that is not done; undefined when more may be read. */
  get full(): Promise<void> | undefined {
    return this.#drained?.promise;
  }

  on(carrier: Carrier, event: ConnectionEvent): void {
    const { engine } = carrier;
    switch (event.type) {
      case "open":
        of(this.#resources, engine).set(event.sessionId, event.resourceURL);
        break;
      case "message":
        of(this.#arriving, engine).set(event.sessionId, { fields: event.fields, parts: [], length: 0 });
        break;
      case "data": {
        const arriving = of(this.#arriving, engine).get(event.sessionId);
        if (arriving === undefined) break;
        arriving.parts.push(event.octets);
        arriving.length += event.octets.length;
        // Nobody here could hold it; the relay must not send it again and again.
        if (arriving.length > this.#limit) engine.closeSession(event.sessionId, CloseReasonId.InternalError);
        break;
      }
      case "endMessage":
        this.#arrived(carrier, event.sessionId, event.message);
        break;
      case "sessionClosed":
        of(this.#arriving, engine).delete(event.sessionId);
        of(this.#resources, engine).delete(event.sessionId);
        break;
    }
  }

  /** A carrier is gone: what was arriving on it will come again. */
  forget(engine: Connection): void {
    this.#arriving.delete(engine);
    this.#resources.delete(engine);
  }

  /** No more will come; `error` tells the reader why, if it should know. */
  end(error: DeviceError | undefined): void {
    this.#ended = true;
    this.#error = error;
    this.#take?.();
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
        this.#take = resolve;
      });
    }
  }

  #arrived(carrier: Carrier, sessionId: number, number: number): void {
    const sessions = of(this.#arriving, carrier.engine);
    const arriving = sessions.get(sessionId);
    sessions.delete(sessionId);
    if (arriving === undefined) return;
    const id = arriving.fields.userRef;
    if (this.#done.has(id)) {
      carrier.engine.complete(number);
      return;
    }
    const before = id === "" ? undefined : this.#waiting.get(id);
    if (before !== undefined) {
      before.acknowledge.push({ carrier, number });
      return;
    }
    const waiting: Waiting = { acknowledge: [{ carrier, number }] };
    if (id !== "") this.#waiting.set(id, waiting);
    const resource = of(this.#resources, carrier.engine).get(sessionId) ?? "";
    const body = join(arriving.parts, arriving.length);
    this.#octets += body.length;
    if (this.#octets > INBOX_OCTETS) this.#drained ??= Promise.withResolvers<void>();
    let done = false;
    this.#messages.push({
      id,
      from: fromOf(id),
      resource,
      part: partFromWire(arriving.fields.streamSize),
      body,
      text: () => new TextDecoder().decode(body),
      done: () => {
        if (done) return;
        done = true;
        this.#finish(id, waiting, body.length);
      },
    });
    this.#take?.();
  }

  #finish(id: string, waiting: Waiting, length: number): void {
    this.#octets -= length;
    if (this.#octets <= INBOX_OCTETS) {
      this.#drained?.resolve();
      this.#drained = undefined;
    }
    if (id !== "") {
      this.#waiting.delete(id);
      this.#done.add(id);
      for (const oldest of this.#done) {
        if (this.#done.size <= REMEMBERED_IDS) break;
        this.#done.delete(oldest);
      }
    }
    for (const { carrier, number } of waiting.acknowledge) {
      carrier.engine.complete(number, performance.now());
      void carrier.flush();
    }
  }
}

function of<V>(map: Map<Connection, Map<number, V>>, engine: Connection): Map<number, V> {
  let inner = map.get(engine);
  if (inner === undefined) {
    inner = new Map();
    map.set(engine, inner);
  }
  return inner;
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
