/** The TLS handshake: what is sent to the server, and how failures are reported. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { createServer, type TLSSocket, type TlsOptions } from "node:tls";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { DeviceError } from "../../../src/device/device-error.ts";
import { type Dialler, type DialOptions, dial } from "../../../src/device/transports/dial.ts";
import { authority, selfSigned } from "../../support/certificates.ts";
import { listen } from "../../support/sockets.ts";

const OURS = authority();
const OTHERS = authority();
const PROGRAM = fileURLToPath(new URL("programs/trust-system.ts", import.meta.url));

/** A TLS server on any port, and what its connections have received. */
async function tlsServer(t: TestContext, options: TlsOptions): Promise<{ port: number; connections: TLSSocket[] }> {
  const connections: TLSSocket[] = [];
  const server = createServer(options, (socket) => {
    connections.push(socket);
    socket.on("error", () => undefined);
    socket.end("hello");
  });
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { port: address.port, connections };
}

/** Connects to a port of this machine, whatever the name. */
function always(port: number): Dialler {
  return () => {
    const socket = connect(port, "127.0.0.1");
    return new Promise((resolve) => socket.once("connect", () => resolve(socket)));
  };
}

async function refusal(port: number, options: Partial<DialOptions> = {}): Promise<DeviceError> {
  const error = await dial({ host: "127.0.0.1", port, secure: true, dialler: always(port), ...options }).then(
    (socket) => {
      socket.destroy();
      return undefined;
    },
    (error: unknown) => error,
  );
  assert.ok(error instanceof DeviceError, String(error));
  assert.equal(error.retryable, true);
  return error;
}

async function textOf(socket: Socket): Promise<string> {
  let text = "";
  for await (const octets of socket) text += octets;
  return text;
}

describe("a TLS handshake", () => {
  it("sends the server name, negotiates HTTP/1.1, and uses the given dialler", async (t) => {
    const { port, connections } = await tlsServer(t, { ...OURS, ALPNProtocols: ["h2", "http/1.1"] });
    const options = { host: "localhost", port: 443, secure: true, ca: OURS.ca, dialler: always(port) };
    assert.equal(await textOf(await dial(options)), "hello");
    assert.equal(await textOf(await dial({ ...options, host: "localhost." })), "hello", "a name with a dot at its end");
    assert.equal(await textOf(await dial({ ...options, host: "127.0.0.1" })), "hello", "an address");
    assert.deepEqual(
      connections.map(({ servername, alpnProtocol }) => [servername, alpnProtocol]),
      [
        ["localhost", "http/1.1"],
        ["localhost", "http/1.1"],
        [false, "http/1.1"],
      ],
    );
  });

  it("reports a name mismatch with both names", async (t) => {
    const { port } = await tlsServer(t, OURS);
    for (const host of ["edge.example.com", "192.0.2.1"]) {
      const error = await refusal(port, { host, ca: OURS.ca });
      assert.equal(error.code, "CertificateRefused");
      assert.match(error.message, /certificate is for "127\.0\.0\.1", "localhost", not for /);
      assert.ok(error.message.includes(`not for ${host};`));
    }
  });

  it("reports an unknown authority, and the trusted ones", async (t) => {
    const { port } = await tlsServer(t, OURS);
    const unknown = await refusal(port);
    assert.equal(unknown.code, "CertificateRefused");
    assert.match(
      unknown.message,
      /certificate is from "test authority", which this machine does not trust; give .* --ca/,
    );
    const other = await refusal(port, { ca: OTHERS.ca });
    assert.equal(other.code, "CertificateRefused");
    assert.match(
      other.message,
      /from "test authority", which this machine does not trust, and which is not among those given \("test authority"\)/,
    );
  });

  it("reports a self-signed and an expired certificate", async (t) => {
    const own = selfSigned("127.0.0.1", 2);
    const itself = await refusal((await tlsServer(t, own)).port);
    assert.match(itself.message, /certificate is from "127\.0\.0\.1" itself, which this machine/);
    const past = selfSigned("127.0.0.1", -1);
    const { port } = await tlsServer(t, past);
    const old = await refusal(port, { ca: past.cert });
    assert.equal(old.code, "CertificateRefused");
    assert.match(
      old.message,
      /from "127\.0\.0\.1", valid until "[A-Z][a-z]{2} [^"]+ GMT",.* has expired; this machine's clock says /,
    );
  });

  it("trusts the authorities of Node and of the system, also beside others", async (t) => {
    const { port } = await tlsServer(t, OURS);
    const folder = mkdtempSync(join(tmpdir(), "grooveway-tls-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const [ours, others] = [join(folder, "ours.pem"), join(folder, "others.pem")];
    writeFileSync(ours, OURS.ca);
    writeFileSync(others, OTHERS.ca);
    const run = async (system: string, given: readonly string[] = [], node?: string) => {
      const env = { ...process.env, SSL_CERT_FILE: system, NODE_EXTRA_CA_CERTS: node };
      const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, String(port), ...given], { env });
      return stdout.trim();
    };
    assert.equal(await run(ours), "connected connected");
    assert.equal(await run(ours, [others]), "connected connected");
    assert.equal(await run(others, [ours]), "connected connected");
    assert.equal(await run(others, [others], ours), "connected connected");
    assert.equal(await run(others), "CertificateRefused CertificateRefused");
    assert.equal(await run(others, [others]), "CertificateRefused CertificateRefused");
  });

  it("sends no request to a server it rejects", async (t) => {
    const { port, connections } = await tlsServer(t, OURS);
    await refusal(port);
    assert.deepEqual(connections, []);
  });

  it("reports a server without TLS", async (t) => {
    const server = await listen((socket) => socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")));
    t.after(() => server.close());
    const error = await refusal(server.port);
    assert.equal(error.code, "TlsFailed");
    assert.match(error.message, /does not speak TLS on this port; write http:\/\//);
  });

  it("reports a server that closes, does not speak HTTP/1.1, or is silent", async (t) => {
    const closing = await listen((socket) => socket.once("data", () => socket.end()));
    const silent = await listen((socket) => socket.resume());
    t.after(() => closing.close());
    t.after(() => silent.close());
    const other = await tlsServer(t, { ...OURS, ALPNProtocols: ["h2"] });
    const texts = await Promise.all([
      refusal(closing.port),
      refusal(other.port, { ca: OURS.ca }),
      refusal(silent.port, { timeout: 200 }),
    ]);
    assert.deepEqual(
      texts.map(({ code }) => code),
      ["TlsFailed", "TlsFailed", "TlsFailed"],
    );
    assert.match(texts[0]?.message ?? "", /closed during the handshake; check that the port speaks TLS/);
    assert.match(texts[1]?.message ?? "", /does not accept HTTP\/1\.1/);
    assert.match(texts[2]?.message ?? "", /did not finish within .*although TCP connected.* lower the MTU/);
  });

  it("ends when its signal aborts", async (t) => {
    const silent = await listen((socket) => socket.resume().on("end", () => socket.end()));
    t.after(() => silent.close());
    const abort = new AbortController();
    const dialling = dial({ host: "127.0.0.1", port: silent.port, secure: true, signal: abort.signal });
    while (silent.connections.size === 0) await new Promise((resolve) => setImmediate(resolve));
    abort.abort(new Error("closed"));
    await assert.rejects(dialling, /closed/);
    while (silent.connections.size > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it("escapes control characters in certificate names", async (t) => {
    const { port } = await tlsServer(t, selfSigned("\u001b[2Kroot", 2));
    assert.match((await refusal(port)).message, /from "\\u001b\[2Kroot" itself/);
  });
});
