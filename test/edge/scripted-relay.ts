/**
 * An origin relay that follows a test's script step by step. It is made of sockets and the text of [MS-GRVSSTP]
 * only: it shares no code with the engine of the edge, so that the edge is tested against the document.
 */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { listen, RawSocket, type TestServer } from "../support/sockets.ts";

// ------------------------------------------------------------------------------------------------------------ to send

const u8 = (value: number) => Buffer.from([value]);

/** Two octets, the least significant first. */
export function u16(value: number): Buffer {
  const octets = Buffer.alloc(2);
  octets.writeUInt16LE(value);
  return octets;
}

/** Four octets, the least significant first. */
export function u32(value: number): Buffer {
  const octets = Buffer.alloc(4);
  octets.writeUInt32LE(value);
  return octets;
}

/** A string with its terminating null. */
export const z = (text: string) => Buffer.from(`${text}\0`, "latin1");

/** CommandId, CommandLength, fields [2.2]. */
export function command(id: number, ...fields: Buffer[]): Buffer {
  const rest = Buffer.concat(fields);
  return Buffer.concat([u8(id), u16(3 + rest.length), rest]);
}

/** One entry of a FanoutOpen. */
export interface Entry {
  readonly identity: string;
  readonly device: string;
  readonly relay: string;
  /** Only in 1.6. */
  readonly failover?: string;
}

interface MessageOptions {
  readonly flags?: number;
  readonly count?: number;
}

/** Commands by name, with the parameters of a relay. */
export const say = {
  connect: (target: string, source: string, minor = 6) =>
    command(0x01, Buffer.from([1, minor, 0]), z(target), u8(1), z(source), u16(0), z("Groove Client 4.2 2623"), z("")),
  connectResponse: (responseId: number, minor = 6, retryTime = 0, major = 1) =>
    command(0x02, Buffer.from([responseId, major, minor]), u32(retryTime), u16(0), z("Groove Relay 14.0 4006"), z("")),
  connectClose: (reasonId: number, count = 0, returnTime = 0) =>
    command(0x04, u32(count), u8(reasonId), u32(returnTime)),
  open: (session: number, resource: string, identity: string, device: string) =>
    command(0x05, u32(session), z(resource), z(identity), z(device), u8(0), u16(0)),
  fanoutOpen: (session: number, resource: string, entries: readonly Entry[], minor = 6) =>
    command(
      0x06,
      u32(session),
      z(resource),
      u8(0),
      u16(entries.length),
      ...entries.map(({ identity, device, relay }) =>
        Buffer.concat([z(identity), z(device), z(relay), minor < 6 ? Buffer.alloc(0) : z("")]),
      ),
      u16(0),
    ),
  openResponse: (session: number, responseId: number) => command(0x07, u32(session), u8(responseId)),
  attach: (event: number, account: string) => command(0x08, u32(event), z(""), z(account), u16(0)),
  message: (session: number, id: string, { flags = 0x04, count = 0 }: MessageOptions = {}) =>
    command(0x0d, u32(session), u32(count), u8(flags), z(id)),
  data: (session: number, octets: Uint8Array) => command(0x0e, u32(session), Buffer.from(octets)),
  endMessage: (session: number) => command(0x0f, u32(session)),
  noop: (count: number) => command(0x10, u32(count)),
  close: (session: number, reasonId: number) => command(0x11, u32(session), u8(reasonId)),
  /** Fields 8 and 9 only in 1.6, and only for several entries [2.2.8.1]. */
  sessionStatus: (session: number, statusId: number, device: string, identity: string, indexes?: readonly number[]) =>
    command(
      0x12,
      u32(session),
      Buffer.from([statusId, 0]),
      z(device),
      z(identity),
      ...(indexes === undefined ? [] : [u16(indexes.length), ...indexes.map(u16)]),
    ),
  /** Message, Data in pieces of 2048 octets, EndMessage [3.1.4.6]. */
  whole: (session: number, id: string, body: string | Uint8Array, options: MessageOptions = {}) => {
    const octets = Buffer.from(body);
    const parts: Buffer[] = [];
    for (let at = 0; at < octets.length; at += 2048) parts.push(say.data(session, octets.subarray(at, at + 2048)));
    return Buffer.concat([say.message(session, id, options), ...parts, say.endMessage(session)]);
  },
} as const;

// --------------------------------------------------------------------------------------------------------- to receive

/** A command received from the other side. */
export type Said =
  | {
      readonly command: "Connect";
      readonly version: readonly [number, number];
      readonly target: string;
      readonly sources: readonly string[];
    }
  | { readonly command: "ConnectResponse"; readonly responseId: number; readonly version: readonly [number, number] }
  | {
      readonly command: "ConnectClose";
      readonly count: number;
      readonly reasonId: number;
      readonly returnTime: number;
    }
  | {
      readonly command: "Open";
      readonly session: number;
      readonly resource: string;
      readonly identity: string;
      readonly device: string;
    }
  | {
      readonly command: "FanoutOpen";
      readonly session: number;
      readonly resource: string;
      readonly entries: readonly Entry[];
    }
  | { readonly command: "OpenResponse"; readonly session: number; readonly responseId: number }
  | {
      readonly command: "Message";
      readonly session: number;
      readonly count: number;
      readonly flags: number;
      readonly id: string;
    }
  | { readonly command: "Data"; readonly session: number; readonly octets: Buffer }
  | { readonly command: "EndMessage"; readonly session: number }
  | { readonly command: "Noop"; readonly count: number }
  | { readonly command: "Close"; readonly session: number; readonly reasonId: number }
  | {
      readonly command: "SessionStatus";
      readonly session: number;
      readonly statusId: number;
      readonly device: string;
      readonly identity: string;
      readonly indexes: readonly number[] | undefined;
    }
  | { readonly command: "other"; readonly id: number };

/** The fields of one command, which must be consumed exactly. */
class Fields {
  readonly #octets: Buffer;
  #at = 0;

  constructor(octets: Buffer) {
    this.#octets = octets;
  }

  get left(): number {
    return this.#octets.length - this.#at;
  }

  take(count: number): Buffer {
    assert.ok(this.left >= count, "a field runs past CommandLength");
    this.#at += count;
    return this.#octets.subarray(this.#at - count, this.#at);
  }

  u8 = () => this.take(1).readUInt8();
  u16 = () => this.take(2).readUInt16LE();
  u32 = () => this.take(4).readUInt32LE();

  z(): string {
    const end = this.#octets.indexOf(0, this.#at);
    assert.ok(end >= 0, "a string is not terminated");
    const text = this.take(end - this.#at).toString("latin1");
    this.take(1);
    return text;
  }

  list<T>(count: number, read: () => T): T[] {
    return Array.from({ length: count }, read);
  }

  token(): Buffer {
    return this.take(this.u16());
  }

  zeros(count: number): void {
    assert.ok(
      this.take(count).every((octet) => octet === 0),
      "what is reserved is 0",
    );
  }
}

function understand(id: number, fields: Fields, minor: number): Said {
  switch (id) {
    case 0x01: {
      const version = [fields.u8(), fields.u8()] as const;
      fields.zeros(1);
      const target = fields.z();
      const sources = fields.list(fields.u8(), () => fields.z());
      fields.token();
      assert.match(fields.z(), /^\S+ \S+ \S+ \S+$/, "PeerProductVersion");
      fields.z();
      return { command: "Connect", version, target, sources };
    }
    case 0x02: {
      const responseId = fields.u8();
      const version = [fields.u8(), fields.u8()] as const;
      fields.u32();
      fields.token();
      fields.z();
      fields.z();
      return { command: "ConnectResponse", responseId, version };
    }
    case 0x04:
      return { command: "ConnectClose", count: fields.u32(), reasonId: fields.u8(), returnTime: fields.u32() };
    case 0x05: {
      const addressing = { session: fields.u32(), resource: fields.z(), identity: fields.z(), device: fields.z() };
      fields.zeros(3);
      return { command: "Open", ...addressing };
    }
    case 0x06: {
      const session = fields.u32();
      const resource = fields.z();
      fields.zeros(1);
      const entries = fields.list(fields.u16(), () => {
        const entry = { identity: fields.z(), device: fields.z(), relay: fields.z() };
        return minor < 6 ? entry : { ...entry, failover: fields.z() };
      });
      fields.zeros(2);
      return { command: "FanoutOpen", session, resource, entries };
    }
    case 0x07:
      return { command: "OpenResponse", session: fields.u32(), responseId: fields.u8() };
    case 0x0d: {
      const [session, count, flags] = [fields.u32(), fields.u32(), fields.u8()];
      const said = { command: "Message", session, count, flags, id: fields.z() } as const;
      if (flags & 0x02) fields.take(4);
      if (flags & 0x10) fields.take(24);
      if (flags & 0x40) fields.token();
      return said;
    }
    case 0x0e: {
      const session = fields.u32();
      assert.ok(fields.left <= 2048, "Data has at most 2048 octets");
      return { command: "Data", session, octets: fields.take(fields.left) };
    }
    case 0x0f:
      return { command: "EndMessage", session: fields.u32() };
    case 0x10:
      return { command: "Noop", count: fields.u32() };
    case 0x11:
      return { command: "Close", session: fields.u32(), reasonId: fields.u8() };
    case 0x12: {
      const [session, statusId] = [fields.u32(), fields.u8()];
      fields.zeros(1);
      const names = { device: fields.z(), identity: fields.z() };
      const indexes = fields.left === 0 ? undefined : fields.list(fields.u16(), () => fields.u16());
      return { command: "SessionStatus", session, statusId, ...names, indexes };
    }
    default:
      fields.take(fields.left);
      return { command: "other", id };
  }
}

/** A complete message. */
export interface Whole {
  readonly session: number;
  readonly id: string;
  readonly flags: number;
  /** How many messages its Message acknowledged. */
  readonly count: number;
  readonly body: Buffer;
}

/** The source and destination of octets. */
interface Wire {
  /** Undefined if the other side has ended before sending so many. */
  take(count: number): Promise<Buffer | undefined>;
  write(octets: Buffer): void;
}

/** One end of an SSTP connection. */
export class Peer {
  readonly #wire: Wire;
  readonly #early: Said[] = [];
  /** The version of the connection: 5 or 6. */
  minor = 6;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  send(...commands: readonly Buffer[]): void {
    this.#wire.write(Buffer.concat(commands));
  }

  /** The next command; undefined once the connection has ended. */
  async hear(): Promise<Said | undefined> {
    return this.#early.shift() ?? this.#read();
  }

  /**
   * The next command, which must have this name. An empty Noop may come at any time, and sessions may
   * be opened: those are handled later.
   */
  async expect<N extends Said["command"]>(name: N): Promise<Extract<Said, { command: N }>> {
    const early = this.#early.findIndex((said) => said.command === name);
    let said = early < 0 ? await this.#read() : this.#early.splice(early, 1)[0];
    for (; said !== undefined && said.command !== name; said = await this.#read()) {
      if (said.command === "FanoutOpen") this.#early.push(said);
      else assert.ok(said.command === "Noop" && said.count === 0, `${JSON.stringify(said)} instead of ${name}`);
    }
    assert.ok(said !== undefined, `the end instead of ${name}`);
    return said as Extract<Said, { command: N }>;
  }

  async #read(): Promise<Said | undefined> {
    const head = await this.#wire.take(3);
    if (head === undefined) return undefined;
    const length = head.readUInt16LE(1);
    assert.ok(length >= 3, "CommandLength counts the header");
    const rest = await this.#wire.take(length - 3);
    if (rest === undefined) return undefined;
    const fields = new Fields(rest);
    const said = understand(head.readUInt8(0), fields, this.minor);
    assert.equal(fields.left, 0, `unread octets in ${said.command}`);
    return said;
  }

  /** The rest of a message in progress. Sessions that open and other messages are handled later. */
  async rest({ session, id, flags, count }: Extract<Said, { command: "Message" }>): Promise<Whole> {
    const isOfBody = (said: Said) => said.command === "Data" || said.command === "EndMessage";
    const parts: Buffer[] = [];
    for (;;) {
      const early = this.#early.findIndex((said) => isOfBody(said) && "session" in said && said.session === session);
      const said = early < 0 ? await this.#read() : this.#early.splice(early, 1)[0];
      if (said?.command === "EndMessage" && said.session === session) break;
      if (said?.command === "Data" && said.session === session) {
        parts.push(said.octets);
        continue;
      }
      const isOfAnother = said?.command === "Message" ? said.session !== session : said !== undefined && isOfBody(said);
      assert.ok(said?.command === "FanoutOpen" || isOfAnother, `unexpected ${JSON.stringify(said)} within a message`);
      if (said !== undefined) this.#early.push(said);
    }
    assert.ok(parts.length > 0, "a message has at least one Data");
    return { session, id, flags, count, body: Buffer.concat(parts) };
  }

  async message(): Promise<Whole> {
    return this.rest(await this.expect("Message"));
  }

  /** Reads to the end of the connection. Returns what arrived. */
  async toEnd(): Promise<Said[]> {
    const all: Said[] = [];
    for (let said = await this.hear(); said !== undefined; said = await this.hear()) all.push(said);
    return all;
  }
}

// ---------------------------------------------------------------------------------------------------------- the relay

/** A relay tolerates a silent edge for longer than any test. */
const SILENCE = 120_000;

/** A message that the relay has accepted, and its recipient. */
export interface Taken extends Whole {
  readonly resource: string;
  readonly entries: readonly Entry[];
  /** The number of the connection on which it arrived, from 1. */
  readonly connection: number;
}

/** One connection of an edge to the relay. */
export class Line extends Peer {
  readonly raw: RawSocket;
  readonly relay: ScriptedRelay;
  /** From 1. */
  readonly number: number;
  readonly sessions = new Map<number, { readonly resource: string; readonly entries: readonly Entry[] }>();

  constructor(raw: RawSocket, relay: ScriptedRelay, number: number) {
    super({
      async take(count) {
        await raw.until((received) => received.length >= count, SILENCE);
        const taken = await raw.take(Math.min(count, raw.received.length));
        return taken.length < count ? undefined : taken;
      },
      write: (octets) => raw.write(octets),
    });
    this.raw = raw;
    this.relay = relay;
    this.number = number;
  }

  /** Connect, and the answer Ok in this version. */
  async establish(minor = 6): Promise<Extract<Said, { command: "Connect" }>> {
    const connect = await this.expect("Connect");
    this.send(say.connectResponse(0x00, minor));
    this.minor = minor;
    return connect;
  }

  /** A FanoutOpen, not answered. */
  async opened(): Promise<Extract<Said, { command: "FanoutOpen" }>> {
    const open = await this.expect("FanoutOpen");
    this.sessions.set(open.session, open);
    return open;
  }

  /** A FanoutOpen, answered as ready. */
  async ready(): Promise<Extract<Said, { command: "FanoutOpen" }>> {
    const open = await this.opened();
    this.send(say.openResponse(open.session, 0x00));
    return open;
  }

  /** Records a message as accepted, and acknowledges it. */
  accept(whole: Whole): void {
    this.take(whole);
    this.send(say.noop(1));
  }

  /** Records a message as accepted. */
  take(whole: Whole): void {
    const to = this.sessions.get(whole.session);
    assert.ok(to !== undefined, `session ${whole.session} was opened`);
    this.relay.taken.push({ ...whole, ...to, connection: this.number });
  }

  /** Connect, FanoutOpen and the first message, none of it acknowledged. */
  async first(minor = 6): Promise<Whole> {
    await this.establish(minor);
    await this.ready();
    return this.message();
  }

  /** Closes the connection by FIN or RST, and reads what still arrives. */
  async leave(how: "FIN" | "RST"): Promise<void> {
    if (how === "FIN") this.raw.fin();
    else this.raw.reset();
    await this.toEnd();
  }

  /** Waits for the other side's end: a ConnectClose with this reason, any reason, or none. */
  async dropped(reasonId?: number | "any"): Promise<void> {
    const said = await this.toEnd();
    const last = said.at(-1);
    const reason = last?.command === "ConnectClose" ? last.reasonId : undefined;
    if (reasonId === "any") assert.ok(reason !== undefined, `unexpected ${JSON.stringify(said)}`);
    else assert.equal(reason, reasonId, `unexpected ${JSON.stringify(said)}`);
  }

  /** From here on accepts and acknowledges everything, to the end of the connection. */
  async serve(): Promise<void> {
    for (let said = await this.hear(); said !== undefined; said = await this.hear()) {
      if (said.command === "Connect") this.send(say.connectResponse(0x00));
      if (said.command === "FanoutOpen") {
        this.sessions.set(said.session, said);
        this.send(say.openResponse(said.session, 0x00));
      }
      if (said.command === "Message") this.accept(await this.rest(said));
    }
  }
}

/** What a relay does on one connection; when it returns, everything else on it is accepted. */
export type Script = (line: Line) => Promise<unknown>;

export class ScriptedRelay {
  readonly #server: TestServer;
  readonly #waiting: Script[] = [];
  /** What was accepted, in order, over all connections. */
  readonly taken: Taken[] = [];
  /** All connections, in order, and when each was made. */
  readonly lines: Line[] = [];
  readonly times: number[] = [];
  /** How many of its scripts are not done. */
  unfinished = 0;
  /** Errors of its scripts. */
  readonly failures: unknown[] = [];

  private constructor(server: TestServer) {
    this.#server = server;
  }

  static async start(): Promise<ScriptedRelay> {
    let accept: (socket: Socket) => void = () => undefined;
    const relay = new ScriptedRelay(await listen((socket) => accept(socket)));
    accept = (socket) => relay.#accept(socket);
    return relay;
  }

  get name(): string {
    return `127.0.0.1:${this.#server.port}`;
  }

  get url(): string {
    return `grooveDNS://${this.name}`;
  }

  /** The scripts of the first connection, the second and so on; on later ones everything is accepted. */
  plan(...scripts: readonly Script[]): void {
    this.#waiting.push(...scripts);
    this.unfinished += scripts.length;
  }

  /** Bodies of accepted messages, as text. */
  get texts(): string[] {
    return this.taken.map(({ body }) => body.toString());
  }

  close(): Promise<void> {
    return this.#server.close();
  }

  #accept(socket: Socket): void {
    const line = new Line(new RawSocket(socket), this, this.lines.length + 1);
    this.lines.push(line);
    this.times.push(Date.now());
    const script = this.#waiting.shift();
    const done = async () => {
      if (script !== undefined) {
        await script(line);
        this.unfinished -= 1;
      }
      await line.serve();
      line.raw.fin();
    };
    done().catch((error: unknown) => {
      // Many scripts break off on purpose.
      if (!line.raw.socket.destroyed || error instanceof assert.AssertionError) this.failures.push(error);
      line.raw.reset();
    });
  }
}
