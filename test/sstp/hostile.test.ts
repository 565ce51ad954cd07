import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Command } from "../../src/sstp/index.ts";
import { Connection, Decoder, encode, VERSION_1_5, VERSION_1_6, WireError } from "../../src/sstp/index.ts";
import { runs } from "../support/long-form.ts";
import { anyCommand, clientOptions, connected, cut, entry, joined, pump, RELAY_URL, relayOptions } from "./support.ts";

const RUNS = runs(500);
const INPUTS_PER_RUN = 200;
const INPUTS = (RUNS * INPUTS_PER_RUN).toLocaleString("en");

/** A small generator: fast-check's values are too slow for 100,000 inputs. */
function generator(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Random octets, or valid ones with octets changed, removed, repeated or truncated. */
function hostile(valid: Uint8Array, random: (below: number) => number): Uint8Array {
  if (random(5) === 0) {
    const octets = Uint8Array.from({ length: random(64) }, () => random(256));
    // Most first octets are not a CommandId; this gives the rest of the decoder its share.
    if (octets.length > 0 && random(2) === 0) octets[0] = 1 + random(0x12);
    return octets;
  }
  let octets: Uint8Array = valid.slice();
  for (let changes = 1 + random(4); changes > 0 && octets.length > 0; changes--) {
    const at = random(octets.length);
    switch (random(4)) {
      case 0:
        octets[at] = random(256);
        break;
      case 1:
        octets[at] = (octets[at] as number) ^ (1 << random(8));
        break;
      case 2:
        octets = joined([octets.subarray(0, at), octets.subarray(Math.min(octets.length, at + 1 + random(9)))]);
        break;
      default:
        octets = joined([octets.subarray(0, at), octets.subarray(random(at + 1), at), octets.subarray(at)]);
    }
  }
  return octets;
}

const commands = fc.array(anyCommand(VERSION_1_6), { minLength: 1, maxLength: 6 });

test(`${INPUTS} hostile inputs: the decoder throws only WireError, and buffers at most one command`, () => {
  fc.assert(
    fc.property(commands, fc.integer(), (list, seed) => {
      const random = generator(seed);
      const valid = joined(list.map((command) => encode(command, VERSION_1_6)));
      for (let i = 0; i < INPUTS_PER_RUN; i++) {
        const octets = hostile(valid, random);
        const decoder = new Decoder(random(2) === 0 ? VERSION_1_5 : VERSION_1_6);
        try {
          for (const chunk of cut(octets, [random(4000), random(4000)])) decoder.push(chunk, () => true);
          assert.ok(decoder.held.length <= octets.length);
        } catch (error) {
          assert.ok(error instanceof WireError, String(error));
        }
      }
    }),
    { numRuns: RUNS },
  );
});

/** Connections in every state in which commands have a different meaning. */
function connections(random: (below: number) => number): Connection {
  switch (random(5)) {
    case 0:
      return new Connection(relayOptions);
    case 1: {
      const client = new Connection(clientOptions);
      client.connect(RELAY_URL);
      client.output();
      return client;
    }
    default: {
      const { client, relay } = connected();
      const here = { identityURL: "i", deviceURL: "d", relayURL: "" };
      for (const side of [client, relay]) {
        const other = side === client ? relay : client;
        const sessionId = side.open(entry);
        pump(client, relay);
        other.setAvailability(sessionId, random(2) === 0 ? "ready" : "notReady");
        side.openFanout({ resourceURL: "r", entries: [here, here] });
      }
      client.attach({ accountURL: "a" });
      pump(client, relay);
      return random(2) === 0 ? client : relay;
    }
  }
}

/** Moves the sessions of commands close to existing ones. */
function near(command: Command, random: (below: number) => number): Command {
  if ("sessionId" in command) return { ...command, sessionId: 1 + random(7) };
  if ("eventId" in command) return { ...command, eventId: 1 + random(7) };
  if ("messageCount" in command) return { ...command, messageCount: random(2) };
  return command;
}

test(`${INPUTS} hostile inputs: a connection never throws, ends at most once, and answers little`, () => {
  fc.assert(
    fc.property(commands, fc.integer(), (list, seed) => {
      const random = generator(seed);
      for (let i = 0; i < INPUTS_PER_RUN; i++) {
        const connection = connections(random);
        const sessions = connection.sessions().length;
        const valid = joined(list.map((command) => encode(near(command, random), VERSION_1_6)));
        const octets = random(3) === 0 ? valid : hostile(valid, random);
        const events = cut(octets, [random(4000)]).flatMap((chunk) => connection.receive(chunk, i));
        const ends = events.filter((event) => event.type === "closed");
        assert.equal(ends.length, connection.closed === undefined ? 0 : 1);
        assert.equal(events.at(-1)?.type === "closed", ends.length === 1);
        assert.ok(connection.pendingOctets <= 100 + 2 * octets.length);
        assert.ok(connection.sessions().length <= sessions + list.length + octets.length / 8);
        if (connection.closed !== undefined) assert.deepEqual(connection.receive(valid, i), []);
      }
    }),
    { numRuns: RUNS },
  );
});

test("an announced length whose data never comes costs at most one command of memory", () => {
  const decoder = new Decoder(VERSION_1_6);
  decoder.push(Uint8Array.of(0x06, 0xff, 0xff), () => true);
  for (let i = 0; i < 65_531; i += 1) decoder.push(Uint8Array.of(0x41), () => true);
  assert.equal(decoder.held.length, 65_534);
  assert.throws(() => decoder.push(Uint8Array.of(0x41), () => true), WireError);
});

test("a flood of opens is bounded in sessions and URLs", () => {
  const { relay } = connected();
  let ended = 0;
  for (let sessionId = 1; sessionId < 20_000; sessionId += 2) {
    const open = encode({ command: "Open", sessionId, ...entry, deviceURL: "d".repeat(1900) }, VERSION_1_6);
    ended += relay.receive(open, 0).filter((event) => event.type === "closed").length;
    relay.output();
  }
  assert.equal(ended, 0);
  assert.ok(relay.sessions().length <= 4096);
  assert.ok(JSON.stringify(relay.snapshot()).length < 5 * 1024 * 1024);
});
