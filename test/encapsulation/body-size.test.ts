/** Bodies beyond 32768 octets: what is offered and granted, how sizes change, and what happens where they are refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  agreedBody,
  arriveGet,
  arrivePost,
  bodyQuery,
  type ClientOptions,
  type ClientOutput,
  confirmationOf,
  confirmedBody,
  continueDown,
  ECHO_STRING,
  EncapsulationError,
  endPost,
  FAST_BODY,
  firstSize,
  HELD_BODY,
  handshakeAnswer,
  KeepAliveClient,
  MAX_BODY,
  offeredBody,
  openVirtualConnection,
  PollingClient,
  parsePoll,
  parsePollResponse,
  pollRoom,
  receive,
  receivePoll,
  respond,
  respondRoom,
  room,
  SLOW_BODY,
  STREAMED_BODY,
  sendDown,
  sizeAfter,
  sizeRefused,
} from "../../src/encapsulation/index.ts";
import { exchangePost, formatRefusal, formatResponse } from "./raw-server.ts";
import { DATE, GUID, join, octets, randomFrom, target, text, World, type WorldOptions } from "./support.ts";

const OPTIONS = { serverHost: "server.domain.net", guid: GUID };

test("an offer and its confirmation are read as they were written; anything else is none", () => {
  fc.assert(
    fc.property(fc.integer({ min: MAX_BODY + 1, max: STREAMED_BODY }), (limit) => {
      assert.equal(offeredBody(bodyQuery(limit)), limit);
      assert.equal(confirmedBody(confirmationOf(limit), limit), limit);
      assert.equal(confirmedBody(confirmationOf(limit), MAX_BODY + 1), MAX_BODY + 1);
    }),
  );
  for (const limit of [undefined, 0, MAX_BODY]) assert.equal(bodyQuery(limit), "");
  for (const limit of [-1, 1.5, Number.NaN, STREAMED_BODY + 1])
    assert.throws(() => bodyQuery(limit), EncapsulationError);
  for (const query of [
    "",
    "?",
    "?Body=",
    "?Body=0",
    "?Body=-1",
    "?Body=65536.5",
    "?Body=65536&a",
    "?a=1",
    "Body=65536",
  ]) {
    assert.equal(offeredBody(query), undefined, query);
  }
  assert.equal(confirmedBody(new Uint8Array(0), STREAMED_BODY), MAX_BODY);
  for (const answer of ["x", "Grooveway-Body: 65536", "Grooveway-Body: 65536\r\n\r\n", "Grooveway-Body: 0\r\n"]) {
    assert.equal(confirmedBody(octets(answer), STREAMED_BODY), undefined, answer);
  }
});

test("whatever is offered or confirmed, a body has at least 32768 octets and at most what both ends allow", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), fc.integer({ min: 0, max: 2 ** 40 }), (noise, number) => {
      const offered = offeredBody(`?Body=${number}`);
      for (const limit of [agreedBody(offered, HELD_BODY), agreedBody(offeredBody(noise), HELD_BODY)]) {
        assert.ok(limit >= MAX_BODY && limit <= HELD_BODY);
      }
      const answers = [noise, `Grooveway-Body: ${number}\r\n`, `Grooveway-Body: ${noise}\r\n`];
      for (const answer of answers) {
        const confirmed = confirmedBody(octets(answer), HELD_BODY) ?? MAX_BODY;
        assert.ok(confirmed >= MAX_BODY && confirmed <= HELD_BODY);
      }
    }),
  );
});

test("bodies double while full ones are fast, halve when one is slow, and stay below what was refused", () => {
  let size = firstSize(200_000);
  assert.equal(size.next, MAX_BODY);
  size = sizeAfter(size, MAX_BODY, FAST_BODY - 1);
  assert.equal(size.next, 65_536);
  assert.equal(sizeAfter(size, 20_000, 1).next, 65_536);
  assert.equal(sizeAfter(size, 65_536, FAST_BODY).next, 65_536);
  size = sizeAfter(sizeAfter(size, 65_536, 1), 131_072, 1);
  assert.equal(size.next, 200_000);
  assert.equal(sizeAfter(size, 200_000, SLOW_BODY + 1).next, 100_000);
  assert.equal(sizeAfter(firstSize(200_000), 1, SLOW_BODY + 1).next, MAX_BODY);
  size = sizeRefused(size, 200_000);
  assert.deepEqual(size, { limit: 100_000, next: 100_000 });
  assert.deepEqual(sizeAfter(size, 100_000, 1), size);
  assert.deepEqual(sizeRefused(size, 40_000), { limit: MAX_BODY, next: MAX_BODY });
});

// KeepAlive

const FIRST = target(`/2.0/a/${GUID},ConnType=KeepAlive,ID=gw-1?Body=${STREAMED_BODY}`, "KeepAlive");
const nth = (n: number) => target(`/2.0/a/${GUID},ConnType=KeepAlive,ID=gw-${n}`, "KeepAlive");

function grownServer() {
  const state = openVirtualConnection(FIRST, 0);
  exchangePost(state, nth(1), ECHO_STRING, 0);
  assert.equal(arriveGet(state, FIRST, 0).type, "handshake");
  return state;
}

const ok = (body: Uint8Array | string) => {
  const octetsOf = typeof body === "string" ? octets(body) : body;
  return join([formatResponse({ status: 200, now: DATE, contentLength: octetsOf.length }), octetsOf]);
};

/** An established client, to which the server has granted bodies of this length, and whose next body is as long. */
function grownClient(limit: number = STREAMED_BODY): KeepAliveClient {
  const client = new KeepAliveClient({ ...OPTIONS, bodyLimit: limit });
  client.start(0);
  client.feed("post", ok(""), 0);
  client.feed("get", ok(`GroovePing: 1.0,Ping\r\n${text(confirmationOf(limit))}`), 0);
  while (client.bodySize < limit) {
    client.send(new Uint8Array(client.bodySize), 0);
    client.feed("post", ok(""), 0);
  }
  return client;
}

function written(outputs: readonly ClientOutput[]): { head: string; length: number } {
  const write = outputs.find((output) => output.type === "write");
  assert(write?.type === "write");
  const [head = new Uint8Array(0), ...body] = write.octets;
  return { head: text(head), length: join(body).length };
}

test("KeepAlive: only the first GET makes the offer, and bodies stay literal without a confirmation", () => {
  const client = new KeepAliveClient({ ...OPTIONS, bodyLimit: STREAMED_BODY });
  const [get, post] = client.start(0).filter((output) => output.type === "write");
  assert(get?.type === "write" && post?.type === "write");
  assert.match(text(get.octets), /,ID=gw-1\?Body=4194304 HTTP\/1\.0\r\n/);
  assert.match(text(post.octets), /,ID=gw-1 HTTP\/1\.0\r\n/);
  client.feed("post", ok(""), 0);
  const next = written(client.feed("get", ok("GroovePing: 1.0,Ping\r\n"), 0));
  assert.match(next.head, /,ID=gw-2 HTTP\/1\.0\r\n/);
  for (let turn = 0; turn < 3; turn++) {
    assert.equal(written(client.send(new Uint8Array(100_000), 0)).length, MAX_BODY);
    for (let left = 3; left > 0; left--) client.feed("post", ok(""), 0);
    client.feed("post", ok(""), 0);
  }
  assert.deepEqual(
    client
      .feed("get", ok("x".repeat(MAX_BODY + 1)), 0)
      .flatMap((output) => ("reason" in output ? [output.reason] : [])),
    ["BodyTooLong"],
  );
});

test("KeepAlive: an invalid confirmation, or one that was not asked for, is a changed echo", () => {
  for (const [bodyLimit, answer] of [
    [undefined, "Grooveway-Body: 65536\r\n"],
    [STREAMED_BODY, "Grooveway-Body: many\r\n"],
    [STREAMED_BODY, "x".repeat(1000)],
  ] as const) {
    const client = new KeepAliveClient({ ...OPTIONS, bodyLimit });
    client.start(0);
    const outputs = client.feed("get", ok(`GroovePing: 1.0,Ping\r\n${answer}`), 0);
    assert.deepEqual(outputs.at(-1)?.type === "lost" && (outputs.at(-1) as { reason: string }).reason, "BadEcho");
  }
});

test("KeepAlive: a POST that a proxy refuses for its length is sent again in halves, with the same number", () => {
  const client = grownClient(HELD_BODY);
  const first = written(client.send(new Uint8Array(HELD_BODY), 0));
  client.send(octets("behind"), 0);
  const outputs = client.feed("post", octets("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"), 0);
  assert.deepEqual(
    outputs.map(({ type }) => type),
    ["bodyRefused", "close", "open", "write"],
  );
  assert.deepEqual(outputs[0], { type: "bodyRefused", bodyLimit: HELD_BODY / 2 });
  const again = written(outputs);
  assert.equal(again.length, HELD_BODY / 2);
  const number = (head: string) => /ID=gw-(\d+) /.exec(head)?.[1];
  assert.equal(number(again.head), number(first.head));
  assert.equal(written(client.feed("post", ok(""), 0)).length, HELD_BODY / 2);
  assert.equal(written(client.feed("post", ok(""), 0)).length, 6);
});

test("KeepAlive: a request that a kept connection no longer carries goes over a new one, with the same number", () => {
  const kinds = (outputs: readonly ClientOutput[]) => outputs.map(({ type }) => type);
  const client = grownClient(HELD_BODY);
  const [, next] = [written(client.feed("get", ok("one"), 0)), client.ended("get", 1)];
  assert.deepEqual(kinds(next), ["open", "write"]);
  assert.match(written(next).head, /^GET .*,ID=gw-3 /);
  assert.equal(client.deadline > 1, true);
  // A new connection that ends is another matter.
  assert.equal(kinds(client.ended("get", 2)).at(-1), "lost");

  const posting = grownClient(HELD_BODY);
  const first = written(posting.send(new Uint8Array(1000), 0));
  const again = posting.ended("post", 0);
  assert.deepEqual(kinds(again), ["open", "write"]);
  assert.deepEqual(written(again), first);
  assert.deepEqual(kinds(posting.feed("post", ok(""), 0)), []);

  // Once an answer has begun, or to a server that may not know requests by their numbers, nothing is sent again.
  const begun = grownClient(HELD_BODY);
  begun.feed("get", octets("HTTP/1.1 200"), 0);
  assert.equal(kinds(begun.ended("get", 0)).at(-1), "lost");
  const foreign = new KeepAliveClient(OPTIONS);
  foreign.start(0);
  foreign.feed("post", ok(""), 0);
  foreign.feed("get", ok("GroovePing: 1.0,Ping\r\n"), 0);
  assert.equal(kinds(foreign.ended("get", 0)).at(-1), "lost");
});

test("KeepAlive: a connection that ends within a large body tells what to offer next; within a small one it does not", () => {
  const large = grownClient();
  large.send(new Uint8Array(STREAMED_BODY), 0);
  const refused = large.ended("post", 0).filter(({ type }) => type === "bodyRefused");
  assert.deepEqual(refused, [{ type: "bodyRefused", bodyLimit: STREAMED_BODY / 2 }]);
  const small = grownClient();
  small.send(new Uint8Array(1000), 0);
  assert.ok(!small.ended("post", 0).some(({ type }) => type === "bodyRefused"));
  // A server that is gone, or refuses for a reason of its own, says nothing of sizes.
  const elsewhere = grownClient();
  elsewhere.send(new Uint8Array(STREAMED_BODY), 0);
  const head = "HTTP/1.0 404 Not Found\r\nGrooveway-Reason: ConnectionLost\r\nContent-Length: 0\r\n\r\n";
  assert.ok(!elsewhere.feed("post", octets(head), 0).some(({ type }) => type === "bodyRefused"));
});

test("KeepAlive: a response without an explicit end is not trusted where responses are streamed", () => {
  const client = grownClient();
  const outputs = client.feed("get", octets("HTTP/1.0 200 OK\r\n\r\ncut"), 0);
  assert.deepEqual(outputs[0], { type: "bodyRefused", bodyLimit: HELD_BODY });
  assert.equal(outputs.at(-1)?.type, "lost");
  const held = grownClient(HELD_BODY);
  assert.ok(held.feed("get", octets("HTTP/1.0 200 OK\r\n\r\ndata"), 0).some(({ type }) => type === "data"));
});

test("KeepAlive: the server grants what the first GET offers, and its answers grow", () => {
  const state = grownServer();
  assert.equal(text(handshakeAnswer(state)), `GroovePing: 1.0,Ping\r\nGrooveway-Body: ${STREAMED_BODY}\r\n`);
  assert.equal(exchangePost(state, nth(2), new Uint8Array(STREAMED_BODY), 0).type, "answer");
  let expected: number = MAX_BODY;
  for (let n = 2; n < 12; n++) {
    arriveGet(state, nth(n), n);
    assert.equal(room(state), expected);
    sendDown(state, expected, n);
    expected = Math.min(STREAMED_BODY, expected * 2);
  }
  arriveGet(state, nth(12), 12);
  sendDown(state, 1_000_000, 12);
  assert.equal(continueDown(state, 1_000_000, 13), STREAMED_BODY - 2_000_000);
  // A repeat of a streamed answer cannot be served.
  const repeated = arriveGet(state, nth(12), 14);
  assert.deepEqual([repeated.type, "reason" in repeated && repeated.reason], ["refuse", "AnswerForgotten"]);
  assert.equal(continueDown(state, 1, 15), 0);
});

test("KeepAlive: a POST that broke off goes on where it did, and ends if it comes again with less", () => {
  const state = grownServer();
  arrivePost(state, nth(2), 0, 100_000);
  receive(state, new Uint8Array(70_000), 0);
  assert.equal(arrivePost(structuredClone(state), nth(2), 0, 60_000).type, "refuse");
  assert.equal(arrivePost(state, nth(2), 0, 100_000).type, "repeat");
  assert.deepEqual([state.postOutstanding, state.bodyLength], [true, 70_000]);
  const rest = receive(state, new Uint8Array(30_000), 0);
  assert.equal(rest.type === "data" && rest.data.length, 30_000);
  assert.equal(endPost(state, 0).type, "answer");
  assert.equal(exchangePost(state, nth(3), new Uint8Array(STREAMED_BODY + 1), 0).type, "refuse");
});

// Polling

/** A Polling client and a server that have agreed on bodies of 1 MiB. */
function grownPolling({
  parameters,
  awaitedSince,
}: Pick<WorldOptions, "parameters"> & Pick<ClientOptions, "awaitedSince"> = {}): World {
  const client = new PollingClient({ ...OPTIONS, bodyLimit: STREAMED_BODY, awaitedSince });
  const world = new World({ client, random: randomFrom(1), ...(parameters !== undefined && { parameters }) });
  world.start();
  world.sendUp(octets("Connect"));
  world.run();
  assert.equal(world.polling?.bodyLimit, HELD_BODY);
  return world;
}

test("Polling: the probe makes the offer, and its response the confirmation", () => {
  const client = new PollingClient({ ...OPTIONS, bodyLimit: STREAMED_BODY });
  assert.match(written(client.start(0)).head, /^POST \/\?Body=1048576 HTTP\/1\.0\r\n/);
  const world = grownPolling();
  assert.equal(world.lost, undefined);
});

test("Polling: two answers that may be asked for again have at most 1 MiB and 32 KiB together", () => {
  const { polling, client } = grownPolling();
  assert(polling !== undefined);
  client.close();
  const kept = { request: { sequence: 1, checksum: "0", length: 100 }, body: new Uint8Array(HELD_BODY) };
  const state = {
    ...polling,
    requestOutstanding: true,
    responses: [kept],
    down: { limit: HELD_BODY, next: HELD_BODY },
  };
  const parameters = { minimum: 1, maximum: 1, repetitions: 1 };
  const least = pollRoom(state.relay, state.guid, state.responseSequenceNum, parameters);
  assert.equal(respondRoom(state, parameters), least);
  assert.equal(respondRoom({ ...state, responses: [] }, parameters), least + HELD_BODY - MAX_BODY);
  assert.equal(parsePollResponse(new Uint8Array(HELD_BODY)).type, "refuse");
});

test("Polling: data that finds an exchange under way goes in a second one, whose response waits for the first", () => {
  const { client } = grownPolling();
  const outputs = client.expire(client.deadline);
  assert.deepEqual(
    outputs.flatMap((output) => (output.type === "write" ? [output.session] : [])),
    ["post"],
  );
  const second = client.send(octets("at once"), 0);
  assert.deepEqual(
    second.map((output) => `${output.type} ${"session" in output && output.session}`),
    ["open secondPost", "write secondPost"],
  );
  // Both are busy.
  assert.deepEqual(client.send(octets("later"), 0), []);
  client.close();
});

test("Polling: a refusal of the second exchange ends the connection after the response of the first", () => {
  const { client, polling } = grownPolling();
  assert(polling !== undefined);
  const [first] = client.expire(client.deadline).flatMap((output) => (output.type === "write" ? [output] : []));
  client.send(octets("at once"), 0);
  const parsed = parsePoll(first?.octets.at(-1) ?? new Uint8Array(0));
  assert(parsed.type === "poll");
  assert.equal(receivePoll(polling, parsed.poll, 0).type, "data");
  const answered = respond(polling, [octets("last words")], { minimum: 1, maximum: 1, repetitions: 1 }, 0);
  assert(answered.type === "body");
  // Each has a TCP connection of its own, so the second may be there first.
  const refused = client.feed("secondPost", formatRefusal("UnknownConnection", DATE), 0);
  assert.deepEqual(refused, [{ type: "close", session: "secondPost" }]);
  assert.deepEqual(client.send(octets("later"), 0), []);
  const head = formatResponse({ status: 200, now: DATE, contentLength: answered.body.length });
  const outputs = client.feed("post", join([head, answered.body]), 0);
  assert.deepEqual(
    outputs.map((output) => (output.type === "data" ? text([output.data]) : output.type)),
    ["last words", "close", "lost"],
  );
  const lost = outputs.at(-1);
  assert.equal(lost?.type === "lost" && lost.code, "UnknownConnection");
  assert.equal(client.deadline, Number.POSITIVE_INFINITY);
});

test("Polling: a refusal of the second exchange counts also if the first is refused, or not answered at all", () => {
  for (const isSilent of [false, true]) {
    const { client } = grownPolling();
    client.expire(client.deadline);
    client.send(octets("at once"), 0);
    client.feed("secondPost", formatRefusal("UnknownConnection", DATE), 0);
    const outputs: ClientOutput[] = isSilent ? [] : client.feed("post", formatRefusal("UnknownConnection", DATE), 0);
    while (isSilent && client.deadline < Number.POSITIVE_INFINITY) outputs.push(...client.expire(client.deadline));
    assert.equal(outputs.at(-1)?.type, "lost");
  }
});

test("Polling: our edge is polled ten times a second for three seconds after data, and then at its intervals", () => {
  const world = grownPolling({ parameters: { minimum: 1, maximum: 30, repetitions: 10 } });
  const { client } = world;
  world.sendUp(octets("question"));
  world.run();
  const from = world.now;
  const polls: number[] = [];
  world.run(() => polls.push(client.deadline - from) < 32);
  const eager = Array.from({ length: 30 }, (_, n) => 100 * (n + 1));
  assert.deepEqual(polls, [...eager, 4000, 5000]);
  client.close();
});

test("Polling: while a program waits for data, our edge is polled every second, and less often after a long pause", () => {
  let since: number | undefined;
  const world = grownPolling({ parameters: { minimum: 1, maximum: 30, repetitions: 1 }, awaitedSince: () => since });
  const { client } = world;
  world.sendUp(octets("question"));
  world.run();
  /** Seconds between the first two polls that come at least so many seconds after the question. */
  const pausesAfter = (...seconds: readonly number[]) => {
    const from = world.now;
    const polls: number[] = [];
    world.run(() => polls.push((client.deadline - from) / 1000) > 0 && (polls.at(-1) ?? 0) < Math.max(...seconds) + 60);
    return seconds.map((after) => {
      const at = polls.findIndex((poll) => poll >= after);
      return Math.round((polls[at + 1] ?? 0) - (polls[at] ?? 0));
    });
  };
  since = world.now;
  assert.deepEqual(pausesAfter(10, 290, 900, 15_000), [1, 1, 3, 30]);
  since = undefined;
  world.sendUp(octets("question"));
  world.run();
  assert.deepEqual(pausesAfter(10, 290), [8, 30]);
  client.close();
});

test("Polling: a body that the server has no memory for, or a proxy refuses, is sent again in smaller ones", () => {
  for (const [answer, limit] of [
    ["HTTP/1.0 400 Bad Request\r\nGrooveway-Reason: GrownBodyRefused\r\nContent-Length: 0\r\n\r\n", undefined],
    ["HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", 30_000],
  ] as const) {
    const world = grownPolling();
    const { client } = world;
    world.sendUp(new Uint8Array(200_000));
    world.run();
    const sent = written(client.send(new Uint8Array((client.bodySize ?? 0) - 200), world.now));
    assert.ok(sent.length > MAX_BODY, String(sent.length));
    const outputs = client.feed("post", octets(answer), world.now);
    const refused = outputs.filter(({ type }) => type === "bodyRefused");
    assert.equal(refused.length, limit === undefined ? 0 : 1);
    assert.ok(written(outputs).length < sent.length);
    client.close();
  }
});

test("Polling: a body that is refused when it is repeated stays as it is, since the server may have read it before", () => {
  for (const answer of [
    "HTTP/1.0 400 Bad Request\r\nGrooveway-Reason: GrownBodyRefused\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
  ]) {
    const world = grownPolling();
    const { client } = world;
    world.sendUp(new Uint8Array(200_000));
    world.run();
    const sent = written(client.send(new Uint8Array((client.bodySize ?? 0) - 200), world.now));
    // The answer is lost.
    client.feed("post", octets("HTTP/1.0 200 OK\r\n"), world.now);
    client.ended("post", world.now);
    assert.equal(written(client.expire(client.deadline)).length, sent.length);
    const outputs = client.feed("post", octets(answer), world.now);
    assert.ok(!outputs.some(({ type }) => type === "write" || type === "lost"));
    assert.equal(written(client.expire(client.deadline)).length, sent.length);
    client.close();
  }
});
