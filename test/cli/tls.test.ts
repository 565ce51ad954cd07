/** Unusable keys and certificates are reported in one line that names the file. */
import assert from "node:assert/strict";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { CommandError } from "../../src/cli/command-error.ts";
import { EXIT_CODES, statusOfError } from "../../src/cli/exit-codes.ts";
import { readAuthorities } from "../../src/cli/tls.ts";
import { authority } from "../support/certificates.ts";
import { folder, runHere, start } from "./support.ts";

test("an unusable key pair gets one line from edge and relay alike, with a cure", async (context) => {
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
    [own, own, /--tls-key \S+ has no usable private key: it has a certificate, which belongs to --tls-cert/],
    [good, good, /--tls-cert \S+ has no usable certificate: it has a private key/],
    [await file("text", "hello"), own, /--tls-key \S+ has no usable private key: give one in PEM/],
    [await file("locked.pem", encrypted), own, /has a passphrase: remove it with openssl pkey/],
    [good, await file("broken.pem", cert.replace(/[A-Z]{2}/, "!!")), /--tls-cert \S+ has no usable certificate/],
    [
      good,
      await file("behind.pem", cert + ca.slice(0, 100) + ca.slice(140)),
      /--tls-cert \S+ has no usable certificate/,
    ],
    [good, await file("ca.pem", ca), /certificate in --tls-cert \S+ does not belong to --tls-key/],
  ] as const;
  for (const command of [
    ["edge", "--dev", "--port", "0"],
    ["relay", "--port", "0", "--tls-port", "0"],
  ]) {
    for (const [keyFile, certFile, expected] of cases) {
      const { code, stderr } = await runHere([...command, "--tls-key", keyFile, "--tls-cert", certFile]);
      assert.equal(code, EXIT_CODES.Usage.status, stderr);
      assert.match(stderr, expected);
      assert.match(stderr, /\[TlsUnusable\]$/m);
      assert.equal(stderr.trim().split("\n").length, 1, stderr);
    }
  }
  const chain = await file("chain.pem", cert + ca);
  const edge = start(context, ["edge", "--dev", "--port", "0", "--json", "--tls-key", good, "--tls-cert", chain]);
  await edge.line(/"url":"https:/);
});

test("every command rejects a --ca file without an authority's certificate by its name", async (context) => {
  const dir = await folder(context);
  const file = async (name: string, text: string | Uint8Array) => {
    await writeFile(join(dir, name), text);
    return join(dir, name);
  };
  const { ca, key, cert } = authority();
  const der = Buffer.from(ca.replace(/-----[A-Z ]+-----|\s/g, ""), "base64");
  const cases = [
    [
      await file("key.pem", key),
      2,
      /--ca \S+key\.pem has no usable certificate: it has a private key; give one in PEM/,
    ],
    [await file("text", "hello"), 2, /--ca \S+text has no usable certificate: give one in PEM/],
    [await file("empty", ""), 2, /--ca \S+empty has no usable certificate: it is empty; /],
    [await file("octets", randomBytes(1000)), 2, /--ca \S+octets has no usable certificate: give one/],
    [await file("broken.pem", ca.replace(/[A-Z]{2}/, "!!")), 2, /--ca \S+broken\.pem has no usable certificate: give/],
    [
      await file("ca.der", der),
      2,
      /--ca \S+ca\.der has no usable certificate: it is in DER \(openssl x509 -inform der/,
    ],
    [
      await file("leaf.pem", cert),
      2,
      /--ca \S+leaf\.pem has no authority's certificate, only that of "127\.0\.0\.1", issued by "test authority": /,
    ],
    [join(dir, "nowhere"), 5, /nowhere/],
    [dir, 5, /EISDIR/],
  ] as const;
  for (const [name, status, expected] of cases) {
    assert.throws(
      () => readAuthorities(name),
      (error: CommandError) => {
        assert.match(error.message, expected);
        assert.deepEqual([error.code, statusOfError(error)], [status === 2 ? "TlsUnusable" : "CannotRead", status]);
        return true;
      },
    );
  }
  assert.equal(readAuthorities(await file("ca.pem", `# ours\n${ca}`)), `# ours\n${ca}`);
  const [[keyFile, , expected]] = cases;
  for (const command of [["mailbox", "ls", "--token", "t"], ["recv"], ["send", "bob", "package.json"]]) {
    const { code, stderr } = await runHere([...command, "--edge", "https://127.0.0.1:1", "--ca", keyFile]);
    assert.deepEqual([code, stderr.trim().split("\n").length], [2, 1], stderr);
    assert.match(stderr, expected);
  }
});
