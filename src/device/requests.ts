/**
 * Requests of one device to a service of another: HTTP requests and answers as messages, which wait in mailboxes while
 * either device is away.
 *
 *   request() ─► message on request/NAME ─► respond()'s handler ─► message on answer ─► request() resolves
 *
 * A request whose service nobody offers here stays in the mailbox: its session is not ready until somebody does. An
 * answer counts only from the address that was asked. After the deadline no handler is called, and no answer is waited
 * for. A handler may be called twice for one request, with the same id: the device may be lost before the request is
 * acknowledged.
 *
 * @module
 */
import { encodeBase64url } from "../lib/base64url.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { encodeText } from "../lib/text-buffer.ts";
import {
  ANSWER_RESOURCE,
  type Call,
  decodeCall,
  decodeReply,
  encodeCall,
  encodeReply,
  type Header,
  type HttpAnswer,
  type HttpRequest,
  isCallable,
  LONGEST_DEADLINE,
  requestResource,
  serviceOf,
} from "../requests/index.ts";
import { type Availability, formatAddress, isSameDevice, parseAddress, relayURL } from "../sstp/index.ts";
import { DeviceError } from "./device-error.ts";
import { LONGEST_TIMER, REQUEST_DEADLINE, REQUEST_ID_OCTETS, REQUESTS_AT_ONCE } from "./limits.ts";
import type { Message, SendOptions } from "./message.ts";
import type { RelayConnection } from "./relay-connection.ts";

/** Headers by name; a list can have several of one name. */
export type RequestHeaders = Readonly<Record<string, string>> | readonly Header[];

/** Options of `request`. */
export interface RequestOptions {
  /** Default GET. */
  readonly method?: string;
  /** Path, and query after a `?`; percent-encoded. Default `/`. */
  readonly path?: string;
  readonly headers?: RequestHeaders;
  readonly body?: Uint8Array | string;
  /** For how long an answer is of use, in milliseconds: up to 14 days. Default 30000. */
  readonly deadline?: number;
  /** Gives up. A request that has left may be served all the same. */
  readonly signal?: AbortSignal;
}

/** The answer of a service. */
export interface ServiceAnswer extends HttpAnswer {
  /** The address that has answered: the one asked, or a device of the identity asked. */
  readonly from: string;
  /** The body as UTF-8. */
  text(): string;
}

/** A request to a service of this device. */
export interface ServiceRequest extends HttpRequest {
  /** The same if the request comes again: what was done for it need not be done twice. */
  readonly id: string;
  /** Address of the sender, which the relay vouches for. */
  readonly from: string;
  readonly service: string;
  /** When the answer is of no use any more, in milliseconds since 1970. */
  readonly deadline: number;
  /** Aborts at the deadline, and when the device is closed. */
  readonly signal: AbortSignal;
  /** The body as UTF-8. */
  text(): string;
}

/** What a service answers. */
export interface ResponseParts {
  /** 200 to 599. Default 200. */
  readonly status?: number;
  readonly headers?: RequestHeaders;
  readonly body?: Uint8Array | string;
}

/** Serves requests. One that throws is answered by 500, without the error. */
export type RequestHandler = (request: ServiceRequest) => ResponseParts | Promise<ResponseParts>;

export interface RequestsOptions {
  readonly send: (to: string, body: Uint8Array, options: SendOptions) => Promise<unknown>;
  /** Called when the answer of a service is refused on its way to the caller. */
  readonly onUnanswered?: ((address: string, error: DeviceError) => void) | undefined;
  /** The relay that this device connects to; undefined if there are several. */
  readonly relay: string | undefined;
  /** Whether answers can arrive. */
  readonly receives: boolean;
}

/** A request that waits for its answer. */
interface Pending {
  readonly to: string;
  readonly resolve: (answer: ServiceAnswer) => void;
  readonly reject: (error: DeviceError) => void;
}

/** A session with requests that nobody serves yet. */
interface WaitingSession {
  readonly carrier: RelayConnection;
  readonly sessionId: number;
  readonly service: string;
}

const decoder = new TextDecoder();
const NOTHING = new Uint8Array(0);

export class Requests {
  readonly #options: RequestsOptions;
  readonly #pending = new Map<string, Pending>();
  readonly #handlers = new Map<string, RequestHandler>();
  readonly #waiting = new Set<WaitingSession>();
  readonly #turns = new Semaphore(REQUESTS_AT_ONCE);
  readonly #closing = new AbortController();
  #ended: DeviceError | undefined;

  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  // ---------------------------------------------------------------------------------------------------- application

  /** @throws DeviceError, by rejection */
  async request(to: string, service: string, options: RequestOptions): Promise<ServiceAnswer> {
    if (this.#ended !== undefined) throw this.#ended;
    if (!this.#options.receives) throw invalid("a device with receive: false gets no answers: leave that option out");
    if (!isCallable(service)) throw invalid(`service: ${SERVICE_NAME}`);
    const { deadline = REQUEST_DEADLINE, signal } = options;
    if (!(deadline > 0 && deadline <= LONGEST_DEADLINE)) {
      throw invalid(`the deadline is not a number of milliseconds up to ${LONGEST_DEADLINE}`);
    }
    if (signal?.aborted) throw aborted();
    const id = encodeBase64url(crypto.getRandomValues(new Uint8Array(REQUEST_ID_OCTETS)));
    const body = written(() => encodeCall({ id, deadline: Date.now() + deadline, request: requestOf(options) }));
    const { promise, resolve, reject } = Promise.withResolvers<ServiceAnswer>();
    this.#pending.set(id, { to, resolve, reject });
    const late = new AbortController();
    const ends = AbortSignal.any([late.signal, ...(signal === undefined ? [] : [signal])]);
    const stop = afterLong(deadline, () => late.abort());
    ends.addEventListener("abort", () => reject(signal?.aborted ? aborted() : noAnswer(to, service, deadline)));
    const sent = this.#options.send(to, body, { resource: requestResource(service), id: `call-${id}`, signal: ends });
    // What the deadline or the caller has ended is rejected with that reason.
    sent.catch((error: DeviceError) => reject(error));
    try {
      return await promise;
    } finally {
      stop();
      this.#pending.delete(id);
    }
  }

  /** @throws DeviceError InvalidOption */
  respond(service: string, handler: RequestHandler): () => void {
    if (!isCallable(service)) throw invalid(`service: ${SERVICE_NAME}`);
    if (this.#handlers.has(service)) throw invalid(`the service ${service} is served already: end that first`);
    this.#handlers.set(service, handler);
    for (const waiting of [...this.#waiting]) if (waiting.service === service) this.#letIn(waiting);
    return () => {
      if (this.#handlers.get(service) === handler) this.#handlers.delete(service);
    };
  }

  // ----------------------------------------------------------------------------------------------------- connection

  /** Whether messages of a resource may come; undefined for one that has nothing to do with requests. */
  availabilityOf(resource: string): Availability | undefined {
    if (resource === ANSWER_RESOURCE) return "ready";
    const service = serviceOf(resource);
    if (service === undefined) return undefined;
    return this.#handlers.has(service) ? "ready" : "notReady";
  }

  /** A session was opened. */
  opened(carrier: RelayConnection, sessionId: number, resource: string): void {
    const service = serviceOf(resource);
    if (service === undefined || this.#handlers.has(service)) return;
    this.#waiting.add({ carrier, sessionId, service });
  }

  /** A session, or all of a connection, has ended. */
  closed(engine: RelayConnection["engine"], sessionId?: number): void {
    for (const waiting of [...this.#waiting]) {
      const isEnded = sessionId === undefined || waiting.sessionId === sessionId;
      if (waiting.carrier.engine === engine && isEnded) this.#waiting.delete(waiting);
    }
  }

  #letIn(waiting: WaitingSession): void {
    this.#waiting.delete(waiting);
    const { carrier, sessionId } = waiting;
    if (carrier.engine.closed !== undefined || carrier.engine.session(sessionId) === undefined) return;
    carrier.engine.setAvailability(sessionId, "ready");
    void carrier.flush();
  }

  /** Takes a message that is a request or an answer. Returns false if it is for the application. */
  take(message: Message): boolean {
    const { resource } = message;
    if (resource === ANSWER_RESOURCE) {
      this.#answered(message);
      return true;
    }
    const service = serviceOf(resource);
    if (service === undefined) return false;
    void this.#serveInTurn(message, service);
    return true;
  }

  end(error: DeviceError): void {
    this.#ended = error;
    this.#closing.abort();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#waiting.clear();
  }

  #answered(message: Message): void {
    // One that is late, or from somebody else, is of no use to anybody.
    message.done();
    const reply = decodeReply(message.body);
    const pending = reply.ok ? this.#pending.get(reply.value.id) : undefined;
    const { from, vouched } = message;
    if (!reply.ok || pending === undefined || from === undefined || !vouched) return;
    if (!isFrom(pending.to, from, this.#options.relay)) return;
    const { answer } = reply.value;
    pending.resolve({ ...answer, from, text: () => decoder.decode(answer.body) });
  }

  /** Rejects with nothing: every outcome is handled inside. */
  async #serveInTurn(message: Message, service: string): Promise<void> {
    await this.#turns.take();
    try {
      await this.#serve(message, service);
    } finally {
      this.#turns.give();
    }
  }

  async #serve(message: Message, service: string): Promise<void> {
    const call = decodeCall(message.body);
    const handler = this.#handlers.get(service);
    const { from, vouched } = message;
    // Withdrawn after the session was let in: it comes again on the next connection.
    if (handler === undefined || this.#closing.signal.aborted) return;
    // Nobody could be answered.
    if (!call.ok || from === undefined || !vouched) return message.done();
    const { id, deadline } = call.value;
    const left = Math.min(deadline - Date.now(), LONGEST_DEADLINE);
    if (left <= 0) return message.done();
    const late = new AbortController();
    const stop = afterLong(left, () => late.abort());
    const signal = AbortSignal.any([late.signal, this.#closing.signal]);
    try {
      const answering = answerOf(handler, { ...requestFor(call.value, service, from), signal });
      const answer = await Promise.race([answering, aborting(signal)]);
      // Its place is for others: a handler that ignores the signal may never end.
      if (answer === undefined && !late.signal.aborted) return;
      if (answer !== undefined && !late.signal.aborted) await this.#reply(from, id, answer, signal);
      message.done();
    } catch (error) {
      // It comes again on the next connection.
      if (error instanceof DeviceError && error.code === "Closed") return;
      if (error instanceof DeviceError && error.code === "RecipientRefused") this.#options.onUnanswered?.(from, error);
      message.done();
    } finally {
      stop();
    }
  }

  async #reply(to: string, id: string, answer: HttpAnswer, signal: AbortSignal): Promise<void> {
    // The same id each time, so that the caller gets one answer of several.
    const options = { resource: ANSWER_RESOURCE, id: `answer-${id}`, signal };
    try {
      await this.#options.send(to, encodeReply(id, answer), options);
    } catch (error) {
      const isTooLong = error instanceof DeviceError && error.code === "MessageTooLong";
      if (!isTooLong && !(error instanceof RangeError)) throw error;
      await this.#options.send(to, encodeReply(id, FAILED), options);
    }
  }
}

const SERVICE_NAME = "a name has up to 64 letters, digits and . _ -, and begins with a letter or digit";

/** The answer of a service that has failed. */
const FAILED: HttpAnswer = { status: 500, headers: [], body: NOTHING };

async function answerOf(handler: RequestHandler, request: ServiceRequest): Promise<HttpAnswer> {
  try {
    const { status = 200, headers = [], body = NOTHING } = await handler(request);
    return { status, headers: headersOf(headers), body: octetsOf(body) };
  } catch {
    return FAILED;
  }
}

function requestFor({ id, deadline, request }: Call, service: string, from: string): Omit<ServiceRequest, "signal"> {
  return { ...request, id, from, service, deadline, text: () => decoder.decode(request.body) };
}

function requestOf({ method = "GET", path: target = "/", headers = [], body = NOTHING }: RequestOptions): HttpRequest {
  const mark = target.indexOf("?");
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? undefined : target.slice(mark + 1);
  return { method, path, query, headers: headersOf(headers), body: octetsOf(body) };
}

function headersOf(headers: RequestHeaders): Header[] {
  return isList(headers) ? [...headers] : Object.entries(headers);
}

function isList(headers: RequestHeaders): headers is readonly Header[] {
  return Array.isArray(headers);
}

function octetsOf(body: Uint8Array | string): Uint8Array {
  return typeof body === "string" ? encodeText(body) : body;
}

/** @throws DeviceError InvalidOption for what cannot be written */
function written(write: () => Uint8Array): Uint8Array {
  try {
    return write();
  } catch (error) {
    if (error instanceof RangeError) throw invalid(error.message);
    throw error;
  }
}

/** Whether an answer comes from the address that was asked, or from a device of the identity that was. */
function isFrom(to: string, from: string, ownRelay: string | undefined): boolean {
  const [asked, sender] = [parseAddress(to), parseAddress(from)];
  if (!asked.ok || !sender.ok) return false;
  const { relay, ...wanted } = asked.value;
  const isOwn = relay !== undefined && ownRelay !== undefined && isSameDevice(relayURL(relay), relayURL(ownRelay));
  const device = wanted.device ?? sender.value.device;
  const expected = {
    ...wanted,
    ...(device !== undefined && { device }),
    ...(relay !== undefined && !isOwn && { relay }),
  };
  return formatAddress(expected) === formatAddress(sender.value);
}

/** Resolves when a signal aborts. */
async function aborting(signal: AbortSignal): Promise<undefined> {
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Runs after a time that may be longer than a timer can wait. Returns what stops it. */
function afterLong(milliseconds: number, run: () => void): () => void {
  const end = Date.now() + milliseconds;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    const left = end - Date.now();
    if (left <= 0) run();
    else timer = setTimeout(wait, Math.min(left, LONGEST_TIMER));
  };
  wait();
  return () => clearTimeout(timer);
}

function invalid(message: string): DeviceError {
  return new DeviceError("InvalidOption", message);
}

function aborted(): DeviceError {
  return new DeviceError("Aborted", "the request was given up by its signal");
}

function noAnswer(to: string, service: string, deadline: number): DeviceError {
  const time = `${Math.round(deadline / 1000)} s`;
  const cure = "check that a device serves it (grooveway expose --http), or allow more time";
  return new DeviceError("NoAnswer", `${to}:${service} has not answered within ${time}: ${cure}`);
}
