/** `grooveway mailbox` against anything that may answer in place of an edge. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer as createPlain, type RequestListener, type Server } from "node:http";
import { createServer as createSecure } from "node:https";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { authority } from "../../support/certificates.ts";
import { folder, run, runHere } from "../support.ts";

async function listening(context: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

const ASK = ["mailbox", "show", "bob", "--token", "secret", "--edge"];

test("a login page, an empty answer or another server: one line says what answered, and from where", async (context) => {
  const other = { "Content-Type": "application/json" };
  const cases: [RequestListener, RegExp][] = [
    [
      (_, response) => response.writeHead(302, { Location: "http://portal.example.net/login" }).end(),
      /^grooveway: http:\/\/127\.0\.0\.1:\d+ answered 302 Found, a redirect to "http:\/\/portal\.example\.net\/login", .* \[NotAnEdge\]$/,
    ],
    [(_, response) => response.writeHead(204).end(), /answered 204 No Content with an empty body, .* \[NotAnEdge\]$/],
    [
      (_, response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<title>Hotel</title>"),
      /answered 200 OK with the page "Hotel", .* \[NotAnEdge\]$/,
    ],
    [
      (_, response) => response.writeHead(200, other).end('{"status":"ok"}'),
      /with "application\/json", .* \[NotAnEdge\]$/,
    ],
    [(_, response) => response.writeHead(200, other).end("null"), /with "application\/json", .* \[NotAnEdge\]$/],
  ];
  for (const [answer, expected] of cases) {
    const port = await listening(context, createPlain(answer));
    const { code, stdout, stderr } = await runHere([...ASK, `http://127.0.0.1:${port}`]);
    assert.deepEqual([code, stdout], [3, ""], stderr);
    assert.match(stderr.trimEnd(), expected);
  }
});

test("what lies about mailboxes neither keeps the command for ever nor reaches the terminal", async (context) => {
  const status = {
    peer: "\u001b[31mbob\u202e",
    messages: 1,
    octets: 1,
    oldest: 1e300,
    senders: "\u009bx",
    generation: 1,
  };
  const port = await listening(
    context,
    createPlain(({ url = "" }, response) => {
      const value = url.includes("/mailboxes/") ? status : [status];
      response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(value));
    }),
  );
  const edge = ["--edge", `http://127.0.0.1:${port}`, "--token", "t"];
  const listed = await runHere(["mailbox", "ls", ...edge]);
  assert.equal(listed.code, 3);
  assert.match(listed.stderr, /the same mailboxes are listed again and again, .* \[NotAnEdge\]$/m);
  const outputs = [listed.stdout];
  for (const args of [
    ["show", "bob"],
    ["show", "bob", "--json"],
    ["rule", "bob"],
  ]) {
    const { code, stdout, stderr } = await runHere(["mailbox", ...args, ...edge]);
    assert.equal(code, 0, stderr);
    outputs.push(stdout);
  }
  const hidden = ["\u001b", "\u009b", "\u202e"];
  for (const output of outputs) assert.ok(!hidden.some((character) => output.includes(character)), output);
});

test("a redirect is not followed: the token is sent nowhere else", async (context) => {
  const tokens: unknown[] = [];
  const elsewhere = await listening(
    context,
    createPlain((request, response) => {
      tokens.push(request.headers.authorization);
      response.end("[]");
    }),
  );
  const location = `http://127.0.0.1:${elsewhere}/admin/mailboxes`;
  const port = await listening(
    context,
    createPlain((_, response) => response.writeHead(307, { location }).end()),
  );
  const { code, stderr } = await runHere(["mailbox", "ls", "--token", "t", "--edge", `http://127.0.0.1:${port}`]);
  assert.equal(code, 3, stderr);
  assert.deepEqual(tokens, []);
});

test("an edge over https: --ca names the authority to trust; without it the error names the certificate's authority", async (context) => {
  const { ca, key, cert } = authority();
  const file = join(await folder(context), "ca.pem");
  await writeFile(file, ca);
  const asked: unknown[] = [];
  const server = createSecure({ key, cert }, ({ url, headers }, response) => {
    asked.push([url, headers.authorization]);
    response.end(JSON.stringify([{ peer: "grooveIdentity://bob", messages: 1, octets: 2 }].slice(asked.length - 1)));
  });
  const edge = `https://localhost:${await listening(context, server)}/groove`;
  const untrusted = await runHere(["mailbox", "ls", "--token", "t", "--edge", edge]);
  assert.equal(untrusted.code, 3);
  assert.match(untrusted.stderr, /certificate is from "test authority", .*--ca FILE.* \[CertificateRefused\]$/m);
  assert.deepEqual(asked, [], "nothing was sent to it");
  const trusted = await runHere(["mailbox", "ls", "--token", "t", "--edge", edge, "--ca", file]);
  assert.deepEqual([trusted.code, trusted.stdout], [0, "grooveIdentity://bob  1 messages, 2 B\n"], trusted.stderr);
  assert.deepEqual(asked[0], ["/groove/admin/mailboxes", "Bearer t"]);
});

test("when nothing listens, each address is reported with its reason", async (context) => {
  for (const args of [
    ["mailbox", "ls", "--token", "t"],
    ["send", "bob", "package.json", "--as", "a/b"],
    ["recv", "--as", "a/b", "--transport", "websocket"],
    ["recv", "--as", "a/b", "--transport", "keepalive"],
  ]) {
    const { code, stderr } = await run(context, [...args, "--edge", "http://localhost:1"]);
    assert.equal(code, 3, stderr);
    assert.match(
      stderr,
      /^grooveway: connect to localhost failed: \S+:1 ECONNREFUSED(, \S+:1 ECONNREFUSED)?; nothing is listening there: .*\[ConnectFailed\]$/m,
    );
  }
});
