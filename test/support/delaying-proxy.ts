/** A long way: a TCP proxy that passes everything on a while later, as fast as it comes. */
import { connect, type Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { listen } from "./sockets.ts";

/** What may be under way in one direction, before the proxy reads no further: more than any window. */
const UNDER_WAY = 64 * 1024 * 1024;

/** One direction of one connection. */
class Lane {
  octets = 0;
  readonly #proxy: DelayingProxy;
  readonly #from: Socket;
  readonly #to: Socket;
  #chunks: { readonly at: number; readonly octets: Buffer | undefined }[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(proxy: DelayingProxy, from: Socket, to: Socket) {
    this.#proxy = proxy;
    this.#from = from;
    this.#to = to;
    from.on("data", (octets: Buffer) => this.#push(octets));
    from.on("end", () => this.#push(undefined));
    from.on("error", () => to.destroy());
    from.on("close", () => {
      clearTimeout(this.#timer);
      // What is under way still arrives.
      if (this.#chunks.length === 0) to.destroySoon();
      else this.#push(undefined);
    });
    to.on("drain", () => this.#pass());
  }

  #push(octets: Buffer | undefined): void {
    this.#chunks.push({ at: performance.now() + this.#proxy.delay, octets });
    this.octets += octets?.length ?? 0;
    if (this.octets > UNDER_WAY) this.#from.pause();
    this.#setTimer();
  }

  #pass(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = performance.now();
    while (this.#chunks[0] !== undefined && this.#chunks[0].at <= now && !this.#to.writableNeedDrain) {
      const octets = this.#chunks.shift()?.octets;
      if (octets === undefined) this.#to.end();
      else {
        this.octets -= octets.length;
        this.#to.write(octets);
      }
    }
    if (this.octets <= UNDER_WAY && this.#from.isPaused()) this.#from.resume();
    this.#setTimer();
  }

  #setTimer(): void {
    const [first] = this.#chunks;
    if (first === undefined || this.#timer !== undefined || this.#to.destroyed) return;
    this.#timer = setTimeout(() => this.#pass(), Math.max(0, first.at - performance.now()));
  }
}

export class DelayingProxy {
  /** Milliseconds from one side to the other, each way. */
  delay: number;
  /** The most bytes that were under way in the direction to the target, and back. */
  readonly most = { there: 0, back: 0 };
  readonly #lanes = new Set<{ readonly there: Lane; readonly back: Lane }>();
  #port = 0;
  #looking: NodeJS.Timeout | undefined;

  private constructor(delay: number) {
    this.delay = delay;
  }

  /**
   * @param delay milliseconds, each way
   * @param port of 127.0.0.1
   */
  static async start(
    t: { after(run: () => Promise<unknown>): void },
    port: number,
    delay: number,
  ): Promise<DelayingProxy> {
    const proxy = new DelayingProxy(delay);
    const server = await listen((socket) => proxy.#serve(socket, port));
    proxy.#port = server.port;
    proxy.#looking = setInterval(() => proxy.#look(), 1);
    t.after(() => {
      clearInterval(proxy.#looking);
      return server.close();
    });
    return proxy;
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  #look(): void {
    const sum = (which: "there" | "back") => [...this.#lanes].reduce((all, lanes) => all + lanes[which].octets, 0);
    this.most.there = Math.max(this.most.there, sum("there"));
    this.most.back = Math.max(this.most.back, sum("back"));
  }

  #serve(socket: Socket, port: number): void {
    const target = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    for (const one of [socket, target]) one.setNoDelay(true);
    const lanes = { there: new Lane(this, socket, target), back: new Lane(this, target, socket) };
    this.#lanes.add(lanes);
    socket.on("close", () => this.#lanes.delete(lanes));
  }
}
