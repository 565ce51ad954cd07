/**
 * The WebSockets for batches that other objects have opened to a Tunnel: of the Tunnels of devices that stream to this one,
 * of Links, and of the device's Egress. The platform holds them, so the Tunnel can hibernate while they are open.
 *
 * @module
 */
import { logError } from "../log.ts";
import { type BatchSender, BatchSocket, type TakeBatch } from "../rpc/batch-socket.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import type { DevicePath } from "../rpc/egress-rpc.ts";
import type { BatchTarget } from "../rpc/tunnel-rpc.ts";
import { TAG } from "./device-connection.ts";

type Kind = typeof TAG.egress | typeof TAG.batches;

export class BatchSockets {
  readonly #context: Pick<DurableObjectState, "acceptWebSocket" | "getWebSockets" | "getTags">;
  readonly #take: TakeBatch<BatchTarget>;
  readonly #sockets = new Map<WebSocket, BatchSocket<DevicePath, BatchTarget>>();
  /** To ask the platform for each message would take a twentieth of its time. */
  readonly #kinds = new WeakMap<WebSocket, Kind>();
  /** The last one of the device's Egress; null: not looked for since the object woke. */
  #egress: WebSocket | undefined | null = null;

  /** @param take takes what is streamed to the device */
  constructor(
    context: Pick<DurableObjectState, "acceptWebSocket" | "getWebSockets" | "getTags">,
    take: TakeBatch<BatchTarget>,
  ) {
    this.#context = context;
    this.#take = take;
  }

  /** Answers with a WebSocket for batches. */
  accept(kind: Kind): { readonly answer: Response; readonly socket: WebSocket } {
    const { 0: other, 1: socket } = new WebSocketPair();
    this.#context.acceptWebSocket(socket, [kind]);
    if (kind === TAG.egress) this.#egress = socket;
    return { answer: new Response(null, { status: 101, webSocket: other }), socket };
  }

  /** The WebSocket of the device's Egress; undefined if there is none. */
  get egress(): BatchSender<DevicePath> | undefined {
    if (this.#egress === null) this.#egress = this.#context.getWebSockets(TAG.egress).at(-1);
    const batches = this.#egress === undefined ? undefined : this.#of(this.#egress);
    return batches?.isOver ? undefined : batches;
  }

  /** Which kind a WebSocket of the object is; undefined for another one. */
  kindOf(socket: WebSocket): Kind | undefined {
    const known = this.#kinds.get(socket);
    if (known !== undefined) return known;
    const tags = this.#context.getTags(socket);
    const kind = ([TAG.egress, TAG.batches] as const).find((one) => tags.includes(one));
    if (kind !== undefined) this.#kinds.set(socket, kind);
    return kind;
  }

  /** Handles a message on one of them; undefined: at once. If that fails, it is closed: the other end calls instead. */
  hear(socket: WebSocket, message: string | ArrayBuffer): Promise<void> | undefined {
    return this.#of(socket)
      .hear(message)
      ?.catch((error: unknown) => {
        logError(error);
        this.closed(socket);
      });
  }

  /** The other end has closed one. Without an answer it stays in the memory of that object, which cannot hibernate. */
  closed(socket: WebSocket): void {
    this.#sockets.get(socket)?.lost();
    this.#sockets.delete(socket);
    if (this.#egress === socket) this.#egress = undefined;
    socket.close(BELL_CLOSE.done, "over");
  }

  /** Closes all. The other ends learn from the reason that the virtual connection has ended. */
  close(reason: string): void {
    for (const kind of [TAG.egress, TAG.batches]) {
      for (const socket of this.#context.getWebSockets(kind)) socket.close(BELL_CLOSE.refused, reason);
    }
    for (const batches of this.#sockets.values()) batches.lost();
    this.#sockets.clear();
    this.#egress = undefined;
  }

  #of(socket: WebSocket): BatchSocket<DevicePath, BatchTarget> {
    let batches = this.#sockets.get(socket);
    if (batches === undefined) {
      batches = new BatchSocket(socket, () => this.closed(socket), this.#take);
      this.#sockets.set(socket, batches);
    }
    return batches;
  }
}
