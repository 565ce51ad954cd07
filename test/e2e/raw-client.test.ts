/**
 * A client made of sockets and the text of [MS-GRVHENC] and [MS-GRVSSTP] only: it shares no code with the edge
 * and the relay, so that both are tested against the documents and not against each other.
 *
 * Requests have the header set of the example [MS-GRVHENC 4.2], including its odd `UserAgent:` line in the POST. A
 * `Host` is added there, since the platform refuses a request without one.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { type Relay, startRelay } from "../../src/relay/index.ts";
import { command, u16, u32, z } from "../edge/scripted-relay.ts";
import { RawSocket } from "../support/sockets.ts";

let relay: Relay;
let edge: LocalEdge;
let name: string;

before(async () => {
  relay = await startRelay({ port: 0 });
  name = `127.0.0.1:${relay.port}`;
  edge = await startLocalEdge({ port: 0, relayAllow: [name], dev: "private open" });
});

after(async () => {
  await edge.close();
  await relay.close();
});

// ---------------------------------------------------------------------------------------------------- [MS-GRVHENC]

const ECHO = "GroovePing: 1.0,Ping\r\n";

function request(method: "GET" | "POST", target: string, length?: number): string {
  const lines = [`${method} ${target} HTTP/1.0`, "Accept: */*", "Content-Type: application/octet-stream"];
  lines.push("User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Win32)", "Host: 10.150.1.226");
  if (method === "POST") lines.push("UserAgent: server.domain.net");
  lines.push("Connection: Keep-Alive");
  if (length !== undefined) lines.push(`Content-Length: ${length}`);
  lines.push("Pragma: no-cache", "Cache-Control: no-cache", "Expires: 0", "Cache-Control: max-age=0");
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/** 39 characters of the alphabet of the examples. */
function guid(): string {
  return [...randomBytes(39)].map((octet) => "abcdefghijkmnpqrstuvwxyz23456789"[octet % 32]).join("");
}

/** A virtual connection: SSTP octets up, and down. */
interface Virtual {
  send(octets: Buffer): Promise<void>;
  take(count: number): Promise<Buffer>;
  close(): void;
}

async function longLived(): Promise<Virtual> {
  const target = `/2.0/${name}/${guid()},ConnType=LongLived,ContentLength=2147479552`;
  const down = await RawSocket.open(Number(new URL(edge.url).port));
  const up = await RawSocket.open(Number(new URL(edge.url).port));
  down.write(request("GET", target));
  up.write(request("POST", target, 2147479552));
  up.write(ECHO);
  await down.until((received) => received.includes("\r\n\r\n"));
  const head = (await down.take(down.received.indexOf("\r\n\r\n") + 4)).toString("latin1");
  assert.match(head, /^HTTP\/1\.0 200 OK\r\n/);
  assert.match(head, /^Content-Length: 2147479552\r$/m);
  assert.equal((await down.take(22)).toString("latin1"), ECHO);
  return {
    send: async (octets) => up.write(octets),
    take: (count) => down.take(count),
    close() {
      up.reset();
      down.reset();
    },
  };
}

async function keepAlive(): Promise<Virtual> {
  const target = `/2.0/${name}/${guid()},ConnType=KeepAlive`;
  const down = await RawSocket.open(Number(new URL(edge.url).port));
  const up = await RawSocket.open(Number(new URL(edge.url).port));
  down.write(request("GET", target));
  up.write(request("POST", target, 22) + ECHO);
  const posted = await up.response();
  assert.equal(posted.status, "HTTP/1.0 200 OK");
  const got = await down.response();
  assert.equal(got.status, "HTTP/1.0 200 OK");
  assert.match(got.headers, /^connection: keep-alive$/im);
  assert.equal(got.body.toString("latin1"), ECHO);
  let held = Buffer.alloc(0);
  return {
    async send(octets) {
      up.write(Buffer.concat([Buffer.from(request("POST", target, octets.length)), octets]));
      assert.equal((await up.response()).status, "HTTP/1.0 200 OK");
    },
    async take(count) {
      while (held.length < count) {
        down.write(request("GET", target));
        const { status, body } = await down.response();
        assert.equal(status, "HTTP/1.0 200 OK");
        held = Buffer.concat([held, body]);
      }
      const taken = held.subarray(0, count);
      held = held.subarray(count);
      return taken;
    },
    close() {
      up.reset();
      down.reset();
    },
  };
}

/** Sum over all octets, index from 0, as signed octets, modulo 2^64. */
function checksum(data: Buffer): string {
  let sum = 0n;
  for (const [index, octet] of data.entries()) sum += BigInt((((octet << 24) >> 24) + 1) * (index + 1));
  return BigInt.asUintN(64, sum).toString();
}

async function polling(): Promise<Virtual> {
  const id = guid();
  let sequence = 0;
  let held = Buffer.alloc(0);

  async function exchange(data: Buffer): Promise<void> {
    const fields = ["1.2", `grooveDNS://${name}`, id, String(sequence), data.length === 0 ? "0" : checksum(data)];
    const body = Buffer.concat([Buffer.from(fields.map((field) => `${field}\0`).join("")), data]);
    // Each exchange has a TCP connection of its own.
    const socket = await RawSocket.open(Number(new URL(edge.url).port));
    socket.write(Buffer.concat([Buffer.from(request("POST", "/", body.length)), body]));
    const response = await socket.response();
    socket.fin();
    assert.equal(response.status, "HTTP/1.0 200 OK");
    let rest = response.body;
    const texts = Array.from({ length: 8 }, () => {
      const end = rest.indexOf(0);
      const text = rest.subarray(0, end).toString("latin1");
      rest = rest.subarray(end + 1);
      return text;
    });
    assert.deepEqual(texts.slice(0, 4), ["1.2", `grooveDNS://${name}`, id, String(sequence)]);
    assert.equal(texts[4], rest.length === 0 ? "0" : checksum(rest));
    for (const parameter of texts.slice(5)) assert.match(parameter, /^[0-9]+$/);
    held = Buffer.concat([held, rest]);
  }

  await exchange(Buffer.alloc(0));
  let established = false;
  return {
    async send(octets) {
      await exchange(octets);
      // Both requests of the handshake carry 0, the first one after it carries 1.
      established = true;
      sequence += 1;
    },
    async take(count) {
      while (held.length < count) {
        assert.ok(established);
        await exchange(Buffer.alloc(0));
        sequence += 1;
      }
      const taken = held.subarray(0, count);
      held = held.subarray(count);
      return taken;
    },
    close: () => undefined,
  };
}

// ---------------------------------------------------------------------------------------------------- [MS-GRVSSTP]

async function receive(virtual: Virtual): Promise<{ id: number; rest: Buffer }> {
  const head = await virtual.take(3);
  return { id: head.readUInt8(0), rest: await virtual.take(head.readUInt16LE(1) - 3) };
}

/** Connect 1.6 from a device to the relay, and the answer Ok [3.1.5.1]. */
async function connect(virtual: Virtual, device: string): Promise<void> {
  const versions = Buffer.from([0x01, 0x06, 0x00]);
  await virtual.send(
    command(
      0x01,
      versions,
      z(`grooveDNS://${name}`),
      Buffer.from([1]),
      z(device),
      u16(0),
      z("Groove Client 4.2 2623"),
      z(""),
    ),
  );
  const answer = await receive(virtual);
  assert.equal(answer.id, 0x02);
  assert.deepEqual([...answer.rest.subarray(0, 3)], [0x00, 0x01, 0x06]);
}

for (const [encapsulation, open] of Object.entries({ LongLived: longLived, KeepAlive: keepAlive, Polling: polling })) {
  test(`${encapsulation}: handshake, Connect, a message to a device, its acknowledgement and its delivery`, async () => {
    const bob = `grooveDevice://bob/${encapsulation}`;
    const sender = await open();
    await connect(sender, `grooveDevice://alice/${encapsulation}`);

    // Open, OpenResponse Ok [3.1.5.5].
    await sender.send(
      command(0x05, u32(1), z("apphandler"), z("grooveIdentity://bob"), z(bob), Buffer.from([0]), u16(0)),
    );
    const opened = await receive(sender);
    assert.deepEqual([opened.id, opened.rest.readUInt32LE(0), opened.rest.readUInt8(4)], [0x07, 1, 0x00]);

    // Message with A, two Data, EndMessage [3.1.4.6]; the acknowledgement is a Noop with MessageCount 1 [3.1.4.7].
    const body = randomBytes(3000);
    await sender.send(
      Buffer.concat([
        command(0x0d, u32(1), u32(0), Buffer.from([0x04]), z(`raw-${encapsulation}`)),
        command(0x0e, u32(1), body.subarray(0, 2048)),
        command(0x0e, u32(1), body.subarray(2048)),
        command(0x0f, u32(1)),
      ]),
    );
    const acknowledged = await receive(sender);
    assert.deepEqual([acknowledged.id, acknowledged.rest.readUInt32LE(0)], [0x10, 1]);
    sender.close();

    // The recipient connects after the sender has left: the relay opens a session of its own, with an even id.
    const recipient = await open();
    await connect(recipient, bob);
    const open2 = await receive(recipient);
    assert.equal(open2.id, 0x05);
    const session = open2.rest.readUInt32LE(0);
    assert.equal(session % 2, 0);
    assert.equal(open2.rest.subarray(4).toString("latin1"), `apphandler\0grooveIdentity://bob\0${bob}\0\0\0\0`);
    await recipient.send(command(0x07, u32(session), Buffer.from([0x00])));
    const message = await receive(recipient);
    assert.equal(message.id, 0x0d);
    assert.equal(message.rest.readUInt32LE(0), session);
    // The relay vouches for the sender: it appended the device's address to the id.
    assert.equal(message.rest.subarray(9).toString("latin1"), `raw-${encapsulation}@alice/${encapsulation}\0`);
    const parts: Buffer[] = [];
    let next = await receive(recipient);
    for (; next.id === 0x0e; next = await receive(recipient)) parts.push(next.rest.subarray(4));
    assert.deepEqual([next.id, next.rest.readUInt32LE(0)], [0x0f, session]);
    assert.deepEqual(Buffer.concat(parts), body);
    assert.equal(relay.waiting(bob).messages, 1);
    await recipient.send(command(0x10, u32(1)));
    for (let tries = 0; relay.waiting(bob).messages > 0 && tries < 100; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.equal(relay.waiting(bob).messages, 0);
    // ConnectClose, ReasonId Resting: the relay may close the connection before this is answered.
    await recipient.send(command(0x04, u32(0), Buffer.from([0x01]), u32(0))).catch(() => undefined);
    recipient.close();
  });
}
