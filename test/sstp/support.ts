/** Shared by the sstp tests: two connected engines, arbitrary commands, hexadecimal. */

import assert from "node:assert/strict";
import fc from "fast-check";
import type { Command, CommandName, ConnectionEvent, ConnectionOptions, Version } from "../../src/sstp/index.ts";
import {
  Connection,
  decode,
  encode,
  MESSAGE_CHOICE_FLAGS,
  MessageFlag,
  StateError,
  VERSION_1_5,
  VERSION_1_6,
} from "../../src/sstp/index.ts";

export const CLIENT_URL = "grooveDevice://alice/laptop";
export const RELAY_URL = "grooveDNS://relay.example.com";

export const clientOptions: ConnectionOptions = {
  role: "client",
  outbound: true,
  localDeviceURLs: [CLIENT_URL],
  now: 0,
};
export const relayOptions: ConnectionOptions = {
  role: "relay",
  outbound: false,
  localDeviceURLs: [RELAY_URL],
  now: 0,
  multidropSupported: true,
  singleHopSupported: true,
};

/** Octets from hexadecimal; white space is ignored. */
export function hex(...parts: string[]): Uint8Array {
  const digits = parts.join("").replace(/\s/g, "");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** A z-string in hexadecimal, with its NUL. */
export function z(text: string): string {
  return toHex(bytes(`${text}\0`));
}

export function toHex(octets: Uint8Array): string {
  return Buffer.from(octets).toString("hex");
}

export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text));
}

export function joined(blocks: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(blocks));
}

/** The pending commands of a connection. */
export function sent(connection: Connection, version: Version = connection.version): Command[] {
  return decode(joined(connection.output()), version);
}

/** Passes commands to a connection as a peer would. */
export function feed(connection: Connection, ...commands: Command[]): ConnectionEvent[] {
  return feedAt(0, connection, ...commands);
}

export function feedAt(now: number, connection: Connection, ...commands: Command[]): ConnectionEvent[] {
  return connection.receive(joined(commands.map((command) => encode(command, connection.version))), now);
}

/** Exchanges octets until none are left; returns the events of each side. */
export function pump(a: Connection, b: Connection, now = 0): { a: ConnectionEvent[]; b: ConnectionEvent[] } {
  const events = { a: [] as ConnectionEvent[], b: [] as ConnectionEvent[] };
  while (a.pendingOctets > 0 || b.pendingOctets > 0) {
    for (const block of a.output(now)) events.b.push(...b.receive(block, now));
    for (const block of b.output(now)) events.a.push(...a.receive(block, now));
  }
  return events;
}

/** A connected client and relay. */
export function connected(
  clientChanges: Partial<ConnectionOptions> = {},
  relayChanges: Partial<ConnectionOptions> = {},
): { client: Connection; relay: Connection } {
  const client = new Connection({ ...clientOptions, ...clientChanges });
  const relay = new Connection({ ...relayOptions, ...relayChanges });
  client.connect(relayChanges.localDeviceURLs?.[0] ?? RELAY_URL);
  pump(client, relay);
  relay.acceptConnect();
  pump(client, relay);
  assert.equal(client.state, "established");
  assert.equal(relay.state, "established");
  return { client, relay };
}

export const entry = { resourceURL: "mail", identityURL: "grooveIdentity://bob", deviceURL: "" };

/** Opens a session from one side to the other, ready for messages. */
export function ready(from: Connection, to: Connection): number {
  const sessionId = from.open(entry);
  pump(from, to);
  to.setAvailability(sessionId, "ready");
  pump(from, to);
  return sessionId;
}

export function sendMessage(from: Connection, sessionId: number, body = "body", fields = {}): number {
  from.beginMessage(sessionId, fields);
  from.data(sessionId, bytes(body));
  return from.endMessage(sessionId);
}

export function refusal(code: string): (error: unknown) => boolean {
  return (error) => error instanceof StateError && error.code === code;
}

/** The only event of a type. */
export function only<T extends ConnectionEvent["type"]>(
  events: readonly ConnectionEvent[],
  type: T,
): Extract<ConnectionEvent, { type: T }> {
  const found = events.filter((event) => event.type === type);
  assert.equal(found.length, 1, `one ${type} among ${events.map((event) => event.type).join(" ")}`);
  return found[0] as Extract<ConnectionEvent, { type: T }>;
}

/** Asserts that the peer's fault led to ConnectClose with this reason, and was reported to the owner. */
export function assertViolation(connection: Connection, events: readonly ConnectionEvent[], reasonId: number): void {
  const closed = only(events, "closed");
  assert.deepEqual([closed.by, closed.cause, closed.reasonId], ["self", "violation", reasonId]);
  assert.equal(connection.state, "aborting");
  const last = sent(connection).at(-1);
  assert.equal(last?.command === "ConnectClose" && last.reasonId, reasonId);
}

const text = fc.string({ unit: fc.integer({ min: 1, max: 0x7f }).map((c) => String.fromCharCode(c)), maxLength: 60 });
const filled = text.filter((t) => t !== "");
const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const octets = fc.uint8Array({ maxLength: 300 });
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });

function entryOf(version: Version) {
  const urls = { identityURL: text, deviceURL: text, relayURL: text };
  return version.minor < 6
    ? fc.record(urls, { noNullPrototype: true })
    : fc.record(
        { ...urls, failoverDeviceURLs: filled },
        { noNullPrototype: true, requiredKeys: ["identityURL", "deviceURL", "relayURL"] },
      );
}

const presence = [
  ["ephemeral", MessageFlag.Ephemeral],
  ["streamSize", MessageFlag.StreamSize],
  ["fragmentation", MessageFlag.Fragmentation],
] as const;

/** Each command with arbitrary fields, as decoded. */
export function commandsOf(version: Version): { [N in CommandName]: fc.Arbitrary<Command> } {
  const of = (name: CommandName, fields: Record<string, fc.Arbitrary<unknown>>, optional: string[] = []) =>
    fc.record(
      { command: fc.constant(name), ...fields },
      {
        noNullPrototype: true,
        requiredKeys: ["command", ...Object.keys(fields).filter((field) => !optional.includes(field))] as never[],
      },
    ) as fc.Arbitrary<unknown> as fc.Arbitrary<Command>;
  const product = { peerProductVersion: text, peerProductCapabilities: text };
  const versions = { majorVersionNumber: u8, minorVersionNumber: u8 };
  const token = { authenticationToken: octets };
  return {
    Connect: of("Connect", {
      ...versions,
      targetDeviceURL: text,
      sourceDeviceURLs: fc.array(text, { maxLength: 5 }),
      ...token,
      ...product,
    }),
    ConnectResponse: of("ConnectResponse", { responseId: u8, ...versions, retryTime: u32, ...token, ...product }),
    ConnectAuthenticate: of("ConnectAuthenticate", token),
    ConnectClose: of("ConnectClose", { messageCount: u32, reasonId: u8, returnTime: u32 }),
    Open: of("Open", { sessionId: u32, resourceURL: filled, identityURL: text, deviceURL: text }),
    FanoutOpen: of("FanoutOpen", {
      sessionId: u32,
      resourceURL: filled,
      fanoutDeviceEntries: fc.array(entryOf(version), { maxLength: 8 }),
    }),
    OpenResponse: of("OpenResponse", { sessionId: u32, responseId: u8 }),
    Attach: of("Attach", { eventId: u32, resourceURL: text, accountURL: filled, ...token }),
    AttachResponse: of("AttachResponse", { eventId: u32, responseId: u8, ...token }),
    AttachAuthenticate: of("AttachAuthenticate", { eventId: u32, ...token }),
    Register: of("Register", { eventId: u32, ...token }),
    RegisterResponse: of("RegisterResponse", { eventId: u32, responseId: u8, ...token }),
    Message: of(
      "Message",
      {
        sessionId: u32,
        messageCount: u32,
        flags: u8,
        userRef: text,
        ephemeral: u32,
        streamSize: fc.tuple(u64, u64, u64),
        fragmentation: octets,
      },
      ["ephemeral", "streamSize", "fragmentation"],
    ).map((command) => {
      const message = command as Extract<Command, { command: "Message" }>;
      let flags = message.flags & MESSAGE_CHOICE_FLAGS;
      for (const [name, flag] of presence) if (message[name] !== undefined) flags |= flag;
      return { ...message, flags };
    }),
    Data: of("Data", { sessionId: u32, data: fc.uint8Array({ maxLength: 2048, size: "max" }) }),
    EndMessage: of("EndMessage", { sessionId: u32 }),
    Noop: of("Noop", { messageCount: u32 }),
    Close: of("Close", { sessionId: u32, reasonId: u8 }),
    SessionStatus: of(
      "SessionStatus",
      {
        sessionId: u32,
        statusId: u8,
        deviceURL: text,
        identityURL: text,
        ...(version.minor < 6 ? {} : { fanoutDeviceIndexes: fc.array(u16, { maxLength: 9 }) }),
      },
      ["fanoutDeviceIndexes"],
    ),
  };
}

export function anyCommand(version: Version): fc.Arbitrary<Command> {
  return fc.oneof(...Object.values(commandsOf(version)));
}

export const versions = [VERSION_1_5, VERSION_1_6];

/** Splits octets at arbitrary places; the seeds are positions in any order. */
export function cut(all: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [...new Set([0, ...places.map((place) => place % (all.length + 1)), all.length])].sort((a, b) => a - b);
  return at.slice(1).map((end, i) => all.slice(at[i], end));
}
