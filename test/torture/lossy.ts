/**
 * A TCP proxy between one device and an edge that loses one answer: what the device has asked for arrives and is done,
 * and the device never hears of it.
 *
 *   answers  keepalive, polling   the n-th request goes through, its answer is held back, and its connection is cut
 *   frames   websocket            up to the n-th frame of the edge all goes through; then only what the device sends
 *   chunks   longlived            does, for a while, and then all connections are cut
 */
import { connect, type Socket } from "node:net";
import type { LocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import type { MailboxStatus } from "../../src/edge/rpc/mailbox-rpc.ts";
import { ResponseReader } from "../../src/encapsulation/http-body.ts";
import { listen } from "../support/sockets.ts";
import { ADMIN_TOKEN, type ENCAPSULATIONS } from "./support.ts";

/** How long the device is still heard when it is no longer answered. */
const DEAF = 30;

export interface Loss {
  /** Which unit is lost, from 1. */
  readonly n: number;
  readonly by: "reset" | "end";
  /** How much of the unit comes through all the same: nothing of an answer, maybe a part of a frame or a chunk. */
  readonly part: number;
}

/** One connection of the device, and ours to the edge for it. */
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

  /** @param loss what is to be lost; without it units are only counted */
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

  /** Requests that have come, or frames or chunks that the edge has sent. */
  get units(): number {
    return this.#state.units;
  }

  /** Whether what was to be lost is lost. */
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
  /** What the edge sends on the connections that there are goes nowhere. */
  deaf: boolean;
  readonly pairs: Set<Pair>;
  timer: NodeJS.Timeout | undefined;
}

/** Lets requests through, and all answers but one. */
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
    // The client asks for one thing at a time: all that comes now is this answer.
    const complete = answer.feed(octets).some(({ type }) => type === "end" || type === "fault");
    if (!complete || !requests.whole) return;
    state.lost = true;
    cut(state, pair, state.loss?.by ?? "reset");
  });
}

/** Lets all through until the piece that is to be lost. */
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

/** Finds requests in what a client sends, and whether the last has come whole. */
class RequestReader {
  #head = "";
  #left = 0;
  whole = true;

  /** How many requests have begun in these octets. */
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

/** Cuts what a server of WebSocket sends into its answer to the upgrade and its frames [RFC 6455 5.2]. */
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
 * What an edge that was started with ADMIN_TOKEN tells of a mailbox. It is asked as an operator asks: asked through
 * Miniflare, all of this process would stand still meanwhile, and the devices in it.
 */
export async function statusOf(edge: LocalEdge, address: string): Promise<MailboxStatus> {
  const answer = await fetch(`${edge.url}/admin/mailboxes/${encodeURIComponent(address)}`, {
    headers: { Authorization: `Bearer ${ADMIN_TOKEN}` },
  });
  if (!answer.ok) throw new Error(`the admin surface answered ${answer.status}`);
  return (await answer.json()) as MailboxStatus;
}
