/** Devices that send messages to the bouncer and count what returns, in their own process. */
import { openTransport, type Transport, type TransportName } from "../../src/device/index.ts";
import {
  accountURL,
  Connection,
  type ConnectionEvent,
  deviceURL,
  identityURL,
  relayURL,
} from "../../src/sstp/index.ts";
import { partsOf } from "../support/address.ts";
import { serve } from "../support/rpc.ts";

/** How a thrower reaches the bouncer: directly by TCP, by a forwarder, or as a device of an edge linked to it. */
export interface Throw {
  readonly id: number;
  readonly transport: TransportName;
  readonly edge?: string;
  /** `host:port` of a forwarder. */
  readonly forwarder?: string;
  /** `host:port` of the bouncer. */
  readonly relay: string;
  /** Flag D: nothing is stored. */
  readonly volatile?: boolean;
}

export interface Thrown {
  readonly seconds: number;
  readonly returned: number;
  readonly lost: number;
  readonly duplicated: number;
  /** Milliseconds of each round trip, when they were sent one at a time. */
  readonly samples: readonly number[];
}

const BODY = new Uint8Array(100).fill(0x61);
const PATIENCE = 20_000;

class Thrower {
  readonly ready = Promise.withResolvers<void>();
  readonly #name: string;
  readonly #volatile: boolean;
  readonly #engine: Connection;
  readonly #transport: Transport;
  readonly #addressing: Parameters<Connection["openFanout"]>[0];
  #sessionId = 0;
  #next = 0;
  #returned = new Set<string>();
  #duplicated = 0;
  #came: (() => void) | undefined;
  #flushing = false;

  constructor({ id, transport, edge, forwarder, relay, volatile = false }: Throw) {
    this.#volatile = volatile;
    this.#name = `thrower/${id}`;
    const address = partsOf(this.#name);
    const ours = edge === undefined ? (forwarder ?? relay) : new URL(edge).hostname;
    this.#transport = openTransport({ transport, relay: ours, ...(edge !== undefined && { edge }) });
    const bouncer = partsOf("bouncer/pc");
    const entry = { identityURL: identityURL(bouncer), deviceURL: deviceURL(bouncer), relayURL: relayURL(relay) };
    this.#addressing = { resourceURL: "thrown", entries: [entry] };
    this.#engine = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: [deviceURL(address)],
      now: performance.now(),
    });
    this.#engine.connect(relayURL(ours));
    this.#flush();
    void this.#read(() => this.#engine.attach({ accountURL: accountURL(address) }));
  }

  /** Sends this many, with at most `window` of them outstanding. */
  async throw(count: number, window: number): Promise<Thrown> {
    this.#returned = new Set();
    this.#duplicated = 0;
    const first = this.#next;
    const began = performance.now();
    const samples: number[] = [];
    while (this.#returned.size < count) {
      let thrown = performance.now();
      const before = this.#returned.size;
      while (this.#next - first < count && this.#next - first - this.#returned.size < window) this.#one();
      this.#flush();
      if (window === 1) thrown = performance.now();
      if (!(await this.#back())) break;
      if (window === 1 && this.#returned.size > before) samples.push(performance.now() - thrown);
    }
    const seconds = (performance.now() - began) / 1000;
    const returned = this.#returned.size;
    return { seconds, returned, lost: count - returned, duplicated: this.#duplicated, samples };
  }

  close(): void {
    this.#transport.close();
  }

  #one(): void {
    this.#engine.beginMessage(this.#sessionId, {
      userRef: `${this.#next}@${this.#name}`,
      acknowledgeImmediately: true,
      doNotDeliverIfOffline: this.#volatile,
    });
    this.#engine.data(this.#sessionId, BODY);
    this.#engine.endMessage(this.#sessionId);
    this.#next += 1;
  }

  /** Waits for something to return. False if nothing does. */
  #back(): Promise<boolean> {
    return new Promise((resolve) => {
      const late = setTimeout(() => resolve(false), PATIENCE);
      this.#came = () => {
        clearTimeout(late);
        resolve(true);
      };
    });
  }

  #flush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      const blocks = this.#engine.output(performance.now());
      if (blocks.length > 0) void this.#transport.write(blocks);
    });
  }

  async #read(attach: () => void): Promise<void> {
    for (;;) {
      const octets = await this.#transport.read();
      if (octets === undefined) break;
      for (const event of this.#engine.receive(octets, performance.now())) this.#on(event, attach);
      this.#flush();
    }
    this.ready.reject(new Error("the thrower's connection has ended"));
  }

  #on(event: ConnectionEvent, attach: () => void): void {
    switch (event.type) {
      case "connected":
        attach();
        break;
      case "attached":
        this.#sessionId = this.#engine.openFanout(this.#addressing);
        break;
      case "sessionState":
        this.ready.resolve();
        break;
      case "open":
        this.#engine.setAvailability(event.sessionId, "ready");
        break;
      case "message": {
        const { userRef } = event.fields;
        if (this.#returned.has(userRef)) this.#duplicated += 1;
        this.#returned.add(userRef);
        break;
      }
      case "endMessage": {
        this.#engine.complete(event.message, performance.now());
        const came = this.#came;
        this.#came = undefined;
        came?.();
        break;
      }
    }
  }
}

const throwers = new Map<number, Thrower>();

serve({
  async open(way: Throw) {
    const thrower = new Thrower(way);
    throwers.set(way.id, thrower);
    await thrower.ready.promise;
  },
  throw: ({ id, count, window }: { id: number; count: number; window: number }) =>
    throwers.get(id)?.throw(count, window),
  close: (id: number) => {
    throwers.get(id)?.close();
    throwers.delete(id);
  },
});
