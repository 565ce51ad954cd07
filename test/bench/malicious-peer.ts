/**
 * A malicious peer, in its own process: it holds one token, and does everything that a token holder can try at once. A
 * second kind of attacker holds none. Every loop runs until stopped, and reconnects when the edge ends a connection.
 */
import { randomBytes } from "node:crypto";
import { request } from "node:http";
import { constants, setPriority } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { openTransport, type Transport, type TransportName } from "../../src/device/index.ts";
import { formatTarget, guidFrom } from "../../src/encapsulation/index.ts";
import {
  accountURL,
  CloseReasonId,
  Connection,
  type ConnectionEvent,
  deviceURL,
  identityURL,
  type MessageFields,
  relayURL,
} from "../../src/sstp/index.ts";
import { serve } from "../support/rpc.ts";

export interface Attack {
  readonly edge: string;
  /** For `mallory/*`, with the scopes connect, receive and send:*. */
  readonly token: string;
  /** Addresses of devices that the attack targets. */
  readonly victims: readonly string[];
  /** A reachable relay that accepts TCP connections and stays silent. */
  readonly silentRelay: string;
}

/** What the attack has done, by name of the loop. */
export type Deeds = Readonly<Record<string, number>>;

/** Octets of the longest message, plus one. */
const TOO_LONG = 16 * 1024 * 1024 + 1;
const IDENTITY = "mallory";
const TRANSPORTS = ["websocket", "longlived", "keepalive", "polling"] as const satisfies TransportName[];

let stopping = new AbortController();
let deeds: Record<string, number> = {};
let loops: Promise<unknown>[] = [];
let count = 0;

/** A scripted SSTP client that reads only when told to. */
class Peer {
  readonly engine: Connection;
  readonly #transport: Transport;
  readonly #waiting: {
    readonly look: (event: ConnectionEvent) => boolean;
    readonly resolve: (came: boolean) => void;
  }[] = [];
  reading = true;
  acknowledging = true;
  refusing = false;

  constructor({ edge, token }: Attack, transport: TransportName, device: string) {
    this.#transport = openTransport({ transport, relay: new URL(edge).hostname, edge, token });
    this.engine = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: [deviceURL({ identity: IDENTITY, device })],
      now: performance.now(),
    });
  }

  static async open(attack: Attack, transport: TransportName, device: string): Promise<Peer | undefined> {
    const peer = new Peer(attack, transport, device);
    peer.engine.connect(relayURL(new URL(attack.edge).hostname));
    const connected = peer.event((event) => event.type === "connected");
    void peer.#read();
    await peer.flush();
    if (await connected) return peer;
    peer.close();
    return undefined;
  }

  get over(): boolean {
    return this.engine.closed !== undefined || this.#transport.lost !== undefined;
  }

  /** Whether an event arrives before the connection ends, within five seconds. */
  event(look: (event: ConnectionEvent) => boolean): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), 5000);
      this.#waiting.push({
        look,
        resolve: (came) => {
          clearTimeout(timer);
          resolve(came);
        },
      });
    });
  }

  async session(identity: string, device = "", resourceURL = "message"): Promise<number | undefined> {
    if (this.over) return undefined;
    const sessionId = this.engine.open({
      resourceURL,
      identityURL: identityURL({ identity }),
      deviceURL: device === "" ? "" : deviceURL({ identity, device }),
    });
    return this.#ready(sessionId);
  }

  async fanout(entries: readonly { identity: string; relay: string }[]): Promise<number | undefined> {
    if (this.over) return undefined;
    const sessionId = this.engine.openFanout({
      resourceURL: "message",
      entries: entries.map(({ identity, relay }) => ({
        identityURL: identityURL({ identity }),
        deviceURL: "",
        relayURL: relay === "" ? "" : relayURL(relay),
      })),
    });
    return this.#ready(sessionId);
  }

  async #ready(sessionId: number): Promise<number | undefined> {
    const ready = this.event((event) => event.type === "sessionState" && event.sessionId === sessionId);
    await this.flush();
    return (await ready) && !this.over && this.engine.session(sessionId) !== undefined ? sessionId : undefined;
  }

  send(sessionId: number, body: Uint8Array, fields: MessageFields): void {
    this.engine.beginMessage(sessionId, { acknowledgeImmediately: true, ...fields });
    this.engine.data(sessionId, body);
    this.engine.endMessage(sessionId);
  }

  /** Resolves when more may be written, or when the loops must stop. */
  async flush(): Promise<void> {
    const blocks = this.engine.output(performance.now());
    if (blocks.length === 0 || this.over) return;
    await Promise.race([this.#transport.write(blocks), pause(10_000)]);
  }

  close(): void {
    this.#transport.close();
  }

  async #read(): Promise<void> {
    for (;;) {
      while (!this.reading && !stopping.signal.aborted && !this.over) await pause(50);
      const octets = await this.#transport.read();
      if (octets === undefined) break;
      this.#handle(this.engine.receive(octets, performance.now()));
      await this.flush();
    }
    this.#handle(this.engine.transportLost());
    for (const { resolve } of this.#waiting) resolve(false);
  }

  #handle(events: readonly ConnectionEvent[]): void {
    for (const event of events) {
      if (event.type === "open" && this.engine.session(event.sessionId) !== undefined) {
        this.engine.setAvailability(event.sessionId, this.refusing ? "fault" : "ready");
      }
      if (event.type === "endMessage" && this.acknowledging) this.engine.complete(event.message, performance.now());
      for (const waiting of this.#waiting.filter(({ look }) => look(event))) {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        waiting.resolve(true);
      }
    }
  }
}

/** Sleeps, but not beyond the end of the attack. */
async function pause(milliseconds: number): Promise<void> {
  await sleep(milliseconds, undefined, { signal: stopping.signal }).catch(() => undefined);
}

function did(deed: string, number = 1): void {
  deeds[deed] = (deeds[deed] ?? 0) + number;
}

function id(): string {
  count += 1;
  return `m${count}`;
}

/** Repeatedly opens a connection and misuses it until the edge ends it. */
async function misuse(
  attack: Attack,
  deed: string,
  transport: TransportName,
  use: (peer: Peer) => Promise<void>,
): Promise<void> {
  while (!stopping.signal.aborted) {
    try {
      const peer = await Peer.open(attack, transport, deed);
      if (peer !== undefined) {
        while (!peer.over && !stopping.signal.aborted) await use(peer);
        did(`${deed}: connections`);
        peer.close();
      }
    } catch {
      // The connection was closed midway: the next one starts.
    }
    await pause(200);
  }
}

/** A request without a token, for an unknown connection. */
function miss(edge: string): Promise<void> {
  const target = formatTarget({
    encapsulation: "KeepAlive",
    relay: new URL(edge).hostname,
    guid: guidFrom(randomBytes(24)),
  });
  return new Promise((resolve) => {
    const asked = request(new URL(target, edge), { method: "POST", headers: { "Content-Length": 3 } }, (answer) => {
      answer.resume();
      answer.on("end", resolve);
      answer.on("error", () => resolve());
    });
    asked.on("error", () => resolve());
    asked.end("abc");
  });
}

/** Each is one kind of abuse. */
function attacks(attack: Attack): Promise<unknown>[] {
  const { victims, silentRelay, edge } = attack;
  const run = (deed: string, transport: TransportName, use: (peer: Peer) => Promise<void>) =>
    misuse(attack, deed, transport, use);
  const own = new Uint8Array(64 * 1024);
  return [
    run("spoofed-ids", "websocket", async (peer) => {
      for (const [index, victim] of victims.entries()) {
        const [identity = "", device = ""] = victim.split("/");
        const session = await peer.session(identity, device);
        if (session === undefined) return;
        const claimed = victims[(index + 1) % victims.length] ?? "";
        peer.send(session, new TextEncoder().encode(`spoofed ${claimed}`), { userRef: `${id()}@${claimed}` });
        peer.engine.closeSession(session, CloseReasonId.Idle);
        await peer.flush();
        did("spoofed messages");
        await pause(50);
      }
    }),
    // One device reads nothing, and another sends it messages that are not stored.
    run("slow", "websocket", async (peer) => {
      peer.reading = false;
      await pause(1000);
    }),
    run("volatile-flood", "websocket", async (peer) => {
      const session = await peer.session(IDENTITY, "slow");
      if (session === undefined) return pause(200);
      while (!peer.over && !stopping.signal.aborted) {
        for (let n = 0; n < 16; n += 1) peer.send(session, own, { userRef: id(), doNotDeliverIfOffline: true });
        await peer.flush();
        did("volatile messages of 64 KiB", 16);
        while (peer.engine.unacknowledged.length > 500 && !peer.over && !stopping.signal.aborted) await pause(5);
      }
    }),
    run("open-flood", "websocket", async (peer) => {
      peer.reading = false;
      for (let n = 0; n < 500; n += 1) {
        peer.engine.open({ resourceURL: "r", identityURL: identityURL({ identity: "nobody" }), deviceURL: "" });
      }
      await peer.flush();
      did("Opens whose answers are not read", 500);
    }),
    run("attach-flood", "longlived", async (peer) => {
      for (let n = 0; n < 100; n += 1) {
        const event = peer.engine.attach({ accountURL: accountURL({ identity: IDENTITY }) });
        peer.engine.closeSession(event, CloseReasonId.Idle);
      }
      await peer.flush();
      did("Attach and Close", 100);
      await pause(5);
    }),
    run("long-ids", "websocket", async (peer) => {
      const session = await peer.session("mallory", "nobody-there");
      if (session === undefined) return pause(200);
      while (!peer.over && !stopping.signal.aborted) {
        for (let n = 0; n < 50; n += 1) peer.send(session, new Uint8Array(0), { userRef: id().padEnd(2000, "x") });
        await peer.flush();
        did("messages with ids of 2000 octets", 50);
        while (peer.engine.unacknowledged.length > 500 && !peer.over && !stopping.signal.aborted) await pause(5);
        await pause(50);
      }
    }),
    run("fanout", "websocket", async (peer) => {
      const entries = Array.from({ length: 1000 }, (_, n) => ({ identity: `crowd${n}`, relay: "" }));
      const session = await peer.fanout(entries);
      if (session === undefined) return pause(200);
      peer.send(session, own.subarray(0, 1024), { userRef: id() });
      peer.engine.closeSession(session, CloseReasonId.Idle);
      await peer.flush();
      did("messages to 1000 recipients");
      await pause(100);
    }),
    run("relay-fanout", "websocket", async (peer) => {
      const entries = Array.from({ length: 1000 }, (_, n) => ({ identity: `far${n}`, relay: silentRelay }));
      const session = await peer.fanout(entries);
      if (session === undefined) return pause(200);
      peer.send(session, new Uint8Array(0), { userRef: id() });
      peer.engine.closeSession(session, CloseReasonId.Idle);
      await peer.flush();
      did("empty messages to 1000 recipients at a relay");
      await pause(500);
    }),
    run("silent-relay", "keepalive", async (peer) => {
      const session = await peer.fanout([{ identity: "somebody", relay: silentRelay }]);
      if (session === undefined) return pause(200);
      peer.send(session, new Uint8Array(10), { userRef: id(), doNotDeliverIfOffline: true });
      await peer.flush();
      did("volatile messages to a silent relay");
      await pause(200);
    }),
    run("too-long", "websocket", async (peer) => {
      const session = await peer.session("mallory", "nobody-there");
      if (session === undefined) return pause(200);
      peer.send(session, new Uint8Array(TOO_LONG), { userRef: id() });
      peer.engine.closeSession(session, CloseReasonId.Idle);
      await peer.flush();
      did("messages that are too long, and Close");
      await pause(5000);
    }),
    run("refuser", "websocket", async (peer) => {
      peer.refusing = true;
      const session = await peer.session(IDENTITY, "refuser", "unwanted");
      if (session === undefined) return pause(200);
      peer.send(session, new Uint8Array(100), { userRef: id() });
      await peer.flush();
      did("messages that their device refuses");
      await pause(100);
    }),
    run("taker", "websocket", async (peer) => {
      peer.acknowledging = false;
      const session = await peer.session(IDENTITY, "taker");
      if (session === undefined) return pause(200);
      peer.send(session, new Uint8Array(1000), { userRef: id() });
      await peer.flush();
      did("messages that their device does not acknowledge");
      await pause(20);
    }),
    (async () => {
      while (!stopping.signal.aborted) {
        for (const transport of TRANSPORTS) {
          const peer = await Peer.open(attack, transport, `churn-${transport}`).catch(() => undefined);
          if (peer !== undefined) did(`connections by ${transport}`);
          peer?.close();
          // A client without a token that never identifies itself.
          const stranger = openTransport({ transport, relay: new URL(edge).hostname, edge });
          await Promise.race([stranger.established.catch(() => undefined), pause(1000)]);
          stranger.close();
          did("connections without a token");
          await Promise.all(Array.from({ length: 5 }, () => miss(edge)));
          did("misses", 5);
        }
        await pause(20);
      }
    })(),
  ];
}

serve({
  /** Starts the attack. */
  begin(attack: Attack) {
    // Attackers have machines of their own: their cost must not be counted as the edge's cost to others.
    setPriority(constants.priority.PRIORITY_LOW);
    stopping = new AbortController();
    deeds = {};
    loops = attacks(attack);
  },

  /** Ends the attack; returns what it has done. */
  async end(): Promise<Deeds> {
    stopping.abort();
    await Promise.race([Promise.all(loops), sleep(5000)]);
    return deeds;
  },
});
