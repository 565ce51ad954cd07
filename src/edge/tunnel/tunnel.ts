/**
 * Tunnel: the edge's end of one virtual connection, a Durable Object named by its Virtual-Connection-GUID. It admits
 * the requests of the owner, and joins the connection of the device to its far end.
 *
 *   Worker ─► Tunnel ─► DeviceConnection ◄─► FarEnd: origin relay, or the edge's own endpoint ◄─► mailboxes
 *
 * Invariant: nothing outlives the virtual connection. State is in memory; an object that has lost it closes both sides
 * with `ConnectionLost`. Storage (tunnel-storage.ts) is only for surviving eviction, and is cleared at the end. All deadlines
 * share one alarm (alarm.ts).
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import { ownNames } from "../../auth/own-names.ts";
import type { Judge } from "../../auth/token-recheck.ts";
import {
  ECHO_STRING,
  type Encapsulation,
  type KeepAliveTarget,
  type LongLivedTarget,
  openVirtualConnection,
  type Poll,
  requestNumber,
  type Target,
} from "../../encapsulation/index.ts";
import { HALF_OPEN_TIME } from "../admission/limits.ts";
import { sendSoon } from "../collector/send-metrics.ts";
import type { Env } from "../env.ts";
import { logError, logReason } from "../log.ts";
import { counters } from "../metrics/counters.ts";
import { ABSENT, objectStates, present } from "../metrics/object-states.ts";
import { isOwnName } from "../origin/relay-access.ts";
import { answerHeaders, problem } from "../problem.ts";
import type { Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import type { Delivery, Taken } from "../rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../rpc/message-batch.ts";
import {
  type Caller,
  callerOf,
  type Exchange,
  LENGTH,
  type Refused,
  refused,
  STREAM,
  type TunnelRpc,
  type TunnelStatus,
  targetOf,
  type Verdict,
} from "../rpc/tunnel-rpc.ts";
import { nameOf } from "../volatile/object-named.ts";
import { storageOf } from "../volatile/object-storage.ts";
import { Alarm } from "./alarm.ts";
import { BatchSockets } from "./batch-sockets.ts";
import { pull, push } from "./bulk-streams.ts";
import { type ConnectionContext, type SocketConnection, TAG } from "./device-connection.ts";
import { FarEnd } from "./far-end.ts";
import { Hibernation, SAVED_FORMAT, type Saved, type SavedState, type Settle } from "./hibernation.ts";
import { HttpConnection, type HttpTarget } from "./http-connection.ts";
import { ABSENCE } from "./limits.ts";
import { Opening } from "./opening.ts";
import { Owner } from "./owner.ts";
import { PollingConnection } from "./polling-connection.ts";
import { throttleOfBearer } from "./tunnel-context.ts";
import { Kept } from "./tunnel-storage.ts";
import { WebSocketConnection } from "./websocket-connection.ts";

type Connection = HttpConnection | PollingConnection | WebSocketConnection;

export class Tunnel extends DurableObject<Env> implements TunnelRpc {
  #connection: Connection | undefined;
  readonly #far: FarEnd;
  readonly #sockets: BatchSockets;
  readonly #kept: Kept;
  readonly #alarm: Alarm;
  readonly #hibernation: Hibernation;
  readonly #owner: Owner;
  readonly #opening: Opening;
  /** Judges whether the bearer of the virtual connection's token may still be served. */
  readonly #standing: Judge = { fresh: () => this.#owner.standing.fresh(), judge: () => this.#judge() };
  /** What the connection uses of this object. */
  readonly #context: ConnectionContext;
  /** Why the last virtual connection of this GUID ended; late requests get this reason. */
  #ended: Reason | undefined;
  /** Why the token is no longer valid; undefined as far as is known. */
  #refusal: Reason | undefined;
  /** When the alarm looks at the token. */
  #tokenAt = Number.POSITIVE_INFINITY;
  readonly #wokeAt = Date.now();
  /** When the device was last heard from since the object woke; 0 if never. */
  #heardAt = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    // With it, the platform also lets the object finish its work before it evicts one that has no socket.
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
    const storage = storageOf(ctx, env, "TUNNEL");
    const storing = { storage, waitUntil: (promise: Promise<unknown>) => ctx.waitUntil(promise) };
    this.#kept = new Kept(storing);
    this.#alarm = new Alarm(storing, this.#kept, () => this.#look());
    this.#hibernation = new Hibernation(this.#kept, this.#alarm, () => this.#settled());
    const left = this.#hibernation.recall([...ctx.getWebSockets(TAG.device), ...ctx.getWebSockets(TAG.bell)]);
    this.#owner = new Owner(env, ctx, (reason) => this.#refuse(reason), left?.rest ?? this.#kept.owned);
    this.#opening = new Opening(env, ctx, { alarm: this.#alarm, owner: this.#owner });
    const arrived = () => this.#arrived();
    const lost = (error: unknown) => {
      logReason("warn", "ConnectionLost", { message: String(error) });
      this.#end("ConnectionLost");
    };
    this.#sockets = new BatchSockets(ctx, ({ peer, generation }, batch) => this.#stream(peer, generation, batch));
    const egressSocket = () => this.#sockets.egress;
    this.#far = new FarEnd(env, ctx, { owner: this.#owner, opening: this.#opening, egressSocket, arrived, lost });
    this.#context = {
      far: this.#far,
      standing: this.#standing,
      sockets: ctx,
      end: (reason) => this.#end(reason),
      fail: (error) => this.#fail(error),
    };
    if (left !== undefined && this.#wake(left)) return;
    // The virtual connection is lost with the object's memory. Requests that wait for it end now.
    const sockets = ctx.getWebSockets();
    for (const socket of sockets) socket.close(BELL_CLOSE.refused, "ConnectionLost");
    if (!this.#kept.some && sockets.length === 0) return;
    this.#over("ConnectionLost");
    const throttle = throttleOfBearer(this.#owner.standing.bearer, this.#name, env);
    if (throttle !== undefined) ctx.waitUntil(throttle.leave());
  }

  /** Handles a GET, one of the two bulk streams, or the upgrade of a WebSocket device. */
  override async fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === STREAM.egress) return this.#carry(TAG.egress);
    if (pathname === STREAM.batches) return this.#carry(TAG.batches);
    const caller = callerOf(request);
    const denied = await this.#denied(caller);
    if (denied !== undefined) return problem(denied);
    return this.#guarded(
      () => this.#serve(pathname, caller, request),
      () => problem("InternalError"),
    );
  }

  async #serve(pathname: string, caller: Caller, request: Request): Promise<Response> {
    const http = this.#http;
    if (pathname === STREAM.pull) return http === undefined ? problem(this.#absent) : pull(http);
    if (pathname === STREAM.push) return http === undefined ? problem(this.#absent) : push(http, request);
    if (pathname === STREAM.over) return this.#watch();
    const target = targetOf(request);
    if (pathname === STREAM.exchange) return this.#exchangeStream(target, request);
    const crowded = isFirst(target) ? await this.#opening.crowded(caller) : undefined;
    if (crowded !== undefined) return problem(crowded.reason, crowded.detail, crowded.retryAfter);
    if (target.encapsulation === "WebSocket") return this.#upgrade(caller, target.relay);
    const found = this.#find(caller, target, true);
    return found instanceof HttpConnection ? found.get(target) : problem(found.reason);
  }

  /** Handles the first bytes of a LongLived POST. */
  async post(caller: Caller, target: LongLivedTarget, octets: Uint8Array): Promise<Verdict> {
    return this.#guarded(async () => {
      const admitted = await this.#admit(caller, target, octets[0] === ECHO_STRING[0]);
      return admitted instanceof HttpConnection ? admitted.post(target, octets) : admitted;
    }, broken);
  }

  /** Handles further bytes of a LongLived POST. Resolves when the relay has taken them. */
  async push(caller: Caller, octets: Uint8Array): Promise<Verdict> {
    const denied = await this.#denied(caller);
    if (denied !== undefined) return refused(denied);
    const http = this.#http;
    return http === undefined ? refused(this.#absent) : this.#guarded(() => http.receive(octets), broken);
  }

  /** Handles a whole KeepAlive POST. */
  async exchange(caller: Caller, target: KeepAliveTarget, body: Uint8Array): Promise<Verdict> {
    return this.#guarded(async () => {
      const mayBegin = body[0] === ECHO_STRING[0] && body.length === ECHO_STRING.length;
      const admitted = await this.#admit(caller, target, mayBegin);
      return admitted instanceof HttpConnection ? admitted.exchange(target, body) : admitted;
    }, broken);
  }

  /** Handles a KeepAlive POST over 32768 bytes. It cannot begin a virtual connection. */
  async #exchangeStream(target: Target, request: Request): Promise<Response> {
    const http = this.#http;
    if (target.encapsulation !== "KeepAlive" || http === undefined || request.body === null) {
      return problem(this.#connection === undefined ? this.#absent : "DuplicateConnection");
    }
    const verdict = await http.exchangeStream(target, Number(request.headers.get(LENGTH)), request.body);
    return verdict.ok
      ? new Response(null, { headers: answerHeaders() })
      : problem(verdict.reason, verdict.detail, verdict.retryAfter);
  }

  /** Handles one exchange of a Polling virtual connection. */
  async poll(caller: Caller, poll: Poll, offeredBody: number | undefined): Promise<Exchange> {
    const denied = await this.#denied(caller);
    if (denied !== undefined) return { ok: false, reason: denied, scope: "request" };
    return this.#guarded(
      () => this.#poll(caller, poll, offeredBody),
      () => ({ ...broken(), scope: "connection" }),
    );
  }

  async #poll(caller: Caller, poll: Poll, offeredBody: number | undefined): Promise<Exchange> {
    const crowded = await this.#opening.crowded(caller);
    if (crowded !== undefined) return { ...crowded, scope: "request" };
    if (this.#connection instanceof PollingConnection) return this.#connection.exchange(poll);
    if (this.#taken !== undefined) return { ok: false, reason: this.#taken, scope: "request" };
    this.#owner.claim(caller);
    return this.#begin(PollingConnection.begin(this.#context, poll, offeredBody)).exchange(poll);
  }

  /** Called by a mailbox to send messages to the device. */
  async deliver(peer: string, generation: number, deliveries: readonly Delivery[], position: number): Promise<Taken> {
    this.#hibernation.stir();
    // A fresh judgement needs no await: the delivery is handled in the same turn.
    if (!this.#standing.fresh() && !(await this.#standing.judge())) return "gone";
    if (this.#lastSign() === 0) return "gone";
    const attaching = this.#far.endpoint?.attaching(peer);
    if (attaching !== undefined) await attaching;
    return this.#far.endpoint?.deliver(peer, generation, deliveries, position) ?? "gone";
  }

  /** Called by the Tunnel of another device to stream to this one. */
  async stream(peer: string, generation: number, bundle: MessageBatch): Promise<Taken> {
    return this.#stream(peer, generation, bundle);
  }

  /** The same, with its result at once if nothing is to be awaited. */
  #stream(peer: string, generation: number, bundle: MessageBatch): Taken | Promise<Taken> {
    this.#hibernation.stir();
    if (this.#standing.fresh()) return this.#streamTo(peer, generation, bundle);
    return this.#standing.judge().then((may) => (may ? this.#streamTo(peer, generation, bundle) : "gone"));
  }

  #streamTo(peer: string, generation: number, bundle: MessageBatch): Taken | Promise<Taken> {
    if (this.#lastSign() === 0) return "gone";
    const { length } = bundle.octets;
    const attaching = this.#far.endpoint?.attaching(peer);
    const stream = () => this.#far.endpoint?.stream(peer, generation, bundle) ?? "gone";
    const taken = attaching === undefined ? stream() : attaching.then(stream);
    const counted = (outcome: Taken): Taken => {
      if (outcome === "taken") counters.count("streamBytes", "", length);
      sendSoon(this.ctx, this.env);
      return outcome;
    };
    return taken instanceof Promise ? taken.then(counted) : counted(taken);
  }

  /** Called when another virtual connection takes over a mailbox. Returns true if this one would take it back. */
  async fenced(peer: string, generation: number): Promise<boolean> {
    this.#hibernation.stir();
    await this.#far.endpoint?.attaching(peer);
    return this.#far.endpoint?.fenced(peer, generation) ?? false;
  }

  /** Called when a mailbox that it consumed before has no consumer. Returns true if it takes the mailbox back. */
  async recall(peer: string): Promise<boolean> {
    this.#hibernation.stir();
    if (!this.#standing.fresh() && !(await this.#standing.judge())) return false;
    return this.#far.endpoint?.recall(peer) ?? false;
  }

  /** Called when a mailbox has room again for which sessions of the device were suspended. */
  async room(peer: string, upTo: number, sender?: string): Promise<void> {
    this.#hibernation.stir();
    this.#far.endpoint?.room(peer, upTo, sender);
  }

  /** Called by a Worker whose device has broken off a streamed POST: the stream itself does not report it. */
  async brokeOff({ principal }: Caller, target: KeepAliveTarget): Promise<void> {
    if (!this.#owner.isStranger(principal) && this.#http?.serves(target)) this.#http.brokeOff(target);
  }

  /** Called by a Worker whose request of this virtual connection is over. */
  async end({ principal }: Caller, reason: Reason, target: HttpTarget): Promise<void> {
    // A stranger, or a request of another kind, must not end the virtual connection.
    if (!this.#owner.isStranger(principal) && this.#http?.serves(target)) this.#end(reason);
  }

  /**
   * Judges the bearer's token now. Called by a Worker that has refused a request which names this virtual connection:
   * anybody may have made that, so it says nothing about this one.
   */
  async judge(): Promise<void> {
    if (this.#connection !== undefined) await this.#judge();
  }

  /** Called when the edge stops. Tells the device when to come back, and acknowledges what it has sent. */
  async rest(returnTime: number): Promise<void> {
    this.#hibernation.stir();
    const { endpoint } = this.#far;
    if (endpoint?.connected) endpoint.rest(returnTime);
    else this.#end("EdgeStopping");
  }

  /** State for tests and operators. */
  async status(): Promise<TunnelStatus> {
    return { live: this.#connection !== undefined, ended: this.#ended, since: this.#wokeAt };
  }

  /**
   * When the device last gave a sign of life, in milliseconds since 1970; 0 if it is gone. A WebSocket that is found
   * dead is closed. This call does not keep the object awake.
   */
  async lastSign(): Promise<number> {
    return this.#lastSign();
  }

  #lastSign(): number {
    if (this.#connection === undefined || !this.#far.endsHere) return 0;
    const sign = this.#connection.lastSign({
      now: Date.now(),
      heardAt: this.#heardAt,
      wokeAt: this.#wokeAt,
      pingedAt: (socket) => this.ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime(),
    });
    if (sign === 0) this.#end("NoSignOfLife");
    return sign;
  }

  override webSocketMessage(socket: WebSocket, word: string | ArrayBuffer): Promise<void> | undefined {
    const connection = this.#connectionOf(socket);
    if (connection === undefined && this.#sockets.kindOf(socket) !== undefined) return this.#sockets.hear(socket, word);
    this.#heardAt = Date.now();
    this.#hibernation.stir();
    if (connection !== undefined) return this.#hear(connection, word);
    socket.close(BELL_CLOSE.refused, this.#ended ?? "ConnectionLost");
    return undefined;
  }

  #hear(connection: SocketConnection, word: string | ArrayBuffer): Promise<void> | undefined {
    try {
      return connection.hear(word)?.catch((error: unknown) => this.#fail(error));
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  override webSocketClose(socket: WebSocket, code: number): void {
    const kind = this.#sockets.kindOf(socket);
    if (kind !== undefined) {
      this.#sockets.closed(socket);
      if (kind !== TAG.egress) return;
      this.#hibernation.stir();
      // An Egress that has nothing more to do says so.
      if (code !== BELL_CLOSE.done) this.#far.endpoint?.egressLost();
      return;
    }
    this.#connectionOf(socket)?.socketClosed(code);
  }

  override webSocketError(socket: WebSocket): void {
    this.webSocketClose(socket, BELL_CLOSE.deviceGone);
  }

  /** Called by the Clock of objects without storage. */
  async alarmDue(): Promise<void> {
    await this.alarm();
  }

  override async alarm(): Promise<void> {
    this.#alarm.fired();
    // If the clearing failed, this throws, and the platform calls the alarm again.
    await this.#kept.cleared;
  }

  /** Ends the virtual connection if its device is late. Called by the alarm. */
  #look(): void {
    try {
      const { late } = this.#opening;
      if (late !== undefined) this.#end(late);
      else if (this.#connection !== undefined) {
        this.#alarm.set("device", this.#connection.expire(Date.now()));
        this.#lookAtToken();
      }
    } catch (error) {
      this.#fail(error);
      if (this.#kept.some) this.#over("InternalError");
    }
  }

  /**
   * Judges the token of a device that has channels when its last judgement is too old, although nothing moves: both ends
   * of a stream must learn in time that the token was revoked.
   */
  #lookAtToken(): void {
    this.#tokenAt = Number.POSITIVE_INFINITY;
    if (this.#far.endpoint?.channelsEnding === undefined) return;
    if (!this.#owner.standing.fresh()) this.ctx.waitUntil(this.#judge());
    else this.#watchToken();
  }

  /** Sets the alarm for that, which works while the object hibernates. */
  #watchToken(): void {
    const isNeeded = this.#far.endpoint?.channelsEnding !== undefined;
    const at = isNeeded ? this.#owner.standing.holdsUntil : Number.POSITIVE_INFINITY;
    // Each time is a row written.
    if (at === this.#tokenAt) return;
    this.#tokenAt = at;
    if (at !== Number.POSITIVE_INFINITY && !this.#kept.some) this.#kept.keepOwner(this.#owner.owned);
    this.#alarm.set("token", at);
  }

  /** Answers with a socket that closes with the reason when the virtual connection ends, for a LongLived POST. */
  #watch(): Response {
    const { 0: worker, 1: ours } = new WebSocketPair();
    this.ctx.acceptWebSocket(ours, [TAG.post]);
    if (this.#http === undefined) ours.close(BELL_CLOSE.refused, this.#absent);
    return new Response(null, { status: 101, webSocket: worker });
  }

  /** Answers with a socket for batches that closes with the virtual connection. */
  #carry(kind: typeof TAG.egress | typeof TAG.batches): Response {
    const { answer, socket } = this.#sockets.accept(kind);
    if (!this.#far.endsHere) socket.close(BELL_CLOSE.refused, this.#absent);
    return answer;
  }

  /** Begins a WebSocket virtual connection. */
  #upgrade(caller: Caller, relay: string): Response {
    if (this.#taken !== undefined) return problem(this.#taken);
    if (!isOwnName(relay, this.env)) return problem("WebSocketNotPassed");
    const { 0: device, 1: ours } = new WebSocketPair();
    this.ctx.acceptWebSocket(ours, [TAG.device]);
    this.#owner.claim(caller);
    this.#begin(new WebSocketConnection(ours, this.#far.terminate(), (reason) => this.#end(reason)));
    return new Response(null, { status: 101, webSocket: device });
  }

  /** Admits the caller of a POST to the virtual connection that it asks for. */
  async #admit(caller: Caller, target: HttpTarget, mayBegin: boolean): Promise<HttpConnection | Refused> {
    const denied = await this.#denied(caller);
    if (denied !== undefined) return refused(denied);
    const crowded = mayBegin && isFirst(target) ? await this.#opening.crowded(caller) : undefined;
    return crowded ?? this.#find(caller, target, mayBegin);
  }

  /** The LongLived or KeepAlive virtual connection, or a new one for the first request of a GUID. */
  #find(caller: Caller, target: HttpTarget, mayBegin: boolean): HttpConnection | Refused {
    if (this.#http !== undefined) return this.#http;
    const taken = this.#taken ?? (mayBegin && isFirst(target) ? undefined : "UnknownConnection");
    if (taken !== undefined) return refused(taken);
    this.#owner.claim(caller);
    return this.#begin(new HttpConnection(this.#context, openVirtualConnection(target, Date.now())));
  }

  #begin<T extends Connection>(connection: T): T {
    this.#connection = connection;
    objectStates.halfOpen(this.#name, Date.now() + HALF_OPEN_TIME);
    sendSoon(this.ctx, this.env);
    this.#alarm.set("device", connection.deadline);
    return connection;
  }

  get #http(): HttpConnection | undefined {
    return this.#connection instanceof HttpConnection ? this.#connection : undefined;
  }

  /** The connection that has this socket. */
  #connectionOf(socket: WebSocket): HttpConnection | WebSocketConnection | undefined {
    const connection = this.#connection;
    return connection instanceof PollingConnection || connection?.socket !== socket ? undefined : connection;
  }

  /** Why no virtual connection can begin here: there is one, or there was. */
  get #taken(): Reason | undefined {
    return this.#connection === undefined ? this.#ended : "DuplicateConnection";
  }

  /** The reason for an admitted request whose virtual connection is not here. */
  get #absent(): Reason {
    return this.#ended ?? "ConnectionLost";
  }

  /** Why a caller is refused; undefined if it is not. A stranger learns nothing of the virtual connection. */
  async #denied(caller: Caller): Promise<Reason | undefined> {
    if (this.#owner.isStranger(caller.principal)) return "UnknownConnection";
    this.#heardAt = Date.now();
    this.#hibernation.stir();
    this.#owner.show(caller);
    if (this.#standing.fresh() || (await this.#standing.judge())) return undefined;
    return this.#ended ?? "ConnectionClosed";
  }

  async #judge(): Promise<boolean> {
    const may = await this.#owner.standing.judge();
    // State that was saved while this waited is out of date.
    if (may) this.#hibernation.stir();
    return may;
  }

  /** The device is admitted, or the origin relay authenticates it. */
  #arrived(): void {
    this.#opening.arrived();
    const connection = this.#connection;
    if (connection !== undefined) this.#countArrival(connection.encapsulation);
    // A single request may reach an object that has lost its memory, which must be able to tell.
    if (connection?.singleRequests) this.#kept.keepOwner(this.#owner.owned);
    // A socket reports the end of the device, or of its GET.
    if (this.#far.endsHere && !(connection instanceof PollingConnection)) {
      this.#alarm.set("device", Number.POSITIVE_INFINITY);
    } else if (connection?.singleRequests) this.#alarm.set("device", connection.deadline);
  }

  #countArrival(encapsulation: Encapsulation): void {
    counters.count("connectionsOpened", encapsulation);
    objectStates.notHalfOpen(this.#name);
    objectStates.observe("connection", this.#name, present(encapsulation, this.#far.who, Date.now()));
    sendSoon(this.ctx, this.env);
  }

  get #name(): string {
    return nameOf(this.ctx);
  }

  /** What to save for eviction. Nothing before the device is admitted: a timer keeps the object in memory until then. */
  #settled(): ReturnType<Settle> {
    const saved = this.#far.isConnected ? this.#connection?.save() : undefined;
    if (saved === undefined) return undefined;
    // Nothing else wakes the object if no other GET follows.
    if (this.#http?.singleRequests && this.#http.socket === undefined)
      this.#alarm.ensureBy("device", Date.now() + ABSENCE);
    const snapshot = this.#far.snapshot();
    if (snapshot === undefined || saved === "unsettled") return "unsettled";
    // What rests has its alarm already.
    if (!this.#far.rests) this.#watchToken();
    const rest: SavedState = { format: SAVED_FORMAT, endpoint: snapshot, ...this.#owner.owned, ...saved };
    return { rest, socket: this.#connection?.socket };
  }

  /** Restores the virtual connection after eviction. Returns false if the saved state cannot be used. */
  #wake(left: Saved): boolean {
    if (ownNames(this.env.RELAY_NAME).length === 0) return false;
    try {
      this.#far.resume(left.rest.endpoint);
      const { standing } = this.#owner;
      standing.show(left.rest.endpoint.principal, 0);
      standing.connected();
      this.#connection = this.#restored(left);
      return this.#connection !== undefined;
    } catch (error) {
      logReason("warn", "ConnectionLost", { message: String(error) });
      return false;
    }
  }

  #restored({ rest, socket }: Saved): Connection | undefined {
    if (rest.polling !== undefined) return new PollingConnection(this.#context, rest.polling);
    if (rest.live !== undefined) return HttpConnection.restore(this.#context, rest.live, socket);
    const { endpoint } = this.#far;
    return socket && endpoint && new WebSocketConnection(socket, endpoint, (reason) => this.#end(reason), rest.wired);
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
      this.#fail(error);
      return told();
    }
  }

  #fail(error: unknown): void {
    logError(error);
    this.#end("InternalError");
  }

  #refuse(reason: Reason): void {
    this.#refusal = reason;
    this.#end(reason);
  }

  /** Ends the virtual connection, if there is one. */
  #end(reason: Reason): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#connection = undefined;
    const tell = this.#far.endpoint?.channelsEnding;
    if (tell !== undefined) this.ctx.waitUntil(this.#unlessReturning(tell).catch(logError));
    connection.close(reason);
    this.#over(reason);
  }

  /**
   * Tells the other ends of the device's channels if it cannot return with its token. A device with an expired token
   * comes back with a new one. The Worker refuses requests by itself, so any end may be due to the token.
   */
  async #unlessReturning(tell: () => Promise<void>): Promise<void> {
    if (await this.#owner.standing.judge()) return;
    if (this.#refusal === "TokenRevoked" || this.#refusal === "TokenInvalid") await tell();
  }

  #over(reason: Reason): void {
    this.#ended = reason;
    counters.count("connectionsClosed", reason);
    objectStates.notHalfOpen(this.#name);
    objectStates.observe("connection", this.#name, ABSENT);
    sendSoon(this.ctx, this.env);
    this.#opening.over();
    this.#far.close();
    this.#sockets.close(reason);
    this.#hibernation.end();
    this.#owner.standing.end();
    this.#alarm.end();
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
