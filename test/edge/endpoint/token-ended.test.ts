/** What a Tunnel tells the other ends of a device's channels when the token of the device was revoked. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { TOLD_AGAIN, TOLD_AT_ONCE } from "../../../src/edge/endpoint/limits.ts";
import type { StreamDestination, Streamed } from "../../../src/edge/endpoint/stream-peers.ts";
import { type Channels, tellTokenEnded } from "../../../src/edge/endpoint/token-ended.ts";
import { type MessageBatch, unpack } from "../../../src/edge/rpc/message-batch.ts";
import { ALL_ROUTES, encodeNotice } from "../../../src/streams/index.ts";

const SOURCE = "grooveDevice://alice/pc";

function channelsTo(name: string): Channels {
  const url = `grooveDevice://${name}/pc`;
  const envelope = { source: SOURCE, resourceURL: "stream", identityURL: `grooveIdentity://${name}`, deviceURL: url };
  return { key: url, peer: url, envelope };
}

/** Passes notices to devices that answer as they are told. */
class Passing {
  readonly passed: string[] = [];
  atOnce = 0;
  #running = 0;
  answer: (peer: string) => Streamed = () => "passed";

  async pass({ peer, source }: StreamDestination, bundle: MessageBatch, count: number): Promise<Streamed> {
    assert.deepEqual([source, count], [SOURCE, 1]);
    const [mail] = unpack(bundle);
    assert.deepEqual(Uint8Array.from(mail?.body ?? []), encodeNotice(ALL_ROUTES, "TokenEnded"));
    this.#running += 1;
    this.atOnce = Math.max(this.atOnce, this.#running);
    await Promise.resolve();
    this.#running -= 1;
    this.passed.push(peer);
    return this.answer(peer);
  }
}

async function settle(): Promise<void> {
  for (let n = 0; n < 1000; n += 1) await Promise.resolve();
}

describe("the devices with channels to one whose token was revoked", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
  afterEach(() => mock.timers.reset());

  it("are told once each, some at a time", async () => {
    const passing = new Passing();
    const all = Array.from({ length: 3 * TOLD_AT_ONCE + 1 }, (_, n) => channelsTo(`bob${n}`));
    let ids = 0;
    await tellTokenEnded(passing, all, () => `${ids++}@alice/pc`);
    assert.deepEqual(new Set(passing.passed), new Set(all.map(({ peer }) => peer)));
    assert.deepEqual([passing.passed.length, ids, passing.atOnce], [all.length, all.length, TOLD_AT_ONCE]);
  });

  it("are told again for half a minute if they were away, and nobody else is", async () => {
    const passing = new Passing();
    const [bob, carol] = [channelsTo("bob"), channelsTo("carol")];
    passing.answer = (peer) => (peer === bob.peer ? "lost" : "passed");
    const telling = tellTokenEnded(passing, [bob, carol], () => "1@alice/pc");
    for (const pause of TOLD_AGAIN) {
      await settle();
      mock.timers.tick(pause);
    }
    await telling;
    const told = (peer: string) => passing.passed.filter((one) => one === peer).length;
    assert.deepEqual([told(bob.peer), told(carol.peer)], [1 + TOLD_AGAIN.length, 1]);
  });

  it("are told no more when they have refused", async () => {
    const passing = new Passing();
    passing.answer = () => "locked";
    await tellTokenEnded(passing, [channelsTo("bob")], () => "1@alice/pc");
    assert.equal(passing.passed.length, 1);
  });
});
