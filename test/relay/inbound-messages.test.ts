/** Sessions of a relay that vouches, suspended for one of its senders or for all of them, and resumed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Hub } from "../../src/relay/hub.ts";
import { InboundMessages } from "../../src/relay/inbound-messages.ts";
import { RelayTrust } from "../../src/relay/relay-trust.ts";
import { Store } from "../../src/relay/store.ts";
import type { Connection } from "../../src/sstp/index.ts";

const EDGE = "grooveDNS://edge.example.com";
const BOB = { identityURL: "grooveIdentity://bob", deviceURL: "grooveDevice://bob/pc", relayURL: "" };
const SHARE = 32;

/** An intake whose engine records what each session is told. */
function started() {
  const store = new Store(undefined, { share: 0.5, octets: 1e9, messages: 2 * SHARE });
  const sessions = new Map<number, object>();
  const states = new Map<number, string>();
  const suspended: string[] = [];
  const engine = {
    closed: undefined,
    session: (id: number) => sessions.get(id),
    setAvailability: (id: number, state: string) => states.set(id, state),
  } as unknown as Connection;
  const hub = new Hub(store, () => undefined, new RelayTrust(undefined));
  const intake = new InboundMessages(hub, engine, {
    messageLimit: 1e6,
    suspended: (peer) => suspended.push(peer),
    progressed: () => undefined,
  });
  intake.introduce(EDGE, true);
  let ids = 0;
  return {
    store,
    states,
    intake,
    open(id: number, resource = "message") {
      sessions.set(id, {});
      states.set(id, "ready");
      intake.open(id, EDGE, resource, [BOB], true);
    },
    close(id: number) {
      sessions.delete(id);
      intake.close(id);
    },
    send(id: number, who: string, count = 1) {
      for (let n = 0; n < count; n += 1) {
        ids += 1;
        intake.begin(id, {
          userRef: `${ids}@${who}/pc`,
          track: false,
          acknowledgeImmediately: true,
          doNotDeliverIfOffline: false,
        });
        intake.end(id, ids, 0);
      }
    },
    /** The senders that are asked about when there may be room. */
    asked(): string[] {
      const asked: string[] = [];
      intake.room(BOB.deviceURL, (sender) => {
        asked.push(sender);
        return false;
      });
      return asked;
    },
    room: () => intake.room(BOB.deviceURL, (sender) => store.mayGoOn(BOB.deviceURL, sender)),
  };
}

describe("the sessions of a relay that vouches", () => {
  test("are all suspended when it has used up its share, also later ones, and all resumed", () => {
    const { store, states, intake, open, send, room } = started();
    for (let id = 1; id <= 8; id += 1) open(id);
    open(9, "stream");
    send(1, "alice", SHARE / 2);
    assert.equal(states.get(1), "notReady", "of the one that has used up its own share");
    assert.equal(states.get(2), "ready");
    for (let id = 2; id <= 7; id += 1) send(id, `someone-${id}`, SHARE / 2);
    assert.ok(store.isAtMark(BOB.deviceURL, EDGE));
    assert.equal(states.get(8), "notReady", "of one that has sent nothing");
    open(10);
    assert.equal(states.get(10), "notReady");
    assert.equal(states.get(9), "ready", "streams are not stored");
    assert.ok(!room() && intake.waitsFor(BOB.deviceURL));
    store.remove(store.after(BOB.deviceURL, 0, 100));
    assert.ok(room() && !intake.waitsFor(BOB.deviceURL));
    for (const [id, state] of states) assert.equal(state, "ready", `session ${id}`);
    store.close();
  });

  test("wait for one sender each, however many a relay makes up", () => {
    const { store, intake, open, send, close, asked } = started();
    open(1);
    // What each has is removed again, so the relay stays between half of its share and all of it.
    for (let n = 0; n < 500; n += 1) {
      send(1, `made-up-${n}`, SHARE);
      store.remove(store.after(BOB.deviceURL, 0, 100).slice(SHARE / 2));
    }
    assert.equal(asked().length, 1);
    open(2);
    send(2, "another", SHARE);
    assert.ok(asked().length <= 2);
    for (const id of [1, 2]) close(id);
    assert.deepEqual([asked(), intake.waitsFor(BOB.deviceURL)], [[], false]);
    store.close();
  });
});
