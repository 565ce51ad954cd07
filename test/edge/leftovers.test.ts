/**
 * What virtual connections leave in the storage of their objects: nothing, not even while they are unidentified. The
 * test reads the database files.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { TRANSPORTS as ALL, CAPABILITIES, Device, type TransportName } from "../../src/device/index.ts";
import { ECHO_TEXT } from "../../src/encapsulation/index.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { FULL } from "../support/long-form.ts";
import { ed25519, type Issuer } from "./issuer.ts";
import { startEdge, until } from "./mailbox/support.ts";
import { newGuid } from "./support.ts";

/** New virtual connections are paced at 50 a second: a thousand of each kind takes minutes. */
const COUNT = FULL ? 1000 : 40;
/** Concurrent connections. */
const BESIDE = 8;

const TRANSPORTS = ALL.filter((transport) => CAPABILITIES[transport].carriesToken);

/** Tables with rows, in all databases of a class, including its alarms. */
function left(state: string, name: string): string[] {
  const folder = join(state, "do", `grooveway-${name}`);
  const found: string[] = [];
  for (const file of readdirSync(folder).filter((entry) => entry.endsWith(".sqlite"))) {
    const db = new DatabaseSync(join(folder, file), { readOnly: true, timeout: 5000 });
    try {
      const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all() as { name: string }[];
      for (const { name: table } of tables) {
        // The counters of SQLite and the runtime are not the edge's rows.
        if (table === "sqlite_sequence") continue;
        const { count } = db.prepare(`SELECT count(*) AS count FROM "${table}"`).get() as { count: number };
        if (count > 0) found.push(`${name} ${file.slice(0, 8)} ${table} ${count}`);
      }
    } finally {
      db.close();
    }
  }
  return found;
}

describe("a virtual connection stores nothing", { timeout: 600_000 }, () => {
  let state: string;
  let edge: InspectedEdge;
  let issuer: Issuer;
  const closing: (() => Promise<unknown>)[] = [];
  const aborting: AbortController[] = [];

  before(async () => {
    state = await mkdtemp(join(tmpdir(), "grooveway-leftovers-"));
    issuer = await ed25519();
    edge = await startEdge(
      { after: (run) => closing.push(run) },
      { state, keys: JSON.stringify({ keys: [issuer.jwk] }), rate: "connects=600000 connections=5000" },
    );
  });
  after(async () => {
    for (const controller of aborting) controller.abort();
    for (const close of closing) await close();
    await rm(state, { recursive: true, force: true });
  });

  async function each(count: number, run: (n: number) => Promise<void>): Promise<void> {
    let next = 0;
    const workers = Array.from({ length: BESIDE }, async () => {
      while (next < count) await run(next++);
    });
    await Promise.all(workers);
  }

  function connectAs(address: string, transport: TransportName): Promise<Device> {
    const token = issuer.issue({ address, jti: `${transport}-${address}`, scope: "connect receive send:*" });
    return Device.connect({ edge: edge.url, address, transport, token: () => token });
  }

  /** Posts again for as long as the edge paces this source. */
  async function post(guid: string, kind: "KeepAlive" | "LongLived", body: string): Promise<Response> {
    const more = kind === "LongLived" ? ",ContentLength=1000" : "";
    const controller = new AbortController();
    aborting.push(controller);
    const { signal } = controller;
    for (;;) {
      const url = `${edge.url}/2.0/127.0.0.1/${guid},ConnType=${kind}${more}`;
      const response = await fetch(url, { method: "POST", body, signal });
      const pause = response.headers.get("Retry-After");
      if (pause === null) return response;
      await sleep(Number(pause) * 1000);
    }
  }

  it("before its device has identified itself, or if it never does", async () => {
    await each(COUNT, async (n) => {
      if (n % 2 === 0) assert.equal((await post(newGuid(), "KeepAlive", ECHO_TEXT)).status, 200);
      else void post(newGuid(), "LongLived", ECHO_TEXT).catch(() => undefined);
    });
    assert.deepEqual(left(state, "Tunnel"), []);
    assert.deepEqual(left(state, "Meter"), []);
    for (const controller of aborting.splice(0)) controller.abort();
  });

  it("when it is refused or unknown", async () => {
    await each(COUNT, async () => {
      const response = await post(newGuid(), "KeepAlive", "a body that begins nothing");
      assert.equal(response.headers.get("Grooveway-Reason"), "UnknownConnection");
    });
    const wrong = await issuer.issue({ aud: "another.example.com" });
    await assert.rejects(Device.connect({ edge: edge.url, address: "alice/pc", token: wrong }), /WrongAudience/);
    assert.deepEqual(left(state, "Tunnel"), []);
    assert.deepEqual(left(state, "Meter"), []);
  });

  it("after its end, and neither does its meter", async () => {
    for (const transport of TRANSPORTS) {
      await each(COUNT, async (n) => {
        const device = await connectAs(`${transport}-${n}/pc`, transport);
        await device.close();
      });
    }
    await until("nothing is left of any Tunnel", () => left(state, "Tunnel").length === 0);
    await until("nothing is left of any Meter", () => left(state, "Meter").length === 0);
  });
});
