import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { RUNNING_WAYS } from "../../../src/device/limits.ts";
import { Race } from "../../../src/device/transports/race.ts";
import { runs } from "../../support/long-form.ts";
import { type Behaviour, run, type Step, way } from "./race-support.ts";

/** The ways through an edge, which share its address. */
function edgeWays(steps: Readonly<Record<string, Partial<Behaviour>>>): Behaviour[] {
  return ["websocket", "longlived", "keepalive", "polling"].map((id) => way(id, 10, { path: "edge", ...steps[id] }));
}

describe("a race", () => {
  it("opens one way on an open network", () => {
    const { won, started, at } = run([way("tcp", 20, { echoes: false }), ...edgeWays({})]);
    assert.deepEqual([won, started, at], ["tcp", ["tcp"], 60]);
  });

  it("opens one way on a network with 250 ms of delay", () => {
    const { won, started } = run(edgeWays({ websocket: { connects: 750, echoesAfter: 250, answers: 250 } }));
    assert.deepEqual([won, started], ["websocket", ["websocket"]]);
  });

  it("goes on at once when a way is refused", () => {
    const { won, at } = run(edgeWays({ websocket: { echoesAfter: "fails" }, longlived: { echoesAfter: "fails" } }));
    assert.deepEqual([won, at], ["keepalive", 60]);
  });

  it("does not wait for a way that buffers", () => {
    const { won, at } = run(edgeWays({ websocket: { echoesAfter: "never" }, longlived: { echoesAfter: "never" } }));
    assert.equal(won, "keepalive");
    assert.ok(at < 2000, `${at} ms`);
  });

  it("ends a way that answers the upgrade and then passes nothing", () => {
    const { won, at, closed } = run(edgeWays({ websocket: { answers: "never" } }));
    assert.deepEqual([won, closed], ["longlived", ["websocket"]]);
    assert.ok(at < 3000, `${at} ms`);
  });

  it("tries a path that cannot be connected once", () => {
    const { won, started } = run([...edgeWays({ websocket: { connects: "fails" } }), way("proxy", 10)]);
    assert.deepEqual([won, started], ["proxy", ["websocket", "proxy"]]);
  });

  it("names a network that swallows everything within 6 s", () => {
    const silent = run(edgeWays({}).map((one) => ({ ...one, connects: "never" as const })));
    assert.equal(silent.won, undefined);
    assert.ok(silent.at <= 6000, `${silent.at} ms`);
    assert.equal(silent.failed.length, 4);
  });

  it("tells within 6 s that nothing comes back, and waits for an edge that is only slow", () => {
    const slow = edgeWays(
      Object.fromEntries(["websocket", "longlived", "keepalive", "polling"].map((id) => [id, { echoesAfter: 12_000 }])),
    );
    const { won, slowAt = Number.POSITIVE_INFINITY } = run(slow);
    assert.ok(won !== undefined && slowAt <= 6000, `${won}, ${slowAt} ms`);
    assert.equal(run(edgeWays({})).slowAt, undefined);
  });

  it("leaves the way that is known to work more time", () => {
    const ways = [way("proxy", 800), way("direct", 10)];
    assert.equal(run(ways).won, "direct");
    assert.deepEqual(run(ways, { isFirstKnown: true }).started, ["proxy"]);
  });

  it("lets a way stand its trial before it says Connect", () => {
    const { won, at } = run([way("websocket", 10, { trial: 25_000 })]);
    assert.deepEqual([won, at], ["websocket", 25_030]);
  });

  it("ends with the relay's refusal, which concerns all ways", () => {
    const race = new Race<string>({ runners: edgeWays({}), now: 0 });
    race.advance(0);
    race.connected("websocket", 10);
    assert.deepEqual(race.refused("websocket", "no token"), [{ type: "lost" }]);
    assert.deepEqual(race.failures, [{ id: "websocket", stage: "connected", error: "no token" }]);
    assert.deepEqual(race.advance(10_000), []);
  });
});

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.nat(8000),
  fc.nat(50),
  fc.constant("never" as const),
  fc.constant("fails" as const),
);
const behaviours = fc.array(
  fc.record({
    path: fc.constantFrom("a", "b", "c"),
    echoes: fc.boolean(),
    connects: step,
    echoesAfter: step,
    answers: step,
  }),
  { minLength: 1, maxLength: 12 },
);
const named = <T>(all: readonly T[]) => all.map((one, n) => ({ ...one, id: `way ${n}` }));

describe("any race", () => {
  it("ends, with at most three ways open, one Connect at a time, and nothing left open", () => {
    fc.assert(
      fc.property(behaviours, fc.boolean(), (all, isFirstKnown) => {
        const { won, at, mostOpen, mostConnecting, failed, started } = run(named(all), { isFirstKnown });
        assert.ok(mostOpen <= RUNNING_WAYS, `${mostOpen} open`);
        assert.ok(mostConnecting <= 1, `${mostConnecting} connecting`);
        assert.ok(at < 300_000, `${at} ms`);
        if (won === undefined)
          assert.deepEqual(
            [...failed].sort(),
            named(all)
              .map(({ id }) => id)
              .sort(),
          );
        assert.ok(won === undefined || started.includes(won));
      }),
      { numRuns: runs(3000) },
    );
  });

  it("takes a trial of no time as none", () => {
    fc.assert(
      fc.property(behaviours, (all) => {
        const untried = named(all);
        assert.deepEqual(run(untried.map((one) => ({ ...one, trial: 0 }))), run(untried));
      }),
    );
  });

  it("finds a way that works within 6 s, whatever the others do", () => {
    const others = fc.array(
      fc.record({
        path: fc.constantFrom("relay", "edge", "proxy"),
        echoes: fc.boolean(),
        how: fc.constantFrom<Step>("never", "fails"),
      }),
      { maxLength: 6 },
    );
    const connects = fc.record(
      Object.fromEntries(["relay", "edge", "proxy"].map((path) => [path, fc.constantFrom<Step>("never", "fails", 10)])),
    );
    fc.assert(
      fc.property(others, connects, fc.nat(6), fc.constantFrom("relay", "edge", "proxy"), (all, dials, at, path) => {
        const bad = named(all).map(({ how, ...one }) => ({
          ...one,
          // Ways on one path connect alike.
          connects: one.path === path ? 10 : (dials[one.path] ?? 10),
          // A way without an echo says Connect as soon as it is connected.
          echoesAfter: one.echoes ? how : 0,
          answers: how,
        }));
        const outcome = run([...bad.slice(0, at), way("good", 20, { path }), ...bad.slice(at)]);
        assert.equal(outcome.won, "good");
        assert.ok(outcome.at <= 6000, `${outcome.at} ms`);
      }),
      { numRuns: runs(3000) },
    );
  });
});
