/**
 * Batches of streams on a WebSocket between two objects. Like a call, a batch is answered when there is room for the next;
 * unlike a call, it takes one message each way and no context of its own, which is less than half of the time.
 *
 *   number (4), length of head (4), head (JSON), bytes of the batch       a batch, to be answered
 *   0 (4), length of head (4), head (JSON), bytes of the batch            a small one, answered only if it is not taken
 *   "NUMBER ANSWER"                                                       what became of it: a `Taken` as JSON
 *   "ask null"                                                            asks for a sign of life
 *   "here null"                                                           the answer
 *
 * So a keystroke costs no answer. Batches are taken one after the other; what has become of one that was not to be answered
 * is told with the next.
 *
 * A WebSocket may break without a word, and would swallow what is sent. So while batches are sent, the other end is asked
 * for a sign of life each {@link SIGN_TIMEOUT}; if it gives none, the WebSocket counts as ended. Releases that do not know
 * the question take it for an answer that is not due.
 *
 * All numbers are little-endian. Either end may send batches. The head says where the batch goes, and has its envelopes:
 * both ends keep the last one, because it nearly always stays the same.
 *
 * @module
 */
import type { Envelope } from "../../store-and-forward/envelope.ts";
import { SIGN_TIMEOUT } from "./deadlines.ts";
import type { Taken } from "./mailbox-rpc.ts";
import type { MessageBatch } from "./message-batch.ts";

/** What a WebSocket must do for it. */
export interface BatchWire {
  send(data: string | Uint8Array): void;
}

/** Sends batches. */
export interface BatchSender<To> {
  /**
   * Sends a batch. Resolves with the other end's answer, or with undefined when the WebSocket has ended before: then it is
   * not known whether the batch was taken. A small one counts as taken; if it was not, the next one gets that answer, and
   * is not sent.
   *
   * @param to the same object as long as it is the same place: then it is not encoded anew
   */
  pass(to: To, batch: MessageBatch): Promise<Taken | undefined>;

  /**
   * Sends a batch that is small, and counts as taken. Returns false if it was not sent: then call `pass`. So a keystroke
   * waits for no promises.
   */
  passNow(to: To, batch: MessageBatch): boolean;
}

/** Takes a batch that has arrived: at once, or when there is room. `to` is what the other end has given `pass`. */
export type TakeBatch<To> = (to: To, batch: MessageBatch) => Taken | Promise<Taken>;

interface Head<To> {
  readonly to: To;
  readonly envelopes: readonly Envelope[];
}

const PREFIX_OCTETS = 8;

/**
 * Bytes that may be on their way without an answer: many keystrokes, and little beside the batch that is answered. The
 * recipient holds them until there is room.
 */
const UNANSWERED_OCTETS = 32 * 1024;

/** The number of batches that are answered only if they are not taken. */
const NO_NUMBER = 0;

const ASK = "ask null";
const HERE = "here null";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * One end of such a WebSocket.
 *
 * @typeParam Out where this end's batches go
 * @typeParam In where those of the other end go
 */
export class BatchSocket<Out, In = never> implements BatchSender<Out> {
  readonly #wire: BatchWire;
  readonly #take: TakeBatch<In> | undefined;
  readonly #silent: () => void;
  readonly #waiting = new Map<number, (taken: Taken | undefined) => void>();
  #last = 0;
  #unanswered = 0;
  /** Why an earlier batch was not taken. */
  #refusal: Taken | undefined;
  /** The batch that is being taken. */
  #taking: Promise<Taken> | undefined;
  #isOver = false;
  /** Runs while the other end owes a sign of life, or has been sent something since the last one. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Since when it owes one. */
  #askedAt: number | undefined;
  /** Whether a batch was sent since it was asked. */
  #isUsed = false;
  #sent: { readonly head: Head<Out>; readonly octets: Uint8Array } | undefined;
  #came: { readonly octets: Uint8Array; readonly head: Head<In> } | undefined;

  /**
   * @param silent called when the other end gives no sign of life: the WebSocket is over, and should be closed
   * @param take undefined if this end takes no batches
   */
  constructor(wire: BatchWire, silent: () => void, take?: TakeBatch<In>) {
    this.#wire = wire;
    this.#silent = silent;
    this.#take = take;
  }

  /** Whether it can still be used. */
  get isOver(): boolean {
    return this.#isOver;
  }

  passNow(to: Out, batch: MessageBatch): boolean {
    if (this.#isOver || this.#refusal !== undefined) return false;
    const head = this.#headFor(to, batch.envelopes);
    if (this.#unanswered + lengthOf(head, batch) > UNANSWERED_OCTETS) return false;
    return this.#send(NO_NUMBER, head, batch);
  }

  pass(to: Out, batch: MessageBatch): Promise<Taken | undefined> {
    if (this.passNow(to, batch)) return Promise.resolve("taken");
    if (this.#isOver) return Promise.resolve(undefined);
    const refusal = this.#refusal;
    this.#refusal = undefined;
    if (refusal !== undefined) return Promise.resolve(refusal);
    this.#last = (this.#last % 0xffff_ffff) + 1;
    const number = this.#last;
    return new Promise((resolve) => {
      this.#waiting.set(number, resolve);
      this.#send(number, this.#headFor(to, batch.envelopes), batch);
    });
  }

  /** Returns false if the WebSocket has ended. */
  #send(number: number, head: Uint8Array, batch: MessageBatch): boolean {
    const message = new Uint8Array(lengthOf(head, batch));
    const view = new DataView(message.buffer);
    view.setUint32(0, number, true);
    view.setUint32(4, head.length, true);
    message.set(head, PREFIX_OCTETS);
    message.set(batch.octets, PREFIX_OCTETS + head.length);
    try {
      this.#wire.send(message);
    } catch {
      this.lost();
      return false;
    }
    // Batches are taken in order, so the answer is one for those before it too.
    this.#unanswered = number === NO_NUMBER ? this.#unanswered + message.length : 0;
    this.#isUsed = true;
    if (this.#timer === undefined) this.#lookLater();
    return true;
  }

  #headFor(to: Out, envelopes: readonly Envelope[]): Uint8Array {
    const last = this.#sent?.head;
    const isSame = last?.to === to && last.envelopes.length === envelopes.length;
    if (isSame && this.#sent !== undefined && envelopes.every((one, at) => last.envelopes[at] === one)) {
      return this.#sent.octets;
    }
    const head: Head<Out> = { to, envelopes };
    this.#sent = { head, octets: encoder.encode(JSON.stringify(head)) };
    return this.#sent.octets;
  }

  /** Handles a message of the other end. Resolves when it is answered; undefined: it is. */
  hear(message: string | ArrayBuffer): Promise<void> | undefined {
    try {
      return this.#hear(message);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #hear(message: string | ArrayBuffer): Promise<void> | undefined {
    this.#askedAt = undefined;
    if (message === HERE) return undefined;
    if (message === ASK) {
      if (!this.#isOver) this.#wire.send(HERE);
      return undefined;
    }
    if (typeof message === "string") {
      const [number = "", answer = ""] = message.split(/ (.*)/s);
      const taken = JSON.parse(answer) as Taken;
      if (Number(number) === NO_NUMBER) this.#refusal = taken;
      this.#waiting.get(Number(number))?.(taken);
      this.#waiting.delete(Number(number));
      return undefined;
    }
    if (this.#take === undefined) return undefined;
    const view = new DataView(message);
    const number = view.getUint32(0, true);
    const from = PREFIX_OCTETS + view.getUint32(4, true);
    const { to, envelopes } = this.#headIn(new Uint8Array(message, PREFIX_OCTETS, from - PREFIX_OCTETS));
    const taken = this.#inTurn(this.#take, to, { envelopes, octets: new Uint8Array(message, from) });
    if (taken instanceof Promise) return taken.then((answer) => this.#answer(number, answer));
    this.#answer(number, taken);
    return undefined;
  }

  #answer(number: number, taken: Taken): void {
    const isAnswered = number !== NO_NUMBER || taken !== "taken";
    if (isAnswered && !this.#isOver) this.#wire.send(`${number} ${JSON.stringify(taken)}`);
  }

  #inTurn(take: TakeBatch<In>, to: In, batch: MessageBatch): Taken | Promise<Taken> {
    const before = this.#taking;
    const taken = before === undefined ? take(to, batch) : before.then(() => take(to, batch));
    return taken instanceof Promise ? this.#whileTaking(taken) : taken;
  }

  async #whileTaking(taking: Promise<Taken>): Promise<Taken> {
    this.#taking = taking;
    try {
      return await taking;
    } finally {
      if (this.#taking === taking) this.#taking = undefined;
    }
  }

  #headIn(octets: Uint8Array): Head<In> {
    if (this.#came === undefined || !isSame(this.#came.octets, octets)) {
      this.#came = { octets: octets.slice(), head: JSON.parse(decoder.decode(octets)) as Head<In> };
    }
    return this.#came.head;
  }

  #lookLater(): void {
    this.#timer = setTimeout(() => this.#look(), SIGN_TIMEOUT);
  }

  /** Asks for a sign of life if something was sent since the last question, and gives up if that has no answer. */
  #look(): void {
    this.#timer = undefined;
    // An object that was starved meanwhile may not have heard the answer yet.
    const isLate = this.#askedAt !== undefined && Date.now() - this.#askedAt > 2 * SIGN_TIMEOUT;
    if (this.#askedAt !== undefined && !isLate) {
      this.#giveUp();
      return;
    }
    if (!this.#isUsed && !isLate) return;
    this.#isUsed = false;
    this.#askedAt = Date.now();
    try {
      this.#wire.send(ASK);
      this.#lookLater();
    } catch {
      this.#giveUp();
    }
  }

  #giveUp(): void {
    this.lost();
    this.#silent();
  }

  /** The WebSocket has ended. */
  lost(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    for (const resolve of this.#waiting.values()) resolve(undefined);
    this.#waiting.clear();
  }
}

function lengthOf(head: Uint8Array, { octets }: MessageBatch): number {
  return PREFIX_OCTETS + head.length + octets.length;
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let at = 0; at < one.length; at += 1) if (one[at] !== other[at]) return false;
  return true;
}

/**
 * Opens a WebSocket to an object that answers with one at this path.
 *
 * @throws Error if it does not
 */
export async function openSocket(object: Pick<DurableObjectStub, "fetch">, path: string): Promise<WebSocket> {
  const { webSocket } = await object.fetch(`http://object${path}`, { headers: { Upgrade: "websocket" } });
  if (webSocket === null) throw new Error("the object has not answered with a WebSocket");
  webSocket.binaryType = "arraybuffer";
  webSocket.accept();
  return webSocket;
}
