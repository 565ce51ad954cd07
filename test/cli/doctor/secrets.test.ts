/** What `grooveway doctor` prints can be handed on: it contains nothing that is secret, whoever has written it where. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { captivePortal } from "../../support/firewalls.ts";
import { httpProxy } from "../../support/proxies.ts";
import { assertNoSecret, formsOf } from "../../support/secrets.ts";
import { listen } from "../../support/sockets.ts";
import { folder, runHere, withVariables } from "../support.ts";

const SECRETS = {
  user: "urluserQ7/x",
  password: "urlpass+Q7?x",
  query: "queryQ7x",
  token: "eyTokenQ7.payloadQ7.signatureQ7",
  proxyUser: "proxyuserQ7",
  proxyPassword: "proxy:pass/Q7",
  pac: "pactextQ7",
  page: "pagetextQ7",
  cookie: "cookieQ7",
};

/** Runs the command for a table and a page, and for JSON. Returns everything that it wrote. */
async function output(t: TestContext, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const page = join(await folder(t), "page.html");
  const variables = { GROOVEWAY_TOKEN: SECRETS.token, HOME: "/nonexistent", ...env };
  const [table, json] = await withVariables(variables, () =>
    Promise.all([runHere(["doctor", ...args, "--report", page]), runHere(["doctor", ...args, "--json"])]),
  );
  const written = table.code === 2 ? "" : readFileSync(page, "utf8");
  return { all: [table.stdout, table.stderr, written, json.stdout, json.stderr].join("\n"), code: table.code };
}

function assertClean(all: string): void {
  assert.ok(all.includes("grooveway"), all);
  for (const secret of Object.values(SECRETS)) assertNoSecret(all, secret);
}

/** The URL of an edge with everything that a person might put into one. */
function urlOf(authority: string): string {
  const { user, password, query } = SECRETS;
  return `http://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${authority}/?token=${query}#${query}`;
}

const ACCOUNT = { user: SECRETS.proxyUser, password: SECRETS.proxyPassword };
const CREDENTIALS = `${encodeURIComponent(ACCOUNT.user)}:${encodeURIComponent(ACCOUNT.password)}`;

describe("the doctor prints no secret", () => {
  let edge: LocalEdge;
  let port = "";

  before(async () => {
    edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "1", relayName: "edge.invalid" });
    port = new URL(edge.url).port;
  });

  after(() => edge.close());

  test("of the URL, the token and a portal that repeats what it hears", async (t) => {
    const page = `${SECRETS.page}</title><script>alert(1)</script>`;
    const portal = await captivePortal(t, {
      page: SECRETS.page,
      redirect: `http://portal.example/${SECRETS.page}?${SECRETS.cookie}`,
    });
    const { all, code } = await output(t, [urlOf(`127.0.0.1:${portal}`), "--allow-plain"]);
    assert.equal(code, 3);
    assertClean(all);
    assert.match(all, /portal\.example/);
    assert.doesNotMatch(all, /<script/);
    const echo = createServer((asked, answer) => {
      const heard = JSON.stringify([asked.url, asked.headers]);
      answer.writeHead(403, heard.replace(/[^ -~]/g, ""), { "Content-Type": "text/html", "Grooveway-Echo": heard });
      answer.end(`<title>${page} ${heard}</title>`);
    });
    await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
    t.after(() => {
      echo.closeAllConnections();
      echo.close();
    });
    const echoed = await output(t, [urlOf(`127.0.0.1:${(echo.address() as AddressInfo).port}`), "--allow-plain"]);
    assert.equal(echoed.code, 3);
    assertClean(echoed.all);
  });

  test("of a proxy: its user name, its password, and what it answers", async (t) => {
    const names = { "edge.invalid:80": Number(port), "edge.invalid": Number(port) };
    const proxy = await httpProxy(t, { schemes: ["Basic"], account: ACCOUNT, names });
    const at = `127.0.0.1:${proxy.port}`;
    const named = await output(t, [urlOf("edge.invalid"), "--proxy", `http://${CREDENTIALS}@${at}`]);
    assert.equal(named.code, 0);
    assertClean(named.all);
    const fromEnvironment = await output(t, [urlOf("edge.invalid")], { HTTP_PROXY: `http://${CREDENTIALS}@${at}` });
    assert.equal(fromEnvironment.code, 0);
    assertClean(fromEnvironment.all);
    assert.match(fromEnvironment.all, /HTTP_PROXY/);
    const { user, password } = ACCOUNT;
    const variables = {
      GROOVEWAY_PROXY_USER: user,
      GROOVEWAY_PROXY_PASSWORD: `${password}wrong`,
      ALL_PROXY: `http://${at}`,
    };
    const refused = await output(t, [urlOf("edge.invalid")], { ...variables, GROOVEWAY_PROXY_FOR: `http://${at}` });
    assert.equal(refused.code, 3);
    assertClean(refused.all);
    assert.match(refused.all, /refuses the user name or password/);
    const hostile = await listen((socket) => {
      socket.on("data", (heard) => {
        const line = `HTTP/1.1 407 ${SECRETS.page} ${heard.toString("latin1").replace(/[^ -~]/g, " ")}`;
        socket.end(
          `${line}\r\nProxy-Authenticate: ${SECRETS.page} realm="${SECRETS.cookie}"\r\nContent-Length: 0\r\n\r\n`,
        );
      });
    });
    t.after(() => hostile.close());
    const answered = await output(t, [
      urlOf("edge.invalid"),
      "--proxy",
      `http://${CREDENTIALS}@127.0.0.1:${hostile.port}`,
    ]);
    assert.equal(answered.code, 3);
    assertClean(answered.all);
  });

  test("of a PAC file that works, one that fails, and a variable that is none", async (t) => {
    const proxy = await httpProxy(t, { names: { "edge.invalid:80": Number(port), "edge.invalid": Number(port) } });
    const at = await folder(t);
    const file = (name: string, text: string) => {
      writeFileSync(join(at, name), text);
      return join(at, name);
    };
    const good = file(
      "good.pac",
      `/* ${SECRETS.pac} */ function FindProxyForURL() { return "PROXY 127.0.0.1:${proxy.port}"; }`,
    );
    const bad = file("bad.pac", `function FindProxyForURL() { throw new Error("${SECRETS.pac}"); }`);
    const broken = file("broken.pac", `${SECRETS.pac}((`);
    const works = await output(t, [urlOf("edge.invalid"), "--proxy", `pac+file://${good}`]);
    assert.equal(works.code, 0);
    assertClean(works.all);
    for (const pac of [bad, broken]) {
      const forced = await output(t, [urlOf("edge.invalid"), "--proxy", `pac+file://${pac}`]);
      assert.equal(forced.code, 3);
      assert.match(forced.all, /the PAC file of --proxy cannot be fetched or used/);
      assertClean(forced.all);
    }
    const unforced = await output(t, [urlOf("edge.invalid")], { GROOVEWAY_PAC: bad });
    assertClean(unforced.all);
    assert.match(unforced.all, /proxy +warning +the PAC file \S+ cannot be used: the script fails in line 1/);
    for (const url of [`http://${CREDENTIALS}@127.0.0.1:99999/${SECRETS.pac}`, `ftp://${CREDENTIALS}@x/`]) {
      assertClean((await output(t, [urlOf("edge.invalid")], { GROOVEWAY_PAC: url })).all);
    }
    const none = await output(t, [urlOf("edge.invalid")], { HTTP_PROXY: `gopher://${CREDENTIALS}@x` });
    assert.equal(none.code, 2);
    assertClean(none.all);
  });

  test("and sends the token in clear only if that is allowed", async (t) => {
    let heard = "";
    const forwarder = await listen((socket) => {
      const there = connect(Number(port), "127.0.0.1");
      socket.on("data", (octets) => {
        heard += octets.toString("latin1");
      });
      there.on("error", () => socket.destroy());
      socket.pipe(there).pipe(socket);
      socket.on("close", () => there.destroy());
    });
    t.after(() => forwarder.close());
    const kept = await output(t, [urlOf(`127.0.0.1:${forwarder.port}`)]);
    assert.equal(kept.code, 0);
    assert.match(kept.all, /not sent: no way with verified TLS works/);
    assert.match(heard, /GET \/health/);
    assertNoSecret(heard, SECRETS.token);
    const sent = await output(t, [urlOf(`127.0.0.1:${forwarder.port}`), "--allow-plain"]);
    assert.match(sent.all, /the edge accepts it/);
    assert.ok(heard.includes(SECRETS.token));
    assertClean(kept.all);
    assertClean(sent.all);
  });
});

test("secrets are found in every form", () => {
  const secret = "s3cret/x+y";
  for (const prefix of ["", "a", "ab", "abc"]) {
    const text = Buffer.from(`${prefix}${secret}tail`).toString("base64");
    assert.throws(() => assertNoSecret(`Basic ${text}`, secret));
  }
  for (const [, form] of formsOf(secret)) assert.throws(() => assertNoSecret(`x${form}x`, secret));
  assert.doesNotThrow(() => assertNoSecret("s3cre", secret));
});
