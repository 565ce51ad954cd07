/**
 * A process of parked devices: of the product by its own transports and SSTP engine, without the outbox and inbox of the
 * device library, or of the floor (park-worker.ts) by the same kinds of connections.
 */
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { WebSocket } from "ws";
import { openTransport } from "../../src/device/index.ts";
import { KEEP_ALIVE, WEBSOCKET_PING } from "../../src/device/limits.ts";
import { ReconnectPause } from "../../src/device/reconnect.ts";
import { RelayConnection } from "../../src/device/relay-connection.ts";
import { firstHold, holdAfter } from "../../src/encapsulation/hold-time.ts";
import { serve } from "../support/rpc.ts";

/** The kinds of connections, in the mix of the bench. */
export type Kind = "websocket" | "keepalive" | "longlived";

export interface Placed {
  readonly name: string;
  readonly kind: Kind;
  /** Of the product only. */
  readonly token?: string;
}

export interface Party {
  readonly kind: "edge" | "floor";
  readonly port: number;
}

export interface Connecting {
  readonly party: Party;
  readonly devices: readonly Placed[];
  /** How many connect at a time. */
  readonly outstanding: number;
  /** How many begin a second. Default: as many as get in. */
  readonly perSecond?: number;
}

export interface Connected {
  readonly seconds: number;
  readonly failed: readonly string[];
}

/** What has become of the devices of this process. */
export interface Stay {
  readonly connected: number;
  /** Connections that have ended by themselves since they were made. */
  readonly lost: readonly string[];
}

/** Arrivals of messages, by the name of their device: milliseconds since 1970. */
export type Arrivals = Readonly<Record<string, readonly number[]>>;

interface Parked {
  close(): void;
}

let parked: Parked[] = [];
let connected = 0;
let lost: string[] = [];
let arrivals: Record<string, number[]> = {};
let isClosing = false;
let returns = false;

serve({
  async connect({ party, devices, outstanding, perSecond = Number.POSITIVE_INFINITY }: Connecting): Promise<Connected> {
    isClosing = false;
    const began = performance.now();
    const failed: string[] = [];
    const queue = devices.entries();
    const connectNext = async () => {
      for (const [n, device] of queue) {
        const wait = began + (n / perSecond) * 1000 - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        try {
          parked.push(await (party.kind === "edge" ? openProduct(party, device) : openFloor(party, device)));
          connected += 1;
        } catch (error) {
          failed.push(`${device.name} (${device.kind}): ${error instanceof Error ? error.message : String(error)}`);
        }
      }
    };
    await Promise.all(Array.from({ length: outstanding }, connectNext));
    return { seconds: (performance.now() - began) / 1000, failed };
  },
  /** From now on a device of the product that loses its connection comes back, with the pauses of the device library. */
  return() {
    returns = true;
  },
  stay: (): Stay => ({ connected, lost }),
  arrivals(): Arrivals {
    const taken = arrivals;
    arrivals = {};
    return taken;
  },
  close() {
    isClosing = true;
    for (const one of parked) one.close();
    parked = [];
    lost = [];
    connected = 0;
  },
});

function arrived(name: string): void {
  const times = arrivals[name] ?? [];
  arrivals[name] = times;
  times.push(Date.now());
}

function gone(name: string, why: string): void {
  if (isClosing) return;
  connected -= 1;
  lost.push(`${name}: ${why}`);
}

async function comeBack(party: Party, device: Placed): Promise<void> {
  connected -= 1;
  const pause = new ReconnectPause();
  while (!isClosing) {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * pause.next()));
    try {
      parked.push(await openProduct(party, device));
      connected += 1;
      return;
    } catch {
      // It tries again.
    }
  }
}

async function openProduct(party: Party, device: Placed): Promise<Parked> {
  const { port } = party;
  const { name, kind, token } = device;
  let isIn = false;
  const carrier: RelayConnection = new RelayConnection(
    {
      transport: kind,
      relay: "127.0.0.1",
      edge: `http://127.0.0.1:${port}`,
      token,
      address: { identity: name, device: "pc" },
      ends: true,
      receive: true,
      open: openTransport,
    },
    (event) => {
      const { engine } = carrier;
      if (event.type === "open") engine.setAvailability(event.sessionId, "ready");
      else if (event.type === "endMessage") {
        arrived(name);
        engine.complete(event.message, performance.now());
      }
    },
    () => undefined,
  );
  void carrier.ended.then((why) => {
    if (!isIn) return;
    if (returns && !isClosing) void comeBack(party, device);
    else gone(name, why.message);
  });
  await carrier.connect();
  isIn = true;
  return { close: () => carrier.abandon() };
}

function openFloor(party: Party, device: Placed): Promise<Parked> {
  switch (device.kind) {
    case "websocket":
      return openFloorWebSocket(party, device);
    case "keepalive":
      return openFloorPoll(party, device);
    case "longlived":
      return openFloorStream(party, device);
  }
}

function openFloorWebSocket({ port }: Party, { name }: Placed): Promise<Parked> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/${name}`, { perMessageDeflate: false });
    const pings = setInterval(() => socket.readyState === WebSocket.OPEN && socket.send("ping"), WEBSOCKET_PING);
    let isIn = false;
    socket.on("open", () => {
      isIn = true;
      resolve({ close: () => socket.terminate() });
    });
    socket.on("message", (_, isBinary) => isBinary && arrived(name));
    socket.on("error", reject);
    socket.on("close", (code) => {
      clearInterval(pings);
      if (isIn) gone(name, `closed with ${code}`);
    });
  });
}

/** As many connections as the protocol needs: one for GETs, and one that was used for a POST and is kept. */
async function openFloorPoll({ port }: Party, { name }: Placed): Promise<Parked> {
  const [down, up] = [new Agent({ keepAlive: true, maxSockets: 1 }), new Agent({ keepAlive: true, maxSockets: 1 })];
  let isOver = false;
  const close = () => {
    isOver = true;
    down.destroy();
    up.destroy();
  };
  const url = `http://127.0.0.1:${port}/${name}`;
  await whole(await ask(up, "POST", `${url}?up`, "ping"));
  // The first answers at once, as a handshake does.
  await whole(await ask(down, "GET", `${url}?hold=0`));
  void (async () => {
    try {
      // Held as long as the edge holds those of its devices.
      for (let hold = firstHold(); !isOver; ) {
        const began = performance.now();
        if ((await whole(await ask(down, "GET", `${url}?hold=${hold.next}`))) > 0) arrived(name);
        else hold = holdAfter(hold, (performance.now() - began) / 1000);
      }
    } catch (error) {
      if (!isOver) gone(name, String(error));
    }
  })();
  return { close };
}

/** Two connections that stay: one that brings, and one that takes. */
async function openFloorStream({ port }: Party, { name }: Placed): Promise<Parked> {
  const url = `http://127.0.0.1:${port}/${name}`;
  const agent = new Agent({ maxSockets: 2 });
  const upward = httpRequest(`${url}?up`, { agent, method: "POST" });
  upward.on("error", () => undefined);
  upward.write("ping");
  const beats = setInterval(() => upward.write("."), KEEP_ALIVE);
  const downward = await ask(agent, "GET", `${url}?stream=${KEEP_ALIVE / 1000}`);
  let isOver = false;
  downward.on("data", (octets: Buffer) => octets.length > 1 && arrived(name));
  downward.on("error", () => undefined);
  downward.on("close", () => {
    clearInterval(beats);
    if (!isOver) gone(name, "the stream has ended");
  });
  return {
    close() {
      isOver = true;
      clearInterval(beats);
      downward.destroy();
      upward.destroy();
    },
  };
}

function ask(agent: Agent, method: string, url: string, body?: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(url, { agent, method }, resolve);
    sent.once("error", reject);
    sent.end(body);
  });
}

/** The length of a body, once it has come. */
function whole(response: IncomingMessage): Promise<number> {
  return new Promise((resolve, reject) => {
    let length = 0;
    response.on("data", (octets: Buffer) => {
      length += octets.length;
    });
    response.once("end", () => resolve(length));
    response.once("error", reject);
    response.once("close", () => reject(new Error("the answer was cut")));
  });
}
