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

[socks]
expose = ["git.example.com:22,443", "10.1.0.0/16:5432"]

[socks.forward]
1080 = "office/desk"
"unix:/tmp/socks" = "office@relay.example.com:2493"
`;
    const parsed = parseConnections(text);
    assert.ok(parsed.ok);
    assert.deepEqual(
      [...parsed.value.exposed.services],
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
        [
          "127.0.0.1:1080",
          { at: { host: "127.0.0.1", port: 1080 }, target: { address: "office/desk", service: "?socks" } },
        ],
        [
          "unix:/tmp/socks",
          { at: { path: "/tmp/socks" }, target: { address: "office@relay.example.com:2493", service: "?socks" } },
        ],
      ],
    );
    assert.deepEqual(
      parsed.value.exposed.destinations.map(({ text }) => text),
      ["git.example.com:22,443", "10.1.0.0/16:5432"],
    );
  });

  it("lists what the edge connects to, beside what it forwards to devices", () => {
    const parsed = parseConnections('[forward]\n2222 = "office:ssh"\n[to]\n5432 = "db.example.com:5432"\n');
    assert.ok(parsed.ok);
    assert.deepEqual(
      [...parsed.value.forward.values()].map(({ target }) => target),
      [{ address: "office", service: "ssh" }, { origin: "db.example.com:5432" }],
    );
    const twice = '[forward]\n2222 = "office:ssh"\n[to]\n2222 = "db.example.com:5432"\n';
    assert.match(problemIn(twice), /is listed twice/);
    assert.match(problemIn('[to]\n1 = "office:ssh"'), /is not understood: .*is no destination/);
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
    [
      "forwards to no service",
      '[forward]\n2222 = "office/desk"',
      /^2: 2222 is not understood: .*names no service.*belongs into \[socks\.forward\]/,
    ],
    [
      "has a service for SOCKS",
      '[socks.forward]\n1080 = "office/desk:web"',
      /^2: 1080 .*move the line into \[forward\]/,
    ],
    [
      "lists too much for SOCKS",
      '[socks]\nexpose = [\n  "git.example.com:22",\n  "*.com:443",\n]',
      /^5: expose is not understood: .*covers all names under com/,
    ],
    ["lists for SOCKS what is no list", '[socks]\nexpose = "git.example.com:22"', /^2: expose is not a list/],
    ["lists for SOCKS what is no text", "[socks]\nexpose = [22]", /^2: expose has what is not a string/],
    [
      "has an unknown key for SOCKS",
      "[socks]\nexposed = []",
      /^2: the key "exposed" is unknown: did you mean expose\?/,
    ],
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
    [
      "forwards a port to a service and to SOCKS",
      '[forward]\n1080 = "office:ssh"\n[socks.forward]\n1080 = "office"',
      /^4: 1080 is listed twice/,
    ],
    ["is empty", "", /has nothing to expose or forward/],
  ] as const) {
    it(`is refused if it ${what}`, () => assert.match(problemIn(text), problem));
  }

  it("escapes what a terminal would interpret", () => {
    assert.ok(!problemIn('[expose]\n"\\u001b[31m" = "127.0.0.1:22"').includes("\x1b"));
  });
});
