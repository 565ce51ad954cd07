/**
 * A mailbox and the connection that consumes it, for any actions of the device on its sessions and any loss of memory:
 * every message arrives once, in order per destination.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import { OPEN_SESSIONS } from "../../../src/edge/endpoint/limits.ts";
import { OutboundMessages } from "../../../src/edge/endpoint/outbound-messages.ts";
import { Consumption } from "../../../src/edge/mailbox/consumer.ts";
import { LATER } from "../../../src/edge/mailbox/limits.ts";
import { MailboxStore } from "../../../src/edge/mailbox/mailbox-store.ts";
import type { DeliveryReport } from "../../../src/edge/rpc/delivery-report.ts";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import { CloseReasonId, type Connection } from "../../../src/sstp/index.ts";
import { runs } from "../../support/long-form.ts";
import { database } from "../mailbox/sqlite.ts";

const PEER = "grooveDevice://bob/pc";

/** A device driven per session. It processes messages in order, and acknowledges when allowed. */
class ModelDevice {
  readonly state = "established";
  readonly closed = undefined;
  readonly pendingOctets = 0;
  readonly sessions = new Map<number, { resource: string; open: boolean; id: string }>();
  readonly unacknowledged: { number: number; session: number; id: string }[] = [];
  readonly processed: string[] = [];
  #number = 0;

  open({ resourceURL }: { resourceURL: string }): number {
    const session = this.sessions.size * 2 + 1;
    this.sessions.set(session, { resource: resourceURL, open: true, id: "" });
    return session;
  }

  session(id: number) {
    const session = this.sessions.get(id);
    return session?.open ? session : undefined;
  }

  closeSession(id: number): void {
    const session = this.session(id);
    assert.ok(session !== undefined, "a session that is open is closed");
    session.open = false;
  }

  beginMessage(id: number, { userRef }: { userRef: string }): void {
    const session = this.session(id);
    assert.ok(session !== undefined, "it is sent on an open session");
    session.id = userRef.split("@")[0] ?? "";
  }

  data(): void {}

  endMessage(id: number): number {
    this.#number += 1;
    this.unacknowledged.push({ number: this.#number, session: id, id: this.session(id)?.id ?? "" });
    return this.#number;
  }

  close(): void {
    assert.fail("the connection goes on");
  }
}

/** Everything that happens between them. */
class Model {
  readonly device = new ModelDevice();
  readonly store: MailboxStore;
  consumption: Consumption;
  readonly outlet: OutboundMessages;
  next = 0;

  constructor() {
    const { sql, transaction } = database();
    this.store = new MailboxStore(sql, transaction);
    this.consumption = new Consumption(this.store);
    const mailbox = {
      attach: async () => ({ generation: 1 }),
      ready: async () => true,
      acknowledge: async (_: number, report: DeliveryReport) => {
        this.consumption.report(report, 0);
        return { position: this.store.position, gone: this.store.gone(report.again ?? []) };
      },
    };
    const host = { name: "tunnel", mailbox: () => mailbox, waitUntil: () => undefined } as unknown as EndpointContext;
    this.outlet = new OutboundMessages(
      host,
      this.device as unknown as Connection,
      undefined,
      () => this.outlet?.fill(),
      () => undefined,
    );
  }

  append(resources: readonly number[]): void {
    const mails = resources.map((resource) => {
      this.next += 1;
      return {
        envelope: { source: "grooveDevice://a/pc", resourceURL: `r${resource}`, identityURL: "", deviceURL: PEER },
        fields: { userRef: `r${resource}-${this.next}`, track: false },
        // Some are so long that only few fit.
        body: new Uint8Array(this.next % 7 === 0 ? 300_000 : 2000),
      };
    });
    this.store.append(pack(mails), 0);
  }

  /** The mailbox delivers what its window allows. */
  give(): void {
    const slices = this.consumption.next();
    // A call copies them: who gets them frees their memory.
    if (slices.length > 0) this.outlet.deliver(PEER, 1, structuredClone(slices), this.store.position);
    this.outlet.fill();
  }

  sessionOf(resource: number): number | undefined {
    return [...this.device.sessions].findLast(([, one]) => one.resource === `r${resource}` && one.open)?.[0];
  }

  state(resource: number, state: "ready" | "suspended"): void {
    const session = this.sessionOf(resource);
    if (session === undefined) return;
    this.outlet.sessionState(session, state);
    this.outlet.fill();
  }

  lose(resource: number): void {
    const session = this.sessionOf(resource);
    if (session === undefined) return;
    this.device.closeSession(session);
    const { unacknowledged } = this.device;
    const lost = unacknowledged.filter((one) => one.session === session).map(({ number }) => number);
    unacknowledged.splice(0, unacknowledged.length, ...unacknowledged.filter((one) => one.session !== session));
    this.outlet.sessionLost(session, lost, CloseReasonId.Idle);
    this.outlet.fill();
  }

  acknowledge(count: number): void {
    const done = this.device.unacknowledged.splice(0, count);
    this.device.processed.push(...done.map(({ id }) => id));
    this.outlet.acknowledged(done.map(({ number }) => number));
    this.outlet.fill();
  }

  async settle(): Promise<void> {
    for (let n = 0; n < 4; n += 1) await turn();
  }
}

const RESOURCES = OPEN_SESSIONS + 8;
const resource = fc.oneof(fc.nat(3), fc.nat(RESOURCES - 1));
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ append: fc.array(resource, { minLength: 1, maxLength: 30 }) }) },
  // One for each destination; there are more than sessions.
  { weight: 1, arbitrary: fc.constant({ append: Array.from({ length: RESOURCES }, (_, n) => n) }) },
  { weight: 6, arbitrary: fc.constant("give" as const) },
  { weight: 3, arbitrary: fc.constant("settle" as const) },
  { weight: 6, arbitrary: fc.record({ ready: resource }) },
  { weight: 4, arbitrary: fc.record({ suspend: resource }) },
  { weight: 2, arbitrary: fc.record({ lose: resource }) },
  { weight: 4, arbitrary: fc.record({ acknowledge: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.constant("cut" as const) },
  { weight: 1, arbitrary: fc.constant("forget" as const) },
  { weight: 1, arbitrary: fc.constant("rest" as const) },
);

it("every message arrives once and in order per destination, in every interleaving", async (t) => {
  t.mock.timers.enable({ apis: ["Date"] });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const model = new Model();
      await model.outlet.consume(PEER);
      for (const one of steps) {
        if (one === "give") model.give();
        else if (one === "settle") await model.settle();
        else if (one === "cut") model.consumption.cut();
        else if (one === "rest") model.outlet.settle();
        else if (one === "forget") model.consumption = new Consumption(model.store);
        else if ("append" in one) model.append(one.append);
        else if ("ready" in one) model.state(one.ready, "ready");
        else if ("suspend" in one) model.state(one.suspend, "suspended");
        else if ("lose" in one) model.lose(one.lose);
        else model.acknowledge(one.acknowledge);
      }
      // In the end the device accepts everything.
      for (let round = 0; round < 400 && model.store.messages > 0; round += 1) {
        for (let n = 0; n < RESOURCES; n += 1) model.state(n, "ready");
        model.give();
        model.acknowledge(1000);
        await model.settle();
        model.consumption.cut();
        // Messages deferred because their session was closed too often are accepted too.
        t.mock.timers.tick(LATER);
        model.consumption.offerLater(Number.MAX_SAFE_INTEGER);
      }
      assert.equal(model.store.messages, 0);
      const { processed } = model.device;
      assert.equal(new Set(processed).size, processed.length, "there are no duplicates");
      assert.equal(processed.length, model.next, "nothing is lost");
      const last = new Map<string, number>();
      for (const id of processed) {
        const [name = "", number] = id.split("-");
        assert.ok(Number(number) > (last.get(name) ?? 0), `${id} arrives in order`);
        last.set(name, Number(number));
      }
    }),
    { numRuns: runs(300) },
  );
});
