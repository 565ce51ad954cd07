/** Reads server-sent events over HTTP as a browser's EventSource does [WHATWG HTML 9.2], and records how connections end. */
import { setTimeout as sleep } from "node:timers/promises";
import { Watch } from "./watch.ts";

export interface ServerSentEvent {
  readonly name: string;
  readonly id: string;
  readonly data: string;
}

export interface EventConnection {
  /** When it began and ended, of `performance.now()`; infinite while it is open. */
  readonly from: number;
  to: number;
  /** Whether its body came to its end; false if it broke. */
  isWhole: boolean;
  /** Names of its events, in order. */
  readonly names: string[];
}

export interface EventReaderOptions {
  readonly headers?: Readonly<Record<string, string>>;
  /** The id of the last event of an earlier reader. */
  readonly lastEventId?: string;
}

export class EventReader {
  readonly events: ServerSentEvent[] = [];
  readonly connections: EventConnection[] = [];
  /** The status and reason of an answer that is no stream of events: nothing is tried after it. */
  refused: string | undefined;
  readonly watch = new Watch();
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #closing = new AbortController();
  #lastId: string;
  /** Milliseconds to wait before the next connection. */
  #retry = 1000;

  constructor(url: string, { headers = {}, lastEventId = "" }: EventReaderOptions = {}) {
    this.#url = url;
    this.#headers = headers;
    this.#lastId = lastEventId;
    this.#run().catch((error: unknown) => {
      this.refused ??= String(error);
      this.watch.changed();
    });
  }

  /** What events of a name have said. */
  data(name: string): string[] {
    return this.events.filter((event) => event.name === name).map(({ data }) => data);
  }

  close(): void {
    this.#closing.abort();
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted && this.refused === undefined) {
      const connection = { from: performance.now(), to: Number.POSITIVE_INFINITY, isWhole: false, names: [] };
      this.connections.push(connection);
      try {
        await this.#connect(connection);
      } catch (error) {
        if (!(error instanceof TypeError) && !signal.aborted) throw error;
      }
      connection.to = performance.now();
      this.watch.changed();
      await sleep(this.#retry, undefined, { signal }).catch(() => undefined);
    }
  }

  async #connect(connection: EventConnection): Promise<void> {
    const again = this.#lastId === "" ? {} : { "Last-Event-ID": this.#lastId };
    const headers = { ...this.#headers, Accept: "text/event-stream", ...again };
    const answer = await fetch(this.#url, { headers, signal: this.#closing.signal });
    // A gateway that has lost what is behind it comes back.
    if (answer.status === 502 || answer.status === 504) return;
    if (answer.status !== 200) {
      this.refused = `${answer.status} ${answer.headers.get("grooveway-reason")}`;
      return;
    }
    const decoder = new TextDecoder();
    let text = "";
    for await (const piece of answer.body ?? []) {
      text += decoder.decode(piece, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) this.#take(block, connection);
      this.watch.changed();
    }
    connection.isWhole = true;
  }

  #take(block: string, connection: EventConnection): void {
    let name = "message";
    const data: string[] = [];
    for (const line of block.split("\n")) {
      const [, field = "", value = ""] = /^([a-z]*): ?(.*)$/s.exec(line) ?? [];
      if (field === "event") name = value;
      else if (field === "data") data.push(value);
      else if (field === "id") this.#lastId = value;
      else if (field === "retry") this.#retry = Number(value);
    }
    if (data.length === 0) return;
    connection.names.push(name);
    this.events.push({ name, id: this.#lastId, data: data.join("\n") });
  }
}
