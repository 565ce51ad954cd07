/**
 * Live reads of a stream, which wait here while the stream's object may sleep: long-polls, which end with the first
 * append [PROTOCOL 5.7], and server-sent events, which go on for a minute [5.8].
 *
 * @module
 */
import { sleep, within } from "../../lib/runtime/timeout.ts";
import type { ReadState } from "../durable-streams/answers.ts";
import { nextCursor } from "../durable-streams/cursor.ts";
import { isSamePosition } from "../durable-streams/offset.ts";
import {
  controlEvent,
  dataEvent,
  type Encoding,
  heartbeatEvent,
  resetEvent,
} from "../durable-streams/server-sent-events.ts";
import { isReason, type Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import {
  ORDER,
  packHeader,
  type ReadAnswer,
  type ReadOrder,
  type Ring,
  STATE,
  unpackHeader,
  unpackRing,
} from "../rpc/plain-stream-rpc.ts";
import { STOP_TIME } from "../stopping.ts";
import { Bell, type Heard, STOPPING } from "./bell.ts";
import {
  COME_BACK_TIME,
  EVENTS_TAKE_TIME,
  EVENTS_TIME,
  HEARTBEAT_INTERVAL,
  KEPT_OCTETS,
  LONG_POLL_TIME,
  READ_TIMEOUT,
} from "./limits.ts";

/** The object of a stream, as far as it is read. */
export interface Readable {
  fetch(request: Request): Promise<Response>;
}

type Read = Extract<ReadAnswer, { ok: true }>;

/** An answer of the object: what was read, or a doorbell. */
interface Answered {
  readonly answer: ReadAnswer;
  readonly body: ReadableStream<Uint8Array> | null;
  readonly bell: WebSocket | null;
}

/** Reads once. An object that does not answer in time counts as one that has failed. */
export async function ask(stream: Readable, order: ReadOrder): Promise<Answered> {
  const headers = { [ORDER]: packHeader(order), ...(order.live && { Upgrade: "websocket" }) };
  const asked = stream.fetch(new Request("http://stream/", { headers }));
  const answered = await within(READ_TIMEOUT, asked);
  if (answered === undefined) {
    asked.then(release, () => undefined);
    return { answer: { ok: false, reason: "InternalError" }, body: null, bell: null };
  }
  const { headers: said, body, webSocket } = answered.value;
  return { answer: unpackHeader<ReadAnswer>(said.get(STATE)), body, bell: webSocket };
}

/** Gives back what a late answer holds. */
function release({ body, webSocket }: Response): void {
  webSocket?.accept();
  webSocket?.close(BELL_CLOSE.done);
  body?.cancel().catch(() => undefined);
}

/** How a long-poll ends: with what was appended, without anything, or with a refusal. */
export type Polled =
  | { readonly type: "data"; readonly state: ReadState; readonly body: ReadableStream<Uint8Array> | Uint8Array | null }
  | { readonly type: "nothing"; readonly state: ReadState }
  | { readonly type: "refused"; readonly answer: Extract<ReadAnswer, { ok: false }> };

/** Who reads: aborted when it has gone, and whether it still may. */
export interface Reader {
  readonly gone: AbortSignal;
  /** Why what is read now may not be handed over: a token may have been revoked meanwhile. Undefined if it may. */
  refusal(): Promise<Reason | undefined>;
  /** Learns that the stream exists, before anything is waited for. */
  found?(): void;
}

/** Reads at an offset, and waits there if it is the tail. */
export async function longPoll(stream: Readable, offset: string, reader: Reader): Promise<Polled> {
  const order = { offset, resumes: false, events: false, etag: undefined };
  const { answer, body, bell } = await ask(stream, { ...order, live: true });
  if (!answer.ok) return { type: "refused", answer };
  reader.found?.();
  if (bell === null) return polled(answer, body);
  const rings = appendBell(bell, reader);
  try {
    const heard = await rings.next(LONG_POLL_TIME);
    const refusal = await reader.refusal();
    if (refusal !== undefined) return refused(refusal);
    const end = endOf(heard);
    if (end !== undefined) return refused(end);
    const { state } = answer;
    if (heard.type === "ring" && heard.ring.whole && isSamePosition(heard.ring.from, state.next)) {
      const { next, closed, octets } = heard.ring;
      const isClosing = isSamePosition(next, state.next);
      const after = { ...state, next, closed, etag: undefined };
      return isClosing ? { type: "nothing", state: after } : { type: "data", state: after, body: octets };
    }
    if (heard.type === "ring" || heard.type === "missed") {
      const again = await ask(stream, { ...order, offset: state.next, live: false });
      return again.answer.ok ? polled(again.answer, again.body) : { type: "refused", answer: again.answer };
    }
    // Nothing says whether the object, or the whole edge, is about to come back.
    if (heard.type === "closed") await sleep(Math.random() * pauseAfter(heard), reader.gone);
    return { type: "nothing", state };
  } finally {
    rings.close(BELL_CLOSE.done);
  }
}

/** The bell that rings for each append. */
function appendBell(socket: WebSocket, { gone }: Reader): Bell<Ring> {
  const read = (data: ArrayBuffer | string) => unpackRing(data as ArrayBuffer);
  return new Bell(socket, { read, gone, most: KEPT_OCTETS, weigh: weightOf, heedsStop: true });
}

/** Bytes that a ring takes, with what is around them: one that says only that there is more is not nothing. */
function weightOf({ octets }: Ring): number {
  return octets.length + RING_WEIGHT;
}

const RING_WEIGHT = 256;

/** The longest pause before readers are answered whose bell has closed. */
function pauseAfter({ reason }: { readonly reason: string }): number {
  return reason === STOPPING ? STOP_TIME : COME_BACK_TIME;
}

/** Why the stream has ended; undefined if it has not: a closed bell is lost, or the reader has gone. */
function endOf(heard: Heard<Ring>): Reason | undefined {
  if (heard.type !== "closed" || heard.code !== BELL_CLOSE.refused || heard.reason === "") return undefined;
  return isReason(heard.reason) ? heard.reason : "StreamNotFound";
}

function polled({ state, isEmpty }: Read, body: ReadableStream<Uint8Array> | null): Polled {
  return isEmpty ? { type: "nothing", state } : { type: "data", state, body };
}

function refused(reason: Reason): Polled {
  return { type: "refused", answer: { ok: false, reason } };
}

/** A connection for events: its body, and the work that fills it. Refused if it has not begun. */
export type Events =
  | {
      readonly type: "events";
      readonly body: ReadableStream<Uint8Array>;
      readonly encoding: Encoding;
      readonly done: Promise<void>;
    }
  | Extract<Polled, { type: "refused" }>;

/** Where a connection for events begins. */
export interface Beginning {
  readonly offset: string;
  readonly resumes: boolean;
  readonly cursor: string | undefined;
}

export async function openEvents(stream: Readable, from: Beginning, reader: Reader): Promise<Events> {
  const { offset, resumes, cursor } = from;
  const first = await ask(stream, { offset, resumes, live: true, events: true, etag: undefined });
  const { answer } = first;
  if (!answer.ok) return { type: "refused", answer };
  const encoding = answer.isText ? "text" : "base64";
  const { readable, writable } = new IdentityTransformStream();
  const sender = new EventSender(stream, writable.getWriter(), encoding, cursor);
  const done = sender.run({ ...first, answer }, reader).catch(() => undefined);
  return { type: "events", body: readable, encoding, done };
}

/** Sends the events of one connection. Everything that it sends is sent in order, as fast as the reader takes it. */
class EventSender {
  readonly #stream: Readable;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #encoding: Encoding;
  readonly #until = Date.now() + EVENTS_TIME;
  /** Above the cursor that the client has sent. */
  readonly #cursor: string;
  /** The offset after what was sent. */
  #place = "";
  /** Since when the reader has not taken what was written; milliseconds since 1970. */
  #writingSince = Number.POSITIVE_INFINITY;
  /** Fails what is being written. */
  #giveUp: (error: Error) => void = () => undefined;

  constructor(
    stream: Readable,
    writer: WritableStreamDefaultWriter<Uint8Array>,
    encoding: Encoding,
    cursor: string | undefined,
  ) {
    this.#stream = stream;
    this.#writer = writer;
    this.#encoding = encoding;
    this.#cursor = nextCursor(cursor, Date.now(), Math.random());
  }

  async run(first: Answered & { readonly answer: Read }, reader: Reader): Promise<void> {
    const watching = setInterval(() => this.#watch(), EVENTS_TAKE_TIME / 2);
    try {
      if (first.answer.reset) await this.#write(resetEvent("OffsetGone", first.answer.from));
      let now: (Answered & { readonly answer: Read }) | undefined = first;
      while (now !== undefined) now = (await this.#send(now, reader)) ? await this.#again() : undefined;
      await this.#writer.close();
    } catch (error) {
      // Not awaited: it may wait for what nobody takes.
      this.#writer.abort(error).catch(() => undefined);
    } finally {
      clearInterval(watching);
    }
  }

  /** Ends the connection of a reader that takes nothing. */
  #watch(): void {
    if (Date.now() - this.#writingSince < EVENTS_TAKE_TIME) return;
    this.#giveUp(new Error("the reader takes nothing"));
  }

  /** Reads on where the events have come to. Undefined if the stream has ended, or the connection is to end. */
  async #again(): Promise<(Answered & { readonly answer: Read }) | undefined> {
    if (Date.now() >= this.#until) return undefined;
    const next = await ask(this.#stream, {
      offset: this.#place,
      resumes: false,
      live: true,
      events: true,
      etag: undefined,
    });
    return next.answer.ok ? { ...next, answer: next.answer } : undefined;
  }

  /** Sends what was read, or waits at the tail. Returns false if nothing more is to be sent. */
  async #send({ answer, body, bell }: Answered & { readonly answer: Read }, reader: Reader): Promise<boolean> {
    const { state, isEmpty } = answer;
    if (bell !== null) {
      const rings = appendBell(bell, reader);
      try {
        if (state.next !== this.#place) await this.#control(state);
        return await this.#wait(rings, reader);
      } finally {
        rings.close(BELL_CLOSE.done);
      }
    }
    const read = await within(READ_TIMEOUT, new Response(body).arrayBuffer());
    if (read === undefined) return false;
    const octets = new Uint8Array(read.value);
    if ((await reader.refusal()) !== undefined) return false;
    const events = isEmpty ? "" : dataEvent(octets, this.#encoding, state.next);
    await this.#control(state, events);
    return !(state.closed && state.upToDate);
  }

  /** Waits at the tail. Returns true if there is something to read. */
  async #wait(rings: Bell<Ring>, reader: Reader): Promise<boolean> {
    let beatAt = Date.now() + HEARTBEAT_INTERVAL;
    for (;;) {
      const heard = await rings.next(Math.min(beatAt, this.#until) - Date.now());
      if (heard.type === "missed") return true;
      if (heard.type === "closed" && heard.reason === STOPPING) await sleep(Math.random() * STOP_TIME, reader.gone);
      if (heard.type === "closed" && endOf(heard) === undefined && !reader.gone.aborted)
        await this.#write(`retry: ${Math.ceil(500 + Math.random() * COME_BACK_TIME)}\n\n`);
      // Those who may no longer read are not kept alive.
      if (heard.type === "late" && Date.now() < this.#until && (await reader.refusal()) === undefined) {
        await this.#write(heartbeatEvent());
        beatAt = Date.now() + HEARTBEAT_INTERVAL;
        continue;
      }
      if (heard.type !== "ring" || (await reader.refusal()) !== undefined) return false;
      const { from, next, closed, whole, octets } = heard.ring;
      if (!whole || !isSamePosition(from, this.#place)) {
        if (next > this.#place || closed) return true;
        continue;
      }
      const events = isSamePosition(next, from) ? "" : dataEvent(octets, this.#encoding, next);
      await this.#control({ next, closed, upToDate: true }, events);
      if (closed || Date.now() >= this.#until) return false;
      beatAt = Date.now() + HEARTBEAT_INTERVAL;
    }
  }

  /** Sends a control event, with the events before it in one piece. */
  async #control(state: Pick<ReadState, "next" | "closed" | "upToDate">, before = ""): Promise<void> {
    const { next, upToDate } = state;
    const closed = state.closed && upToDate;
    const current = nextCursor(undefined, Date.now(), Math.random());
    const cursor = String(Math.max(Number(this.#cursor), Number(current)));
    this.#place = next;
    await this.#write(before + controlEvent({ next, cursor, upToDate, closed }));
  }

  /** @throws Error if the reader does not take it in time */
  async #write(text: string): Promise<void> {
    this.#writingSince = Date.now();
    await new Promise<void>((resolve, reject) => {
      this.#giveUp = reject;
      this.#writer.write(new TextEncoder().encode(text)).then(resolve, reject);
    });
    this.#writingSince = Number.POSITIVE_INFINITY;
  }
}
