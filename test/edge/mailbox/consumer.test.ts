/** What a mailbox sends its consumer next, and how it handles refusals. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Consumption } from "../../../src/edge/mailbox/consumer.ts";
import { DECLINED_RANGES, LATER, QUICK, REFUSED_FOR, SEND_WINDOW } from "../../../src/edge/mailbox/limits.ts";
import { MailboxStore, type Sql } from "../../../src/edge/mailbox/mailbox-store.ts";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import { database } from "./sqlite.ts";

function started(count: number, size = 10) {
  const { sql: whole, transaction } = database();
  const queries: string[] = [];
  const sql: Sql = {
    exec(query, ...bindings) {
      queries.push(query);
      return whole.exec(query, ...bindings);
    },
  };
  const store = new MailboxStore(sql, transaction);
  let sent = 0;
  const append = (more: number) => {
    const envelope = { source: "grooveDevice://a/pc", resourceURL: "message", identityURL: "", deviceURL: "" };
    const mails = Array.from({ length: more }, () => {
      sent += 1;
      return { envelope, fields: { userRef: `m-${sent}`, track: false }, body: new Uint8Array(size) };
    });
    store.append(pack(mails), 0);
  };
  append(count);
  const numbers = (consumption: Consumption) =>
    consumption.next(0).flatMap(({ first, sizes }) => sizes.map((_, at) => first + at));
  return { store, queries, append, numbers, consumption: new Consumption(store) };
}

describe("a message that is set aside", () => {
  it("takes no room in the window and is not resent until requested", () => {
    const { consumption, numbers, append } = started(6, SEND_WINDOW / 4);
    assert.deepEqual(numbers(consumption), [1, 2, 3]);
    assert.deepEqual(numbers(consumption), []);
    consumption.report({ aside: [[1, 2]] }, 0);
    assert.deepEqual(numbers(consumption), [4, 5]);
    consumption.report({ done: [[3, 5]] }, QUICK + 1);
    assert.deepEqual(numbers(consumption), [6]);
    append(1);
    consumption.report({ again: [[1, 2]] }, 0);
    assert.deepEqual(numbers(consumption), [1, 2]);
    consumption.report({ done: [[1, 2]] }, 0);
    assert.deepEqual(numbers(consumption), [7]);
  });

  it("stays set aside when the object loses its memory, and is offered to the next consumer", () => {
    const { consumption, numbers, store } = started(4);
    numbers(consumption);
    consumption.report({ aside: [[2, 3]] }, 0);
    const woken = new Consumption(store);
    assert.deepEqual(numbers(woken), [1, 4]);
    woken.restart();
    assert.deepEqual(numbers(woken), [1, 2, 3, 4]);
    assert.equal(new Consumption(store).aside, 0);
  });

  it("does not block later messages in the log", () => {
    const { consumption, numbers, store } = started(4);
    numbers(consumption);
    consumption.report({ aside: [[1, 1]], done: [[2, 4]] }, 0);
    consumption.cut();
    assert.equal(store.messages, 1);
  });

  it("is forgotten when it leaves the mailbox", () => {
    const { consumption, numbers, store, append } = started(4);
    numbers(consumption);
    consumption.report({ aside: [[1, 4]] }, 0);
    store.purge(0);
    consumption.prune();
    assert.equal(consumption.aside, 0);
    append(1);
    assert.deepEqual([consumption.waiting, numbers(consumption)], [1, [5]]);
  });

  it("is ignored while it does not exist yet", () => {
    const { consumption, numbers, append } = started(1);
    consumption.report({ aside: [[1, 9]], done: [[5, 9]] }, 0);
    append(9);
    assert.deepEqual(numbers(consumption), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });
});

describe("a message refused for its size", () => {
  it("is offered again later, and dropped after an hour of refusals", () => {
    const { consumption, numbers, store } = started(3);
    numbers(consumption);
    let now = 1000;
    const refuse = () => consumption.report({ later: [[2, 2]], refused: [2] }, now);
    assert.deepEqual(refuse(), {});
    consumption.report(
      {
        done: [
          [1, 1],
          [3, 3],
        ],
      },
      now,
    );
    consumption.offerLater(now + LATER - 1);
    assert.deepEqual(numbers(consumption), []);
    for (; now + LATER < 1000 + REFUSED_FOR; ) {
      now += LATER;
      consumption.offerLater(now);
      assert.deepEqual(numbers(consumption), [2]);
      assert.deepEqual(refuse(), {});
    }
    now += LATER;
    const woken = new Consumption(store);
    woken.offerLater(now);
    assert.deepEqual(numbers(woken).includes(2), true);
    assert.deepEqual(woken.report({ later: [[2, 2]], refused: [2] }, now), { RefusedByPeer: 1 });
    woken.report(
      {
        done: [
          [1, 1],
          [3, 3],
        ],
      },
      now,
    );
    woken.cut();
    assert.deepEqual([store.messages, woken.aside, woken.laterAt], [0, 0, undefined]);
  });

  it("is not dropped sooner, however often it is refused", () => {
    const { consumption, numbers, store } = started(1);
    for (let times = 0; times < 100; times += 1) {
      numbers(consumption);
      assert.deepEqual(consumption.report({ later: [[1, 1]], refused: [1] }, times), {});
      consumption.restart();
    }
    assert.equal(store.messages, 1);
  });
});

describe("a message whose resource is refused", () => {
  it("is counted once, despite other consumers and loss of memory", () => {
    const { consumption, numbers, store } = started(3);
    numbers(consumption);
    assert.deepEqual(consumption.report({ aside: [[1, 2]], declined: [[1, 2]] }, 0), { ResourceRefused: 2 });
    consumption.restart();
    const woken = new Consumption(store);
    numbers(woken);
    assert.deepEqual(woken.report({ aside: [[1, 3]], declined: [[1, 3]] }, 0), { ResourceRefused: 1 });
  });

  it("is tracked as counted in a bounded number of ranges", () => {
    const { consumption, numbers, store } = started(4 * DECLINED_RANGES);
    numbers(consumption);
    const every = Array.from({ length: 2 * DECLINED_RANGES }, (_, n) => [2 * n + 1, 2 * n + 1] as const);
    assert.deepEqual(consumption.report({ aside: every, declined: every }, 0), {
      ResourceRefused: 2 * DECLINED_RANGES,
    });
    assert.equal(JSON.parse(store.fact("declined") ?? "").length, DECLINED_RANGES);
    assert.deepEqual(consumption.report({ aside: every, declined: every }, 0), {});
  });
});

describe("a long message", () => {
  it("that does not fit into the window is not read until it is sent, and then not from disk", () => {
    const { consumption, numbers, queries } = started(2, 0.6 * SEND_WINDOW);
    assert.deepEqual(numbers(consumption), [1]);
    assert.deepEqual(numbers(consumption), []);
    consumption.report({ done: [[1, 1]] }, QUICK + 1);
    assert.deepEqual(numbers(consumption), [2]);
    assert.equal(queries.filter((query) => query.includes("FROM bodies")).length, 0);
  });
});
