/** Messages that a mailbox holds without having written them: their sender has no answer until they are durable. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import { InboundMessages } from "../../../src/edge/endpoint/inbound-messages.ts";
import { BATCH_OCTETS } from "../../../src/edge/endpoint/limits.ts";
import { MESSAGE_LIMIT } from "../../../src/edge/policy/limits.ts";
import type { Appended, AppendTerms, Held } from "../../../src/edge/rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../../../src/edge/rpc/message-batch.ts";
import type { Connection } from "../../../src/sstp/index.ts";

const FIELDS = { userRef: "1@a", track: false, acknowledgeImmediately: true, doNotDeliverIfOffline: false };

/** A device's messages to a mailbox that holds every one of them until the test says otherwise. */
function started() {
  const completed: number[] = [];
  const terms: (AppendTerms | undefined)[] = [];
  const calls: { held: Held; durable: (upTo: number) => void; lost: () => void }[] = [];
  const seen = { closed: false };
  const mailbox = {
    async append(_bundle: MessageBatch, _from?: string, how?: AppendTerms): Promise<Appended> {
      terms.push(how);
      return { refusals: [], held: { run: "first", upTo: terms.length } };
    },
    whenDurable: (held: Held) =>
      new Promise<number>((durable, reject) => calls.push({ held, durable, lost: () => reject(new Error("lost")) })),
  };
  const engine = {
    closed: undefined,
    complete: (message: number) => completed.push(message),
    session: () => session,
    close: () => {
      seen.closed = true;
    },
  } as unknown as Connection;
  const session = {};
  const host = {
    name: "the tunnel",
    mailbox: () => mailbox,
    waitUntil: () => undefined,
    messageLimit: MESSAGE_LIMIT,
  } as unknown as EndpointContext;
  const charges = { copies: () => undefined, wake: () => undefined };
  const intake = new InboundMessages(host, engine, () => undefined, charges);
  const target = { identityURL: "grooveIdentity://bob", deviceURL: "grooveDevice://bob/pc", relayURL: "" };
  intake.open(1, "grooveDevice://a/pc", "message", [target], false);
  const give = async (message: number) => {
    intake.begin(1, FIELDS);
    intake.data(1, new Uint8Array(BATCH_OCTETS));
    intake.end(1, message);
    intake.flush();
    await turns();
  };
  return { intake, give, completed, terms, calls, seen };
}

async function turns(): Promise<void> {
  for (let n = 0; n < 10; n += 1) await turn();
}

describe("messages that their mailbox holds", () => {
  it("follow each other at once, and are acknowledged in order when they are durable", async () => {
    const { intake, give, completed, terms, calls } = started();
    for (const message of [1, 2, 3]) await give(message);
    assert.deepEqual(
      terms,
      [undefined, "first", "first"].map((after) => ({ hold: true, after })),
    );
    assert.deepEqual([completed, intake.quiet, intake.octets], [[], false, 3 * BATCH_OCTETS]);
    assert.deepEqual(
      calls.map(({ held }) => held),
      [{ run: "first", upTo: 1 }],
    );
    calls[0]?.durable(2);
    await turns();
    assert.deepEqual([completed, calls[1]?.held.upTo], [[1, 2], 3]);
    calls[1]?.durable(3);
    await turns();
    assert.deepEqual([completed, intake.quiet, intake.octets], [[1, 2, 3], true, 0]);
    await give(4);
    assert.equal(terms[3]?.after, undefined, "nothing before it can be lost");
    calls[2]?.durable(4);
    await turns();
  });

  it("end the connection if they are lost, and are not acknowledged", async () => {
    const { give, completed, calls, seen } = started();
    await give(1);
    calls[0]?.lost();
    await turns();
    assert.deepEqual([completed, seen.closed], [[], true]);
  });
});
