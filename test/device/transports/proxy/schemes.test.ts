/** The schemes of proxy authentication, against published examples. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Authenticator } from "../../../../src/device/transports/proxy/authenticate.ts";
import { basicAuthorization } from "../../../../src/device/transports/proxy/basic.ts";
import { parseChallenges } from "../../../../src/device/transports/proxy/challenge.ts";
import { digestAuthorization, digestHash } from "../../../../src/device/transports/proxy/digest.ts";
import { md4 } from "../../../../src/device/transports/proxy/md4.ts";
import {
  lmResponse,
  ntlmAuthenticate,
  ntlmNegotiate,
  ntResponse,
  parseNtlmChallenge,
  responseKey,
} from "../../../../src/device/transports/proxy/ntlm.ts";

it("a proxy that refuses a ticket and then offers Basic alone gets no password", () => {
  const named = { proxy: { kind: "http", host: "proxy", port: 1 }, source: "a test" } as const;
  const credentials = { user: "alice", password: "secret" };
  const authenticator = new Authenticator({ named, credentials, method: "CONNECT", uri: "e:443", mayNegotiate: true });
  assert.equal(authenticator.answer(["Negotiate"], true).type, "negotiate");
  assert.equal(authenticator.negotiated("ticket", ["Negotiate"]).type, "authorization");
  assert.equal(authenticator.answer(['Basic realm="a"'], true).type, "failed");
});

describe("challenges", () => {
  const read = (...values: string[]) =>
    parseChallenges(values).map(({ scheme, token, parameters }) => [scheme, token, Object.fromEntries(parameters)]);

  it("are read one a header, and several in one", () => {
    assert.deepEqual(read("Negotiate", "NTLM TlRMTVNTUAAC==", 'Basic realm="a, \\"b\\""'), [
      ["negotiate", undefined, {}],
      ["ntlm", "TlRMTVNTUAAC==", {}],
      ["basic", undefined, { realm: 'a, "b"' }],
    ]);
    assert.deepEqual(read('Digest realm="x", qop="auth,auth-int" , nonce=abc,Basic realm=y, NTLM'), [
      ["digest", undefined, { realm: "x", qop: "auth,auth-int", nonce: "abc" }],
      ["basic", undefined, { realm: "y" }],
      ["ntlm", undefined, {}],
    ]);
    assert.deepEqual(read(", ,NTLM, , Basic"), [
      ["ntlm", undefined, {}],
      ["basic", undefined, {}],
    ]);
    assert.deepEqual(read("Basic realm=a, realm=b"), [["basic", undefined, { realm: "a" }]]);
  });

  it("end at what cannot be read", () => {
    assert.deepEqual(read('NTLM, Basic realm="open'), [
      ["ntlm", undefined, {}],
      ["basic", undefined, {}],
    ]);
    assert.deepEqual(read('"', "é", ""), []);
  });

  it("are read from any text, quickly", () => {
    const words = fc.constantFrom("Basic", " ", ",", "=", '"', "\\", "NTLM", "realm", "a", "==");
    fc.assert(
      fc.property(fc.array(fc.oneof(words, fc.string()), { maxLength: 200 }), (parts) => {
        for (const { scheme } of parseChallenges([parts.join("")])) assert.match(scheme, /^[^\s,"]+$/);
      }),
    );
    const began = performance.now();
    parseChallenges([`Basic ${"a=".repeat(8000)}`, `Basic ${" ,".repeat(8000)}`, `Basic a="${"\\a".repeat(8000)}`]);
    assert.ok(performance.now() - began < 2000);
  });
});

describe("Basic", () => {
  it("encodes user and password [RFC 7617 2, 2.1]", () => {
    const aladdin = { user: "Aladdin", password: "open sesame" };
    assert.equal(basicAuthorization(aladdin), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert.equal(basicAuthorization({ user: "test", password: "123£" }), "Basic dGVzdDoxMjPCow==");
    assert.equal(basicAuthorization({ user: "a:b", password: "" }), undefined);
  });
});

describe("Digest", () => {
  /** The example of RFC 7616 3.9.1. */
  const challenge = (algorithm: string) =>
    `Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=${algorithm}, ` +
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"';
  const mufasa = { user: "Mufasa", password: "Circle of Life" };
  const request = {
    method: "GET",
    uri: "/dir/index.html",
    cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    count: 1,
  };
  const answer = (text: string, user = mufasa) => {
    const [parsed] = parseChallenges([text]);
    assert.ok(parsed !== undefined && digestHash(parsed) !== undefined);
    return digestAuthorization(parsed, user, request);
  };

  it("answers as in the examples of RFC 7616", () => {
    assert.match(answer(challenge("MD5")), /response="8ca523f5e9506fed4657c9700eebdbec"/);
    const sha = answer(challenge("SHA-256"));
    assert.match(sha, /response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"/);
    assert.match(
      sha,
      /^Digest username="Mufasa", realm="http-auth@example.org", nonce="7ypf.*, qop=auth, nc=00000001, /,
    );
    assert.match(sha, /opaque="FQhe\/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"$/);
  });

  it("answers as in the example of RFC 2069, without qop", () => {
    const text = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"';
    const value = answer(text, { user: "Mufasa", password: "CircleOfLife" });
    assert.match(value, /response="1949323746fe6a43ef61f9606e7febea"$/);
    assert.doesNotMatch(value, /qop|nc=|cnonce/);
  });

  it("escapes what it repeats, and encodes a user name outside ASCII", () => {
    const value = answer('Digest realm="a\\"b", nonce="x\\\\y"', { user: 'J"s', password: "" });
    assert.match(value, /username="J\\"s", realm="a\\"b", nonce="x\\\\y"/);
    assert.match(
      answer('Digest nonce="x"', { user: "Jäsøn Doe", password: "" }),
      /username\*=UTF-8''J%C3%A4s%C3%B8n%20Doe,/,
    );
  });

  it("is not used where it cannot be answered", () => {
    const usable = (text: string) => parseChallenges([text]).map(digestHash);
    assert.deepEqual(usable('Digest realm="a"'), [undefined], "no nonce");
    assert.deepEqual(usable('Digest nonce="a", algorithm=SHA-512-256'), [undefined]);
    assert.deepEqual(usable('Digest nonce="a", qop="auth-int"'), [undefined]);
    assert.deepEqual(usable('Digest nonce="ä"'), [undefined]);
    assert.deepEqual(usable('Digest nonce="a", algorithm=__proto__'), [undefined]);
    assert.deepEqual(usable('Digest nonce="a", algorithm=md5-sess, qop=auth'), ["md5"]);
  });
});

describe("MD4", () => {
  it("gives the digests of RFC 1320 A.5", () => {
    const hex = (text: string) => Buffer.from(md4(Buffer.from(text))).toString("hex");
    assert.equal(hex(""), "31d6cfe0d16ae931b73c59d7e0c089c0");
    assert.equal(hex("abc"), "a448017aaf21d8525fc10ae87aa6729d");
    assert.equal(hex("message digest"), "d9130a8164549fe818874806e1c7014b");
    assert.equal(hex("1234567890".repeat(8)), "e33b4ddc9c38f2199c3e7b164fcc0536");
  });
});

describe("NTLMv2", () => {
  /** The example of MS-NLMP 4.2.4. */
  const SERVER = Buffer.from("0123456789abcdef", "hex");
  const CLIENT = Buffer.from("aaaaaaaaaaaaaaaa", "hex");
  const attribute = (id: number, value: Uint8Array) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(id, 0);
    head.writeUInt16LE(value.length, 2);
    return Buffer.concat([head, value]);
  };
  const TARGET = Buffer.concat([
    attribute(2, Buffer.from("Domain", "utf16le")),
    attribute(1, Buffer.from("Server", "utf16le")),
    attribute(0, Buffer.alloc(0)),
  ]);
  const message = (targetInfo: Uint8Array) => {
    const head = Buffer.alloc(56);
    head.write("NTLMSSP\0", "latin1");
    head.writeUInt32LE(2, 8);
    head.writeUInt32LE(0x00800000, 20);
    SERVER.copy(head, 24);
    head.writeUInt16LE(targetInfo.length, 40);
    head.writeUInt32LE(56, 44);
    return Buffer.concat([head, targetInfo]).toString("base64");
  };

  it("gives the key and responses of the published example", () => {
    const key = responseKey("User", "Password", "Domain");
    assert.equal(key.toString("hex"), "0c868a403bfd7a93a3001ef22ef02e3f");
    assert.equal(lmResponse(key, SERVER, CLIENT).toString("hex"), "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa");
    const server = { challenge: SERVER, targetInfo: TARGET, timestamp: undefined };
    const response = ntResponse(key, server, CLIENT, Buffer.alloc(8));
    assert.equal(response.subarray(0, 16).toString("hex"), "68cd0ab851e51c96aabc927bebef6a1c");
    assert.equal(response.subarray(16, 24).toString("hex"), "0101000000000000");
  });

  it("writes the three messages", () => {
    assert.equal(Buffer.from(ntlmNegotiate(), "base64").toString("latin1", 0, 12), "NTLMSSP\0\x01\0\0\0");
    const challenge = parseNtlmChallenge(message(TARGET));
    assert.ok(challenge !== undefined);
    assert.deepEqual([Buffer.from(challenge.challenge), challenge.timestamp], [SERVER, undefined]);
    const user = { user: "Domain\\User", password: "Password" };
    const last = Buffer.from(ntlmAuthenticate(challenge, user, { clientChallenge: CLIENT, now: 0 }), "base64");
    const field = (at: number) =>
      last.subarray(last.readUInt32LE(at + 4), last.readUInt32LE(at + 4) + last.readUInt16LE(at));
    assert.equal(last.readUInt32LE(8), 3);
    assert.equal(field(28).toString("utf16le"), "Domain");
    assert.equal(field(36).toString("utf16le"), "User");
    assert.equal(field(12).toString("hex"), "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa");
    const proven = field(20);
    const key = responseKey("User", "Password", "Domain");
    assert.deepEqual(proven, ntResponse(key, challenge, CLIENT, proven.subarray(24, 32)));
  });

  it("reads challenges without target information, of older servers and with other bytes in their place", () => {
    const bare = Buffer.from(message(Buffer.alloc(0)), "base64");
    bare.writeUInt32LE(0, 20);
    const senseless = Buffer.concat([bare.subarray(0, 40), Buffer.from("WORKGROUP")]);
    for (const token of [bare.subarray(0, 32), bare.subarray(0, 40), senseless]) {
      const read = parseNtlmChallenge(token.toString("base64"));
      assert.deepEqual([Buffer.from(read?.challenge ?? []), read?.targetInfo.length], [SERVER, 0]);
    }
  });

  it("takes the server's time, and then sends no older response", () => {
    const time = Buffer.from("0102030405060708", "hex");
    const challenge = parseNtlmChallenge(message(Buffer.concat([attribute(7, time), TARGET])));
    assert.ok(challenge !== undefined);
    const last = Buffer.from(
      ntlmAuthenticate(challenge, { user: "u@d", password: "p" }, { clientChallenge: CLIENT, now: 0 }),
      "base64",
    );
    const lm = last.readUInt32LE(16);
    assert.deepEqual(last.subarray(lm, lm + 24), Buffer.alloc(24));
    assert.deepEqual(last.subarray(lm + 24 + 24, lm + 24 + 32), time);
  });

  it("refuses what is no challenge, and survives any bytes", () => {
    for (const token of ["", "TlRMTVNTUAAB", ntlmNegotiate(), message(TARGET).slice(0, 40)]) {
      assert.equal(parseNtlmChallenge(token), undefined);
    }
    const whole = Buffer.from(message(TARGET), "base64");
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255))),
        fc.nat(whole.length),
        (changes, length) => {
          const changed = Buffer.from(whole);
          for (const [at, octet] of changes) changed[at] = octet;
          const read = parseNtlmChallenge(changed.subarray(0, length).toString("base64"));
          if (read !== undefined)
            ntlmAuthenticate(read, { user: "u", password: "p" }, { clientChallenge: CLIENT, now: 0 });
        },
      ),
    );
  });
});
