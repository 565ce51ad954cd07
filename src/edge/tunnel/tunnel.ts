/**
 * Tunnel: the edge's end of one virtual connection, an object named by its Virtual-Connection-GUID. It joins the GET
 * and the POST, holds the encapsulation's state, and copies octets to and from the origin relay.
 *
 *   POST octets ─► receive() ─► ByteChannel.write ─► relay         a relay that stops reading stops the POST
 *   relay ─► ByteChannel, one chunk ahead ─► doorbell or stream ─► GET   a device that stops reading stops the relay
 *
 * Everything here dies with the virtual connection: state is memory, and an object that has lost it tells both sides
 * so. What has to outlive memory is in tunnel/kept.ts, and nothing of it stays. One deadline carries the timers.
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
  /** A LongLived or KeepAlive virtual connection. */
  #live: Live | undefined;
  /** A Polling one. There is one of the three. */
  #polling: Polling | undefined;
  #webSocket: WebSocketConnection | undefined;
  /** The end of the virtual connection, when it is here and not at an origin relay. */
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
  /** KeepAlive GETs that wait for what is about to come. */
  readonly #holds = new DeadlinePool(SHORT_HOLD);
  /** Why the last virtual connection of this GUID ended: what comes late is told at once. */
  #ended: Reason | undefined;
  readonly #since = Date.now();
  /** When the device was heard of last, as far as this memory knows. */
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
    // The virtual connection is older than this memory, and lost; those who wait for it must not wait on.
    const sockets = ctx.getWebSockets();
    for (const socket of sockets) socket.close(BELL_CLOSE.refused, "ConnectionLost");
    if (!this.#kept.some && sockets.length === 0) return;
    this.#over(undefined, "ConnectionLost");
    const throttle = throttleOfBearer(this.#owner.standing.bearer, ctx.id.name ?? "", env);
    if (throttle !== undefined) ctx.waitUntil(throttle.leave());
  }

  /** A GET to be parked, or one of the two streams for bulk. */
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

  /** The first octets of a LongLived POST. */
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

  /** Further octets of a LongLived POST. Resolves when the relay has taken them. */
  async push(caller: Caller, octets: Uint8Array): Promise<Verdict> {
    const denied = await this.#denied(caller);
    if (denied !== undefined) return refused(denied);
    const live = this.#live;
    if (live === undefined) return refused(this.#absent);
    return this.#guarded(() => this.#receive(live, octets), broken);
  }

  /** A whole KeepAlive POST. */
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
    // The POST is outstanding until the relay has taken its octets: a second one is refused, so that none pile up here.
    const taken = received.type === "data" ? await this.#up(live, received.data) : OK;
    if (!taken.ok) return taken;
    const ended = endPost(live.state, Date.now());
    if (ended.type === "refuse") return this.#refuse(live, ended);
    return ended.handshake ? this.#handshake(live) : OK;
  }

  /** One exchange of a Polling virtual connection. */
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
    // What failed only because the virtual connection had ended meanwhile is told why that was.
    return { ...exchange, reason: this.#ended ?? exchange.reason };
  }

  /** A mailbox sends messages for the device. */
  async deliver(peer: string, generation: number, deliveries: readonly Delivery[], position: number): Promise<Taken> {
    this.#hibernation.stir();
    // In the same turn when the judgement is fresh.
    if (!this.#standing.fresh() && !(await this.#judged())) return "gone";
    if (this.#endIfSilent(Date.now())) return "gone";
    return this.#endpoint?.deliver(peer, generation, deliveries, position) ?? "gone";
  }

  /** Another virtual connection consumes a mailbox from now on. True when this one would have it back. */
  async fenced(peer: string, generation: number): Promise<boolean> {
    this.#hibernation.stir();
    return this.#endpoint?.fenced(peer, generation) ?? false;
  }

  /** A mailbox that this virtual connection consumed has lost its consumer. True when it is taken back. */
  async recall(peer: string): Promise<boolean> {
    this.#hibernation.stir();
    if (!this.#standing.fresh() && !(await this.#judged())) return false;
    return this.#endpoint?.recall(peer) ?? false;
  }

  /** A mailbox for which sessions of the device were suspended has room again. */
  async room(peer: string, upTo: number): Promise<void> {
    this.#hibernation.stir();
    this.#endpoint?.room(peer, upTo);
  }

  /** A Worker has found that a request of this virtual connection is over. */
  async end({ principal }: Caller, reason: Reason, target: LongLivedTarget | KeepAliveTarget): Promise<void> {
    const live = this.#live;
    // Whose request has other properties is not the owner of the virtual connection: it must not suffer.
    if (this.#owner.isStranger(principal)) return;
    if (live?.state.encapsulation !== target.encapsulation || live.state.relay !== target.relay) return;
    this.#close(live, reason);
  }

  /**
   * What there is, for tests and for an operator's look: `since` is when the object woke, in milliseconds since 1970.
   */
  async status(): Promise<TunnelStatus> {
    const live = this.#live !== undefined || this.#polling !== undefined || this.#webSocket !== undefined;
    return { live, ended: this.#ended, since: this.#since };
  }

  /**
   * When the device showed last that it is there. To ask does not keep the object awake. A WebSocket that is found dead
   * is ended.
   */
  async lastSign(): Promise<number> {
    const now = Date.now();
    if (this.#endIfSilent(now) || this.#endpoint === undefined) return 0;
    const [live, wired] = [this.#live, this.#webSocket];
    if (wired !== undefined) {
      const pinged = this.ctx.getWebSocketAutoResponseTimestamp(wired.socket);
      // Of one that never pings nobody can say.
      return pinged === null ? now : Math.max(pinged.getTime(), this.#heardAt);
    }
    // What was before this memory nobody knows.
    const heardAt = Math.max(this.#heardAt, this.#since);
    if (live?.state.encapsulation === "LongLived") return now;
    // A GET that is held says so much longer that its device is there.
    if (live !== undefined) return live.state.getOutstanding ? heardAt + HOLD_TIME : heardAt;
    // A device that polls may be silent for as long as it was told.
    return heardAt + POLL_TIMES.maximum * 1000;
  }

  /** Ends a WebSocket that has pinged before, and has not for too long. True when it has. */
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

  /** The connection of a GET has broken. A proxy may send it again, by the same number, and then at once. */
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
    // What could not be cleared is tried again by the platform.
    await this.#kept.cleared;
  }

  /** The time has come to see whether the device is still there. */
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

  /** Ends what is late. Returns when to look again; undefined when nothing has to be looked for. */
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
      // Somebody is there who will tell: the device's own socket, or the Worker that has parked the GET.
      if (!this.#kept.some) return undefined;
      return now + (live?.state.encapsulation === "KeepAlive" ? HOLD_TIME + ABSENCE : LOST_LOOK);
    }
    if (live === undefined) return entering ? connectBy : undefined;
    // A device that is kept from sending by a relay that does not read is not silent.
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
      // A busy device's answer is often about to come, and a doorbell costs more than to wait for it here.
      if (origin !== undefined) await this.#holds.within(origin.ready());
      if (this.#live !== live) return problem(this.#ended ?? "ConnectionClosed");
      // It has come again meanwhile, and that one is answered.
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

  /** A POST waits for the end of the virtual connection: its socket is closed with the reason. */
  #watch(): Response {
    const { 0: worker, 1: ours } = new WebSocketPair();
    this.ctx.acceptWebSocket(ours, [TAG.post]);
    if (this.#live === undefined) ours.close(BELL_CLOSE.refused, this.#absent);
    return new Response(null, { status: 101, webSocket: worker });
  }

  /** A device that speaks WebSocket: its messages are octets of SSTP, and so are ours. */
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

  /** Both requests have echoed: the relay is dialled, and a GET that is parked is answered. */
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

  /** Octets of the device go to the relay; resolves when its socket has them. */
  async #up(live: Live, octets: Uint8Array): Promise<Verdict> {
    if (octets.length === 0) return OK;
    const origin = await live.origin;
    if (this.#live !== live || origin === undefined) return refused(this.#ended ?? "ConnectionClosed");
    // The first octets up are what allows octets down [MS-GRVHENC 3.2.5.2.2].
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

  /** Rings an armed bell once, when there is something. */
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
    // The device's first octets up allow octets down, and ring again.
    if (!live.state.getSessionReady) return;
    const rung = ring(live, bell, origin, waiting.octets);
    if (rung === "full") this.#close(live, "ContentLengthReached");
  }

  /** Lets a caller to the virtual connection that it asks for. */
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

  /** Why no virtual connection can begin here: there is one, or was. */
  get #taken(): Reason | undefined {
    return (this.#live ?? this.#polling ?? this.#webSocket) === undefined ? this.#ended : "DuplicateConnection";
  }

  /** What a request is told that was let in once, and whose virtual connection is not here. */
  get #absent(): Reason {
    return this.#ended ?? "ConnectionLost";
  }

  /** Why somebody who asks something of the virtual connection is not heard: a stranger is told nothing. */
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
    // What has been left for after sleep meanwhile is no longer true.
    if (may) this.#hibernation.stir();
    return may;
  }

  /** Whether the bearer of the virtual connection's token may still be served. */
  get #standing(): Judge {
    return this.#owner.standing;
  }

  /**
   * Whatever goes wrong in here ends the virtual connection by name: one that goes on after half a step neither answers
   * nor ends. @param told what its caller is told then
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

  /** Undefined when the relay cannot be reached: then its virtual connection is told why. */
  async #dial(connection: Live | Polling, relay: string, readSize: number): Promise<ByteChannel | undefined> {
    if (isOwnName(relay, this.env)) return this.#terminate();
    // What is copied through no code of ours keeps the object in memory in any case.
    this.#owner.standing.patrol();
    // The Worker has refused what is not allowed; an object must not be talked into a dial all the same.
    const reached = await dialRelay(relay, this.env, readSize);
    // Who its device is, and how long it may take, is the relay's to ask from now on.
    if (connection === this.#live || connection === this.#polling) this.#arrived();
    if (reached.type === "origin") return reached.origin;
    connection.unreached = reached.reason;
    return undefined;
  }

  /** The virtual connection ends here. */
  #terminate(left?: SstpEndpointSnapshot): SstpEndpoint {
    const host = tunnelContext(this.ctx, this.env, this.#owner, () => this.#arrived());
    this.#endpoint = new SstpEndpoint(host, side(this.env), left);
    if (left === undefined) this.#deadline.set(this.#opening.expectConnect());
    return this.#endpoint;
  }

  /** The device was let in, or is the origin relay's to judge. */
  #arrived(): void {
    this.#opening.arrived();
    const state = this.#polling?.state ?? this.#live?.state;
    // A device that comes by single requests can come to an object that has lost its memory, and is to be told so.
    if (state !== undefined && (!("encapsulation" in state) || state.encapsulation === "KeepAlive")) {
      this.#kept.keepOwner(this.#owner.owned);
      this.#deadline.set(deadlineOf(state));
    } else if (this.#endpoint !== undefined) this.#deadline.clear();
  }

  /** What to leave for after sleep. */
  #settled(): ReturnType<Settle> {
    const [live, polling] = [this.#live, this.#polling];
    const socket = this.#webSocket?.socket ?? live?.bell?.socket;
    const byRequests = polling !== undefined || live?.state.encapsulation === "KeepAlive";
    // Nothing is left of a device that was not let in: a timer keeps its object in memory meanwhile.
    if (this.#endpoint?.connected !== true || (socket === undefined && !byRequests)) return undefined;
    const endpoint = this.#endpoint.snapshot();
    // A request that is here and has no bell is about to be answered.
    if (endpoint === undefined || (socket === undefined && live !== undefined && !isBetween(live.state))) {
      return "unsettled";
    }
    return { rest: savedStateOf(endpoint, this.#owner.owned, live, polling, this.#webSocket), socket };
  }

  /** Goes on after sleep. False when that cannot be done: what was left is not what this version leaves. */
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

/** What a request is told by which something unexpected has happened. */
function broken(): Refused {
  return refused("InternalError");
}

/** Whether a request can be the first of its session: one that does not count may be any. */
function isFirst(target: Target): boolean {
  return (requestNumber(target) ?? 1) === 1;
}
