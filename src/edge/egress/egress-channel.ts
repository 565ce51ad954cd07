/**
 * The edge's end of one device's channel to destinations: joins the engine (`streams/channel.ts`) to the device's Tunnel
 * on one side, and to TCP connections on the other.
 *
 *   Egress.stream ─► receive ─► engine ─► OriginConnection ─► TCP
 *   TCP ─► OriginConnection ─► engine ─► one batch at a time ─► Tunnel.stream ─► device
 *
 * The channel outlives the Tunnel: what the device has not acknowledged is kept in the engine's log, and sent again to the
 * Tunnel by which the device comes back. It does not outlive its object.
 *
 * @module
 */
import { hasToken, isSameBearer, type Principal } from "../../auth/principal.ts";
import { Standing } from "../../auth/token-recheck.ts";
import { joinOctets } from "../../lib/octets.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { addressOf, ORIGIN_RESOURCE } from "../../sstp/index.ts";
import type { Envelope } from "../../store-and-forward/envelope.ts";
import { Voucher } from "../../store-and-forward/vouched-id.ts";
import {
  AES_GCM,
  CHACHA_POLY,
  type ChannelEvent,
  CreditPool,
  EDGE_ADDRESS,
  type KeptPool,
  type Reason,
  StreamChannel,
} from "../../streams/index.ts";
import { StreamReservation } from "../admission/stream-reservation.ts";
import { type Throttle, throttleOf } from "../admission/throttle.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import { dialOrigin } from "../origin/dial-origin.ts";
import { meteredName } from "../policy/rate-setting.ts";
import { readStreamResume } from "../policy/stream-origins.ts";
import type { BatchSender } from "../rpc/batch-socket.ts";
import { VOLATILE_TIMEOUT } from "../rpc/deadlines.ts";
import type { DevicePath } from "../rpc/egress-rpc.ts";
import type { Attached, Taken } from "../rpc/mailbox-rpc.ts";
import { type MessageBatch, pack } from "../rpc/message-batch.ts";
import { holderName } from "../rpc/meter-rpc.ts";
import type { BatchTarget, TunnelRpc } from "../rpc/tunnel-rpc.ts";
import { meterNamed, tunnelNamed } from "../volatile/object-named.ts";
import { ACKNOWLEDGE_OCTETS, BATCH, CREDIT, IDLE, KEPT } from "./limits.ts";
import { type ConnectionOwner, OriginConnection } from "./origin-connection.ts";

/** A device, and how it is addressed. */
export interface Device {
  /** Its device URL, which names its mailbox. */
  readonly url: string;
  readonly envelope: Envelope;
  readonly voucher: Voucher;
}

/** What a channel uses of its object. */
export interface ChannelHost {
  readonly env: Env;
  readonly device: Device;
  /** What all its channels may keep together. */
  readonly keptPool: KeptPool;
  /** Takes turns with all who dial from this object. */
  inTurn<T>(dial: () => Promise<T>): Promise<T>;
  /** A destination was dialled: the object must stay in memory. */
  dialled(): void;
  /** Why a destination was not dialled. */
  refused(origin: string, why: string): void;
  /** The WebSocket to a Tunnel; undefined while there is none. */
  socketTo(tunnel: string): BatchSender<BatchTarget> | undefined;
  waitUntil(promise: Promise<unknown>): void;
  /** The channel has ended, and said so. */
  ended(channel: EgressChannel): void;
}

const SUITES = [CHACHA_POLY, AES_GCM] as const;

/** A device by its URL. */
export function deviceOf(url: string, identityURL: string): Device {
  const envelope = { source: url, resourceURL: ORIGIN_RESOURCE, identityURL, deviceURL: url };
  return { url, envelope, voucher: new Voucher(url, false) };
}

let sent = 0;

/** A message with packets for the device. */
export function messageFor({ envelope, voucher }: Device, packets: readonly Uint8Array[]): MessageBatch {
  const length = packets.reduce((sum, packet) => sum + packet.length, 0);
  const [only] = packets;
  const body = packets.length === 1 && only !== undefined ? only : joinOctets(packets, length);
  sent += 1;
  return pack([{ envelope, fields: { userRef: voucher.id(`origin-${sent}`), track: false }, body }]);
}

export class EgressChannel implements ConnectionOwner {
  readonly engine: StreamChannel;
  readonly #host: ChannelHost;
  readonly #standing: Standing;
  readonly #throttle: Throttle | undefined;
  readonly #reservation: StreamReservation;
  readonly #connections = new Map<number, OriginConnection>();
  readonly #calls = new DeadlinePool(VOLATILE_TIMEOUT);
  #principal: Principal;
  /** The Tunnel that the device is connected to; undefined while it is away. */
  #path: DevicePath | undefined;
  /** The highest generation of a Tunnel so far. */
  #generation = 0;
  /** The last Tunnel called, until a call fails: a new stub for each call costs as much as half a call. */
  #tunnel: { readonly name: string; readonly stub: DurableObjectStub<TunnelRpc> } | undefined;
  #to: BatchTarget;
  #pumping = false;
  #isSettling = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #idleSince: number | undefined;
  #isGone = false;

  constructor(host: ChannelHost, route: number, { principal, tunnel }: DevicePath) {
    const { env, device } = host;
    this.#host = host;
    this.#to = { peer: device.url, generation: 0 };
    this.#principal = principal;
    this.#standing = new Standing(env, host.waitUntil, () => this.close("TokenEnded"));
    this.#standing.show(principal, 0);
    this.#standing.connected();
    this.#standing.patrol();
    const metered = meteredName(device.url, hasToken(principal) ? principal.id : undefined, env);
    this.#throttle = throttleOf(metered, `egress ${tunnel}`, env);
    const meter = metered === undefined ? undefined : meterNamed(env, metered);
    this.#reservation = new StreamReservation(meter, holderName(device.url, route));
    const resume = readStreamResume(env.STREAM_RESUME ?? "");
    this.engine = new StreamChannel({
      role: "responder",
      route,
      pool: new CreditPool(CREDIT),
      peer: device.url,
      kept: KEPT,
      keptPool: host.keptPool,
      acknowledgeOctets: ACKNOWLEDGE_OCTETS,
      now: Date.now(),
      suites: SUITES,
      plain: true,
      initiatorAddress: addressOf(device.url),
      responderAddress: EDGE_ADDRESS,
      // TLS and the token have said who both are. The handshake needs a key nevertheless.
      staticSecret: crypto.getRandomValues(new Uint8Array(32)),
      ephemeralSecret: crypto.getRandomValues(new Uint8Array(32)),
      judge: () => undefined,
      resumeTime: resume.ok ? resume.value : 0,
    });
  }

  /** Number of TCP connections, and of those that are being dialled. */
  get streams(): number {
    return this.#connections.size;
  }

  /** Whether a principal has begun the channel, or has the same rights. */
  isOf(principal: Principal): boolean {
    return isSameBearer(this.#principal, principal);
  }

  /** Handles the body of a packet. Call `settle` afterwards. */
  receive(path: DevicePath, body: Uint8Array): void {
    this.#use(path);
    this.engine.receive(body, Date.now());
  }

  /** The device's connection to a Tunnel is gone. */
  lost(tunnel: string): void {
    if (this.#path?.tunnel !== tunnel) return;
    this.#path = undefined;
    this.engine.detach(Date.now());
    this.settle();
  }

  /** Ends the channel and its connections. Notifies the device, if it is there. */
  close(reason: Reason): void {
    this.engine.close(reason);
    this.settle();
  }

  settle(): void {
    // An event handler calls this again; the outer call goes on with what that has caused.
    if (this.#isSettling) return;
    this.#isSettling = true;
    try {
      for (let events = this.engine.events(); events.length > 0; events = this.engine.events()) {
        for (const event of events) this.#on(event);
      }
    } finally {
      this.#isSettling = false;
    }
    if (this.engine.streams > 0) this.#idleSince = undefined;
    else this.#idleSince ??= Date.now();
    this.#pumpSoon();
    const isOver = this.engine.ended !== undefined && this.#connections.size === 0;
    if (isOver && (this.#path === undefined || !this.engine.isPending)) this.#gone();
    else this.#setTimer();
  }

  #on(event: ChannelEvent): void {
    switch (event.type) {
      case "opened": {
        const connection = new OriginConnection(this, event.stream);
        this.#connections.set(event.stream, connection);
        this.#host.waitUntil(this.#serve(connection, event.stream, event.service));
        break;
      }
      case "readable":
      case "writable":
        this.#connections.get(event.stream)?.move();
        break;
      case "finished":
      case "reset":
        this.#connections.get(event.stream)?.end();
        this.#connections.delete(event.stream);
        break;
    }
  }

  /** Dials a destination, and carries the stream to it. */
  async #serve(connection: OriginConnection, stream: number, origin: string): Promise<void> {
    if (!(await this.#reservation.enter())) {
      this.#end(stream, "TooManyStreams");
      return;
    }
    try {
      // Each costs about as much as waking a mailbox, and is charged like that.
      await this.#throttle?.wake();
      const dialled = await this.#host.inTurn(async () => {
        if (connection.isOver) return undefined;
        return await dialOrigin(origin, this.#principal.rights, this.#host.env);
      });
      if (dialled === undefined) return;
      if (dialled.type === "connected") {
        this.#host.dialled();
        await connection.carry(dialled.socket);
        return;
      }
      this.#host.refused(origin, dialled.why);
      this.#end(stream, dialled.reason);
    } catch (error) {
      logError(error);
      this.#end(stream, "ConnectionReset");
    } finally {
      await this.#reservation.leave();
    }
  }

  #end(stream: number, reason: Reason): void {
    this.engine.reset(stream, reason);
    this.#connections.get(stream)?.end();
    this.#connections.delete(stream);
    this.settle();
  }

  /** Sends by this Tunnel from now on, unless a newer one is known. */
  #use(path: DevicePath): void {
    if (path.generation < this.#generation) return;
    this.#principal = path.principal;
    this.#standing.show(path.principal, 0);
    const isNew = path.tunnel !== this.#path?.tunnel || path.generation !== this.#generation;
    this.#path = path;
    this.#generation = path.generation;
    if (isNew) this.engine.attach(Date.now());
  }

  #pumpSoon(): void {
    if (this.#pumping || this.#isGone || this.#path === undefined || !this.engine.isPending) return;
    this.#pumping = true;
    this.#host.waitUntil(this.#pump());
  }

  async #pump(): Promise<void> {
    try {
      // What is written in this turn goes together.
      await Promise.resolve();
      while (!this.#isGone && this.#path !== undefined && this.engine.isPending) {
        const packets = this.engine.output(BATCH, Date.now());
        if (packets.length === 0) break;
        // The bearer's channel has ended otherwise, and what it says last goes out.
        if (this.engine.ended === undefined && !this.#standing.fresh() && !(await this.#standing.judge())) continue;
        const octets = packets.reduce((sum, packet) => sum + packet.length, 0);
        await this.#throttle?.spend(octets, 0);
        await this.#send(packets);
      }
    } catch (error) {
      logError(error);
    } finally {
      this.#pumping = false;
    }
    this.settle();
  }

  /** Resolves when the Tunnel has taken a message, or it is lost: the engine sends again what was in it. */
  async #send(packets: readonly Uint8Array[]): Promise<void> {
    const path = this.#path;
    if (path === undefined) return;
    const { device } = this.#host;
    const batch = messageFor(device, packets);
    // An object that was reset has lost the virtual connection.
    const taking = this.#hand(path, batch).catch(() => "gone" as const);
    const taken = await this.#calls.within(taking);
    if (taken?.value === "taken" || this.#path !== path) return;
    this.#tunnel = undefined;
    if (taken?.value === "gone") await this.#lookFor(path);
    else this.engine.attach(Date.now());
  }

  /** What is not answered when the WebSocket ends is sent once more. */
  async #hand({ tunnel, generation }: DevicePath, batch: MessageBatch): Promise<Taken> {
    const { env, device } = this.#host;
    if (this.#to.generation !== generation) this.#to = { peer: device.url, generation };
    const taken = await this.#host.socketTo(tunnel)?.pass(this.#to, batch);
    if (taken !== undefined) return taken;
    if (this.#tunnel?.name !== tunnel) this.#tunnel = { name: tunnel, stub: tunnelNamed(env, tunnel) };
    return await this.#tunnel.stub.stream(device.url, generation, batch);
  }

  /** The Tunnel may have taken the mailbox anew. To another Tunnel the device must come by itself. */
  async #lookFor(path: DevicePath): Promise<void> {
    const { env, device } = this.#host;
    const asking: Promise<Attached> = env.MAILBOX.getByName(device.url).attached(device.url, {
      messages: 0,
      slow: 0,
      gone: path.generation,
    });
    const attached = (await this.#calls.within(asking.catch(() => undefined)))?.value;
    if (this.#path !== path) return;
    const isBack = attached?.type === "attached" && attached.tunnel === path.tunnel;
    if (isBack && attached.generation > path.generation) this.#use({ ...path, generation: attached.generation });
    else this.lost(path.tunnel);
  }

  #setTimer(): void {
    const idle = this.#idleSince === undefined ? Number.POSITIVE_INFINITY : this.#idleSince + IDLE;
    const deadline = Math.min(this.engine.deadline, idle);
    // A timer that fires too early is set again: cheaper than a new one for every packet.
    if (deadline >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.engine.advance(Date.now());
        if (this.#idleSince !== undefined && Date.now() >= this.#idleSince + IDLE) this.engine.close();
        this.settle();
      },
      Math.max(0, deadline - Date.now()),
    );
  }

  #gone(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    clearTimeout(this.#timer);
    this.#standing.end();
    this.#host.waitUntil(this.#reservation.end());
    this.#host.ended(this);
  }
}
