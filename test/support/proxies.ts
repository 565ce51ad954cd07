/**
 * Proxies for tests, scripted: an HTTP proxy with each scheme of authentication, and SOCKS proxies. They know names that
 * the machine does not, and log what they are asked.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { ntResponse, parseNtlmChallenge, responseKey } from "../../src/device/transports/proxy/ntlm.ts";
import { splitHostPort } from "../../src/lib/host-port.ts";
import { listen } from "./sockets.ts";

export type Scheme = "Basic" | "Digest" | "DigestSha256" | "NTLM" | "Negotiate";

export interface Account {
  readonly user: string;
  readonly password: string;
}

export interface ScriptedProxyOptions {
  /** Offered, in this order. Default: no authentication. */
  readonly schemes?: readonly Scheme[];
  readonly account?: Account;
  /** Where the names lead that only this proxy knows: ports of 127.0.0.1. */
  readonly names?: Readonly<Record<string, number>>;
  /** Closes the connection after each 407. NTLM is impossible then, once it has begun. */
  readonly closes?: boolean;
  /** Sends the body of a 407 in chunks. */
  readonly chunked?: boolean;
  /** The status for destinations, in place of a tunnel. */
  readonly refuses?: number;
  /** The status for CONNECT alone. */
  readonly refusesConnect?: number;
  readonly tls?: { readonly key: string; readonly cert: string };
}

export interface ScriptedProxy {
  readonly port: number;
  /** `CONNECT edge.example.com:443`, with the scheme of the credentials; one for each request. */
  readonly log: string[];
  /** How often a password was wrong. */
  wrong(): number;
  connections(): number;
  close(): Promise<void>;
}

interface Context {
  after(run: () => Promise<unknown>): void;
}

/** The state of one connection with NTLM. */
interface Ntlm {
  challenge: string | undefined;
  isDone: boolean;
}

const NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c0";

/** Starts an HTTP proxy on a free port, until the test is over. */
export async function httpProxy(context: Context, options: ScriptedProxyOptions = {}): Promise<ScriptedProxy> {
  const { schemes = [], account = { user: "alice", password: "secret" } } = options;
  const log: string[] = [];
  const open = new Set<Duplex>();
  const ntlm = new WeakMap<Duplex, Ntlm>();
  let wrong = 0;
  let connections = 0;

  /** The headers of a 407, or undefined if the request may pass. */
  const judge = (asked: IncomingMessage, socket: Duplex): string[] | undefined => {
    const value = asked.headers["proxy-authorization"];
    log.push(`${asked.method} ${asked.url}${value === undefined ? "" : ` ${value.split(" ")[0]}`}`);
    if (schemes.length === 0) return undefined;
    const state = ntlm.get(socket) ?? { challenge: undefined, isDone: false };
    ntlm.set(socket, state);
    if (state.isDone) return undefined;
    const [scheme = "", credentials = ""] = value?.split(/ (.*)/) ?? [];
    if (scheme === "NTLM" && Buffer.from(credentials, "base64").readUInt32LE(8) === 1) {
      state.challenge = ntlmChallenge();
      return [`NTLM ${state.challenge}`];
    }
    const isRight =
      (scheme === "Basic" && isBasic(credentials, account)) ||
      (scheme === "Digest" && isDigest(credentials, account, asked.method ?? "")) ||
      (scheme === "NTLM" && state.challenge !== undefined && isNtlm(state.challenge, credentials, account)) ||
      (scheme === "Negotiate" && credentials === "ticket");
    if (isRight) {
      state.isDone = scheme === "NTLM";
      return undefined;
    }
    if (value !== undefined) wrong += 1;
    return schemes.map(offer);
  };

  const server: Server = options.tls === undefined ? createServer() : (createSecureServer(options.tls) as Server);
  server.on("connection", (socket: Socket) => {
    // After a 407 the server gets the same connection again.
    if (open.has(socket)) return;
    connections += 1;
    open.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => open.delete(socket));
  });
  server.on("connect", (asked: IncomingMessage, socket: Duplex, head: Buffer) => {
    const challenge = judge(asked, socket);
    socket.on("error", () => undefined);
    if (challenge !== undefined) {
      // Node has let go of the connection; its next request is ours to read.
      socket.write(unauthorized(challenge, options));
      if (options.closes === true) socket.end();
      else again(server, socket, head);
      return;
    }
    const refusal = options.refuses ?? options.refusesConnect;
    if (refusal !== undefined) {
      socket.end(`HTTP/1.1 ${refusal} Not Here\r\nContent-Length: 4\r\n\r\npage`);
      return;
    }
    const there = reach(asked.url ?? "", options);
    there.on("error", () => socket.destroy());
    there.on("connect", () => {
      // In one segment with what the destination says at once.
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      there.write(head);
      socket.pipe(there).pipe(socket);
    });
    socket.on("close", () => there.destroy());
    open.add(there);
  });
  server.on("request", (asked: IncomingMessage, answer) => {
    const challenge = judge(asked, asked.socket);
    if (challenge !== undefined) {
      const head = { "Proxy-Authenticate": challenge, "Content-Length": "4" };
      answer.writeHead(407, { ...head, ...(options.closes === true && { Connection: "close" }) });
      answer.end("page");
      return;
    }
    const url = URL.canParse(asked.url ?? "") ? new URL(asked.url ?? "") : undefined;
    if (url === undefined || options.refuses !== undefined) {
      answer.writeHead(options.refuses ?? 400).end();
      return;
    }
    const { "proxy-authorization": _, "proxy-connection": __, ...headers } = asked.headers;
    const { hostname, port = "80" } = url;
    const forwarded = request({
      method: asked.method,
      path: `${url.pathname}${url.search}`,
      headers,
      createConnection: () => reach(`${hostname}:${port || 80}`, options),
    });
    forwarded.on("response", (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      answer.flushHeaders();
      response.pipe(answer);
      response.on("error", () => answer.destroy());
    });
    forwarded.on("error", () => answer.destroy());
    answer.on("close", () => forwarded.destroy());
    asked.pipe(forwarded);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () =>
    new Promise<void>((resolve) => {
      for (const socket of open) socket.destroy();
      server.close(() => resolve());
    });
  context.after(close);
  return {
    port: (server.address() as AddressInfo).port,
    log,
    wrong: () => wrong,
    connections: () => connections,
    close,
  };
}

/** Gives a connection back to the server, for its next request. */
function again(server: Server, socket: Duplex, head: Buffer): void {
  if (head.length > 0) socket.unshift(head);
  setImmediate(() => server.emit("connection", socket));
}

function unauthorized(challenges: readonly string[], { chunked, closes }: ScriptedProxyOptions): string {
  const lines = challenges.map((challenge) => `Proxy-Authenticate: ${challenge}\r\n`).join("");
  const connection = closes === true ? "Connection: close\r\n" : "";
  const body =
    chunked === true ? "Transfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n" : "Content-Length: 4\r\n\r\npage";
  return `HTTP/1.1 407 Proxy Authentication Required\r\n${lines}${connection}${body}`;
}

function offer(scheme: Scheme): string {
  switch (scheme) {
    case "Basic":
      return 'Basic realm="test"';
    case "Digest":
      return `Digest realm="test", nonce="${NONCE}", qop="auth", algorithm=MD5`;
    case "DigestSha256":
      return `Digest realm="test", nonce="${NONCE}", qop="auth", algorithm=SHA-256`;
    case "NTLM":
    case "Negotiate":
      return scheme;
  }
}

function isBasic(credentials: string, { user, password }: Account): boolean {
  return Buffer.from(credentials, "base64").toString() === `${user}:${password}`;
}

function isDigest(credentials: string, { user, password }: Account, method: string): boolean {
  const fields = new Map(
    [...credentials.matchAll(/(\w+)=(?:"([^"]*)"|([^, ]*))/g)].map(([, name, a, b]) => [name, a ?? b]),
  );
  const field = (name: string) => fields.get(name) ?? "";
  const hash = field("algorithm") === "SHA-256" ? "sha256" : "md5";
  const digest = (...parts: string[]) => createHash(hash).update(parts.join(":")).digest("hex");
  const [secret, target] = [digest(user, "test", password), digest(method, field("uri"))];
  const expected = digest(secret, NONCE, field("nc"), field("cnonce"), "auth", target);
  return field("username") === user && field("nonce") === NONCE && field("response") === expected;
}

function ntlmChallenge(): string {
  const target = Buffer.concat([Buffer.from([2, 0, 8, 0]), Buffer.from("TEST", "utf16le"), Buffer.alloc(4)]);
  const head = Buffer.alloc(48);
  head.write("NTLMSSP\0", "latin1");
  head.writeUInt32LE(2, 8);
  randomBytes(8).copy(head, 24);
  head.writeUInt16LE(target.length, 40);
  head.writeUInt32LE(48, 44);
  return Buffer.concat([head, target]).toString("base64");
}

/** Checks NTLMv2. Its computation is tested with the published example. */
function isNtlm(challenge: string, credentials: string, account: Account): boolean {
  const message = Buffer.from(credentials, "base64");
  const server = parseNtlmChallenge(challenge);
  if (server === undefined || message.length < 64 || message.readUInt32LE(8) !== 3) return false;
  const field = (at: number) => {
    const offset = message.readUInt32LE(at + 4);
    return message.subarray(offset, offset + message.readUInt16LE(at));
  };
  const [nt, domain, user] = [field(20), field(28).toString("utf16le"), field(36).toString("utf16le")];
  const key = responseKey(user, account.password, domain);
  const expected = ntResponse(key, server, nt.subarray(32, 40), nt.subarray(24, 32));
  const name = domain === "" ? user : `${domain}\\${user}`;
  return name === account.user && nt.length === expected.length && timingSafeEqual(nt, expected);
}

/** Connects to a destination by a name of this proxy, or to 127.0.0.1. */
function reach(authority: string, { names = {} }: ScriptedProxyOptions): Socket {
  const { host, digits = "" } = splitHostPort(authority);
  return connect(names[host] ?? names[authority] ?? Number(digits), "127.0.0.1");
}

/** Starts a SOCKS 5 proxy that wants a password if there is an account, and takes SOCKS 4a too. */
export async function socksProxy(
  context: Context,
  options: Pick<ScriptedProxyOptions, "account" | "names"> = {},
): Promise<ScriptedProxy> {
  const log: string[] = [];
  let [wrong, connections] = [0, 0];
  const server = await listen((socket) => {
    connections += 1;
    void serveSocks(socket, { ...options, log, onWrong: () => (wrong += 1) }).catch(() => socket.destroy());
  });
  context.after(() => server.close());
  return { port: server.port, log, wrong: () => wrong, connections: () => connections, close: () => server.close() };
}

async function serveSocks(
  socket: Socket,
  options: Pick<ScriptedProxyOptions, "account" | "names"> & { readonly log: string[]; readonly onWrong: () => void },
): Promise<void> {
  const { account, log } = options;
  const take = (count: number) => taken(socket, count);
  const [version = 0, count = 0] = await take(2);
  if (version === 4) {
    const rest = await take(6);
    let text = "";
    for (let zeros = 0; zeros < 2; ) {
      const octet = (await take(1)).toString("latin1");
      if (octet === "\0") zeros += 1;
      text += octet;
    }
    const [user = "", name = ""] = text.split("\0");
    log.push(`4a ${name}:${rest.readUInt16BE(0)}${user === "" ? "" : ` ${user}`}`);
    tunnel(socket, reach(`${name}:${rest.readUInt16BE(0)}`, options), Buffer.from([0, 90, 0, 0, 0, 0, 0, 0]));
    return;
  }
  const methods = await take(count);
  const method = account === undefined ? 0 : 2;
  socket.write(Uint8Array.of(5, methods.includes(method) ? method : 0xff));
  if (!methods.includes(method)) return;
  if (account !== undefined) {
    const [, length = 0] = await take(2);
    const user = (await take(length)).toString();
    const password = (await take((await take(1)).readUInt8(0))).toString();
    const isRight = user === account.user && password === account.password;
    if (!isRight) options.onWrong();
    socket.write(Uint8Array.of(1, isRight ? 0 : 1));
    if (!isRight) return;
  }
  const [, , , type] = await take(4);
  const host = type === 3 ? (await take((await take(1)).readUInt8(0))).toString() : [...(await take(4))].join(".");
  const port = (await take(2)).readUInt16BE(0);
  log.push(`5 ${host}:${port}`);
  tunnel(socket, reach(`${host}:${port}`, options), Buffer.from([5, 0, 0, 1, 127, 0, 0, 1, 0, 0]));
}

function tunnel(socket: Socket, there: Socket, reply: Uint8Array): void {
  there.on("connect", () => {
    socket.write(reply);
    socket.pipe(there).pipe(socket);
  });
  there.on("error", () => socket.destroy());
  socket.on("close", () => there.destroy());
}

async function taken(socket: Socket, count: number): Promise<Buffer> {
  for (;;) {
    const octets: Buffer | null = count === 0 ? Buffer.alloc(0) : socket.read(count);
    if (octets !== null) return octets;
    await new Promise<void>((resolve, reject) => {
      socket.once("readable", resolve);
      socket.once("close", () => reject(new Error("closed")));
    });
  }
}
