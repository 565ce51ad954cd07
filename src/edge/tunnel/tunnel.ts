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
  type KeepAliveTarget,
  type LongLivedTarget,
  openVirtualConnection,
  type Poll,
  requestNumber,
  type Target,
} from "../../encapsulation/index.ts";
import type { SstpEndpoint } from "../endpoint/sstp-endpoint.ts";
import type { Env } from "../env.ts";
import { logError, logReason } from "../log.ts";
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
import { Alarm } from "./alarm.ts";
import { pull, push } from "./bulk-streams.ts";
import { type ConnectionContext, TAG } from "./device-connection.ts";
import { FarEnd } from "./far-end.ts";
import { Hibernation, SAVED_FORMAT, type Saved, type SavedState, type Settle } from "./hibernation.ts";
import { HttpConnection, type HttpTarget } from "./http-connection.ts";
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
  readonly #wokeAt = Date.now();
  /** When the device was last heard from since the object woke; 0 if never. */
  #heardAt = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
    this.#kept = new Kept(ctx);
    this.#alarm = new Alarm(ctx, this.#kept, () => this.#look());
    this.#hibernation = new Hibernation(this.#kept, this.#alarm, () => this.#settled());
    const left = this.#hibernation.recall([...ctx.getWebSockets(TAG.device), ...ctx.getWebSockets(TAG.bell)]);
    this.#owner = new Owner(env, ctx, (reason) => this.#end(reason), left?.rest ?? this.#kept.owned);
    this.#opening = new Opening(env, ctx, { alarm: this.#alarm, owner: this.#owner });
    const arrived = () => this.#arrived();
    this.#far = new FarEnd(env, ctx, { owner: this.#owner, opening: this.#opening, arrived });
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
    return this.#far.endpoint?.deliver(peer, generation, deliveries, position) ?? "gone";
  }

  /** Called by the Tunnel of another device to stream to this one. */
  async stream(peer: string, generation: number, bundle: MessageBatch): Promise<Taken> {
    this.#hibernation.stir();
    if (!this.#standing.fresh() && !(await this.#standing.judge())) return "gone";
    if (this.#lastSign() === 0) return "gone";
    return (await this.#far.endpoint?.stream(peer, generation, bundle)) ?? "gone";
  }

  /** Called when another virtual connection takes over a mailbox. Returns true if this one would take it back. */
  async fenced(peer: string, generation: number): Promise<boolean> {
    this.#hibernation.stir();
    return this.#far.endpoint?.fenced(peer, generation) ?? false;
  }

  /** Called when a mailbox that it consumed before has no consumer. Returns true if it takes the mailbox back. */
  async recall(peer: string): Promise<boolean> {
    this.#hibernation.stir();
    if (!this.#standing.fresh() && !(await this.#standing.judge())) return false;
    return this.#far.endpoint?.recall(peer) ?? false;
  }

  /** Called when a mailbox has room again for which sessions of the device were suspended. */
  async room(peer: string, upTo: number): Promise<void> {
    this.#hibernation.stir();
    this.#far.endpoint?.room(peer, upTo);
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
    if (this.#connection === undefined || this.#far.endpoint === undefined) return 0;
    const sign = this.#connection.lastSign({
      now: Date.now(),
      heardAt: this.#heardAt,
      wokeAt: this.#wokeAt,
      pingedAt: (socket) => this.ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime(),
    });
    if (sign === 0) this.#end("NoSignOfLife");
    return sign;
  }

  override async webSocketMessage(socket: WebSocket, word: string | ArrayBuffer): Promise<void> {
    this.#heardAt = Date.now();
    this.#hibernation.stir();
    const connection = this.#connectionOf(socket);
    if (connection === undefined) socket.close(BELL_CLOSE.refused, this.#ended ?? "ConnectionLost");
    else await connection.hear(word).catch((error: unknown) => this.#fail(error));
  }

  override webSocketClose(socket: WebSocket, code: number): void {
    this.#connectionOf(socket)?.socketClosed(code);
  }

  override webSocketError(socket: WebSocket): void {
    this.webSocketClose(socket, BELL_CLOSE.deviceGone);
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
      else if (this.#connection !== undefined) this.#alarm.set("device", this.#connection.expire(Date.now()));
    } catch (error) {
      this.#fail(error);
      if (this.#kept.some) this.#over("InternalError");
    }
  }

  /** Answers with a socket that closes with the reason when the virtual connection ends, for a LongLived POST. */
  #watch(): Response {
    const { 0: worker, 1: ours } = new WebSocketPair();
    this.ctx.acceptWebSocket(ours, [TAG.post]);
    if (this.#http === undefined) ours.close(BELL_CLOSE.refused, this.#absent);
    return new Response(null, { status: 101, webSocket: worker });
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
    if (connection?.singleRequests) {
      // A single request may reach an object that has lost its memory, which must be able to tell.
      this.#kept.keepOwner(this.#owner.owned);
      this.#alarm.set("device", connection.deadline);
    } else if (this.#far.endpoint !== undefined) {
      // A socket reports the end of the device.
      this.#alarm.set("device", Number.POSITIVE_INFINITY);
    }
  }

  /** What to save for eviction. Nothing before the device is admitted: a timer keeps the object in memory until then. */
  #settled(): ReturnType<Settle> {
    const { endpoint } = this.#far;
    const saved = endpoint?.connected ? this.#connection?.save() : undefined;
    if (saved === undefined) return undefined;
    const snapshot = endpoint?.snapshot();
    if (snapshot === undefined || saved === "unsettled") return "unsettled";
    const rest: SavedState = { format: SAVED_FORMAT, endpoint: snapshot, ...this.#owner.owned, ...saved };
    return { rest, socket: this.#connection?.socket };
  }

  /** Restores the virtual connection after eviction. Returns false if the saved state cannot be used. */
  #wake(left: Saved): boolean {
    if (ownNames(this.env.RELAY_NAME).length === 0) return false;
    try {
      const endpoint = this.#far.terminate(left.rest.endpoint);
      const { standing } = this.#owner;
      standing.show(left.rest.endpoint.principal, 0);
      if (endpoint.connected) standing.connected();
      this.#connection = this.#restored(left, endpoint);
      return true;
    } catch (error) {
      logReason("warn", "ConnectionLost", { message: String(error) });
      return false;
    }
  }

  #restored({ rest, socket }: Saved, endpoint: SstpEndpoint): Connection | undefined {
    if (rest.polling !== undefined) return new PollingConnection(this.#context, rest.polling);
    if (rest.live !== undefined) return HttpConnection.restore(this.#context, rest.live, socket);
    return socket && new WebSocketConnection(socket, endpoint, (reason) => this.#end(reason), rest.wired);
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

  /** Ends the virtual connection, if there is one. */
  #end(reason: Reason): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#connection = undefined;
    connection.close(reason);
    this.#over(reason);
  }

  #over(reason: Reason): void {
    this.#ended = reason;
    this.#opening.over();
    this.#far.close();
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
