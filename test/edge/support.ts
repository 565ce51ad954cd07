/**
 * An edge between scripted relays and raw devices. A device sends the octets of the specification's own
 * examples [MS-GRVHENC 4.2]; a relay is a bare TCP socket.
 */
import assert from "node:assert/strict";
import { createHash, type Hash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Tunnel } from "../../src/edge/tunnel/tunnel.ts";
import { ECHO_TEXT, STATUS_PAIRS } from "../../src/encapsulation/index.ts";
import { type InspectedEdge, startInspectedEdge } from "../support/inspected-edge.ts";
import { excerpt, listen, PATIENCE, RawSocket, type TestServer } from "../support/sockets.ts";
import { until as eventually } from "../support/watch.ts";
import { startWorker } from "../support/worker.ts";

export { eventually };

export const ECHO = ECHO_TEXT;
/** The ConnectionContentLength used by the products [MS-GRVHENC 3.1]. */
export const LONG = 2147479552;
/** This edge's own Relay-Server-Name. */
export const RELAY_NAME = "edge.example.com";

/** An allowed origin relay. */
export class TestRelay {
  readonly server: TestServer;
  readonly name: string;
  /** How a connection is handled. By default it is read, kept for {@link next}, and closed when the edge closes it. */
  serve: ((socket: Socket) => void) | undefined;
  /** Whether connections are accepted but not read. */
  stopped = false;
  readonly #came: RawSocket[] = [];
  #wake: (() => void) | undefined;

  constructor(server: TestServer) {
    this.server = server;
    this.name = `127.0.0.1:${server.port}`;
  }

  came(socket: Socket): void {
    if (this.serve !== undefined) {
      this.serve(socket);
      return;
    }
    const raw = new RawSocket(socket);
    if (this.stopped) socket.pause();
    socket.on("end", () => socket.end());
    this.#came.push(raw);
    this.#wake?.();
  }

  /** The next connection of the edge. */
  async next(): Promise<RawSocket> {
    const patience = AbortSignal.timeout(PATIENCE);
    for (;;) {
      const first = this.#came.shift();
      if (first !== undefined) return first;
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        patience.onabort = () => reject(new Error("the edge has not dialled the relay"));
      });
    }
  }
}

export interface TestEdge {
  readonly port: number;
  readonly edge: InspectedEdge;
  /** A relay that no other test uses. */
  relay(): TestRelay;
  /** An allowed relay at whose port nothing listens. */
  readonly closedRelay: string;
  /** A device's connection to the edge. */
  open(): Promise<RawSocket>;
  /** Stops it, and fails if it has logged anything unexpected. */
  close(): Promise<void>;
}

const DELIBERATE = [
  // Writing beyond that length is an error of the platform's own.
  "Attempt to write too many bytes through a FixedLengthStream",
  // How the tests query the status of a Tunnel; the edge itself makes no such stubs.
  "An RPC stub was not disposed properly",
];

/**
 * Relays are created before the edge starts, since its allow list does not change afterwards.
 *
 * @param also names of relays that the test provides itself
 */
export async function startTestEdge(relays: number, also: readonly string[] = []): Promise<TestEdge> {
  const all: TestRelay[] = [];
  for (let count = 0; count < relays; count++) {
    const server: TestServer = await listen((socket) => relay.came(socket));
    const relay = new TestRelay(server);
    all.push(relay);
  }
  const closed = await listen(() => undefined);
  await closed.close();
  // On 127.0.0.1 another test may take the port before this one dials it.
  const closedRelay = `127.0.0.77:${closed.port}`;
  const log: string[] = [];
  const edge = await startInspectedEdge({
    port: 0,
    relayAllow: [...also, closedRelay, ...all.map(({ name }) => name)],
    dev: "private open",
    relayName: RELAY_NAME,
    log: (level, line) => {
      if (!DELIBERATE.some((known) => line.includes(known))) log.push(`${level} ${line.slice(0, 300)}`);
    },
  });
  const unused = [...all];
  const port = Number(new URL(edge.url).port);
  const devices = devicesOf(port);
  return {
    port,
    edge,
    closedRelay,
    open: devices.open,
    relay() {
      const relay = unused.pop();
      assert(relay, "the file needs more relays");
      return relay;
    },
    async close() {
      devices.close();
      await edge.close();
      for (const { server } of all) await server.close();
      assert.deepEqual(log, [], "the edge logs nothing unexpected");
    },
  };
}

/**
 * The driven worker with its own relays, whose log is not checked. It has a name, and requires no tokens.
 *
 * @param relays how many
 */
export async function startDrivenEdge(relays: number): Promise<TestEdge> {
  const all = await Promise.all(
    Array.from({ length: relays }, async () => {
      const server = await listen((socket) => relay.came(socket));
      const relay: TestRelay = new TestRelay(server);
      return relay;
    }),
  );
  const miniflare = await startWorker({
    RELAY_NAME: "localhost 127.0.0.1",
    ORIGIN_RELAYS: all.map(({ name }) => name).join(","),
    DEV: "1",
  });
  const url = await miniflare.ready;
  const port = Number(url.port);
  const devices = devicesOf(port);
  const unused = [...all];
  const close = async () => {
    devices.close();
    await miniflare.dispose();
    for (const { server } of all) await server.close();
  };
  return {
    port,
    open: devices.open,
    edge: {
      url: url.origin.replace("127.0.0.1", "localhost"),
      names: [],
      relayNames: [],
      miniflare,
      failed: new Promise(() => undefined),
      renew: () => Promise.reject(new Error("the driven edge has no certificate")),
      rest: close,
      close,
    },
    closedRelay: "",
    relay: () => unused.pop() ?? assert.fail("the file needs more relays"),
    close,
  };
}

/** Connections to a port that are closed with the test, even if it fails. */
export function devicesOf(port: number): { open(): Promise<RawSocket>; close(): void } {
  const opened: RawSocket[] = [];
  return {
    async open() {
      const socket = await RawSocket.open(port);
      opened.push(socket);
      return socket;
    },
    close() {
      for (const { socket } of opened) socket.destroy();
    },
  };
}

export function newGuid(): string {
  return randomBytes(24).toString("hex").slice(0, 39);
}

export interface PostOptions {
  readonly target?: string;
  readonly on?: RawSocket;
  readonly version?: string;
  /** Content-Length; undefined for none. */
  readonly length?: number | undefined;
  /** Further header lines, each ended by CRLF. */
  readonly more?: string;
}

/** Lines of a request head, in the order of the specification's example [MS-GRVHENC 4.2]. */
function head(method: string, target: string, length: number | undefined, version = "1.0", more = ""): string {
  return [
    `${method} ${target} HTTP/${version}`,
    "Accept: */*",
    "Content-Type: application/octet-stream",
    "User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Win32)",
    // The example's POST has this line instead of Host. The platform refuses a request without Host, so both are sent.
    ...(method === "POST" ? ["UserAgent: server.domain.net"] : []),
    "Host: server.domain.net",
    // LongLived does not have it [MS-GRVHENC 2.2.2.1].
    ...(target.includes("ConnType=KeepAlive") ? ["Connection: Keep-Alive"] : []),
    ...(length === undefined ? [] : [`Content-Length: ${length}`]),
    "Pragma: no-cache",
    "Cache-Control: no-cache",
    "Expires: 0",
    "Cache-Control: max-age=0",
    `${more}\r\n`,
  ].join("\r\n");
}

export type Kind = "LongLived" | "KeepAlive";

/** One virtual connection of a device on raw sockets. */
export class Device {
  readonly relay: string;
  readonly guid: string;
  readonly kind: Kind;
  readonly contentLength: number;
  get!: RawSocket;
  post!: RawSocket;
  readonly #edge: TestEdge;

  constructor(edge: TestEdge, relay: TestRelay | string, kind: Kind, contentLength = LONG, guid = newGuid()) {
    this.#edge = edge;
    this.relay = typeof relay === "string" ? relay : relay.name;
    this.kind = kind;
    this.contentLength = contentLength;
    this.guid = guid;
  }

  get target(): string {
    const length = this.kind === "LongLived" ? `,ContentLength=${this.contentLength}` : "";
    return `/2.0/${this.relay}/${this.guid},ConnType=${this.kind}${length}`;
  }

  open(): Promise<RawSocket> {
    return this.#edge.open();
  }

  /** Sends a GET, by default on the GET session's connection. */
  async sendGet(target = this.target, on?: RawSocket): Promise<RawSocket> {
    this.get ??= await this.open();
    const socket = on ?? this.get;
    socket.write(head("GET", target, undefined));
    return socket;
  }

  /** Sends a POST with a body, or the beginning of one, by default on the POST session's connection. */
  async sendPost(body: string | Uint8Array, options: PostOptions = {}): Promise<RawSocket> {
    this.post ??= await this.open();
    const { on = this.post, target = this.target, version, more } = options;
    const length = "length" in options ? options.length : this.kind === "LongLived" ? LONG : body.length;
    // In one write: two would wait for each other's acknowledgement.
    on.write(Buffer.concat([Buffer.from(head("POST", target, length, version, more)), Buffer.from(body)]));
    return on;
  }

  /** Handshake, GET first. */
  async establish(): Promise<this> {
    await this.sendGet();
    await this.known();
    await this.sendPost(ECHO);
    await this.established();
    return this;
  }

  /** Reads the answers of the handshake. */
  async established(): Promise<void> {
    if (this.kind === "KeepAlive") {
      assertEmpty(await this.post.response());
      assertBody(await this.get.response(), ECHO);
      return;
    }
    const { status, headers } = await this.get.head();
    assert.equal(status, "HTTP/1.0 200 OK");
    assert.match(headers, new RegExp(`^content-length: ${this.contentLength}$`, "im"));
    assertOctets(await this.get.take(ECHO.length), ECHO);
  }

  /** Waits until the edge knows this virtual connection. */
  async known(): Promise<void> {
    await eventually("the edge knows the GUID", async () => (await tunnelStatus(this.#edge, this.guid)).live);
  }

  /** Sends octets up; on KeepAlive as one POST whose answer is awaited. */
  async up(octets: string | Uint8Array): Promise<void> {
    if (this.kind === "LongLived") this.post.write(octets);
    else assertEmpty(await (await this.sendPost(octets)).response());
  }

  /** Takes this many octets from the relay; on KeepAlive with as many GETs as needed. */
  async down(count: number): Promise<Buffer> {
    if (this.kind === "LongLived") return this.get.take(count);
    const pieces: Buffer[] = [];
    for (let length = 0; length < count; ) {
      const { status, body } = await (await this.sendGet()).response();
      assert.equal(status, "HTTP/1.0 200 OK", excerpt(body));
      pieces.push(body);
      length += body.length;
    }
    return Buffer.concat(pieces);
  }

  /** Exchanges octets through a connection of the relay, to show that it is alive. */
  async talk(origin: RawSocket): Promise<void> {
    const [question, reply] = [newGuid(), newGuid()];
    await this.up(question);
    assertOctets(await origin.take(question.length), question);
    origin.write(reply);
    assertOctets(await this.down(reply.length), reply);
  }

  reset(): void {
    this.get?.reset();
    this.post?.reset();
  }

  /** Disconnects so that the edge notices at once: for a KeepAlive device that is the GET. */
  async leave(): Promise<void> {
    if (this.kind === "KeepAlive") await assertRead(this.#edge, await this.sendGet());
    this.reset();
  }
}

/** A device that has shaken hands through a relay of its own, and the connection that came there. */
export async function connect(
  edge: TestEdge,
  kind: Kind,
  contentLength?: number,
): Promise<{ readonly relay: TestRelay; readonly device: Device; readonly origin: RawSocket }> {
  const relay = edge.relay();
  const device = await new Device(edge, relay, kind, contentLength).establish();
  return { relay, device, origin: await relay.next() };
}

/** Asserts that nothing is left of a device whose virtual connection has ended, and closes its sockets. */
export async function finish(edge: TestEdge, relay: TestRelay, device: Device): Promise<void> {
  await assertNothingLeft(edge, relay, device.guid);
  device.reset();
}

type Answer = Awaited<ReturnType<RawSocket["response"]>>;

/** An empty 200, which answers each KeepAlive POST [MS-GRVHENC 2.2.3.4]. */
export function assertEmpty(answer: Answer): void {
  assertBody(answer, "");
  assert.match(answer.headers, /^content-length: 0$/im);
}

/** A KeepAlive response: complete, on a connection that stays open [MS-GRVHENC 3.4.4.3]. */
export function assertBody({ status, headers, body }: Answer, expected: string | Uint8Array): void {
  assert.match(status, /^HTTP\/1\.[01] 200 OK$/, excerpt(body));
  if (status.startsWith("HTTP/1.0")) assert.match(headers, /^connection: keep-alive$/im);
  assertOctets(body, expected);
}

export function assertOctets(actual: Uint8Array, expected: string | Uint8Array): void {
  if (Buffer.from(actual).equals(Buffer.from(expected))) return;
  assert.fail(`${actual.length} octets ${excerpt(actual)}, not ${expected.length} octets`);
}

/** A refusal: one of the twelve status pairs [MS-GRVHENC 2.2.1.4] and a problem document for it [RFC 9457]. */
export async function assertRefused(socket: RawSocket, pair: string, reason: string, patience?: number): Promise<void> {
  const { status, headers, body } = await socket.response(patience);
  const said = /^HTTP\/1\.[01] (.*)$/.exec(status)?.[1];
  const pairs = Object.entries(STATUS_PAIRS).map(([code, phrase]) => `${code} ${phrase}`);
  assert(said !== undefined && pairs.includes(said), `${status} is not one of the twelve`);
  assert.match(headers, /^content-type: application\/problem\+json$/im, excerpt(body));
  const document = JSON.parse(body.toString());
  assert.deepEqual([said, document.code], [pair, reason], excerpt(body));
  assert.equal(`${document.status} ${document.title}`, pair);
  assert.match(headers, new RegExp(`^grooveway-reason: ${reason}$`, "im"));
}

/** The end of the LongLived GET: the connection closes, after no more octets than expected. */
export async function assertCut(device: Device, rest: string | Uint8Array = ""): Promise<void> {
  await device.get.closed();
  assertOctets(device.get.received, rest);
}

/**
 * Asserts that nothing is left: no virtual connection at the edge, no socket at the relay, and none held by the edge
 * towards it.
 */
export async function assertNothingLeft(
  edge: TestEdge,
  relay: TestRelay | undefined,
  ...guids: string[]
): Promise<void> {
  await eventually("no Tunnel lives", async () => {
    for (const guid of guids) if ((await tunnelStatus(edge, guid)).live) return false;
    return true;
  });
  if (relay === undefined) return;
  await eventually("the edge holds no socket to the relay", () => heldTowards(relay) === 0);
  await eventually("the relay holds no socket", () => relay.server.connections.size === 0);
}

export async function tunnelStatus(
  edge: TestEdge,
  guid: string,
): Promise<{ live: boolean; ended: string | undefined }> {
  // A stub made anew: the object of an older one may have crashed.
  const tunnels = await edge.edge.miniflare.getDurableObjectNamespace("TUNNEL");
  const stub = tunnels.getByName(guid) as unknown as Pick<Tunnel, "status">;
  const { live, ended } = await stub.status();
  return { live, ended };
}

/** Waits until the edge has read everything a device has written: a reset would discard the rest. */
export async function assertRead(edge: TestEdge, { socket }: RawSocket): Promise<void> {
  const port = socket.localPort;
  await eventually("the edge reads what it is sent", () => {
    const both = connections().filter(
      ({ local, remote }) => (local === port && remote === edge.port) || (local === edge.port && remote === port),
    );
    return socket.writableLength === 0 && both.length === 2 && both.every(({ queues }) => queues === EMPTY_QUEUES);
  });
}

/** Waits until this many octets have arrived at a socket, read or not. */
export async function assertCame({ socket }: RawSocket, count: number): Promise<void> {
  await eventually(`${count} octets come`, () => {
    const ours = connections().find(({ local, remote }) => local === socket.localPort && remote === socket.remotePort);
    const unread = Number.parseInt(ours?.queues.split(":")[1] ?? "0", 16);
    return socket.bytesRead + unread >= count;
  });
}

/** Writes to a socket at full speed until it is closed. */
export function flood(socket: Socket, octets = Buffer.alloc(65536, 7)): void {
  const more = () => {
    if (socket.writable) socket.write(octets, more);
  };
  more();
}

const EMPTY_QUEUES = "00000000:00000000";

/** Connections to a relay that the edge has not closed, whatever the relay does. */
export function heldTowards(relay: TestRelay): number {
  const { port } = relay.server;
  const ESTABLISHED = "01";
  const CLOSE_WAIT = "08";
  return connections().filter(({ remote, state }) => remote === port && (state === ESTABLISHED || state === CLOSE_WAIT))
    .length;
}

/** The TCP connections of this machine, as listed by its kernel. */
function connections(): { local: number; remote: number; state: string; queues: string }[] {
  return readFileSync("/proc/net/tcp", "latin1")
    .split("\n")
    .slice(1)
    .map((line) => {
      const [, local = "", remote = "", state = "", queues = ""] = line.trim().split(/\s+/);
      const port = (address: string) => Number.parseInt(address.split(":")[1] ?? "", 16);
      return { local: port(local), remote: port(remote), state, queues };
    });
}

/** Resident memory of the runtime that this process has started, in bytes. */
export function edgeMemory(): number {
  const PAGE = 4096;
  for (const id of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const [, name, parent] = /^\d+ \((.*)\) \S (\d+)/.exec(readFileSync(`/proc/${id}/stat`, "latin1")) ?? [];
      if (name !== "workerd" || Number(parent) !== process.pid) continue;
      return Number(readFileSync(`/proc/${id}/statm`, "latin1").split(" ")[1]) * PAGE;
    } catch {
      // A process that has ended meanwhile.
    }
  }
  throw new Error("no runtime runs");
}

export interface Sink {
  count: number;
  readonly hash: Hash;
}

/** Counts and hashes what arrives on a connection from now on, without storing it. */
export function sink(raw: RawSocket): Sink {
  const taken: Sink = { count: 0, hash: createHash("sha256") };
  const take = (octets: Buffer) => {
    taken.count += octets.length;
    taken.hash.update(octets);
  };
  take(raw.received);
  raw.received = Buffer.alloc(0);
  raw.socket.removeAllListeners("data");
  raw.socket.on("data", take);
  return taken;
}

/** Writes all octets in pieces, each once the previous one has been accepted. */
export async function writeAll(
  socket: Socket,
  octets: Uint8Array,
  pieceSize: () => number = () => 65536,
): Promise<void> {
  for (let from = 0; from < octets.length && socket.writable; ) {
    const piece = octets.subarray(from, from + pieceSize());
    from += piece.length;
    await new Promise<void>((resolve) => socket.write(piece, () => resolve()));
  }
}

/** Octets accepted by a socket's kernel, once the number no longer grows. */
export async function whenBlocked(socket: Socket): Promise<number> {
  const taken = () => socket.bytesWritten - socket.writableLength;
  for (let last = -1; ; ) {
    const now = taken();
    if (now === last) return now;
    last = now;
    await sleep(QUIET);
  }
}

/** A pause, in milliseconds, in which a machine that is not blocked surely accepts something. */
const QUIET = 500;
