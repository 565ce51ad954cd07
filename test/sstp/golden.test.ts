import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command, Version } from "../../src/sstp/index.ts";
import { Connection, decode, encode, VERSION_1_5, VERSION_1_6 } from "../../src/sstp/index.ts";
import { bytes, hex, joined, toHex, z } from "./support.ts";

interface Golden {
  name: string;
  versions: Version[];
  command: Command;
  octets: Uint8Array;
}

const both = [VERSION_1_5, VERSION_1_6];
const token = Uint8Array.of(0xaa, 0xbb, 0xcc);

// Id, length and every field written by hand, in the order of the sections.
const goldens: Golden[] = [
  {
    name: "[2.2.1.1] Connect",
    versions: both,
    command: {
      command: "Connect",
      majorVersionNumber: 1,
      minorVersionNumber: 6,
      targetDeviceURL: "dev://b",
      sourceDeviceURLs: ["dev://a"],
      authenticationToken: new Uint8Array(0),
      peerProductVersion: "",
      peerProductCapabilities: "",
    },
    octets: hex(
      "01 1b00", // CommandId, CommandLength 27
      "01 06 00", // version 1.6, Reserved
      "6465763a2f2f62 00", // TargetDeviceURL
      "01", // NumSourceDeviceURLs
      "6465763a2f2f61 00", // SourceDeviceURLs
      "0000", // AuthenticationTokenLength
      "00 00", // PeerProductVersion, PeerProductCapabilities
    ),
  },
  {
    name: "[2.2.1.1] Connect with two sources and a token",
    versions: both,
    command: {
      command: "Connect",
      majorVersionNumber: 1,
      minorVersionNumber: 5,
      targetDeviceURL: "",
      sourceDeviceURLs: ["a", "b"],
      authenticationToken: token,
      peerProductVersion: "V P 1 2",
      peerProductCapabilities: "",
    },
    octets: hex("01 1a00", "01 05 00", "00", "02 6100 6200", "0300 aabbcc", "56205020312032 00", "00"),
  },
  {
    name: "[2.2.2] ConnectResponse",
    versions: both,
    command: {
      command: "ConnectResponse",
      responseId: 2,
      majorVersionNumber: 1,
      minorVersionNumber: 6,
      retryTime: 0x01020304,
      authenticationToken: token,
      peerProductVersion: "P",
      peerProductCapabilities: "",
    },
    octets: hex("02 1200", "02", "01 06", "04030201", "0300 aabbcc", "50 00", "00"),
  },
  {
    name: "[2.2.3] ConnectAuthenticate",
    versions: both,
    command: { command: "ConnectAuthenticate", authenticationToken: token },
    octets: hex("03 0800", "0300 aabbcc"),
  },
  {
    name: "[2.2.4] ConnectClose",
    versions: both,
    command: { command: "ConnectClose", messageCount: 258, reasonId: 1, returnTime: 60 },
    octets: hex("04 0c00", "02010000", "01", "3c000000"),
  },
  {
    name: "[2.2.5.1] Open",
    versions: both,
    command: { command: "Open", sessionId: 0x80000001, resourceURL: "r", identityURL: "i", deviceURL: "" },
    octets: hex(
      "05 0f00", // CommandId, CommandLength 15
      "01000080", // SessionId
      "7200 6900 00", // ResourceURL, IdentityURL, DeviceURL
      "00", // r1..r7, I
      "0000", // Reserved
    ),
  },
  {
    name: "[2.2.6.1] FanoutOpen in 1.5",
    versions: [VERSION_1_5],
    command: {
      command: "FanoutOpen",
      sessionId: 3,
      resourceURL: "r",
      fanoutDeviceEntries: [
        { identityURL: "b", deviceURL: "d", relayURL: "" },
        { identityURL: "c", deviceURL: "", relayURL: "x" },
      ],
    },
    octets: hex(
      "06 1800", // CommandId, CommandLength 24
      "03000000", // SessionId
      "7200", // ResourceURL
      "00", // r1..r7, I
      "0200", // NumFanoutDeviceEntries
      "6200 6400 00", // IdentityURL, DeviceURL, RelayURL
      "6300 00 7800",
      "0000", // Reserved
    ),
  },
  {
    name: "[2.2.6.1] FanoutOpen in 1.6",
    versions: [VERSION_1_6],
    command: {
      command: "FanoutOpen",
      sessionId: 3,
      resourceURL: "r",
      fanoutDeviceEntries: [
        { identityURL: "b", deviceURL: "d", relayURL: "" },
        { identityURL: "c", deviceURL: "", relayURL: "x" },
      ],
    },
    // As in 1.5, plus FailoverDeviceURLs at the end of each entry.
    octets: hex("06 1a00", "03000000", "7200", "00", "0200", "6200 6400 00 00", "6300 00 7800 00", "0000"),
  },
  {
    name: "[2.2.7] OpenResponse",
    versions: both,
    command: { command: "OpenResponse", sessionId: 3, responseId: 0x0b },
    octets: hex("07 0800", "03000000", "0b"),
  },
  {
    name: "[2.2.14.1] Attach",
    versions: both,
    command: { command: "Attach", eventId: 5, resourceURL: "", accountURL: "a", authenticationToken: token },
    octets: hex("08 0f00", "05000000", "00", "6100", "0300 aabbcc"),
  },
  {
    name: "[2.2.15] AttachResponse",
    versions: both,
    command: { command: "AttachResponse", eventId: 5, responseId: 0, authenticationToken: token },
    octets: hex("09 0d00", "05000000", "00", "0300 aabbcc"),
  },
  {
    name: "[2.2.16] AttachAuthenticate",
    versions: both,
    command: { command: "AttachAuthenticate", eventId: 5, authenticationToken: token },
    octets: hex("0a 0c00", "05000000", "0300 aabbcc"),
  },
  {
    name: "[2.2.17] Register",
    versions: both,
    command: { command: "Register", eventId: 5, authenticationToken: token },
    octets: hex("0b 0c00", "05000000", "0300 aabbcc"),
  },
  {
    name: "[2.2.18] RegisterResponse",
    versions: both,
    command: { command: "RegisterResponse", eventId: 5, responseId: 1, authenticationToken: token },
    octets: hex("0c 0d00", "05000000", "01", "0300 aabbcc"),
  },
  {
    name: "[2.2.10.1] Message",
    versions: both,
    command: { command: "Message", sessionId: 1, messageCount: 2, flags: 0x01, userRef: "u" },
    octets: hex("0d 0e00", "01000000", "02000000", "01", "7500"),
  },
  {
    name: "[2.2.10.1] Message with every field",
    versions: both,
    command: {
      command: "Message",
      sessionId: 1,
      messageCount: 0,
      flags: 0x77, // F G S A E D
      userRef: "",
      ephemeral: 7,
      streamSize: [1n, 2n ** 64n - 1n, 0x100000000n],
      fragmentation: token,
    },
    octets: hex(
      "0d 2e00", // CommandId, CommandLength 46
      "01000000", // SessionId
      "00000000", // MessageCount
      "77",
      "00", // UserRef
      "07000000", // Ephemeral Fields
      "0100000000000000 ffffffffffffffff 0000000001000000", // StreamSize Fields
      "0300 aabbcc", // Fragmentation Fields
    ),
  },
  {
    name: "[2.2.11] Data",
    versions: both,
    command: { command: "Data", sessionId: 0xfffefdfc, data: token },
    octets: hex("0e 0a00", "fcfdfeff", "aabbcc"),
  },
  {
    name: "[2.2.12] EndMessage",
    versions: both,
    command: { command: "EndMessage", sessionId: 1 },
    octets: hex("0f 0700", "01000000"),
  },
  {
    name: "[2.2.13] Noop",
    versions: both,
    command: { command: "Noop", messageCount: 3 },
    octets: hex("10 0700", "03000000"),
  },
  {
    name: "[2.2.9.1] Close is exactly 8 octets",
    versions: both,
    command: { command: "Close", sessionId: 1, reasonId: 0x15 },
    octets: hex("11 0800", "01000000", "15"),
  },
  {
    name: "[2.2.8.1] SessionStatus of a single device",
    versions: both,
    command: { command: "SessionStatus", sessionId: 3, statusId: 4, deviceURL: "d", identityURL: "i" },
    octets: hex("12 0d00", "03000000", "04", "00", "6400", "6900"),
  },
  {
    name: "[2.2.8.1] SessionStatus of several devices in 1.6",
    versions: [VERSION_1_6],
    command: {
      command: "SessionStatus",
      sessionId: 3,
      statusId: 1,
      deviceURL: "d",
      identityURL: "",
      fanoutDeviceIndexes: [0, 258],
    },
    octets: hex("12 1200", "03000000", "01", "00", "6400", "00", "0200 0000 0201"),
  },
];

for (const { name, versions, command, octets } of goldens) {
  for (const version of versions) {
    test(`${name}, version 1.${version.minor}: golden octets in both directions`, () => {
      assert.equal(toHex(encode(command, version)), toHex(octets));
      assert.deepEqual(decode(octets, version), [command]);
    });
  }
}

test("[2.2.5.1] reserved fields and the I bit are ignored on receipt", () => {
  const octets = hex("05 0f00", "01000000", "7200 6900 00", "01", "ffff");
  assert.deepEqual(decode(octets, VERSION_1_6), [
    { command: "Open", sessionId: 1, resourceURL: "r", identityURL: "i", deviceURL: "" },
  ]);
});

test("unknown enumeration values are decoded", () => {
  assert.deepEqual(decode(hex("07 0800", "03000000", "ee"), VERSION_1_6), [
    { command: "OpenResponse", sessionId: 3, responseId: 0xee },
  ]);
});

test("[4.2.1] a device-to-device exchange matches octet for octet", () => {
  const a = new Connection({
    role: "client",
    outbound: true,
    localDeviceURLs: ["device1"],
    now: 0,
    productVersion: "V A 1 1",
  });
  const b = new Connection({
    role: "client",
    outbound: false,
    localDeviceURLs: ["device2"],
    now: 0,
    productVersion: "V B 1 1",
  });
  const exchange = (from: Connection, to: Connection, ...parts: string[]) => {
    const octets = joined(from.output());
    assert.equal(toHex(octets), toHex(hex(...parts)));
    return to.receive(octets, 0);
  };

  a.connect("device2");
  exchange(a, b, "01 2200", "01 06 00", z("device2"), "01", z("device1"), "0000", z("V A 1 1"), "00");
  b.acceptConnect();
  exchange(b, a, "02 1500", "00", "01 06", "00000000", "0000", z("V B 1 1"), "00");

  const sessionId = a.open({ resourceURL: "apphandler", identityURL: "identityB", deviceURL: "device2" });
  exchange(a, b, "05 2700", "01000000", z("apphandler"), z("identityB"), z("device2"), "00", "0000");
  b.setAvailability(sessionId, "ready");
  exchange(b, a, "07 0800", "01000000", "00");

  a.beginMessage(sessionId, { userRef: "m1", acknowledgeImmediately: true });
  a.data(sessionId, bytes("one"));
  a.data(sessionId, bytes("two"));
  a.endMessage(sessionId);
  const events = exchange(
    a,
    b,
    "0d 0f00 01000000 00000000 04 6d3100", // Message, flag A, UserRef "m1"
    "0e 0a00 01000000 6f6e65", // Data "one"
    "0e 0a00 01000000 74776f", // Data "two"
    "0f 0700 01000000", // EndMessage
  );
  assert.deepEqual(
    events.map((event) => event.type),
    ["message", "data", "data", "endMessage"],
  );

  b.complete(1);
  assert.deepEqual(exchange(b, a, "10 0700", "01000000"), [{ type: "acknowledged", messages: [1] }]);
  a.closeSession(sessionId, 0);
  exchange(a, b, "11 0800", "01000000", "00");
  assert.deepEqual([a.sessions(), b.sessions()], [[], []]);
});

test("[2.2.1.1, 2.2.2] both sides announce their capabilities, and learn the other's", () => {
  const options = { now: 0, productVersion: "P" } as const;
  const edge = new Connection({
    ...options,
    role: "relay",
    outbound: true,
    localDeviceURLs: ["e"],
    capabilities: "vouched",
  });
  const relay = new Connection({
    ...options,
    role: "relay",
    outbound: false,
    localDeviceURLs: ["r"],
    capabilities: "vouched",
  });
  edge.connect("r");
  const asked = joined(edge.output());
  assert.equal(toHex(asked), toHex(hex("01 1700", "01 06 00", "7200", "01 6500", "0000", "5000", "766f7563686564 00")));
  const [connect] = relay.receive(asked, 0);
  assert.equal(connect?.type === "connect" && connect.productCapabilities, "vouched");
  relay.acceptConnect();
  const answered = joined(relay.output());
  assert.equal(toHex(answered), toHex(hex("02 1600", "00", "01 06", "00000000", "0000", "5000", "766f7563686564 00")));
  const [connected] = edge.receive(answered, 0);
  assert.equal(connected?.type === "connected" && connected.productCapabilities, "vouched");
});
