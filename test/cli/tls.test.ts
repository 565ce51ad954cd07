/** Keys and certificates that cannot be used are told in one line, which says which file is wrong. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { EXIT_CODES } from "../../src/cli/exit-codes.ts";
import { authority } from "../support/certificates.ts";
import { folder, run, start } from "./support.ts";

test("a key pair that cannot be used: one line for edge and relay alike, which says what to change", async (context) => {
  const dir = await folder(context);
  const file = async (name: string, text: string) => {
    await writeFile(join(dir, name), text);
    return join(dir, name);
  };
  const { ca, key, cert } = authority();
  const encrypted = generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" },
  }).privateKey;
  const good = await file("key.pem", key);
  const own = await file("cert.pem", cert);
  const cases = [
    [own, own, /--tls-key \S+ has no private key that can be used: it has a certificate, which goes to --tls-cert/],
    [good, good, /--tls-cert \S+ has no certificate that can be used: it has a private key/],
    [await file("text", "hello"), own, /--tls-key \S+ has no private key that can be used: give one in PEM/],
    [await file("locked.pem", encrypted), own, /has a passphrase: take it off with openssl pkey/],
    [good, await file("broken.pem", cert.replace(/[A-Z]{2}/, "!!")), /--tls-cert \S+ has no certificate/],
    [good, await file("behind.pem", cert + ca.slice(0, 100) + ca.slice(140)), /--tls-cert \S+ has no certificate/],
    [good, await file("ca.pem", ca), /certificate in --tls-cert \S+ is not that of --tls-key/],
  ] as const;
  for (const command of [
    ["edge", "--dev", "--port", "0"],
    ["relay", "--port", "0", "--tls-port", "0"],
  ]) {
    for (const [keyFile, certFile, expected] of cases) {
      const { code, stderr } = await run(context, [...command, "--tls-key", keyFile, "--tls-cert", certFile]);
      assert.equal(code, EXIT_CODES.Usage.status, stderr);
      assert.match(stderr, expected);
      assert.match(stderr, /\[TlsUnusable\]$/m);
      assert.equal(stderr.trim().split("\n").length, 1, stderr);
    }
  }
  const chain = await file("chain.pem", cert + ca);
  const edge = start(context, ["edge", "--dev", "--port", "0", "--json", "--tls-key", good, "--tls-cert", chain]);
  await edge.line(/"url":"https:/);
  const sent = await run(context, ["send", "--edge", "https://127.0.0.1:1", "--ca", good, "bob", "package.json"]);
  assert.match(sent.stderr, /--ca \S+ has no certificate that can be used: it has a private key.*\[TlsUnusable\]/);
});
