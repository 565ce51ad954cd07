/** The total backlog of WebSocket messages that nobody has taken. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  HOLD_ALL_OCTETS,
  HOLD_FLIGHT_OCTETS,
  HOLD_MESSAGE,
  HOLD_MOST_OCTETS,
  HOLD_OCTETS,
} from "../../../src/edge/tunnel/limits.ts";
import { BacklogPool, WebSocketBacklog } from "../../../src/edge/tunnel/websocket-backlog.ts";

const MESSAGE = 65_536;

/** A view, which a dropped backlog does not free for the others. */
const BODY = new Uint8Array(MESSAGE + 1).subarray(1);

/** What the Grooveway library has in flight when it is told to hold. */
const WRITTEN_AHEAD = 256 * 1024;

describe("the WebSocket backlogs of an isolate", () => {
  for (const tokens of [1, 20, 200]) {
    it(`stay bounded when 200 connections with ${tokens} tokens ignore hold, and a later one that obeys loses nothing`, () => {
      const pool = new BacklogPool();
      const deaf = Array.from({ length: 200 }, (_, n) => ({
        backlog: new WebSocketBacklog(pool),
        token: `token ${n % tokens}`,
      }));
      const honest = { backlog: new WebSocketBacklog(pool), token: "an honest one" };
      let most = 0;
      const come = ({ backlog, token }: typeof honest) => {
        backlog.came(MESSAGE, token);
        if (!backlog.dropped) backlog.push(BODY);
        most = Math.max(most, pool.octets);
        if (backlog.mustHold) backlog.hold();
      };
      let onTheWay = WRITTEN_AHEAD;
      for (let round = 0; round < 100; round += 1) {
        if (round >= 5 && (!honest.backlog.held || onTheWay > 0)) {
          if (honest.backlog.held) onTheWay -= MESSAGE;
          come(honest);
        }
        for (const one of deaf) come(one);
      }
      assert.ok(most <= HOLD_MOST_OCTETS + MESSAGE + HOLD_MESSAGE, `${most} octets`);
      assert.equal(honest.backlog.dropped, false);
      assert.ok(deaf.some(({ backlog }) => backlog.dropped));
    });
  }

  it("are dropped from a connection that ignores hold before others of its principal", () => {
    const pool = new BacklogPool();
    const others = Array.from({ length: 60 }, () => new WebSocketBacklog(pool));
    const deaf = new WebSocketBacklog(pool);
    for (const one of [...others, deaf]) {
      one.came(HOLD_OCTETS, "somebody");
      one.hold();
      one.came(HOLD_FLIGHT_OCTETS - MESSAGE, "somebody");
    }
    assert.ok(pool.octets > HOLD_ALL_OCTETS);
    deaf.came(2 * MESSAGE, "somebody");
    assert.ok(deaf.dropped);
    assert.ok(others.every(({ dropped }) => !dropped));
  });

  it("are counted as messages arrive, are taken and are dropped", () => {
    const step = fc.record({
      who: fc.nat(4),
      what: fc.constantFrom("came", "taken", "hold", "goOn", "drop"),
      octets: fc.integer({ min: 0, max: 16 * 1024 * 1024 }),
    });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const pool = new BacklogPool();
        const backlogs = Array.from({ length: 5 }, () => ({
          backlog: new WebSocketBacklog(pool),
          messages: [] as number[],
        }));
        for (const { who, what, octets } of steps) {
          const one = backlogs[who];
          if (one === undefined) continue;
          const { backlog, messages } = one;
          if (what === "came") {
            backlog.came(octets, `token ${who % 2}`);
            messages.push(octets);
          } else if (what === "taken" && messages.length > 0) backlog.taken(messages.shift() ?? 0);
          else if (what === "hold") backlog.hold();
          else if (what === "goOn") backlog.goOn();
          else if (what === "drop") backlog.drop();
          for (const each of backlogs) {
            const expected = each.messages.reduce((sum, length) => sum + length + HOLD_MESSAGE, 0);
            assert.equal(each.backlog.octets, each.backlog.dropped ? 0 : expected);
          }
          assert.equal(
            pool.octets,
            backlogs.reduce((sum, each) => sum + each.backlog.octets, 0),
          );
          assert.ok(pool.octets <= HOLD_MOST_OCTETS);
        }
      }),
    );
  });
});
