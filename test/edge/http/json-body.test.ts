/** Short bodies of JSON, as owners and operators send them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { jsonObject } from "../../../src/edge/http/json-body.ts";
import { WHOLE_BODY_TIMEOUT } from "../../../src/edge/http/limits.ts";

function read(body: BodyInit | null) {
  const init = { method: "POST", body, duplex: "half" } as RequestInit;
  return jsonObject(new Request("http://edge/", init), 100, "MalformedRule");
}

async function reasonOf(reading: ReturnType<typeof read>): Promise<string | null> {
  const result = await reading;
  return result.ok ? "ok" : result.problems.headers.get("grooveway-reason");
}

describe("a body of JSON", () => {
  it("is an object, or empty", async () => {
    assert.deepEqual(await read('{"a":[1]}'), { ok: true, value: { a: [1] } });
    assert.deepEqual(await read(null), { ok: true, value: {} });
    for (const wrong of ["[1]", "null", "7", "{", `{"a":"${"x".repeat(100)}"}`]) {
      assert.equal(await reasonOf(read(wrong)), "MalformedRule", wrong);
    }
  });

  it("that does not come is not waited for", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const reading = reasonOf(read(new ReadableStream({ type: "bytes" })));
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    t.mock.timers.tick(WHOLE_BODY_TIMEOUT);
    assert.equal(await reading, "ReceiveTimeout");
  });
});
