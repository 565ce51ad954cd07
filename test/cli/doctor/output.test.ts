/** The table, the JSON and the page of `grooveway doctor`. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import fc from "fast-check";
import { pageOf } from "../../../src/cli/doctor/page.ts";
import { jsonOf } from "../../../src/cli/doctor/report.ts";
import { tableOf } from "../../../src/cli/doctor/table.ts";
import type { DiagnosedWay, Diagnosis } from "../../../src/device/index.ts";

const PROXY = { kind: "http", host: "proxy.example.com", port: 3128 } as const;
const blocked = {
  status: "blocked",
  isUsable: false,
  why: "Requests pass, but a WebSocket is held back.",
  need: "let GET with Upgrade: websocket to edge.example.com:443 pass",
} as const;
const route = { host: "edge.example.com", port: 443, secure: true };
const POLLING: DiagnosedWay = {
  way: { transport: "polling", ...route, proxies: [PROXY], source: "HTTPS_PROXY" },
  verdict: { status: "works", isUsable: true },
  established: 40.4,
  roundTrip: 12.3,
  rate: 2 * 1024 * 1024,
};
const DIAGNOSIS: Diagnosis = {
  edge: "https://edge.example.com",
  relay: undefined,
  host: "edge.example.com",
  addresses: ["192.0.2.1", "2001:db8::1"],
  at: new Date("2026-01-02T03:04:05Z"),
  ways: [
    { way: { transport: "websocket", ...route, proxies: [] }, verdict: blocked },
    { way: { transport: "longlived", ...route, proxies: [] }, verdict: blocked },
    POLLING,
  ],
  findings: [
    { check: "dns", outcome: "ok", text: "edge.example.com has 192.0.2.1" },
    { check: "portal", outcome: "unknown", text: "nothing has answered" },
  ],
  recommended: POLLING,
};

describe("the table", () => {
  it("has a line for each way, and each remark once below the ways that it is about", () => {
    assert.equal(
      tableOf(DIAGNOSIS),
      `grooveway doctor: https://edge.example.com

transport  to                    through                                      status   round trip  rate
websocket  edge.example.com:443  direct                                       blocked  -           -
longlived  edge.example.com:443  direct                                       blocked  -           -
    Requests pass, but a WebSocket is held back.
    To change it: let GET with Upgrade: websocket to edge.example.com:443 pass.
polling    edge.example.com:443  http://proxy.example.com:3128 (HTTPS_PROXY)  works    12 ms       2.0 MiB/s

dns     ok       edge.example.com has 192.0.2.1
portal  unknown  nothing has answered

Recommended: polling to edge.example.com:443, through http://proxy.example.com:3128 (HTTPS_PROXY).`,
    );
  });

  it("says that no way works", () => {
    assert.match(tableOf({ ...DIAGNOSIS, recommended: undefined, ways: [] }), /\n\nNo way works\.$/);
  });
});

describe("the JSON", () => {
  it("has numbers where they were measured, and null where not", () => {
    const json = JSON.parse(JSON.stringify(jsonOf(DIAGNOSIS)));
    const through = { through: ["http://proxy.example.com:3128"], source: "HTTPS_PROXY" };
    assert.deepEqual(json.recommended, { transport: "polling", ...route, ...through });
    const measured = { establishedMs: 40, roundTripMs: 12, bytesPerSecond: 2097152 };
    const works = { status: "works", usable: true, why: null, need: null };
    assert.deepEqual(json.ways[2], { transport: "polling", ...route, ...through, ...works, ...measured });
    const { why, need } = blocked;
    assert.deepEqual(json.ways[0], {
      transport: "websocket",
      ...route,
      through: [],
      source: null,
      status: "blocked",
      usable: false,
      why,
      need,
      establishedMs: null,
      roundTripMs: null,
      bytesPerSecond: null,
    });
    assert.equal(json.at, "2026-01-02T03:04:05.000Z");
    assert.equal(json.checks.length, 2);
  });
});

/** The diagnosis with a text in every place that can come from outside. */
function infested(text: string): Diagnosis {
  const way = {
    way: { ...POLLING.way, host: text, proxies: [{ ...PROXY, host: text }], source: text },
    verdict: { ...blocked, why: text, need: text },
  };
  return {
    ...DIAGNOSIS,
    edge: text,
    host: text,
    addresses: [text],
    ways: [way],
    findings: [{ check: "tls", outcome: "warning", text }],
    recommended: way,
  };
}

describe("the page", () => {
  it("has what was tried, what is needed, and the addresses", () => {
    const page = pageOf(DIAGNOSIS);
    for (const text of ["192.0.2.1, 2001:db8::1", "edge.example.com:443 (TCP, TLS)", "2026-01-02T03:04:05.000Z"]) {
      assert.ok(page.includes(text), text);
    }
    assert.equal(page.match(/<li>/g)?.length, 1);
    assert.match(page, /<li>Let GET with Upgrade: websocket to edge\.example\.com:443 pass\./);
    assert.match(pageOf({ ...DIAGNOSIS, ways: [POLLING] }), /Nothing: every way works\./);
    assert.match(pageOf({ ...DIAGNOSIS, ways: [], recommended: undefined }), /Nothing could be tried/);
  });

  it("has no script, and a policy that forbids everything but its own style", () => {
    const page = pageOf(DIAGNOSIS);
    const [, style = ""] = /<style>([\s\S]*?)<\/style>/.exec(page) ?? [];
    const hash = createHash("sha256").update(style).digest("base64");
    assert.ok(
      page.includes(`content="default-src 'none'; style-src 'sha256-${hash}'; form-action 'none'; base-uri 'none'"`),
    );
    assert.doesNotMatch(page, /<script|<img|<link|<a |href=|src=|style=|\son[a-z]+=/i);
  });

  it("escapes what comes from outside", () => {
    const tags = (html: string) => html.match(/<[^>]*>/g);
    const expected = tags(pageOf(infested("x")));
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom("<", ">", '"', "'", "&", "a", "/", "script", "\u202e", "\u001b", " ")),
        (parts) => {
          const page = pageOf(infested(parts.join("")));
          assert.deepEqual(tags(page), expected);
          for (const hidden of ["\u202e", "\u001b"]) assert.ok(!page.includes(hidden));
        },
      ),
    );
  });

  it("and the table escape what a terminal would interpret", () => {
    const table = tableOf(infested("a\u001b[2J\u202eb\nc"));
    for (const hidden of ["\u202e", "\u001b", "b\nc"]) assert.ok(!table.includes(hidden));
  });
});
