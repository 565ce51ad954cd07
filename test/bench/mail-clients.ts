/** Clients of mailboxes: the product's device, the product's engine only, and the floor. */
import { WebSocket } from "ws";
import { Device, openTransport, type Transport } from "../../src/device/index.ts";
import type { MailboxStatus } from "../../src/edge/rpc/mailbox-rpc.ts";
import {
  accountURL,
  Connection,
  type ConnectionEvent,
  deviceURL,
  identityURL,
  relayURL,
} from "../../src/sstp/index.ts";
import { partsOf } from "../support/address.ts";
import { agentOf, ask } from "./ask.ts";
import { ADMIN_TOKEN, type Client, eachBox, LETTER, type Letter, type MailTransport, type Way } from "./letters.ts";

type MailWay = Extract<Way, { kind: "device" | "engine" }>;

/** A device, by the library that applications use. */
export async function openDevice(way: MailWay, number: number): Promise<Client> {
  const { edge, transport } = way;
  const device = await Device.connect({ edge, transport, address: `${way.name}-sender${number}/bench` });
  return {
    ...boxesOf(way),
    append: (letters) => Promise.all(letters.map(({ box, text }) => device.send(addressOf(way, box), text))),
    close: () => device.close(),
  };
}

/** The engine and a transport, without the device's outbox, ids and checks. */
export async function openEngine(way: MailWay, number: number): Promise<Client> {
  const sender = new EngineSender(way, number);
  await sender.connected.promise;
  return {
    ...boxesOf(way),
    append: (letters) => sender.append(letters),
    close: () => sender.close(),
  };
}

function addressOf(way: Way, box: number): string {
  return `${way.name}-box${box}/bench`;
}

/** Common to all ways of sending: a device that receives, and the operator's API. */
function boxesOf(way: MailWay): Omit<Client, "append" | "close"> {
  const agent = agentOf();
  const admin = async (method: string, box: number): Promise<MailboxStatus> => {
    const url = `${way.edge}/admin/mailboxes/${encodeURIComponent(addressOf(way, box))}`;
    const headers = { Authorization: `Bearer ${ADMIN_TOKEN}` };
    const { status, text } = await ask(agent, method, url, headers);
    if (status !== 200) throw new Error(`${method} ${url} answers ${status}: ${text.slice(0, 100)}`);
    return JSON.parse(text) as MailboxStatus;
  };
  const receiver = (box: number, transport: MailTransport) =>
    Device.connect({ edge: way.edge, transport, address: addressOf(way, box) });
  return {
    count: async (box) => (await admin("GET", box)).messages,
    rows: async (box) => (await admin("GET", box)).rowsWritten,
    async take(box, count, give) {
      const device = await receiver(box, "websocket");
      // A message in the mailbox beyond those acknowledged is found after them.
      const idle = setTimeout(() => void device.close(), 10_000);
      let taken = 0;
      for await (const message of device.messages()) {
        message.done();
        give(message.text());
        taken += 1;
        if (taken === count) setTimeout(() => void device.close(), 50);
        else idle.refresh();
      }
      clearTimeout(idle);
    },
    async watch(give) {
      const device = await receiver(0, way.receiver ?? way.transport);
      void (async () => {
        for await (const message of device.messages()) {
          give(message.text());
          message.done();
        }
      })();
      return () => void device.close();
    },
    empty: () => eachBox(way.boxes, (box) => admin("DELETE", box)),
  };
}

class EngineSender {
  readonly connected = Promise.withResolvers<void>();
  readonly #way: MailWay;
  readonly #engine: Connection;
  readonly #transport: Transport;
  /** Unacknowledged messages, by the engine's number. */
  readonly #waiting = new Map<number, () => void>();
  /** Sessions by box; a promise while one is being opened. */
  readonly #sessions = new Map<number, number | Promise<number>>();
  readonly #opened = new Map<number, (sessionId: number) => void>();
  #failed: Error | undefined;

  constructor(way: MailWay, number: number) {
    this.#way = way;
    const host = new URL(way.edge).hostname;
    const address = partsOf(`${way.name}-engine${number}/bench`);
    this.#transport = openTransport({ transport: way.transport, relay: host, edge: way.edge });
    this.#engine = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: [deviceURL(address)],
      now: performance.now(),
    });
    this.#engine.connect(relayURL(host));
    this.#flush();
    void this.#read(() => this.#engine.attach({ accountURL: accountURL(address) }));
  }

  async append(letters: readonly Letter[]): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    let left = letters.length;
    const { promise, resolve } = Promise.withResolvers<void>();
    const acknowledged = () => {
      left -= 1;
      if (left === 0) resolve();
    };
    for (const { box, text } of letters) {
      const known = this.#sessions.get(box) ?? this.#open(box);
      const sessionId = typeof known === "number" ? known : await known;
      this.#engine.beginMessage(sessionId, { acknowledgeImmediately: true });
      this.#engine.data(sessionId, Buffer.from(text));
      this.#waiting.set(this.#engine.endMessage(sessionId), acknowledged);
    }
    this.#flush();
    await promise;
  }

  close(): void {
    this.#transport.close();
  }

  #open(box: number): Promise<number> {
    const recipient = partsOf(addressOf(this.#way, box));
    const opening = new Promise<number>((resolve) => {
      const sessionId = this.#engine.open({
        resourceURL: "message",
        identityURL: identityURL(recipient),
        deviceURL: deviceURL(recipient),
      });
      this.#opened.set(sessionId, (ready) => {
        this.#sessions.set(box, ready);
        resolve(ready);
      });
    });
    this.#sessions.set(box, opening);
    this.#flush();
    return opening;
  }

  #flush(): void {
    const blocks = this.#engine.output(performance.now());
    if (blocks.length > 0) void this.#transport.write(blocks);
  }

  async #read(attach: () => void): Promise<void> {
    for (;;) {
      const octets = await this.#transport.read();
      if (octets === undefined) break;
      for (const event of this.#engine.receive(octets, performance.now())) this.#on(event, attach);
      this.#flush();
    }
    this.#failed ??= new Error("the engine's connection has ended");
    this.connected.reject(this.#failed);
  }

  #on(event: ConnectionEvent, attach: () => void): void {
    switch (event.type) {
      case "connected":
        attach();
        break;
      case "attached":
        this.connected.resolve();
        break;
      case "sessionState":
        this.#opened.get(event.sessionId)?.(event.sessionId);
        this.#opened.delete(event.sessionId);
        break;
      case "acknowledged":
        for (const number of event.messages) {
          this.#waiting.get(number)?.();
          this.#waiting.delete(number);
        }
        break;
      case "sessionClosed":
      case "sessionRefused":
      case "closed":
        this.#failed = new Error(`the edge has ended a session or the connection: ${event.type}`);
        break;
    }
  }
}

/** The floor. A batch is one request or message, and one row. */
export async function openPlatform(way: Extract<Way, { kind: "platform" }>): Promise<Client> {
  const agent = agentOf();
  const urlOf = (box: number) => `${way.url}/${way.name}-${box}`;
  const request = async (method: string, box: number, body?: Buffer): Promise<string> => {
    const { status, text } = await ask(agent, method, urlOf(box), {}, body);
    if (status >= 300) throw new Error(`${method} to the minimal worker answers ${status}`);
    return text;
  };
  const sockets = await Promise.all(
    way.by === "http" ? [] : Array.from({ length: way.boxes }, (_, box) => openSocket(urlOf(box))),
  );
  const answers = sockets.map((socket) => {
    const waiting: (() => void)[] = [];
    socket.on("message", () => waiting.shift()?.());
    return waiting;
  });
  const send = async (box: number, body: Buffer) => {
    if (way.by === "http") return void (await request("POST", box, body));
    await new Promise<void>((resolve) => {
      answers[box]?.push(resolve);
      sockets[box]?.send(body);
    });
  };
  return {
    append: (letters) => Promise.all([...byBox(letters)].map(([box, texts]) => send(box, Buffer.from(texts.join(""))))),
    count: async (box) => Number(await request("GET", box)) / LETTER,
    take: () => Promise.reject(new Error("the minimal worker gives nothing back")),
    async watch(give) {
      const socket = await openSocket(`${urlOf(0)}?reader`);
      socket.on("message", (data) => give(String(data)));
      return () => socket.terminate();
    },
    empty: () => eachBox(way.boxes, (box) => request("DELETE", box)),
    close() {
      for (const socket of sockets) socket.terminate();
      agent.destroy();
    },
  };
}

async function openSocket(url: string): Promise<WebSocket> {
  const socket = new WebSocket(url.replace(/^http/, "ws"), { perMessageDeflate: false });
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  return socket;
}

/** The texts of a batch, box by box. */
export function byBox(letters: readonly Letter[]): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const { box, text } of letters) {
    const texts = found.get(box);
    if (texts === undefined) found.set(box, [text]);
    else texts.push(text);
  }
  return found;
}
