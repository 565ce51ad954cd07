/** `grooveway login` and `logout` against an edge that verifies tokens. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { appendFileSync, chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { loginCommand } from "../../../src/cli/commands/login.ts";
import { logoutCommand } from "../../../src/cli/commands/logout.ts";
import { mailboxCommand } from "../../../src/cli/commands/mailbox.ts";
import { newKey, sign } from "../../../src/cli/commands/token.ts";
import { errorLine, statusOf } from "../../../src/cli/error-line.ts";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import type { Command } from "../../../src/cli/parse-arguments.ts";
import { readProfiles } from "../../../src/cli/profiles/config-file.ts";
import { Device } from "../../../src/device/index.ts";
import { askName } from "../../../src/device/transports/ask-name.ts";
import { REASON_HEADER, RELAY_HEADER } from "../../../src/encapsulation/index.ts";
import { type Finished, folder, type Running, run, start } from "../support.ts";

const ALL_SCOPES = "connect receive send:*";

/** An edge that verifies tokens, whose issuer is the test. */
async function edgeWithIssuer(context: TestContext, options: readonly string[] = []) {
  const at = await folder(context);
  const { jwks, privateKey } = await newKey("login");
  writeFileSync(join(at, "keys.json"), JSON.stringify(jwks));
  const edge = start(context, ["edge", "--port", "0", "--json", "--keys", join(at, "keys.json"), ...options]);
  const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
  const token = (claims: { readonly address?: string; readonly scope: string; readonly aud?: string }) =>
    sign(privateKey, { aud: "127.0.0.1", jti: "x", exp: Math.floor(Date.now() / 1000) + 3600, ...claims });
  return { url, token };
}

/** Runs commands with a home of their own, in this process unless a process of their own matters. */
async function homeOf(context: TestContext) {
  const home = await folder(context);
  const file = join(home, "grooveway", "config.toml");
  const env = { XDG_CONFIG_HOME: home, GROOVEWAY_PROFILE: undefined, GROOVEWAY_TOKEN: undefined };
  const log = context.mock.method(console, "log", () => undefined);
  const call = async (command: Command, args: readonly string[]): Promise<string> => {
    const before = process.env;
    process.env = { ...before, ...env };
    log.mock.resetCalls();
    try {
      await command.run(args);
      return log.mock.calls.map(({ arguments: [line] }) => `${String(line)}\n`).join("");
    } finally {
      process.env = before;
    }
  };
  return {
    file,
    profiles: () => Object.fromEntries(readProfiles(file)),
    process: (args: readonly string[], input = ""): Promise<Finished> => run(context, args, input, env),
    start: (args: readonly string[]): Running => start(context, args, "", env),
    /** Returns what it prints. */
    login: (...args: string[]) => call(loginCommand, args),
    logout: (...args: string[]) => call(logoutCommand, args),
    mailbox: (...args: string[]) => call(mailboxCommand, args),
  };
}

test("login checks the token with the edge, and then send, recv and mailbox need no options", async (context) => {
  const { url, token } = await edgeWithIssuer(context, ["--admin-token", "operators-secret"]);
  const all = await token({ address: "alice/*", scope: "connect receive send:* admin" });
  const tokens = await folder(context);
  writeFileSync(join(tokens, "token"), `${all}\n`, { mode: 0o600 });

  await context.test("a good token is kept, for its user alone", async (context) => {
    const home = await homeOf(context);
    const file = join(tokens, "token");
    const done = await home.process(["login", `${url}/`, "--as", "alice/laptop", "--token", `@${file}`]);
    assert.deepEqual(done, {
      code: 0,
      stdout: `logged in to ${url} as alice/laptop; the profile default is in ${home.file}\n`,
      stderr: "",
    });
    assert.deepEqual(home.profiles(), { default: { address: "alice/laptop", edges: [{ url, token: all }] } });
    assert.equal(statSync(home.file).mode & 0o777, 0o600);

    const sent = await home.process(["send", "alice/laptop", "-", "--name", "hello.txt"], "hello");
    assert.match(sent.stdout, /^sent hello\.txt to alice\/laptop/, sent.stderr);
    assert.match(await home.mailbox("show", "alice/laptop"), /^waiting +[1-9]/m);
    const out = await folder(context);
    const received = await home.process(["recv", "--out", out]);
    assert.match(received.stdout, /^received .*hello\.txt from alice\/laptop: 5 B/, received.stderr);
    assert.equal(readFileSync(join(out, "hello.txt"), "utf8"), "hello");

    const listed = { profile: "default", address: "alice/laptop", edges: [url] };
    assert.deepEqual(JSON.parse(await home.login("--list", "--json")), listed);
    assert.equal(await home.login("--list"), `default  alice/laptop  ${url}\n`);
  });

  await context.test("send does not end a recv of the same profile", async (context) => {
    const home = await homeOf(context);
    await home.login(url, "--as", "dan/laptop", "--token", await token({ address: "dan/*", scope: ALL_SCOPES }));
    const out = await folder(context);
    const receiving = home.start(["recv", "--follow", "--out", out]);
    const send = (name: string) => home.process(["send", "dan/laptop", "-", "--name", name], name);
    const names = ["first", "second", "third"];
    const [first = "", ...others] = names;
    const sent = [await send(first)];
    await receiving.line(/received .*first/);
    sent.push(...(await Promise.all(others.map(send))));
    for (const { code, stderr } of sent) assert.equal(code, EXIT_CODES.Done.status, stderr);
    for (const name of others) await receiving.line(new RegExp(`received .*${name}`));
    receiving.process.kill("SIGINT");
    const { code, stderr } = await receiving.finished;
    assert.deepEqual([code, stderr], [EXIT_CODES.Done.status, ""]);
    for (const name of names) assert.equal(readFileSync(join(out, name), "utf8"), name);
  });

  await context.test("a device that runs with the same address stays connected", async (context) => {
    const home = await homeOf(context);
    const device = await Device.connect({ edge: url, address: "alice/phone", token: all });
    context.after(() => device.close());
    await home.login(url, "--as", "alice/phone", "--token", all);
    const { id } = await device.send("alice/phone", "to myself");
    for await (const message of device.messages()) {
      message.done();
      if (message.id === id) return;
    }
    assert.fail("the device was disconnected");
  });

  await context.test("the token may come from standard input", async (context) => {
    const home = await homeOf(context);
    const { stderr } = await home.process(["login", url, "--as", "alice/pc", "--token", "@-"], `${all}\n`);
    assert.deepEqual(home.profiles().default?.edges, [{ url, token: all }], stderr);
    const empty = await home.process(["login", url, "--token", "@-"], "\n");
    assert.match(empty.stderr, /standard input is empty: give a token; .* \[Usage\]$/m);
    const endless = await home.process(["login", url, "--token", "@-"], "x".repeat(1_000_000));
    assert.match(endless.stderr, /over 8192 characters.* \[Usage\]$/m);
  });

  await context.test("the token may be for one address, or an operator's", async (context) => {
    const home = await homeOf(context);
    const sender = await token({ address: "carol/pc", scope: "connect send:*" });
    const operator = await token({ scope: "admin" });
    const rows: readonly (readonly [string, string, object, object])[] = [
      ["sender", sender, { kind: "device", address: "carol/pc" }, { address: "carol/pc" }],
      ["operator", operator, { kind: "operator" }, {}],
      ["secret", "operators-secret", { kind: "operator" }, {}],
    ];
    for (const [profile, text, told, kept] of rows) {
      const printed = await home.login(url, "--token", text, "--profile", profile, "--json");
      assert.deepEqual(JSON.parse(printed), { event: "login", profile, edge: url, file: home.file, ...told });
      assert.deepEqual(home.profiles()[profile], { ...kept, edges: [{ url, token: text }] });
    }
    assert.notEqual(await home.mailbox("ls", "--profile", "secret"), "");
  });

  await context.test("a token that the edge refuses is not kept", async (context) => {
    const home = await homeOf(context);
    const { Refused, Usage, CannotRead, ConnectFailed } = EXIT_CODES;
    const bob = await token({ address: "bob/*", scope: "connect receive" });
    const unconnected = await token({ address: "alice/*", scope: "receive" });
    const elsewhere = await token({ address: "alice/*", scope: "connect", aud: "other.example" });
    const rows: readonly (readonly [readonly string[], { readonly status: number }, RegExp])[] = [
      [[url, "--token", elsewhere], Refused, /the token is for other\.example, .* \[WrongAudience\]$/],
      [[url, "--token", bob], Refused, /the token is for the address bob\/\*, but .* \[ScopeMissing\]$/],
      [[url, "--token", unconnected], Refused, /lacks the scope connect.* \[ScopeMissing\]$/],
      [[url, "--token", "x.y.z"], Refused, /cannot verify the token.* \[TokenInvalid\]$/],
      [[url], Refused, /requires a token.* \[TokenNeeded\]$/],
      [[url, "--token", "a b"], Usage, /contains characters that are invalid.* \[InvalidOption\]$/],
      [[url, "--token", "@/nowhere"], CannotRead, /no file \/nowhere: .* \[CannotRead\]$/],
      [["http://127.0.0.1:1", "--token", bob], ConnectFailed, /ECONNREFUSED.* \[ConnectFailed\]$/],
      [[], Usage, /the URL is missing: write https:\/\/edge\.example\.com; .* \[Usage\]$/],
      [["edge.example.com"], Usage, /the URL is not that of an edge: .* \[Usage\]$/],
      [[url, "--transport", "tcp"], Usage, /--transport tcp connects past an edge: choose auto or one of websocket/],
      [[url, "--profile", "a b"], Usage, /"a b" cannot name a profile.* \[NoProfile\]$/],
      [[url, "--list"], Usage, /--list takes no URL; .* \[Usage\]$/],
    ];
    for (const [args, { status }, expected] of rows) {
      const error: unknown = await home.login(...args, "--as", "alice/laptop").then(
        () => undefined,
        (error) => error,
      );
      const line = errorLine(error);
      assert.match(line, expected, args.join(" "));
      assert.equal(statusOf(error), status, line);
      for (const secret of [bob, unconnected, elsewhere]) assert.ok(!line.includes(secret));
    }
    assert.deepEqual(home.profiles(), {});
  });

  await context.test("a login renews the token of its edge, and does not replace another edge", async (context) => {
    const home = await homeOf(context);
    const first = await token({ address: "alice/*", scope: "connect receive" });
    await home.login(url, "--as", "alice/laptop", "--transport", "keepalive", "--token", first);
    const second = '\n[[profiles.default.edges]]\nurl = "https://second.example"\ntoken = "other"\n';
    appendFileSync(home.file, second);
    await home.login(url, "--token", all);
    const edges = [
      { url, token: all },
      { url: "https://second.example", token: "other" },
    ];
    assert.deepEqual(home.profiles(), { default: { address: "alice/laptop", transport: "keepalive", edges } });
    const other = { code: "WrongEdge", message: /choose another --profile, or remove this one with grooveway logout$/ };
    await assert.rejects(home.login("http://127.0.0.1:1", "--token", all), other);

    assert.equal(await home.logout(), `removed the profile default from ${home.file}\n`);
    assert.deepEqual(home.profiles(), {});
    await assert.rejects(home.logout(), { code: "NoProfile", message: /has no profile "default": there is none yet/ });
  });

  await context.test("a file that others may read stops every command that would use it", async (context) => {
    const home = await homeOf(context);
    await home.login(url, "--as", "alice/laptop", "--token", all);
    chmodSync(home.file, 0o644);
    const exposed = { code: "ConfigUnusable", message: /\(mode 644\), which has tokens: run chmod 600 / };
    await assert.rejects(home.login(url), exposed);
    await assert.rejects(home.login("--list"), exposed);
    await assert.rejects(home.logout(), exposed);
    await assert.rejects(home.mailbox("ls"), exposed);
    const { code, stderr } = await home.process(["recv"]);
    assert.equal(code, EXIT_CODES.Usage.status);
    assert.match(stderr, /run chmod 600 .* \[ConfigUnusable\]$/m);
  });
});

test("login says by which name the edge must be used if it does not know itself as the host in the URL", async (context) => {
  const error = context.mock.method(console, "error", () => undefined);
  const lines = () => error.mock.calls.map(({ arguments: [line] }) => String(line));

  await context.test("an edge", async (context) => {
    const { url, token } = await edgeWithIssuer(context, ["--name", "edge.example.com"]);
    const home = await homeOf(context);
    const all = await token({ address: "alice/*", scope: ALL_SCOPES });
    await home.login(url, "--token", all, "--as", "alice/pc");
    assert.deepEqual(lines(), []);
    // Another spelling of the address on which it listens.
    const unknown = url.replace("127.0.0.1", "[::ffff:7f00:1]");
    await home.login(unknown, "--token", all, "--as", "alice/pc", "--profile", "unknown");
    assert.deepEqual(lines(), [
      `grooveway: the edge does not know itself as [::ffff:7f00:1], and will refuse send and recv: log in with a URL that has its name, edge.example.com, or give them --edge ${unknown} --relay edge.example.com, or ask its operator to give it this name (--name [::ffff:7f00:1])`,
    ]);
    const { stderr } = await home.process(["recv", "--profile", "unknown"]);
    assert.match(stderr, /\[RelayNotAllowed\]$/m, "as login said");
    const told = ["--profile", "unknown", "--edge", unknown, "--relay", "edge.example.com"];
    const { code } = await home.process(["send", ...told, "alice/pc", "-"], "by the name");
    assert.equal(code, EXIT_CODES.Done.status);
    error.mock.resetCalls();
    await home.login(unknown, "--token", await token({ scope: "admin" }), "--profile", "operator");
    assert.deepEqual(lines(), [], "an operator does not name the edge");
  });

  await context.test("a host that cannot name an edge", async () => {
    const trailing = new URL("http://localhost.:8787");
    const answer = await askName({ edge: trailing });
    assert.ok(answer.type === "malformed" && /"localhost\."/.test(answer.problems));
  });

  for (const [what, header] of [
    ["that does not tell its name", undefined],
    ["that tells what is no name", "not a name; rm -rf"],
  ] as const) {
    await context.test(`an edge ${what}`, async (context) => {
      error.mock.resetCalls();
      const server = createServer(({ url = "" }, response) => {
        response.setHeader("Connection", "close");
        if (url.startsWith("/mailboxes/")) {
          response.end('{"peer":"grooveDevice://alice/pc"}');
          return;
        }
        response.statusCode = 403;
        response.setHeader(REASON_HEADER, "RelayNotAllowed");
        if (header !== undefined) response.setHeader(RELAY_HEADER, header);
        response.end("{}");
      });
      context.after(() => server.close());
      await once(server.listen(0, "127.0.0.1"), "listening");
      const home = await homeOf(context);
      await home.login(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, "--as", "alice/pc");
      const cure = "ask its operator to give it this name (--name 127.0.0.1)";
      assert.deepEqual(lines(), [
        `grooveway: the edge does not know itself as 127.0.0.1, and will refuse send and recv: ${cure}`,
      ]);
    });
  }
});
