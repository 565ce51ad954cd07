/**
 * Egress: the TCP connections to destinations that the edge has dialled for one device, a Durable Object named by the
 * device's URL.
 *
 *   device ─► Tunnel ─► Egress.stream ─► EgressChannel ─► TCP
 *
 * It is an object of its own because it must outlive the virtual connection: a Tunnel ends with its device's connection,
 * and its memory with it. One for each device, not for each TCP connection: the bounds are those of a device, and
 * connections that are idle share the price of one object in memory. It is no part of the mailbox, which must be able to
 * hibernate.
 *
 * Invariant: nothing is stored but an alarm. The connections die with the object's memory. Then its WebSocket to the
 * Tunnel breaks, the Tunnel makes the device ask, and this object, awake again, answers that it knows no such channel: so
 * the device resets its streams by name, within seconds.
 *
 * An open socket keeps the object in memory, and so does the alarm, once the platform's 15 minutes are over: that is the
 * price of connections to destinations, and only of them.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import type { Principal } from "../../auth/principal.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import { bucket, take } from "../../lib/token-bucket.ts";
import { identityURL, parseURL } from "../../sstp/index.ts";
import {
  encodeNotice,
  isHello,
  isNotice,
  KeptPool,
  PACKET_HEADER,
  PacketDecoder,
  type Reason,
} from "../../streams/index.ts";
import { sendSoon } from "../collector/send-metrics.ts";
import type { Env } from "../env.ts";
import { logError, logReason } from "../log.ts";
import { counters } from "../metrics/counters.ts";
import { BatchSocket, openSocket } from "../rpc/batch-socket.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import type { DevicePath, EgressRpc, EgressStatus } from "../rpc/egress-rpc.ts";
import type { Taken } from "../rpc/mailbox-rpc.ts";
import { type MessageBatch, unpack } from "../rpc/message-batch.ts";
import { type BatchTarget, STREAM } from "../rpc/tunnel-rpc.ts";
import { tunnelNamed } from "../volatile/object-named.ts";
import { type ChannelHost, type Device, deviceOf, EgressChannel, messageFor } from "./egress-channel.ts";
import { CHANNELS, DIALS, KEEP_AWAKE, KEPT_BY_PLATFORM, KEPT_OF_DEVICE } from "./limits.ts";

interface TunnelWatch {
  readonly tunnel: string;
  /** Undefined until it is open. */
  socket: WebSocket | undefined;
  /** Batches on it, while it is open. */
  batches: BatchSocket<BatchTarget, DevicePath> | undefined;
}

/** Limits log lines about refused destinations to a burst of 10, then one a second: devices choose them. */
const lines = bucket(1, 10, 0);

export class Egress extends DurableObject<Env> implements EgressRpc {
  /** By route. */
  readonly #channels = new Map<number, EgressChannel>();
  readonly #keptPool = new KeptPool(KEPT_OF_DEVICE);
  readonly #dials = new Semaphore(DIALS);
  readonly #decoder = new PacketDecoder();
  readonly #wokeAt = Date.now();
  /** The WebSocket to the device's Tunnel. Its end tells each of the end of the other. */
  #watch: TunnelWatch | undefined;
  /** When a destination was last dialled, and whether the alarm is set. */
  #dialledAt = 0;
  #hasAlarm = false;
  #device: Device | undefined;

  async stream(path: DevicePath, bundle: MessageBatch): Promise<Taken> {
    const touched = new Set<EgressChannel>();
    for (const { body } of unpack(bundle)) {
      this.#decoder.clear();
      this.#decoder.push(body, (route, packet) => {
        const channel = this.#find(path, route) ?? this.#begin(path, route, packet);
        if (channel === undefined) return;
        touched.add(channel);
        channel.receive(path, packet);
      });
    }
    for (const channel of touched) channel.settle();
    if (this.#channels.size > 0) this.#watchTunnel(path.tunnel);
    counters.count("streamBytes", "", bundle.octets.length);
    sendSoon(this.ctx, this.env);
    return "taken";
  }

  async holds(route: number): Promise<boolean> {
    return this.#channels.has(route);
  }

  async status(): Promise<EgressStatus> {
    return { channels: this.#channels.size, streams: this.#streams, since: this.#wokeAt };
  }

  /** Keeps the object in memory while it has connections. One that has lost them has nothing left to do. */
  override async alarm(): Promise<void> {
    this.#hasAlarm = false;
    if (this.#streams > 0) this.#keepAwake();
    else await this.ctx.storage.deleteAll();
  }

  get #streams(): number {
    let sum = 0;
    for (const { streams } of this.#channels.values()) sum += streams;
    return sum;
  }

  /** A channel is for the bearer who has begun it: others may use the same address. */
  #find({ principal }: DevicePath, route: number): EgressChannel | undefined {
    const channel = this.#channels.get(route);
    return channel?.isOf(principal) ? channel : undefined;
  }

  #begin(path: DevicePath, route: number, packet: Uint8Array): EgressChannel | undefined {
    if (!isHello(packet)) {
      if (!isNotice(packet) && packet.length > PACKET_HEADER) this.#notify(path, route, "ChannelUnknown");
      return undefined;
    }
    this.#replace(path.principal);
    if (this.#channels.size >= CHANNELS || this.#channels.has(route)) {
      this.#notify(path, route, "TooManyStreams");
      return undefined;
    }
    const channel = new EgressChannel(this.#host, route, path);
    this.#channels.set(route, channel);
    return channel;
  }

  /** A device has one channel: a new one shows that the program of the one before is gone. */
  #replace(principal: Principal): void {
    for (const channel of [...this.#channels.values()]) if (channel.isOf(principal)) channel.close("Closed");
  }

  /** Tells the device, without a channel, why there is none. */
  #notify({ tunnel, generation }: DevicePath, route: number, reason: Reason): void {
    const batch = messageFor(this.#own, [encodeNotice(route, reason)]);
    const telling = tunnelNamed(this.env, tunnel).stream(this.#own.url, generation, batch);
    this.ctx.waitUntil(telling.catch(() => undefined));
  }

  get #own(): Device {
    if (this.#device !== undefined) return this.#device;
    const url = this.ctx.id.name ?? "";
    const parsed = parseURL(url);
    if (!parsed.ok || parsed.value.kind !== "device") throw new Error("an Egress is named by a device URL");
    this.#device = deviceOf(url, identityURL(parsed.value));
    return this.#device;
  }

  get #host(): ChannelHost {
    return {
      env: this.env,
      device: this.#own,
      keptPool: this.#keptPool,
      inTurn: async (dial) => {
        await this.#dials.take();
        try {
          return await dial();
        } finally {
          this.#dials.give();
        }
      },
      dialled: () => {
        this.#dialledAt = Date.now();
        this.#keepAwake();
      },
      refused: (origin, detail) => {
        if (!take(lines, 1, Date.now())) return;
        logReason("warn", "OriginNotDialled", { origin, device: this.#own.url, detail });
      },
      socketTo: (tunnel) => (this.#watch?.tunnel === tunnel ? this.#watch.batches : undefined),
      waitUntil: (promise) => this.ctx.waitUntil(promise),
      ended: (channel) => this.#ended(channel),
    };
  }

  #ended(channel: EgressChannel): void {
    this.#channels.delete(channel.engine.route);
    if (this.#channels.size > 0) return;
    leave(this.#watch);
    this.#watch = undefined;
  }

  #keepAwake(): void {
    if (this.#hasAlarm) return;
    this.#hasAlarm = true;
    const at = Math.max(Date.now() + KEEP_AWAKE, this.#dialledAt + KEPT_BY_PLATFORM);
    this.ctx.waitUntil(this.ctx.storage.setAlarm(at));
  }

  #watchTunnel(tunnel: string): void {
    if (this.#watch?.tunnel === tunnel) return;
    leave(this.#watch);
    const watch: TunnelWatch = { tunnel, socket: undefined, batches: undefined };
    this.#watch = watch;
    this.ctx.waitUntil(
      this.#open(watch).catch(() => {
        if (this.#watch === watch) this.#watch = undefined;
      }),
    );
  }

  async #open(watch: TunnelWatch): Promise<void> {
    const webSocket = await openSocket(tunnelNamed(this.env, watch.tunnel), STREAM.egress);
    if (this.#watch !== watch) {
      webSocket.close(BELL_CLOSE.done, "replaced");
      return;
    }
    const batches = new BatchSocket<BatchTarget, DevicePath>(
      webSocket,
      () => over(),
      (path, batch) => this.stream(path, batch),
    );
    watch.socket = webSocket;
    watch.batches = batches;
    const over = () => {
      batches.lost();
      // One that only the other end has closed stays in memory.
      webSocket.close(BELL_CLOSE.done, "over");
      if (this.#watch !== watch) return;
      this.#watch = undefined;
      for (const channel of [...this.#channels.values()]) channel.lost(watch.tunnel);
    };
    webSocket.addEventListener("message", ({ data }) => {
      batches.hear(data as string | ArrayBuffer)?.catch((error: unknown) => {
        logError(error);
        webSocket.close(BELL_CLOSE.refused, "InternalError");
        over();
      });
    });
    webSocket.addEventListener("close", over);
    webSocket.addEventListener("error", over);
  }
}

/** Closes the WebSocket to a Tunnel, which learns from the code that nothing is lost. */
function leave(watch: TunnelWatch | undefined): void {
  watch?.socket?.close(BELL_CLOSE.done, "over");
  watch?.batches?.lost();
}
