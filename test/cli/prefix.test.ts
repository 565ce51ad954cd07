/** An edge under a path of a host with other content, reached by devices and operators through a reverse proxy. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { folder, run, runHere, start } from "./support.ts";

/** A reverse proxy that forwards what is under /groove/, and records everything else. */
async function proxyTo(
  context: TestContext,
  edge: string,
  takesAway: boolean,
): Promise<{ url: string; elsewhere: string[] }> {
  const { port } = new URL(edge);
  const elsewhere: string[] = [];
  const pathOf = ({ url = "" }: IncomingMessage) => {
    if (url.startsWith("/groove/")) return takesAway ? url.slice("/groove".length) : url;
    elsewhere.push(url);
    return undefined;
  };
  const server = createServer((incoming, outgoing) => {
    const path = pathOf(incoming);
    if (path === undefined) {
      outgoing.writeHead(404).end();
      return;
    }
    const { method, headers } = incoming;
    const passed = request({ port, host: "127.0.0.1", method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
      answer.on("error", () => outgoing.destroy());
    });
    passed.on("error", () => outgoing.destroy());
    outgoing.on("close", () => passed.destroy());
    incoming.pipe(passed);
    passed.flushHeaders();
  });
  server.on("upgrade", (incoming, socket, head) => {
    const path = pathOf(incoming);
    const passed = connect(Number(port), "127.0.0.1");
    const lines = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`);
    passed.write(`GET ${path ?? "/"} HTTP/1.1\r\n${lines.join("")}\r\n`);
    passed.write(head);
    passed.on("error", () => socket.destroy());
    socket.on("error", () => passed.destroy());
    passed.pipe(socket);
    socket.pipe(passed);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { url: `http://127.0.0.1:${address.port}/groove`, elsewhere };
}

for (const takesAway of [true, false]) {
  test(`an edge under a prefix that ${takesAway ? "the proxy strips" : "the edge knows"} serves all transports and the mailbox command`, async (context) => {
    const edge = start(context, [
      ...["edge", "--port", "0", "--json", "--dev", "--admin-token", "operator"],
      ...(takesAway ? [] : ["--prefix", "/groove/"]),
    ]);
    const [, printed = ""] = await edge.line(/"url":"([^"]+)"/);
    assert.equal(new URL(printed).pathname, takesAway ? "/" : "/groove");
    const { url, elsewhere } = await proxyTo(context, printed, takesAway);
    const out = await folder(context);
    const file = join(out, "letter.txt");
    await writeFile(file, "read me");
    for (const [index, transport] of ["longlived", "keepalive", "polling", "websocket"].entries()) {
      const way = ["--edge", index % 2 === 0 ? url : `${url}/`, "--transport", transport, "--token", "aaaa.bbbb.cccc"];
      const sent = await run(context, ["send", ...way, "--as", "alice/laptop", `bob/${transport}`, file]);
      assert.equal(sent.code, 0, sent.stderr);
      const operator = ["--edge", url, "--token", "operator"];
      const shown = await runHere(["mailbox", "show", `bob/${transport}`, ...operator, "--json"]);
      assert.equal(JSON.parse(shown.stdout).messages, 1, shown.stderr);
      const into = join(out, transport);
      const received = await run(context, ["recv", ...way, "--as", `bob/${transport}`, "--out", into]);
      assert.equal(received.code, 0, received.stderr);
      assert.equal(await readFile(join(into, "letter.txt"), "utf8"), "read me");
    }
    assert.deepEqual(elsewhere, [], "no request goes to another path of the host");
  });
}

test("a request without the edge's path prefix is told to use it", async (context) => {
  const edge = start(context, ["edge", "--port", "0", "--json", "--dev", "--prefix", "/groove"]);
  const [, printed = ""] = await edge.line(/"url":"([^"]+)"/);
  assert.equal((await fetch(`${printed}/health`)).status, 200);
  const answer = await fetch(new URL("/health", printed));
  assert.equal(answer.headers.get("Grooveway-Reason"), "WrongPrefix");
  assert.match(((await answer.json()) as { detail: string }).detail, /is under \/groove\//);
  const { origin } = new URL(printed);
  for (const transport of ["longlived", "keepalive", "polling", "websocket"]) {
    const way = ["--edge", origin, "--transport", transport];
    const sent = await run(context, ["send", ...way, "--as", "a/b", "bob", "package.json"]);
    assert.match(
      sent.stderr,
      /is under \/groove\/, .* Give the whole URL of the edge, with its path; .*\[WrongPrefix\]$/m,
    );
  }
  const detailAt = async (path: string) => {
    const { code, detail } = (await (await fetch(new URL(path, printed))).json()) as { code: string; detail: string };
    return `${code}: ${detail}`;
  };
  assert.match(
    await detailAt("/groove/groove/health"),
    /^WrongPrefix: .*is for \/groove\/groove\/.*under \/groove\/\.$/,
  );
  assert.match(
    await detailAt("/groove/mailboxes/bob/phone/rule"),
    /^MalformedAddress: .*%2F: \/groove\/mailboxes\/bob%2Fphone\/rule$/,
  );
});

test("an edge under a path prefix handles a full disk", async (context) => {
  const edge = start(context, [
    "edge",
    "--port",
    "0",
    "--json",
    "--dev",
    "--prefix",
    "/groove",
    "--min-free",
    "9999999",
  ]);
  const [, printed = ""] = await edge.line(/"url":"([^"]+)"/);
  const answer = await fetch(`${printed}/health`);
  assert.deepEqual([answer.status, ((await answer.json()) as { code?: string }).code], [503, "StorageFull"]);
});
