/** Shared by the relay tests: a scripted peer over a plain TCP socket. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type Relay, type RelayOptions, startRelay } from "../../src/relay/index.ts";
import {
  type AddressingEntry,
  type Command,
  Connection,
  type ConnectionEvent,
  Decoder,
  deviceURL,
  encode,
  identityURL,
  type MessageFields,
  type ReceivedMessageFields,
  relayURL,
  VERSION_1_6,
  type Version,
} from "../../src/sstp/index.ts";
import { partsOf } from "../support/address.ts";
import { Watch } from "../support/watch.ts";

/** A message as received by a peer. */
export interface Received {
  readonly sessionId: number;
  readonly addressing: AddressingEntry;
  readonly fields: ReceivedMessageFields;
  readonly body: Buffer;
  /** For `complete`. */
  readonly number: number;
}

export interface PeerOptions {
  /** `identity/device`, or the name of another relay. */
  readonly address: string;
  readonly version?: Version;
  /** PeerProductCapabilities. Default none. */
  readonly capabilities?: string;
  /** Attach the account of the identity. Default true. */
  readonly attach?: boolean;
  /** Acknowledge every message on arrival. Default true. */
  readonly acknowledge?: boolean;
  /** Accept every session on Open. Default true. */
  readonly accept?: boolean;
  /** Start without reading: nothing is taken from the socket until `socket.resume()`. */
  readonly paused?: boolean;
}

/** One side of an SSTP connection whose engine the test drives. */
export class Peer {
  readonly socket: Socket;
  readonly engine: Connection;
  readonly options: PeerOptions;
  readonly events: ConnectionEvent[] = [];
  /** Every received command, as on the wire. */
  readonly commands: Command[] = [];
  readonly messages: Received[] = [];
  readonly watch = new Watch();
  /** Called for each event as it happens. */
  onEvent: (event: ConnectionEvent) => void = () => undefined;
  ended = false;
  readonly #decoder: Decoder;
  readonly #sessions = new Map<number, AddressingEntry>();
  readonly #arriving = new Map<number, { fields: ReceivedMessageFields; parts: Buffer[] }>();

  constructor(socket: Socket, options: PeerOptions) {
    this.socket = socket;
    this.options = options;
    const version = options.version ?? VERSION_1_6;
    this.#decoder = new Decoder(version);
    this.engine = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: [
        options.address.includes("/") ? deviceURL(partsOf(options.address)) : relayURL(options.address),
      ],
      now: 0,
      version,
      capabilities: options.capabilities,
    });
    socket.on("data", (octets: Buffer) => {
      this.#decoder.push(octets, (command) => {
        this.commands.push(command);
        return true;
      });
      for (const event of this.engine.receive(octets, 0)) this.#take(event);
      this.flush();
      this.watch.changed();
    });
    const end = () => {
      this.ended = true;
      this.watch.changed();
    };
    socket.on("end", end);
    socket.on("close", end);
    socket.on("error", end);
  }

  /** Connects, and waits until the connection is established and the account attached. */
  static async connect(relay: { readonly port: number }, options: PeerOptions): Promise<Peer> {
    const peer = await Peer.dial(relay.port, options);
    peer.engine.connect(relayURL(`127.0.0.1:${relay.port}`));
    peer.flush();
    if (options.paused === true) return peer;
    await peer.event("connected");
    if (options.attach === false) return peer;
    const { identity } = partsOf(options.address);
    peer.engine.attach({ accountURL: `grooveAccount://${identity}` });
    peer.flush();
    await peer.event("attached");
    return peer;
  }

  /** A TCP connection on which nothing has been sent. */
  static async dial(port: number, options: PeerOptions): Promise<Peer> {
    const socket = connect({ port, host: "127.0.0.1" });
    await new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    const peer = new Peer(socket, options);
    if (options.paused === true) socket.pause();
    return peer;
  }

  flush(): void {
    for (const block of this.engine.output()) this.socket.write(block);
  }

  /** Writes commands in one segment, bypassing the engine. */
  say(...commands: Command[]): void {
    this.socket.write(Buffer.concat(commands.map((command) => encode(command, this.engine.version))));
  }

  /** The first event of a type, once it has happened. */
  event<T extends ConnectionEvent["type"]>(type: T): Promise<Extract<ConnectionEvent, { type: T }>> {
    return this.watch.until(() => {
      if (this.ended && !this.events.some((event) => event.type === type)) {
        throw new Error(`the connection ended without ${type}`);
      }
      return this.events.find((event) => event.type === type) as Extract<ConnectionEvent, { type: T }> | undefined;
    }, `the event ${type}`);
  }

  /** Opens a session to `identity` or `identity/device`; resolves when it is ready. */
  async open(to: string, resourceURL = "message"): Promise<number> {
    const sessionId = this.engine.open({ resourceURL, ...destination(to) });
    this.flush();
    await this.ready(sessionId);
    return sessionId;
  }

  async ready(sessionId: number): Promise<void> {
    await this.watch.until(() => {
      const session = this.engine.session(sessionId);
      return session !== undefined && "state" in session && session.state === "ready";
    }, `session ${sessionId} to be ready`);
  }

  /** Sends a message on a session; returns its number. */
  send(sessionId: number, body: Uint8Array | string, fields: MessageFields = {}): number {
    this.engine.beginMessage(sessionId, { acknowledgeImmediately: true, ...fields });
    this.engine.data(sessionId, typeof body === "string" ? Buffer.from(body) : body);
    const number = this.engine.endMessage(sessionId);
    this.flush();
    return number;
  }

  /** Numbers of the acknowledged messages. */
  get acknowledged(): number[] {
    return this.events.flatMap((event) => (event.type === "acknowledged" ? event.messages : []));
  }

  async untilAcknowledged(...numbers: number[]): Promise<void> {
    await this.watch.until(
      () => numbers.every((number) => this.acknowledged.includes(number)),
      `messages ${numbers} to be acknowledged`,
    );
  }

  /** The first `count` messages, once they have arrived. */
  async received(count: number): Promise<Received[]> {
    await this.watch.until(() => this.messages.length >= count, `${count} messages, there are ${this.messages.length}`);
    return this.messages.slice(0, count);
  }

  complete(message: Received): void {
    this.engine.complete(message.number);
    this.flush();
  }

  /** Waits until everything the relay has sent before now has been processed. */
  async settled(): Promise<void> {
    const sessionId = await this.open(`${partsOf(this.options.address).identity}/settled-${this.events.length}`);
    this.engine.closeSession(sessionId, 0);
    this.flush();
  }

  async closed(): Promise<void> {
    await this.watch.until(() => this.ended, "the connection to end");
  }

  /** Ends the connection without a ConnectClose. */
  drop(): void {
    this.socket.destroy();
  }

  #take(event: ConnectionEvent): void {
    this.events.push(event);
    this.onEvent(event);
    switch (event.type) {
      case "open":
        this.#sessions.set(event.sessionId, event);
        if (this.options.accept !== false) this.engine.setAvailability(event.sessionId, "ready");
        break;
      case "message":
        this.#arriving.set(event.sessionId, { fields: event.fields, parts: [] });
        break;
      case "data":
        this.#arriving.get(event.sessionId)?.parts.push(Buffer.from(event.octets));
        break;
      case "endMessage": {
        const { fields, parts } = this.#arriving.get(event.sessionId) ?? assert.fail("a message without a beginning");
        const { resourceURL, identityURL, deviceURL } =
          this.#sessions.get(event.sessionId) ?? assert.fail("no session");
        this.messages.push({
          sessionId: event.sessionId,
          addressing: { resourceURL, identityURL, deviceURL },
          fields,
          body: Buffer.concat(parts),
          number: event.message,
        });
        if (this.options.acknowledge !== false) this.engine.complete(event.message);
        break;
      }
    }
  }
}

/** The URLs of `identity` or `identity/device`. */
export function destination(to: string): { identityURL: string; deviceURL: string } {
  const address = partsOf(to);
  return {
    identityURL: identityURL(address),
    deviceURL: address.device === undefined ? "" : deviceURL(address),
  };
}

/** What waits at a relay for `identity` or `identity/device`. */
export function waiting(relay: Relay, to: string): { readonly octets: number; readonly messages: number } {
  const { identityURL, deviceURL } = destination(to);
  return relay.waiting(deviceURL === "" ? identityURL : deviceURL);
}

/** A relay on a free port, closed at the end of the test. */
export async function relayFor(t: TestContext, options: RelayOptions = {}): Promise<Relay> {
  const relay = await startRelay({ port: 0, ...options });
  t.after(() => relay.close());
  return relay;
}

/** A folder that is removed at the end of the test. */
export function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "grooveway-relay-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function texts(messages: readonly Received[]): string[] {
  return messages.map(({ body }) => body.toString());
}
