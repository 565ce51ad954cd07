/** What a profile adds to the options, and to which edge a token goes. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { changeProfiles } from "../../../src/cli/profiles/config-file.ts";
import type { Profiles } from "../../../src/cli/profiles/config-toml.ts";
import { type ProfileOptions, withProfile } from "../../../src/cli/profiles/profile-options.ts";
import { folder } from "../support.ts";

const [A, B, C] = ["https://a.example", "https://b.example/groove", "https://c.example"];

const PROFILES: Profiles = new Map([
  [
    "default",
    {
      address: "alice/laptop",
      transport: "keepalive",
      edges: [
        { url: A, token: "for-a", ca: "/ca.pem" },
        { url: B, token: "for-b" },
      ],
    },
  ],
  ["work", { address: "alice/desk", edges: [{ url: C, token: "for-c" }] }],
  ["open", { address: "alice/dev", edges: [{ url: C }] }],
]);

/** Options with a home that has these profiles; returns the token as text, and the lines for the user. */
async function asker(context: TestContext, profiles: Profiles = PROFILES) {
  const home = await folder(context);
  const path = join(home, "grooveway", "config.toml");
  await changeProfiles(path, () => profiles);
  return {
    home,
    path,
    ask(options: ProfileOptions, env: { readonly GROOVEWAY_PROFILE?: string; readonly token?: string } = {}) {
      const lines: string[] = [];
      const completed = withProfile(options, {
        inherited: env.token,
        tell: (line) => lines.push(line),
        env: { ...env, XDG_CONFIG_HOME: home },
      });
      const { edge, as, transport, ca, token } = completed;
      const edges = completed.edges.map((each) => [each.edge, each.token?.(), each.ca]);
      return { edge, as, transport, ca, token: token?.(), provider: token, edges, lines };
    },
  };
}

describe("a profile", () => {
  it("stands in for edge, address, token, transport and authorities", async (context) => {
    const { ask } = await asker(context);
    const { edge, as, transport, ca, token, lines } = ask({});
    assert.deepEqual([edge, as, transport, ca, token], [A, "alice/laptop", "keepalive", "/ca.pem", "for-a"]);
    assert.deepEqual(lines, []);
  });

  it("gives way to each option", async (context) => {
    const { ask } = await asker(context);
    const given = { as: "bob/x", transport: "polling", ca: "/other.pem", token: "given" };
    const { edge, as, transport, ca, token } = ask(given);
    assert.deepEqual([edge, { as, transport, ca, token }], [A, given]);
  });

  it("is the one of --profile, of GROOVEWAY_PROFILE, or default, in this order", async (context) => {
    const { ask } = await asker(context);
    assert.equal(ask({ profile: "work" }, { GROOVEWAY_PROFILE: "open" }).as, "alice/desk");
    assert.equal(ask({}, { GROOVEWAY_PROFILE: "open" }).as, "alice/dev");
    assert.equal(ask({}, { GROOVEWAY_PROFILE: "" }).as, "alice/laptop");
  });

  it("that is named must exist", async (context) => {
    const { ask, path } = await asker(context);
    const missing = (message: RegExp) => ({ code: "NoProfile", message });
    assert.throws(() => ask({ profile: "wrok" }), missing(/has no profile "wrok": did you mean work\?/));
    assert.throws(() => ask({ profile: "__proto__" }), missing(/there is default, work, open/));
    assert.throws(() => ask({}, { GROOVEWAY_PROFILE: "zzzzzz" }), missing(/there is default, work, open/));
    await changeProfiles(path, () => new Map());
    assert.throws(() => ask({ profile: "work" }), missing(/there is none yet; grooveway login makes one/));
    assert.deepEqual(ask({}).token, undefined);
  });

  it("is not needed without a home", () => {
    const options = { edge: C, token: "given" };
    assert.equal(withProfile(options, { inherited: undefined, env: {} }).token?.(), "given");
    assert.throws(() => withProfile({ profile: "work" }, { inherited: undefined, env: {} }), {
      code: "NoConfigFolder",
    });
  });

  it("in a file that cannot be read is not needed if the options name an edge or a relay", async (context) => {
    // A name that is too long: it cannot be read by root either.
    const home = await folder(context);
    const env = { XDG_CONFIG_HOME: join(home, "x".repeat(300)) };
    assert.equal(withProfile({ edge: C }, { inherited: undefined, env }).edge, C);
    assert.equal(withProfile({ relay: "r" }, { inherited: undefined, env }).edge, undefined);
    assert.throws(() => withProfile({}, { inherited: undefined, env }), { code: "CannotRead" });
    assert.throws(() => withProfile({ edge: C, profile: "a" }, { inherited: undefined, env }), { code: "CannotRead" });
  });
});

describe("the token of a profile", () => {
  it("goes to the edge that it is for, however that is written", async (context) => {
    const { ask } = await asker(context);
    assert.equal(ask({ edge: `${A}:443/` }).token, "for-a");
    assert.equal(ask({ edge: `${B}/` }).token, "for-b");
    assert.equal(ask({ edge: B }).ca, undefined);
    assert.equal(ask({ edge: A, relay: "relay.example.com" }).token, "for-a");
    assert.equal(ask({ profile: "open" }).token, undefined);
  });

  it("goes to no other edge, and a line says so", async (context) => {
    const { ask } = await asker(context);
    for (const edge of ["http://a.example", `${A}:8443`, "https://b.example", "https://a.example.evil.example", C]) {
      const { token, ca, transport, as, lines } = ask({ edge });
      assert.deepEqual([token, ca, transport, as], [undefined, undefined, undefined, "alice/laptop"], edge);
      assert.deepEqual(lines, [`the profile default is for ${A} and ${B}: its token is not sent to ${edge}`]);
    }
    const { lines } = ask({ edge: "https://user:password@a.example" });
    assert.match(lines[0] ?? "", /its token is not sent to another edge$/);
  });

  it("does not go to a relay without an edge", async (context) => {
    const { ask } = await asker(context);
    const { edge, token, transport, as, lines } = ask({ relay: "relay.example.com" });
    assert.deepEqual([edge, token, transport, as, lines], [undefined, undefined, undefined, "alice/laptop", []]);
  });

  it("and another edge contradict each other if the profile is named", async (context) => {
    const { ask } = await asker(context);
    const wrong = { code: "WrongEdge", message: /^the profile work is for https:\/\/c\.example, not for https:\/\/a/ };
    assert.throws(() => ask({ profile: "work", edge: A }), wrong);
    assert.throws(() => ask({ edge: A }, { GROOVEWAY_PROFILE: "work" }), wrong);
    assert.equal(ask({ profile: "work", edge: A, token: "given" }).token, "given");
  });

  it("comes after --token, and before GROOVEWAY_TOKEN only if --profile names the profile", async (context) => {
    const { ask } = await asker(context);
    const env = { token: "inherited" };
    assert.equal(ask({ profile: "work", token: "given" }, env).token, "given");
    assert.equal(ask({ profile: "work" }, env).token, "for-c");
    assert.equal(ask({}, { ...env, GROOVEWAY_PROFILE: "work" }).token, "inherited");
    assert.equal(ask({}, env).token, "inherited");
    assert.equal(ask({ token: "" }, env).token, undefined);
    assert.equal(ask({ edge: C }, env).token, "inherited");
  });

  it("is read again for each connection: a login renews it, and a logout ends it", async (context) => {
    const { ask, path } = await asker(context);
    const { provider } = ask({ profile: "work" });
    const work = { address: "alice/desk", edges: [{ url: C, token: "renewed" }] as const };
    await changeProfiles(path, (profiles) => new Map(profiles).set("work", work));
    assert.equal(provider?.(), "renewed");
    await changeProfiles(path, () => new Map());
    assert.throws(() => provider?.(), { code: "NoProfile" });
  });

  it("is each edge's own if there are several", async (context) => {
    const { ask } = await asker(context);
    const all = [
      [A, "for-a", "/ca.pem"],
      [B, "for-b", undefined],
    ];
    assert.deepEqual(ask({}).edges, all);
    assert.deepEqual(ask({ edge: [B, A] }).edges, all.toReversed());
    assert.deepEqual(ask({ edge: [A] }).edges, all.slice(0, 1));
    assert.deepEqual(ask({ relay: "relay.example.com" }).edges, []);
  });

  it("does not go to an edge beside the profile's own", async (context) => {
    const { ask } = await asker(context);
    const { edges, transport, lines } = ask({ edge: [A, C] });
    assert.deepEqual(edges, [
      [A, "for-a", "/ca.pem"],
      [C, undefined, undefined],
    ]);
    assert.equal(transport, undefined, "the other edge may not have it");
    assert.deepEqual(lines, [`the profile default is for ${A} and ${B}: its token is not sent to ${C}`]);
    assert.throws(() => ask({ profile: "default", edge: [A, C] }), { code: "WrongEdge" });
  });

  it("gives way to --token at every edge", async (context) => {
    const { ask } = await asker(context);
    const tokens = ask({ token: "given" }).edges.map(([, token]) => token);
    assert.deepEqual(tokens, ["given", "given"]);
  });

  it("of further edges is not read by a command that uses one", async (context) => {
    const edges = [
      { url: A, token: "for-a" },
      { url: B, token: "@/nowhere/b.token" },
    ] as const;
    const { home } = await asker(context, new Map([["default", { edges }]]));
    const surroundings = { inherited: undefined, env: { XDG_CONFIG_HOME: home }, most: 1 };
    assert.equal(withProfile({}, surroundings).token?.(), "for-a");
    assert.throws(() => withProfile({}, { ...surroundings, most: 2 }), { code: "CannotRead" });
  });

  it("may be in a file of its own", async (context) => {
    const file = join(await folder(context), "token");
    const { ask } = await asker(context, new Map([["default", { edges: [{ url: A, token: `@${file}` }] }]]));
    assert.throws(() => ask({}), { code: "CannotRead" });
    writeFileSync(file, "from-file\n");
    assert.equal(ask({}).token, "from-file");
  });
});
