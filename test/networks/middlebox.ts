/** Scripted boxes, each a program for a router: `middlebox.ts KIND EDGE [KEY CERTIFICATE]`. */
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { connect, createServer as createRawServer, type Socket } from "node:net";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";

const [kind = "", edge = "", key = "", certificate = ""] = process.argv.slice(2);

/** How long the cutting box lets a connection live, in milliseconds. */
const LIFE = 20_000;

/** Headers of one connection, which no proxy forwards [RFC 9110 7.6.1]. */
const HOP_BY_HOP = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/** What a proxy that admits only what it knows lets through. */
const KNOWN = ["host", "content-length", "content-type", "authorization", "accept", "user-agent", "cache-control"];

type Headers = [string, string][];

function headersOf({ rawHeaders }: IncomingMessage): Headers {
  const headers: Headers = [];
  for (let i = 0; i < rawHeaders.length; i += 2) headers.push([rawHeaders[i] ?? "", rawHeaders[i + 1] ?? ""]);
  return headers;
}

/** The headers that the box passes on. */
function passed(message: IncomingMessage): Headers {
  const headers = headersOf(message).filter(([name]) => !HOP_BY_HOP.includes(name.toLowerCase()));
  if (kind === "strip-headers") return headers.filter(([name]) => KNOWN.includes(name.toLowerCase()));
  if (kind === "add-headers") headers.push(["Via", "1.1 box (Box/1.0)"], ["X-Scanned-By", "box"], ["Age", "0"]);
  return headers;
}

function forward(incoming: IncomingMessage, response: ServerResponse): void {
  const { method, url } = incoming;
  const outgoing = request({ host: edge, port: 80, method, path: url, agent: false, setHost: false });
  for (const [name, value] of passed(incoming)) outgoing.appendHeader(name, value);
  outgoing.on("response", (answer) => {
    response.sendDate = false;
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, passed(answer));
    response.flushHeaders();
    answer.pipe(response);
    answer.on("error", () => response.destroy());
  });
  outgoing.on("error", () => response.destroy());
  response.on("close", () => outgoing.destroy());
  outgoing.flushHeaders();
  incoming.pipe(outgoing);
}

function pathOf({ url = "" }: IncomingMessage): string {
  return new URL(url, "http://edge.test").pathname;
}

/** Answers with the page of a filter. */
function forbid(incoming: IncomingMessage, response: ServerResponse): void {
  incoming.resume();
  response.writeHead(403, { "Content-Type": "text/html" }).end("<title>Access denied</title>");
}

/** Copies both ways until either side ends. */
function join(client: Socket, server: Socket): void {
  for (const [from, to] of [
    [client, server],
    [server, client],
  ] as const) {
    from.pipe(to);
    from.on("error", () => to.destroy());
    from.on("close", () => to.destroy());
  }
}

/** An HTTP proxy in front of the edge, which obstructs as its kind says. */
function httpBox(): void {
  const server = createServer((incoming, response) => {
    // It takes the body, and does nothing with it: neither an answer nor an error comes.
    if (kind === "hold-post" && incoming.method === "POST") incoming.resume();
    else if (kind === "only-root" && pathOf(incoming) !== "/") forbid(incoming, response);
    else forward(incoming, response);
  });
  // As nginx: longer than Node's 5 s.
  server.keepAliveTimeout = 75_000;
  server.on("upgrade", (incoming, client: Socket) => {
    client.on("error", () => client.destroy());
    if (kind === "only-root") {
      client.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    } else if (kind === "redirect-upgrade") {
      client.end("HTTP/1.1 302 Found\r\nLocation: http://proxy.test/denied\r\nContent-Length: 0\r\n\r\n");
    } else if (kind === "page-for-upgrade") {
      const page = "<title>Access denied</title>";
      client.end(`HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: ${page.length}\r\n\r\n${page}`);
    } else {
      const upstream = connect({ host: edge, port: 80 });
      upstream.write(`${incoming.method} ${incoming.url} HTTP/1.1\r\n`);
      const upgrading: Headers = [
        ["Connection", "Upgrade"],
        ["Upgrade", String(incoming.headers.upgrade)],
      ];
      const headers = [
        ...headersOf(incoming).filter(([name]) => /^(host|authorization|sec-)/i.test(name)),
        ...upgrading,
      ];
      upstream.write(`${headers.map(([name, value]) => `${name}: ${value}`).join("\r\n")}\r\n\r\n`);
      join(client, upstream);
    }
  });
  server.listen(80, "::", () => console.log("listening"));
}

/** A proxy of HTTP/1.0: one request per connection, and both sides are told so. */
function oldBox(): void {
  const server = createRawServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ host: edge, port: 80, allowHalfOpen: true });
    rewriteHead(client, upstream, (line) => line.replace(/HTTP\/1\.1$/, "HTTP/1.0"));
    rewriteHead(upstream, client, (line) => line.replace(/^HTTP\/1\.1/, "HTTP/1.0"));
  });
  server.listen(80, "::", () => console.log("listening"));
}

/** Copies one HTTP message, with its first line rewritten and its headers of the connection replaced. */
function rewriteHead(from: Socket, to: Socket, rewrite: (line: string) => string): void {
  let head = Buffer.alloc(0);
  const onData = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    from.off("data", onData);
    const [line = "", ...headers]: string[] = head.subarray(0, end).toString("latin1").split("\r\n");
    const kept = headers.filter((header) => !/^(connection|keep-alive|upgrade):/i.test(header));
    to.write(`${[rewrite(line), ...kept, "Connection: close"].join("\r\n")}\r\n\r\n`, "latin1");
    to.write(head.subarray(end + 4));
    from.pipe(to);
  };
  from.on("data", onData);
  from.on("error", () => to.destroy());
  from.on("close", () => to.destroy());
}

/** A firewall that passes connections on and cuts each after a while. */
function cuttingBox(): void {
  for (const port of [80, 443, 2492]) {
    const server = createRawServer((client) => {
      join(client, connect({ host: edge, port }));
      setTimeout(() => client.resetAndDestroy(), LIFE).unref();
    });
    server.listen(port, "::", () => console.log(`listening on ${port}`));
  }
}

/** A network whose login page answers everything, over TLS with a certificate of its own. */
function captivePortal(answer: (response: ServerResponse) => void): void {
  // Node gives a request to upgrade to the same listener, as there is none for upgrades.
  const listener = (incoming: IncomingMessage, response: ServerResponse) => {
    incoming.resume();
    answer(response);
  };
  const secure = createSecureServer({ key: readFileSync(key), cert: readFileSync(certificate) }, listener);
  createServer(listener).listen(80, "::", () => console.log("listening on 80"));
  secure.listen(443, "::", () => console.log("listening on 443"));
}

/** Takes TLS off, and puts it on again towards the edge. */
function inspectingBox(): void {
  const options = { key: readFileSync(key), cert: readFileSync(certificate) };
  const server = createTlsServer(options, (client) => {
    // What is behind the inspector is its own business: it does not hand on what it thinks of the edge's certificate.
    join(client, connectTls({ host: edge, port: 443, servername: "edge.test", rejectUnauthorized: false }));
  });
  server.on("tlsClientError", () => undefined);
  server.listen(443, "::", () => console.log("listening"));
}

/** Takes TLS off in front of an edge without it. */
function tlsBox(): void {
  const options = { key: readFileSync(key), cert: readFileSync(certificate) };
  const server = createTlsServer(options, (client) => join(client, connect({ host: edge, port: 80 })));
  server.on("tlsClientError", () => undefined);
  server.listen(443, "::", () => console.log("listening"));
}

switch (kind) {
  case "tls":
    tlsBox();
    break;
  case "inspect":
    inspectingBox();
    break;
  case "cut":
    cuttingBox();
    break;
  case "http-1.0":
    oldBox();
    break;
  case "portal-redirect":
    captivePortal((response) => response.writeHead(302, { Location: "http://portal.test/login" }).end());
    break;
  case "portal-page":
    captivePortal((response) =>
      response.writeHead(200, { "Content-Type": "text/html" }).end("<html><title>Welcome to the hotel</title></html>"),
    );
    break;
  case "redirect-upgrade":
  case "page-for-upgrade":
  case "hold-post":
  case "only-root":
  case "strip-headers":
  case "add-headers":
    httpBox();
    break;
  default:
    throw new Error(`no such box: ${kind}`);
}
