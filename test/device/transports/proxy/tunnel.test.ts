/** Connecting through proxies over real sockets: authentication, chains, TLS, errors. */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { DeviceError } from "../../../../src/device/device-error.ts";
import { dial } from "../../../../src/device/transports/dial.ts";
import {
  ACCEPTED_TIME,
  type Credentials,
  ProxyAccounts,
  refusedInMemory,
  TRIAL_WAIT,
} from "../../../../src/device/transports/proxy/credentials.ts";
import { parseProxies } from "../../../../src/device/transports/proxy/proxy-url.ts";
import { type TunnelOptions, tunnelDialler } from "../../../../src/device/transports/proxy/tunnel.ts";
import type { ProxyChain, ProxyKind } from "../../../../src/device/transports/transport.ts";
import { sleep } from "../../../../src/lib/runtime/timeout.ts";
import { authority } from "../../../support/certificates.ts";
import { httpProxy, type Scheme, type ScriptedProxyOptions, socksProxy } from "../../../support/proxies.ts";
import { assertNoSecret } from "../../../support/secrets.ts";
import { listen } from "../../../support/sockets.ts";

const OURS = authority();
const ALICE: Credentials = { user: "alice", password: "secret" };
const WRONG: Credentials = { user: "alice", password: "wrong" };

/** A server that speaks first, and answers in capitals. */
async function destination(t: TestContext): Promise<number> {
  const server = await listen((socket) => {
    socket.write("hello ");
    socket.on("data", (octets: Buffer) => socket.write(octets.toString().toUpperCase()));
  });
  t.after(() => server.close());
  return server.port;
}

interface Through extends Partial<TunnelOptions> {
  readonly credentials?: Credentials;
  readonly kind?: ProxyKind;
  readonly secure?: boolean;
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/** Dials edge.example.com:443, a name that only the proxy knows. */
function through(port: number, { credentials, kind = "http", ...options }: Through = {}): Promise<Socket> {
  const host = "127.0.0.1";
  const accounts = new ProxyAccounts(credentials && [{ host, port, credentials }], refusedInMemory());
  return dialThrough([{ kind, host, port }], { accounts, ...options });
}

function dialThrough(chain: ProxyChain, { secure, timeout, signal, ...options }: Through): Promise<Socket> {
  const dialler = tunnelDialler(chain, { source: "a test", accounts: new ProxyAccounts(), ...options });
  return dial({ host: "edge.example.com", port: 443, dialler, secure, ca: OURS.ca, timeout, signal });
}

async function exchange(socket: Socket): Promise<string> {
  socket.write("world");
  let text = "";
  for await (const octets of socket) {
    text += octets;
    if (text.length >= 11) break;
  }
  socket.destroy();
  return text;
}

async function failure(dialling: Promise<Socket>): Promise<DeviceError> {
  const error = await dialling.then(
    (socket) => {
      socket.destroy();
      return undefined;
    },
    (error: unknown) => error,
  );
  assert.ok(error instanceof DeviceError, String(error));
  return error;
}

async function proxyTo(t: TestContext, options: ScriptedProxyOptions = {}) {
  const names = { "edge.example.com": await destination(t) };
  return httpProxy(t, { names, ...options });
}

describe("a tunnel through an HTTP proxy", () => {
  it("carries bytes both ways, also those that the other end sends at once", async (t) => {
    const proxy = await proxyTo(t);
    assert.equal(await exchange(await through(proxy.port)), "hello WORLD");
    assert.deepEqual(proxy.log, ["CONNECT edge.example.com:443"]);
  });

  it("carries TLS, to proxies reached by TLS too", async (t) => {
    const server = createTlsServer(OURS, (socket) => socket.end("inside"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.close());
    const { port } = server.address() as { port: number };
    const proxy = await httpProxy(t, { names: { "127.0.0.1:443": port }, tls: OURS });
    const chain = [{ kind: "https", host: "127.0.0.1", port: proxy.port }] as const;
    const accounts = new ProxyAccounts();
    const dialler = tunnelDialler(chain, { source: "a test", accounts, ca: OURS.ca });
    const socket = await dial({ host: "127.0.0.1", port: 443, secure: true, ca: OURS.ca, dialler });
    let text = "";
    for await (const octets of socket) text += octets;
    assert.equal(text, "inside");
  });

  const ALL: readonly Scheme[] = ["Basic", "Digest", "DigestSha256", "NTLM"];
  for (const scheme of ALL) {
    for (const how of [{}, { chunked: true }, ...(scheme === "NTLM" ? [] : [{ closes: true }])]) {
      it(`logs in by ${scheme} ${JSON.stringify(how)}`, async (t) => {
        const proxy = await proxyTo(t, { schemes: [scheme], ...how });
        assert.equal(await exchange(await through(proxy.port, { credentials: ALICE })), "hello WORLD");
        assert.equal(proxy.wrong(), 0);
        assert.equal(proxy.connections(), "closes" in how ? 2 : 1);
      });
    }
  }

  it("uses the strongest scheme offered", async (t) => {
    const used = async (...schemes: readonly Scheme[]) => {
      const proxy = await proxyTo(t, { schemes });
      (await through(proxy.port, { credentials: ALICE })).destroy();
      return proxy.log.at(-1)?.split(" ").at(-1);
    };
    assert.equal(await used("Basic", "Digest"), "Digest");
    assert.equal(await used("Basic", "Digest", "NTLM"), "NTLM");
    assert.equal(await used("NTLM", "Basic", "DigestSha256"), "Digest");
  });

  it("uses Kerberos where there is a ticket, and else what comes next", async (t) => {
    const proxy = await proxyTo(t, { schemes: ["Negotiate", "NTLM"] });
    const hosts: string[] = [];
    const negotiate = async (host: string) => {
      hosts.push(host);
      return async () => "ticket";
    };
    (await through(proxy.port, { negotiate })).destroy();
    assert.deepEqual([hosts, proxy.log.at(-1)], [["127.0.0.1"], "CONNECT edge.example.com:443 Negotiate"]);
    (await through(proxy.port, { credentials: ALICE, negotiate: async () => undefined })).destroy();
    assert.match(proxy.log.at(-1) ?? "", /NTLM$/);
  });

  it("logs in where the proxy closes the connection after a 407 without a word", async (t) => {
    let asked = 0;
    const closing = await listen((socket) => {
      socket.once("data", (octets) => {
        asked += 1;
        if (octets.includes("Proxy-Authorization")) socket.write("HTTP/1.1 200 OK\r\n\r\nhello");
        else socket.end('HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="a"\r\nContent-Length: 0\r\n\r\n');
      });
    });
    t.after(() => closing.close());
    (await through(closing.port, { credentials: ALICE })).destroy();
    assert.ok(asked >= 2);
  });

  it("keeps what came before the end of the connection, also while a ticket was waited for", async (t) => {
    const proxy = await listen((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 407 Who\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n");
        setTimeout(() => socket.end("HTTP/1.1 200 OK\r\n\r\nbye"), 10);
      });
    });
    t.after(() => proxy.close());
    const negotiate = async () => async () => {
      await sleep(200);
      return "ticket";
    };
    let text = "";
    for await (const octets of await through(proxy.port, { negotiate })) text += octets;
    assert.equal(text, "bye");
  });

  it("goes on with the password where the ticket is refused, which says nothing about the password", async (t) => {
    const negotiate = async () => async () => "expired";
    const both = await proxyTo(t, { schemes: ["Negotiate", "NTLM"] });
    assert.equal(await exchange(await through(both.port, { credentials: ALICE, negotiate })), "hello WORLD");
    const only = await proxyTo(t, { schemes: ["Negotiate"] });
    const host = "127.0.0.1";
    const accounts = new ProxyAccounts([{ host, port: only.port, credentials: ALICE }], refusedInMemory());
    const refused = await failure(dialThrough([{ kind: "http", host, port: only.port }], { accounts, negotiate }));
    assert.equal(refused.code, "ProxyNeedsCredentials");
    assert.equal(accounts.isRefused({ host, port: only.port }, ALICE), false);
    const without = await failure(through(only.port, { negotiate }));
    assert.match(without.message, /refuses the Kerberos ticket of this user: get a new one \(kinit\)/);
  });

  it("does not wait for Kerberos that does not answer", async (t) => {
    const proxy = await proxyTo(t, { schemes: ["Negotiate"] });
    const never = () => new Promise<never>(() => undefined);
    for (const negotiate of [never, async () => never]) {
      assert.equal((await failure(through(proxy.port, { negotiate, timeout: 200 }))).code, "ProxyNeedsCredentials");
      const abort = new AbortController();
      const dialling = through(proxy.port, { negotiate, signal: abort.signal });
      setTimeout(() => abort.abort(new Error("enough")), 100);
      await assert.rejects(dialling, /enough/);
    }
  });

  it("never falls back to Basic", async (t) => {
    for (const schemes of [
      ["Negotiate", "Basic"],
      ["Digest", "Basic"],
      ["NTLM", "Basic"],
    ] as const) {
      const proxy = await proxyTo(t, { schemes });
      const error = await failure(through(proxy.port, { credentials: WRONG, negotiate: async () => undefined }));
      assert.match(error.code, /^ProxyNeedsCredentials$|^ProxyRefusesCredentials$/);
      assert.doesNotMatch(proxy.log.join(), /Basic/);
    }
  });

  it("names a proxy that wants credentials, and one that refuses them", async (t) => {
    const proxy = await proxyTo(t, { schemes: ["NTLM", "Basic"] });
    const needs = await failure(through(proxy.port));
    assert.equal(needs.code, "ProxyNeedsCredentials");
    assert.match(needs.message, /^the proxy http:\/\/127\.0\.0\.1:\d+ \(from a test\) requires .* \(ntlm, basic\): /);
    for (const scheme of ALL) {
      const other = await proxyTo(t, { schemes: [scheme] });
      const refuses = await failure(through(other.port, { credentials: WRONG }));
      assert.equal(refuses.code, "ProxyRefusesCredentials");
      assert.doesNotMatch(`${refuses.message} ${refuses.stack}`, /wrong/);
      assert.equal(other.wrong(), 1, scheme);
    }
  });

  it("names a proxy that does not connect there, does not answer, or is none", async (t) => {
    const refusing = await proxyTo(t, { refuses: 403 });
    const refused = await failure(through(refusing.port));
    assert.equal(refused.code, "ProxyRefuses");
    assert.match(refused.message, /refuses to connect to edge\.example\.com:443: it answered 403 Forbidden/);
    const silent = await listen((socket) => socket.resume());
    const closing = await listen((socket) => socket.end());
    const other = await listen((socket) => socket.end("220 mail.example.com ESMTP\r\n\r\n"));
    for (const server of [silent, closing, other]) t.after(() => server.close());
    const late = await failure(through(silent.port, { timeout: 100 }));
    assert.match(late.message, /did not connect to edge\.example\.com:443 within 100 ms/);
    for (const { port } of [closing, other]) {
      const error = await failure(through(port));
      assert.equal(error.code, "ProxyFailed");
      assert.match(error.message, /does not answer as a proxy/);
    }
    await closing.close();
    const gone = await failure(through(closing.port));
    assert.equal(gone.code, "ConnectFailed");
    assert.match(gone.message, /^the proxy http:\/\/127\.0\.0\.1:\d+ \(from a test\) cannot be used: .*ECONNREFUSED/);
  });

  it("does not repeat what a proxy says, which may be what it has heard", async (t) => {
    const answers = [
      (heard: string) => `HTTP/1.1 403 ${heard}\r\n\r\n`,
      (heard: string) => `HTTP/1.1 407 ${heard}\r\nProxy-Authenticate: ${heard} realm="a"\r\n\r\n`,
      (heard: string) => `HTTP/1.1 200 OK\r\n${heard}: \x01\r\n\r\n`,
      (heard: string) => `${heard}\r\n\r\n`,
    ];
    for (const answer of answers) {
      const echo = await listen((socket) => {
        socket.on("data", (octets) => {
          const [, heard] = /Proxy-Authorization: Basic (\S+)/.exec(octets.toString("latin1")) ?? [];
          if (heard !== undefined) socket.end(answer(heard));
          else socket.write('HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="a"\r\nContent-Length: 0\r\n\r\n');
        });
      });
      t.after(() => echo.close());
      const password = "correct horse battery";
      const { message, stack } = await failure(through(echo.port, { credentials: { user: "alice", password } }));
      assertNoSecret(`${message} ${stack}`, password);
    }
  });

  it("ends when it is aborted, and leaves no connection", async (t) => {
    const silent = await listen((socket) => socket.resume().on("end", () => socket.end()));
    t.after(() => silent.close());
    const abort = new AbortController();
    const dialling = through(silent.port, { signal: abort.signal });
    while (silent.connections.size === 0) await new Promise((resolve) => setImmediate(resolve));
    const [connection] = silent.connections;
    const closed = new Promise((resolve) => connection?.once("close", resolve));
    abort.abort(new Error("enough"));
    await assert.rejects(dialling, /enough/);
    await closed;
  });
});

describe("a password", () => {
  it("that was refused is sent once, by all connections together, also later", async (t) => {
    const proxy = await proxyTo(t, { schemes: ["Basic"] });
    const host = "127.0.0.1";
    const memory = refusedInMemory();
    const accounts = () => new ProxyAccounts([{ host, port: proxy.port, credentials: WRONG }], memory);
    const [one, later] = [accounts(), accounts()];
    const chain = [{ kind: "http", host, port: proxy.port }] as const;
    const errors = await Promise.all([1, 2, 3].map(() => failure(dialThrough(chain, { accounts: one }))));
    errors.push(await failure(dialThrough(chain, { accounts: later })));
    assert.deepEqual(new Set(errors.map(({ code }) => code)), new Set(["ProxyRefusesCredentials"]));
    assert.equal(proxy.wrong(), 1);
    const right = new ProxyAccounts([{ host, port: proxy.port, credentials: ALICE }], memory);
    assert.equal(await exchange(await dialThrough(chain, { accounts: right })), "hello WORLD");
  });

  it("that is right serves many connections at once", async (t) => {
    const proxy = await proxyTo(t, { schemes: ["NTLM"] });
    const host = "127.0.0.1";
    const accounts = new ProxyAccounts([{ host, port: proxy.port, credentials: ALICE }], refusedInMemory());
    const chain = [{ kind: "http", host, port: proxy.port }] as const;
    const texts = await Promise.all(
      Array.from({ length: 8 }, async () => exchange(await dialThrough(chain, { accounts }))),
    );
    assert.deepEqual(new Set(texts), new Set(["hello WORLD"]));
  });

  it("that was right some time ago is tried by one connection before others use it", async (t) => {
    const proxy = { host: "proxy.example.com", port: 3128 };
    const accounts = new ProxyAccounts([{ ...proxy, credentials: ALICE }], refusedInMemory());
    const { signal } = new AbortController();
    let now = 0;
    t.mock.method(performance, "now", () => now);
    (await accounts.begin(proxy, ALICE, signal))?.accepted();
    assert.ok(await accounts.begin(proxy, ALICE, signal));
    now = ACCEPTED_TIME;
    assert.equal(accounts.isAccepted(proxy, ALICE), false);
    const [first, second] = [accounts.begin(proxy, ALICE, signal), accounts.begin(proxy, ALICE, signal)];
    (await first)?.refused();
    assert.equal(await second, undefined);
  });

  it("that is wrong is sent once by several devices of a program", async (t) => {
    const proxy = await proxyTo(t, { schemes: ["Basic"] });
    const host = "127.0.0.1";
    const memory = refusedInMemory();
    const chain = [{ kind: "http", host, port: proxy.port }] as const;
    const account = { host, port: proxy.port, credentials: WRONG };
    const devices = [1, 2, 3].map(() => new ProxyAccounts([account], memory));
    const errors = await Promise.all(devices.map((accounts) => failure(dialThrough(chain, { accounts }))));
    assert.deepEqual(new Set(errors.map(({ code }) => code)), new Set(["ProxyRefusesCredentials"]));
    assert.equal(proxy.wrong(), 1);
  });

  it("that a proxy does not judge is tried by two connections at most", async (t) => {
    let tried = 0;
    const tarpit = await listen((socket) => {
      socket.on("data", (octets) => {
        if (octets.includes("Proxy-Authorization")) tried += 1;
        else socket.write('HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="a"\r\nContent-Length: 0\r\n\r\n');
      });
    });
    t.after(() => tarpit.close());
    const host = "127.0.0.1";
    const accounts = new ProxyAccounts([{ host, port: tarpit.port, credentials: WRONG }], refusedInMemory());
    const chain = [{ kind: "http", host, port: tarpit.port }] as const;
    const abort = new AbortController();
    const dialling = [1, 2, 3, 4, 5].map(() => dialThrough(chain, { accounts, signal: abort.signal }));
    const ended = Promise.allSettled(dialling);
    await sleep(3.5 * TRIAL_WAIT);
    assert.equal(tried, 2);
    abort.abort();
    await ended;
  });

  it("that was written for a proxy over TLS does not go to the same host and port without", async (t) => {
    const proxy = await proxyTo(t, { schemes: ["Basic"] });
    const { accounts: written } = parseProxies(`https://alice:secret@127.0.0.1:${proxy.port}`, "a test");
    const accounts = new ProxyAccounts(written, refusedInMemory());
    const chain = [{ kind: "http", host: "127.0.0.1", port: proxy.port }] as const;
    assert.equal((await failure(dialThrough(chain, { accounts }))).code, "ProxyNeedsCredentials");
    assert.equal(accounts.find({ kind: "socks5", host: "127.0.0.1", port: proxy.port }), undefined);
    assert.deepEqual(accounts.find({ kind: "https", host: "127.0.0.1", port: proxy.port }), ALICE);
    assert.doesNotMatch(proxy.log.join(), /Basic/);
  });

  it("goes to no other proxy", async (t) => {
    const proxy = await proxyTo(t, { schemes: ["Basic"] });
    const accounts = new ProxyAccounts([{ host: "127.0.0.1", port: proxy.port + 1, credentials: ALICE }]);
    const chain = [{ kind: "http", host: "127.0.0.1", port: proxy.port }] as const;
    assert.equal((await failure(dialThrough(chain, { accounts }))).code, "ProxyNeedsCredentials");
    assert.deepEqual(proxy.log, ["CONNECT edge.example.com:443"]);
  });
});

describe("a tunnel through a SOCKS proxy", () => {
  it("resolves names there, by both versions, with a password where one is wanted", async (t) => {
    const names = { "edge.example.com": await destination(t) };
    const [open, closed] = [await socksProxy(t, { names }), await socksProxy(t, { names, account: ALICE })];
    assert.equal(await exchange(await through(open.port, { kind: "socks5" })), "hello WORLD");
    assert.equal(await exchange(await through(open.port, { kind: "socks4", credentials: ALICE })), "hello WORLD");
    assert.deepEqual(open.log, ["5 edge.example.com:443", "4a edge.example.com:443 alice"]);
    assert.equal(await exchange(await through(closed.port, { kind: "socks5", credentials: ALICE })), "hello WORLD");
    assert.equal((await failure(through(closed.port, { kind: "socks5" }))).code, "ProxyNeedsCredentials");
    const refused = await failure(through(closed.port, { kind: "socks5", credentials: WRONG }));
    assert.equal(refused.code, "ProxyRefusesCredentials");
    assert.equal(closed.wrong(), 1);
  });

  it("sends a password once to a proxy that closes the connection for an answer", async (t) => {
    let tried = 0;
    const closing = await listen((socket) => {
      socket.on("data", ([version]) => {
        if (version === 5) socket.write(Uint8Array.of(5, 2));
        else {
          tried += 1;
          socket.end();
        }
      });
    });
    t.after(() => closing.close());
    const host = "127.0.0.1";
    const accounts = new ProxyAccounts([{ host, port: closing.port, credentials: WRONG }], refusedInMemory());
    for (let times = 0; times < 2; times += 1) {
      const error = await failure(dialThrough([{ kind: "socks5", host, port: closing.port }], { accounts }));
      assert.equal(error.code, "ProxyRefusesCredentials");
    }
    assert.equal(tried, 1);
  });

  it("says that a proxy takes no password, if one is given", async (t) => {
    const other = await listen((socket) => socket.once("data", () => socket.end(Uint8Array.of(5, 0xff))));
    t.after(() => other.close());
    const error = await failure(through(other.port, { kind: "socks5", credentials: ALICE }));
    assert.equal(error.code, "ProxyNeedsCredentials");
    assert.match(error.message, /does not take a user name and password/);
  });

  it("does not take a password for accepted that the proxy did not ask for", async (t) => {
    const open = await socksProxy(t, { names: { "edge.example.com": await destination(t) } });
    const proxy = { kind: "socks5", host: "127.0.0.1", port: open.port } as const;
    const accounts = new ProxyAccounts([{ ...proxy, credentials: ALICE }], refusedInMemory());
    (await dialThrough([proxy], { accounts })).destroy();
    assert.equal(accounts.isAccepted(proxy, ALICE), false);
  });

  it("names a proxy of another kind", async (t) => {
    const proxy = await proxyTo(t);
    assert.equal((await failure(through(proxy.port, { kind: "socks5" }))).code, "ProxyFailed");
  });
});

describe("a chain of proxies", () => {
  it("is passed from the nearest to the last, each with its own credentials", async (t) => {
    const names = { "edge.example.com": await destination(t) };
    const last = await httpProxy(t, { names, schemes: ["NTLM"], account: { user: "bob", password: "other" } });
    const first = await httpProxy(t, { names: { "inner.example.com": last.port }, schemes: ["Digest"], closes: true });
    const accounts = new ProxyAccounts(
      [
        { host: "127.0.0.1", port: first.port, credentials: ALICE },
        { host: "inner.example.com", port: 3128, credentials: { user: "bob", password: "other" } },
      ],
      refusedInMemory(),
    );
    const chain: ProxyChain = [
      { kind: "http", host: "127.0.0.1", port: first.port },
      { kind: "http", host: "inner.example.com", port: 3128 },
    ];
    assert.equal(await exchange(await dialThrough(chain, { accounts })), "hello WORLD");
    assert.deepEqual(new Set(last.log), new Set(["CONNECT edge.example.com:443", "CONNECT edge.example.com:443 NTLM"]));
  });

  it("may mix kinds, and an error names the proxy that failed", async (t) => {
    const names = { "edge.example.com": await destination(t) };
    const last = await httpProxy(t, { names, refuses: 403 });
    const first = await socksProxy(t, { names: { "inner.example.com": last.port } });
    const chain: ProxyChain = [
      { kind: "socks5", host: "127.0.0.1", port: first.port },
      { kind: "http", host: "inner.example.com", port: 3128 },
    ];
    const error = await failure(dialThrough(chain, {}));
    assert.match(error.message, /^the proxy http:\/\/inner\.example\.com:3128 .* refuses to connect to edge/);
    assert.deepEqual(first.log, ["5 inner.example.com:3128"]);
  });
});
