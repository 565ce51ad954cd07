/** Messages for peers of another relay, from several senders: none waits for all messages of another. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import fc from "fast-check";
import { RELAY_SESSIONS, SEND_WINDOW_MESSAGES } from "../../src/relay/limits.ts";
import { Connection, type ConnectionEvent } from "../../src/sstp/index.ts";
import { eventually, Watch } from "../support/watch.ts";
import { destination, Peer, relayFor } from "./support.ts";

const EDGE = "grooveDNS://edge.example.com";

interface Taken {
  readonly number: number;
  readonly to: string;
  readonly text: string;
  readonly sender: string;
}

/** Another relay, which accepts messages and acknowledges them on demand. */
class Edge {
  readonly engine = new Connection({ role: "relay", outbound: true, localDeviceURLs: [EDGE], now: 0 });
  readonly taken: Taken[] = [];
  readonly watch = new Watch();
  /** Whether a recipient's session is ready. */
  suspends: (deviceURL: string) => boolean = () => false;
  readonly #socket: Peer["socket"];
  readonly #sessions = new Map<number, string>();
  readonly #arriving = new Map<number, { readonly userRef: string; text: string }>();

  private constructor(socket: Peer["socket"], port: number) {
    this.#socket = socket;
    socket.removeAllListeners("data");
    socket.on("data", (octets: Buffer) => {
      for (const event of this.engine.receive(octets, 0)) this.#on(event);
      this.flush();
      this.watch.changed();
    });
    this.engine.connect(`grooveDNS://127.0.0.1:${port}`);
    this.flush();
  }

  static async connect(t: TestContext, port: number): Promise<Edge> {
    const { socket } = await Peer.dial(port, { address: "edge/pc" });
    t.after(() => socket.destroy());
    return new Edge(socket, port);
  }

  #on(event: ConnectionEvent): void {
    if (event.type === "open") {
      this.#sessions.set(event.sessionId, event.deviceURL);
      this.engine.setAvailability(event.sessionId, this.suspends(event.deviceURL) ? "notReady" : "ready");
    }
    if (event.type === "message") this.#arriving.set(event.sessionId, { userRef: event.fields.userRef, text: "" });
    const arriving = "sessionId" in event ? this.#arriving.get(event.sessionId) : undefined;
    if (event.type === "data" && arriving !== undefined) arriving.text += Buffer.from(event.octets).toString();
    if (event.type === "endMessage" && arriving !== undefined) {
      const { userRef, text } = arriving;
      const to = this.#sessions.get(event.sessionId) ?? "";
      this.taken.push({ number: event.message, to, text, sender: userRef.slice(userRef.indexOf("@") + 1) });
    }
  }

  flush(): void {
    for (const block of this.engine.output()) this.#socket.write(block);
  }

  acknowledge(count: number, from: number): void {
    for (const { number } of this.taken.slice(from, from + count)) this.engine.complete(number);
    this.flush();
  }
}

async function setting(t: TestContext) {
  const relay = await relayFor(t);
  const edge = await Edge.connect(t, relay.port);
  await edge.watch.until(() => edge.engine.state === "established", "the edge");
  async function sender(address: string): Promise<Peer> {
    const peer = await Peer.connect(relay, { address });
    t.after(() => peer.drop());
    return peer;
  }
  /** One session for each message and recipient. */
  async function send(peer: Peer, recipients: readonly string[], text: (to: string) => string): Promise<void> {
    const numbers: number[] = [];
    for (const to of recipients) {
      const entries = [{ ...destination(to), relayURL: EDGE }];
      const session = peer.engine.openFanout({ resourceURL: "message", entries });
      peer.flush();
      await peer.ready(session);
      numbers.push(peer.send(session, text(to)));
    }
    await peer.untilAcknowledged(...numbers);
  }
  /** One message to all of them. */
  async function sendToMany(peer: Peer, recipients: readonly string[], text: string): Promise<void> {
    const entries = recipients.map((to) => ({ ...destination(to), relayURL: EDGE }));
    const session = peer.engine.openFanout({ resourceURL: "message", entries });
    peer.flush();
    await peer.ready(session);
    await peer.untilAcknowledged(peer.send(session, text));
  }
  return { relay, edge, sender, send, sendToMany };
}

const many = (count: number, name = "r") => Array.from({ length: count }, (_, n) => `${name}${n}/pc`);

describe("messages for peers of another relay", () => {
  test("of a sender with thousands of recipients do not delay those of others", async (t) => {
    const { relay, edge, sender, sendToMany, send } = await setting(t);
    const alice = await sender("alice/pc");
    for (let part = 0; part < 6; part += 1) await sendToMany(alice, many(400, `p${part}r`), "to all");
    await edge.watch.until(() => edge.taken.length >= SEND_WINDOW_MESSAGES, "a window of them");
    const bob = await sender("bob/pc");
    await send(bob, ["carol/pc"], () => "urgent");
    assert.ok(relay.waiting(EDGE).messages > 2400, "nothing is acknowledged yet");
    for (let acknowledged = 0; acknowledged < 4; acknowledged += 1) {
      const before = edge.taken.length;
      edge.acknowledge(1, acknowledged);
      await edge.watch.until(() => edge.taken.length > before, "the next");
    }
    assert.ok(
      edge.taken.some(({ sender, text }) => sender === "bob/pc" && text === "urgent"),
      "it comes with the next few",
    );
  });

  test("take turns, however many recipients of one sender are suspended", async (t) => {
    const { relay, edge, sender, sendToMany, send } = await setting(t);
    edge.suspends = (deviceURL) => deviceURL.includes("absent");
    const alice = await sender("alice/pc");
    let sent = 0;
    for (; sent < RELAY_SESSIONS + 100; sent += 400) {
      await sendToMany(alice, many(400, `absent${sent}-`), "to all");
    }
    const bob = await sender("bob/pc");
    await send(bob, ["carol/pc", "dora/pc"], (to) => `for ${to}`);
    await edge.watch.until(() => edge.taken.length === 2, "those of the other");
    edge.acknowledge(2, 0);
    await eventually(() => relay.waiting(EDGE).messages === sent, "they go");
  });

  test("arrive exactly once, in order per sender and recipient", async (t) => {
    const { relay, edge, sender } = await setting(t);
    const peers = await Promise.all(["alice/pc", "alice/phone", "bob/pc", "carol/pc"].map(sender));
    const sessions = new Map<string, number>();
    let acknowledged = 0;
    let round = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(3), fc.nat(5), fc.integer({ min: 1, max: 60 })), { minLength: 1, maxLength: 12 }),
        async (steps) => {
          round += 1;
          const from = edge.taken.length;
          const expected = new Map<string, string[]>();
          let sent = 0;
          for (const [who, to, count] of steps) {
            const peer = peers[who] ?? assert.fail();
            const key = `${who} ${to}`;
            let session = sessions.get(key);
            if (session === undefined) {
              const entries = [{ ...destination(`r${to}/pc`), relayURL: EDGE }];
              session = peer.engine.openFanout({ resourceURL: "message", entries });
              peer.flush();
              await peer.ready(session);
              sessions.set(key, session);
            }
            for (let n = 0; n < count; n += 1) {
              const text = `${round} ${sent}`;
              peer.send(session, text);
              sent += 1;
              const name = `${peer.options.address} grooveDevice://r${to}/pc`;
              expected.set(name, [...(expected.get(name) ?? []), text]);
            }
          }
          await eventually(() => {
            edge.acknowledge(7, acknowledged);
            acknowledged = Math.min(acknowledged + 7, edge.taken.length);
            return edge.taken.length - from >= sent && acknowledged === edge.taken.length;
          }, "all of them");
          const got = new Map<string, string[]>();
          for (const { sender, to, text } of edge.taken.slice(from)) {
            const name = `${sender} ${to}`;
            got.set(name, [...(got.get(name) ?? []), text]);
          }
          assert.deepEqual(got, new Map([...got.keys()].map((name) => [name, expected.get(name)])));
          assert.equal(edge.taken.length - from, sent);
          await eventually(() => relay.waiting(EDGE).messages === 0, "all to go");
        },
      ),
      { numRuns: 25 },
    );
  });
});
