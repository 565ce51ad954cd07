/**
 * A LongLived or KeepAlive virtual connection: holds the encapsulation's state, and joins the GET and the POST.
 *
 *   POST bytes ─► receive() ─► ByteChannel.write ─► relay                a slow relay blocks the POST
 *   relay ─► ByteChannel, one chunk ahead ─► bell or stream ─► GET       a slow device blocks the relay
 *
 * The GET waits in its Worker, behind a bell (doorbell.ts); bulk data takes a stream instead (bulk-streams.ts). The far
 * end is reached when both requests have echoed.
 *
 * @module
 */
import {
  arriveGet,
  arrivePost,
  closeVirtualConnection,
  continueDown,
  ECHO_STRING,
  endPost,
  expire,
  HELD_BODY,
  handshakeAnswer,
  heldFor,
  type KeepAliveTarget,
  keepAnswer,
  LONGEST_HOLD,
  type LongLivedTarget,
  MAX_BODY,
  postponeReceive,
  receive,
  requestNumber,
  room,
  sendDown,
  type VirtualConnection,
} from "../../encapsulation/index.ts";
import { EARLY_END } from "../../lib/early-end.ts";
import { byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { sleep } from "../../lib/runtime/timeout.ts";
import type { ByteChannel } from "../byte-channel.ts";
import { answerHeaders, problem } from "../problem.ts";
import { BULK_OCTETS } from "../pumps/limits.ts";
import type { Reason } from "../reasons.ts";
import { BELL_CLOSE, BULK_IDLE } from "../rpc/doorbell-protocol.ts";
import { OK, type Refused, refused, type Verdict } from "../rpc/tunnel-rpc.ts";
import { type ConnectionContext, type SignsOfLife, type SocketConnection, TAG } from "./device-connection.ts";
import { Bell } from "./doorbell.ts";
import { gather } from "./gather.ts";
import type { SavedConnection, SavedHttp } from "./hibernation.ts";
import { KeptAnswers } from "./kept-answers.ts";
import { BELL_OCTETS, BODY_SILENCE, COMMAND_OCTETS, REPEAT_PATIENCE, SHORT_HOLD } from "./limits.ts";

export type HttpTarget = LongLivedTarget | KeepAliveTarget;

export class HttpConnection implements SocketConnection {
  readonly #context: ConnectionContext;
  readonly #state: VirtualConnection;
  /** The parked GET. */
  #bell: Bell | undefined;
  /** Whether a call waits for data of the relay, to ring the bell. */
  #listening = false;
  /** Calls that wait for the relay to take data. */
  #writing = 0;
  /** For how many seconds its Worker holds it, as far as this instance knows. */
  #hold = LONGEST_HOLD;
  /** Counts GETs, so that a GET can tell that a repeat has replaced it. */
  #turn = 0;
  /** The POST in progress; a repeat of it gets the same verdict. */
  #posting: Promise<Verdict> | undefined;
  /** The answer to a KeepAlive GET that is being streamed. */
  #streaming: { readonly writer: WritableStreamDefaultWriter<Uint8Array>; readonly done: Promise<void> } | undefined;
  /** The last write of a streamed POST. */
  #written: Promise<Verdict> = Promise.resolve(OK);
  /** The length of the outstanding KeepAlive POST. A repeat may be shorter: its device has cut it. */
  #postLength = 0;
  /** Counts KeepAlive POSTs with their repeats, and the bytes that streamed ones bring, also those that came before. */
  #posts = 0;
  #came = 0;
  /** Why the virtual connection has ended. */
  #ended: Reason | undefined;
  /** The answer that is kept for a repeated GET. */
  readonly #kept = new KeptAnswers();
  /** Holds KeepAlive GETs for a moment before they are parked. */
  readonly #holds = new DeadlinePool(SHORT_HOLD);

  constructor(context: ConnectionContext, state: VirtualConnection) {
    this.#context = context;
    this.#state = state;
  }

  /**
   * Restores a connection after eviction.
   *
   * @param socket the bell of the GET that is still parked, if there is one
   */
  static restore(context: ConnectionContext, saved: SavedHttp, socket: WebSocket | undefined): HttpConnection {
    const connection = new HttpConnection(context, saved.state);
    const bell = socket && new Bell(socket, saved.armed);
    connection.#bell = bell;
    if (bell?.armed) connection.#ring();
    return connection;
  }

  get encapsulation(): "LongLived" | "KeepAlive" {
    return this.#state.encapsulation;
  }

  get singleRequests(): boolean {
    return this.#state.encapsulation === "KeepAlive";
  }

  get deadline(): number {
    return Math.min(this.#state.establishmentDeadline, this.#state.receiveDeadline);
  }

  get socket(): WebSocket | undefined {
    return this.#bell?.socket;
  }

  get ended(): Reason | undefined {
    return this.#ended;
  }

  /** Whether a request that names this target may be one of this connection. */
  serves(target: HttpTarget): boolean {
    return this.#state.encapsulation === target.encapsulation && this.#state.relay === target.relay;
  }

  /** Handles the first bytes of a LongLived POST. */
  async post(target: LongLivedTarget, octets: Uint8Array): Promise<Verdict> {
    const arrived = arrivePost(this.#state, target, Date.now());
    return arrived.type === "refuse" ? this.#refuse(arrived) : this.receive(octets);
  }

  /** Handles bytes of a LongLived POST. Resolves when the relay has taken them. */
  async receive(octets: Uint8Array): Promise<Verdict> {
    const { standing } = this.#context;
    if (!standing.fresh() && !(await standing.judge())) return refused(this.#ended ?? "ConnectionClosed");
    if (this.#ended !== undefined) return refused(this.#ended);
    const received = receive(this.#state, octets, Date.now());
    if (received.type === "refuse") return this.#refuse(received);
    if (received.type === "wait") return OK;
    if (received.type === "handshake") {
      const verdict = await this.#handshake();
      if (!verdict.ok) return verdict;
    }
    return this.#write(received.data);
  }

  /** Handles a whole KeepAlive POST. */
  async exchange(target: KeepAliveTarget, body: Uint8Array): Promise<Verdict> {
    const { length } = body;
    const arrived = arrivePost(this.#state, target, Date.now(), length);
    if (arrived.type === "refuse") return this.#refuse(arrived);
    if (!this.#isCurrent(arrived.type, length)) return OUTDATED;
    if (arrived.type === "repeat") {
      if (this.#posting !== undefined || !this.#state.postOutstanding) return (await this.#posting) ?? OK;
      // It was longer, broke off, and a proxy has refused its length: the device sends its beginning again.
      const post = { number: this.#state.postNumber, length };
      const verdict = await this.#receiveAt(post, 0, body);
      return verdict.ok ? this.#complete(post) : verdict;
    }
    const posting = this.#receiveWhole(body);
    this.#posting = posting;
    try {
      return await posting;
    } finally {
      if (this.#posting === posting) this.#posting = undefined;
    }
  }

  /**
   * Handles a KeepAlive POST of `length` bytes as it comes. If its connection breaks, a repeat goes on where it broke off:
   * what was received of it is not received again.
   */
  async exchangeStream(target: KeepAliveTarget, length: number, stream: ReadableStream<Uint8Array>): Promise<Verdict> {
    const arrived = arrivePost(this.#state, target, Date.now(), length);
    if (arrived.type === "refuse") return this.#refuse(arrived);
    if (!this.#isCurrent(arrived.type, length)) return OUTDATED;
    const post = { number: this.#state.postNumber, length };
    const read = byteReader(stream, READ_SIZE);
    let at = 0;
    for (;;) {
      const octets = await read(BODY_SILENCE).catch(() => "end" as const);
      if (typeof octets === "string") break;
      const verdict = await this.#receiveAt(post, at, octets);
      if (!verdict.ok) return verdict;
      at += octets.length;
    }
    if (at < length) {
      this.brokeOff(target);
      return refused("DeviceGone");
    }
    return this.#complete(post);
  }

  /** Whether a request is the POST that is received or complete, and not one that its device has cut since. */
  #isCurrent(arrived: "read" | "repeat", length: number): boolean {
    this.#posts += 1;
    if (!this.#state.postOutstanding) return true;
    if (arrived === "read" || length < this.#postLength) this.#postLength = length;
    return length === this.#postLength;
  }

  /** Completes a POST that came in parts, if another connection has not done so. */
  #complete({ number, length }: StreamedPost): Verdict {
    if (this.#ended !== undefined) return refused(this.#ended);
    if (this.#state.postNumber !== number || this.#state.bodyLength !== length) return OUTDATED;
    if (!this.#state.postOutstanding) return OK;
    const ended = endPost(this.#state, Date.now());
    return ended.type === "refuse" ? this.#refuse(ended) : OK;
  }

  /** Whether the POST of this number is not complete. */
  #isReceiving(number: number): boolean {
    return this.#state.postOutstanding && this.#state.postNumber === number;
  }

  /** Handles the bytes at a position of a POST's body. Those that a broken connection has brought already are left out. */
  async #receiveAt({ number, length }: StreamedPost, at: number, octets: Uint8Array): Promise<Verdict> {
    const { standing } = this.#context;
    if (!standing.fresh() && !(await standing.judge())) return refused(this.#ended ?? "ConnectionClosed");
    if (this.#ended !== undefined) return refused(this.#ended);
    const isReceiving = this.#isReceiving(number);
    if (isReceiving && length !== this.#postLength) return OUTDATED;
    this.#came += octets.length;
    const skip = isReceiving ? this.#state.bodyLength - at : octets.length;
    if (skip >= octets.length) postponeReceive(this.#state, Date.now());
    else {
      const received = receive(this.#state, skip > 0 ? octets.subarray(skip) : octets, Date.now());
      if (received.type === "refuse") return this.#refuse(received);
      // In the order in which they are received, from whichever connection.
      if (received.type === "data") this.#written = this.#written.then(() => this.#write(received.data));
    }
    return this.#written;
  }

  /** Call when a streamed POST has broken off. A proxy that retries does so at once, with the same number. */
  brokeOff(target: KeepAliveTarget): void {
    const number = requestNumber(target);
    if (number === undefined) {
      this.end("DeviceGone");
      return;
    }
    void this.#expectRest(number);
  }

  /** Ends the virtual connection if no repeat brings the rest of a POST whose connection has broken. */
  async #expectRest(number: number): Promise<void> {
    const posts = this.#posts;
    // What comes first may be what was in flight, or a repeat that arrived before the break was known.
    for (let looks = 2; looks > 0; ) {
      const came = this.#came;
      await sleep(REPEAT_PATIENCE);
      if (!this.#isReceiving(number) || this.#posts !== posts) return;
      // A slow relay blocks the device.
      if (this.#writing > 0) continue;
      if (this.#came === came) {
        this.end("DeviceGone");
        return;
      }
      looks -= 1;
    }
  }

  async #receiveWhole(body: Uint8Array): Promise<Verdict> {
    const received = receive(this.#state, body, Date.now());
    if (received.type === "refuse") return this.#refuse(received);
    // The POST is outstanding until the relay has taken its bytes. A second one is refused, so none pile up here.
    const written = received.type === "data" ? await this.#write(received.data) : OK;
    if (!written.ok) return written;
    const ended = endPost(this.#state, Date.now());
    if (ended.type === "refuse") return this.#refuse(ended);
    return ended.handshake ? this.#handshake() : OK;
  }

  /** Completes the handshake when both requests have echoed: reaches the relay, and answers a parked GET. */
  async #handshake(): Promise<Verdict> {
    const { far } = this.#context;
    const channel = await far.reach(this.#state.relay, readSizeOf(this.#state));
    if (this.#ended !== undefined) return refused(this.#ended);
    if (channel === undefined) return this.end(far.unreached);
    this.#bell?.echo(this.#state);
    if (this.#state.encapsulation === "KeepAlive") this.#bell = undefined;
    return OK;
  }

  /** Writes bytes of the device to the relay. Resolves when the relay has taken them. */
  async #write(octets: Uint8Array): Promise<Verdict> {
    if (octets.length === 0) return OK;
    const channel = await this.channel();
    if (channel === undefined) return refused(this.#ended ?? "ConnectionClosed");
    // The first bytes up permit bytes down [MS-GRVHENC 3.2.5.2.2].
    if (this.#bell?.armed) this.#ring();
    this.#writing += 1;
    try {
      await channel.write(octets);
      return this.#ended === undefined ? OK : refused(this.#ended);
    } catch {
      return this.end("OriginReset");
    } finally {
      this.#writing -= 1;
    }
  }

  /** The channel to the relay; undefined if it was not reached, or if the virtual connection has ended. */
  async channel(): Promise<ByteChannel | undefined> {
    const channel = await this.#context.far.channel;
    return this.#ended === undefined ? channel : undefined;
  }

  /** Whether the bytes go to an origin relay. */
  get passedThrough(): boolean {
    return !this.#context.far.endsHere;
  }

  /** Stops the receive timer for good: from now on the relay detects a silent device. */
  stopReceiveTimer(): void {
    this.#writing += 1;
  }

  /** Handles a GET: answers it, or parks it. */
  async get(target: HttpTarget): Promise<Response> {
    const arrived = arriveGet(this.#state, target, Date.now());
    if (target.encapsulation === "KeepAlive") this.#hold = heldFor(target.hold);
    this.#countKept();
    if (arrived.type === "refuse") {
      this.#refuse(arrived);
      return problem(arrived.reason, arrived.detail);
    }
    if (arrived.type === "repeat") return answer(arrived.answer);
    this.#turn += 1;
    if (arrived.type === "supersede") {
      this.#bell?.socket.close(BELL_CLOSE.refused, "RepeatedRequest");
      this.#bell = undefined;
    }
    if (arrived.type === "handshake") {
      const verdict = await this.#handshake();
      if (!verdict.ok) return problem(verdict.reason, verdict.detail);
      return target.encapsulation === "KeepAlive" ? answer(handshakeAnswer(this.#state)) : this.#park(true);
    }
    // A repeat is parked at once: what waits for the relay must not grow with each.
    const mayWait = target.encapsulation === "KeepAlive" && arrived.type === "park";
    return (mayWait ? await this.#answerSoon() : undefined) ?? this.#park(false);
  }

  /**
   * Answers a KeepAlive GET if there is data for it within a moment: a busy device's answer often comes soon, and a
   * doorbell costs more than a short wait here.
   */
  async #answerSoon(): Promise<Response | undefined> {
    if (room(this.#state) === 0 || this.#context.far.rests) return undefined;
    const turn = this.#turn;
    const channel = await this.#context.far.channel;
    // A device that asks for more than it reads would have it all wait in memory.
    await this.#streaming?.done;
    if (channel !== undefined) await this.#holds.within(channel.ready());
    if (this.#ended !== undefined) return problem(this.#ended);
    // The GET was repeated meanwhile, and the repeat is answered.
    if (this.#turn !== turn) return problem("RepeatedRequest");
    const most = room(this.#state);
    const waiting = channel && gather(channel, this.#kept.room(Math.min(most, HELD_BODY)));
    if (waiting === undefined) return undefined;
    if (waiting.kind === "ended") {
      this.end(waiting.reason);
      return problem(waiting.reason);
    }
    sendDown(this.#state, waiting.octets.length, Date.now());
    // Much that waits is the beginning of more.
    const isBulk = waiting.octets.length >= BULK_OCTETS && most - waiting.octets.length >= COMMAND_OCTETS;
    if (channel !== undefined && isBulk && this.#state.bodyLimit > HELD_BODY) {
      return this.#stream(channel, waiting.octets);
    }
    keepAnswer(this.#state, waiting.octets);
    this.#countKept();
    return answer(waiting.octets);
  }

  /** Answers a KeepAlive GET with a stream, which ends at the first pause or when it is long enough. It is not kept. */
  #stream(channel: ByteChannel, first: Uint8Array): Response {
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    const pump = async () => {
      const idle = new DeadlinePool(BULK_IDLE);
      let left = continueDown(this.#state, 0, Date.now());
      await writer.write(first);
      while (left >= COMMAND_OCTETS && this.#ended === undefined) {
        if ((await idle.within(channel.ready())) === undefined) {
          // This pause says nothing of how fast the device reads.
          continueDown(this.#state, 0, Date.now());
          break;
        }
        const waiting = channel.take(left);
        // An end is returned again to the next GET.
        if (waiting?.kind !== "octets") break;
        left = continueDown(this.#state, waiting.octets.length, Date.now());
        await writer.write(waiting.octets);
      }
      await writer.close();
    };
    // What was written to a device that is gone is lost.
    const done = pump()
      .catch(() => this.end("DeviceGone"))
      .then(() => {
        this.#streaming = undefined;
      });
    this.#streaming = { writer, done };
    return new Response(readable, { headers: answerHeaders() });
  }

  #countKept(): void {
    this.#kept.count(this.#state.answer?.length ?? 0);
  }

  /** @param established whether this GET has just completed the handshake, so that its echo string is due */
  #park(established: boolean): Response {
    const { 0: worker, 1: ours } = new WebSocketPair();
    this.#context.sockets.acceptWebSocket(ours, [TAG.bell]);
    const bell = new Bell(ours, !established);
    this.#bell = bell;
    if (established) ours.send(ECHO_STRING);
    else this.#ring();
    return new Response(null, { status: 101, webSocket: worker });
  }

  /** Rings the bell of the parked GET once, if it is armed when there is data. */
  #ring(): void {
    this.#ringOnce().catch((error: unknown) => this.#context.fail(error));
  }

  async #ringOnce(): Promise<void> {
    if (this.#listening) return;
    this.#listening = true;
    const channel = await this.#context.far.channel;
    await channel?.ready();
    this.#listening = false;
    const waiting = channel?.peek();
    const bell = this.#bell;
    if (channel === undefined || waiting === undefined) return;
    if (this.#ended !== undefined || bell === undefined || !bell.armed) return;
    if (waiting.kind === "ended") {
      this.end(waiting.reason);
      return;
    }
    // No bytes may go down yet. The device's first bytes up ring again.
    if (!this.#state.getSessionReady) return;
    const rung = bell.ring(this.#state, channel, waiting.octets);
    if (rung === "answered") this.#bell = undefined;
    if (rung === "full") this.end("ContentLengthReached");
  }

  /** Handles a word of the Worker that holds the parked GET. */
  async hear(word: string | ArrayBuffer): Promise<void> {
    const bell = this.#bell;
    const heard = bell?.hear(word, this.#state);
    if (heard === "released") this.#bell = undefined;
    if (heard === "armed") this.#ring();
  }

  socketClosed(code: number): void {
    this.#bell = undefined;
    if (code === BELL_CLOSE.done) return;
    if (this.#state.getNumber === 0) this.end("DeviceGone");
    else this.#expectAgain();
  }

  /**
   * Waits for a repeat of a GET whose connection has broken. A proxy that retries does so at once, with the same
   * number.
   */
  #expectAgain(): void {
    const turn = this.#turn;
    setTimeout(() => {
      if (this.#turn === turn && this.#bell === undefined) this.end("DeviceGone");
    }, REPEAT_PATIENCE);
  }

  expire(now: number): number {
    // The bell reports the end of the device, or of the GET's hold time; then the Tunnel waits for another GET.
    if (this.#context.far.isConnected && this.#bell !== undefined) return Number.POSITIVE_INFINITY;
    // A device is not silent while a slow relay blocks it.
    if (this.#writing > 0) postponeReceive(this.#state, now);
    const expired = expire(this.#state, now);
    if (expired.type !== "refuse") return this.deadline;
    this.end(expired.reason);
    return Number.POSITIVE_INFINITY;
  }

  lastSign({ now, heardAt, wokeAt }: SignsOfLife): number {
    // Its requests do not end while the device is there.
    if (this.#state.encapsulation === "LongLived") return now;
    // An object that has just woken does not know when it last heard from its device.
    const heard = Math.max(heardAt, wokeAt);
    // A device whose GET is held need not send anything for the hold time.
    return this.#state.getOutstanding ? heard + this.#hold * 1000 : heard;
  }

  save(): SavedConnection | "unsettled" | undefined {
    if (this.#bell === undefined) {
      if (!this.singleRequests) return undefined;
      // An outstanding request without a bell is about to be answered.
      if (this.#state.getOutstanding || this.#state.postOutstanding || this.#streaming !== undefined)
        return "unsettled";
    }
    // More of a streamed body may come at any time, and nothing reports that.
    if (this.singleRequests && this.#state.postOutstanding) return "unsettled";
    // The last answer stays in memory only: hardly any is ever asked for again. A large one is not even kept there, since
    // the object may be evicted unawares.
    if (this.#state.answer !== null && this.#state.answer.length > MAX_BODY) this.#state.answer = null;
    this.#countKept();
    return { live: { state: { ...this.#state, answer: null }, armed: this.#bell?.armed ?? false } };
  }

  /** Ends the virtual connection. Returns the refusal of what was in progress. */
  end(reason: Reason): Refused {
    this.#context.end(reason);
    return refused(this.#ended ?? reason);
  }

  close(reason: Reason): void {
    this.#ended = reason;
    closeVirtualConnection(this.#state);
    this.#countKept();
    // A device that does not read it would hold it open.
    this.#streaming?.writer.abort(new Error(EARLY_END)).catch(() => undefined);
    // The bell of a parked GET, and the socket that a LongLived POST waits for.
    for (const socket of this.#context.sockets.getWebSockets()) socket.close(BELL_CLOSE.refused, reason);
  }

  #refuse(refusal: {
    readonly reason: Reason;
    readonly scope: "request" | "connection";
    readonly detail: string;
  }): Refused {
    if (refusal.scope === "connection") this.end(refusal.reason);
    return { ok: false, reason: refusal.reason, detail: refusal.detail };
  }
}

/** A POST that comes in parts: its number, and the length of its body. */
interface StreamedPost {
  readonly number: number;
  readonly length: number;
}

/** The answer to a POST that its device has since cut, or that is older than the last one. */
const OUTDATED = refused("OldRequest");

/** The most that is read ahead of a relay. */
function readSizeOf({ encapsulation, bodyLimit }: VirtualConnection): number {
  return encapsulation === "LongLived" || bodyLimit > MAX_BODY ? READ_SIZE : BELL_OCTETS;
}

/** A KeepAlive GET response with a body [MS-GRVHENC 3.4.4.3]. */
function answer(octets: Uint8Array): Response {
  return new Response(octets, { headers: answerHeaders() });
}
