/** Where proxies come from, and in which order. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { choiceText, Proxies, type ProxyOptions } from "../../../../src/device/transports/proxy/proxy-settings.ts";
import type { SystemProxies } from "../../../../src/device/transports/proxy/system-settings/system-proxies.ts";
import { authority } from "../../../support/certificates.ts";

const EDGE = { host: "edge.example.com", port: 443, scheme: "https" } as const;

function proxiesOf(options: ProxyOptions, system: SystemProxies = {}): Proxies {
  return new Proxies({
    env: {},
    system: async () => ({ proxies: system, source: "the settings of a test" }),
    ...options,
  });
}

async function chosen(options: ProxyOptions, system?: SystemProxies, to: Parameters<Proxies["choose"]>[0] = EDGE) {
  return choiceText(await proxiesOf(options, system).choose(to));
}

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), "grooveway-pac-"));
  t.after(() => rmSync(made, { recursive: true }));
  return made;
}

const HTTPS = { HTTPS_PROXY: "http://env:1" };

describe("proxies", () => {
  it("come from the option, the environment, a PAC file or the system, in this order", async (t) => {
    const pac = join(folder(t), "proxy.pac");
    writeFileSync(pac, 'function FindProxyForURL(url, host) { return "PROXY pac:1; DIRECT"; }');
    const system = { https: "http://system:1" };
    const env = { ...HTTPS, GROOVEWAY_PAC: pac };
    assert.equal(await chosen({ proxy: "http://option:1", env }, system), "http://option:1 (the option proxy)");
    assert.equal(await chosen({ proxy: "direct", env }, system), "direct (the option proxy)");
    assert.equal(await chosen({ env }, system), "http://env:1 (HTTPS_PROXY)");
    const fromPac = `http://pac:1, or direct (the PAC file ${pac}, from GROOVEWAY_PAC)`;
    assert.equal(await chosen({ env: { GROOVEWAY_PAC: pac } }, system), fromPac);
    assert.equal(await chosen({}, system), "http://system:1 (the settings of a test)");
    assert.equal(await chosen({}), "direct (no proxy is set)");
  });

  it("of the environment depend on the scheme; small letters come first", async () => {
    const http = { ...EDGE, port: 80, scheme: "http" } as const;
    const env = { http_proxy: "small:1", HTTP_PROXY: "large:1", ALL_PROXY: "socks5://all:1", HTTPS_PROXY: "secure:1" };
    assert.equal(await chosen({ env }, {}, http), "http://small:1 (http_proxy)");
    assert.equal(await chosen({ env }), "http://secure:1 (HTTPS_PROXY)");
    assert.equal(await chosen({ env: { ALL_PROXY: "socks5://all:1" } }, {}, http), "socks5://all:1 (ALL_PROXY)");
    assert.equal(await chosen({ env: { HTTPS_PROXY: "" } }), "direct (HTTPS_PROXY, which is empty)");
    const cgi = { HTTP_PROXY: "http://header-of-the-request:1", REQUEST_METHOD: "GET" };
    assert.equal(await chosen({ env: cgi }, {}, http), "direct (no proxy is set)");
  });

  it("have exceptions", async () => {
    assert.equal(await chosen({ env: { ...HTTPS, NO_PROXY: "example.com" } }), "direct (NO_PROXY)");
    assert.equal(await chosen({ proxy: "option:1", env: { NO_PROXY: "*" } }), "http://option:1 (the option proxy)");
    const system = { https: "proxy:1", noProxy: "*.example.com" };
    assert.equal(await chosen({}, system), "direct (the exceptions in the settings of a test)");
    for (const host of ["localhost", "127.0.0.1", "::1", "::ffff:7f00:1", "a.localhost"]) {
      assert.equal(await chosen({ env: HTTPS }, {}, { ...EDGE, host }), "direct (no proxy is set)");
    }
  });

  it("of the system may be SOCKS, or a PAC file that is out of reach", async () => {
    assert.equal(await chosen({}, { socks: "socks5://s:1" }), "socks5://s:1 (the settings of a test)");
    const gone = await chosen({}, { pac: "http://127.0.0.1:1/secret.pac" });
    assert.match(gone, /^direct \(the PAC file at 127\.0\.0\.1:1, from the settings of a test, but .*ECONNREFUSED/);
    assert.doesNotMatch(gone, /secret/);
    const both = { pac: "http://127.0.0.1:1/secret.pac", https: "http://beside:1" };
    assert.equal(await chosen({}, both), "http://beside:1 (the settings of a test)");
  });

  it("that nobody can read are reported by the name of the setting", async () => {
    const env = { HTTPS_PROXY: "gopher://alice:secret@proxy" };
    await assert.rejects(
      chosen({ env }),
      (error) => /^DeviceError: HTTPS_PROXY names no proxy/.test(String(error)) && !/secret/.test(String(error)),
    );
    assert.throws(() => proxiesOf({ proxy: "http://" }), /the option proxy names no proxy/);
    await assert.rejects(chosen({ proxy: "pac+http://127.0.0.1:1/" }), /ProxyFailed|cannot be fetched/);
  });

  it("are asked for anew, and changes are reported", async () => {
    const env: Record<string, string> = {};
    const lines: string[] = [];
    const proxies = proxiesOf({ env, onChoice: (line) => lines.push(line) });
    await proxies.choose(EDGE);
    env.HTTPS_PROXY = "http://alice:secret@work:3128";
    await proxies.choose(EDGE);
    await proxies.choose(EDGE);
    delete env.HTTPS_PROXY;
    await proxies.choose(EDGE);
    assert.deepEqual(lines, [
      "edge.example.com:443: http://work:3128 (HTTPS_PROXY)",
      "edge.example.com:443: direct (no proxy is set)",
    ]);
  });

  it("have the credentials of their own setting, and of no other", async () => {
    const system = { https: "http://stranger:3128" };
    const proxies = proxiesOf({ env: { HTTPS_PROXY: "http://alice:secret@work:3128" } }, system);
    await proxies.choose(EDGE);
    assert.deepEqual(proxies.accounts.find({ host: "WORK", port: 3128 }), { user: "alice", password: "secret" });
    for (const other of [
      { host: "work", port: 3129 },
      { host: "stranger", port: 3128 },
    ]) {
      assert.equal(proxies.accounts.find(other), undefined);
    }
  });
});

describe("a PAC file", () => {
  const evaluate = async (t: TestContext, script: string) => {
    const path = join(folder(t), "proxy.pac");
    writeFileSync(path, script);
    return chosen({ proxy: `pac+file://${path}` });
  };

  it("learns scheme and host only, and may use the functions of PAC", async (t) => {
    const script = `function FindProxyForURL(url, host) {
      if (dnsDomainIs(host, ".example.com") && shExpMatch(url, "https://edge.example.com/") && isInNet("127.0.0.1", "127.0.0.0", "255.0.0.0"))
        return "SOCKS5 s:1; HTTPS t:2; BOGUS x; PROXY u; PROXY v:3";
      return "DIRECT " + url + " " + myIpAddress();
    }`;
    assert.match(await evaluate(t, script), /^socks5:\/\/s:1, or https:\/\/t:2, or http:\/\/u:80, or http:\/\/v:3 \(/);
  });

  it("is held to limits of time, memory and length", async (t) => {
    const fails = (script: string) => assert.rejects(evaluate(t, script), /the PAC file \S+ cannot be/);
    const began = performance.now();
    await fails("function FindProxyForURL() { while (true) {} }");
    await fails("function FindProxyForURL() { return new Promise(function () {}); }");
    assert.ok(performance.now() - began < 30_000);
    await fails('function FindProxyForURL() { var all = "x"; while (true) all += all; }');
    await fails(`// ${"x".repeat(1024 * 1024)}\nfunction FindProxyForURL() { return "DIRECT"; }`);
  });

  it("that fails, returns nonsense or reaches for the machine is reported", async (t) => {
    const fails = (script: string, why: RegExp) => assert.rejects(evaluate(t, script), why);
    await fails("function (", /cannot be used: the script fails in line 1 \(SyntaxError\)/);
    await fails("var x = 1;", /cannot be used: it has no function FindProxyForURL/);
    await fails("function FindProxyForURL() { return 7; }", /it returned no text/);
    await fails('function FindProxyForURL() { return "FTP x:1"; }', /named no proxy that can be used/);
    await fails(
      "function FindProxyForURL() { return process.env.HOME; }",
      /cannot be used: .* in line 1 \(ReferenceError\)/,
    );
  });

  it("that fails is not quoted: it may contain secrets", async (t) => {
    const secret = "s3cret";
    for (const script of [
      `function FindProxyForURL() { throw new Error("${secret}"); }`,
      `function FindProxyForURL() { throw "${secret}"; }`,
      `function FindProxyForURL() { var e = new Error(); e.name = "${secret}"; e.stack = "${secret}"; throw e; }`,
      `function FindProxyForURL() { return ${secret}; }`,
      `${secret}((`,
    ]) {
      await assert.rejects(evaluate(t, script), (error: Error) => !error.message.includes(secret));
    }
  });

  it("that is made to take long takes no longer than its time", async (t) => {
    const began = performance.now();
    const find = (body: string) => `function FindProxyForURL(url, host) { ${body}; return "DIRECT"; }`;
    const long = '"a".repeat(4000)';
    await assert.rejects(evaluate(t, find(`while (true) shExpMatch(${long}, "*a*a*a*a*a*a*a*a*b")`)), /did not answer/);
    await assert.rejects(
      evaluate(t, find(`while (true) try { dnsDomainLevels(${long}) } catch (e) {}`)),
      /did not answer/,
    );
    assert.match(await evaluate(t, find('shExpMatch("a".repeat(40) + "!", "(a+)+b")')), /^direct/);
    // Each function calls the one before it.
    const calls = Array.from({ length: 400 }, (_, i) => `function f${i + 1}() { return f${i}(); }`).reverse();
    const script = `${calls.join("\n")} function f0() { return dnsResolve("127.0.0.1"); } ${find("f400()")}`;
    assert.match(await evaluate(t, script), /^direct/);
    assert.ok(performance.now() - began < 20_000);
  });

  it("matches globs, in which other characters stand for themselves", async (t) => {
    const rows = [
      ["edge.example.com", "*.example.com", true],
      ["edgeXexample.com", "edge.example.com", false],
      ["edge1.example.com", "edge?.example.com", true],
      ["aXbXc", "a*b*c", true],
      ["abd", "a*c", false],
      ["a(b)", "a(*)", true],
      ["", "*", true],
      ["ab", "a", false],
    ];
    const script = `function FindProxyForURL() {
      return ${JSON.stringify(rows)}.every(function (row) { return shExpMatch(row[0], row[1]) === row[2]; }) ? "PROXY yes:1" : "DIRECT";
    }`;
    assert.match(await evaluate(t, script), /^http:\/\/yes:1 /);
  });

  it("resolves names, also where it catches errors, and one that has no address", async (t) => {
    const script = `var early = dnsResolve("localhost");
    function FindProxyForURL() {
      var found = "none";
      try { found = dnsResolve("localhost"); } catch (error) { found = "caught"; }
      return "PROXY " + [early, found, dnsResolve("nowhere.invalid"), isResolvable("localhost"), isInNet("localhost", "127.0.0.0", "255.0.0.0")].join("-") + ":1";
    }`;
    assert.match(await evaluate(t, script), /^http:\/\/127\.0\.0\.1-127\.0\.0\.1--true-true:1 /);
    const many = "function FindProxyForURL() { for (var i = 0; i < 40; i += 1) dnsResolve(i + '.invalid'); }";
    await assert.rejects(evaluate(t, many), /resolves more than 16 names|did not answer/);
  });

  it("is a file, and nothing that could be read for ever", async () => {
    await assert.rejects(chosen({ proxy: "pac+file:///dev/zero" }), /cannot be fetched: it is not a file/);
    await assert.rejects(chosen({ proxy: "pac+/nowhere/proxy.pac" }), /cannot be fetched: .*ENOENT/);
  });

  it("may have a secret in its URL, which is not told, whatever is wrong with it", async () => {
    for (const url of [
      "http://alice:s3cret@127.0.0.1:1/proxy.pac?s3cret",
      "http://alice:s3cret@127.0.0.1:99999/proxy.pac",
      "ftp://alice:s3cret@127.0.0.1/proxy.pac",
      "http://alice:s3cret@/proxy.pac",
      "HTTPS://alice:s3cret@127.0.0.1:1/s3cret",
    ]) {
      const unforced = await chosen({ env: { GROOVEWAY_PAC: url } });
      assert.match(
        unforced,
        /^direct \(the PAC file \S.*, from GROOVEWAY_PAC, but the PAC file .* cannot be fetched: /,
      );
      assert.doesNotMatch(unforced, /s3cret/, url);
      await assert.rejects(chosen({ proxy: `pac+${url}` }), ({ message }: Error) => !message.includes("s3cret"));
    }
  });

  it("may have user and password in its URL, percent-encoded, and says so", async () => {
    await assert.rejects(
      chosen({ proxy: "pac+http://alice:100%zz@127.0.0.1:1/proxy.pac" }),
      /^DeviceError: the PAC file at 127\.0\.0\.1:1 cannot be fetched: user and password in its URL are percent-encoded/,
    );
  });

  it("is fetched by HTTPS with the trust of an edge", async (t) => {
    const ours = authority();
    const server = createSecureServer(ours, (_, answer) => {
      answer.end('function FindProxyForURL() { return "PROXY web:1"; }');
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.close());
    const { port } = server.address() as { port: number };
    const distrusted = chosen({ proxy: `pac+https://127.0.0.1:${port}/` });
    await assert.rejects(distrusted, /its certificate is from "test authority", which this machine does not trust/);
    const [ca, program] = [join(folder(t), "ca.pem"), new URL("../programs/fetch-pac.ts", import.meta.url)];
    writeFileSync(ca, ours.ca);
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: ca };
    const asked = [fileURLToPath(program), `https://127.0.0.1:${port}/`];
    const { stdout } = await promisify(execFile)(process.execPath, asked, { env });
    assert.match(stdout, /PROXY web:1/);
  });

  it("is not waited for, and not read without end", async (t) => {
    const server = createServer((asked, answer) => {
      if (asked.url === "/slow") answer.write("//");
      else if (asked.url === "/upgrade") {
        asked.socket.write("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
      } else if (asked.url === "/cut") answer.writeHead(200, { "Content-Length": "9" }).write("//");
      else for (let i = 0; i < 2; i += 1) answer.write("x".repeat(1024 * 1024));
      if (asked.url === "/cut") setImmediate(() => answer.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as { port: number };
    const fails = (path: string, why: RegExp) =>
      assert.rejects(chosen({ proxy: `pac+http://127.0.0.1:${port}${path}` }), why);
    await fails("/slow", /did not come within 1000 ms/);
    await fails("/upgrade", /the answer is 101/);
    await fails("/cut", /cut off|no answer/);
    await fails("/long", /longer than 1048576 bytes/);
  });

  it("is fetched by HTTP, without following redirects", async (t) => {
    const server = createServer((asked, answer) => {
      if (asked.url === "/proxy.pac") answer.end('function FindProxyForURL() { return "PROXY web:1"; }');
      else answer.writeHead(302, { Location: "/proxy.pac" }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.close());
    const { port } = server.address() as { port: number };
    const url = `http://127.0.0.1:${port}`;
    assert.equal(await chosen({ proxy: `pac+${url}/proxy.pac` }), `http://web:1 (the PAC file at 127.0.0.1:${port})`);
    await assert.rejects(chosen({ proxy: `pac+${url}/` }), /cannot be fetched: the answer is 302/);
  });
});
