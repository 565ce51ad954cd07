/** Reads that are held when the edge stops, and when the token of their reader is revoked. */
import assert from "node:assert/strict";
import { after, before, describe, it, type TestContext } from "node:test";
import { CONNECTED_AGE } from "../../../src/auth/limits.ts";
import type { PlainStream } from "../../support/driven-worker.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { drivenWorker } from "../../support/worker.ts";
import { ed25519, type Issuer } from "../issuer.ts";
import { until } from "../mailbox/support.ts";
import { bearer, type Operator, startAsking, startOperator } from "../operator.ts";

const NAME = "app/held/reads";
const TEXT = { "Content-Type": "text/plain" };

let issuer: Issuer;
let operator: Operator;
let code: string;
before(async () => {
  issuer = await ed25519();
  operator = await startOperator(issuer);
  code = await drivenWorker();
});
after(() => operator.close());

async function start(t: TestContext): Promise<{ edge: InspectedEdge; writer: Record<string, string> }> {
  const edge = await startAsking({ ...operator.settings, code });
  t.after(() => edge.close());
  const writer = bearer(await issuer.issue({ scope: "create:** write:**" }));
  const made = await fetch(`${edge.url}/mailboxes/${NAME}`, { method: "PUT", headers: { ...writer, ...TEXT } });
  assert.equal(made.status, 201);
  return { edge, writer };
}

/** Resolves when so many readers wait. */
async function held(edge: InspectedEdge, count: number): Promise<void> {
  const stream = await objectOf<PlainStream>(edge.miniflare, "PLAIN_STREAM", NAME);
  await until(`${count} wait`, async () => (await stream.readers()) === count);
}

describe("an edge that stops", () => {
  it("answers long-polls as if they had ended, and ends events, before it is gone", async (t) => {
    const { edge } = await start(t);
    const reader = bearer(await issuer.issue({ scope: "read:**" }));
    const read = (live: string) => fetch(`${edge.url}/mailboxes/${NAME}?offset=-1&live=${live}`, { headers: reader });
    const polls = Array.from({ length: 10 }, () => read("long-poll"));
    const events = await read("sse");
    const text = events.text();
    await held(edge, 11);
    await edge.close();
    const answers = await Promise.all(polls);
    for (const answer of answers) {
      assert.equal(answer.status, 204);
      assert.match(answer.headers.get("stream-next-offset") ?? "", /^\d{16}_\d{16}$/);
      assert.match(answer.headers.get("stream-cursor") ?? "", /^\d+$/);
    }
    assert.match(await text, /\nretry: \d+\n\n$/);
  });

  it("is told so by its own command only", async (t) => {
    const { edge } = await start(t);
    for (const headers of [{}, bearer("x")]) {
      const answer = await fetch(`${edge.url}/local/stop`, { method: "PUT", headers });
      assert.deepEqual([answer.status, answer.headers.get("grooveway-reason")], [404, "NotFound"]);
    }
  });
});

describe("a reader whose token was revoked a minute ago", () => {
  it("gets nothing of what is appended: its long-poll is refused by name, and its events end", async (t) => {
    const { edge, writer } = await start(t);
    const reader = bearer(await issuer.issue({ scope: "read:**", jti: "revoked" }));
    const read = (live: string) => fetch(`${edge.url}/mailboxes/${NAME}?offset=-1&live=${live}`, { headers: reader });
    const polled = read("long-poll");
    const events = await read("sse");
    const text = events.text();
    await held(edge, 2);
    operator.revoke("revoked");
    assert.equal((await fetch(`${edge.url}/clock/${CONNECTED_AGE + 2000}`)).status, 200);
    const body = "a secret";
    const headers = { ...writer, ...TEXT };
    const appended = await fetch(`${edge.url}/mailboxes/${NAME}`, { method: "POST", headers, body });
    assert.equal(appended.status, 204);
    const answer = await polled;
    assert.deepEqual([answer.status, answer.headers.get("grooveway-reason")], [401, "TokenRevoked"]);
    assert.doesNotMatch(await answer.text(), /secret/);
    assert.doesNotMatch(await text, /secret/);
  });
});
