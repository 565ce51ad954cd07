/** Asking a SOCKS proxy for a connection: every answer at every split. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Credentials } from "../../../../src/device/transports/proxy/credentials.ts";
import { type SocksHandshake, socks4, socks5 } from "../../../../src/device/transports/proxy/socks.ts";

const EDGE = { host: "edge.example.com", port: 443 };
const ALICE: Credentials = { user: "alice", password: "pässword" };
const NAME = [3, 16, ...Buffer.from("edge.example.com"), 1, 0xbb];

/** What is sent, and how it ends, when a proxy gives these answers, each after a message of ours, cut into pieces. */
function talk(handshake: SocksHandshake, answers: readonly (readonly number[])[], size: number) {
  const sent: number[][] = [];
  let event = handshake.start();
  const pieces = answers.map((answer) =>
    Array.from({ length: Math.ceil(answer.length / size) }, (_, i) => answer.slice(i * size, (i + 1) * size)),
  );
  for (const [answer, cut] of pieces.entries()) {
    if (event.type !== "send") break;
    sent.push([...event.octets]);
    let isAnswered = false;
    for (const [i, piece] of cut.entries()) {
      const next = handshake.receive(Uint8Array.from(piece));
      if (next === undefined) continue;
      // A proxy that says more than it should is ahead of us.
      if (isAnswered && event.type === "send") sent.push([...event.octets]);
      isAnswered = true;
      event = next;
      if (event.type === "accepted") {
        return { sent, end: "accepted", tunnel: [...event.rest, ...(pieces[answer] ?? []).slice(i + 1).flat()] };
      }
      if (event.type !== "send") break;
    }
    if (!isAnswered) return { sent, end: "waiting" };
  }
  return { sent, end: event.type, ...(event.type === "refused" && { why: event.why }) };
}

/** The outcome, which must be the same for pieces of every size. */
function outcome(make: () => SocksHandshake, answers: readonly (readonly number[])[]) {
  const whole = talk(make(), answers, 1000);
  for (let size = 1; size < 20; size += 1) assert.deepEqual(talk(make(), answers, size), whole);
  return whole;
}

const CONNECTED = [5, 0, 0, 1, 127, 0, 0, 1, 0, 80];

describe("SOCKS 5", () => {
  it("connects by name without authentication, and returns what came behind the reply", () => {
    assert.deepEqual(
      outcome(
        () => socks5(EDGE, undefined),
        [
          [5, 0],
          [...CONNECTED, 1, 2, 3],
        ],
      ),
      {
        sent: [
          [5, 1, 0],
          [5, 1, 0, ...NAME],
        ],
        end: "accepted",
        tunnel: [1, 2, 3],
      },
    );
  });

  it("logs in only if the proxy asks for it", () => {
    const password = [...Buffer.from("pässword")];
    assert.deepEqual(
      outcome(() => socks5(EDGE, ALICE), [[5, 2], [1, 0], CONNECTED]),
      {
        sent: [
          [5, 2, 0, 2],
          [1, 5, ...Buffer.from("alice"), password.length, ...password],
          [5, 1, 0, ...NAME],
        ],
        end: "accepted",
        tunnel: [],
      },
    );
    assert.deepEqual(outcome(() => socks5(EDGE, ALICE), [[5, 0], CONNECTED]).sent, [
      [5, 2, 0, 2],
      [5, 1, 0, ...NAME],
    ]);
  });

  it("writes addresses as addresses", () => {
    const request = (host: string) => outcome(() => socks5({ host, port: 80 }, undefined), [[5, 0], CONNECTED]).sent[1];
    assert.deepEqual(request("192.0.2.1"), [5, 1, 0, 1, 192, 0, 2, 1, 0, 80]);
    assert.deepEqual(request("2001:DB8::1"), [5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 1, 0, 80]);
  });

  it("reads replies with addresses of every type", () => {
    for (const address of [
      [1, 1, 2, 3, 4],
      [4, ...Array(16).fill(7)],
      [3, 0],
      [3, 255, ...Array(255).fill(97)],
    ]) {
      const reply = [5, 0, 0, ...address, 0, 80];
      assert.deepEqual(
        outcome(
          () => socks5(EDGE, undefined),
          [
            [5, 0],
            [...reply, 9],
          ],
        ).tunnel,
        [9],
      );
    }
  });

  it("ends by name", () => {
    const end = (answers: readonly (readonly number[])[], credentials?: Credentials) =>
      outcome(() => socks5(EDGE, credentials), answers).end;
    assert.equal(end([[5, 0xff]]), "needsCredentials");
    assert.equal(end([[5, 2]]), "invalid", "a method that was not offered");
    assert.equal(
      end(
        [
          [5, 2],
          [1, 1],
        ],
        ALICE,
      ),
      "refusesCredentials",
    );
    assert.equal(end([[...Buffer.from("HTTP/1.1 400")]]), "invalid");
    assert.equal(
      end([
        [5, 0],
        [5, 0, 0, 2],
      ]),
      "invalid",
      "an unknown type of address",
    );
    assert.deepEqual(
      outcome(
        () => socks5(EDGE, undefined),
        [
          [5, 0],
          [5, 2],
        ],
      ),
      {
        sent: [
          [5, 1, 0],
          [5, 1, 0, ...NAME],
        ],
        end: "refused",
        why: "not allowed by its rules",
      },
    );
    assert.equal(socks5(EDGE, { user: "u".repeat(256), password: "" }).start().type, "invalid");
    assert.equal(talk(socks5({ host: "x".repeat(256), port: 1 }, undefined), [[5, 0]], 9).end, "invalid");
  });
});

describe("SOCKS 4a", () => {
  it("connects by name, and by address", () => {
    assert.deepEqual(
      outcome(() => socks4(EDGE, ALICE), [[0, 90, 1, 2, 3, 4, 5, 6, 42]]),
      {
        sent: [[4, 1, 1, 0xbb, 0, 0, 0, 1, ...Buffer.from("alice"), 0, ...Buffer.from("edge.example.com"), 0]],
        end: "accepted",
        tunnel: [42],
      },
    );
    const [first] = outcome(() => socks4({ host: "192.0.2.1", port: 80 }, undefined), [[0, 90, 0, 0, 0, 0, 0, 0]]).sent;
    assert.deepEqual(first, [4, 1, 0, 80, 192, 0, 2, 1, 0]);
  });

  it("ends by name", () => {
    const end = (answer: readonly number[]) => outcome(() => socks4(EDGE, undefined), [answer]).end;
    assert.equal(end([0, 91, 0, 0, 0, 0, 0, 0]), "refused");
    assert.equal(end([0, 93, 0, 0, 0, 0, 0, 0]), "refused");
    assert.equal(end([0, 1, 0, 0, 0, 0, 0, 0]), "invalid");
    assert.equal(end([5, 0]), "invalid");
    assert.equal(socks4({ host: "2001:db8::1", port: 80 }, undefined).start().type, "invalid");
  });
});

it("survives any answers, with the same outcome at every split", () => {
  const octet = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 5, 90, 91, 255), fc.nat(255));
  const answers = fc.array(fc.array(octet, { minLength: 1, maxLength: 30 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(answers, fc.boolean(), fc.boolean(), (given, isFive, withPassword) => {
      const make = () => (isFive ? socks5 : socks4)(EDGE, withPassword ? ALICE : undefined);
      // One message of the proxy at a time: what it says ahead is read with its next message.
      const honest = given.map((answer) => answer.slice(0, 2));
      const [whole, split] = [talk(make(), honest, 1000), talk(make(), honest, 1)];
      assert.deepEqual(split, whole);
      for (const size of [1, 2, 3]) talk(make(), given, size);
    }),
  );
});
