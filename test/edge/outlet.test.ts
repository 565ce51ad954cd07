/** What a Tunnel tells a mailbox of which its device has acknowledged, also when the mailbox has lost its memory. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { pack } from "../../src/edge/bundle.ts";
import { Outlet } from "../../src/edge/outlet.ts";
import type { Host } from "../../src/edge/terminal.ts";
import type { Connection } from "../../src/sstp/index.ts";

const PEER = "grooveDevice://bob/pc";
const ENVELOPE = { source: "grooveDevice://a/pc", resourceURL: "message", identityURL: "", deviceURL: PEER };

/** An outlet between an engine that numbers what it is given and a mailbox that answers when the test lets it. */
async function started() {
  const sent: string[] = [];
  const told: number[] = [];
  let answers: (() => void)[] | undefined;
  const engine = {
    state: "established",
    closed: undefined,
    pendingOctets: 0,
    open: () => 7,
    beginMessage: (_: number, { userRef }: { userRef: string }) => sent.push(userRef),
    data: () => undefined,
    endMessage: () => sent.length,
    close: () => assert.fail("the connection goes on"),
  } as unknown as Connection;
  const mailbox = {
    attach: async () => ({ generation: 1 }),
    ready: async () => true,
    async acknowledge(_: number, seq: number) {
      told.push(seq);
      const waiting = answers;
      if (waiting !== undefined) await new Promise<void>((resolve) => waiting.push(resolve));
      return true;
    },
  };
  const host = {
    name: "tunnel",
    mailbox: () => mailbox,
    waitUntil: () => undefined,
  } as unknown as Host;
  const outlet = new Outlet(
    host,
    engine,
    undefined,
    () => outlet.fill(),
    () => assert.fail("nobody else consumes it"),
  );
  assert.equal(await outlet.consume(PEER), true);
  const deliver = (from: number, to: number) => {
    const mails = Array.from({ length: to - from + 1 }, (_, n) => ({
      envelope: ENVELOPE,
      fields: { userRef: `${from + n}`, track: false },
      body: new Uint8Array(3),
    }));
    assert.equal(outlet.deliver(PEER, 1, [{ first: from, bundle: pack(mails) }]), "taken");
    outlet.sessionState(7, "ready");
    outlet.fill();
  };
  const settle = async () => {
    for (let n = 0; n < 20; n += 1) await turn();
  };
  return {
    outlet,
    sent,
    told,
    deliver,
    settle,
    /** From now on the mailbox does not answer. */
    hold() {
      answers = [];
    },
    answer() {
      const waiting = answers ?? [];
      answers = undefined;
      for (const resolve of waiting) resolve();
    },
  };
}

describe("what a mailbox is told", () => {
  it("is told again when it shows that it has forgotten it, and nothing is sent again", async () => {
    const { outlet, sent, told, deliver, settle } = await started();
    deliver(1, 5);
    outlet.acknowledged([1, 2, 3]);
    await settle();
    assert.deepEqual(told, [3]);
    deliver(2, 5);
    await settle();
    assert.deepEqual(told, [3, 3]);
    outlet.acknowledged([4, 5]);
    await settle();
    assert.deepEqual(told, [3, 3, 5]);
    assert.deepEqual(sent, ["1", "2", "3", "4", "5"]);
  });

  it("is told again when it has forgotten it while it was being told of more", async () => {
    const { outlet, told, deliver, settle, hold, answer } = await started();
    deliver(1, 5);
    outlet.acknowledged([1, 2, 3]);
    await settle();
    hold();
    outlet.acknowledged([4]);
    await settle();
    assert.deepEqual(told, [3, 4]);
    deliver(1, 5);
    answer();
    await settle();
    assert.deepEqual(told, [3, 4, 4]);
    outlet.acknowledged([5]);
    await settle();
    assert.deepEqual(told, [3, 4, 4, 5]);
  });

  it("is not told of what was never acknowledged, though it comes again", async () => {
    const { sent, told, deliver, settle } = await started();
    deliver(1, 5);
    deliver(1, 5);
    await settle();
    assert.deepEqual(told, []);
    assert.equal(sent.length, 5);
  });
});
