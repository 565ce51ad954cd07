/** Devices behind proxies: every transport, through every kind of proxy that can carry it. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { Device, DeviceError, type DeviceOptions, Proxies, type TransportName } from "../../src/device/index.ts";
import { startRelay } from "../../src/relay/index.ts";
import { authority } from "../support/certificates.ts";
import { httpProxy, type Scheme, type ScriptedProxyOptions, socksProxy } from "../support/proxies.ts";

const OVER_HTTP = ["websocket", "longlived", "keepalive", "polling"] as const satisfies TransportName[];
const OURS = authority();
const BODY = randomBytes(100_000);

let number = 0;

/** Connects, sends a message to itself and receives it. */
async function roundTrip(options: Omit<DeviceOptions, "address">): Promise<void> {
  number += 1;
  const device = await Device.connect({ ...options, address: `alice/pc${number}` });
  try {
    await device.send(device.address, BODY);
    for await (const message of device.messages()) {
      message.done();
      assert.deepEqual(Buffer.from(message.body), BODY);
      break;
    }
  } finally {
    await device.close();
  }
}

async function failure(options: Omit<DeviceOptions, "address">): Promise<DeviceError> {
  const error = await roundTrip(options).then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(error instanceof DeviceError, String(error));
  return error;
}

for (const scheme of ["http", "https"] as const) {
  describe(`an edge by ${scheme}`, () => {
    let edge: LocalEdge;
    let way: Omit<DeviceOptions, "address">;

    before(async () => {
      edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "1", ...(scheme === "https" && { tls: OURS }) });
      way = { edge: edge.url, ca: OURS.ca };
    });

    after(() => edge.close());

    for (const transport of OVER_HTTP) {
      test(`${transport} goes through an HTTP proxy`, async (t) => {
        const proxy = await httpProxy(t);
        await roundTrip({ ...way, transport, proxy: `http://127.0.0.1:${proxy.port}` });
        const isTunnel = scheme === "https" || transport === "websocket";
        for (const line of proxy.log) {
          assert.ok(
            isTunnel ? line.startsWith("CONNECT 127.0.0.1:") : /^(GET|POST) http:\/\/127\.0\.0\.1:/.test(line),
            line,
          );
        }
        assert.ok(proxy.log.length > 0);
      });

      test(`${transport} goes through SOCKS with a password`, async (t) => {
        const proxy = await socksProxy(t, { account: { user: "a@b", password: "p:/?#" } });
        await roundTrip({ ...way, transport, proxy: `socks5://a%40b:p%3A%2F%3F%23@127.0.0.1:${proxy.port}` });
        assert.ok(proxy.log.every((line) => line.startsWith("5 127.0.0.1:")) && proxy.log.length > 0);
      });

      const schemes: readonly Scheme[] = ["Basic", "DigestSha256", "NTLM"];
      for (const offered of schemes) {
        test(`${transport} logs in to an HTTP proxy by ${offered}`, async (t) => {
          const proxy = await httpProxy(t, { schemes: [offered] });
          await roundTrip({ ...way, transport, proxy: `http://alice:secret@127.0.0.1:${proxy.port}` });
          assert.equal(proxy.wrong(), 0);
        });
      }

      test(`${transport} sends a wrong password once`, async (t) => {
        const proxy = await httpProxy(t, { schemes: ["Digest"] });
        const error = await failure({ ...way, transport, proxy: `http://alice:wrong@127.0.0.1:${proxy.port}` });
        assert.equal(error.code, "ProxyRefusesCredentials");
        assert.equal(proxy.wrong(), 1);
      });

      test(`${transport} names a proxy that wants a password, and one that refuses to connect`, async (t) => {
        const code = async (options: ScriptedProxyOptions) => {
          const proxy = await httpProxy(t, options);
          return (await failure({ ...way, transport, proxy: `http://127.0.0.1:${proxy.port}` })).code;
        };
        assert.equal(await code({ schemes: ["Basic"] }), "ProxyNeedsCredentials");
        const refused = await code({ refuses: 403 });
        assert.equal(refused, scheme === "https" || transport === "websocket" ? "ProxyRefuses" : "NotAnEdge");
      });
    }

    test("a PAC file chooses the proxy, and the next where one is gone", async (t) => {
      const proxy = await httpProxy(t);
      const gone = await httpProxy(t);
      await gone.close();
      const script = `function FindProxyForURL(url, host) {
        if (url !== "${scheme}://127.0.0.1/" || host !== "127.0.0.1") return "DIRECT";
        return "PROXY 127.0.0.1:${gone.port}; PROXY 127.0.0.1:${proxy.port}";
      }`;
      const folder = mkdtempSync(join(tmpdir(), "grooveway-pac-"));
      t.after(() => rmSync(folder, { recursive: true }));
      writeFileSync(`${folder}/proxy.pac`, script);
      await roundTrip({ ...way, transport: "websocket", proxy: `pac+file://${folder}/proxy.pac` });
      assert.ok(proxy.log.length > 0);
    });
  });
}

describe("a relay", () => {
  test("is reached by SSTP through an HTTP proxy and through SOCKS, at 443 or 2492", async (t) => {
    const relay = await startRelay({
      port: 0,
      host: "127.0.0.1",
      names: ["relay.example.com", "relay.example.com:2492"],
    });
    t.after(() => relay.close());
    const relays = { "relay.example.com:2492": relay.port };
    const http = await httpProxy(t, { names: relays, schemes: ["NTLM"] });
    await roundTrip({
      relay: "relay.example.com:2492",
      transport: "connect",
      proxy: `http://alice:secret@127.0.0.1:${http.port}`,
    });
    assert.match(http.log.join("\n"), /^CONNECT relay\.example\.com:/);
    const socks = await socksProxy(t, { names: relays });
    const notices: string[] = [];
    const proxies = new Proxies({
      env: { ALL_PROXY: `socks5h://127.0.0.1:${socks.port}` },
      system: async () => undefined,
      onChoice: (text) => notices.push(text),
    });
    await roundTrip({ relay: "relay.example.com", transport: "socks", proxy: proxies });
    assert.deepEqual(socks.log, ["5 relay.example.com:2492"]);
    assert.deepEqual(notices, [`relay.example.com:2492: socks5://127.0.0.1:${socks.port} (ALL_PROXY)`]);
  });

  test("is reached by SSTP in TLS, directly and through a proxy", async (t) => {
    const relay = await startRelay({ port: 0, host: "127.0.0.1", names: ["localhost"], tls: { ...OURS, port: 0 } });
    t.after(() => relay.close());
    const proxy = await httpProxy(t);
    const way = { relay: `localhost:${relay.tlsPort}`, transport: "tls", ca: OURS.ca } as const;
    await roundTrip(way);
    assert.deepEqual(proxy.log, []);
    await roundTrip({ ...way, proxy: `http://127.0.0.1:${proxy.port}` });
    assert.deepEqual(proxy.log, [`CONNECT localhost:${relay.tlsPort}`]);
    assert.equal((await failure({ relay: way.relay, transport: "tls" })).code, "CertificateRefused");
  });

  test("gets no token in clear through a proxy", async (t) => {
    const proxy = await httpProxy(t);
    const way = { relay: "relay.example.com", transport: "connect", proxy: `http://127.0.0.1:${proxy.port}` } as const;
    const error = await failure({ ...way, token: "a.b.c" });
    assert.equal(error.code, "TokenInClear");
    assert.deepEqual(proxy.log, []);
  });

  test("needs a proxy of the right kind for connect and socks", async (t) => {
    const proxy = await httpProxy(t);
    for (const [transport, proxies] of [
      ["socks", `http://127.0.0.1:${proxy.port}`],
      ["connect", "direct"],
    ] as const) {
      const error = await failure({ relay: "relay.example.com", transport, proxy: proxies });
      assert.equal(error.code, "InvalidOption");
      assert.match(error.message, /needs (an HTTP|a SOCKS) proxy, and none is set/);
    }
  });
});
