/** Forwarding of requests from inboxes: order, tries, and what is acknowledged when. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Asked } from "../../../src/cli/http/ask-server.ts";
import {
  type FailedForward,
  type ForwardEvent,
  type ForwarderOptions,
  inboxOf,
  RequestForwarder,
} from "../../../src/cli/http/request-forwarder.ts";
import type { Message } from "../../../src/device/index.ts";
import { encodeRequest, INBOX_RESOURCE } from "../../../src/requests/index.ts";

const answered = (status: number, headers: readonly (readonly [string, string])[] = []): Asked => ({
  type: "answered",
  answer: { status, headers, body: new Uint8Array() },
});
const unreachable: Asked = { type: "unreachable", detail: "connect ECONNREFUSED" };
const hangs: Asked = { type: "failed", reason: "TimedOut", detail: "did not answer within 30 s" };

/** A forwarder whose server answers as the test says. */
function forwarding(
  answer: (path: string, times: number) => Asked | Promise<Asked>,
  more: Partial<ForwarderOptions> = {},
) {
  const ending = new AbortController();
  const log: string[] = [];
  const pauses: number[] = [];
  const told: string[] = [];
  const events: ForwardEvent[] = [];
  const setAside: FailedForward[] = [];
  const times = new Map<string, number>();
  const forwarder = new RequestForwarder({
    ask: async ({ path }) => {
      const count = (times.get(path) ?? 0) + 1;
      times.set(path, count);
      log.push(`ask ${path}`);
      return answer(path, count);
    },
    setAside: async (failed) => {
      setAside.push(failed);
    },
    suspend: () => {
      log.push("suspend");
      return () => log.push("resume");
    },
    pause: async (milliseconds) => {
      pauses.push(milliseconds);
    },
    isStrict: false,
    report: async (event) => {
      events.push(event);
    },
    tell: (line) => told.push(line),
    signal: ending.signal,
    ...more,
  });
  const message = (path: string, inbox = "github"): Message => ({
    id: `${path}@x`,
    from: `grooveInbox%3A%2F%2Fbob%2Fpc%2F${inbox}`,
    vouched: true,
    resource: INBOX_RESOURCE,
    part: undefined,
    body: encodeRequest({ method: "POST", path, query: undefined, headers: [], body: new Uint8Array() }),
    text: () => "",
    done: () => void log.push(`done ${path}`),
  });
  return { forwarder, message, log, pauses, told, events, setAside, ending };
}

describe("a forwarder", () => {
  it("acknowledges what the server has taken, in order, one at a time", async () => {
    const { forwarder, message, log } = forwarding(() => answered(204));
    await Promise.all(["/1", "/2", "/3"].map((path) => forwarder.take(message(path))));
    assert.deepEqual(log, ["ask /1", "done /1", "ask /2", "done /2", "ask /3", "done /3"]);
  });

  it("tries again what the server answers otherwise, with growing pauses, and keeps the order", async () => {
    const { forwarder, message, log, pauses, told } = forwarding((path, times) =>
      answered(path === "/1" && times < 4 ? 500 : 200),
    );
    await Promise.all(["/1", "/2"].map((path) => forwarder.take(message(path))));
    assert.deepEqual(log, ["ask /1", "ask /1", "ask /1", "ask /1", "done /1", "ask /2", "done /2"]);
    assert.deepEqual(pauses, [1000, 2000, 4000]);
    assert.deepEqual(told, ["github: POST /1: the server answered 500; trying again"]);
  });

  for (const status of [199, 301, 302, 304, 400, 404, 410, 503]) {
    it(`does not take ${status} for a success`, async () => {
      const { forwarder, message, setAside } = forwarding(() => answered(status), { tries: 1 });
      await forwarder.take(message("/1"));
      assert.equal(setAside[0]?.reason, "AnsweredOther");
    });
  }

  it("sets aside after the tries, and only then acknowledges and goes on", async () => {
    const { forwarder, message, log, setAside, events } = forwarding(
      (path) => (path === "/1" ? hangs : answered(200)),
      {
        tries: 3,
      },
    );
    await Promise.all(["/1", "/2"].map((path) => forwarder.take(message(path))));
    assert.deepEqual(log, ["ask /1", "ask /1", "ask /1", "done /1", "ask /2", "done /2"]);
    const [failed] = setAside;
    assert.deepEqual(
      [failed?.inbox, failed?.id, failed?.reason, failed?.tries],
      [{ peer: "grooveDevice://bob/pc", name: "github" }, "/1@x", "TimedOut", 3],
    );
    assert.deepEqual(
      events.map(({ event }) => event),
      ["setAside", "forwarded"],
    );
  });

  it("in strict order sets aside nothing for how the server answers", async () => {
    const { forwarder, message, log, setAside } = forwarding((_, times) => (times < 50 ? hangs : answered(200)), {
      isStrict: true,
    });
    await Promise.all(["/1", "/2"].map((path) => forwarder.take(message(path))));
    assert.deepEqual(setAside, []);
    assert.equal(log.indexOf("ask /2"), 51);
  });

  it("waits for a server that cannot be connected to, however long, and counts no tries", async () => {
    const { forwarder, message, setAside, pauses } = forwarding((_, times) =>
      times < 100 ? unreachable : answered(200),
    );
    await forwarder.take(message("/1"));
    assert.deepEqual([setAside.length, pauses.length, Math.max(...pauses)], [0, 99, 60_000]);
  });

  it("leaves the rest in the mailbox while the server cannot be connected to, once for all inboxes", async () => {
    let isAway = true;
    const { forwarder, message, log } = forwarding((_, times) => {
      // After both have met it.
      if (times === 3) isAway = false;
      return isAway ? unreachable : answered(200);
    });
    await Promise.all([forwarder.take(message("/1")), forwarder.take(message("/2", "stripe"))]);
    isAway = true;
    const later = forwarder.take(message("/3"));
    await later;
    assert.deepEqual(
      log.filter((what) => !what.startsWith("ask")),
      ["suspend", "resume", "done /1", "done /2", "suspend", "resume", "done /3"],
    );
  });

  it("resumes nothing after its end", async () => {
    const ending = new AbortController();
    const { forwarder, message, log } = forwarding(
      (_, times) => {
        if (times === 1) return unreachable;
        ending.abort();
        return answered(500);
      },
      { signal: ending.signal },
    );
    await forwarder.take(message("/1"));
    assert.deepEqual(log, ["ask /1", "suspend", "ask /1"]);
  });

  it("lets no inbox wait for another", async () => {
    let letGo: (asked: Asked) => void = () => undefined;
    const { forwarder, message, log } = forwarding((path) =>
      path === "/slow" ? new Promise((resolve) => (letGo = resolve)) : answered(200),
    );
    const slow = forwarder.take(message("/slow"));
    await forwarder.take(message("/quick", "stripe"));
    assert.deepEqual(log, ["ask /slow", "ask /quick", "done /quick"]);
    letGo(answered(200));
    await slow;
  });

  it("does not acknowledge what the edge does not set aside, and tries that again", async () => {
    let failures = 0;
    const { forwarder, message, log, told } = forwarding(() => hangs, {
      tries: 1,
      setAside: async () => {
        failures += 1;
        if (failures < 4) throw new Error("as many are set aside as there may be [SetAsideFull]");
      },
    });
    await forwarder.take(message("/1"));
    assert.deepEqual(log, ["ask /1", "done /1"]);
    assert.deepEqual([failures, told.length], [4, 1]);
    assert.match(told[0] ?? "", /cannot be set aside: .* \[SetAsideFull\]$/);
  });

  it("sets aside at once what it does not send, and what is no request", async () => {
    const unsafe: Asked = { type: "unsafe", reason: "UnsafePath", detail: "the path is not passed on" };
    const { forwarder, message, setAside } = forwarding(() => unsafe);
    await forwarder.take(message("/1"));
    await forwarder.take({ ...message("/2"), body: Buffer.from("hello") });
    assert.deepEqual(
      setAside.map(({ reason }) => reason),
      ["UnsafePath", "NotARequest"],
    );
  });

  it("acknowledges nothing that was not taken when the command ends", async () => {
    const { forwarder, message, log, ending } = forwarding(
      (path) => {
        if (path === "/2") ending.abort();
        return path === "/1" ? answered(200) : hangs;
      },
      { tries: 1 },
    );
    await Promise.all(["/1", "/2", "/3"].map((path) => forwarder.take(message(path))));
    assert.deepEqual(log, ["ask /1", "done /1", "ask /2"]);
  });

  it("waits as long as the server asks, up to a minute", async () => {
    const { forwarder, message, pauses } = forwarding((_, times) =>
      times === 1
        ? answered(503, [["Retry-After", "20"]])
        : times === 2
          ? answered(503, [["Retry-After", "9999"]])
          : answered(200),
    );
    await forwarder.take(message("/1"));
    assert.deepEqual(pauses, [20_000, 60_000]);
  });
});

describe("a message of an inbox", () => {
  const from = "grooveInbox%3A%2F%2Fbob%2Fgithub";
  const message = { resource: INBOX_RESOURCE, vouched: true, from };

  it("is one that the edge vouches for", () => {
    assert.deepEqual(inboxOf(message), { peer: "grooveIdentity://bob", name: "github" });
  });

  for (const [what, part] of [
    ["a device says that it is one", { from: "alice/pc" }],
    ["nobody vouches for its sender", { vouched: false }],
    ["it comes from another relay", { from: `${from}@relay.example.com` }],
    ["it is of another resource", { resource: "message" }],
    ["its sender is unknown", { from: undefined }],
  ] as const) {
    it(`is none if ${what}`, () => assert.equal(inboxOf({ ...message, ...part }), undefined));
  }
});
