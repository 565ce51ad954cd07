/** A relay and an edge that share a secret, set up entirely on the command line. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { EXIT_CODES } from "../../src/cli/exit-codes.ts";
import { Device } from "../../src/device/index.ts";
import { receive } from "../edge/mailbox/support.ts";
import { authority } from "../support/certificates.ts";
import { folder, runHere, start } from "./support.ts";

describe("links set up on the command line", () => {
  it("work with a secret from grooveway token", async (context) => {
    const at = await folder(context);
    const secret = (await runHere(["token", "secret"])).stdout.trim();
    assert.match(secret, /^[A-Za-z0-9_-]{43}$/);
    const [relayFile, edgeFile] = [join(at, "relay.links"), join(at, "edge.links")];
    await writeFile(relayFile, `# the edge\nlocalhost=${secret}\n`);
    const relay = start(context, ["relay", "--port", "0", "--name", "127.0.0.1", "--json", "--link-secret", relayFile]);
    const { port } = JSON.parse((await relay.line(/^.*"listening".*$/m))[0]) as { port: number };
    const name = `127.0.0.1:${port}`;
    await writeFile(edgeFile, `${name}=${secret}\n`);
    const options = ["--port", "0", "--dev", "--name", "localhost", "--json", "--relay-allow", name];
    const edge = start(context, ["edge", ...options, "--link-secret", edgeFile]);
    const { url } = JSON.parse((await edge.line(/^.*"listening".*$/m))[0]) as { url: string };
    const alice = await Device.connect({ edge: url, relay: "localhost", address: "alice/pc", transport: "websocket" });
    const bob = await Device.connect({ relay: name, address: "bob/pc", transport: "tcp" });
    context.after(() => Promise.all([alice.close(), bob.close()]));
    await alice.send(`bob/pc@${name}`, "by the command");
    assert.equal((await receive(bob, 1))[0]?.text(), "by the command");
  });

  it("are rejected with a cure when a file is invalid, without revealing a secret", async (context) => {
    const at = await folder(context);
    const { key, cert } = authority();
    for (const [name, text] of Object.entries({
      "short.links": "a.example.com=c2hvcnQ",
      "key.pem": key,
      "cert.pem": cert,
    })) {
      await writeFile(join(at, name), text);
    }
    const file = (name: string) => join(at, name);
    for (const [args, expected] of [
      [
        ["relay", "--port", "0", "--link-secret", file("short.links")],
        /--link-secret has "a\.example\.com", which has a secret.*\[LinkSecretsUnusable\]/,
      ],
      [
        ["edge", "--port", "0", "--dev", "--link-secret", file("short.links")],
        /LINK_SECRETS has "a\.example\.com".*\[InsecureEdge\]/,
      ],
      [
        ["edge", "--port", "0", "--dev", "--link-ways", "tls:443 sstp:2492"],
        /beside TLS.*: write "tls:443" \[InsecureEdge\]/,
      ],
      [["relay", "--port", "0", "--tls-key", file("cert.pem"), "--tls-cert", file("cert.pem")], /\[TlsUnusable\]/],
    ] as const) {
      const { code, stderr } = await runHere(args);
      assert.deepEqual([code, stderr.trim().split("\n").length], [EXIT_CODES.Usage.status, 1], stderr);
      assert.match(stderr, expected);
      assert.equal(stderr.includes("c2hvcnQ"), false);
    }
    for (const args of [["--tls-only"], ["--tls-key", file("key.pem")]]) {
      assert.equal((await runHere(["relay", "--port", "0", ...args])).code, 2);
    }
    assert.equal((await readFile(file("key.pem"), "utf8")).includes("PRIVATE KEY"), true);
  });
});
