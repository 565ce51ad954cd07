/** Proxies as people write them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DeviceError } from "../../../../src/device/device-error.ts";
import { parseAccounts, parseProxies, parseProxy } from "../../../../src/device/transports/proxy/proxy-url.ts";

const read = (text: string) => {
  const { proxy, credentials } = parseProxy(text, "HTTPS_PROXY");
  const account = credentials === undefined ? [] : [credentials.user, credentials.password];
  return [proxy.kind, proxy.host, proxy.port, ...account];
};

describe("a proxy", () => {
  it("is a URL, or host and port", () => {
    assert.deepEqual(read("http://proxy.example.com:3128"), ["http", "proxy.example.com", 3128]);
    assert.deepEqual(read("http://proxy.example.com:3128/"), ["http", "proxy.example.com", 3128]);
    assert.deepEqual(read("proxy.example.com:8080"), ["http", "proxy.example.com", 8080]);
    assert.deepEqual(read("HTTPS://Proxy.Example.COM"), ["https", "proxy.example.com", 443]);
    assert.deepEqual(read("socks5h://[2001:db8::1]"), ["socks5", "2001:db8::1", 1080]);
    assert.deepEqual(read("socks4a://127.0.0.1:9050"), ["socks4", "127.0.0.1", 9050]);
  });

  it("has percent-encoded credentials", () => {
    assert.deepEqual(read("http://DOMAIN%5Cuser:p%40ss%3Aword%25@proxy:1"), [
      "http",
      "proxy",
      1,
      "DOMAIN\\user",
      "p@ss:word%",
    ]);
    assert.deepEqual(read("http://user:a:b@c@proxy:1"), ["http", "proxy", 1, "user", "a:b@c"]);
    assert.deepEqual(read("user@proxy:1"), ["http", "proxy", 1, "user", ""]);
  });

  it("may be one of a chain", () => {
    const { chain, accounts } = parseProxies("http://a:1, socks5://u:p@b:2", "--proxy");
    assert.deepEqual(
      chain.map(({ host }) => host),
      ["a", "b"],
    );
    assert.deepEqual(accounts, [{ host: "b", port: 2, credentials: { user: "u", password: "p" } }]);
  });

  it("that cannot be used is refused by the name of its setting, without its password", () => {
    for (const text of [
      "ftp://u:secret@p",
      "http://u:secret@",
      "http://u:secret@p:99999",
      "http://u:secret%@p",
      "http://u:sec/ret@p",
      "2001:db8::1:80",
      "http://p/path",
      "a,b,c,d,e",
      "http://u:1,secret@p:2",
      "http://u:1 secret@p:2",
      " ",
    ]) {
      assert.throws(
        () => parseProxies(text, "HTTPS_PROXY"),
        (error) =>
          error instanceof DeviceError &&
          error.code === "InvalidOption" &&
          error.message.startsWith("HTTPS_PROXY names no proxy that can be used: ") &&
          !/secret|ret@/.test(error.message),
        text,
      );
    }
  });

  it("is read from any text", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.webUrl()), (text) => {
        try {
          const { chain } = parseProxies(text, "x");
          for (const { port } of chain) assert.ok(port > 0 && port < 65536);
        } catch (error) {
          assert.ok(error instanceof DeviceError && error.code === "InvalidOption");
        }
      }),
    );
  });

  it("keeps any credentials that were percent-encoded", () => {
    const text = fc.string({ unit: "grapheme", minLength: 1 });
    fc.assert(
      fc.property(text, fc.string({ unit: "grapheme" }), (user, password) => {
        const [a, b] = [encodeURIComponent(user), encodeURIComponent(password)];
        assert.deepEqual(read(`http://${a}:${b}@proxy:1`), ["http", "proxy", 1, user, password]);
      }),
    );
  });
});

describe("a file of credentials", () => {
  it("has a URL a line", () => {
    const accounts = parseAccounts("# work\n\nhttp://u:p@a:3128\r\nsocks5://v:q@b\n", "file");
    assert.deepEqual(accounts, [
      { host: "a", port: 3128, credentials: { user: "u", password: "p" } },
      { host: "b", port: 1080, credentials: { user: "v", password: "q" } },
    ]);
    assert.throws(
      () => parseAccounts("\nhttp://a:3128", "the file x"),
      /^DeviceError: line 2 of the file x names no proxy/,
    );
  });
});
