import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Principal } from "../../../src/auth/principal.ts";
import { OWNERS_TICKETS, TICKET_REDEEM_TIME, TICKET_TIME } from "../../../src/edge/durable-streams/limits.ts";
import { OwnersTickets } from "../../../src/edge/durable-streams/tickets.ts";

const principal = { id: "jti:1" } as Principal;

describe("the tickets of a mailbox", () => {
  it("must be used within a minute, and are good for an hour", () => {
    const fresh = new OwnersTickets().with({ hash: "a", principal, issued: 0 }, 0);
    const ticket = fresh?.find("a", TICKET_REDEEM_TIME - 1);
    assert.ok(fresh !== undefined && ticket !== undefined);
    assert.equal(fresh.find("b", 0), undefined);
    assert.equal(fresh.find("a", TICKET_REDEEM_TIME), undefined);
    const used = fresh.redeemed(ticket, 1000);
    assert.equal(used.find("a", TICKET_TIME - 1)?.redeemed, 1000);
    assert.equal(used.find("a", TICKET_TIME), undefined);
    assert.deepEqual([used.end(0), used.end(TICKET_TIME)], [TICKET_TIME, undefined]);
  });

  it("are few, and those that are no longer good make room", () => {
    let tickets: OwnersTickets | undefined = new OwnersTickets();
    for (let n = 0; n < OWNERS_TICKETS; n += 1) tickets = tickets?.with({ hash: String(n), principal, issued: 0 }, 0);
    const one = { hash: "more", principal, issued: 1 };
    assert.equal(tickets?.with(one, 1), undefined);
    assert.equal(tickets?.with(one, TICKET_REDEEM_TIME)?.kept.length, 1);
  });
});
