/** `grooveway doctor` as a user runs it. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { diagnose } from "../../../src/device/diagnosis/index.ts";
import { Proxies } from "../../../src/device/index.ts";
import { ed25519, type Issuer, jwks } from "../../edge/issuer.ts";
import { authority } from "../../support/certificates.ts";
import { folder, run, runHere } from "../support.ts";

describe("grooveway doctor", { concurrency: 2 }, () => {
  const ours = authority();
  let edge: LocalEdge;
  let issuer: Issuer;

  before(async () => {
    issuer = await ed25519();
    edge = await startLocalEdge({ port: 0, relayAllow: [], keys: jwks(issuer), tls: ours });
  });

  after(() => edge.close());

  test("examines the edge of the profile, with its token and authority, and writes the page", async (t) => {
    const home = await folder(t);
    const [ca, page] = [join(home, "ca.pem"), join(home, "page.html")];
    writeFileSync(ca, ours.ca);
    mkdirSync(join(home, "grooveway"));
    const token = await issuer.issue({ address: "alice/*" });
    const edges = `[[profiles.default.edges]]\nurl = "${edge.url}"\ntoken = "${token}"\nca = "${ca}"\n`;
    const config = `[profiles.default]\naddress = "alice/laptop"\n${edges}`;
    writeFileSync(join(home, "grooveway", "config.toml"), config, { mode: 0o600 });
    const done = await run(t, ["doctor", "--report", page], undefined, { XDG_CONFIG_HOME: home });
    assert.equal(done.code, 0, done.stderr);
    assert.match(
      done.stdout,
      /^grooveway doctor: https:\/\/127\.0\.0\.1:\d+\n\ntransport +to +through +status +round trip/,
    );
    assert.match(done.stdout, /^websocket +127\.0\.0\.1:\d+ +direct +(works|slow) +\d+ ms +[\d.]+ [KM]iB\/s$/m);
    assert.match(done.stdout, /^token +ok +the edge accepts it for this address$/m);
    assert.match(done.stdout, /^Recommended: \w+ to 127\.0\.0\.1:\d+, directly\.$/m);
    assert.ok(readFileSync(page, "utf8").includes("What would have to change"));
    for (const part of token.split(".")) assert.ok(!done.stdout.includes(part) && !done.stderr.includes(part));
  });

  test("names an authority that only this machine trusts: TLS is inspected", async (t) => {
    const ca = join(await folder(t), "ca.pem");
    writeFileSync(ca, ours.ca);
    const done = await run(t, ["doctor", edge.url, "--json"], undefined, { NODE_EXTRA_CA_CERTS: ca });
    assert.equal(done.code, 0, done.stderr);
    const { ways, checks } = JSON.parse(done.stdout);
    for (const { status, usable, why } of ways) {
      assert.deepEqual({ status, usable }, { status: "inspected", usable: true });
      assert.match(why, /from "test authority", which only this machine trusts/);
    }
    assert.equal(checks.find(({ check }: { check: string }) => check === "tls").outcome, "warning");
  });

  test("names a proxy that takes the connection and connects to nothing", async (t) => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    t.after(() => silent.close());
    const { port } = silent.address() as AddressInfo;
    const proxies = new Proxies({ proxy: `http://127.0.0.1:${port}` });
    const { ways, findings } = await diagnose({ edge: edge.url, address: "alice/laptop", proxies, timeout: 1000 });
    assert.equal(ways.length, 4);
    for (const { verdict } of ways) assert.match(verdict.why ?? "", /The proxy http:\S+ does not answer as a proxy/);
    assert.deepEqual(
      findings.filter(({ check }) => check === "proxy").map(({ outcome }) => outcome),
      ["failed"],
    );
  });

  test("ends with 3 if no way works", async () => {
    const done = await runHere(["doctor", edge.url]);
    assert.equal(done.code, 3);
    assert.match(done.stdout, /\nNo way works\.\n$/);
  });

  for (const [args, text] of [
    [[], /the URL is missing: write https:\/\/edge\.example\.com, or log in first/],
    [["edge.example.com"], /the URL is not that of an edge/],
    [["ftp://edge.example.com"], /the URL is not that of an edge/],
    [["https://edge.example.com", "x"], /"x" is one argument too many/],
    [["http://127.0.0.1:1", "--as", "alice"], /names no device: write alice\/laptop/],
  ] as const) {
    test(`says what is wrong with: doctor ${args.join(" ")}`, async () => {
      const done = await runHere(["doctor", ...args]);
      assert.equal(done.code, 2);
      assert.match(done.stderr, text);
    });
  }

  test("says that it cannot write the page", async (t) => {
    const at = await folder(t);
    const done = await runHere(["doctor", "http://127.0.0.1:1", "--report", at]);
    assert.equal(done.code, 6);
    assert.match(done.stdout, /\nNo way works\.\n$/, "what was found is not lost");
    assert.match(done.stderr, /cannot write .*\(EISDIR\): choose another file for --report \[CannotWrite\]/);
  });
});
