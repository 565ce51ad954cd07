/**
 * A TCP proxy between one device and an edge that loses one answer: the device's request arrives and is executed,
 * but the device never learns of it.
 *
 *   answers  keepalive, polling   the n-th request goes through, its answer is held back, and its connection is cut
 *   frames   websocket            everything passes up to the n-th frame of the edge; then only the device's data
 *   chunks   longlived            passes for a while, and then all connections are cut
 */
import { connect, type Socket } from "node:net";
import type { MailboxStatus } from "../../src/edge/rpc/mailbox-rpc.ts";
import { ResponseReader } from "../../src/encapsulation/http-body.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { listen } from "../support/sockets.ts";
import { ADMIN_TOKEN, type ENCAPSULATIONS } from "./support.ts";

/** How long the device's data still passes once it gets no answers. */
const DEAF = 30;

export interface Loss {
  /** Which unit is lost, from 1. */
  readonly n: number;
  readonly by: "reset" | "end";
  /** How much of the unit still passes: nothing of an answer, possibly a part of a frame or a chunk. */
  readonly part: number;
}

/** A connection of the device, and the matching one to the edge. */
interface Pair {
  readonly device: Socket;
  readonly edge: Socket;
}

export class LossyProxy {
  readonly port: number;
  readonly #state: State;
  readonly #stop: () => Promise<void>;

  private constructor(port: number, state: State, stop: () => Promise<void>) {
    this.port = port;
    this.#state = state;
    this.#stop = stop;
  }

  /** @param loss what to lose; without it units are only counted */
  static async before(
    target: number,
    encapsulation: (typeof ENCAPSULATIONS)[number],
    loss?: Loss,
  ): Promise<LossyProxy> {
    const state: State = { loss, units: 0, lost: false, deaf: false, pairs: new Set(), timer: undefined };
    const server = await listen((device) => {
      const edge = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
      device.setNoDelay(true);
      edge.setNoDelay(true);
      const pair = { device, edge };
      state.pairs.add(pair);
      for (const [from, to] of [
        [device, edge],
        [edge, device],
      ] as const) {
        from.on("end", () => state.pairs.has(pair) && to.end());
        from.on("error", () => cut(state, pair, "reset"));
        from.on("close", () => {
          state.pairs.delete(pair);
          to.destroySoon();
        });
      }
      if (encapsulation === "keepalive" || encapsulation === "polling") byRequests(state, pair);
      else byPieces(state, pair, encapsulation === "websocket" ? framesOf() : (chunk) => [chunk]);
    });
    return new LossyProxy(server.port, state, () => server.close());
  }

  /** The number of requests received, or of frames or chunks the edge has sent. */
  get units(): number {
    return this.#state.units;
  }

  /** Whether the loss has happened. */
  get lost(): boolean {
    return this.#state.lost;
  }

  close(): Promise<void> {
    clearTimeout(this.#state.timer);
    for (const { edge } of this.#state.pairs) edge.destroy();
    return this.#stop();
  }
}

interface State {
  readonly loss: Loss | undefined;
  units: number;
  lost: boolean;
  /** What the edge sends on the existing connections is discarded. */
  deaf: boolean;
  readonly pairs: Set<Pair>;
  timer: NodeJS.Timeout | undefined;
}

/** Passes requests, and all answers but one. */
function byRequests(state: State, pair: Pair): void {
  const { device, edge } = pair;
  const requests = new RequestReader();
  const answer = new ResponseReader();
  let doomed = false;
  device.on("data", (octets: Buffer) => {
    for (let begun = requests.feed(octets); begun > 0; begun -= 1) {
      state.units += 1;
      if (state.units !== state.loss?.n) continue;
      doomed = true;
      answer.expect();
    }
    forward(octets, device, edge);
  });
  edge.on("data", (octets: Buffer) => {
    if (!doomed) {
      forward(octets, edge, device);
      return;
    }
    // The client has one request at a time: everything that arrives now is this answer.
    const complete = answer.feed(octets).some(({ type }) => type === "end" || type === "fault");
    if (!complete || !requests.whole) return;
    state.lost = true;
    cut(state, pair, state.loss?.by ?? "reset");
  });
}

/** Passes everything until the unit to be lost. */
function byPieces(state: State, { device, edge }: Pair, piecesOf: (octets: Buffer) => Buffer[]): void {
  device.on("data", (octets: Buffer) => forward(octets, device, edge));
  const mine = { device, edge };
  edge.on("data", (octets: Buffer) => {
    for (const piece of piecesOf(octets)) {
      if (state.deaf) return;
      if (piece.length === 0) continue;
      state.units += 1;
      const { loss } = state;
      if (loss === undefined || state.units !== loss.n) {
        forward(piece, mine.edge, mine.device);
        continue;
      }
      state.lost = true;
      state.deaf = true;
      const part = piece.subarray(0, Math.floor(piece.length * loss.part));
      if (part.length > 0) device.write(part);
      state.timer = setTimeout(() => {
        state.deaf = false;
        for (const pair of [...state.pairs]) cut(state, pair, loss.by);
      }, DEAF);
    }
  });
}

function forward(octets: Buffer, from: Socket, to: Socket): void {
  if (to.writable && !to.write(octets)) {
    from.pause();
    to.once("drain", () => from.resume());
  }
}

function cut(state: State, pair: Pair, by: Loss["by"]): void {
  if (!state.pairs.delete(pair)) return;
  for (const socket of [pair.device, pair.edge]) {
    socket.removeAllListeners("data");
    if (by === "reset") socket.resetAndDestroy();
    else socket.destroy();
  }
}

/** Finds requests in a client's data, and whether the last is complete. */
class RequestReader {
  #head = "";
  #left = 0;
  whole = true;

  /** The number of requests that start in these octets. */
  feed(octets: Buffer): number {
    let begun = 0;
    for (let at = 0; at < octets.length; ) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, octets.length - at);
        this.#left -= taken;
        at += taken;
      } else {
        if (this.#head === "") begun += 1;
        this.#head += String.fromCharCode(octets[at] ?? 0);
        at += 1;
        if (this.#head.endsWith("\r\n\r\n")) {
          this.#left = Number(/^content-length: *([0-9]+)/im.exec(this.#head)?.[1] ?? 0);
          this.#head = "";
        }
      }
    }
    this.whole = this.#left === 0 && this.#head === "";
    return begun;
  }
}

/** Splits a WebSocket server's data into the answer to the upgrade and frames [RFC 6455 5.2]. */
function framesOf(): (octets: Buffer) => Buffer[] {
  let upgraded = false;
  let kept = Buffer.alloc(0);
  return (octets) => {
    const frames: Buffer[] = [];
    kept = Buffer.concat([kept, octets]);
    for (;;) {
      const length = upgraded ? frameLength(kept) : headLength(kept);
      if (length === undefined || kept.length < length) return frames;
      frames.push(kept.subarray(0, length));
      kept = kept.subarray(length);
      upgraded = true;
    }
  };
}

function headLength(octets: Buffer): number | undefined {
  const end = octets.indexOf("\r\n\r\n");
  return end < 0 ? undefined : end + 4;
}

function frameLength(octets: Buffer): number | undefined {
  const [, second] = octets;
  if (second === undefined) return undefined;
  const short = second & 0x7f;
  if (short < 126) return 2 + short;
  if (short === 126) return octets.length < 4 ? undefined : 4 + octets.readUInt16BE(2);
  return octets.length < 10 ? undefined : 10 + Number(octets.readBigUInt64BE(2));
}

/**
 * The state of a mailbox as reported by an edge with ADMIN_TOKEN. It is queried over HTTP as an operator would: a query
 * through Miniflare would block this process, and the devices in it.
 */
export async function statusOf(edge: InspectedEdge, address: string): Promise<MailboxStatus> {
  const answer = await fetch(`${edge.url}/admin/mailboxes/${encodeURIComponent(address)}`, {
    headers: { Authorization: `Bearer ${ADMIN_TOKEN}` },
  });
  if (!answer.ok) throw new Error(`the admin surface answered ${answer.status}`);
  return (await answer.json()) as MailboxStatus;
}
