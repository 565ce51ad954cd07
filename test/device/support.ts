/** Shared by the device tests: a scripted relay, and one edge for all tests of a file. */
import type { Socket } from "node:net";
import type { TestContext } from "node:test";
import { Device, type DeviceOptions, type Message } from "../../src/device/index.ts";
import {
  type AddressingEntry,
  Connection,
  type ConnectionEvent,
  type ReceivedMessageFields,
  relayURL,
} from "../../src/sstp/index.ts";
import { listen, type TestServer } from "../support/sockets.ts";
import { soon, Watch } from "../support/watch.ts";

/** What a scripted relay does by default; each can be switched off or on at any time. */
export interface Script {
  /** Answers Open with Ok. */
  accept: boolean;
  /** Acknowledges messages as they arrive. */
  acknowledge: boolean;
  /** Answers Attach. */
  attach: boolean;
}

export interface Taken {
  readonly addressing: AddressingEntry;
  readonly sessionId: number;
  readonly fields: ReceivedMessageFields;
  readonly body: Buffer;
  readonly number: number;
}

/** One connection of a device to the scripted relay. */
export class Link {
  readonly socket: Socket;
  readonly engine: Connection;
  readonly script: Script;
  readonly events: ConnectionEvent[] = [];
  readonly messages: Taken[] = [];
  readonly watch: Watch;
  /** Called for each event as it happens. */
  onEvent: (event: ConnectionEvent) => void = () => undefined;
  ended = false;
  readonly #sessions = new Map<number, AddressingEntry>();
  readonly #arriving = new Map<number, { fields: ReceivedMessageFields; parts: Buffer[] }>();

  constructor(socket: Socket, port: number, script: Script, watch: Watch) {
    this.socket = socket;
    this.script = script;
    this.watch = watch;
    this.engine = new Connection({
      role: "relay",
      outbound: false,
      localDeviceURLs: [`127.0.0.1:${port}`, "127.0.0.1", "localhost"].map(relayURL),
      now: 0,
      multidropSupported: true,
      singleHopSupported: true,
    });
    socket.on("data", (octets: Buffer) => {
      for (const event of this.engine.receive(octets, 0)) this.#take(event);
      this.flush();
      if (this.engine.closed !== undefined) socket.end();
      watch.changed();
    });
    const end = () => {
      this.ended = true;
      socket.end();
      watch.changed();
    };
    socket.on("end", end);
    socket.on("close", end);
  }

  flush(): void {
    for (const block of this.engine.output()) if (!this.socket.destroyed) this.socket.write(block);
  }

  until<T>(look: () => T | undefined | false, what: string): Promise<T> {
    return this.watch.until(look, what);
  }

  /** The first `count` messages, once they have arrived. */
  async taken(count: number): Promise<Taken[]> {
    await this.until(() => this.messages.length >= count, `${count} messages, there are ${this.messages.length}`);
    return this.messages.slice(0, count);
  }

  complete(...messages: readonly Taken[]): void {
    for (const { number } of messages) this.engine.complete(number);
    this.flush();
  }

  /** Opens a session to the device, once it has accepted it. */
  async open(addressing: AddressingEntry): Promise<number> {
    const sessionId = this.engine.open(addressing);
    this.flush();
    await this.until(() => {
      const session = this.engine.session(sessionId);
      return session !== undefined && "state" in session && session.state === "ready";
    }, `session ${sessionId} to be ready`);
    return sessionId;
  }

  send(sessionId: number, body: Uint8Array | string, userRef: string): number {
    this.engine.beginMessage(sessionId, { userRef, acknowledgeImmediately: true });
    this.engine.data(sessionId, typeof body === "string" ? Buffer.from(body) : body);
    const number = this.engine.endMessage(sessionId);
    this.flush();
    return number;
  }

  #opened(sessionId: number, addressing: AddressingEntry): void {
    this.#sessions.set(sessionId, addressing);
    if (this.script.accept && this.engine.session(sessionId) !== undefined) {
      this.engine.setAvailability(sessionId, "ready");
    }
  }

  #take(event: ConnectionEvent): void {
    this.events.push(event);
    this.onEvent(event);
    switch (event.type) {
      case "connect":
        if (this.engine.state === "connecting") this.engine.acceptConnect();
        break;
      case "attach":
        if (this.script.attach && this.engine.session(event.eventId) !== undefined) {
          this.engine.acceptAttach(event.eventId);
        }
        break;
      case "open":
        this.#opened(event.sessionId, event);
        break;
      case "fanoutOpen": {
        const [entry] = event.entries;
        if (entry !== undefined) this.#opened(event.sessionId, { resourceURL: event.resourceURL, ...entry });
        break;
      }
      case "message":
        this.#arriving.set(event.sessionId, { fields: event.fields, parts: [] });
        break;
      case "data":
        this.#arriving.get(event.sessionId)?.parts.push(Buffer.from(event.octets));
        break;
      case "endMessage": {
        const { fields, parts } = this.#arriving.get(event.sessionId) ?? { parts: [] };
        const addressing = this.#sessions.get(event.sessionId);
        if (fields === undefined || addressing === undefined) throw new Error("a message without a beginning");
        const { resourceURL, identityURL, deviceURL } = addressing;
        this.messages.push({
          addressing: { resourceURL, identityURL, deviceURL },
          sessionId: event.sessionId,
          fields,
          body: Buffer.concat(parts),
          number: event.message,
        });
        if (this.script.acknowledge) this.engine.complete(event.message);
        break;
      }
    }
  }
}

/** A relay that stores nothing and follows its script. */
export class ScriptedRelay {
  readonly script: Script = { accept: true, acknowledge: true, attach: true };
  readonly links: Link[] = [];
  readonly watch = new Watch();
  /** Called for each connection before anything is read from it. */
  onLink: (link: Link) => void = () => undefined;
  #server: TestServer | undefined;

  static async start(t: TestContext, script: Partial<Script> = {}): Promise<ScriptedRelay> {
    const relay = new ScriptedRelay();
    Object.assign(relay.script, script);
    relay.#server = await listen((socket) => {
      const link = new Link(socket, relay.port, relay.script, relay.watch);
      relay.links.push(link);
      relay.onLink(link);
      relay.watch.changed();
    });
    t.after(() => relay.#server?.close());
    return relay;
  }

  get port(): number {
    return this.#server?.port ?? 0;
  }

  /** The n-th connection, from 0, once its account is attached. */
  link(n: number): Promise<Link> {
    return this.watch.until(() => {
      const link = this.links[n];
      return link?.events.some(({ type }) => type === "attach") ? link : undefined;
    }, `connection ${n}`);
  }
}

/** A device by TCP, closed at the end of the test. */
export async function deviceFor(
  t: TestContext,
  relay: { readonly port: number },
  address: string,
  options: Partial<DeviceOptions> = {},
): Promise<Device> {
  const device = await Device.connect({ relay: `127.0.0.1:${relay.port}`, address, ...options });
  t.after(() => device.close());
  return device;
}

/** The next messages of a device, marked done unless the test says otherwise. */
export async function take(device: Device, count: number, done = true): Promise<Message[]> {
  const messages: Message[] = [];
  const taking = (async () => {
    while (messages.length < count) {
      const { value } = await device.messages().next();
      if (value === undefined) throw new Error(`the device ended after ${messages.length} messages`);
      messages.push(value);
      if (done) value.done();
    }
  })();
  await soon(taking, `${count} messages`).catch((error: Error) => {
    throw new Error(`${error.message}; there were ${messages.length}`, { cause: error });
  });
  return messages;
}

/** Whether an error is a DeviceError with that code. */
export function failure(code: string): (error: unknown) => boolean {
  return (error) => {
    if ((error as { code?: unknown }).code === code && (error as Error).name === "DeviceError") return true;
    throw error;
  };
}
