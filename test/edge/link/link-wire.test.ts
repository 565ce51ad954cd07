/**
 * What a Link sends to an origin relay, and how it handles everything that may happen to a connection. The relay is a
 * script that shares no code with the edge.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LINK_CONNECT_TIMEOUT } from "../../../src/edge/link/limits.ts";
import { fresh, receive, until } from "../mailbox/support.ts";
import { command, type Entry, type Line, type Script, say } from "../scripted-relay.ts";
import { big, connect, EDGE, given, gives, link, outbox, relayThat, send, TOGETHER } from "./link-wire-support.ts";

describe("a Link on the wire", TOGETHER, () => {
  describe("a connection", TOGETHER, () => {
    it("is shared by all recipients and sessions, opened as a relay, and delivers every message whole", async () => {
      const lengths = [0, 1, 2047, 2048, 2049, 100_000, 1024 * 1024];
      const bodies = lengths.map((length) => Buffer.alloc(length, `${length}`));
      const relay = relayThat(async (line) => {
        const hello = await line.establish();
        assert.deepEqual(hello, { command: "Connect", version: [1, 6], target: relay.url, sources: [EDGE] });
      });
      const alice = await connect();
      for (const [n, body] of bodies.entries()) await alice.send(`bob${n % 3}/pc@${relay.name}`, body);
      await alice.send(`carol@${relay.name}`, "to an identity", { resource: "apphandler" });
      await given(relay);
      assert.equal(relay.taken.length, bodies.length + 1);
      assert.equal(relay.lines.length, 1);
      assert.equal(relay.lines[0]?.sessions.size, 4, "one session per recipient");
      for (const who of [0, 1, 2]) {
        const device = `grooveDevice://bob${who}/pc`;
        const taken = relay.taken.filter(({ entries }) => entries[0]?.device === device);
        // In order per recipient: a session that is not open yet does not delay others.
        assert.deepEqual(
          taken.map(({ body }) => body.toString()),
          bodies.filter((_, n) => n % 3 === who).map(String),
        );
        for (const { resource, flags, entries } of taken) {
          assert.equal(resource, "message");
          assert.equal(flags & 0x01, 0, "not flag D");
          const to = { identity: `grooveIdentity://bob${who}`, device };
          assert.deepEqual(entries, [{ ...to, relay: relay.url, failover: "" }]);
        }
      }
      const carol = { identity: "grooveIdentity://carol", device: "", relay: relay.url, failover: "" };
      const last = relay.taken.filter(({ entries }) => entries[0]?.device === "");
      assert.deepEqual(
        last.map(({ resource, entries, body }) => [resource, entries, body.toString()]),
        [["apphandler", [carol], "to an identity"]],
      );
      assert.equal((await link(relay)).connected, true);
    });

    for (const [minor, failover] of [
      [5, {}],
      [7, { failover: "" }],
    ] as const) {
      it(`works with a relay that answers in version 1.${minor}`, async () => {
        // The lower of two versions is used [4.1.1]; none above 1.6 is known.
        const relay = relayThat((line) => line.establish(minor));
        await send(relay, ["bob"]);
        await gives(relay, ["bob"]);
        const bob = { identity: "grooveIdentity://bob", device: "grooveDevice://bob/pc", relay: relay.url };
        assert.deepEqual(relay.taken[0]?.entries, [{ ...bob, ...failover }]);
      });
    }

    it("without a ConnectResponse is abandoned and retried", async () => {
      const relay = relayThat(async (line) => {
        await line.expect("Connect");
        await line.dropped();
        // A busy machine is late, but not by as much again.
        assert.ok(Date.now() - (relay.times[0] ?? 0) < 2 * LINK_CONNECT_TIMEOUT);
      });
      await send(relay, ["1", "2"]);
      await gives(relay, ["1", "2"]);
    });

    it("that is idle gets a Noop within 45 s", async () => {
      const relay = relayThat(async (line) => {
        line.accept(await line.first());
        const said = await line.hear();
        assert.deepEqual(said, { command: "Noop", count: 0 });
      });
      await send(relay, ["1"]);
      await until("a Noop", () => relay.unfinished === 0, 40_000);
      await gives(relay, ["1"]);
    });

    it("that is not read blocks no others, and nothing is lost", async () => {
      const other = relayThat();
      const served = Promise.withResolvers<void>();
      const full = Array.from({ length: 12 }, (_, n) => `${n}${"x".repeat(500_000)}`);
      const relay = relayThat(async (line) => {
        await line.establish();
        line.raw.socket.pause();
        await served.promise;
        line.raw.reset();
      });
      await send(relay, full);
      await send(other, ["1"]);
      await gives(other, ["1"]);
      served.resolve();
      await gives(relay, full);
    });

    it("may receive its data octet by octet or in one segment", async () => {
      const bob = fresh("bob");
      const relay = relayThat(async (line) => {
        const slowly = async (octets: Buffer) => {
          // A pause is long on a busy machine, and the edge's patience is limited.
          const patience = Date.now() + 2000;
          for (const octet of octets) {
            line.raw.write(Buffer.from([octet]));
            if (Date.now() < patience) await sleep(1);
          }
        };
        line.raw.socket.setNoDelay(true);
        await line.expect("Connect");
        await slowly(say.connectResponse(0));
        const { session } = await line.opened();
        await slowly(say.openResponse(session, 0));
        line.take(await line.message());
        const to = [`grooveIdentity://${bob}`, `grooveDevice://${bob}/pc`] as const;
        await slowly(say.open(2, "a", ...to));
        assert.deepEqual(await line.expect("OpenResponse"), { command: "OpenResponse", session: 2, responseId: 0 });
        await slowly(say.whole(2, "slow", "slow", { count: 1 }));
        assert.equal((await line.expect("Noop")).count, 1);
        line.send(say.open(4, "b", ...to), say.noop(0), say.open(6, "b", ...to));
        for (const id of [4, 6]) assert.equal((await line.expect("OpenResponse")).session, id);
        line.send(say.whole(4, "4", "fast 4"), say.close(4, 0), say.whole(6, "6", "fast 6"), say.noop(0));
        for (let count = 0; count < 2; ) count += (await line.expect("Noop")).count;
      });
      await send(relay, ["1"]);
      await gives(relay, ["1"]);
      const texts = (await receive(await connect(`${bob}/pc`), 3)).map((message) => message.text());
      assert.deepEqual(texts, ["slow", "fast 4", "fast 6"]);
    });
  });

  describe("acknowledgements", TOGETHER, () => {
    const all = ["1", "2", "3", "4", "5", "6", "7"];

    /** Opens sessions and reads this many messages, and acknowledges none. */
    async function read(line: Line, count: number) {
      const wholes = [];
      for (let n = 0; n < count; n += 1) {
        const open = await line.expect("FanoutOpen");
        line.sessions.set(open.session, open);
        line.send(say.openResponse(open.session, 0));
        wholes.push(await line.message());
      }
      return wholes;
    }

    it("may be cumulative, late, and carried by Noop, Message or ConnectClose; unacknowledged messages are resent in order", async () => {
      const relay = relayThat(
        async (line) => {
          await line.establish();
          const wholes = await read(line, 7);
          assert.equal((await outbox(relay)).messages, 7, "unacknowledged messages stay");
          await sleep(300);
          for (const whole of wholes.slice(0, 3)) line.take(whole);
          line.send(say.noop(3));
          await until("three are gone", async () => (await outbox(relay)).messages === 4);
          for (const whole of wholes.slice(3, 4)) line.take(whole);
          const open = say.open(2, "a", "grooveIdentity://nobody", "");
          line.send(open);
          await line.expect("OpenResponse");
          line.send(say.message(2, "m", { count: 1 }));
          await until("and a fourth", async () => (await outbox(relay)).messages === 3);
          for (const whole of wholes.slice(4, 5)) line.take(whole);
          line.send(say.connectClose(0x01, 1, 0));
          await line.toEnd();
        },
        async (line) => {
          await line.establish();
          for (const whole of await read(line, 2)) line.take(whole);
          line.send(say.noop(1), say.noop(1));
        },
      );
      await send(relay, all);
      await gives(relay, all);
      assert.equal(relay.lines.length, 2);
    });

    it("are not attributed to other messages when this side closed a session with some outstanding", async () => {
      // There are more recipients than sessions kept open: the oldest are closed, but their messages still count.
      const many = Array.from({ length: 70 }, (_, n) => `${n}`);
      const relay = relayThat(async (line) => {
        await line.establish();
        let waiting = 0;
        while (relay.taken.length < many.length) {
          const said = await line.hear();
          assert.ok(said !== undefined);
          if (said.command === "FanoutOpen") {
            line.sessions.set(said.session, said);
            line.send(say.openResponse(said.session, 0));
          }
          if (said.command !== "Message") continue;
          line.take(await line.rest(said));
          waiting += 1;
        }
        line.send(say.noop(waiting - 1));
        await until("one is left", async () => (await outbox(relay)).messages === 1);
        line.send(say.noop(1));
      });
      await send(relay, many);
      await gives(relay, many);
      assert.equal(relay.lines.length, 1);
    });
  });

  // What a relay does on one connection, and how that ends; on the next connection everything is accepted.
  const ends = { "a FIN": "FIN", "an RST": "RST" } as const;

  const breaches: Record<string, Script | readonly Script[]> = {};

  for (const [name, how] of Object.entries(ends)) {
    breaches[`${name} before Connect is read`] = (line) => line.leave(how);
    breaches[`${name} instead of ConnectResponse`] = async (line) => {
      await line.expect("Connect");
      await line.leave(how);
    };
    breaches[`${name} in the middle of ConnectResponse`] = async (line) => {
      await line.expect("Connect");
      line.send(say.connectResponse(0).subarray(0, 9));
      await sleep(50);
      await line.leave(how);
    };
    breaches[`${name} behind ConnectResponse`] = async (line) => {
      await line.establish();
      await line.leave(how);
    };
    breaches[`${name} instead of OpenResponse`] = async (line) => {
      await line.establish();
      await line.opened();
      await line.leave(how);
    };
    breaches[`${name} in the middle of a message`] = async (line) => {
      await line.establish();
      await line.ready();
      await line.expect("Message");
      await line.expect("Data");
      await line.leave(how);
    };
    breaches[`${name} instead of the acknowledgement`] = async (line) => {
      await line.first();
      await line.leave(how);
    };
    breaches[`${name} in the middle of a Noop that acknowledges`] = async (line) => {
      await line.first();
      line.send(say.noop(1).subarray(0, 6));
      await sleep(50);
      await line.leave(how);
    };
  }

  const responses = { WrongDevice: 1, TryLater: 2, WillUpgrade: 3, WontUpgrade: 4, NewVersionRequired: 5 };
  const failures = { AuthenticationFailed: 6, "unknown 7": 7, "unknown 8": 8, ConnectRejected: 9, "unknown 255": 255 };
  for (const [name, responseId] of Object.entries({ ...responses, ...failures })) {
    breaches[`ConnectResponse ${name}`] = async (line) => {
      await line.expect("Connect");
      line.send(say.connectResponse(responseId, 6, responseId === 2 ? 1 : 0));
      await line.dropped();
    };
  }

  const reasons = { NoReason: 0, Resting: 1, ProtocolError: 3, CrossedConnections: 12, TooManyUnknown: 15, other: 200 };
  for (const [name, reasonId] of Object.entries(reasons)) {
    breaches[`ConnectClose ${name} in one segment with ConnectResponse Ok`] = async (line) => {
      await line.expect("Connect");
      line.send(say.connectResponse(0), say.connectClose(reasonId));
      await line.dropped();
    };
    breaches[`ConnectClose ${name} that acknowledges nothing`] = async (line) => {
      await line.first();
      line.send(say.connectClose(reasonId));
      await line.dropped();
    };
    breaches[`ConnectClose ${name} that acknowledges a message`] = async (line) => {
      line.take(await line.first());
      line.send(say.connectClose(reasonId, 1));
      await line.dropped();
    };
  }

  /** What a relay must not send, by state of the connection, and the close reason it gets. */
  const wrong: [name: string, when: "connecting" | "established" | "sent", octets: Buffer, reason: number | "any"][] = [
    ["an answer of a web server", "connecting", Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"), 3],
    ["ConnectResponse Ok in version 2.0", "connecting", say.connectResponse(0, 0, 0, 2), 3],
    ["ConnectResponse Ok in version 1.4", "connecting", say.connectResponse(0, 4), 3],
    ["a ConnectResponse whose text has no end", "connecting", say.connectResponse(0).subarray(0, -1), "any"],
    ["Open before ConnectResponse", "connecting", say.open(2, "a", "grooveIdentity://bob", ""), 15],
    ["Connect from the side that was connected to", "established", say.connect(EDGE, "grooveDNS://x"), "any"],
    ["a second ConnectResponse", "established", say.connectResponse(0), "any"],
    ["an unknown command", "established", command(0x13, Buffer.alloc(4)), 3],
    ["command 0", "established", Buffer.alloc(16), 3],
    ["command 255", "established", Buffer.alloc(16, 255), 3],
    ["a CommandLength below the header", "established", Buffer.from([0x10, 2, 0, 0]), 3],
    ["a Noop that is too short", "established", command(0x10, Buffer.alloc(3)), 3],
    ["a Noop that is too long", "established", command(0x10, Buffer.alloc(5)), 3],
    ["a Close of nine octets", "established", command(0x11, Buffer.alloc(6)), 3],
    ["a MessageCount above what was sent", "sent", say.noop(2), "any"],
    ["OpenResponse for an unknown session", "established", say.openResponse(99, 0), 15],
    ["SessionStatus for an unknown session", "established", say.sessionStatus(99, 4, "a", "b"), 15],
    ["SessionStatus for an unknown entry", "sent", say.sessionStatus(1, 4, "", "", [0, 7]), "any"],
    ["Message on an unknown session", "established", say.message(2, "x"), 15],
    ["Data on an unknown session", "established", say.data(2, Buffer.alloc(1)), 15],
    ["EndMessage on an unknown session", "established", say.endMessage(2), 15],
    ["Open of a session that is open", "sent", say.open(1, "a", "grooveIdentity://bob", ""), 15],
    ["Message on a session of the other side", "sent", say.message(1, "x"), "any"],
  ];
  const opened = (id: number) => say.open(id, "a", "grooveIdentity://bob", "");
  const entry: Entry = { identity: "grooveIdentity://bob", device: "", relay: "" };
  wrong.push(
    ["Open twice", "established", Buffer.concat([opened(2), opened(2)]), 15],
    ["Data without Message", "established", Buffer.concat([opened(2), say.data(2, Buffer.alloc(1))]), 3],
    ["EndMessage without Message", "established", Buffer.concat([opened(2), say.endMessage(2)]), 3],
    ["Message twice", "established", Buffer.concat([opened(2), say.message(2, "x"), say.message(2, "y")]), 3],
    [
      "Data of 2049 octets",
      "established",
      Buffer.concat([opened(2), say.message(2, "x"), say.data(2, Buffer.alloc(2049))]),
      3,
    ],
    ["FanoutOpen in the form of 1.5 on 1.6", "established", say.fanoutOpen(2, "a", [entry], 5), 3],
  );
  for (const [name, when, octets, reason] of wrong) {
    breaches[name] = async (line) => {
      if (when === "connecting") await line.expect("Connect");
      if (when === "established") await line.establish();
      if (when === "sent") await line.first();
      line.send(octets);
      // The edge waits for the rest of a truncated command.
      if (name.includes("no end")) line.raw.fin();
      await line.dropped(name.includes("no end") ? undefined : reason);
    };
  }

  describe("no message is lost or duplicated after", TOGETHER, () => {
    for (const [name, on] of Object.entries(breaches)) {
      it(name, async () => {
        const scripts = [on].flat();
        const relay = relayThat(...scripts);
        const texts = ["1", big, "3"];
        await send(relay, texts);
        await gives(relay, texts);
        assert.equal(relay.lines.length, scripts.length + 1, "the next connection stays");
        assert.equal((await link(relay)).connected, true);
      });
    }
  });

  describe("an unavailable relay", TOGETHER, () => {
    it("is retried with growing pauses", async () => {
      const refuse = async (line: Line) => {
        await line.expect("Connect");
        line.send(say.connectResponse(6));
        await line.dropped();
      };
      const relay = relayThat(refuse, refuse, refuse);
      await send(relay, ["1"]);
      for (const failures of [1, 2, 3]) {
        await until(`${failures} failures`, async () => {
          const status = await link(relay);
          return status.connected || status.failures === failures;
        });
      }
      await gives(relay, ["1"]);
      assert.equal((await link(relay)).failures, 0);
    });

    it("that ends every connection it accepts is retried with growing pauses", async () => {
      const times: number[] = [];
      const crossed = async (line: Line) => {
        times.push(Date.now());
        await line.expect("Connect");
        line.send(say.connectResponse(0), say.connectClose(0x0c));
        await line.dropped();
      };
      const relay = relayThat(...Array.from({ length: 30 }, () => crossed));
      relay.unfinished = 0;
      await send(relay, ["1"]);
      // The number of connections in a time is the subject.
      await sleep(9000);
      // Pauses of up to 1, 2, 4 and 8 s, half that on average.
      assert.ok(times.length <= 7, `${times.length} connections within 9 s`);
    });

    for (const [name, answer] of [
      ["ConnectResponse TryLater with RetryTime", [say.connectResponse(2, 6, 3)]],
      ["ConnectClose Resting with ReturnTime", [say.connectResponse(0), say.connectClose(1, 0, 3)]],
    ] as const) {
      it(`is left alone for as long as it asks, by ${name}`, async () => {
        const relay = relayThat(async (line) => {
          await line.expect("Connect");
          line.send(...answer);
          await line.dropped();
        });
        await send(relay, ["1"]);
        await gives(relay, ["1"]);
        const [first = 0, second = 0] = relay.times;
        assert.ok(second - first >= 2900, `${second - first} ms`);
      });
    }
  });
});
