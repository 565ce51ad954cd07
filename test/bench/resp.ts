/** The part of Redis' protocol that the bench needs: commands answered in the order in which they were sent. */
import { connect, type Socket } from "node:net";

export type Reply = string | number | null | readonly Reply[];

export class Resp {
  readonly #socket: Socket;
  #held = "";
  #at = 0;
  #waiting: { readonly resolve: (reply: Reply) => void; readonly reject: (error: Error) => void }[] = [];
  /** Commands of this turn, sent in one write. */
  #unsent = "";

  private constructor(socket: Socket) {
    this.#socket = socket;
    // Everything that the bench sends and receives is ASCII.
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => this.#take(text));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      for (const { reject } of this.#waiting) reject(new Error("redis has closed the connection"));
      this.#waiting = [];
    });
  }

  static async connect(port: number): Promise<Resp> {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new Resp(socket);
  }

  call(...words: string[]): Promise<Reply> {
    if (this.#unsent === "") {
      queueMicrotask(() => {
        this.#socket.write(this.#unsent, "latin1");
        this.#unsent = "";
      });
    }
    this.#unsent += `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`;
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(text: string): void {
    this.#held += text;
    const done: (() => void)[] = [];
    for (;;) {
      const start = this.#at;
      const reply = this.#reply();
      if (reply === undefined) {
        this.#at = start;
        break;
      }
      const waiting = this.#waiting[done.length];
      done.push(() => (reply instanceof Error ? waiting?.reject(reply) : waiting?.resolve(reply)));
    }
    this.#held = this.#held.slice(this.#at);
    this.#at = 0;
    this.#waiting.splice(0, done.length);
    for (const tell of done) tell();
  }

  /** The reply at the read position; undefined if it is incomplete. */
  #reply(): Reply | Error | undefined {
    const end = this.#held.indexOf("\r\n", this.#at);
    if (end < 0) return undefined;
    const kind = this.#held[this.#at];
    const rest = this.#held.slice(this.#at + 1, end);
    this.#at = end + 2;
    if (kind === "+") return rest;
    if (kind === "-") return new Error(`redis: ${rest}`);
    if (kind === ":") return Number(rest);
    const length = Number(rest);
    if (length < 0) return null;
    if (kind === "$") {
      if (this.#held.length < this.#at + length + 2) return undefined;
      const text = this.#held.slice(this.#at, this.#at + length);
      this.#at += length + 2;
      return text;
    }
    const replies: Reply[] = [];
    for (let n = 0; n < length; n += 1) {
      const reply = this.#reply();
      if (reply === undefined || reply instanceof Error) return reply;
      replies.push(reply);
    }
    return replies;
  }
}
