/** The sums of ids: which sender has room, and what is kept of them in memory. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { IdSums } from "../../src/relay/id-sums.ts";
import { ID_OCTETS } from "../../src/relay/limits.ts";

const EDGE = "grooveDNS://edge.example.com";
const DEVICE = "grooveDevice://alice";

describe("the sums of ids", () => {
  test("of made-up senders are forgotten and read again, so that they fill no memory", () => {
    const stored = new Map<string, Map<string, number>>();
    const sums = new IdSums(
      (peer) => [...(stored.get(peer) ?? [])].map(([sender, octets]) => ({ sender, octets })),
      100,
    );
    const add = (peer: string, sender: string) => {
      assert.ok(sums.hasRoom(peer, sender, 10));
      const ofPeer = stored.get(peer) ?? new Map<string, number>();
      stored.set(peer, ofPeer.set(sender, (ofPeer.get(sender) ?? 0) + 10));
      sums.add(peer, sender, 10);
    };
    for (let n = 0; n < 500; n += 1) {
      add(`p${n % 20}`, `${EDGE} made-up-${n}`);
      assert.ok(sums.senders <= 100, `${sums.senders}`);
    }
    for (let n = 0; n < 150; n += 1) add("crowd", `${EDGE} made-up-${n}`);
    assert.equal(sums.senders, 150, "those of one peer are all known");
    for (const [peer, ofPeer] of stored) {
      for (const [sender, octets] of ofPeer) assert.equal(sums.of(peer, sender), octets);
    }
    sums.clear();
    assert.equal(sums.senders, 0);
  });

  test("of a relay have one share, whether it vouches for its senders or not", () => {
    const sums = new IdSums(() => []);
    const fill = (sender: string) => {
      let octets = 0;
      while (sums.hasRoom("bob", sender, 1000)) {
        sums.add("bob", sender, 1000);
        if (sums.isWithinShare("bob", sender)) octets += 1000;
        else {
          sums.add("bob", sender, -1000);
          break;
        }
      }
      return octets;
    };
    const of = [fill(EDGE), fill(`${EDGE} mallory`), fill(`${EDGE} carol`)].reduce((all, one) => all + one, 0);
    assert.ok(of <= ID_OCTETS / 2, `${of}`);
    assert.ok(fill(DEVICE) > ID_OCTETS / 5);
  });
});
