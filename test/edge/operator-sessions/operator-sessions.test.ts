/** Sessions of operators: how long they last, how many there are, that a form is taken once, and that nothing is left. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  FORM_LIFE,
  SENT_FORMS,
  SESSION_LIFE,
  SESSIONS,
  SIGN_IN_TRIES,
} from "../../../src/edge/operator-sessions/limits.ts";
import type { SignedIn, Try } from "../../../src/edge/rpc/operator-sessions-rpc.ts";
import type { Left } from "../../support/driven-worker.ts";
import { newObjects } from "../new-objects.ts";

interface SessionsStub {
  attempt(source: string): Promise<Try>;
  begin(session: string, signedIn: SignedIn, source: string): Promise<void>;
  find(session: string): Promise<SignedIn | undefined>;
  take(session: string, form: string): Promise<boolean>;
  end(session: string): Promise<void>;
  letPass(milliseconds: number): Promise<void>;
  left(): Promise<Left>;
}

const SIGNED_IN: SignedIn = { type: "adminToken", seal: "seal" };
const MINUTE = 60_000;

const sessions = newObjects<SessionsStub>("OPERATOR_SESSIONS");

describe("sessions", () => {
  it("last eight hours, and leave nothing behind", async () => {
    const { stub: object } = await sessions();
    await object.begin("one", SIGNED_IN, "");
    await object.letPass(SESSION_LIFE - MINUTE);
    assert.equal((await object.find("one"))?.type, "adminToken");
    await object.letPass(MINUTE);
    assert.equal(await object.find("one"), undefined);
    const { keys, tables, alarm } = await object.left();
    assert.deepEqual([[...keys], tables, alarm], [[], 0, false]);
  });

  it("end one by one, and the others stay", async () => {
    const { stub: object } = await sessions();
    await object.begin("one", SIGNED_IN, "");
    await object.begin("two", SIGNED_IN, "");
    await object.end("one");
    assert.equal(await object.find("one"), undefined);
    assert.equal((await object.find("two"))?.type, "adminToken");
    await object.end("two");
    assert.deepEqual([...(await object.left()).keys], []);
  });

  it("are bounded: the oldest ends for a new one", async () => {
    const { stub: object } = await sessions();
    for (let at = 0; at <= SESSIONS; at += 1) {
      await object.begin(`s${at}`, SIGNED_IN, "");
      // Each is younger than the one before.
      await object.letPass(1);
    }
    assert.equal(await object.find("s0"), undefined);
    assert.equal((await object.find("s1"))?.type, "adminToken");
    assert.equal([...(await object.left()).keys].length, SESSIONS);
  });

  it("take each form once, and a bounded number in an hour", async () => {
    const { stub: object } = await sessions();
    await object.begin("one", SIGNED_IN, "");
    assert.equal(await object.take("one", "form"), true);
    assert.equal(await object.take("one", "form"), false);
    assert.equal(await object.take("other", "form"), false, "there is no such session");
    for (let at = 1; at < SENT_FORMS; at += 1) assert.equal(await object.take("one", `form ${at}`), true);
    assert.equal(await object.take("one", "one more"), false);
    await object.letPass(FORM_LIFE);
    assert.equal(await object.take("one", "one more"), true);
  });

  it("are tried for a few times by each source, and again after a while", async () => {
    const { stub: object } = await sessions();
    for (let tries = 0; tries < SIGN_IN_TRIES; tries += 1) assert.equal((await object.attempt("a")).type, "ok");
    const late = await object.attempt("a");
    assert.ok(late.type === "wait" && late.retryAfter > 0 && late.retryAfter <= 12);
    assert.equal((await object.attempt("b")).type, "ok");
    await object.begin("one", SIGNED_IN, "a");
    assert.equal((await object.attempt("a")).type, "ok", "a try that succeeds does not count");
    assert.equal((await object.attempt("a")).type, "wait");
    await object.letPass(MINUTE);
    assert.equal((await object.attempt("a")).type, "ok");
  });
});
