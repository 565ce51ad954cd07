/**
 * Sessions between a Link and an origin relay: what the relay refuses, and what it sends itself. The relay is a script
 * that shares no code with the edge.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fresh, mailboxOf, receive, until } from "../mailbox/support.ts";
import { type Line, type ScriptedRelay, say } from "../scripted-relay.ts";
import {
  big,
  client,
  connect,
  EDGE,
  edge,
  gives,
  outbox,
  relayThat,
  send,
  TOGETHER,
  urls,
} from "./link-wire-support.ts";

describe("the sessions of a Link", TOGETHER, () => {
  /** All values of Close.ReasonId and an unknown one, and whether the relay will never accept the session. */
  const closes: Record<string, readonly [reasonId: number, refused: boolean]> = {
    NoReason: [0x00, false],
    Idle: [0x02, false],
    ProtocolError: [0x03, false],
    DeviceAuthenticationFailed: [0x04, true],
    UserAuthenticationFailed: [0x05, true],
    StaleAttachAuthenticate: [0x07, false],
    QuotaWouldBeExceeded: [0x0b, false],
    InternalError: [0x0d, false],
    EmptySession: [0x15, true],
    "one that is unknown": [0x42, false],
  };
  const statuses = {
    DNSLookupFailed: 1,
    HostNotReachable: 2,
    ConnectionClosed: 3,
    QuotaWouldBeExceeded: 4,
    LockedOut: 5,
  };
  const refusals = { NoResource: 4, Unknown: 5, NoFanoutEntries: 8, FanoutNotSupported: 12, "one that is unknown": 1 };

  describe("a recipient that is refused or suspended", TOGETHER, () => {
    const others = ["bob", "carol", "dave"];

    for (const [name, responseId] of Object.entries(refusals)) {
      it(`does not affect the others when refused by OpenResponse ${name}`, async () => {
        const relay = relayThat(async (line) => {
          await line.establish();
          // Whether the second message follows the first, or its session is reopened behind others, depends on timing.
          for (let said = await line.hear(); said !== undefined; said = await line.hear()) {
            if (said.command === "Message") line.accept(await line.rest(said));
            if (said.command !== "FanoutOpen") continue;
            line.sessions.set(said.session, said);
            const refused = said.entries[0]?.device === urls("mallory").device;
            line.send(say.openResponse(said.session, refused ? responseId : 0));
          }
        });
        relay.unfinished = 0;
        await send(relay, ["mallory 1", "mallory 1", ...others]);
        await gives(relay, others, 2);
        assert.equal(relay.lines.length, 1);
      });

      it(`does not affect the others when refused by OpenResponse ${name} after an Ok`, async () => {
        const relay = relayThat(async (line) => {
          const { session } = await line.first();
          line.send(say.openResponse(session, responseId));
        });
        await send(relay, ["mallory", ...others]);
        await gives(relay, others, 1);
        assert.equal(relay.lines.length, 1);
      });
    }

    for (const [name, [reasonId, refused]] of Object.entries(closes)) {
      const all = refused ? others : [big, ...others];
      const moments: Record<string, (line: Line) => Promise<number>> = {
        "instead of OpenResponse": async (line) => {
          await line.establish();
          return (await line.opened()).session;
        },
        "in the middle of a message": async (line) => {
          await line.establish();
          const { session } = await line.ready();
          await line.expect("Message");
          await line.expect("Data");
          return session;
        },
        "instead of the acknowledgement": async (line) => (await line.first()).session,
      };
      for (const [moment, untilThen] of Object.entries(moments)) {
        it(`does not affect the others when refused by Close ${name} ${moment}`, async () => {
          const relay = relayThat(async (line) => {
            const session = await untilThen(line);
            line.send(say.close(session, reasonId));
            // What was on its way is ignored.
            for (let said = await line.hear(); said !== undefined; said = await line.hear()) {
              if (said.command !== "FanoutOpen") continue;
              line.sessions.set(said.session, said);
              line.send(say.openResponse(said.session, 0));
              break;
            }
          });
          await send(relay, [big, ...others]);
          if (name === "QuotaWouldBeExceeded" && moment !== "instead of OpenResponse") {
            // It may be taken later.
            await until("the others are given theirs", () => others.every((text) => relay.texts.includes(text)));
            await until("it is put off", async () => (await outbox(relay)).aside === 1);
            const { messages, dropped } = await outbox(relay);
            assert.deepEqual([relay.texts.toSorted(), messages, dropped.RefusedByPeer], [others, 1, 0]);
          } else await gives(relay, all, refused ? 1 : 0);
          assert.equal(relay.lines.length, 1);
        });
      }
    }

    for (const [name, statusId] of Object.entries(statuses)) {
      const about = (relay: ScriptedRelay) =>
        statusId <= 3 ? ([relay.url, ""] as const) : ([urls("mallory").device, urls("mallory").identity] as const);

      it(`does not affect the others when refused by SessionStatus ${name} after its message`, async () => {
        const relay = relayThat(async (line) => {
          const { session } = await line.first();
          line.send(say.sessionStatus(session, statusId, ...about(relay)), say.noop(1));
          // The originator SHOULD close a session without recipients [3.2.5.8].
          for (let said = await line.hear(); said?.command !== "Close"; said = await line.hear()) {
            assert.ok(said !== undefined);
            if (said.command === "FanoutOpen") line.sessions.set(said.session, said);
          }
          for (const id of line.sessions.keys()) if (id !== session) line.send(say.openResponse(id, 0));
        });
        await send(relay, ["mallory", ...others]);
        await gives(relay, others, 1);
        assert.equal(relay.lines.length, 1);
      });

      it(`does not affect the others when refused by SessionStatus ${name} after OpenResponse`, async () => {
        let opens = 0;
        const relay = relayThat(async (line) => {
          await line.establish();
          for (let said = await line.hear(); said !== undefined && opens < 20; said = await line.hear()) {
            if (said.command === "Message") line.accept(await line.rest(said));
            if (said.command !== "FanoutOpen") continue;
            line.sessions.set(said.session, said);
            const refused = said.entries[0]?.device === urls("mallory").device;
            if (refused) opens += 1;
            // In one segment: nothing was sent on the session before both are known.
            const status = refused ? [say.sessionStatus(said.session, statusId, ...about(relay))] : [];
            line.send(say.openResponse(said.session, 0), ...status);
          }
        });
        relay.unfinished = 0;
        await send(relay, ["mallory", ...others]);
        await until("the others are given theirs", () => others.every((text) => relay.texts.includes(text)), 5000);
        assert.equal(opens, 1);
        await gives(relay, others, 1);
      });
    }

    it("does not affect the others when refused by SessionStatus in the middle of its message", async () => {
      const relay = relayThat(async (line) => {
        await line.establish();
        const { session } = await line.opened();
        // What is not read does not fit into the buffers between, so the message stays incomplete.
        line.raw.socket.pause();
        line.send(say.openResponse(session, 0));
        await sleep(500);
        line.send(say.sessionStatus(session, 5, urls("mallory").device, urls("mallory").identity));
        await sleep(300);
        line.raw.socket.resume();
        for (let said = await line.hear(); said?.command !== "Close"; said = await line.hear()) {
          assert.ok(said !== undefined && said.command !== "EndMessage");
          if (said.command === "FanoutOpen") {
            line.sessions.set(said.session, said);
            line.send(say.openResponse(said.session, 0));
          }
        }
      });
      await send(relay, [Buffer.alloc(16_000_000, "mallory ").toString(), ...others]);
      await gives(relay, others, 1);
      assert.equal(relay.lines.length, 1);
    });

    it("is counted as refused even if the connection ends in the same segment", async () => {
      const relay = relayThat(async (line) => {
        const { session } = await line.first();
        const { device, identity } = urls("mallory");
        line.send(say.sessionStatus(session, 5, device, identity), say.connectClose(1, 1));
        await line.dropped();
      });
      await send(relay, ["mallory", ...others]);
      await gives(relay, others, 1);
    });

    it("does not delay the others while its session is suspended, and gets its message afterwards", async () => {
      const relay = relayThat(async (line) => {
        await line.establish();
        const slow = await line.opened();
        line.send(say.openResponse(slow.session, 0x0b));
        const bob = await line.ready();
        line.accept(await line.message());
        assert.equal(relay.taken[0]?.session, bob.session);
        line.send(say.openResponse(slow.session, 0x00));
      });
      await send(relay, ["slow", "bob"]);
      await gives(relay, ["bob", "slow"]);
    });

    it("loses no message when its session is suspended before or during one", async () => {
      const relay = relayThat(async (line) => {
        await line.establish();
        const { session } = await line.opened();
        line.send(say.openResponse(session, 0x0b));
        await sleep(200);
        assert.equal((await outbox(relay)).messages, 2);
        line.send(say.openResponse(session, 0x00));
        const begun = await line.expect("Message");
        line.send(say.openResponse(session, 0x0b));
        await sleep(200);
        line.send(say.openResponse(session, 0x00));
        line.accept(await line.rest(begun));
      });
      const long = Buffer.alloc(8_000_000, "x").toString();
      await send(relay, [long, "2"]);
      await gives(relay, [long, "2"]);
      assert.equal(relay.lines.length, 1);
    });

    it("is not reopened without a pause when each of its sessions is closed at once", async () => {
      let opens = 0;
      const relay = relayThat(async (line) => {
        await line.establish();
        for (let said = await line.hear(); said !== undefined; said = await line.hear()) {
          if (said.command !== "FanoutOpen") continue;
          opens += 1;
          line.send(say.close(said.session, 0x00));
        }
      });
      relay.unfinished = 0;
      await send(relay, ["mallory"]);
      await sleep(1500);
      assert.ok(opens <= 10, `${opens} times within 1.5 s`);
    });
  });

  describe("a fanout to several recipients", TOGETHER, () => {
    const names = ["bob", "mallory", "carol"];

    for (const minor of [5, 6]) {
      for (const [name, statusId] of Object.entries(statuses)) {
        it(`reaches the others in 1.${minor} when one is refused by SessionStatus ${name}`, async () => {
          const relay = relayThat(async (line) => {
            const whole = await line.first(minor);
            const { device, identity } = urls("mallory");
            // 1.5 has no indexes: it names the recipient, or the relay and with it every recipient there.
            const status =
              minor === 6
                ? say.sessionStatus(whole.session, statusId, device, identity, [1])
                : say.sessionStatus(whole.session, statusId, device, identity);
            line.send(status);
            line.accept(whole);
          });
          const raw = await client(`grooveDevice://${fresh("alice")}/raw`);
          const entries = names.map((one) => ({ ...urls(one), relay: relay.url }));
          raw.send(say.fanoutOpen(1, "apphandler", entries));
          assert.equal((await raw.expect("OpenResponse")).responseId, 0);
          raw.send(say.whole(1, fresh("a"), "1"), say.whole(1, fresh("b"), "2"));
          for (let count = 0; count < 2; ) count += (await raw.expect("Noop")).count;
          const named = minor === 6 || statusId > 3;
          await gives(relay, ["1", "2"], named ? 1 : 0);
          const failover = minor === 6 ? { failover: "" } : {};
          for (const taken of relay.taken) {
            assert.deepEqual(
              taken.entries,
              entries.map((one) => ({ ...one, ...failover })),
            );
          }
          assert.equal(relay.lines.length, 1);
          assert.equal(relay.lines[0]?.sessions.size, 1);
        });
      }
    }

    it("is closed once the relay has refused all of them one after the other", async () => {
      const relay = relayThat(async (line) => {
        const { session } = await line.first();
        line.send(
          say.sessionStatus(session, 4, "", "", [2]),
          say.sessionStatus(session, 5, "", "", [0, 1]),
          say.noop(1),
        );
        assert.equal((await line.expect("Close")).session, session);
      });
      const raw = await client(`grooveDevice://${fresh("alice")}/raw`);
      raw.send(say.fanoutOpen(1, "apphandler", [...names.map((one) => ({ ...urls(one), relay: relay.url }))]));
      await raw.expect("OpenResponse");
      raw.send(say.whole(1, fresh("a"), "1"));
      assert.equal((await raw.expect("Noop")).count, 1);
      await gives(relay, [], 3);
    });

    it("is split between the edge and relays", async () => {
      const [one, two] = [relayThat(), relayThat()];
      const here = fresh("here");
      const raw = await client(`grooveDevice://${fresh("alice")}/raw`);
      const entries = [
        { ...urls("bob"), relay: one.url },
        { ...urls(here), relay: "" },
        { ...urls("carol"), relay: two.url },
        { ...urls("dave"), relay: one.url },
        { ...urls("eve"), relay: "grooveDNS://not-allowed.example" },
      ];
      raw.send(say.fanoutOpen(1, "message", entries));
      await raw.expect("OpenResponse");
      const status = await raw.expect("SessionStatus");
      assert.deepEqual([status.statusId, status.device], [2, "grooveDNS://not-allowed.example"]);
      raw.send(say.whole(1, fresh("a"), "all"));
      assert.equal((await raw.expect("Noop")).count, 1);
      await gives(one, ["all"]);
      await gives(two, ["all"]);
      assert.deepEqual(
        one.taken[0]?.entries.map(({ identity }) => identity),
        [urls("bob").identity, urls("dave").identity],
      );
      const [message] = await receive(await connect(`${here}/pc`), 1);
      assert.equal(message?.text(), "all");
    });
  });

  /** A relay that is connected and then does something. */
  async function connected(script: (line: Line) => Promise<unknown>): Promise<ScriptedRelay> {
    const relay = relayThat(async (line) => {
      line.accept(await line.first());
      await script(line);
    });
    await send(relay, ["hello"]);
    return relay;
  }

  describe("a session opened by a relay", TOGETHER, () => {
    it("to a device or an identity is acknowledged once their mailboxes have the message", async () => {
      const bob = fresh("bob");
      const boxes = await Promise.all([urls(bob).device, urls(bob).identity].map((peer) => mailboxOf(edge, peer)));
      const relay = await connected(async (line) => {
        for (const [n, device] of [urls(bob).device, ""].entries()) {
          const session = 2 * n + 2;
          line.send(say.open(session, "message", urls(bob).identity, device));
          assert.deepEqual(await line.expect("OpenResponse"), { command: "OpenResponse", session, responseId: 0 });
          const whole = say.whole(session, `${n}@mallory/pc`, `to ${n}`);
          line.send(whole.subarray(0, -1));
          await sleep(100);
          assert.equal((await boxes[n]?.status())?.messages, 0, "an incomplete message is not stored");
          line.send(whole.subarray(-1));
          assert.equal((await line.expect("Noop")).count, 1);
          assert.equal((await boxes[n]?.status())?.messages, 1, "what is acknowledged is stored");
        }
        line.send(say.close(2, 0), say.close(4, 2), say.close(99, 0));
        line.send(say.open(2, "message", urls(bob).identity, ""));
        assert.equal((await line.expect("OpenResponse")).responseId, 0, "a closed session may be reopened");
      });
      await gives(relay, ["hello"]);
      const messages = await receive(await connect(`${bob}/pc`), 2);
      assert.deepEqual(messages.map((message) => message.text()).sort(), ["to 0", "to 1"]);
      // The relay does not vouch for it.
      const from = `mallory/pc@${relay.name}`;
      assert.deepEqual(
        messages.map((message) => [message.from, message.vouched]),
        [
          [from, false],
          [from, false],
        ],
      );
      assert.equal(relay.lines.length, 1);
    });

    it("may be a fanout to peers of the edge, one of them locked", async () => {
      const people = [fresh("bob"), fresh("carol"), fresh("dave")];
      await (await mailboxOf(edge, urls(people[1] ?? "").device)).setLocked(true);
      const relay = await connected(async (line) => {
        const entries = people.map((one, n) => ({ ...urls(one), relay: n === 0 ? "" : EDGE }));
        line.send(say.fanoutOpen(2, "message", entries));
        assert.equal((await line.expect("OpenResponse")).responseId, 0);
        for (const text of ["1", "2"]) {
          line.send(say.whole(2, `${text}@mallory/pc`, text));
          if (text === "1") {
            const { session, statusId, device, indexes } = await line.expect("SessionStatus");
            assert.deepEqual([session, statusId, device, indexes], [2, 5, entries[1]?.device, undefined]);
          }
          assert.equal((await line.expect("Noop")).count, 1);
        }
      });
      await gives(relay, ["hello"]);
      for (const one of [people[0], people[2]]) {
        const texts = (await receive(await connect(`${one}/pc`), 2)).map((message) => message.text());
        assert.deepEqual(texts, ["1", "2"]);
      }
    });

    it("may not be for peers of another relay: that would be a second hop", async () => {
      const bob = fresh("bob");
      const other = relayThat();
      const relay = await connected(async (line) => {
        for (const [session, relay] of [
          [2, other.url],
          [4, line.relay.url],
          [6, "grooveDNS://elsewhere.example"],
        ] as const) {
          line.send(say.fanoutOpen(session, "message", [{ ...urls(bob), relay }]));
          const { responseId } = await line.expect("OpenResponse");
          assert.equal(responseId, 0x0c, "FanoutNotSupported");
        }
      });
      await gives(relay, ["hello"]);
      assert.equal(other.lines.length, 0);
    });

    it("may carry long messages, interleaved with others", async () => {
      const bob = fresh("bob");
      const bodies = [2, 4, 6].map((session) => Buffer.alloc(1024 * 1024, `${session}`));
      const relay = await connected(async (line) => {
        for (const session of [2, 4, 6]) line.send(say.open(session, "message", urls(bob).identity, urls(bob).device));
        for (const _ of bodies) assert.equal((await line.expect("OpenResponse")).responseId, 0);
        for (const session of [2, 4, 6]) line.send(say.message(session, `${session}@mallory/pc`));
        for (let at = 0; at < 1024 * 1024; at += 2048) {
          for (const [n, body] of bodies.entries()) line.send(say.data(2 * n + 2, body.subarray(at, at + 2048)));
        }
        for (const session of [2, 4, 6]) line.send(say.endMessage(session));
        for (let count = 0; count < 3; ) count += (await line.expect("Noop")).count;
      });
      await gives(relay, ["hello"]);
      const messages = await receive(await connect(`${bob}/pc`), 3);
      for (const [n, { body }] of messages.entries()) assert.ok(Buffer.from(body).equals(bodies[n] ?? Buffer.alloc(0)));
    });

    it("that is closed or lost in the middle of a message leaves nothing", async () => {
      const bob = fresh("bob");
      const relay = await connected(async (line) => {
        line.send(say.open(2, "message", urls(bob).identity, urls(bob).device));
        await line.expect("OpenResponse");
        line.send(say.message(2, "half"), say.data(2, Buffer.from("half")), say.close(2, 0));
        line.send(say.open(2, "message", urls(bob).identity, urls(bob).device));
        await line.expect("OpenResponse");
        line.send(say.whole(2, "whole@mallory/pc", "whole"), say.message(2, "half"), say.data(2, Buffer.from("half")));
        assert.equal((await line.expect("Noop")).count, 1);
        await line.leave("FIN");
      });
      await gives(relay, ["hello"]);
      const bobs = await connect(`${bob}/pc`);
      assert.deepEqual(
        (await receive(bobs, 1)).map((message) => message.text()),
        ["whole"],
      );
      const mailbox = await mailboxOf(edge, urls(bob).device);
      await until("and it is the only one", async () => (await mailbox.status()).messages === 0);
    });

    it("cannot attach an account of the edge: messages still reach its owner", async () => {
      const carol = fresh("carol");
      const carols = await connect(`${carol}/pc`);
      const relay = await connected(async (line) => {
        line.send(say.attach(2, `grooveAccount://${carol}`));
        const said = await line.hear();
        assert.ok(said?.command === "Close" || said?.command === "ConnectClose", `unexpected ${JSON.stringify(said)}`);
      });
      await gives(relay, ["hello"]);
      const alice = await connect();
      await alice.send(carol, "for carol");
      assert.equal((await receive(carols, 1))[0]?.text(), "for carol");
    });

    it("with names that a device cannot receive is refused, and later ones still arrive", async () => {
      const bob = fresh("bob");
      const relay = await connected(async (line) => {
        line.send(say.fanoutOpen(2, "r".repeat(3000), [{ ...urls(bob), relay: "" }]));
        if ((await line.expect("OpenResponse")).responseId === 0) {
          line.send(say.whole(2, "long@mallory/pc", "long"));
          await line.hear();
        }
      });
      await gives(relay, ["hello"]);
      const alice = await connect();
      await alice.send(`${bob}/pc`, "after it");
      const texts = (await receive(await connect(`${bob}/pc`), 1, 5000)).map((message) => message.text());
      assert.deepEqual(texts, ["after it"]);
    });
  });

  describe("a message with flag D", TOGETHER, () => {
    it("is sent at once to a relay that is connected or reachable", async () => {
      for (const first of ["kept", undefined]) {
        const relay = relayThat();
        const alice = await connect();
        if (first !== undefined) await alice.send(`bob/pc@${relay.name}`, first);
        if (first !== undefined) await gives(relay, [first]);
        for (const text of ["now", "and now"]) await alice.send(`bob/pc@${relay.name}`, text, { onlyIfOnline: true });
        await until(
          `both arrive; ${first} before them`,
          () => relay.taken.filter(({ flags }) => flags & 0x01).length === 2,
          3000,
        );
        assert.equal((await outbox(relay)).messages, 0);
      }
    });

    it("is dropped when the relay is down, and its sender is told", async () => {
      const relay = relayThat();
      await relay.close();
      const alice = await connect();
      for (let times = 0; times < 2; times += 1) {
        const sent = alice.send(`bob/pc@${relay.name}`, "now", { onlyIfOnline: true });
        await assert.rejects(sent, { name: "DeviceError", code: "RelayUnreachable" });
      }
      assert.equal((await outbox(relay)).messages, 0);
    });

    it("is not reported as sent while the relay has not answered Connect", async () => {
      const relay = relayThat(async (line) => {
        await line.expect("Connect");
        await line.toEnd();
      });
      relay.unfinished = 0;
      const people = [await connect(), await connect()];
      const sends = people.map(async (one, n) => {
        await sleep(n * 500);
        await one.send(`bob/pc@${relay.name}`, `${n}`, { onlyIfOnline: true });
      });
      await Promise.all(sends.map((sent) => assert.rejects(sent, { code: "RelayUnreachable" })));
    });

    it("is not resent if the connection ended while it was on its way", async () => {
      const relay = relayThat(async (line) => {
        line.accept(await line.first());
        const open = await line.hear();
        const begun = open?.command === "Message" ? open : await line.expect("Message");
        assert.equal((await line.rest(begun)).flags & 0x01, 1);
        await line.leave("RST");
      });
      const alice = await connect();
      await alice.send(`bob/pc@${relay.name}`, "hello");
      await until("it has the first", () => relay.taken.length === 1);
      await alice.send(`bob/pc@${relay.name}`, "now", { onlyIfOnline: true });
      await until("the connection is over", () => relay.unfinished === 0);
      await alice.send(`bob/pc@${relay.name}`, "later");
      await gives(relay, ["hello", "later"]);
    });
  });
});
