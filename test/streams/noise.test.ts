/**
 * The public test vectors of Noise for the patterns and suites in use (noise-vectors.json: those that the Go library
 * flynn/noise publishes), with the ciphers in JavaScript and with those of Node.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { NODE_AES_GCM, NODE_CHACHA_POLY } from "../../src/device/streams/node-ciphers.ts";
import type { CipherSuite } from "../../src/streams/ciphers.ts";
import { AES_GCM, CHACHA_POLY, nonceOf, TAG_OCTETS } from "../../src/streams/ciphers.ts";
import { NoiseError, NoiseHandshake, type NoiseOptions, type Pattern, publicKeyOf } from "../../src/streams/noise.ts";
import { runs } from "../support/long-form.ts";
import { generator, hex, secret, toHex } from "./support.ts";

interface Vector {
  readonly name: string;
  readonly prologue: string;
  readonly initiatorStatic: string;
  readonly responderStatic: string;
  readonly initiatorEphemeral: string;
  readonly responderEphemeral: string;
  readonly messages: readonly { readonly payload: string; readonly ciphertext: string }[];
}

const VECTORS = JSON.parse(readFileSync(new URL("noise-vectors.json", import.meta.url), "utf8")) as Vector[];
const NOTHING = new Uint8Array(0);
const MUTATED = runs(2000);

function optionsOf(vector: Vector, suite: CipherSuite, initiator: boolean): NoiseOptions {
  const pattern = vector.name.split("_")[1] as Pattern;
  return {
    pattern,
    initiator,
    suite,
    prologue: hex(vector.prologue),
    staticSecret: hex(initiator ? vector.initiatorStatic : vector.responderStatic),
    ephemeralSecret: hex(initiator ? vector.initiatorEphemeral : vector.responderEphemeral),
    ...(pattern === "IK" && initiator && { peerStatic: publicKeyOf(hex(vector.responderStatic)) }),
  };
}

/** Goes through the messages of a handshake, and the first of each direction after it, the initiator's first. */
function check(vector: Vector, suite: CipherSuite): void {
  const initiator = new NoiseHandshake(optionsOf(vector, suite, true));
  const responder = new NoiseHandshake(optionsOf(vector, suite, false));
  let [writer, reader] = [initiator, responder];
  const messages = [...vector.messages];
  while (!writer.finished) {
    const { payload, ciphertext } = messages.shift() as Vector["messages"][number];
    assert.equal(toHex(writer.write(hex(payload))), ciphertext);
    assert.equal(toHex(reader.read(hex(ciphertext))), payload);
    [writer, reader] = [reader, writer];
  }
  assert.deepEqual(initiator.hash, responder.hash);
  assert.equal(messages.length, 2);
  [writer, reader] = [initiator, responder];
  for (const { payload, ciphertext } of messages) {
    const nonce = nonceOf(suite, 0);
    const sealed = new Uint8Array(payload.length / 2 + TAG_OCTETS);
    suite.cipher(writer.split().send).seal(nonce, NOTHING, hex(payload), sealed);
    assert.equal(toHex(sealed), ciphertext);
    assert.equal(toHex(suite.cipher(reader.split().receive).open(nonce, NOTHING, sealed) ?? NOTHING), payload);
    [writer, reader] = [reader, writer];
  }
}

describe("the public vectors of Noise", () => {
  it("are 16: IK and XX, two suites, with and without prologue and payloads", () => {
    assert.equal(VECTORS.length, 16);
  });

  for (const [index, vector] of VECTORS.entries()) {
    const suites = [CHACHA_POLY, AES_GCM, NODE_CHACHA_POLY, NODE_AES_GCM];
    it(`match: ${vector.name}, ${index}`, () => {
      for (const suite of suites.filter(({ name }) => name === vector.name.split("_")[3])) check(vector, suite);
    });
  }
});

describe("a handshake", () => {
  const vector = VECTORS[0] as Vector;

  it("fails if the prologues differ", () => {
    const initiator = new NoiseHandshake(optionsOf(vector, AES_GCM, true));
    const responder = new NoiseHandshake({ ...optionsOf(vector, AES_GCM, false), prologue: Uint8Array.of(1) });
    assert.throws(() => responder.read(initiator.write(NOTHING)), NoiseError);
  });

  it("refuses keys of low order", () => {
    const responder = new NoiseHandshake(optionsOf(vector, AES_GCM, false));
    assert.throws(() => responder.read(new Uint8Array(96)), NoiseError);
  });

  it("of IK needs the responder's key", () => {
    const { peerStatic: _, ...options } = optionsOf(vector, AES_GCM, true);
    assert.throws(() => new NoiseHandshake(options), /use XX/);
  });

  it(`throws only NoiseError for ${MUTATED} mutated messages`, () => {
    const random = generator(7);
    const messages = VECTORS.flatMap((one) => one.messages.slice(0, 1).map(({ ciphertext }) => hex(ciphertext)));
    for (let run = 0; run < MUTATED; run += 1) {
      const pick = VECTORS[run % VECTORS.length] as Vector;
      const suite = pick.name.includes("AESGCM") ? NODE_AES_GCM : NODE_CHACHA_POLY;
      const message = (messages[run % VECTORS.length] as Uint8Array).slice(0, random(120));
      if (message.length > 0) message[random(message.length)] = random(256);
      try {
        new NoiseHandshake({ ...optionsOf(pick, suite, false), ephemeralSecret: secret(run) }).read(message);
      } catch (error) {
        assert.ok(error instanceof NoiseError, String(error));
      }
    }
  });
});
