/** The command as a process. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { test } from "node:test";
import { EXIT_CODES } from "../../src/cli/exit-codes.ts";
import { folder, relayAndEdge, run, runHere, start, takenPort } from "./support.ts";

test("the process prints what the command prints, and ends with its status", async (context) => {
  for (const args of [["--help"], ["--version"], ["token", "secret", "x"], ["send", "bob"]]) {
    assert.deepEqual(await run(context, args), await runHere(args));
  }
});

test("help: the command and each subcommand show their options and an example", async () => {
  const whole = await runHere(["--help"]);
  assert.equal(whole.code, 0);
  for (const name of ["start", "relay", "edge", "token", "send", "recv"]) {
    assert.match(whole.stdout, new RegExp(`^ {2}${name} `, "m"));
    const help = await runHere([name, "--help"]);
    assert.equal(help.code, 0);
    assert.match(help.stdout, new RegExp(`^Usage: grooveway ${name}`));
    assert.match(help.stdout, /^Example: /m);
  }
});

test("usage errors print one line and exit with 2", async () => {
  const cases: [readonly string[], RegExp][] = [
    [["fly"], /there is no command fly;/],
    [["sned"], /there is no command sned, did you mean send\?;/],
    [["--json", "send"], /options go after the command, and --json is before it;/],
    [["toString"], /there is no command toString/],
    [["relay", "--prot", "1"], /--prot, did you mean --port\?; see grooveway relay --help/],
    [["relay", "--port", "123456"], /port 123456 is not a number from 0 to 65535/],
    [["edge", "--tls-key", "x"], /--tls-key and --tls-cert must be given together/],
    [["relay", "--name", "a b"], /--name: the relay "a b" is not a host name/],
    [
      ["send", "--edge", "http://localhost", "--transport", "tcp", "bob", "package.json"],
      /--transport tcp connects to the relay without an edge/,
    ],
    [["send", "bob"], /an ADDRESS and at least one PATH are needed/],
    [["send", "bob", "x", "y", "--name", "z"], /--name works with one PATH only/],
    [["send", "bob", "-", "-"], /standard input can be sent only once/],
    [["send", "bob", "x", "--wait", "soon"], /--wait soon is not a time such as 90s, 15m or 12h, of at most 14d/],
    [["send", "bob", "x", "--wait", "15d"], /--wait 15d is not a time/],
    [
      ["recv", "--transport", "pigeon"],
      /--transport pigeon is unknown: choose one of auto, tcp, tcp443, tls, connect, socks, websocket, longlived, keepalive, polling/,
    ],
    [["recv", "--content-length", "many"], /--content-length many is not a number of bytes/],
    [["recv", "[2]"], /"\[2\]" is one argument too many: leave it out; see grooveway recv --help \[Usage\]$/m],
    [["edge", "[2]"], /"\[2\]" is one argument too many/],
    [["relay", "[2]"], /"\[2\]" is one argument too many/],
    [["mailbox", "show", "bob", "[2]"], /"\[2\]" is one argument too many/],
    [["token", "[2]"], /"\[2\]" is not one of keygen, issue, inspect and secret/],
    [["recv", "--as", "alice"], /--as "alice" names no device: write alice\/laptop;/],
    [["recv", "--as", "alice/"], /--as "alice\/" is not an address: the device is empty/],
    [
      ["recv", "--as", "alice/pc/x"],
      /--as "alice\/pc\/x" is not an address: .* more than one \/: write the others as %2F;/,
    ],
    [
      ["recv", "--as", "a%/b"],
      /--as "a%\/b" is not an address: the identity "a%" has a stray percent sign: write it as %25;/,
    ],
    [["recv", "--as", "a\x1b[31m/b"], /--as "a\\u001b\[31m\/b" is not an address: .* control character/],
    [
      ["recv", "--as", "alice/pc@relay.example.com"],
      /--as .* names a relay: write alice\/pc, and --relay relay\.example\.com;/,
    ],
    [["start", "x", "y"], /"y" is one argument too many/],
  ];
  for (const [args, expected] of cases) {
    const { code, stderr, stdout } = await runHere(args);
    assert.equal(code, 2, args.join(" "));
    assert.equal(stdout, "");
    assert.match(stderr, expected);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
  }
});

test("an option that conflicts with --keys is a usage error", async (context) => {
  const keys = join(await folder(context), "keys.json");
  const made = await runHere(["token", "keygen", "--out", `${keys}.private`]);
  await writeFile(keys, made.stdout);
  for (const args of [
    ["edge", "--keys", keys, "--port", "0", "--rate", "foo=1"],
    ["edge", "--keys", keys, "--port", "0", "--min-free", "x"],
    ["edge", "--keys", keys, "--port", "0", "--link-secret", "/nowhere"],
    ["relay", "--keys", keys, "--port", "0", "--min-free", "x"],
    ["relay", "--keys", keys, "--port", "0", "--link-secret", "/nowhere"],
  ]) {
    const { code, stderr } = await runHere(args);
    const { Usage, CannotRead } = EXIT_CODES;
    assert.equal(code, (args.includes("/nowhere") ? CannotRead : Usage).status, `${args.join(" ")}: ${stderr}`);
  }
});

test("runtime errors print one line with a code and exit with its status", async (context) => {
  const port = await takenPort(context);
  const out = await folder(context);
  await writeFile(
    join(out, "not-a-store.db"),
    "this is text, and long enough not to be taken for an empty database file",
  );
  const { InUse, Usage, CannotRead, CannotWrite, ConnectFailed } = EXIT_CODES;
  const cases: [readonly string[], RegExp, { readonly status: number }][] = [
    [["relay", "--port", String(port)], /is taken by another program.*--port \[PortTaken\]/, InUse],
    [["edge", "--dev", "--port", String(port)], /is taken by another program.*--port \[PortTaken\]/, InUse],
    [["edge", "--port", "0", "--dev-private"], /^grooveway: KEYS is empty/, Usage],
    [["edge", "--port", "0", "--dev-private", "--relay-allow", "*"], /ORIGIN_RELAYS allows strangers' relays/, Usage],
    [
      ["edge", "--port", "0", "--link", "10.0.0.1", "--relay-allow", "10.0.0.1"],
      /LINKS has "10\.0\.0\.1", .*--dev-private/,
      Usage,
    ],
    [["edge", "--port", "0"], /KEYS is empty.*--keys FILE.*--dev.*\[InsecureEdge\]/, Usage],
    [["start", "--once", "--port", "0", "--relay-port", String(port)], /--relay-port \[PortTaken\]/, InUse],
    [["start", "--once", "--port", String(port), "--relay-port", "0"], /--port \[PortTaken\]/, InUse],
    [
      ["start", "--once", "/nowhere/at/all"],
      /there is no file \/nowhere\/at\/all: check the path \[CannotRead\]/,
      CannotRead,
    ],
    [
      ["edge", "--tls-key", "/nowhere", "--tls-cert", "/nowhere"],
      /no file \/nowhere: check the path \[CannotRead\]/,
      CannotRead,
    ],
    [
      ["relay", "--port", "0", "--store", join(out, "not-a-store.db")],
      /choose another --store FILE \[StoreFailed\]/,
      CannotWrite,
    ],
    [
      ["send", "--relay", "127.0.0.1:1", "bob", "/nowhere"],
      /there is no file \/nowhere: check the path \[CannotRead\]/,
      CannotRead,
    ],
    [
      ["send", "--relay", "127.0.0.1:1", "--as", "a/b", "bob", "package.json"],
      /ECONNREFUSED.*\[ConnectFailed\]/,
      ConnectFailed,
    ],
    [
      ["edge", "--port", "0", "--relay-allow", "*"],
      /ORIGIN_RELAYS allows .* with \*: .*--dev.* \[InsecureEdge\]/,
      Usage,
    ],
    [["edge", "--port", "0", "--relay-allow", "127.1"], /"127\.1".*write 127\.0\.0\.1.* \[InsecureEdge\]/, Usage],
    [["edge", "--port", "0", "--dev", "--relay-allow", "a.example.com:0"], /its port .* \[InsecureEdge\]/, Usage],
    [
      ["edge", "--port", "0", "--dev", "--link", "relay..example"],
      /LINKS has "relay\.\.example".*: write HOST .* \[InsecureEdge\]/,
      Usage,
    ],
    [
      ["edge", "--port", "0", "--dev", "--link-ways", "2492"],
      /LINK_WAYS has "2492".*: write sstp:PORT.* \[InsecureEdge\]/,
      Usage,
    ],
    [["recv", "--relay", "127.0.0.1:1", "--edge", "ftp://x", "--as", "a/b"], /must be a URL.*\[InvalidOption\]/, Usage],
    [
      ["recv", "--relay", "127.0.0.1:1", "--as", "nobody"],
      /names no device: write nobody\/laptop; see grooveway recv --help \[Usage\]/,
      Usage,
    ],
  ];
  for (const [args, expected, { status }] of cases) {
    const { code, stderr } = await runHere(args);
    assert.equal(code, status, `${args.join(" ")}: ${stderr}`);
    assert.match(stderr, expected);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
  }
});

test("start --once transfers the file end to end and reports the result in its exit code", async (context) => {
  const { code, stdout } = await run(context, [
    "start",
    "--once",
    "--port",
    "0",
    "--relay-port",
    "0",
    "package-lock.json",
  ]);
  assert.equal(code, 0);
  assert.match(stdout, /alice\/laptop .*LongLived.*edge.*relay.*KeepAlive.*bob\/phone/);
  const [, sent] = /sent +sha256 ([0-9a-f]{64})/.exec(stdout) ?? [];
  const [, received] = /received sha256 ([0-9a-f]{64})/.exec(stdout) ?? [];
  assert.ok(sent);
  assert.equal(received, sent);
});

test("start works on the default port of relays", async (context) => {
  // Only this port is left out of a target, so that only there the relay and the edge could share a name.
  const { code, stderr } = await run(context, [
    "start",
    "--once",
    "--port",
    "0",
    "--relay-port",
    "2492",
    "package.json",
  ]);
  if (stderr.includes("[PortTaken]")) return context.skip("port 2492 is taken by another program");
  assert.equal(code, 0, stderr);
});

test("start keeps running after the transfer and prints commands that work; SIGINT ends it with 0", async (context) => {
  const running = start(context, ["start", "--port", "0", "--relay-port", "0"]);
  const [, send = "", receive = ""] = await running.line(
    /grooveway -- send (.*)\n.*grooveway -- recv (.*)\n[\s\S]*Ctrl-C/,
  );
  const out = await folder(context);
  const file = join(out, "README.md");
  await writeFile(file, "read me");
  const sent = await run(context, ["send", ...send.replace("README.md", file).split(" ")]);
  assert.equal(sent.code, 0, sent.stderr);
  const received = await run(context, ["recv", ...receive.replace("--out received", `--out ${out}`).split(" ")]);
  assert.equal(received.code, 0, received.stderr);
  assert.equal(await readFile(join(out, "README (1).md"), "utf8"), "read me");
  running.process.kill("SIGINT");
  assert.equal((await running.finished).code, 0);
});

test("send and recv: the recipient may come later; names, standard input, JSON and several parts work", async (context) => {
  const way = await relayAndEdge(context);
  const out = await folder(context);
  const big = randomBytes(3 * 1024 * 1024 + 17);
  await writeFile(join(out, "big.bin"), big);

  const sent = await run(context, ["send", ...way, "--as", "alice/pc", "--json", "bob/phone", join(out, "big.bin")]);
  assert.equal(sent.code, 0, sent.stderr);
  const report = JSON.parse(sent.stdout.split("\n")[0] ?? "");
  assert.deepEqual([report.event, report.to, report.name, report.bytes], ["sent", "bob/phone", "big.bin", big.length]);
  const piped = await run(context, ["send", ...way, "--as", "alice/pc", "bob", "-"], "from a pipe");
  assert.match(piped.stdout, /^sent stdin to bob: 11 B/);
  const named = await run(context, ["send", ...way, "--as", "alice/pc", "bob/phone", "-", "--name", "../../etc/x"], "");
  assert.equal(named.code, 0);

  const inbox = join(out, "inbox");
  const running = start(context, [
    "recv",
    ...way,
    "--as",
    "bob/phone",
    "--transport",
    "keepalive",
    "--follow",
    "--json",
    "--out",
    inbox,
  ]);
  await running.line(/(.*\n){3}/);
  running.process.kill("SIGTERM");
  const { code, stdout } = await running.finished;
  assert.equal(code, 0);
  const files = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(files.map(({ event, from, name, path }) => [event, from, name, relative(inbox, path)]).sort(), [
    ["file", "alice/pc", "../../etc/x", "etc/x"],
    ["file", "alice/pc", "big.bin", "big.bin"],
    ["file", "alice/pc", "stdin", "stdin"],
  ]);
  assert.equal(files.find((file) => file.name === "big.bin").sha256, report.sha256);
  const arrived = (await readdir(inbox)).filter((name) => name !== ".grooveway");
  assert.deepEqual(arrived.sort(), ["big.bin", "etc", "stdin"]);
  assert.deepEqual(await readFile(join(inbox, "big.bin")), big);
  assert.equal(await readFile(join(inbox, "stdin"), "utf8"), "from a pipe");
  assert.equal(await readFile(join(inbox, "etc", "x"), "utf8"), "");
});

test("relay --store keeps waiting messages across a restart; without it the relay warns that they are lost", async (context) => {
  const out = await folder(context);
  const store = join(out, "relay.db");
  const first = start(context, ["relay", "--port", "0", "--store", store]);
  const [, port = ""] = await first.line(/relay listens on 127\.0\.0\.1:([0-9]+)/);
  assert.equal(
    (await run(context, ["send", "--relay", `127.0.0.1:${port}`, "--as", "a/b", "bob/x", "package.json"])).code,
    0,
  );
  first.process.kill("SIGKILL");
  await first.finished;
  const second = start(context, ["relay", "--port", port, "--store", store]);
  await second.line(/relay listens/);
  const received = await run(context, ["recv", "--relay", `127.0.0.1:${port}`, "--as", "bob/x", "--out", out]);
  assert.equal(received.code, 0, received.stderr);
  assert.deepEqual(await readFile(join(out, "package.json")), await readFile("package.json"));

  const forgetful = start(context, ["relay", "--port", "0"]);
  await forgetful.line(/waiting messages are lost when it stops: give --store FILE/);
});

test("a refusal by the edge is reported with its reason", async (context) => {
  const edge = start(context, ["edge", "--port", "0", "--dev"]);
  const [, url = ""] = await edge.line(/edge listens on (\S+)\nfor development only: .*\nmailboxes are lost/);
  const { code, stderr } = await run(context, ["recv", "--edge", url, "--relay", "relay.example.com", "--as", "a/b"]);
  assert.equal(code, EXIT_CODES.Refused.status);
  assert.match(stderr, /RelayNotAllowed/);
});

test("edge dials relays on this machine only with --dev, and then says so", async (context) => {
  const at = await folder(context);
  const [key, keys] = [join(at, "key.json"), join(at, "keys.json")];
  const made = await runHere(["token", "keygen", "--out", key]);
  await writeFile(keys, made.stdout);
  const issue = [
    "token",
    "issue",
    "--key",
    key,
    "--audience",
    "127.0.0.1",
    "--address",
    "a/b",
    "--scope",
    "connect receive",
  ];
  const { stdout: token } = await runHere(issue);
  const edge = start(context, ["edge", "--port", "0", "--keys", keys, "--relay-allow", "127.0.0.2"]);
  const [, url = ""] = await edge.line(/edge listens on (\S+)\nmailboxes are lost/);
  const receive = ["recv", "--edge", url, "--relay", "127.0.0.2", "--as", "a/b", "--token", token.trim()];
  const { code, stderr } = await run(context, receive);
  assert.equal(code, EXIT_CODES.Refused.status);
  assert.match(stderr, /RelayPrivate/);

  const permissive = start(context, ["edge", "--port", "0", "--dev", "--relay-allow", "*"]);
  await permissive.line(/edge listens on \S+\nfor development only: --dev/);
});
