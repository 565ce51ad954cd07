/** What is reported of objects, and what need not be. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { REMEMBERED_STATES, REPORT_LIFE } from "../../../src/edge/metrics/limits.ts";
import { ABSENT, ObjectStates, present } from "../../../src/edge/metrics/object-states.ts";

const waiting = (count: number) => ({ ...ABSENT, count, octets: 10 * count, oldest: count === 0 ? null : 7 });

describe("states of objects", () => {
  it("are reported once, and again when they have changed", () => {
    const states = new ObjectStates();
    states.observe("mailbox", "bob", waiting(1));
    states.observe("mailbox", "bob", waiting(2));
    const reports = states.take("here", 0);
    assert.deepEqual(reports, [{ kind: "mailbox", name: "bob", ...waiting(2) }]);
    states.arrived(reports);
    states.observe("mailbox", "bob", waiting(2));
    assert.equal(states.some, false);
    states.observe("mailbox", "bob", waiting(3));
    states.observe("mailbox", "bob", waiting(2));
    assert.equal(states.some, false, "what is as reported again needs no report");
  });

  it("are reported again when the report may be lost, unless there is a newer one", () => {
    const states = new ObjectStates();
    states.observe("mailbox", "alice", waiting(1));
    states.observe("mailbox", "bob", waiting(1));
    const lost = states.take("here", 0);
    states.observe("mailbox", "bob", waiting(5));
    states.failed(lost);
    const counts = states.take("here", 0).map(({ name, count }) => [name, count]);
    assert.deepEqual(
      new Map(counts as [string, number][]),
      new Map([
        ["alice", 1],
        ["bob", 5],
      ]),
    );
  });

  it("count half-open connections until they are open, or late", () => {
    const states = new ObjectStates();
    for (const name of ["one", "two", "three"]) states.halfOpen(name, 1000);
    states.notHalfOpen("one");
    assert.deepEqual(states.take("here", 10), [
      { kind: "isolate", name: "here", ...ABSENT, count: 2, until: 10 + REPORT_LIFE },
    ]);
    assert.equal(states.some, false);
    states.halfOpen("four", 5000);
    assert.deepEqual(
      states.take("here", 2000).map(({ count }) => count),
      [1],
    );
  });

  it("arrive in the end, in any order of changes and losses", () => {
    const step = fc.record({
      name: fc.constantFrom("a", "b"),
      count: fc.nat(3),
      sends: fc.boolean(),
      lost: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const states = new ObjectStates();
        const [truth, collector] = [new Map<string, number>(), new Map<string, number>()];
        const send = (lost: boolean) => {
          const reports = states.take("here", 0);
          // A lost answer may have been a batch that arrived.
          for (const { name, count } of reports) if (!lost || count > 1) collector.set(name, count);
          if (lost) states.failed(reports);
          else states.arrived(reports);
        };
        for (const { name, count, sends, lost } of steps) {
          states.observe("mailbox", name, waiting(count));
          truth.set(name, count);
          if (sends) send(lost);
        }
        send(false);
        assert.deepEqual(new Map([...collector].sort()), new Map([...truth].sort()));
      }),
    );
  });

  it("are remembered in bounded number", () => {
    const states = new ObjectStates();
    for (let at = 0; at < REMEMBERED_STATES + 10; at += 1) states.observe("connection", `c${at}`, present("KeepAlive"));
    states.arrived(states.take("here", 0));
    states.observe("connection", "c0", present("KeepAlive"));
    assert.equal(states.take("here", 0).length, 1, "the oldest is forgotten, so it is sent again");
    states.observe("connection", `c${REMEMBERED_STATES}`, present("KeepAlive"));
    assert.equal(states.some, false);
  });
});
