/** How long GETs of KeepAlive are held: longer and longer, as the way lets them be. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  FIRST_HOLD,
  firstHold,
  type HoldTime,
  heldFor,
  holdAfter,
  holdCut,
  LONGEST_HOLD,
} from "../../src/encapsulation/hold-time.ts";
import {
  type ClientOptions,
  type ClientOutput,
  confirmationOf,
  ECHO_TEXT,
  KeepAliveClient,
} from "../../src/encapsulation/index.ts";
import { GUID, octets, text } from "./support.ts";

describe("the hold time", () => {
  it("grows by each GET that was held to its end, up to 55 s", () => {
    let hold = firstHold();
    const asked: number[] = [];
    for (let n = 0; n < 6; n += 1) {
      asked.push(hold.next);
      hold = holdAfter(hold, hold.next + 0.1);
    }
    assert.deepEqual(asked, [25, 35, 45, 55, 55, 55]);
  });

  it("stays as it is after an answer that came sooner", () => {
    const hold = firstHold();
    assert.equal(holdAfter(hold, 3), hold);
  });

  it("goes back to what the way has let through, and stays there, when a longer one is cut", () => {
    const hold = holdAfter(holdAfter(firstHold(), 25), 35);
    assert.equal(hold.next, 45);
    const cut = holdCut(hold, 40) as HoldTime;
    assert.deepEqual([cut.next, cut.limit], [35, 35]);
    assert.equal(holdAfter(cut, 35).next, 35);
  });

  it("learns nothing from a cut that came sooner than what the way lets through, or before anything has", () => {
    assert.equal(holdCut(holdAfter(firstHold(), 25), 5), undefined);
    assert.equal(holdCut(firstHold(), 20), undefined);
  });

  it("is never longer than what is known of the way, nor than what a server grants", () => {
    const event = fc.tuple(fc.boolean(), fc.double({ min: 0, max: 120, noNaN: true }));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: LONGEST_HOLD }), fc.array(event), (limit, events) => {
        let hold = firstHold(limit);
        for (const [isCut, seconds] of events) {
          hold = isCut ? (holdCut(hold, seconds) ?? hold) : holdAfter(hold, seconds);
          assert.ok(hold.next >= 1 && hold.next <= hold.limit && hold.limit <= limit, JSON.stringify(hold));
        }
      }),
    );
    assert.deepEqual([heldFor(undefined), heldFor(40), heldFor(99)], [FIRST_HOLD, 40, LONGEST_HOLD]);
  });
});

const OK = (body: string) =>
  octets(`HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: ${body.length}\r\n\r\n${body}`);

/** A client, established with a Grooveway server, or with another that answers no offer. */
function established(confirmation: string, options: Partial<ClientOptions> = {}): KeepAliveClient {
  const client = new KeepAliveClient({ serverHost: "server.test", guid: GUID, bodyLimit: 65536, ...options });
  client.start(0);
  client.feed("post", OK(""), 0);
  client.feed("get", OK(`${ECHO_TEXT}${confirmation}`), 0);
  assert.equal(client.state, "Established");
  return client;
}

/** The hold time in the GET among outputs; undefined if it asks for none. */
function askedIn(outputs: readonly ClientOutput[]): string | undefined {
  const [get = ""] = outputs.flatMap((one) =>
    one.type === "write" && one.session === "get" ? [text(one.octets)] : [],
  );
  assert.match(get, /^GET /);
  return /[?&]hold=(\d+)/i.exec(get)?.[1];
}

describe("a KeepAlive client", () => {
  const grant = new TextDecoder().decode(confirmationOf(65536));

  it("asks a Grooveway server for longer holds, as they succeed", () => {
    const client = established(grant);
    assert.equal(askedIn(client.feed("get", OK(""), 25_000)), "35");
    assert.equal(askedIn(client.feed("get", OK(""), 60_000)), "45");
    assert.equal(askedIn(client.feed("get", OK("data"), 61_000)), "45", "data says nothing of the way");
  });

  it("asks another server for nothing", () => {
    const client = established("");
    assert.equal(askedIn(client.feed("get", OK(""), 25_000)), undefined);
    assert.equal(askedIn(client.feed("get", OK(""), 50_000)), undefined);
  });

  it("asks for less in the same request when a proxy cuts one that was held longer, and tells its transport", () => {
    const client = established(grant);
    client.feed("get", OK(""), 25_000);
    const outputs = client.ended("get", 55_500);
    assert.deepEqual(
      outputs.find(({ type }) => type === "holdCut"),
      { type: "holdCut", hold: 25 },
    );
    assert.equal(askedIn(outputs), undefined, "25 s is what a server holds by itself");
    assert.equal(client.state, "Established", "the request is repeated under its number");
  });

  it("takes a proxy's 504 for a cut", () => {
    const client = established(grant);
    client.feed("get", OK(""), 25_000);
    const late = octets("HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n");
    const outputs = client.feed("get", late, 55_000);
    assert.deepEqual(
      outputs.find(({ type }) => type === "holdCut"),
      { type: "holdCut", hold: 25 },
    );
  });

  it("keeps to what is known of the way", () => {
    const client = established(grant, { hold: 10 });
    assert.equal(askedIn(client.feed("get", OK(""), 10_000)), "10");
  });
});
