import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Command, CommandName } from "../../src/sstp/index.ts";
import {
  Decoder,
  decode,
  encode,
  encodeDataInto,
  layouts,
  VERSION_1_5,
  VERSION_1_6,
  WireError,
} from "../../src/sstp/index.ts";
import { anyCommand, commandsOf, cut, hex, joined, versions } from "./support.ts";

function failsWith(code: string): (error: unknown) => boolean {
  return (error) => error instanceof WireError && error.code === code;
}

function decodeChunks(chunks: readonly Uint8Array[], version = VERSION_1_6): Command[] {
  const commands: Command[] = [];
  const decoder = new Decoder(version);
  for (const chunk of chunks) {
    decoder.push(chunk, (command) => {
      commands.push(command);
      return true;
    });
  }
  assert.equal(decoder.held.length, 0);
  return commands;
}

test("[2.2] the 18 commands have the unique ids 0x01 to 0x12", () => {
  const ids = Object.values(layouts).map((layout) => layout.id);
  assert.deepEqual(
    ids.toSorted((a, b) => a - b),
    Array.from({ length: 18 }, (_, i) => i + 1),
  );
});

for (const version of versions) {
  for (const [name, arbitrary] of Object.entries(commandsOf(version)) as [CommandName, fc.Arbitrary<Command>][]) {
    test(`${name}, 1.${version.minor}: encoding and decoding round-trips`, () => {
      fc.assert(
        fc.property(arbitrary, (command) => {
          const octets = encode(command, version);
          assert.equal(octets.length, (octets[1] as number) + 256 * (octets[2] as number));
          assert.deepEqual(decode(octets, version), [command]);
        }),
        { numRuns: 200 },
      );
    });
  }

  test(`1.${version.minor}: any split of the octets decodes to the same commands`, () => {
    fc.assert(
      fc.property(
        fc.array(anyCommand(version), { maxLength: 12 }),
        fc.array(fc.nat(), { maxLength: 40 }),
        (commands, places) => {
          const all = joined(commands.map((command) => encode(command, version)));
          assert.deepEqual(decodeChunks(cut(all, places), version), commands);
        },
      ),
      { numRuns: 500 },
    );
  });

  test(`1.${version.minor}: decoding octet by octet gives the same commands`, () => {
    fc.assert(
      fc.property(fc.array(anyCommand(version), { maxLength: 6 }), (commands) => {
        const all = joined(commands.map((command) => encode(command, version)));
        assert.deepEqual(
          decodeChunks(
            Array.from(all, (octet) => Uint8Array.of(octet)),
            version,
          ),
          commands,
        );
      }),
      { numRuns: 50 },
    );
  });
}

test("Data within one chunk is a view of it, Data across chunks is a copy", () => {
  const chunk = joined([1, 2].map((n) => encode({ command: "Data", sessionId: n, data: hex("0102") }, VERSION_1_6)));
  const [whole] = decodeChunks([chunk]);
  assert.ok(whole?.command === "Data" && whole.data.buffer === chunk.buffer);
  const [first] = decodeChunks([chunk.subarray(0, 8), chunk.subarray(8)]);
  assert.ok(first?.command === "Data" && first.data.buffer !== chunk.buffer);
});

test("a Buffer decodes to the same copies and texts as other arrays", () => {
  const { Data, ...others } = commandsOf(VERSION_1_6);
  fc.assert(
    fc.property(fc.oneof(...Object.values(others)), (command) => {
      const chunk = Buffer.from(encode(command, VERSION_1_6));
      const decoded = decode(chunk, VERSION_1_6);
      chunk.fill(0);
      assert.deepEqual(decoded, [command]);
    }),
    { numRuns: 500 },
  );
});

test("tokens are copies, so that a chunk may be reused", () => {
  const chunk = encode({ command: "ConnectAuthenticate", authenticationToken: hex("0102") }, VERSION_1_6);
  const [command] = decodeChunks([chunk]);
  chunk.fill(0);
  assert.deepEqual(command, { command: "ConnectAuthenticate", authenticationToken: hex("0102") });
});

test("[3.1.4.3.3] the version may change between two commands of one chunk", () => {
  const open = (version: typeof VERSION_1_5) =>
    encode(
      {
        command: "FanoutOpen",
        sessionId: 1,
        resourceURL: "r",
        fanoutDeviceEntries: [{ identityURL: "i", deviceURL: "", relayURL: "" }],
      },
      version,
    );
  const decoder = new Decoder(VERSION_1_6);
  let count = 0;
  decoder.push(joined([open(VERSION_1_6), open(VERSION_1_5)]), () => {
    decoder.version = VERSION_1_5;
    count += 1;
    return true;
  });
  assert.equal(count, 2);
});

test("a sink that returns false ends the decoding", () => {
  const noop = encode({ command: "Noop", messageCount: 0 }, VERSION_1_6);
  let count = 0;
  new Decoder(VERSION_1_6).push(joined([noop, noop, hex("ff")]), () => {
    count += 1;
    return false;
  });
  assert.equal(count, 1);
});

test("commands before malformed octets are delivered; after that the decoder stays failed", () => {
  const decoder = new Decoder(VERSION_1_6);
  const commands: string[] = [];
  const sink = ({ command }: Command) => {
    commands.push(command);
    return true;
  };
  assert.throws(() => decoder.push(hex("10 0700 00000000", "ff 0700"), sink), failsWith("unknown-command"));
  assert.throws(() => decoder.push(hex("10 0700 00000000"), sink), failsWith("unknown-command"));
  assert.deepEqual(commands, ["Noop"]);
});

const broken: [name: string, octets: Uint8Array, code: string][] = [
  ["CommandId 0x00", hex("00 0700 00000000"), "unknown-command"],
  ["CommandId 0x13", hex("13 0700 00000000"), "unknown-command"],
  ["CommandLength 0", hex("10 0000"), "truncated"],
  ["CommandLength 2", hex("10 0200"), "truncated"],
  ["[2.2.11] Data of 2056 octets", hex("0e 0808 01000000"), "too-long"],
  ["[2.2.3] ConnectAuthenticate of 2056 octets", hex("03 0808"), "too-long"],
  ["[2.2.5] Open of 2056 octets", hex("05 0808"), "too-long"],
  ["[2.2.10] Message of 2056 octets", hex("0d 0808"), "too-long"],
  ["[2.2.9.1] Close of 9 octets", hex("11 0900"), "too-long"],
  ["[2.2.9.1] Close of 7 octets", hex("11 0700 01000000"), "truncated"],
  ["Data without a SessionId", hex("0e 0600 010000"), "truncated"],
  ["a field past the end", hex("03 0600 0300 aa"), "truncated"],
  ["a string without NUL", hex("05 0a00 01000000 727272"), "truncated"],
  ["octets after the last field", hex("10 0800 00000000 00"), "trailing-octets"],
  ["a string beyond ASCII", hex("05 0f00 01000000 c300 6900 00 00 0000"), "not-ascii"],
  ["[2.2.5.1] Open with an empty ResourceURL", hex("05 0e00 01000000 00 6900 00 00 0000"), "empty-field"],
  ["[2.2.6.1] FanoutOpen with an empty ResourceURL", hex("06 0d00 01000000 00 00 0000 0000"), "empty-field"],
  ["[2.2.14.1] Attach with an empty AccountURL", hex("08 0b00 01000000 00 00 0000"), "empty-field"],
  ["[2.2.6.1] a count above the number of entries", hex("06 1200 01000000 7200 00 ffff 6900 0000 0000"), "truncated"],
];

for (const [name, octets, code] of broken) {
  test(`${name} is rejected: ${code}`, () => {
    assert.throws(() => decode(octets, VERSION_1_6), failsWith(code));
    assert.throws(() => decodeChunks(Array.from(octets, (octet) => Uint8Array.of(octet))), failsWith(code));
  });
}

test("[3.3.5.6.1] FanoutOpen of the other version is rejected", () => {
  const command: Command = {
    command: "FanoutOpen",
    sessionId: 1,
    resourceURL: "r",
    fanoutDeviceEntries: [{ identityURL: "i", deviceURL: "d", relayURL: "r" }],
  };
  assert.throws(() => decode(encode(command, VERSION_1_6), VERSION_1_5), failsWith("trailing-octets"));
  assert.throws(() => decode(encode(command, VERSION_1_5), VERSION_1_6), WireError);
});

test("[2.2.8.1] SessionStatus with indexes is rejected in 1.5", () => {
  const octets = hex("12 1000", "03000000", "01", "00", "6400", "00", "0100 0000");
  assert.throws(() => decode(octets, VERSION_1_5), failsWith("trailing-octets"));
});

test("a complete command that is too short is rejected", () => {
  assert.throws(() => decode(hex("10 0700 0000"), VERSION_1_6), failsWith("truncated"));
});

const unsayable: [name: string, command: Command, code: string][] = [
  ["[3.1.4.6] Data of 2049 octets", { command: "Data", sessionId: 1, data: new Uint8Array(2049) }, "too-long"],
  [
    "[2.2.3] ConnectAuthenticate above 2055 octets",
    { command: "ConnectAuthenticate", authenticationToken: new Uint8Array(2051) },
    "too-long",
  ],
  [
    "[2.2.5.1] Open with an empty ResourceURL",
    { command: "Open", sessionId: 1, resourceURL: "", identityURL: "i", deviceURL: "" },
    "empty-field",
  ],
  [
    "[2.2.14.1] Attach with an empty AccountURL",
    { command: "Attach", eventId: 1, resourceURL: "", accountURL: "", authenticationToken: new Uint8Array(0) },
    "empty-field",
  ],
  ["a string beyond ASCII", { command: "Message", sessionId: 1, messageCount: 0, flags: 0, userRef: "é" }, "not-ascii"],
  ["a string with NUL", { command: "Message", sessionId: 1, messageCount: 0, flags: 0, userRef: "a\0b" }, "not-ascii"],
  ["a number too large", { command: "Noop", messageCount: 2 ** 32 }, "out-of-range"],
  ["a number below 0", { command: "Close", sessionId: -1, reasonId: 0 }, "out-of-range"],
  ["a fraction", { command: "Close", sessionId: 0.5, reasonId: 0 }, "out-of-range"],
  [
    "a 64-bit number too large",
    { command: "Message", sessionId: 1, messageCount: 0, flags: 0, userRef: "", streamSize: [1n << 64n, 0n, 0n] },
    "out-of-range",
  ],
  [
    "a token that is too long",
    { command: "Register", eventId: 1, authenticationToken: new Uint8Array(65536) },
    "out-of-range",
  ],
];

for (const [name, command, code] of unsayable) {
  test(`${name} cannot be encoded: ${code}`, () => assert.throws(() => encode(command, VERSION_1_6), failsWith(code)));
}

test("[3.1.4.3.3] FailoverDeviceURLs MUST NOT be present in 1.5", () => {
  const entry = { identityURL: "i", deviceURL: "", relayURL: "", failoverDeviceURLs: "f" };
  const command: Command = { command: "FanoutOpen", sessionId: 1, resourceURL: "r", fanoutDeviceEntries: [entry] };
  assert.throws(() => encode(command, VERSION_1_5), failsWith("not-in-version"));
});

test("[2.2.8.1] indexes are not encoded in 1.5", () => {
  const command: Command = {
    command: "SessionStatus",
    sessionId: 1,
    statusId: 1,
    deviceURL: "d",
    identityURL: "",
    fanoutDeviceIndexes: [1],
  };
  assert.throws(() => encode(command, VERSION_1_5), failsWith("not-in-version"));
});

test("encodeDataInto writes the same octets as encode", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.uint8Array({ maxLength: 2048 }),
      fc.nat(20),
      (sessionId, data, offset) => {
        const target = new Uint8Array(4096);
        const end = encodeDataInto(sessionId, data, 0, data.length, target, offset);
        assert.deepEqual(target.slice(offset, end), encode({ command: "Data", sessionId, data }, VERSION_1_6));
      },
    ),
  );
  assert.throws(() => encodeDataInto(1, new Uint8Array(2049), 0, 2049, new Uint8Array(4096), 0), failsWith("too-long"));
});

test("a long string is decoded", () => {
  const text = "x".repeat(60000);
  const command: Command = {
    command: "Attach",
    eventId: 1,
    resourceURL: "",
    accountURL: text,
    authenticationToken: new Uint8Array(0),
  };
  assert.deepEqual(decode(encode(command, VERSION_1_6), VERSION_1_6), [command]);
});
