import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  EncapsulationError,
  formatTarget,
  guidFrom,
  isGuid,
  parseRelay,
  parseTarget,
  REGISTRY,
} from "../../src/encapsulation/index.ts";

const G1 = "hczn5kctbrpxfgkgxzqs6zmkp9uwvswszvs6f72";
const G2 = "kicxp8rrgwqdwhf7c6xsgbagmcdnxm9phtvbj5a";
const ID = "ugqrvphxsc2yqfjqh8ijah6crkziz8qrspvh9ja";
const LONG = `ConnType=LongLived,ContentLength=2147479552`;

/** A target and its fields: encapsulation, relay and others. */
const GOOD: readonly [string, Record<string, unknown>][] = [
  // the four examples of the specification
  [`/2.0/server.domain.net/${G1},${LONG}`, { encapsulation: "LongLived", contentLength: 2147479552 }],
  [
    `http://server.domain.net/2.0/server.domain.net/${G1},${LONG}, ID=${ID}`,
    { encapsulation: "LongLived", requestId: ID, origin: "http://server.domain.net" },
  ],
  [`/2.0/server.domain.net/${G2},ConnType=KeepAlive`, { encapsulation: "KeepAlive", guid: G2 }],
  [
    `http://server.domain.net/2.0/server.domain.net/${G2},ConnType=KeepAlive,ID=${ID}`,
    { encapsulation: "KeepAlive", requestId: ID },
  ],
  // tolerance
  [`/2.0/server.domain.net/${G1},${LONG},%20ID=${ID}`, { requestId: ID }],
  [`/2.0/server.domain.net/${G1},${LONG},ID=${ID}`, { requestId: ID }],
  [`/2.0/server.domain.net/${G1}%2CConnType%3DLongLived%2CContentLength%3D22`, { contentLength: 22 }],
  [`/2.0/server.domain.net/${G1},conntype=keepalive`, { encapsulation: "KeepAlive" }],
  [`/2.0/SERVER.Domain.net/${G1},ConnType=KeepAlive`, { relay: "server.domain.net" }],
  [`HTTPS://Edge.Example.com:8443/2.0/a/${G1},ConnType=KeepAlive`, { origin: "https://edge.example.com:8443" }],
  [`http://10.0.0.1/2.0/a/${G1},ConnType=KeepAlive`, { origin: "http://10.0.0.1" }],
  [`http://[::1]:80/2.0/a/${G1},ConnType=KeepAlive`, { origin: "http://[::1]:80" }],
  // relays
  [`/2.0/server.domain.net:2492/${G1},ConnType=KeepAlive`, { relay: "server.domain.net:2492" }],
  [`/2.0/10.150.1.226/${G1},ConnType=KeepAlive`, { relay: "10.150.1.226" }],
  [`/2.0/[2001:db8::1]:2492/${G1},ConnType=KeepAlive`, { relay: "[2001:db8::1]:2492" }],
  [`/2.0/%5B2001:db8::1%5D/${G1},ConnType=KeepAlive`, { relay: "[2001:db8::1]" }],
  [`/2.0/relay_1/${G1},ConnType=KeepAlive`, { relay: "relay_1" }],
  // GUIDs, content lengths and our own encapsulation
  [`/2.0/a/${"x".repeat(16)},ConnType=KeepAlive`, { guid: "x".repeat(16) }],
  [`/2.0/a/${"x".repeat(128)},ConnType=KeepAlive`, { guid: "x".repeat(128) }],
  [`/2.0/a/0123ABCD-._~efgh,ConnType=KeepAlive`, { guid: "0123ABCD-._~efgh" }],
  [`/2.0/a/${G1},ConnType=LongLived,ContentLength=1`, { contentLength: 1 }],
  [`/2.0/a/${G1},ConnType=LongLived,ContentLength=0000000022`, { contentLength: 22 }],
  [`/2.0/a/${G1},ConnType=WebSocket`, { encapsulation: "WebSocket" }],
  // a query, of which only an offer of larger bodies and a hold time mean something
  [`/2.0/a/${G1},ConnType=KeepAlive,ID=gw-2?Hold=5`, { requestId: "gw-2", hold: 5 }],
  [`/2.0/a/${G1},ConnType=KeepAlive?Body=65536&Hold=99`, { bodyLimit: 65536, hold: 99 }],
  [`/2.0/a/${G1},ConnType=KeepAlive?Hold=0`, { hold: undefined }],
  [`/2.0/a/${G1},ConnType=KeepAlive?Hold=100`, { hold: undefined }],
  [`/2.0/a/${G1},${LONG}?Hold=5`, { encapsulation: "LongLived", hold: undefined }],
  [`/2.0/a/${G1},ConnType=KeepAlive,ID=gw-1?Body=1048576`, { requestId: "gw-1", bodyLimit: 1048576 }],
  [`http://a/2.0/a/${G1},ConnType=KeepAlive?body=65536`, { origin: "http://a", bodyLimit: 65536 }],
  [`/2.0/a/${G1},ConnType=KeepAlive?x=1`, { bodyLimit: undefined }],
  [`/2.0/a/${G1},ConnType=KeepAlive?Body=1e6`, { bodyLimit: undefined }],
  [`/2.0/a/${G1},ConnType=KeepAlive?Body=65536&x=1`, { bodyLimit: undefined }],
  [`/2.0/a/${G1},${LONG}?Body=65536`, { encapsulation: "LongLived", bodyLimit: undefined }],
  [`/2.0/a/${G1},ConnType=WebSocket,ID=1`, { encapsulation: "WebSocket", requestId: "1" }],
];

const BAD: readonly [string, string][] = [
  ["", "MalformedTarget"],
  ["/", "MalformedTarget"],
  ["*", "MalformedTarget"],
  ["server.domain.net", "MalformedTarget"],
  ["ftp://a/2.0/b/c", "MalformedTarget"],
  [`/2.0/server.domain.net`, "MalformedTarget"],
  [`/2.0/server.domain.net/${G1}`, "MalformedTarget"],
  [`/2.0/server.domain.net/${G1},KeepAlive`, "MalformedTarget"],
  [`//2.0/server.domain.net/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/server.domain.net/${G1},ConnType=KeepAlive/`, "MalformedTarget"],
  [`/two/server.domain.net/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2/server.domain.net/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/1.0/server.domain.net/${G1},ConnType=KeepAlive`, "WrongVersion"],
  [`/2.1/server.domain.net/${G1},ConnType=KeepAlive`, "WrongVersion"],
  [`/3.0/server.domain.net/${G1},ConnType=Nonsense`, "WrongVersion"],
  [`/2.0/server.domain.net/${G1},ConnType=Polling`, "WrongEncapsulation"],
  [`/2.0/server.domain.net/${G1},ConnType=`, "WrongEncapsulation"],
  [`/2.0/server.domain.net/${"x".repeat(15)},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/server.domain.net/${"x".repeat(129)},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/server.domain.net/${G1}%00,ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/server.domain.net/${G1}%2f,ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/server.domain.net/${G1}%E4,ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/server.domain.net/${G1}%4,ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0//${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/a b/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/a%2Fb/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/-a/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/a..b/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/user@a/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/a:0/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/a:65536/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/a:/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/2001:db8::1/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/${"a".repeat(64)}/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/${"a.".repeat(150)}a/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`http://u:p@a/2.0/a/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`http:///2.0/a/${G1},ConnType=KeepAlive`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=LongLived`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=LongLived,ID=${ID}`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=LongLived,ContentLength=0`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=LongLived,ContentLength=2147479553`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=LongLived,ContentLength=-1`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=LongLived,ContentLength=1e3`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=LongLived,ContentLength=99999999999`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=KeepAlive,ContentLength=22`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=KeepAlive,ID=`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=KeepAlive,ID=${"x".repeat(129)}`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=KeepAlive,  ID=x`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=KeepAlive,ID=x,more=1`, "MalformedTarget"],
  [`/2.0/a/${G1},ConnType=KeepAlive,ID=${"%41".repeat(1000)}`, "MalformedTarget"],
];

test("[2.2.2.1.1, 2.2.3.1.1] valid targets are parsed", () => {
  for (const [text, expected] of GOOD) {
    const parsed = parseTarget(text);
    assert.equal(parsed.type, "target", text);
    if (parsed.type !== "target") continue;
    assert.equal(parsed.target.version, "2.0");
    for (const [name, value] of Object.entries(expected)) {
      assert.equal(Object.entries(parsed.target).find(([key]) => key === name)?.[1], value, `${name} of ${text}`);
    }
    const again = parseTarget(formatTarget(parsed.target));
    assert.deepEqual(again, parsed, text);
  }
});

test("[3.2.5.1.1, 3.4.5.1.1] invalid targets are rejected by grammar, then version, then type", () => {
  for (const [text, reason] of BAD) {
    const parsed = parseTarget(text);
    assert.equal(parsed.type === "refuse" ? `${parsed.reason} ${parsed.scope}` : "good", `${reason} request`, text);
  }
});

test("targets are formatted as in the examples", () => {
  const relay = "server.domain.net";
  const contentLength = 2147479552;
  assert.equal(
    formatTarget({ encapsulation: "LongLived", relay, guid: G1, contentLength }),
    `/2.0/server.domain.net/${G1},ConnType=LongLived,ContentLength=2147479552`,
  );
  assert.equal(
    formatTarget({ encapsulation: "KeepAlive", relay, guid: G2, requestId: ID, origin: "http://server.domain.net" }),
    `http://server.domain.net/2.0/server.domain.net/${G2},ConnType=KeepAlive,ID=${ID}`,
  );
});

test("a target that would not parse is not formatted", () => {
  const good = { encapsulation: "LongLived", relay: "a", guid: G1, contentLength: 100 } as const;
  assert.throws(() => formatTarget({ ...good, relay: "a b" }), EncapsulationError);
  assert.throws(() => formatTarget({ ...good, guid: "short" }), EncapsulationError);
  assert.throws(() => formatTarget({ ...good, contentLength: 0 }), EncapsulationError);
  assert.throws(() => formatTarget({ encapsulation: "LongLived", relay: "a", guid: G1 }), EncapsulationError);
  assert.throws(() => formatTarget({ ...good, requestId: "a,b" }), EncapsulationError);
  for (const hold of [0, 100, 1.5]) assert.throws(() => formatTarget({ ...good, hold }), EncapsulationError);
});

test("relay names are parsed into host and port", () => {
  assert.deepEqual(parseRelay("Server.domain.net"), { host: "server.domain.net" });
  assert.deepEqual(parseRelay("server:80"), { host: "server", port: 80 });
  assert.deepEqual(parseRelay("[::1]:2492"), { host: "[::1]", port: 2492 });
  for (const bad of ["", ":80", "[::1", "::1", "[::1]80", "a:b", "a:080", "a/b", "ä"]) {
    assert.equal(parseRelay(bad), undefined, bad);
  }
});

test("[2.2.1.1.1] a GUID is 39 characters of the 32-letter alphabet and preserves every random bit", () => {
  assert.equal(guidFrom(new Uint8Array(24)), "a".repeat(39));
  assert.equal(guidFrom(new Uint8Array(24).fill(255)), `${"9".repeat(38)}2`);
  assert.equal(guidFrom(new Uint8Array(25).fill(255)), "9".repeat(39));
  assert.throws(() => guidFrom(new Uint8Array(23)), EncapsulationError);
  const alphabet: string = REGISTRY.guidAlphabet.value;
  assert.equal(new Set(alphabet).size, 32);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 24, maxLength: 24 }), (random) => {
      const guid = guidFrom(random);
      assert.ok(guid.length === 39 && isGuid(guid));
      let bits = "";
      for (const letter of guid) bits += alphabet.indexOf(letter).toString(2).padStart(5, "0");
      const expected = [...random].map((octet) => octet.toString(2).padStart(8, "0")).join("");
      assert.equal(bits.slice(0, 192), expected);
    }),
    { numRuns: 200 },
  );
});
