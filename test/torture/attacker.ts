/**
 * Abuse in a separate process, so that the measured devices are not delayed by it: one kind of attack, described by the
 * first argument as JSON. It prints the result as JSON: how often each answer came, by status and reason.
 */
import { randomBytes } from "node:crypto";
import { Agent, request } from "node:http";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { formatPoll, formatTarget, guidFrom } from "../../src/encapsulation/index.ts";

/** The description of an attack. `source` is the address it claims to come from. */
export interface Attack {
  readonly kind: "slowHeads" | "slowBodies" | "halfOpen" | "silentSockets" | "guesses" | "polls" | "longLines";
  readonly port: number;
  readonly source: string;
  /** Connections, or for a flood the number of concurrent requests. */
  readonly count: number;
  /** Its start, in milliseconds since 1970: starting a process is not part of it. */
  readonly begins: number;
  /** Its duration, in milliseconds. */
  readonly lasts: number;
}

export interface Outcome {
  /** By `status reason`, or how the connection ended without an answer. */
  readonly answers: Record<string, number>;
  /** The most octets that the edge has accepted on one connection. */
  readonly taken: number;
  /** When the first and the last were answered or ended, in milliseconds from the start. */
  readonly first: number;
  readonly last: number;
}

const RELAY = "127.0.0.1";
/** Connections per second. */
const PACE = 200;
let began = performance.now();
const answers: Record<string, number> = {};
let taken = 0;
let first = Number.POSITIVE_INFINITY;
let last = 0;

function note(answer: string): void {
  answers[answer] = (answers[answer] ?? 0) + 1;
  const at = performance.now() - began;
  first = Math.min(first, at);
  last = at;
}

/** The status and Grooveway's reason in an answer. */
function said(head: string): string {
  const status = /^HTTP\/1\.[01] (\d+)/.exec(head)?.[1] ?? "?";
  const reason = /^grooveway-reason: *(\S+)/im.exec(head)?.[1] ?? "";
  const retry = /^retry-after: *\d+\r?$/im.test(head) ? " retry" : "";
  return `${status} ${reason}${retry}`.trim();
}

/** A connection that writes what it is told, and records how it ends. */
function open({ port }: Attack, begin: (socket: Socket) => void): Promise<void> {
  return new Promise((resolve) => {
    let head = "";
    const socket = connect(port, "127.0.0.1", () => begin(socket));
    let over = false;
    const end = (how: string) => {
      if (over) return;
      over = true;
      taken = Math.max(taken, socket.bytesWritten - socket.writableLength);
      note(head === "" ? how : said(head));
      socket.destroy();
      resolve();
    };
    socket.on("data", (octets) => {
      if (head.length < 4096) head += octets.toString("latin1");
      // A complete answer, or the beginning of a body that is not a refusal's.
      if (head.includes("\r\n\r\n") && !head.startsWith("HTTP/1.1 200")) end("answered");
    });
    socket.on("end", () => end("closed"));
    socket.on("error", () => undefined);
    socket.on("close", () => end("reset"));
  });
}

const target = (encapsulation: "LongLived" | "KeepAlive") =>
  encapsulation === "LongLived"
    ? formatTarget({ encapsulation, relay: RELAY, guid: guidFrom(randomBytes(24)), contentLength: 1_000_000 })
    : formatTarget({ encapsulation, relay: RELAY, guid: guidFrom(randomBytes(24)) });

/** Writes an octet at intervals, as long as it can. */
function drip(socket: Socket, octet: string, every: number): void {
  const timer = setInterval(() => (socket.writable ? socket.write(octet) : clearInterval(timer)), every);
  socket.on("close", () => clearInterval(timer));
}

/** Requests as fast as they are answered. */
async function flood(attack: Attack, one: (agent: Agent) => Promise<void>): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: attack.count });
  const until = performance.now() + attack.lasts;
  await Promise.all(
    Array.from({ length: attack.count }, async () => {
      while (performance.now() < until) await one(agent);
    }),
  );
  agent.destroy();
}

function post(agent: Agent, { port, source }: Attack, path: string, body: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const headers = { "X-Forwarded-For": source, "Content-Length": body.length };
    const sent = request({ agent, port, host: "127.0.0.1", method: "POST", path, headers }, (answer) => {
      const retry = answer.headers["retry-after"] === undefined ? "" : " retry";
      note(`${answer.statusCode} ${answer.headers["grooveway-reason"] ?? ""}${retry}`.trim());
      answer.resume();
      answer.on("end", resolve);
      answer.on("error", () => resolve());
    });
    sent.on("error", () => {
      note("reset");
      resolve();
    });
    sent.end(body);
  });
}

const ATTACKS: Record<Attack["kind"], (attack: Attack) => Promise<unknown>> = {
  /** Heads that never end. */
  slowHeads: (attack) =>
    many(attack, (socket) => {
      socket.write(`GET ${target("KeepAlive")} HTTP/1.1\r\nHost: ${RELAY}\r\nX-Slow: `);
      drip(socket, "a", 1000);
    }),
  /** Bodies that never end. */
  slowBodies: (attack) =>
    many(attack, (socket) => {
      const head = `POST ${target("KeepAlive")} HTTP/1.1\r\nHost: ${RELAY}\r\nX-Forwarded-For: ${attack.source}`;
      socket.write(`${head}\r\nContent-Length: 30000\r\n\r\n`);
      drip(socket, "a", 1000);
    }),
  /** Virtual connections with only a GET. */
  halfOpen: (attack) =>
    many(attack, (socket) => {
      const head = `GET ${target("LongLived")} HTTP/1.1\r\nHost: ${RELAY}\r\nX-Forwarded-For: ${attack.source}`;
      socket.write(`${head}\r\n\r\n`);
    }),
  /** WebSockets on which nothing is sent. */
  silentSockets: (attack) =>
    many(attack, (socket) => {
      const path = formatTarget({ encapsulation: "WebSocket", relay: RELAY, guid: guidFrom(randomBytes(24)) });
      const upgrade = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13`;
      const key = randomBytes(16).toString("base64");
      socket.removeAllListeners("data");
      let frames = "";
      socket.on("data", (octets) => {
        frames += octets.toString("latin1");
        // The close frame carries its reason as text.
        const reason = /ConnectTimeout|TokenNeeded|TooManyHalfOpen/.exec(frames.slice(frames.indexOf("\r\n\r\n")))?.[0];
        if (reason === undefined) return;
        socket.removeAllListeners("close");
        note(reason);
        socket.destroy();
      });
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: ${RELAY}\r\nX-Forwarded-For: ${attack.source}\r\n${upgrade}\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
      );
    }),
  /** Octets for virtual connections with guessed GUIDs. */
  guesses: (attack) => flood(attack, (agent) => post(agent, attack, target("KeepAlive"), Buffer.from("not an echo"))),
  /** Polling virtual connections with only the first request. */
  polls: (attack) =>
    flood(attack, (agent) => {
      const body = formatPoll({ relay: RELAY, guid: guidFrom(randomBytes(24)), sequence: 0, data: [] });
      return post(agent, attack, "/", body);
    }),
  /** A request line, or a header, of 100 MB. */
  longLines: (attack) => {
    let turn = 0;
    return many(attack, (socket) => {
      turn += 1;
      socket.write(turn % 2 === 0 ? "GET /2.0/" : `GET / HTTP/1.1\r\nHost: ${RELAY}\r\nX-Long: `);
      const block = Buffer.alloc(65536, "a");
      let left = 100 * 1024 * 1024;
      const more = () => {
        if (!socket.writable || left <= 0) return;
        left -= block.length;
        socket.write(block, more);
      };
      more();
    });
  },
};

/** All connections at once, as fast as the kernel accepts them; those left at the end are `held`. */
async function many(attack: Attack, begin: (socket: Socket) => void): Promise<void> {
  const all: Promise<void>[] = [];
  for (let n = 0; n < attack.count; n += 1) {
    all.push(open(attack, begin));
    // A single-threaded runtime is busy for a millisecond with each, whatever it answers: its speed is not under test.
    await sleep(1000 / PACE);
  }
  await Promise.race([Promise.all(all), sleep(attack.lasts - (performance.now() - began))]);
  const answered = Object.values(answers).reduce((sum, count) => sum + count, 0);
  if (answered < attack.count) answers.held = attack.count - answered;
}

const attack = JSON.parse(process.argv[2] ?? "") as Attack;
await sleep(attack.begins - Date.now());
began = performance.now();
await ATTACKS[attack.kind](attack);
console.log(JSON.stringify({ answers, taken, first, last } satisfies Outcome));
process.exit(0);
