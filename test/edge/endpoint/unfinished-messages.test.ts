/** What the connections of a principal may hold of messages that have arrived in part. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { UNFINISHED_OCTETS, UNFINISHED_SMALL, UNFINISHED_STALL } from "../../../src/edge/endpoint/limits.ts";
import { UnfinishedPool, type UnfinishedShare } from "../../../src/edge/endpoint/unfinished-messages.ts";

const CONNECTIONS = 200;

function connectionsOf(pool: UnfinishedPool, owner: string, count: number): UnfinishedShare[] {
  return Array.from({ length: count }, () => {
    const share = pool.join({});
    share.belongsTo(owner);
    return share;
  });
}

/** What all of them hold when each is read whenever it may be, in pieces of one read, and never finishes. */
function filled(shares: readonly UnfinishedShare[], now: number): number {
  for (let read = true; read; ) {
    read = false;
    for (const share of shares) {
      if (share.octets >= UNFINISHED_OCTETS || share.mustWait(now)) continue;
      share.add(Math.min(UNFINISHED_SMALL, UNFINISHED_OCTETS - share.octets));
      read = true;
    }
  }
  return shares.reduce((sum, { octets }) => sum + octets, 0);
}

describe("the partly received messages of a principal", () => {
  it("stay bounded with hundreds of connections, even when the first ones stall", () => {
    const shares = connectionsOf(new UnfinishedPool(), "mallory", CONNECTIONS);
    const small = CONNECTIONS * 2 * UNFINISHED_SMALL;
    assert.ok(filled(shares, 0) <= 2 * UNFINISHED_OCTETS + small);
    for (let time = 1; time < 10; time += 1) {
      assert.ok(filled(shares, time * UNFINISHED_STALL) <= 3 * UNFINISHED_OCTETS + small);
    }
  });

  it("hold up nobody else", () => {
    const pool = new UnfinishedPool();
    filled(connectionsOf(pool, "mallory", CONNECTIONS), 0);
    const [alice] = connectionsOf(pool, "alice", 1);
    assert.equal(filled(alice === undefined ? [] : [alice], 0), UNFINISHED_OCTETS);
  });

  it("go on one after another as they are finished", () => {
    const pool = new UnfinishedPool();
    const shares = connectionsOf(pool, "alice", 5);
    filled(shares, 0);
    for (const [at, share] of shares.entries()) {
      assert.equal(share.mustWait(0), false);
      share.add(-share.octets);
      filled(shares.slice(at + 1), 0);
    }
    assert.equal(pool.size, 0);
  });

  it("go on when the device that began first has stalled", () => {
    const shares = connectionsOf(new UnfinishedPool(), "alice", 3);
    filled(shares, 0);
    const [, second, third] = shares;
    assert.equal(second?.mustWait(UNFINISHED_STALL - 1), true);
    assert.equal(second?.mustWait(UNFINISHED_STALL), false);
    assert.equal(third?.mustWait(UNFINISHED_STALL), true);
  });
});
