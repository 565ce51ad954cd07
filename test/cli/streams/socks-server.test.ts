/** The server's side of SOCKS 5, as a parser. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { REPLIES, SocksServer, type SocksServerEvent, socksReply } from "../../../src/cli/streams/socks-server.ts";

/** All that a server says to these chunks: its answers, how it ends, and what follows the request. */
interface Said {
  readonly sent: readonly number[];
  readonly end: string;
  readonly rest: readonly number[];
}

function said(chunks: readonly Uint8Array[]): Said {
  const server = new SocksServer();
  const [sent, rest]: [number[], number[]] = [[], []];
  let end: Exclude<SocksServerEvent, { type: "send" }> | undefined;
  for (const chunk of chunks) {
    if (end !== undefined) {
      if (end.type === "connect") rest.push(...chunk);
      continue;
    }
    // In memory that is used again afterwards.
    const memory = Uint8Array.from(chunk);
    for (const event of server.receive(memory)) {
      assert.equal(end, undefined, "nothing follows the end");
      if (event.type !== "connect") sent.push(...event.octets);
      if (event.type !== "send") end = event;
    }
    memory.fill(0xee);
    if (end?.type === "connect") rest.push(...end.rest);
  }
  return { sent, rest, end: end === undefined ? "" : end.type === "connect" ? JSON.stringify(end.target) : end.why };
}

function ascii(text: string): number[] {
  return [...Buffer.from(text)];
}

const GREETING = [5, 1, 0];

function request(address: readonly number[], port: number, command = 1): number[] {
  return [5, command, 0, ...address, port >> 8, port & 0xff];
}

function one(...octets: number[]): Said {
  return said([Uint8Array.from(octets)]);
}

describe("a SOCKS 5 server", () => {
  it("hands on addresses and names as they came, with what follows", () => {
    const name = ascii("0x7f.1.");
    for (const [address, host] of [
      [[1, 10, 1, 2, 3], "10.1.2.3"],
      [[4, ...Array<number>(15).fill(0), 1], "::1"],
      [[4, ...Array<number>(10).fill(0), 255, 255, 127, 0, 0, 1], "::ffff:7f00:1"],
      [[3, name.length, ...name], "0x7f.1."],
      [[3, 0], ""],
      [[3, 2, 0, 0xe9], "\0\u00e9"],
    ] as const) {
      const { sent, end, rest } = one(...GREETING, ...request(address, 65535), 7, 8);
      assert.deepEqual([sent, JSON.parse(end), rest], [[5, 0], { host, port: 65535 }, [7, 8]]);
    }
  });

  it("refuses what it does not know, by the codes of RFC 1928", () => {
    const ipv4 = [1, 10, 1, 2, 3];
    assert.deepEqual(one(4, 1, 0, 80, 10, 1, 2, 3, 0).sent, []);
    assert.match(one(...ascii("GET / HTTP/1.1")).end, /speaks no SOCKS 5/);
    assert.deepEqual(one(5, 0).sent, [5, 0xff]);
    assert.deepEqual(one(5, 2, 1, 2).sent, [5, 0xff]);
    assert.deepEqual(one(5, 2, 2, 0).sent, [5, 0]);
    const refusals = [
      [request(ipv4, 80, 2), "CommandNotSupported"],
      [request(ipv4, 80, 3), "CommandNotSupported"],
      [request([2, 1, 2, 3, 4], 80), "AddressTypeNotSupported"],
      [[4, 1, 0, 1, 10, 1, 2, 3, 0, 80], "GeneralFailure"],
    ] as const;
    for (const [octets, reply] of refusals) {
      assert.deepEqual(one(...GREETING, ...octets).sent, [5, 0, ...socksReply(reply)]);
      assert.equal(socksReply(reply)[1], REPLIES[reply]);
    }
  });

  it("says the same wherever its input is split, whatever that is", () => {
    const octet = fc.nat(255);
    const address = fc.oneof(
      fc.array(octet, { minLength: 4, maxLength: 4 }).map((octets) => [1, ...octets]),
      fc.array(octet, { minLength: 16, maxLength: 16 }).map((octets) => [4, ...octets]),
      fc.array(octet, { maxLength: 255 }).map((octets) => [3, octets.length, ...octets]),
    );
    const greeting = fc.array(octet, { maxLength: 255 }).map((methods) => [5, methods.length, ...methods]);
    const valid = fc
      .tuple(fc.oneof(fc.constant(GREETING), greeting), address, fc.nat(65535), fc.array(octet, { maxLength: 20 }))
      .map(([greeting, address, port, rest]) => [...greeting, ...request(address, port), ...rest]);
    const mutated = fc
      .tuple(valid, fc.nat(), octet)
      .map(([octets, at, value]) => octets.with(at % octets.length, value));
    const input = fc.oneof(valid, mutated, fc.array(octet, { maxLength: 300 }));
    fc.assert(
      fc.property(input, fc.array(fc.nat(40)), (octets, sizes) => {
        const whole = said([Uint8Array.from(octets)]);
        // Each place to split in two, octets one by one, and pieces of any sizes.
        for (let at = 0; at <= octets.length; at += 1) {
          const halves = [Uint8Array.from(octets.slice(0, at)), Uint8Array.from(octets.slice(at))];
          assert.deepEqual(said(halves), whole);
        }
        assert.deepEqual(said(octets.map((value) => Uint8Array.of(value))), whole);
        const pieces: Uint8Array[] = [];
        let left = octets;
        for (const size of sizes) {
          pieces.push(Uint8Array.from(left.slice(0, size)));
          left = left.slice(size);
        }
        assert.deepEqual(said([...pieces, Uint8Array.from(left)]), whole);
      }),
    );
  });
});
