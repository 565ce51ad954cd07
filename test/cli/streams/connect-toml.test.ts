/** The file of `grooveway connect`. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseConnections } from "../../../src/cli/streams/connect-toml.ts";

function problemIn(text: string): string {
  const parsed = parseConnections(text);
  if (parsed.ok) assert.fail("it was accepted");
  const { line, problem, cure } = parsed.problems;
  return `${line}: ${problem}: ${cure}`;
}

describe("the file of connect", () => {
  it("lists what is exposed and forwarded, as on the command line", () => {
    const text = `[expose]
ssh = "127.0.0.1:22"
db = "unix:/run/db.sock"

[forward]
2222 = "office/desk:ssh"
"0.0.0.0:8080" = "office:web"
"unix:/tmp/db.sock" = "office/desk:db"
`;
    const parsed = parseConnections(text);
    assert.ok(parsed.ok);
    assert.deepEqual(
      [...parsed.value.expose],
      [
        ["ssh", { host: "127.0.0.1", port: 22 }],
        ["db", { path: "/run/db.sock" }],
      ],
    );
    assert.deepEqual(
      [...parsed.value.forward],
      [
        [
          "127.0.0.1:2222",
          { at: { host: "127.0.0.1", port: 2222 }, target: { address: "office/desk", service: "ssh" } },
        ],
        ["0.0.0.0:8080", { at: { host: "0.0.0.0", port: 8080 }, target: { address: "office", service: "web" } }],
        ["unix:/tmp/db.sock", { at: { path: "/tmp/db.sock" }, target: { address: "office/desk", service: "db" } }],
      ],
    );
  });

  for (const [what, text, problem] of [
    ["is no TOML", '[expose]\nssh = "127.0.0.1:22', /^2: it is not TOML/],
    [
      "has an unknown table",
      '[exposed]\nssh = "127.0.0.1:22"',
      /^1: the key "exposed" is unknown: did you mean expose\?/,
    ],
    ["exposes an address without a port", '[expose]\nssh = "127.0.0.1"', /^2: ssh is not understood: .*has no address/],
    [
      "exposes a name that cannot be dialed",
      '[expose]\n"a b" = "127.0.0.1:22"',
      /^2: a b is not understood: .*has no name/,
    ],
    ["forwards to no service", '[forward]\n2222 = "office/desk"', /^2: 2222 is not understood: .*names no service/],
    [
      "forwards from no port",
      '[forward]\n99999 = "office:ssh"',
      /^2: "99999" is not understood: .*nothing to listen on/,
    ],
    ["has a number for a text", "[expose]\nssh = 22", /^2: ssh is not a string/],
    [
      "forwards a port twice",
      '[forward]\n2222 = "office:ssh"\n"127.0.0.1:2222" = "office:web"',
      /^3: 127\.0\.0\.1:2222 is listed twice/,
    ],
    ["is empty", "", /has nothing to expose or forward/],
  ] as const) {
    it(`is refused if it ${what}`, () => assert.match(problemIn(text), problem));
  }

  it("escapes what a terminal would interpret", () => {
    assert.ok(!problemIn('[expose]\n"\\u001b[31m" = "127.0.0.1:22"').includes("\x1b"));
  });
});
