/** A Polling virtual connection of a device that keeps to no order. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { PollingConnection } from "../../../src/edge/tunnel/polling-connection.ts";
import { formatPoll, HELD_BODY, type Poll, parsePoll, parsePollResponse } from "../../../src/encapsulation/index.ts";
import { fakeTunnel } from "./connections.ts";

const GUID = "0123456789abcdef0123456789abcdef";

function pollOf(sequence: number, text: string): Poll {
  const data = text === "" ? [] : [Buffer.from(text)];
  const parsed = parsePoll(formatPoll({ relay: "relay.example.com", guid: GUID, sequence, data }), HELD_BODY);
  assert(parsed.type === "poll");
  return parsed.poll;
}

/** The data of an exchange's answer. */
function dataOf(exchange: Awaited<ReturnType<PollingConnection["exchange"]>>): string {
  assert(exchange.ok, JSON.stringify(exchange));
  const parsed = parsePollResponse(exchange.body);
  assert(parsed.type === "poll");
  return Buffer.from(parsed.poll.data).toString();
}

it("a repeat of the last handshake request waits for the relay, although another request follows it", async () => {
  const tunnel = fakeTunnel();
  const connection = PollingConnection.begin(tunnel.context, pollOf(0, ""), HELD_BODY);
  tunnel.connection = connection;
  await connection.exchange(pollOf(0, ""));
  const first = connection.exchange(pollOf(0, "hello"));
  const repeat = connection.exchange(pollOf(0, "hello"));
  const next = connection.exchange(pollOf(1, "more"));
  assert.deepEqual((await first).ok, false);
  tunnel.relay.send(Buffer.from("world"));
  assert.equal(dataOf(await repeat), "world");
  assert.equal(dataOf(await next), "");
  assert.equal(Buffer.concat(tunnel.relay.came).toString(), "hellomore");
});

it("a repeat ends the wait of the request before it, although the relay takes nothing", async () => {
  const tunnel = fakeTunnel();
  const connection = PollingConnection.begin(tunnel.context, pollOf(0, ""), HELD_BODY);
  tunnel.connection = connection;
  await connection.exchange(pollOf(0, ""));
  tunnel.relay.send(Buffer.from("world"));
  await connection.exchange(pollOf(0, "hello"));
  const { promise, resolve } = Promise.withResolvers<void>();
  tunnel.relay.blocked = promise;
  const first = connection.exchange(pollOf(1, "more"));
  const repeat = connection.exchange(pollOf(1, "more"));
  assert.equal((await first).ok, false);
  resolve();
  assert.equal((await repeat).ok, true);
});
