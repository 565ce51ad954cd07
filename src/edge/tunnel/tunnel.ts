/**
 * Tunnel: the edge's end of one virtual connection, a Durable Object named by its Virtual-Connection-GUID. It joins the
 * GET and the POST, holds the encapsulation's state, and copies bytes to and from an origin relay or the edge's own
 * endpoint.
 *
 *   POST bytes ─► receive() ─► ByteChannel.write ─► relay                a slow relay blocks the POST
 *   relay ─► ByteChannel, one chunk ahead ─► doorbell or stream ─► GET   a slow device blocks the relay
 *
 * Invariant: nothing outlives the virtual connection. State is in memory; an object that has lost it closes both sides
 * with `ConnectionLost`. Storage (kept.ts) is only for surviving eviction, and is cleared at the end. All timers share
 * one deadline.
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import { ownNames } from "../../auth/own-names.ts";
import type { Judge } from "../../auth/standing.ts";
import {
  arriveGet,
  arrivePost,
  closePolling,
  closeVirtualConnection,
  ECHO_STRING,
  endPost,
  expire,
  expirePolling,
  type KeepAliveTarget,
  keepAnswer,
  type LongLivedTarget,
  parsePoll,
  parseTarget,
  type Received,
  receive,
  requestNumber,
  room,
  sendDown,
  type Target,
} from "../../encapsulation/index.ts";
import { READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import type { ByteChannel } from "../byte-channel.ts";
import { SstpEndpoint, type SstpEndpointSnapshot } from "../endpoint/sstp-endpoint.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import { dialRelay } from "../origin/dial-relay.ts";
import { isOwnName } from "../origin/relay-policy.ts";
import { problem } from "../problem.ts";
import { HOLD_TIME } from "../pumps/limits.ts";
import type { Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import type { Delivery, Taken } from "../rpc/mailbox-rpc.ts";
import {
  type Caller,
  callerOf,
  type Exchange,
  OK,
  type Refused,
  refused,
  STREAM,
  type TunnelRpc,
  type TunnelStatus,
  type Verdict,
} from "../rpc/tunnel-rpc.ts";
import { type Carrier, pull, push } from "./bulk-streams.ts";
import { Deadline } from "./deadline.ts";
import { echo, hear, ring } from "./doorbell.ts";
import { Hibernation, type Saved, type Settle, savedStateOf } from "./hibernation.ts";
import {
  answer,
  type Bell,
  bellOf,
  deadlineOf,
  type Found,
  isBetween,
  type Live,
  liveOf,
  side,
  TAG,
} from "./http-connection.ts";
import { Kept } from "./kept.ts";
import { ABSENCE, BELL_OCTETS, LOST_LOOK, PING_SILENCE, POLL_TIMES, REPEAT_PATIENCE, SHORT_HOLD } from "./limits.ts";
import { Opening } from "./opening.ts";
import { Owner } from "./owner.ts";
import { exchangePoll, type Polling, pollingOf } from "./polling-connection.ts";
import { throttleOfBearer, tunnelContext } from "./tunnel-context.ts";
import { WebSocketConnection } from "./websocket-connection.ts";

export class Tunnel extends DurableObject<Env> implements TunnelRpc {
  /** A LongLived or KeepAlive virtual connection. At most one of these three is set. */
  #live: Live | undefined;
  /** A Polling virtual connection. */
  #polling: Polling | undefined;
  #webSocket: WebSocketConnection | undefined;
  /** The far end, if the virtual connection ends at this edge and not at an origin relay. */
  #endpoint: SstpEndpoint | undefined;
  readonly #kept: Kept;
  readonly #deadline: Deadline;
  readonly #hibernation: Hibernation;
  readonly #owner: Owner;
  readonly #opening: Opening;
  readonly #bulk: Carrier = {
    live: () => this.#live,
    here: () => this.#endpoint !== undefined,
    absent: () => this.#absent,
    receive: (live, octets) => this.#receive(live, octets),
    close: (live, reason) => this.#close(live, reason),
  };
  /** Holds KeepAlive GETs for a moment before they are parked. */
  readonly #holds = new DeadlinePool(SHORT_HOLD);
  /** Why the last virtual connection of this GUID ended; late requests get this reason. */
  #ended: Reason | undefined;
  readonly #since = Date.now();
  /** When the device was last heard from since the object woke; 0 if never. */
  #heardAt = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
    this.#kept = new Kept(ctx);
    this.#deadline = new Deadline(this.#kept, () => this.#look());
    this.#hibernation = new Hibernation(this.#kept, () => this.#settled());
    const left = this.#hibernation.recall([...ctx.getWebSockets(TAG.device), ...ctx.getWebSockets(TAG.bell)]);
    this.#owner = new Owner(env, ctx, (reason) => this.#evict(reason), left?.rest ?? this.#kept.owned);
    this.#opening = new Opening(env, ctx, this.#owner);
    if (left !== undefined && this.#wake(left)) return;
    // The virtual connection is lost with the object's memory. Requests that wait for it end now.
    const sockets = ctx.getWebSockets();
    for (const socket of sockets) socket.close(BELL_CLOSE.refused, "ConnectionLost");
    if (!this.#kept.some && sockets.length === 0) return;
    this.#over(undefined, "ConnectionLost");
    const throttle = throttleOfBearer(this.#owner.standing.bearer, ctx.id.name ?? "", env);
    if (throttle !== undefined) ctx.waitUntil(throttle.leave());
  }

  /** Handles a GET, one of the two bulk streams, or the upgrade of a WebSocket device. */
  override async fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    const caller = callerOf(request);
    const denied = await this.#denied(caller);
    if (denied !== undefined) return problem(denied);
    return this.#guarded(
      () => this.#serve(pathname, caller, request),
      () => problem("InternalError"),
    );
  }

  async #serve(pathname: string, caller: Caller, request: Request): Promise<Response> {
    if (pathname === STREAM.pull) return pull(this.#bulk);
    if (pathname === STREAM.push) return push(this.#bulk, request);
    if (pathname === STREAM.over) return this.#watch();
    const parsed = parseTarget(pathname);
    if (parsed.type === "refuse") return problem(parsed.reason, parsed.detail);
    const crowded = isFirst(parsed.target) ? await this.#opening.crowded(caller) : undefined;
    if (crowded !== undefined) return problem(crowded.reason, crowded.detail, crowded.retryAfter);
    if (parsed.target.encapsulation === "WebSocket") return this.#wire(caller, parsed.target.relay);
    return this.#get(caller, parsed.target);
  }

  /** Handles the first bytes of a LongLived POST. */
  async post(caller: Caller, target: LongLivedTarget, octets: Uint8Array): Promise<Verdict> {
    return this.#guarded(() => this.#post(caller, target, octets), broken);
  }

  async #post(caller: Caller, target: LongLivedTarget, octets: Uint8Array): Promise<Verdict> {
    const admitted = await this.#admit(caller, target, octets[0] === ECHO_STRING[0]);
    if (!admitted.ok) return admitted;
    const { live } = admitted;
    const arrived = arrivePost(live.state, target, Date.now());
    return arrived.type === "refuse" ? this.#refuse(live, arrived) : this.#receive(live, octets);
  }

  /** Handles further bytes of a LongLived POST. Resolves when the relay has taken them. */
  async push(caller: Caller, octets: Uint8Array): Promise<Verdict> {
    const denied = await this.#denied(caller);
    if (denied !== undefined) return refused(denied);
    const live = this.#live;
    if (live === undefined) return refused(this.#absent);
    return this.#guarded(() => this.#receive(live, octets), broken);
  }

  /** Handles a whole KeepAlive POST. */
  async exchange(caller: Caller, target: KeepAliveTarget, body: Uint8Array): Promise<Verdict> {
    return this.#guarded(() => this.#exchange(caller, target, body), broken);
  }

  async #exchange(caller: Caller, target: KeepAliveTarget, body: Uint8Array): Promise<Verdict> {
    const mayBegin = body[0] === ECHO_STRING[0] && body.length === ECHO_STRING.length;
    const admitted = await this.#admit(caller, target, mayBegin);
    if (!admitted.ok) return admitted;
    const { live } = admitted;
    const arrived = arrivePost(live.state, target, Date.now(), body.length);
    if (arrived.type === "refuse") return this.#refuse(live, arrived);
    if (arrived.type === "repeat") return (await live.posting) ?? OK;
    const posting = this.#take(live, body);
    live.posting = posting;
    try {
      return await posting;
    } finally {
      if (live.posting === posting) live.posting = undefined;
    }
  }

  async #take(live: Live, body: Uint8Array): Promise<Verdict> {
    const received = receive(live.state, body, Date.now());
    if (received.type === "refuse") return this.#refuse(live, received);
    // The POST is outstanding until the relay has taken its bytes. A second one is refused, so none pile up here.
    const taken = received.type === "data" ? await this.#up(live, received.data) : OK;
    if (!taken.ok) return taken;
    const ended = endPost(live.state, Date.now());
    if (ended.type === "refuse") return this.#refuse(live, ended);
    return ended.handshake ? this.#handshake(live) : OK;
  }

  /** Handles one exchange of a Polling virtual connection. */
  async poll(caller: Caller, body: Uint8Array): Promise<Exchange> {
    const denied = await this.#denied(caller);
    if (denied !== undefined) return { ok: false, reason: denied, scope: "request" };
    return this.#guarded(
      () => this.#poll(caller, body),
      () => ({ ...broken(), scope: "connection" }),
    );
  }

  async #poll(caller: Caller, body: Uint8Array): Promise<Exchange> {
    const parsed = parsePoll(body);
    if (parsed.type === "refuse") return { ok: false, reason: parsed.reason, scope: "request", detail: parsed.detail };
    const crowded = await this.#opening.crowded(caller);
    if (crowded !== undefined) return { ...crowded, scope: "request" };
    const { poll } = parsed;
    if (this.#polling === undefined) {
      if (this.#taken !== undefined) return { ok: false, reason: this.#taken, scope: "request" };
      this.#polling = this.#opening.beginPolling(caller, poll);
      this.#deadline.set(deadlineOf(this.#polling.state));
    }
    const polling = this.#polling;
    const exchange = await exchangePoll(polling, poll, () => this.#dial(polling, poll.relay, BELL_OCTETS));
    if (exchange.ok || exchange.scope === "request") return exchange;
    this.#unpoll(polling, exchange.reason);
    // If the virtual connection had ended meanwhile, the exchange failed because of that: give that reason.
    return { ...exchange, reason: this.#ended ?? exchange.reason };
  }

  /** Called by a mailbox to send messages to the device. */
  async deliver(peer: string, generation: number, deliveries: readonly Delivery[], position: number): Promise<Taken> {
    this.#hibernation.stir();
    // A fresh judgement needs no await: the delivery is handled in the same turn.
    if (!this.#standing.fresh() && !(await this.#judged())) return "gone";
    if (this.#endIfSilent(Date.now())) return "gone";
    return this.#endpoint?.deliver(peer, generation, deliveries, position) ?? "gone";
  }

  /** Called when another virtual connection takes over a mailbox. Returns true if this one would take it back. */
  async fenced(peer: string, generation: number): Promise<boolean> {
    this.#hibernation.stir();
    return this.#endpoint?.fenced(peer, generation) ?? false;
  }

  /**
   * Called when a mailbox that this virtual connection consumed before has no consumer. Returns true if it takes it
   * back.
   */
  async recall(peer: string): Promise<boolean> {
    this.#hibernation.stir();
    if (!this.#standing.fresh() && !(await this.#judged())) return false;
    return this.#endpoint?.recall(peer) ?? false;
  }

  /** Called when a mailbox has room again for which sessions of the device were suspended. */
  async room(peer: string, upTo: number): Promise<void> {
    this.#hibernation.stir();
    this.#endpoint?.room(peer, upTo);
  }

  /** Called by a Worker whose request of this virtual connection is over. */
  async end({ principal }: Caller, reason: Reason, target: LongLivedTarget | KeepAliveTarget): Promise<void> {
    const live = this.#live;
    // A stranger, or a request of another kind, must not end the virtual connection.
    if (this.#owner.isStranger(principal)) return;
    if (live?.state.encapsulation !== target.encapsulation || live.state.relay !== target.relay) return;
    this.#close(live, reason);
  }

  /** State for tests and operators. `since` is when the object woke, in milliseconds since 1970. */
  async status(): Promise<TunnelStatus> {
    const live = this.#live !== undefined || this.#polling !== undefined || this.#webSocket !== undefined;
    return { live, ended: this.#ended, since: this.#since };
  }

  /**
   * When the device last gave a sign of life, in milliseconds since 1970; 0 if it is gone. A WebSocket that is found
   * dead is closed. This call does not keep the object awake.
   */
  async lastSign(): Promise<number> {
    const now = Date.now();
    if (this.#endIfSilent(now) || this.#endpoint === undefined) return 0;
    const [live, wired] = [this.#live, this.#webSocket];
    if (wired !== undefined) {
      const pinged = this.ctx.getWebSocketAutoResponseTimestamp(wired.socket);
      // A device that never pings counts as present.
      return pinged === null ? now : Math.max(pinged.getTime(), this.#heardAt);
    }
    // An object that has just woken does not know when it last heard from its device.
    const heardAt = Math.max(this.#heardAt, this.#since);
    if (live?.state.encapsulation === "LongLived") return now;
    // A device whose GET is held need not send anything for the hold time.
    if (live !== undefined) return live.state.getOutstanding ? heardAt + HOLD_TIME : heardAt;
    // A Polling device may be silent for its poll interval.
    return heardAt + POLL_TIMES.maximum * 1000;
  }

  /** Ends a WebSocket that has pinged before, and is now silent for too long. Returns true if it did. */
  #endIfSilent(now: number): boolean {
    const wired = this.#webSocket;
    const pinged = wired && this.ctx.getWebSocketAutoResponseTimestamp(wired.socket);
    if (!pinged || now - Math.max(pinged.getTime(), this.#heardAt) < PING_SILENCE) return false;
    this.#unwire("NoSignOfLife");
    return true;
  }

  override async webSocketMessage(socket: WebSocket, word: string | ArrayBuffer): Promise<void> {
    this.#heardAt = Date.now();
    this.#hibernation.stir();
    if (this.#webSocket?.socket === socket) return this.#webSocket.hear(word);
    return this.#guarded(
      async () => this.#hear(socket, word),
      () => undefined,
    );
  }

  #hear(socket: WebSocket, word: string | ArrayBuffer): void {
    const live = this.#live;
    if (live?.bell?.socket !== socket) {
      socket.close(BELL_CLOSE.refused, this.#ended ?? "ConnectionLost");
      return;
    }
    const heard = hear(live, live.bell, word);
    if (heard === "armed") void this.#ring(live, live.bell);
  }

  override webSocketClose(socket: WebSocket, code: number): void {
    if (this.#webSocket?.socket === socket) {
      this.#unwire("DeviceGone");
      return;
    }
    const live = this.#live;
    if (live?.bell?.socket !== socket) return;
    live.bell = undefined;
    if (code === BELL_CLOSE.done) return;
    if (live.state.getNumber === 0) this.#close(live, "DeviceGone");
    else this.#expectAgain(live);
  }

  /**
   * Waits for a repeat of a GET whose connection has broken. A proxy that retries does so at once, with the same
   * number.
   */
  #expectAgain(live: Live): void {
    const { turn } = live;
    setTimeout(() => {
      if (live.turn === turn && live.bell === undefined) this.#close(live, "DeviceGone");
    }, REPEAT_PATIENCE);
  }

  override webSocketError(socket: WebSocket): void {
    this.webSocketClose(socket, BELL_CLOSE.deviceGone);
  }

  override async alarm(): Promise<void> {
    this.#look();
    // If the clearing failed, this throws, and the platform calls the alarm again.
    await this.#kept.cleared;
  }

  /** Checks whether the device is still there. Called by the timer and by the alarm. */
  #look(): void {
    try {
      const next = this.#expire(Date.now());
      if (next !== undefined) this.#deadline.set(next);
    } catch (error) {
      logError(error);
      this.#evict("InternalError");
      if (this.#kept.some) this.#over(undefined, "InternalError");
    }
  }

  /** Ends the virtual connection if it is late. Returns when to check again; undefined if there is no need. */
  #expire(now: number): number | undefined {
    const live = this.#live;
    const polling = this.#polling;
    const entering = this.#endpoint?.connected === false;
    const late = entering ? this.#opening.late : undefined;
    if (late !== undefined) {
      this.#evict(late);
      return undefined;
    }
    const connectBy = entering ? this.#opening.connectBy : Number.POSITIVE_INFINITY;
    if (polling !== undefined) {
      const expired = expirePolling(polling.state, now);
      if (expired.type === "none") return Math.min(deadlineOf(polling.state), connectBy);
      this.#unpoll(polling, expired.reason);
      return undefined;
    }
    if (this.#endpoint !== undefined && !entering && (live === undefined || live.bell !== undefined)) {
      // A socket reports the end of the device: its own WebSocket, or the bell of its parked GET.
      if (!this.#kept.some) return undefined;
      return now + (live?.state.encapsulation === "KeepAlive" ? HOLD_TIME + ABSENCE : LOST_LOOK);
    }
    if (live === undefined) return entering ? connectBy : undefined;
    // A device is not silent while a slow relay blocks it.
    if (live.writing > 0) live.state.receiveDeadline = now + live.state.timers.receive;
    const expired = expire(live.state, now);
    if (expired.type !== "refuse") return Math.min(deadlineOf(live.state), connectBy);
    this.#close(live, expired.reason);
    return undefined;
  }

  async #get(caller: Caller, target: LongLivedTarget | KeepAliveTarget): Promise<Response> {
    const found = this.#find(caller, target, true);
    if (!found.ok) return problem(found.reason);
    const { live } = found;
    const arrived = arriveGet(live.state, target, Date.now());
    if (arrived.type === "refuse") {
      this.#refuse(live, arrived);
      return problem(arrived.reason, arrived.detail);
    }
    if (arrived.type === "repeat") return answer(arrived.answer);
    live.turn += 1;
    const { turn } = live;
    if (arrived.type === "supersede") {
      live.bell?.socket.close(BELL_CLOSE.refused, "RepeatedRequest");
      live.bell = undefined;
    }
    if (arrived.type === "handshake") {
      const verdict = await this.#handshake(live);
      if (!verdict.ok) return problem(verdict.reason, verdict.detail);
      if (target.encapsulation === "KeepAlive") return answer(ECHO_STRING);
    } else if (room(live.state) > 0 && target.encapsulation === "KeepAlive") {
      const origin = await live.origin;
      // A busy device's answer often comes soon, and a doorbell costs more than a short wait here.
      if (origin !== undefined) await this.#holds.within(origin.ready());
      if (this.#live !== live) return problem(this.#ended ?? "ConnectionClosed");
      // The GET was repeated meanwhile, and the repeat is answered.
      if (live.turn !== turn) return problem("RepeatedRequest");
      const waiting = origin?.take(room(live.state));
      if (waiting?.kind === "ended") {
        this.#close(live, waiting.reason);
        return problem(waiting.reason);
      }
      if (waiting !== undefined) {
        sendDown(live.state, waiting.octets.length, Date.now());
        keepAnswer(live.state, waiting.octets);
        return answer(waiting.octets);
      }
    }
    return this.#park(live, arrived.type === "handshake");
  }

  #park(live: Live, established: boolean): Response {
    const { 0: worker, 1: ours } = new WebSocketPair();
    this.ctx.acceptWebSocket(ours, [TAG.bell]);
    const bell = bellOf(ours, !established);
    live.bell = bell;
    if (established) ours.send(ECHO_STRING);
    else void this.#ring(live, bell);
    return new Response(null, { status: 101, webSocket: worker });
  }

  /**
   * Answers with a socket that closes with the reason when the virtual connection ends. A LongLived POST waits for it.
   */
  #watch(): Response {
    const { 0: worker, 1: ours } = new WebSocketPair();
    this.ctx.acceptWebSocket(ours, [TAG.post]);
    if (this.#live === undefined) ours.close(BELL_CLOSE.refused, this.#absent);
    return new Response(null, { status: 101, webSocket: worker });
  }

  /** Opens a WebSocket virtual connection. */
  #wire(caller: Caller, relay: string): Response {
    if (this.#taken !== undefined) return problem(this.#taken);
    if (!isOwnName(relay, this.env)) return problem("WebSocketNotPassed");
    const { 0: device, 1: ours } = new WebSocketPair();
    this.ctx.acceptWebSocket(ours, [TAG.device]);
    this.#owner.claim(caller);
    this.#webSocket = new WebSocketConnection(ours, this.#terminate(), (reason) => this.#unwire(reason));
    return new Response(null, { status: 101, webSocket: device });
  }

  #unwire(reason: Reason): void {
    const wired = this.#webSocket;
    if (wired === undefined) return;
    this.#webSocket = undefined;
    wired.close(reason);
    this.#over(Promise.resolve(wired.endpoint), reason);
  }

  /** Completes the handshake when both requests have echoed: dials the relay, and answers a parked GET. */
  async #handshake(live: Live): Promise<Verdict> {
    const readSize = live.state.encapsulation === "LongLived" ? READ_SIZE : BELL_OCTETS;
    live.origin = this.#dial(live, live.state.relay, readSize);
    const origin = await live.origin;
    if (this.#live !== live) return refused(this.#ended ?? "ConnectionClosed");
    if (origin === undefined) return this.#close(live, live.unreached ?? "OriginUnreachable");
    echo(live);
    return OK;
  }

  async #receive(live: Live, octets: Uint8Array): Promise<Verdict> {
    if (!this.#standing.fresh() && !(await this.#judged())) return refused(this.#ended ?? "ConnectionClosed");
    if (this.#live !== live) return refused(this.#ended ?? "ConnectionClosed");
    const received: Received = receive(live.state, octets, Date.now());
    if (received.type === "refuse") return this.#refuse(live, received);
    if (received.type === "wait") return OK;
    if (received.type === "handshake") {
      const verdict = await this.#handshake(live);
      if (!verdict.ok) return verdict;
    }
    return this.#up(live, received.data);
  }

  /** Writes bytes of the device to the relay. Resolves when the relay's socket has taken them. */
  async #up(live: Live, octets: Uint8Array): Promise<Verdict> {
    if (octets.length === 0) return OK;
    const origin = await live.origin;
    if (this.#live !== live || origin === undefined) return refused(this.#ended ?? "ConnectionClosed");
    // The first bytes up permit bytes down [MS-GRVHENC 3.2.5.2.2].
    if (live.bell?.armed) void this.#ring(live, live.bell);
    live.writing += 1;
    try {
      await origin.write(octets);
      return this.#live === live ? OK : refused(this.#ended ?? "ConnectionClosed");
    } catch {
      return this.#close(live, "OriginReset");
    } finally {
      live.writing -= 1;
    }
  }

  /** Rings an armed bell once, when there is data. */
  #ring(live: Live, bell: Bell): Promise<void> {
    return this.#guarded(
      () => this.#ringOnce(live, bell),
      () => undefined,
    );
  }

  async #ringOnce(live: Live, bell: Bell): Promise<void> {
    if (bell.waiting) return;
    bell.waiting = true;
    const origin = await live.origin;
    await origin?.ready();
    bell.waiting = false;
    const waiting = origin?.peek();
    if (origin === undefined || waiting === undefined) return;
    if (this.#live !== live || live.bell !== bell || !bell.armed) return;
    if (waiting.kind === "ended") {
      this.#close(live, waiting.reason);
      return;
    }
    // No bytes may go down yet. The device's first bytes up ring again.
    if (!live.state.getSessionReady) return;
    const rung = ring(live, bell, origin, waiting.octets);
    if (rung === "full") this.#close(live, "ContentLengthReached");
  }

  /** Admits a caller to the virtual connection that it asks for. */
  async #admit(caller: Caller, target: LongLivedTarget | KeepAliveTarget, mayBegin: boolean): Promise<Found> {
    const denied = await this.#denied(caller);
    if (denied !== undefined) return refused(denied);
    const crowded = mayBegin && isFirst(target) ? await this.#opening.crowded(caller) : undefined;
    return crowded ?? this.#find(caller, target, mayBegin);
  }

  /** The live virtual connection, or a new one for the first request of a GUID. */
  #find(caller: Caller, target: LongLivedTarget | KeepAliveTarget, mayBegin: boolean): Found {
    if (this.#live === undefined) {
      const taken = this.#taken ?? (mayBegin && isFirst(target) ? undefined : "UnknownConnection");
      if (taken !== undefined) return refused(taken);
      this.#live = this.#opening.begin(caller, target);
      this.#deadline.set(deadlineOf(this.#live.state));
    }
    return { ok: true, live: this.#live };
  }

  /** Why no virtual connection can begin here: there is one, or there was. */
  get #taken(): Reason | undefined {
    return (this.#live ?? this.#polling ?? this.#webSocket) === undefined ? this.#ended : "DuplicateConnection";
  }

  /** The reason for an admitted request whose virtual connection is not here. */
  get #absent(): Reason {
    return this.#ended ?? "ConnectionLost";
  }

  /**
   * Why a caller is refused; undefined if it is not. A stranger does not learn whether the virtual connection exists.
   */
  async #denied(caller: Caller): Promise<Reason | undefined> {
    if (this.#owner.isStranger(caller.principal)) return "UnknownConnection";
    this.#heardAt = Date.now();
    this.#hibernation.stir();
    this.#owner.show(caller);
    if (this.#standing.fresh() || (await this.#judged())) return undefined;
    return this.#ended ?? "ConnectionClosed";
  }

  async #judged(): Promise<boolean> {
    const may = await this.#standing.judge();
    // State that was saved while this waited is out of date.
    if (may) this.#hibernation.stir();
    return may;
  }

  /** Judges whether the bearer of the virtual connection's token may still be served. */
  get #standing(): Judge {
    return this.#owner.standing;
  }

  /**
   * Ends the virtual connection with `InternalError` if `run` throws: after half a step it would neither answer nor
   * end.
   *
   * @param told the caller's result in that case
   */
  async #guarded<T>(run: () => Promise<T>, told: () => T): Promise<T> {
    try {
      return await run();
    } catch (error) {
      logError(error);
      this.#evict("InternalError");
      return told();
    }
  }

  #evict(reason: Reason): void {
    this.#unwire(reason);
    if (this.#live !== undefined) this.#close(this.#live, reason);
    if (this.#polling !== undefined) this.#unpoll(this.#polling, reason);
  }

  #unpoll(polling: Polling, reason: Reason): void {
    if (this.#polling !== polling) return;
    this.#polling = undefined;
    closePolling(polling.state);
    this.#over(polling.origin, reason);
  }

  /** Reaches the relay. Resolves to undefined if it is unreachable, with the reason in `connection.unreached`. */
  async #dial(connection: Live | Polling, relay: string, readSize: number): Promise<ByteChannel | undefined> {
    if (isOwnName(relay, this.env)) return this.#terminate();
    // Bulk data runs no code that could judge the token, so a timer does. A relay's socket keeps the object in memory
    // anyway.
    this.#owner.standing.patrol();
    // The Worker has checked the allow list already; dialRelay checks it again, so that no call here can bypass it.
    const reached = await dialRelay(relay, this.env, readSize);
    // From now on the relay authenticates the device, and decides how long that may take.
    if (connection === this.#live || connection === this.#polling) this.#arrived();
    if (reached.type === "origin") return reached.origin;
    connection.unreached = reached.reason;
    return undefined;
  }

  /** Creates the endpoint of a virtual connection that ends at this edge. */
  #terminate(left?: SstpEndpointSnapshot): SstpEndpoint {
    const host = tunnelContext(this.ctx, this.env, this.#owner, () => this.#arrived());
    this.#endpoint = new SstpEndpoint(host, side(this.env), left);
    if (left === undefined) this.#deadline.set(this.#opening.expectConnect());
    return this.#endpoint;
  }

  /** The device is admitted, or the origin relay authenticates it. */
  #arrived(): void {
    this.#opening.arrived();
    const state = this.#polling?.state ?? this.#live?.state;
    // A single request (KeepAlive, Polling) may reach an object that has lost its memory, which must be able to tell.
    if (state !== undefined && (!("encapsulation" in state) || state.encapsulation === "KeepAlive")) {
      this.#kept.keepOwner(this.#owner.owned);
      this.#deadline.set(deadlineOf(state));
    } else if (this.#endpoint !== undefined) this.#deadline.clear();
  }

  /** What to save for eviction. */
  #settled(): ReturnType<Settle> {
    const [live, polling] = [this.#live, this.#polling];
    const socket = this.#webSocket?.socket ?? live?.bell?.socket;
    const byRequests = polling !== undefined || live?.state.encapsulation === "KeepAlive";
    // Nothing is saved before the device is admitted: a timer keeps the object in memory until then.
    if (this.#endpoint?.connected !== true || (socket === undefined && !byRequests)) return undefined;
    const endpoint = this.#endpoint.snapshot();
    // An outstanding request without a bell is about to be answered.
    if (endpoint === undefined || (socket === undefined && live !== undefined && !isBetween(live.state))) {
      return "unsettled";
    }
    return { rest: savedStateOf(endpoint, this.#owner.owned, live, polling, this.#webSocket), socket };
  }

  /** Restores the virtual connection after eviction. Returns false if the saved state cannot be used. */
  #wake({ rest, socket }: Saved): boolean {
    if (ownNames(this.env.RELAY_NAME).length === 0) return false;
    try {
      const endpoint = this.#terminate(rest.endpoint);
      const { standing } = this.#owner;
      standing.show(rest.endpoint.principal, 0);
      if (endpoint.connected) standing.connected();
      if (rest.polling !== undefined) {
        this.#polling = pollingOf(rest.polling, endpoint);
      } else if (rest.live === undefined) {
        if (socket !== undefined)
          this.#webSocket = new WebSocketConnection(socket, endpoint, (reason) => this.#unwire(reason), rest.wired);
      } else {
        const bell = socket && bellOf(socket, rest.live.armed);
        this.#live = liveOf(rest.live.state, bell, endpoint);
        if (bell?.armed) void this.#ring(this.#live, bell);
      }
      return true;
    } catch (error) {
      console.warn(JSON.stringify({ reason: "ConnectionLost", message: String(error) }));
      this.#endpoint = undefined;
      return false;
    }
  }

  #refuse(
    live: Live,
    refusal: { readonly reason: Reason; readonly scope: "request" | "connection"; readonly detail: string },
  ): Verdict {
    if (refusal.scope === "connection") this.#close(live, refusal.reason);
    return { ok: false, reason: refusal.reason, detail: refusal.detail };
  }

  #close(live: Live, reason: Reason): Refused {
    if (this.#live === live) {
      this.#live = undefined;
      closeVirtualConnection(live.state);
      for (const socket of this.ctx.getWebSockets()) socket.close(BELL_CLOSE.refused, reason);
      this.#over(live.origin, reason);
    }
    return refused(this.#ended ?? reason);
  }

  #over(origin: Promise<ByteChannel | undefined> | undefined, reason: Reason): void {
    this.#ended = reason;
    this.#opening.over();
    this.#endpoint = undefined;
    this.#hibernation.end();
    this.#owner.standing.end();
    void origin?.then((socket) => socket?.close());
    this.#deadline.clear();
    this.#kept.clear();
  }
}

/** The answer to a request that has failed unexpectedly. */
function broken(): Refused {
  return refused("InternalError");
}

/** Whether a request can be the first of its virtual connection. A request without a number can. */
function isFirst(target: Target): boolean {
  return (requestNumber(target) ?? 1) === 1;
}
