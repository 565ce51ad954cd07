/** The contents of config.toml: what is read, and which line is wrong. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { edgeUrl, formatConfig, type Profile, parseConfig } from "../../../src/cli/profiles/config-toml.ts";
import { TRANSPORTS } from "../../../src/device/index.ts";

const SECRET = "eyJhbGciOiJFZERTQSJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl";

describe("config.toml", () => {
  it("has profiles, each with its edges and their tokens", () => {
    const text = `
      # comment
      [profiles.default]
      address = "alice/laptop"
      transport = "keepalive"
      [[profiles.default.edges]]
      url = "https://edge.example.com/groove/"
      token = "${SECRET}"
      [[profiles.default.edges]]
      url = "http://localhost:80"
      token = "@/run/secrets/token"
      ca = "/etc/ca.pem"
      [profiles.operator]
      edges = [{ url = "https://edge.example.com", token = "secret" }]`;
    const parsed = parseConfig(text);
    assert.deepEqual(parsed.ok && Object.fromEntries(parsed.value), {
      default: {
        address: "alice/laptop",
        transport: "keepalive",
        edges: [
          { url: "https://edge.example.com/groove", token: SECRET },
          { url: "http://localhost", token: "@/run/secrets/token", ca: "/etc/ca.pem" },
        ],
      },
      operator: { edges: [{ url: "https://edge.example.com", token: "secret" }] },
    });
  });

  it("may be empty", () => {
    for (const text of ["", "\n# nothing\n", "[profiles]\n"]) {
      const parsed = parseConfig(text);
      assert.ok(parsed.ok && parsed.value.size === 0, text);
    }
  });

  const EDGE = '[[profiles.a.edges]]\nurl = "https://e.example"\n';
  const table: readonly (readonly [what: string, text: string, line: number, problem: RegExp, cure: RegExp])[] = [
    ["a line that is not TOML", `[profiles.a]\ntoken = ${SECRET}\n`, 2, /^it is not TOML \(/, /correct/],
    ["a string without an end", `[profiles.a]\naddress = "x\n`, 2, /^it is not TOML/, /correct/],
    [
      "a key that is given twice",
      `${EDGE}url = "https://e.example"`,
      3,
      /^it is not TOML \(trying to redefine/,
      /correct/,
    ],
    ["an unknown key at the top", '\n\nprofile = "a"\n', 3, /"profile" is unknown/, /did you mean profiles/],
    [
      "an unknown key in a profile",
      `[profiles.a]\n\naddres = "a/b"\n${EDGE}`,
      3,
      /"addres" is unknown/,
      /mean address\?/,
    ],
    ["an unknown key in an edge", `${EDGE}\nzzzzzzzz = 1`, 4, /"zzzzzzzz" is unknown/, /known here: url, token, ca/],
    ["a name that is none", `[profiles."a b"]\n${EDGE}`, 1, /"a b" cannot name a profile/, /letters, digits/],
    ["a profile without an edge", '[profiles.b]\naddress = "a/b"\n', 1, /has no edge/, /edges = \[/],
    ["edges that are one table", '[profiles.a]\nedges = { url = "https://e" }', 2, /edges is not a list/, /\[\{ url/],
    ["an edge that is text", '[profiles.a]\nedges = [\n"https://e"\n]\n', 4, /"edges" is not a table/, /write a table/],
    ["an edge without a URL", '[profiles.a]\n[[profiles.a.edges]]\ntoken = "x"\n', 2, /the edge has no url/, /url = "/],
    ["an edge that is listed twice", `${EDGE}[[profiles.a.edges]]\nurl = "https://e.example/"\n`, 4, /twice/, /remove/],
    [
      "a URL of another kind",
      '[profiles.a]\nedges = [{ url = "ftp://e" }]',
      2,
      /url is not the URL of an edge/,
      /https/,
    ],
    ["a URL with a password", '[profiles.a]\nedges = [{ url = "https://a:pass@e" }]', 2, /url is not the URL/, /https/],
    ["an address without a device", `${EDGE}[profiles.a]\naddress = "alice"`, 4, /address is "alice"/, /alice\/laptop/],
    ["an address with a stray %", `${EDGE}[profiles.a]\naddress = "a%/b"`, 4, /address is no address/, /stray percent/],
    [
      "an address that is a number",
      `${EDGE}[profiles.a]\naddress = 1`,
      4,
      /address is not a string/,
      /quotation marks/,
    ],
    [
      "an unknown transport",
      `${EDGE}[profiles.a]\ntransport = "pigeon"`,
      4,
      /transport is "pigeon"/,
      /choose one of tcp/,
    ],
    ["a token with a blank", `${EDGE}token = "${SECRET} x"`, 3, /token has characters that no token has/, /complete/],
    ["a token in several lines", `${EDGE}token = """\n${SECRET}\n"""`, 5, /token has characters/, /complete/],
    [
      "a token in a file without its whole path",
      `${EDGE}token = "@a.token"`,
      3,
      /token is not an absolute/,
      /whole path/,
    ],
    ["authorities without their whole path", `${EDGE}ca = "ca.pem"`, 3, /ca is not an absolute path/, /whole path/],
    ["a profile that is a date", "[profiles]\na = 2026-01-01\n", 2, /"a" is not a table/, /write a table/],
    ["profiles that are a list", "profiles = []", 1, /"profiles" is not a table/, /write a table/],
    ["what is nested too deeply", `a = ${"[".repeat(100)}${"]".repeat(100)}`, 1, /^it is not TOML/, /correct/],
  ];
  for (const [what, text, line, problem, cure] of table) {
    it(`is refused for ${what}, with its line`, () => {
      // With the line ends of Windows as well.
      for (const lineEnd of ["\n", "\r\n"]) {
        const parsed = parseConfig(text.replaceAll("\n", lineEnd));
        assert.ok(!parsed.ok);
        assert.match(parsed.problems.problem, problem);
        assert.match(parsed.problems.cure, cure);
        assert.equal(parsed.problems.line, line);
        assert.ok(!JSON.stringify(parsed).includes(SECRET), "the token is not in the message");
      }
    });
  }

  it("is read as it was written", () => {
    const url = fc
      .tuple(fc.constantFrom("http", "https"), fc.domain(), fc.nat(65535), fc.constantFrom("", "/a", "/a%20b/c"))
      .map(([scheme, host, port, path]) => edgeUrl(`${scheme}://${host}:${port}${path}`) ?? "");
    const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
    const path = fc.string({ unit: "grapheme" }).map((text) => `/${text}`);
    const edge = fc.record({
      url,
      token: optional(
        fc.oneof(
          fc.stringMatching(/^[\w.~+/-]+=*$/),
          path.map((text) => `@${text}`),
        ),
      ),
      ca: optional(path),
    });
    const profile = fc.record({
      address: optional(fc.constantFrom("alice/laptop", "a%20b/c%2Fd", "\u00e9/\u{1f600}")),
      transport: optional(fc.constantFrom(...TRANSPORTS)),
      edges: fc.uniqueArray(edge, { minLength: 1, maxLength: 3, selector: ({ url }) => url }),
    });
    const name = fc.oneof(fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/), fc.constant("constructor"));
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, profile), { selector: ([name]) => name }), (entries) => {
        const profiles = new Map(
          entries.map(([name, profile]) => [name, JSON.parse(JSON.stringify(profile)) as Profile]),
        );
        const parsed = parseConfig(formatConfig(profiles));
        assert.ok(parsed.ok, JSON.stringify(parsed));
        assert.deepEqual(new Map([...parsed.value].sort()), new Map([...profiles].sort()));
      }),
    );
  });

  it("is long, and the line of a mistake is found soon", () => {
    const edge = (n: number) =>
      `[[profiles.p${n}.edges]]\nurl = "https://e${n}.example"\ntoken = "${"x".repeat(100)}"\n`;
    const many = Array.from({ length: 800 }, (_, n) => edge(n)).join("");
    const began = performance.now();
    const parsed = parseConfig(`${many}[profiles.last]\nedges = "x"\n`);
    assert.ok(!parsed.ok);
    assert.equal(parsed.problems.line, 2402);
    assert.ok(performance.now() - began < 8_000);
  });

  it("never throws, whatever it contains, and its problems do not contain a token", () => {
    const whole = formatConfig(
      new Map([["default", { address: "alice/laptop", edges: [{ url: "https://e.example", token: SECRET }] }]]),
    );
    const damaged = fc
      .tuple(fc.nat(whole.length), fc.nat(20), fc.string({ unit: fc.constantFrom(..."[]{}=.,\"'#\n\r\t\\ a1@:") }))
      .map(([at, removed, added]) => whole.slice(0, at) + added + whole.slice(at + removed));
    const [, payload = ""] = SECRET.split(".");
    fc.assert(
      fc.property(fc.oneof(damaged, fc.string({ unit: "binary" })), (text) => {
        const parsed = parseConfig(text);
        if (!parsed.ok) assert.ok(!JSON.stringify(parsed).includes(payload));
      }),
      { numRuns: 500 },
    );
  });
});

describe("the URL of an edge", () => {
  it("is equal for equal edges, and differs in scheme, port and path", () => {
    const same = ["https://e.example", "https://E.example/", "HTTPS://e.example:443//"].map(edgeUrl);
    assert.deepEqual(new Set(same), new Set(["https://e.example"]));
    const others = ["http://e.example", "https://e.example:8443", "https://e.example/a", "https://e.example/A"];
    assert.equal(new Set([...others.map(edgeUrl), ...same]).size, 5);
  });

  it("has no password, query or fragment", () => {
    for (const text of [
      "",
      "e.example",
      "ws://e.example",
      "https://a@e.example",
      "https://e.example/?a",
      "https://e/#a",
    ]) {
      assert.equal(edgeUrl(text), undefined, text);
    }
  });
});
