import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, mock, type TestContext, test } from "node:test";
import { freePort } from "../../src/cli/local-edge/listening-address.ts";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { Inbox } from "../../src/device/inbox.ts";
import { Device, DeviceError, type Message, openTransport } from "../../src/device/index.ts";
import { INBOX_OCTETS } from "../../src/device/limits.ts";
import { startRelay } from "../../src/relay/index.ts";
import {
  CloseReasonId,
  type Command,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  ConnectResponseId,
  encode,
  identityURL,
  VERSION_1_6,
} from "../../src/sstp/index.ts";
import { destination, folderFor, relayFor, waiting } from "../relay/support.ts";
import { startChild } from "../support/child.ts";
import { listen } from "../support/sockets.ts";
import { eventually, pattern, soon } from "../support/watch.ts";
import { deviceFor, failure, type Link, ScriptedRelay, take } from "./support.ts";

async function two(t: TestContext) {
  const relay = await relayFor(t);
  return { relay, alice: await deviceFor(t, relay, "alice/laptop"), bob: await deviceFor(t, relay, "bob/pc") };
}

/** Whether a promise is still pending after all ready callbacks have run. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(
    () => {
      settled = true;
    },
    () => {
      settled = true;
    },
  );
  await new Promise((resolve) => setImmediate(resolve));
  return !settled;
}

describe("internal errors and limits", () => {
  test("an exception while a message is received ends the connection with a code, and the message is redelivered", async (t) => {
    const { relay, alice } = await two(t);
    const lost: string[] = [];
    const carol = await deviceFor(t, relay, "carol/pc", { onReconnect: ({ message }) => lost.push(message) });
    const on = Inbox.prototype.on;
    let mistakes = 0;
    const broken = mock.method(Inbox.prototype, "on", function (this: Inbox, ...args: Parameters<typeof on>) {
      if (args[1].type === "endMessage" && mistakes++ === 0) throw new Error("a mistake");
      return on.apply(this, args);
    });
    t.after(() => broken.mock.restore());
    await alice.send("carol/pc", "hello");
    assert.equal((await take(carol, 1))[0]?.text(), "hello");
    assert.equal(lost.length, 1);
    assert.match(lost[0] ?? "", /InternalError: a mistake/);
  });

  test("an exception while a message is sent rejects only that message", async (t) => {
    const { alice, bob } = await two(t);
    const { beginMessage } = Connection.prototype;
    const broken = mock.method(
      Connection.prototype,
      "beginMessage",
      function (this: Connection, ...args: Parameters<typeof beginMessage>) {
        if (args[1]?.userRef?.startsWith("cursed")) throw new Error("a mistake");
        beginMessage.apply(this, args);
      },
    );
    t.after(() => broken.mock.restore());
    const cursed = alice.send("bob/pc", "no", { id: "cursed" });
    const others = [alice.send("bob/pc", "one"), alice.send("bob/pc", "two")];
    await assert.rejects(cursed, { code: "InternalError" });
    await Promise.all(others);
    assert.deepEqual(
      (await take(bob, 2)).map((message) => message.text()),
      ["one", "two"],
    );
  });

  test("answers to a relay that does not read them are bounded", async (t) => {
    const accepted = Promise.withResolvers<Socket>();
    const server = await listen(accepted.resolve);
    t.after(() => server.close());
    const connecting = Device.connect({ relay: `127.0.0.1:${server.port}`, address: "alice/pc", transport: "tcp" });
    connecting.catch(() => undefined);
    const socket = await accepted.promise;
    socket.pause();
    const say = (command: Command) => encode(command, VERSION_1_6);
    socket.write(
      say({
        command: "ConnectResponse",
        responseId: ConnectResponseId.Ok,
        majorVersionNumber: 1,
        minorVersionNumber: 6,
        retryTime: 0,
        authenticationToken: new Uint8Array(0),
        peerProductVersion: "",
        peerProductCapabilities: "",
      }),
    );
    const nobody = { command: "Open", resourceURL: "m", identityURL: "", deviceURL: "" } as const;
    let stuck = false;
    let sent = 0;
    for (let id = 2; !stuck && sent < 60_000_000; id += 10_000) {
      const opens = Buffer.concat(Array.from({ length: 5000 }, (_, n) => say({ ...nobody, sessionId: id + 2 * n })));
      sent += opens.length;
      if (socket.write(opens)) continue;
      const drained = new Promise<boolean>((resolve) => socket.once("drain", () => resolve(false)));
      stuck = await Promise.race([drained, new Promise<boolean>((resolve) => setTimeout(() => resolve(true), 1500))]);
    }
    socket.destroy();
    assert.ok(stuck, `the device read ${sent} octets from a relay that reads nothing`);
  });
});

describe("messages", () => {
  test("arrive in order with their sender and fields", async (t) => {
    const { alice, bob } = await two(t);
    const bodies = [new Uint8Array(0), pattern(1, 1), pattern(3_000_000, 2), pattern(5, 3)];
    for (const body of bodies) void alice.send("bob/pc", body, { resource: "file?name=a%20b" });
    const messages = await take(bob, 4);
    messages.forEach((message, n) => {
      assert.deepEqual(message.body, bodies[n]);
      assert.deepEqual([message.from, message.resource, message.part], ["alice/laptop", "file?name=a%20b", undefined]);
    });
    const { id } = await alice.send("bob", "text: \u00e9\u{1f600}");
    const [message] = await take(bob, 1);
    assert.deepEqual([message?.id, message?.text(), message?.resource], [id, "text: \u00e9\u{1f600}", "message"]);
  });

  test("are acknowledged by the relay before send resolves", async (t) => {
    const relay = await ScriptedRelay.start(t, { acknowledge: false });
    const device = await deviceFor(t, relay, "alice/laptop");
    const sent = ["one", "two", "three"].map((text) => device.send("bob", text));
    const link = await relay.link(0);
    const [one, two, three] = await link.taken(3);
    assert.ok(one !== undefined && two !== undefined && three !== undefined);
    assert.deepEqual(await Promise.all(sent.map(isPending)), [true, true, true]);
    link.complete(two);
    assert.deepEqual(await Promise.all(sent.map(isPending)), [true, true, true]);
    link.complete(one);
    assert.equal((await soon(Promise.all(sent.slice(0, 2)), "two acknowledgements")).length, 2);
    assert.equal(await isPending(sent[2] as Promise<unknown>), true);
    link.complete(three);
    assert.equal((await soon(sent[2] as Promise<{ id: string }>, "the last one")).id, three.fields.userRef);
  });

  test("that are not done are redelivered on the next connection, those that are done are not", async (t) => {
    const relay = await relayFor(t);
    const alice = await deviceFor(t, relay, "alice/laptop");
    const texts = ["one", "two", "three", "four"];
    await Promise.all(texts.map((text) => alice.send("bob/pc", text)));
    const first = await Device.connect({ relay: `127.0.0.1:${relay.port}`, address: "bob/pc" });
    const messages = await take(first, 4, false);
    messages[0]?.done();
    messages[0]?.done();
    messages[1]?.done();
    // Only messages without a gap before them count as acknowledged, so this one is redelivered.
    messages[3]?.done();
    await first.close();
    await eventually(() => waiting(relay, "bob/pc").messages === 2, "the acknowledgement");
    const second = await deviceFor(t, relay, "bob/pc");
    assert.deepEqual(
      (await take(second, 2)).map((message) => message.text()),
      ["three", "four"],
    );
    await eventually(() => waiting(relay, "bob/pc").messages === 0, "the rest to be acknowledged");
  });

  test("that are redelivered to the same device reach the application once", async (t) => {
    const relay = await ScriptedRelay.start(t);
    let reconnects = 0;
    const device = await deviceFor(t, relay, "bob/pc", { onReconnect: () => (reconnects += 1) });
    const addressing = { resourceURL: "message", ...destination("bob/pc") };
    const first = await relay.link(0);
    const session = await first.open(addressing);
    for (const text of ["one", "two", "three"]) first.send(session, text, `${text}@alice/laptop`);
    const [one, two] = await take(device, 2, false);
    one?.done();
    await first.until(() => first.events.some(({ type }) => type === "acknowledged"), "one acknowledgement");
    first.socket.destroy();
    const second = await relay.link(1);
    const again = await second.open(addressing);
    const numbers = ["one", "two", "three", "four"].map((text) => second.send(again, text, `${text}@alice/laptop`));
    assert.deepEqual(
      (await take(device, 2)).map((message) => message.text()),
      ["three", "four"],
    );
    two?.done();
    await second.until(
      () => second.events.flatMap((event) => (event.type === "acknowledged" ? event.messages : [])).length === 4,
      "all four acknowledgements",
    );
    assert.equal(numbers.length, 4);
    assert.equal(reconnects, 1);
  });

  test("with an id already used for this recipient are dropped, other recipients are unaffected", async (t) => {
    const { relay, alice, bob } = await two(t);
    const carol = await deviceFor(t, relay, "carol/laptop");
    const { id } = await alice.send("bob/pc", "first", { id: "order 1" });
    assert.equal((await alice.send("bob/pc", "again", { id: "order 1" })).id, id);
    assert.equal((await alice.send("bob/pc", "again", { id })).id, id);
    await alice.send("bob", "to the identity", { id: "order 1" });
    await carol.send("bob/pc", "of another sender", { id: "order 1" });
    await alice.send("bob/pc", "last");
    const messages = await take(bob, 4);
    assert.deepEqual(messages.map((message) => message.text()).sort(), [
      "first",
      "last",
      "of another sender",
      "to the identity",
    ]);
    assert.deepEqual(messages.map((message) => message.from).sort(), [
      "alice/laptop",
      "alice/laptop",
      "alice/laptop",
      "carol/laptop",
    ]);
  });

  test("with an @ inside the id still show their sender", async (t) => {
    const { alice, bob } = await two(t);
    const { id } = await alice.send("bob/pc", "x", { id: "mail@example.com" });
    const [message] = await take(bob, 1);
    assert.deepEqual(
      [id, message?.id, message?.from],
      Array(2).fill("mail%40example.com@alice/laptop").concat("alice/laptop"),
    );
    assert.equal(message?.vouched, true);
  });

  test("from a relay that does not vouch for senders show the claimed sender and hide no other relay's ids", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "bob/pc");
    const link = await relay.link(0);
    const session = await link.open({ resourceURL: "message", ...destination("bob/pc") });
    for (const id of ["1@alice/laptop", "2@\u001b[2J", "3", "%n1@%3Ax@y", "1@alice/laptop"]) link.send(session, id, id);
    assert.deepEqual(
      (await take(device, 4)).map(({ from, vouched }) => [from, vouched]),
      [
        ["alice/laptop", false],
        [undefined, false],
        [undefined, false],
        ["y", false],
      ],
    );
  });

  test("carry the offset and total of a part", async (t) => {
    const { alice, bob } = await two(t);
    const parts = [
      { offset: 0n, total: undefined },
      { offset: 2n ** 40n, total: 2n ** 64n - 2n },
      { offset: 0n, total: 0n },
    ];
    for (const part of parts) void alice.send("bob/pc", "x", { part });
    assert.deepEqual(
      (await take(bob, 3)).map(({ part }) => part),
      parts,
    );
  });

  test("with onlyIfOnline reach connected recipients and are dropped for absent ones", async (t) => {
    const { relay, alice, bob } = await two(t);
    await alice.send("carol/pc", "nobody", { onlyIfOnline: true });
    assert.equal(waiting(relay, "carol/pc").messages, 0);
    await alice.send("bob/pc", "somebody", { onlyIfOnline: true });
    assert.equal((await take(bob, 1))[0]?.text(), "somebody");
    assert.equal(relay.status().dropped.PeerOffline, 1);
  });

  test("go back and forth without stalling", async (t) => {
    const { alice, bob } = await two(t);
    const echoing = (async () => {
      for await (const message of bob.messages()) {
        await bob.send("alice/laptop", message.body);
        message.done();
        if (message.text() === "299") return;
      }
    })();
    let longest = 0;
    for (let n = 0; n < 300; n += 1) {
      const began = performance.now();
      void alice.send("bob/pc", `${n}`);
      assert.equal((await take(alice, 1))[0]?.text(), `${n}`);
      longest = Math.max(longest, performance.now() - began);
    }
    await echoing;
    assert.ok(longest < 5000, `a round trip took ${longest} ms`);
  });

  test("to more recipients than there may be sessions all arrive", async (t) => {
    const { relay, alice } = await two(t);
    const sent = Array.from({ length: 600 }, (_, n) => alice.send(`group-${n}`, "x"));
    await soon(Promise.all(sent), "all acknowledgements");
    for (let n = 0; n < 600; n += 1) assert.equal(waiting(relay, `group-${n}`).messages, 1);
  });
});

describe("when a session is closed or suspended", () => {
  test("OkStopSending pauses the sender, even in the middle of a message", async (t) => {
    const relay = await ScriptedRelay.start(t, { accept: false });
    const device = await deviceFor(t, relay, "alice/laptop");
    const link = await relay.link(0);
    const body = pattern(6_000_000, 1);
    const sent = device.send("bob", body);
    const opened = () => link.events.flatMap((event) => (event.type === "open" ? [event.sessionId] : []));
    const [session] = await link.until(() => opened().length > 0 && opened(), "the session");
    assert.ok(session !== undefined);
    link.engine.setAvailability(session, "notReady");
    link.flush();
    assert.ok(await isPending(sent));
    let stopped = false;
    link.onEvent = (event) => {
      if (event.type !== "data" || stopped) return;
      stopped = true;
      link.engine.setAvailability(session, "notReady");
    };
    link.engine.setAvailability(session, "ready");
    link.flush();
    await link.until(() => stopped, "the beginning of the message");
    // What was on its way still arrives; then nothing follows but answers to Noops.
    let quiet = 0;
    for (let before = -1; quiet < 3; quiet = before === link.socket.bytesRead ? quiet + 1 : 0) {
      before = link.socket.bytesRead;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.equal(link.messages.length, 0);
    assert.ok(link.socket.bytesRead < body.length);
    // Ready and stopped again in one segment: there is no moment in which it may send.
    link.engine.setAvailability(session, "ready");
    link.engine.setAvailability(session, "notReady");
    link.flush();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(link.messages.length, 0);
    link.engine.setAvailability(session, "ready");
    link.flush();
    await soon(sent, "the acknowledgement");
    assert.ok(link.messages[0]?.body.equals(body));
  });

  for (const moment of ["before its first message", "in the middle of a message"]) {
    test(`other recipients are not blocked (suspended ${moment})`, async (t) => {
      const relay = await ScriptedRelay.start(t, { accept: false });
      const device = await deviceFor(t, relay, "alice/laptop");
      const link = await relay.link(0);
      const sessions = new Map<string, number>();
      let stopped = moment.startsWith("before");
      link.onEvent = (event) => {
        if (event.type === "open") {
          sessions.set(event.identityURL, event.sessionId);
          const waits = event.identityURL.endsWith("slow") && moment.startsWith("before");
          link.engine.setAvailability(event.sessionId, waits ? "notReady" : "ready");
        }
        if (event.type !== "data" || stopped || event.sessionId !== sessions.get("grooveIdentity://slow")) return;
        stopped = true;
        link.engine.setAvailability(event.sessionId, "notReady");
      };
      const body = pattern(3_000_000, 1);
      const slow = [device.send("slow", body), device.send("slow", "behind")];
      const others = Promise.all([device.send("bob", "1"), device.send("carol", body), device.send("bob", "2")]);
      const came = () => link.messages.filter(({ body }) => body.length < 10).map(({ body }) => body.toString());
      await link.until(() => came().length === 2 && link.messages.length === 3, "what is for the others");
      assert.deepEqual(came(), ["1", "2"]);
      link.engine.setAvailability(sessions.get("grooveIdentity://slow") ?? 0, "ready");
      link.flush();
      await soon(Promise.all(slow), "what is for the slow one");
      await soon(others, "the acknowledgements");
      assert.deepEqual(came(), ["1", "2", "behind"]);
    });
  }

  test("a burst of messages pauses, then continues in order", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "alice/laptop");
    const link = await relay.link(0);
    let stopped: number | undefined;
    link.onEvent = (event) => {
      if (event.type !== "endMessage" || stopped !== undefined) return;
      stopped = event.sessionId;
      link.engine.setAvailability(event.sessionId, "notReady");
    };
    const texts = Array.from({ length: 20_000 }, (_, n) => `${n}.`.padEnd(100, "x"));
    const sent = Promise.all(texts.map((text) => device.send("bob", text)));
    const session = await link.until(() => stopped, "the first message");
    let quiet = 0;
    for (let before = -1; quiet < 3; quiet = before === link.messages.length ? quiet + 1 : 0) {
      before = link.messages.length;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.ok(link.messages.length < texts.length, "it sent all of them although it was told to stop");
    link.engine.setAvailability(session, "ready");
    link.flush();
    await soon(sent, "all acknowledgements");
    assert.deepEqual(
      link.messages.map(({ body }) => body.toString()),
      texts,
    );
  });

  test("a burst of messages moves to another session, in order", async (t) => {
    const relay = await ScriptedRelay.start(t, { acknowledge: false });
    const device = await deviceFor(t, relay, "alice/laptop");
    const link = await relay.link(0);
    let closed: number | undefined;
    link.onEvent = (event) => {
      if (event.type !== "endMessage" || closed !== undefined || link.messages.length < 9) return;
      closed = event.sessionId;
      // It has yet to be assembled from its parts.
      setImmediate(() => {
        link.engine.closeSession(event.sessionId, CloseReasonId.Idle);
        link.script.acknowledge = true;
        link.flush();
      });
    };
    const texts = Array.from({ length: 20_000 }, (_, n) => `${n}.`.padEnd(100, "x"));
    const sent = await soon(Promise.all(texts.map((text) => device.send("bob", text))), "all acknowledgements");
    const again = link.messages.filter(({ sessionId }) => sessionId !== closed);
    assert.deepEqual(
      again.map(({ body }) => body.toString()),
      texts,
    );
    assert.deepEqual(
      again.map(({ fields }) => fields.userRef),
      sent.map(({ id }) => id),
    );
  });

  test("for idleness, it is reopened and its unacknowledged messages are resent in order", async (t) => {
    const relay = await ScriptedRelay.start(t, { acknowledge: false });
    const device = await deviceFor(t, relay, "alice/laptop");
    const link = await relay.link(0);
    const long = pattern(3_000_000, 1);
    let closed = false;
    link.onEvent = (event) => {
      // In the middle of the third message.
      if (event.type !== "data" || link.messages.length < 2 || closed) return;
      closed = true;
      link.engine.closeSession(event.sessionId, CloseReasonId.Idle);
    };
    const sent = ["one", "two", long, "four"].map((body) => device.send("bob", body));
    await link.until(() => link.messages.length >= 6, "all messages, the first two twice");
    assert.deepEqual(
      link.messages.map(({ body }) => (body.length > 100 ? "long" : body.toString())),
      ["one", "two", "one", "two", "long", "four"],
    );
    assert.ok(link.messages[4]?.body.equals(long));
    link.complete(...link.messages);
    await soon(Promise.all(sent), "the acknowledgements");
  });

  test("for quota, its unacknowledged messages are rejected and the next message opens another", async (t) => {
    // A quota of zero is not preceded by a suspension.
    const relay = await relayFor(t, { quota: { octets: 1_000_000, messages: 0 } });
    const alice = await deviceFor(t, relay, "alice/laptop");
    const bob = await deviceFor(t, relay, "bob/pc");
    await assert.rejects(alice.send("carol", "x"), failure("QuotaWouldBeExceeded"));
    await alice.send("bob/pc", "hello", { onlyIfOnline: true });
    assert.equal((await take(bob, 1))[0]?.text(), "hello");
    await assert.rejects(alice.send("carol", "x"), failure("QuotaWouldBeExceeded"));
  });

  test("a message over the relay's size limit is not sent, and others are", async (t) => {
    const relay = await relayFor(t, { messageLimit: 1_000_000 });
    const alice = await deviceFor(t, relay, "alice/laptop");
    const results = await Promise.allSettled(
      [10, 1_000_001, 1_000_000].map((length) => alice.send("bob/pc", pattern(length, length))),
    );
    assert.deepEqual(
      results.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    assert.ok(results[1]?.status === "rejected" && failure("MessageTooLong")(results[1].reason));
    assert.match(results[1].reason.message, /1000001 bytes: send at most 1000000/);
    assert.equal(waiting(relay, "bob/pc").messages, 2);
    assert.equal(relay.status().dropped.MessageTooLong, 0);
  });

  test("messages for a refused recipient are rejected, and others are served", async (t) => {
    const relay = await ScriptedRelay.start(t, { accept: false });
    const device = await deviceFor(t, relay, "alice/laptop");
    const link = await relay.link(0);
    link.onEvent = (event) => {
      if (event.type !== "open") return;
      const refused = event.identityURL === identityURL({ identity: "carol" });
      link.engine.setAvailability(event.sessionId, refused ? "fault" : "ready");
    };
    const refused = device.send("carol", "x");
    refused.catch(() => undefined);
    await soon(device.send("bob", "x"), "the other recipient");
    await assert.rejects(refused, failure("RecipientRefused"));
  });

  test("sessions that the relay opens and closes in one segment do no harm", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "bob/pc");
    const link = await relay.link(0);
    const addressing = { resourceURL: "message", ...destination("bob/pc") };
    for (let n = 0; n < 3; n += 1) link.engine.closeSession(link.engine.open(addressing), CloseReasonId.NoReason);
    link.flush();
    link.send(await link.open(addressing), "still here", "1@alice/laptop");
    assert.equal((await take(device, 1))[0]?.text(), "still here");
  });

  test("a message over this device's size limit closes its session and does not reach the application", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "bob/pc", { messageLimit: 100_000 });
    const link = await relay.link(0);
    const addressing = { resourceURL: "message", ...destination("bob/pc") };
    const number = link.send(await link.open(addressing), pattern(300_000, 1), "long@alice/laptop");
    const closed = await link.until(
      () => link.events.find((event) => event.type === "sessionClosed"),
      "the end of the session",
    );
    assert.deepEqual([closed.reasonId, closed.unacknowledged], [CloseReasonId.QuotaWouldBeExceeded, [number]]);
    link.send(await link.open({ ...addressing, resourceURL: "other" }), pattern(100_000, 2), "fits@alice/laptop");
    const [message] = await take(device, 1);
    assert.deepEqual([message?.id, message?.body.length], ["fits@alice/laptop", 100_000]);
  });
});

describe("errors", () => {
  const options = { relay: "127.0.0.1:1", address: "alice/laptop" };

  test("ConnectFailed: nothing listens", async () => {
    await assert.rejects(Device.connect(options), failure("ConnectFailed"));
    for (const transport of ["longlived", "keepalive", "polling"] as const) {
      const connecting = Device.connect({ ...options, edge: "http://127.0.0.1:1", transport });
      await assert.rejects(connecting, (error: DeviceError) => error.retryable && failure("ConnectFailed")(error));
    }
  });

  test("RelayRefused: the relay has another name", async (t) => {
    const relay = await relayFor(t, { names: ["relay.example.com"] });
    await assert.rejects(Device.connect({ ...options, relay: `127.0.0.1:${relay.port}` }), failure("RelayRefused"));
  });

  test("RelayRefused: the relay closes the attach session", async (t) => {
    const relay = await ScriptedRelay.start(t);
    relay.onLink = (link) => {
      link.onEvent = (event) => {
        if (event.type === "attach") link.engine.closeSession(event.eventId, CloseReasonId.UserAuthenticationFailed);
      };
    };
    await assert.rejects(Device.connect({ ...options, relay: `127.0.0.1:${relay.port}` }), failure("RelayRefused"));
  });

  test("RelayRefused: the relay is busy for too long, and says for how long", async (t) => {
    const relay = await ScriptedRelay.start(t);
    relay.onLink = (link) => {
      link.onEvent = ({ type }) => type === "connect" && link.engine.refuseConnect(ConnectResponseId.TryLater, 3600);
    };
    const connecting = Device.connect({ ...options, relay: `127.0.0.1:${relay.port}` });
    await assert.rejects(soon(connecting, "the refusal"), (error) => {
      assert(error instanceof DeviceError && error.retryable);
      assert.deepEqual([error.code, error.retryAfter], ["RelayRefused", 3600]);
      return true;
    });
    assert.equal(relay.links.length, 1);
  });

  /** What a relay may have sent in the same segment as the end of the connection. */
  const last: Record<string, (link: Link, event: ConnectionEvent) => boolean> = {
    "a ConnectResponse Ok": ({ engine }, { type }) => {
      if (type === "connect") engine.acceptConnect();
      return type === "connect";
    },
    "an AttachResponse Ok": ({ engine }, event) => {
      if (event.type === "attach") engine.acceptAttach(event.eventId);
      return event.type === "attach";
    },
    "an Open": (link, event) => {
      if (event.type === "attach") {
        link.engine.acceptAttach(event.eventId);
        link.engine.open({ resourceURL: "message", identityURL: identityURL({ identity: "bob" }), deviceURL: "" });
      }
      return event.type === "attach";
    },
    "a message": ({ engine, events }, event) => {
      if (event.type === "open") {
        engine.open({ resourceURL: "message", identityURL: identityURL({ identity: "bob" }), deviceURL: "" });
      }
      const opened = events.find(({ type }) => type === "sessionState");
      if (opened?.type === "sessionState") {
        engine.beginMessage(opened.sessionId, { userRef: "1@alice/pc" });
        engine.data(opened.sessionId, Buffer.from("hello"));
        engine.endMessage(opened.sessionId);
      }
      return opened !== undefined;
    },
    "an OpenResponse Ok": ({ engine }, event) => {
      if (event.type === "open") engine.setAvailability(event.sessionId, "ready");
      return event.type === "open";
    },
    "the Close of a session": ({ engine }, event) => {
      if (event.type === "open") engine.closeSession(event.sessionId, CloseReasonId.Idle);
      return event.type === "open";
    },
    "an acknowledgement": ({ engine }, event) => {
      if (event.type === "endMessage") engine.complete(event.message);
      return event.type === "endMessage";
    },
  };
  for (const [name, say] of Object.entries(last)) {
    test(`AddressInUse: the refusal arrives in one segment with ${name}`, async (t) => {
      const relay = await ScriptedRelay.start(t);
      relay.onLink = (link) => {
        link.onEvent = (event) => {
          const { engine } = link;
          if (engine.closed === undefined && say(link, event)) engine.close(ConnectCloseReasonId.CrossedConnections);
        };
      };
      const ended = (async () => {
        const device = await Device.connect({ relay: `127.0.0.1:${relay.port}`, address: "bob/pc" });
        t.after(() => device.close());
        device.send("alice/pc", "x").catch(() => undefined);
        for await (const message of device.messages()) message.done();
      })();
      await assert.rejects(soon(ended, "the device to be told"), failure("AddressInUse"));
    });
  }

  test("AddressInUse: the older device is told, and does not reconnect", async (t) => {
    const relay = await relayFor(t);
    const first = await deviceFor(t, relay, "alice/laptop");
    const reading = first.messages().next();
    reading.catch(() => undefined);
    const second = await deviceFor(t, relay, "alice/laptop");
    await assert.rejects(soon(reading, "the first device to be told"), failure("AddressInUse"));
    await assert.rejects(first.send("bob", "x"), failure("AddressInUse"));
    await second.send("alice/laptop", "to myself");
    assert.equal((await take(second, 1))[0]?.text(), "to myself");
    assert.equal(relay.status().connections, 1);
  });

  test("MessageTooLong and OutboxFull: rejected before anything is sent", async (t) => {
    const relay = await ScriptedRelay.start(t, { accept: false });
    const device = await deviceFor(t, relay, "alice/laptop");
    const long = new Uint8Array(16 * 1024 * 1024 + 1);
    await assert.rejects(device.send("bob", long), failure("MessageTooLong"));
    const longest = long.subarray(1);
    const sent = Array.from({ length: 16 }, () => device.send("bob", longest));
    for (const one of sent) one.catch(() => undefined);
    await assert.rejects(device.send("bob", "x"), failure("OutboxFull"));
    await device.close();
    await assert.rejects(sent[15] as Promise<unknown>, failure("Closed"));
  });

  test("InvalidOption: unusable options of the device and of a message", async (t) => {
    const bad = [
      { ...options, address: "alice" },
      { ...options, address: "a/b/c" },
      { ...options, address: "" },
      { ...options, relay: "not a host" },
      { ...options, relay: "-x-" },
      { ...options, transport: "longlived" as const },
      { ...options, edge: "ftp://example.com" },
      { ...options, edge: "nonsense" },
      { ...options, edge: "http://127.0.0.1:1", contentLength: 1024 * 1024 },
      { ...options, edge: "http://127.0.0.1:1", contentLength: 2 ** 31 },
    ];
    for (const one of bad) await assert.rejects(Device.connect(one), failure("InvalidOption"), JSON.stringify(one));

    const device = await deviceFor(t, await relayFor(t), "alice/laptop");
    const messages: [to: string, options: Parameters<Device["send"]>[2]][] = [
      ["", {}],
      ["a@b@c", {}],
      ["bob", { resource: "" }],
      ["bob", { resource: "not a uri" }],
      ["bob", { resource: "x".repeat(2048) }],
      ["bob", { id: "\u00e9" }],
      ["bob", { id: "x".repeat(2048) }],
      ["bob", { part: { offset: -1n, total: undefined } }],
      ["bob", { part: { offset: 0n, total: 2n ** 64n } }],
    ];
    for (const [to, more] of messages) await assert.rejects(device.send(to, "x", more), failure("InvalidOption"));
    await device.send("bob", "still works");
  });

  test("Closed: pending sends, and any that follow", async (t) => {
    const relay = await ScriptedRelay.start(t, { acknowledge: false });
    const device = await deviceFor(t, relay, "alice/laptop");
    const sent = ["one", pattern(2_000_000, 1), "three"].map((body) => device.send("bob", body));
    for (const one of sent) one.catch(() => undefined);
    await (await relay.link(0)).taken(1);
    await device.close();
    for (const one of sent) await assert.rejects(one, failure("Closed"));
    await assert.rejects(device.send("bob", "x"), failure("Closed"));
    await device.close();
  });
});

describe("closing", () => {
  test("ends every reader and discards messages that can no longer be acknowledged", async (t) => {
    const { alice, bob } = await two(t);
    const reader = async () => {
      let count = 0;
      for await (const _ of alice.messages()) count += 1;
      return count;
    };
    const readers = [reader(), reader()];
    await alice.close();
    assert.deepEqual(await soon(Promise.all(readers), "the readers to end"), [0, 0]);

    const [message] = await Promise.all([take(bob, 1, false), bob.send("bob/pc", "one"), bob.send("bob/pc", "two")]);
    await bob.close();
    assert.equal(message.length, 1);
    assert.equal((await bob.messages().next()).done, true);
  });

  test("flushes the acknowledgements of done messages", async (t) => {
    const { relay, alice, bob } = await two(t);
    await Promise.all(["one", "two"].map((text) => alice.send("bob/pc", text)));
    await take(bob, 2);
    await bob.close();
    await eventually(() => waiting(relay, "bob/pc").messages === 0, "the acknowledgements");
  });

  test("follows an AbortSignal, also while connecting", async (t) => {
    const relay = await relayFor(t);
    const controller = new AbortController();
    const device = await deviceFor(t, relay, "alice/laptop", { signal: controller.signal });
    const reading = device.messages().next();
    controller.abort();
    assert.equal((await soon(reading, "the reader to end")).done, true);
    await assert.rejects(device.send("bob", "x"), failure("Closed"));

    const way = { relay: `127.0.0.1:${relay.port}`, address: "alice/laptop" };
    await assert.rejects(Device.connect({ ...way, signal: AbortSignal.abort() }), failure("Closed"));

    const silent = await listen((socket) => socket.resume().on("end", () => socket.end()));
    t.after(() => silent.close());
    const later = new AbortController();
    const connecting = Device.connect({ ...way, relay: `127.0.0.1:${silent.port}`, signal: later.signal });
    await eventually(() => silent.connections.size === 1, "the connection");
    later.abort();
    await assert.rejects(soon(connecting, "the connecting to end"), failure("Closed"));
    await eventually(() => silent.connections.size === 0, "the connection to go");
  });

  test("does not wait for a relay that does not read", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "alice/laptop");
    (await relay.link(0)).socket.pause();
    for (let n = 0; n < 4; n += 1) device.send("bob", pattern(10_000_000, n)).catch(() => undefined);
    await soon(device.close(), "the device to close", 10_000);
  });

  test("leaves no handle that keeps the process running", async (t) => {
    const relay = await relayFor(t);
    const silent = await listen(() => undefined);
    t.after(() => silent.close());
    const program = new URL("./leave.ts", import.meta.url);
    const began = performance.now();
    const child = await startChild(program, `127.0.0.1:${relay.port}`, `127.0.0.1:${silent.port}`);
    if (child.process.exitCode === null) {
      await soon(new Promise((resolve) => child.process.once("exit", resolve)), "the program to end by itself", 10_000);
    }
    assert.equal(child.process.exitCode, 0);
    assert.ok(performance.now() - began < 15_000);
  });
});

describe("reconnecting", () => {
  test("loses and duplicates nothing when the relay is killed and restarted", async (t) => {
    const store = join(folderFor(t), "relay.db");
    const program = new URL("../relay/child.ts", import.meta.url);
    // A port that is unlikely to be taken while the relay is down.
    const port = await freePort("127.0.0.1", 0);
    let relay = await startChild(program, store, `${port}`);
    t.after(() => relay.kill());
    const reasons: string[] = [];
    const onReconnect = (error: DeviceError) => reasons.push(error.code);
    const alice = await deviceFor(t, { port }, "alice/laptop", { onReconnect });
    const bob = await deviceFor(t, { port }, "bob/pc");
    const texts: string[] = [];
    const reading = take(bob, 40).then((messages) => texts.push(...messages.map((message) => message.text())));
    const sent: Promise<unknown>[] = [];
    for (let n = 0; n < 40; n += 1) {
      sent.push(alice.send("bob/pc", `${n}`));
      if (n === 20) {
        await relay.kill();
        relay = await startChild(program, store, String(port));
      }
    }
    await soon(Promise.all(sent), "the acknowledgements");
    await reading;
    assert.deepEqual(
      texts,
      texts.map((_, n) => `${n}`),
    );
    assert.deepEqual([...new Set(reasons)], ["ConnectFailed"]);
  });

  test("waits as long as a resting relay asks", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "alice/laptop");
    const link = await relay.link(0);
    const began = performance.now();
    link.engine.close(ConnectCloseReasonId.Resting, 1);
    link.flush();
    link.socket.end();
    const sent = device.send("bob", "x");
    await relay.link(1);
    assert.ok(performance.now() - began >= 990, `back after ${performance.now() - began} ms`);
    await soon(sent, "the message");
  });

  test("waits as long as a busy relay asks, on the first attempt and later", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const at: number[] = [];
    relay.onLink = (link) => {
      at.push(performance.now());
      const busy = relay.links.length === 1 || relay.links.length === 3;
      link.onEvent = ({ type }) => {
        if (busy && type === "connect") link.engine.refuseConnect(ConnectResponseId.TryLater, 1);
      };
    };
    const told: (number | undefined)[] = [];
    const device = await deviceFor(t, relay, "alice/laptop", { onReconnect: (error) => told.push(error.retryAfter) });
    const [first = 0, second = 0] = at;
    assert.ok(second - first >= 990, `again after ${second - first} ms`);
    assert.deepEqual(told, [1]);
    (await relay.link(1)).socket.destroy();
    await soon(device.send("bob", "x"), "the message");
    const [, , third = 0, fourth = 0] = at;
    assert.ok(fourth - third >= 990, `again after ${fourth - third} ms`);
  });

  test("stops at once when the device is closed before its first retry", async (t) => {
    const relay = await ScriptedRelay.start(t);
    relay.onLink = (link) => {
      link.onEvent = ({ type }) => type === "connect" && link.engine.refuseConnect(ConnectResponseId.TryLater, 5);
    };
    const giving = new AbortController();
    const connecting = Device.connect({
      relay: `127.0.0.1:${relay.port}`,
      address: "alice/laptop",
      signal: giving.signal,
      onReconnect: () => giving.abort(),
    });
    await assert.rejects(soon(connecting, "the end", 1000), failure("Closed"));
    assert.equal(relay.links.length, 1);
  });

  test("stops at once when the device is closed before the next attempt", async (t) => {
    const relay = await startRelay({ port: 0 });
    let lost = false;
    const device = await deviceFor(t, relay, "alice/laptop", { onReconnect: () => (lost = true) });
    await relay.close();
    await eventually(() => lost, "the loss to be noticed");
    const sent = device.send("bob", "x");
    sent.catch(() => undefined);
    await soon(device.close(), "the device to close", 1000);
    await assert.rejects(sent, failure("Closed"));
  });
});

describe("memory use", () => {
  test("is bounded to one window for a slow application", async (t) => {
    const { relay, alice, bob } = await two(t);
    const count = 60;
    const sent = Array.from({ length: count }, (_, n) => alice.send("bob/pc", pattern(100_000, n)));
    await soon(Promise.all(sent), "the acknowledgements");
    const first = await take(bob, 11, false);
    const next = bob.messages().next();
    assert.ok(await isPending(next), "more than 1 MiB was sent");
    assert.equal(waiting(relay, "bob/pc").messages, count);
    for (const message of first) message.done();
    const { value } = await soon(next, "the next message");
    value?.done();
    const rest = await take(bob, count - 12);
    [...first, value, ...rest].forEach((message, n) => {
      assert.deepEqual(message?.body, pattern(100_000, n));
    });
  });

  test("is bounded for a relay without a window: the device stops reading while too much is not done", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "bob/pc");
    const link = await relay.link(0);
    const session = await link.open({ resourceURL: "message", ...destination("bob/pc") });
    const size = 1024 * 1024;
    const count = 100;
    const before = process.memoryUsage().arrayBuffers;
    // Only what the socket accepts is created, so that the memory measured below is not this relay's.
    let made = 0;
    const pump = () => {
      while (made < count && link.socket.writableLength < size) {
        link.send(session, pattern(size, made), `${made}@alice/laptop`);
        made += 1;
      }
    };
    link.socket.on("drain", pump);
    pump();
    const reached = () => made * size > INBOX_OCTETS;
    await eventually(reached, "as much as may wait");
    let quiet = 0;
    for (let last = -1; quiet < 5; quiet = last === made ? quiet + 1 : 0) {
      last = made;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.ok(made < count, `all ${count} were read`);
    const held = process.memoryUsage().arrayBuffers - before;
    assert.ok(held < 90 * size, `${held} octets are buffered`);
    const messages = await take(device, count);
    messages.forEach((message, n) => {
      assert.deepEqual(message.body, pattern(size, n));
    });
  });
});

describe("memory use for a relay that lies", () => {
  test("is bounded for empty messages: the device stops reading while too many are not done", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "bob/pc");
    const link = await relay.link(0);
    const session = await link.open({ resourceURL: "message", ...destination("bob/pc") });
    const id = (n: number) => `${"x".repeat(1900)}${n}@alice/laptop`;
    // More than may wait, and fewer than end the connection.
    const count = 16_000;
    assert.ok(count * id(0).length < INBOX_OCTETS);
    for (let n = 0; n < count; n += 1) link.send(session, "", id(n));
    const waiting: Message[] = [];
    let next = device.messages().next();
    for (let quiet = false; !quiet; ) {
      const late = new Promise<"late">((resolve) => setTimeout(resolve, 300, "late"));
      const came = await Promise.race([next, late]);
      quiet = came === "late";
      if (came === "late" || came.value === undefined) continue;
      waiting.push(came.value);
      next = device.messages().next();
    }
    assert.ok(waiting.length < count, `all ${count} were read`);
    for (const message of waiting) message.done();
    const { value } = await soon(next, "the next message");
    value?.done();
    const messages = await take(device, count - waiting.length - 1);
    assert.equal(messages.at(-1)?.id, id(count - 1));
  });

  test("is bounded for messages that it begins and does not end; the others arrive", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const device = await deviceFor(t, relay, "bob/pc", { messageLimit: 1024 * 1024 });
    const link = await relay.link(0);
    const half = pattern(512 * 1024, 1);
    const begin = async (n: number) => {
      const session = await link.open({ resourceURL: `message${n}`, ...destination("bob/pc") });
      link.engine.beginMessage(session, { userRef: `${n}@alice/laptop`, acknowledgeImmediately: true });
      link.engine.data(session, half);
      link.flush();
      return session;
    };
    const most = INBOX_OCTETS / half.length;
    const sessions: number[] = [];
    for (let n = 0; n < most; n += 1) sessions.push(await begin(n));
    const surplus = await begin(most);
    const closed = await link.until(
      () => link.events.find(({ type }) => type === "sessionClosed"),
      "a session to be closed",
    );
    assert.equal(closed.type === "sessionClosed" && closed.sessionId, surplus);
    // Its message may come again, since the reason says nothing about it.
    assert.equal(closed.type === "sessionClosed" && closed.reasonId, CloseReasonId.NoReason);
    for (const session of sessions) link.engine.endMessage(session);
    link.flush();
    await take(device, most);
    const again = await begin(most + 1);
    link.engine.endMessage(again);
    link.flush();
    const [last] = await take(device, 1);
    assert.equal(last?.id, `${most + 1}@alice/laptop`);
  });

  test("is bounded for a message that is not done: lost connections are not kept for its acknowledgement", async () => {
    const inbox = new Inbox(1000);
    const acknowledged: number[] = [];
    for (let n = 0; n < 3; n += 1) {
      const engine = { complete: () => acknowledged.push(n) } as unknown as Connection;
      const carrier = { engine, flush: () => Promise.resolve() } as unknown as Parameters<Inbox["on"]>[0];
      const on = (event: object) => inbox.on(carrier, event as ConnectionEvent);
      on({ type: "open", sessionId: 2, resourceURL: "message", identityURL: "grooveIdentity://bob", deviceURL: "" });
      on({ type: "message", sessionId: 2, fields: { userRef: "1@alice/pc" } });
      on({ type: "endMessage", sessionId: 2, message: 1 });
      if (n < 2) inbox.forget(engine);
    }
    const { value } = await inbox.messages().next();
    value?.done();
    assert.deepEqual(acknowledged, [2]);
  });
});

describe("through the edge", () => {
  let edge: LocalEdge;
  before(async () => {
    edge = await startLocalEdge({ port: 0, relayAllow: [...(await freeRelays()), AWAY], dev: "private open" });
  });
  after(() => edge.close());

  /** A relay address nobody uses: other tests listen on 127.0.0.1. */
  const AWAY = "127.0.0.77:2492";
  /** Ports for the relays of these tests, which the edge must allow from its start. */
  const ports: number[] = [];
  async function freeRelays(): Promise<string[]> {
    while (ports.length < 3) {
      const port = await freePort("127.0.0.1", 0);
      if (!ports.includes(port)) ports.push(port);
    }
    return ports.map((port) => `127.0.0.1:${port}`);
  }

  test("Refused: the relay is not allowed by the edge, or cannot be reached", async () => {
    const options = { edge: edge.url, address: "alice/laptop" };
    for (const transport of ["longlived", "keepalive", "polling"] as const) {
      const unknown = Device.connect({ ...options, transport, relay: "127.0.0.1:1" });
      await assert.rejects(
        unknown,
        (error: DeviceError) =>
          error.message.includes("RelayNotAllowed") && !error.retryable && failure("Refused")(error),
      );
      const away = Device.connect({ ...options, transport, relay: AWAY });
      await assert.rejects(
        away,
        (error: DeviceError) => error.message.includes("OriginUnreachable") && failure("Refused")(error),
      );
    }
  });

  test("RelayRefused: the relay has another name than the edge expects", async (t) => {
    const relay = await relayFor(t, { port: ports[0] ?? 0, names: ["relay.example.com"] });
    for (const transport of ["longlived", "keepalive", "polling"] as const) {
      const options = { edge: edge.url, address: "alice/laptop", transport, relay: `127.0.0.1:${relay.port}` };
      await assert.rejects(Device.connect(options), failure("RelayRefused"));
    }
  });

  test("a used-up contentLength is renewed in both directions without loss, duplication, reordering or long pauses", async (t) => {
    const connected: string[] = [];
    const relay = await relayFor(t, { port: ports[1] ?? 0, log: (line) => connected.push(line) });
    const options = {
      edge: edge.url,
      transport: "longlived",
      contentLength: 1024 * 1024,
      messageLimit: 256 * 1024,
    } as const;
    const [alice, bob] = [
      await deviceFor(t, relay, "alice/laptop", options),
      await deviceFor(t, relay, "bob/pc", options),
    ];
    const count = 64;
    const size = 200_000;
    const receive = async (device: Device) => {
      let last = performance.now();
      let longest = 0;
      for (let n = 0; n < count; n += 1) {
        const [message] = await take(device, 1);
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
        assert.deepEqual(message?.body, pattern(size, n), `message ${n}`);
      }
      return longest;
    };
    const send = (device: Device, to: string) =>
      Promise.all(Array.from({ length: count }, (_, n) => device.send(to, pattern(size, n))));
    const [there, back] = await soon(
      Promise.all([receive(bob), receive(alice), send(alice, "bob/pc"), send(bob, "alice/laptop")]),
      "all messages both ways",
      60_000,
    );
    // Nothing else arrives: the relay only has a message whose acknowledgement is on its way.
    await eventually(
      () => waiting(relay, "bob/pc").messages + waiting(relay, "alice/laptop").messages === 0,
      "all acknowledged",
    );
    const connections = connected.filter((line) => line.startsWith("connected")).length;
    t.diagnostic(`${connections} virtual connections; longest pause ${there.toFixed(0)} and ${back.toFixed(0)} ms`);
    assert.ok(
      connections > 2 * 8,
      `${connections} virtual connections carried ${(2 * count * size) / 1e6} MB each way`,
    );
    assert.ok(Math.max(there, back) < 5000, `there was a pause of ${Math.max(there, back)} ms`);
  });

  test("the device reconnects when the edge is killed and restarted", async (t) => {
    const relay = await relayFor(t, { port: ports[2] ?? 0 });
    const allowed = { relayAllow: [`127.0.0.1:${relay.port}`], dev: "private open" };
    let other = await startLocalEdge({ port: 0, ...allowed });
    t.after(() => other.close());
    const port = Number(new URL(other.url).port);
    let lost = 0;
    const options = { edge: other.url, onReconnect: () => (lost += 1) };
    const alice = await deviceFor(t, relay, "alice/laptop", { ...options, transport: "longlived" });
    const bob = await deviceFor(t, relay, "bob/pc", { ...options, transport: "keepalive" });
    await alice.send("bob/pc", "0");
    await take(bob, 1);
    const sent = Array.from({ length: 20 }, (_, n) => alice.send("bob/pc", `${n + 1}`));
    await other.close();
    sent.push(...Array.from({ length: 20 }, (_, n) => alice.send("bob/pc", `${n + 21}`)));
    other = await startLocalEdge({ port, ...allowed });
    await soon(Promise.all(sent), "the acknowledgements");
    const texts = (await take(bob, 40)).map((message) => message.text());
    assert.deepEqual(
      texts,
      texts.map((_, n) => `${n + 1}`),
    );
    assert.ok(lost >= 2);
  });

  test("a slow reader on Polling stops polling", async (t) => {
    const flood = await listen((socket) => {
      socket.resume();
      const pump = () => {
        while (socket.writableLength < 1_000_000) socket.write(new Uint8Array(65536));
      };
      socket.on("drain", pump);
      pump();
    });
    t.after(() => flood.close());
    const relay = `127.0.0.1:${flood.port}`;
    const own = await startLocalEdge({ port: 0, relayAllow: [relay], dev: "private open" });
    t.after(() => own.close());
    const transport = openTransport({ transport: "polling", relay, edge: own.url });
    t.after(() => transport.close());
    // The Polling handshake needs octets to send.
    void transport.write([new Uint8Array([1])]);
    await soon(transport.established, "the transport");
    const sent = () => [...flood.connections].reduce((sum, socket) => sum + socket.bytesWritten, 0);
    let quiet = 0;
    for (let before = -1; quiet < 10; quiet = before === sent() ? quiet + 1 : 0) {
      before = sent();
      assert.ok(before < 40_000_000, "more is fetched although nobody reads");
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    // What was read ahead, plus a little that arrives when it resumes.
    for (let read = 0; read < 1_000_000; ) read += (await soon(transport.read(), "octets"))?.length ?? 0;
  });
});

test("a silent TCP connection is abandoned when its signal aborts", async (t) => {
  const silent = await listen(() => undefined);
  t.after(() => silent.close());
  const socket = connect({ port: silent.port, host: "127.0.0.1" });
  t.after(() => socket.destroy());
  const connecting = Device.connect({
    relay: `127.0.0.1:${silent.port}`,
    address: "alice/laptop",
    signal: AbortSignal.timeout(50),
  });
  await assert.rejects(soon(connecting, "the signal"), failure("Closed"));
});
